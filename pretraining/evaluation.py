"""Validation on held-out documents with fixed masks: the same samples, masks and sampling noise every time.

Steps: (1) `validation_batches` deals the first samples of the validation split to micro-batches, those to ranks; (2)
`evaluate` runs them without dropout and without gradients and adds up the metrics over all ranks.
"""

from collections.abc import Iterator

import numpy as np
import torch

from pretraining.batch import MaskedBatch
from pretraining.data import Samples
from pretraining.engine import Engine, reduce_sums
from pretraining.metrics import add_sums, summarize

EPOCH = 0  # masks of validation samples are those of epoch 0, for ever


def validation_batches(
    samples: Samples, batch_size: int, micro_batch_size: int, rank: int, world_size: int
) -> Iterator[tuple[MaskedBatch, bool]]:
    """This rank's micro-batches of the validation samples and whether each counts.

    batch_size: most samples to use, the map's first ones (in a blend: each map's, by weight); the last micro-batch is
    smaller where they do not divide.
    All ranks get the same number of micro-batches, as ZeRO-3 needs: where ranks do not divide them, the last is
    computed again and counts once.
    """
    chosen = samples.first(batch_size)
    count = len(chosen)
    micro_batches = -(-count // micro_batch_size)
    for turn in range(-(-micro_batches // world_size)):
        number = turn * world_size + rank
        first = min(number, micro_batches - 1) * micro_batch_size
        indices = chosen[first : first + micro_batch_size]
        epochs = np.full_like(indices, EPOCH)
        yield samples.micro_batches(epochs, indices, len(indices), [0])[0], number < micro_batches


def evaluate(
    engine: Engine,
    samples: Samples,
    batch_size: int,
    micro_batch_size: int,
    loss_weights: tuple[float, float],
) -> dict[str, float]:
    """Metrics (metrics.summarize) over the validation samples, equal on all ranks; every rank must call it."""
    engine.deepspeed.eval()
    total = None
    with torch.no_grad():
        for batch, counts in validation_batches(samples, batch_size, micro_batch_size, engine.rank, engine.world_size):
            _, sums = engine.deepspeed(batch.to(engine.device))
            total = add_sums(total, sums if counts else {name: torch.zeros_like(value) for name, value in sums.items()})
    engine.deepspeed.train()
    return summarize(reduce_sums(total), loss_weights)
