"""Validation counts every sample once and gives the same numbers, however many ranks and micro-batches there are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pretraining import engine as engine_module
from pretraining.ds_config import load_ds_config, merge_ds_config
from pretraining.evaluation import evaluate, validation_batches
from pretraining.metrics import add_sums, summarize
from pretraining.objectives import build_objective
from tests.conftest import REPOSITORY
from tests.tiny import VOCAB_SIZE, make_corpus, open_samples, tiny_config
from tests.training_runs import on_ranks

WEIGHTS = (1.0, 50.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), documents=60)
    open_samples(tiny_config(*corpus, seq_length=32, split="80,20,0"), "validation")
    return corpus


def validation_samples(corpus: tuple[Path, Path]):
    return open_samples(tiny_config(*corpus, seq_length=32, split="80,20,0"), "validation")


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("micro_batch_size", [1, 3, 4, 8, 16, 100])
@pytest.mark.parametrize("batch_size", [2, 17, 24, 10_000])
def test_every_sample_counts_once(
    corpus: tuple[Path, Path], world_size: int, micro_batch_size: int, batch_size: int
) -> None:
    samples = validation_samples(corpus)
    assert 30 < len(samples) < 200
    counted, turns = [], []
    for rank in range(world_size):
        mine = list(validation_batches(samples, batch_size, micro_batch_size, rank, world_size))
        turns.append(len(mine))
        counted += [sample for batch, counts in mine if counts for sample in batch.sample_ids]
        assert all(0 < len(batch.lengths) <= micro_batch_size for batch, _ in mine)
    assert sorted(counted) == [(0, index) for index in range(min(batch_size, len(samples)))]
    assert len(set(turns)) == 1  # or ZeRO-3's ranks would wait for each other for ever


def test_masks_and_noise_are_the_same_every_time_and_in_every_micro_batch(corpus: tuple[Path, Path]) -> None:
    def masks(micro_batch_size: int) -> dict[tuple[int, int], tuple[list, list]]:
        result = {}
        for batch, _ in validation_batches(validation_samples(corpus), 24, micro_batch_size, 0, 1):
            sample_of_mask = np.repeat(np.arange(len(batch.lengths)), batch.lengths)[batch.masked_positions]
            for number, sample in enumerate(batch.sample_ids):
                mine = torch.from_numpy(sample_of_mask == number)
                positions = batch.position_ids[batch.masked_positions[mine]].tolist()
                result[sample] = (positions, batch.replacement_uniforms[mine].tolist())
        return result

    first = masks(4)
    assert len(first) == 24 and all(positions for positions, _ in first.values())
    assert masks(4) == first
    assert masks(7) == first


def evaluate_twice(corpus: tuple[Path, Path], deepspeed_name: str, micro_batch_size: int) -> list[dict[str, float]]:
    """Metrics of 30 validation samples, dropout being configured, twice; and of the same without an engine."""
    config = tiny_config(*corpus, seq_length=32, split="80,20,0", hidden_dropout=0.1, attention_dropout=0.1)
    _, world_size, device = engine_module.start_ranks()
    settings = load_ds_config(REPOSITORY / "ds_configs" / f"{deepspeed_name}.json")
    merged = merge_ds_config(settings, micro_batch_size, 1, world_size, 1.0)
    objective = build_objective(config.model, VOCAB_SIZE, config.run.seed)
    samples = open_samples(config, "validation")
    total: Any = None
    objective.eval()
    with torch.no_grad():
        for batch, _ in validation_batches(samples, 30, 1, 0, 1):
            total = add_sums(total, objective(batch)[1])
    plain = summarize(total, WEIGHTS)
    engine = engine_module.initialize(objective, config.optimizer, merged, device)
    results = [evaluate(engine, samples, 30, micro_batch_size, WEIGHTS) for _ in range(2)]
    assert engine.module.training  # training goes on with dropout
    return [*results, plain]


def test_numbers_do_not_depend_on_ranks_or_micro_batches(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    runs = {
        (world_size, deepspeed_name, micro): on_ranks(
            tmp_path / f"out{number}", world_size, evaluate_twice, corpus, deepspeed_name, micro
        )
        for number, (world_size, deepspeed_name, micro) in enumerate(
            [(1, "zero1_fp32", 8), (2, "zero1_fp32", 4), (2, "zero3_fp32", 7)]
        )
    }
    expected = runs[1, "zero1_fp32", 8][0][2]
    assert {"loss", "generator_loss", "discriminator_loss", "discriminator_auc"} <= set(expected)
    for ranks in runs.values():
        for first, second, _ in ranks:
            assert first == pytest.approx(expected, rel=1e-5, nan_ok=True)
            assert second == pytest.approx(first, rel=0, abs=0, nan_ok=True)
