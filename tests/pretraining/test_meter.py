"""The meter: its numbers by hand, the peak, and the balance of word pieces over 64 simulated ranks."""

import numpy as np
import pytest
import torch

from pretraining.batch import MaskedBatch
from pretraining.data import deal, rank_share
from pretraining.meter import Meter, imbalance, measure_peak_flops, warm_seconds
from pretraining.plan_time import training_flops_per_token
from tests.tiny import VOCAB_SIZE, tiny_config

LENGTH = 64


def batch_of(*lengths: int) -> MaskedBatch:
    """A micro-batch of which the meter reads the lengths alone."""
    fields = dict.fromkeys(MaskedBatch._fields)
    return MaskedBatch(**fields | {"lengths": lengths})


def summed(meters: list[Meter]) -> dict[str, torch.Tensor]:
    """What the all-reduce over ranks gives."""
    parts = [meter.sums(torch.device("cpu")) for meter in meters]
    return {name: sum(part[name] for part in parts) for name in parts[0]}


def test_numbers_of_two_ranks_by_hand() -> None:
    config = tiny_config(seq_length=LENGTH, train_iters=10)
    meters = [Meter(config, VOCAB_SIZE, (rank, 2), peak_flops=1e9) for rank in (0, 1)]
    steps = [([10, 20], [30, 60]), ([64, 64], [64, 64])]
    for step in steps:
        for meter, lengths in zip(meters, step, strict=True):
            meter.add([batch_of(length) for length in lengths])
    numbers = meters[0].numbers(summed(meters), seconds=4.0, seconds_waited=0.5, step=2)
    lengths = [length for step in steps for rank in step for length in rank]
    flops = sum(n * training_flops_per_token(config, VOCAB_SIZE, n) for n in lengths)
    tokens = sum(lengths)
    assert numbers == pytest.approx(
        {
            "tokens_per_second": tokens / 4,
            "samples_per_second": 2.0,
            "pad_share_avoided": 1 - tokens / (8 * LENGTH),
            "data_wait_share": 0.125,
            "rank_imbalance": ((90 / 60 - 1) + 0) / 2,
            "model_tflops": flops / 4 / 1e12,
            "mfu": flops / 4 / 1e9,
            "seconds_left": 8 * (tokens / 2) / (tokens / 4),
        }
    )


def test_time_left_goes_by_word_pieces_of_all_steps_and_the_pace_of_the_last_line() -> None:
    config = tiny_config(seq_length=LENGTH, train_iters=10)
    meter = Meter(config, VOCAB_SIZE, (0, 1), peak_flops=None)
    meter.add([batch_of(10)])
    first = meter.numbers(summed([meter]), 1.0, 0.0, 1)
    assert first["seconds_left"] == pytest.approx(9.0) and "mfu" not in first
    meter.add([batch_of(30)])  # three times as much in a step; 20 on average
    assert meter.numbers(summed([meter]), 1.0, 0.0, 2)["seconds_left"] == pytest.approx(8 * 20 / 30)


def test_equal_ranks_lose_nothing() -> None:
    assert imbalance(torch.full((4, 3), 7.0, dtype=torch.float64)) == 0


@pytest.mark.parametrize("micro_batch_size, accumulation", [(4, 1), (16, 1), (2, 4)])
def test_the_slowest_of_64_ranks_has_less_than_5_percent_more(micro_batch_size: int, accumulation: int) -> None:
    """Lengths as PubMed abstracts at length 512: mean 254, 231 in the middle, few full ones."""
    random, ranks = np.random.default_rng(0), 64
    rank_tokens = np.zeros((ranks, 20))
    for step in range(20):
        drawn = random.lognormal(5.45, 0.38, ranks * micro_batch_size * accumulation)
        lengths = np.clip(drawn, 30, 512).astype(np.int64)
        dealt = lengths[deal(lengths, micro_batch_size)]
        for rank in range(ranks):
            rank_tokens[rank, step] = dealt[rank_share(rank, ranks, accumulation)].sum()
    unsorted = random.lognormal(5.45, 0.38, (ranks, micro_batch_size * accumulation)).sum(1)
    assert imbalance(torch.from_numpy(rank_tokens)) < 0.05 < unsorted.max() / unsorted.mean() - 1


def test_the_peak_is_that_of_matrix_products() -> None:
    assert 1e8 < measure_peak_flops(torch.device("cpu"), torch.float32) < 1e14
    ticks = iter(range(100))
    rate = measure_peak_flops(torch.device("cpu"), torch.float32, clock=lambda: next(ticks))
    assert rate == 2 * 1024**3  # one tick a product


def test_the_peak_of_a_gpu_is_not_that_of_loading_its_library() -> None:
    """A first product that takes a second, as where nothing was multiplied before, would make the MFU 700 times its
    own; a CPU as slow is slow."""
    for device_type, expected in (("cuda", 0.0015), ("cpu", 1.0)):
        seconds = iter([1.0, 0.0014, 0.0015, 0.0016])
        assert warm_seconds(lambda: next(seconds), device_type, repeats=3) == expected  # noqa: B023
