"""Runs a function on N gloo ranks, each a process of its own, and brings back what each returned.

    from tests.distributed import run_distributed

    def mean_of_ranks(offset):                 # at module level: the ranks find it by its module's name
        value = torch.tensor(float(dist.get_rank() + offset))
        dist.all_reduce(value)
        return value.item() / dist.get_world_size()

    assert run_distributed(mean_of_ranks, 2, 10) == [10.5, 10.5]

1. Forks the ranks from a server that has the imports of PRELOADED done, which take every rank seconds (and never from
   this process: torch's threads do not survive a fork), with one thread each and the rank variables that launchers
   set: RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT.
2. Joins them to a gloo process group, calls the function, and leaves the group.
3. The first error in time wins: its traceback is raised here, and the other ranks, whose own errors would
   only say that a neighbour went away, are ended. So is everything when the time is over.
"""

import contextlib
import multiprocessing
import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from typing import Any

PRELOADED = [
    "pytest",
    "pretraining.train",
    "pretraining.export",
    "deepspeed.runtime.zero.muon.muon_optimizer",  # imported late, by deepspeed.initialize; takes seconds
    "torch.utils.tensorboard",
    "transformers.models.electra.modeling_electra",
]
# Of each rank, and of the server that the ranks are forked from.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "DS_ACCELERATOR": "cpu",
    "CUDA_VISIBLE_DEVICES": "",
    "DEEPSPEED_LOG_LEVEL": "error",
}
# After the first failure, how long the other ranks may take to report one that happened earlier.
GRACE_S = 0.5


def run_distributed(
    function: Callable[..., Any], world_size: int, *arguments: Any, timeout_s: float = 120.0
) -> list[Any]:
    """Calls function(*arguments) on every rank and returns the results by rank.

    Function, arguments and results must be picklable. Raises RuntimeError with the traceback of the rank that
    failed first, or TimeoutError after timeout_s seconds.
    """
    context = rank_context()
    port = _free_port()
    receivers, processes = [], []
    try:
        for rank in range(world_size):
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_run_rank,
                args=(sender, function, arguments, (rank, world_size, port), timeout_s),
                daemon=False,  # so that a rank may start processes of its own (data loader workers)
            )
            process.start()
            sender.close()  # ours; the rank holds the other one, so its death is an end of file here
            receivers.append(receiver)
            processes.append(process)
        return _collect(receivers, processes, function.__name__, timeout_s)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()
        for receiver in receivers:
            receiver.close()


def rank_context() -> ForkServerContext:
    """What ranks are started from; this process's variables of ENVIRONMENT stay as they are."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with _environment(ENVIRONMENT):
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def _environment(values: dict[str, str]):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run_rank(
    sender: Connection,
    function: Callable[..., Any],
    arguments: tuple,
    place: tuple[int, int, int],
    timeout_s: float,
) -> None:
    """The body of one rank: sends (time, True, result) or (time, False, traceback)."""
    rank, world_size, port = place
    os.environ.update(
        ENVIRONMENT,
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", timeout=timedelta(seconds=timeout_s))
        # pickle, not the pipe's own pickler: torch teaches the latter to pass tensors as shared memory, which
        # is gone when this process has ended.
        message = pickle.dumps((time.monotonic(), True, function(*arguments)))
    except BaseException:
        message = pickle.dumps((time.monotonic(), False, traceback.format_exc()))
    sender.send_bytes(message)
    sender.close()
    if dist.is_initialized():
        dist.destroy_process_group()


def _collect(receivers: list[Connection], processes: list, name: str, timeout_s: float) -> list[Any]:
    """Waits for a result of every rank; raises at the first failure."""
    results: dict[int, Any] = {}
    failures: list[tuple[float, int, str]] = []
    waiting = dict(enumerate(receivers))
    deadline = time.monotonic() + timeout_s
    while waiting:
        ready = wait(list(waiting.values()), timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        for rank in [rank for rank, receiver in waiting.items() if receiver in ready]:
            try:
                moment, success, value = pickle.loads(waiting.pop(rank).recv_bytes())
            except EOFError:
                processes[rank].join()
                moment, success = time.monotonic(), False
                value = f"the process ended without a word, exit code {processes[rank].exitcode}"
            if success:
                results[rank] = value
            else:
                failures.append((moment, rank, value))
                deadline = min(deadline, time.monotonic() + GRACE_S)
    if failures:
        _, rank, report = min(failures)
        raise RuntimeError(f"{name} failed on rank {rank} of {len(processes)}:\n{report}")
    if waiting:
        raise TimeoutError(f"{name}: no result of ranks {sorted(waiting)} after {timeout_s:g} s")
    return [results[rank] for rank in range(len(processes))]
