"""Worker processes for the corpus stages, on one machine; there is no command here.

Steps: `map_in_order(function, jobs, workers=N)` runs each job in one of N processes, shows a progress bar on
a terminal, and yields the results in the order of the jobs, so that nothing depends on the number of workers.
`engine` alone calls it: what else runs in parallel is a task of the engine's.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tqdm import tqdm

WINDOW = 4  # jobs handed out for each worker ahead of the one whose result is waited for
_FUNCTION = "function"
_given: dict[str, Callable] = {}  # in a worker: what it runs, sent once and not with each job


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def map_in_order(
    function: Callable, jobs: list, *, workers: int, description: str, unit: str = "file", done: int = 0
) -> Iterator[Any]:
    """Yield `function(job)` in the order of `jobs`, from a pool of processes if `workers` is above 1.

    `done`: how many jobs an earlier run did already, for the progress bar.
    """
    if workers < 1:
        raise ValueError(f"--workers {workers} is not a number of processes; give 1 or more")
    bar = {"total": done + len(jobs), "initial": done, "desc": description, "unit": unit, "disable": None}
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from tqdm(map(function, jobs), **bar)
        return
    # spawn: a forked child would take over the progress bar's threads and locks
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(function,))
    try:
        yield from tqdm(_in_window(pool, jobs, WINDOW * workers), **bar)
    except BrokenProcessPool:
        raise OSError("a worker process was killed (out of memory?); use fewer --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _in_window(pool: ProcessPoolExecutor, jobs: list, size: int) -> Iterator[Any]:
    """Yield results in order with at most `size` jobs under way, so that results do not pile up in memory."""
    waiting: deque[Future] = deque()
    for job in jobs:
        if len(waiting) == size:
            yield waiting.popleft().result()
        waiting.append(pool.submit(_call, job))
    while waiting:
        yield waiting.popleft().result()


def _start(function: Callable) -> None:
    """In a worker: take the function, and end when the parent is gone, which workers do not do by themselves."""
    _given[_FUNCTION] = function
    parent = multiprocessing.parent_process()

    def wait_and_exit() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_and_exit, daemon=True).start()


def _call(job: Any) -> Any:
    return _given[_FUNCTION](job)
