"""Golden losses: 20 steps of the tiny model in float64, one process, no DeepSpeed, against numbers kept in a file.

They change if anything changes in what is computed: samples, order, masks, sampling, networks, losses, groups of
parameters, schedule. A commit that changes them on purpose says why, and makes them anew:

    python -m tests.pretraining.test_golden

Steps: (1) a made-up corpus from a counter-based generator, the same everywhere; (2) the objective in float64,
initialised in float64; (3) ELECTRA's optimizer written out: global clipping, Adam without bias correction, decoupled
decay; (4) the loss, generator loss, discriminator loss and gradient norm of every step, to 1e-9 of each.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from pretraining.config import Config
from pretraining.data import training_steps
from pretraining.masking import hash_bits
from pretraining.objectives import build_objective
from pretraining.optim import learning_rate, parameter_groups
from tests.conftest import REPOSITORY
from tests.tiny import FIRST_WORD, Document, open_samples, tiny_config, write_corpus

GOLDEN = REPOSITORY / "tests" / "golden" / "electra_tiny.txt"
STEPS, BATCH_SIZE, MICRO_BATCH_SIZE, VOCAB_SIZE = 20, 16, 8, 300
TOLERANCE = 1e-9  # relative: sums come out in another order on another processor


def make_documents() -> list[Document]:
    """60 documents of 1 to 8 sentences of 3 to 22 word pieces, rare ones rarer, without numpy's own generators."""
    documents = []
    for number in range(60):
        sentences = 1 + int(hash_bits(5, 100, number)[0] % np.uint64(8))
        lengths = 3 + (hash_bits(5, 101, number, np.arange(sentences)) % np.uint64(20)).astype(int)
        shares = [hash_bits(5, 102, number, place, np.arange(length)) for place, length in enumerate(lengths)]
        words = [(share.astype(float) / 2.0**64) ** 3 * (VOCAB_SIZE - FIRST_WORD) for share in shares]
        documents.append([(FIRST_WORD + sentence.astype(int)).tolist() for sentence in words])
    return documents


class ReferenceAdam:
    """ELECTRA's optimizer, written out: `optimization.py` of the reference code."""

    def __init__(self, module: torch.nn.Module, config: Config):
        self.settings = config.optimizer
        self.groups = parameter_groups(module, self.settings.weight_decay)
        self.moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in module.parameters()}

    @torch.no_grad()
    def step(self, rate: float) -> float:
        """Clip, update and forget the gradients. Returns their global norm before clipping."""
        settings = self.settings
        norm = float(torch.sqrt(sum((p.grad**2).sum() for p in self.moments)))
        scale = min(1.0, settings.clip_grad / norm)
        for group in self.groups:
            for parameter in group["params"]:
                gradient, (first, second) = parameter.grad * scale, self.moments[parameter]
                first.mul_(settings.adam_beta1).add_(gradient, alpha=1 - settings.adam_beta1)
                second.mul_(settings.adam_beta2).add_(gradient**2, alpha=1 - settings.adam_beta2)
                update = first / (second.sqrt() + settings.adam_eps) + group["weight_decay"] * parameter
                parameter.sub_(update, alpha=rate)
                parameter.grad = None
        return norm


def run(folder: Path) -> list[tuple[float, ...]]:
    """(loss, generator loss, discriminator loss, gradient norm) of every step; the losses are means."""
    prefix, tokenizer = write_corpus(folder, make_documents(), VOCAB_SIZE)
    config = tiny_config(
        prefix, tokenizer, split="8,1,1", global_batch_size=BATCH_SIZE, train_iters=40, lr_warmup_iters=5, lr=2e-3
    )
    samples = open_samples(config)
    assert len(samples) < STEPS * BATCH_SIZE  # the run goes on into the second epoch
    torch.set_default_dtype(torch.float64)
    try:
        objective = build_objective(config.model, VOCAB_SIZE, seed=config.run.seed)
    finally:
        torch.set_default_dtype(torch.float32)
    optimizer, rows = ReferenceAdam(objective, config), []
    batches = training_steps(samples, 0, BATCH_SIZE, MICRO_BATCH_SIZE, list(range(BATCH_SIZE // MICRO_BATCH_SIZE)))
    for step in range(STEPS):
        total, generator, discriminator = 0.0, 0.0, 0.0
        for batch in next(batches):
            loss, sums = objective(batch)
            loss.backward()
            total += loss.item()
            generator += sums["generator_loss"].item() / batch.global_masked
            discriminator += sums["discriminator_loss"].item() / batch.global_tokens
        settings = config.optimizer
        norm = optimizer.step(learning_rate(step, settings.lr, settings.lr_warmup_iters, settings.train_iters))
        rows.append((total, generator, discriminator, norm))
    batches.close()
    return rows


def test_twenty_steps_are_the_golden_ones(tmp_path: Path) -> None:
    lines = [line for line in GOLDEN.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    golden = [tuple(float(number) for number in line.split()) for line in lines]
    ours = run(tmp_path)
    assert len(golden) == len(ours) == STEPS
    for step, (row, expected) in enumerate(zip(ours, golden, strict=True)):
        for number, wanted in zip(row, expected, strict=True):
            assert abs(number - wanted) <= TOLERANCE * abs(wanted), f"step {step}: {row}, golden {expected}"


def test_the_golden_run_learns() -> None:
    """Numbers of a broken run would be golden, too."""
    rows = np.loadtxt(GOLDEN)
    assert rows.shape == (STEPS, 4) and np.isfinite(rows).all()
    assert np.allclose(rows[:, 0], rows[:, 1] + 50 * rows[:, 2], rtol=1e-12)
    assert rows[-5:, 0].mean() < rows[:5, 0].mean() - 5 and rows[-5:, 1].mean() < rows[:5, 1].mean()
    assert (rows[:, 3] > 1).any()  # clipping was active


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        table = run(Path(temporary))
    text = "".join(" ".join(repr(number) for number in row) + "\n" for row in table)
    header = "# loss, generator loss, discriminator loss, gradient norm of steps 0 to 19: see test_golden.py\n"
    GOLDEN.write_text(header + text, encoding="utf-8")
