"""Several corpora as one, each with a weight: a small corpus is up-sampled into a large one, nothing is copied.

    deepspeed launch/pretrain.sh --data-path 0.7 corpus/pubmed 0.3 corpus/clinical

Steps: (1) `parse_data_path` reads weights and prefixes; (2) `slots_of` rounds the weights to shares of a block of
65,536 samples; (3) `blend_positions` says for any position of the run which corpus it draws from and how many samples
of that corpus came before: a permutation of each block, evaluated where it is asked for; (4) `BlendedSamples` draws,
reads and masks as `Samples` does. Each corpus has epochs of its own, in each of which every sample comes once.

The state stays one integer, the number of consumed samples; order, masks and sampling noise stay functions of (seed,
epoch, sample index), where the samples of all corpora are numbered one corpus after the other.
"""

from collections.abc import Callable

import numpy as np

from pretraining.corpus.blend_weights import parse_blend
from pretraining.data import Samples, permute
from pretraining.masking import STREAM_BLEND

SLOTS = 65_536  # samples of a block; in every block the corpora have exactly their shares


def parse_data_path(data_path: str | list[str]) -> tuple[list[str], list[float] | None]:
    """(prefixes, weights) of --data-path: PREFIX, or WEIGHT PREFIX WEIGHT PREFIX ..., or PREFIX PREFIX ...

    As `parse_blend` reads it: weights are None where there are none, and then each corpus counts by its samples.
    """
    return parse_blend(data_path, "--data-path")


def slots_of(weights: list[float]) -> np.ndarray:
    """Samples of each corpus in a block, int64 [corpora], in proportion to the weights; largest remainders round up.

    Raises ValueError where a corpus would get none.
    """
    exact = np.array(weights) / sum(weights) * SLOTS
    slots = np.floor(exact).astype(np.int64)
    slots[np.argsort(slots - exact, kind="stable")[: SLOTS - int(slots.sum())]] += 1
    if slots.min() < 1:
        raise ValueError(f"--data-path: a weight is below 1/{SLOTS} of the sum; leave that corpus out or weigh it more")
    return slots


def blend_positions(positions: np.ndarray, slots: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(corpus, position within that corpus's own order), int64 each, of these positions of the run, int64.

    A block's samples are shuffled among the corpora; taken together the blocks use each corpus's positions 0, 1, 2,
    ... once each.
    """
    blocks, places = np.divmod(positions, SLOTS)
    shuffled = permute(places, SLOTS, seed, blocks, STREAM_BLEND)
    ends = np.cumsum(slots)
    corpora = np.searchsorted(ends, shuffled, side="right")
    return corpora, blocks * slots[corpora] + shuffled - (ends - slots)[corpora]


class BlendedSamples(Samples):
    """The samples of one split of several corpora; epochs and indices are those of `Samples`, indices across all."""

    def __init__(self, parts: list[Samples], weights: list[float] | None):
        one = parts[0]
        super().__init__(None, None, one.special, one.mask_prob, one.one_segment_prob, one.seed)
        self.parts = parts
        self.sizes = np.array([len(part) for part in parts])
        self.firsts = np.cumsum(self.sizes) - self.sizes
        self.slots = slots_of(list(self.sizes) if weights is None else weights)
        for part, first in zip(parts, self.firsts, strict=True):
            part.first_index = int(first)

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def draw(self, consumed_samples: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """(epochs, sample indices), int64 [G] each, of the global batch that begins after `consumed_samples`."""
        corpora, positions = blend_positions(consumed_samples + np.arange(batch_size), self.slots, self.seed)
        epochs, indices = np.divmod(positions, self.sizes[corpora])
        for number, size in enumerate(self.sizes):
            rows = corpora == number
            indices[rows] = permute(indices[rows], int(size), self.seed, epochs[rows])
        return epochs, indices + self.firsts[corpora]

    def first(self, count: int) -> np.ndarray:
        """The first samples of each corpus, together at most `count`, by weight: what validation uses."""
        shares = np.floor(np.cumsum(self.slots) / SLOTS * count + 0.5).astype(np.int64)
        shares = np.minimum(np.diff(shares, prepend=0), self.sizes)
        shares[0] += not shares.any()
        return np.concatenate([first + np.arange(share) for first, share in zip(self.firsts, shares, strict=True)])

    def lengths(self, epochs: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Samples.lengths`."""
        return self._by_corpus(lambda part, rows, local: part.lengths(epochs[rows], local), indices, None)

    def read(
        self, indices: np.ndarray, lengths: np.ndarray, first_lengths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Samples.read`."""
        return self._by_corpus(
            lambda part, rows, local: part.read(local, lengths[rows], first_lengths[rows]), indices, lengths
        )

    def _by_corpus(
        self, compute: Callable, indices: np.ndarray, lengths: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Two int64 arrays put together from each corpus's own, an entry a sample or (with lengths) a word piece."""
        corpora = np.searchsorted(self.firsts, indices, side="right") - 1
        owners = corpora if lengths is None else np.repeat(corpora, lengths)
        results = np.empty(len(owners), np.int64), np.empty(len(owners), np.int64)
        for number in np.unique(corpora):
            rows = np.flatnonzero(corpora == number)
            found = compute(self.parts[number], rows, indices[rows] - self.firsts[number])
            for result, values in zip(results, found, strict=True):
                result[owners == number] = values
        return results
