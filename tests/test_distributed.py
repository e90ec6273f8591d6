"""The helper that runs a function on several ranks: results by rank, first error, lost ranks, time limit."""

import os
import signal
import time

import pytest
import torch
import torch.distributed as dist

from tests.distributed import run_distributed


def sum_over_ranks(offset: int) -> tuple[int, torch.Tensor, str, int]:
    rank = dist.get_rank()
    total = torch.tensor([rank + offset])
    dist.all_reduce(total)
    return rank, total, os.environ["LOCAL_RANK"] + "/" + os.environ["WORLD_SIZE"], torch.get_num_threads()


def fail_on_rank_one() -> None:
    if dist.get_rank() == 1:
        raise KeyError("the real reason")
    dist.barrier()  # fails as well, later, because rank 1 is gone


def die_on_rank_one() -> None:
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def sleep_on_rank_one() -> None:
    if dist.get_rank() == 1:
        time.sleep(60)


def test_results_come_back_by_rank() -> None:
    results = run_distributed(sum_over_ranks, 2, 10)
    assert results == [(0, torch.tensor([21]), "0/2", 1), (1, torch.tensor([21]), "1/2", 1)]


def test_first_error_wins_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="(?s)rank 1 of 2.*in fail_on_rank_one.*the real reason"):
        run_distributed(fail_on_rank_one, 2)


def test_a_killed_rank_ends_the_others() -> None:
    start_s = time.monotonic()
    with pytest.raises(RuntimeError, match="rank 1 of 2.*\n.*exit code -9"):
        run_distributed(die_on_rank_one, 2)
    assert time.monotonic() - start_s < 40


def test_time_limit_names_the_ranks_that_hang() -> None:
    # On a busy machine rank 0 may not even have started by then.
    with pytest.raises(TimeoutError, match=r"ranks \[(0, )?1\] after 3 s"):
        run_distributed(sleep_on_rank_one, 2, timeout_s=3)
