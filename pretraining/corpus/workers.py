"""Worker processes for the corpus stages, on one machine; there is no command here.

Steps: `map_in_order(function, jobs, workers=N)` runs each job in one of N processes, shows a progress bar on
a terminal, and yields the results in the order of the jobs, so that nothing depends on the number of workers. A worker
that is killed ends it all with an error that names the files of its job. `executors` and the vocabulary, which is one
program, call it.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from tqdm import tqdm

WINDOW = 4  # jobs handed out for each worker ahead of the one whose result is waited for


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def map_in_order(
    function: Callable,
    jobs: list,
    *,
    workers: int,
    description: str,
    unit: str = "file",
    files: Callable[[Any], Any] = lambda job: job,
) -> Iterator[Any]:
    """Yield `function(job)` in the order of `jobs`, from a pool of processes if `workers` is above 1.

    `files`: what to name of the job of a worker that is killed, a path or what holds some.
    """
    if workers < 1:
        raise ValueError(f"--workers {workers} is not a number of processes; give 1 or more")
    bar = {"total": len(jobs), "desc": description, "unit": unit, "disable": None}
    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from tqdm(map(function, jobs), **bar)
        return
    # spawn: a forked child would take over the progress bar's threads and locks
    context = multiprocessing.get_context("spawn")
    begun = _Begun(context.SimpleQueue())
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(function, begun.queue))
    try:
        yield from tqdm(_in_window(pool, jobs, WINDOW * workers, begun), **bar)
    except BrokenProcessPool:
        pool.shutdown()  # from here on every process has its exit code
        names = (
            " or ".join(_name(files(jobs[number])) or str(jobs[number]) for number in begun.by_killed()) or "its start"
        )
        raise OSError(f"a worker process was killed (out of memory?) at work on {names}; use fewer --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def _in_window(pool: ProcessPoolExecutor, jobs: list, size: int, begun: "_Begun") -> Iterator[Any]:
    """Yield results in order with at most `size` jobs under way, so that results do not pile up in memory."""
    waiting: deque[Future] = deque()
    for number, job in enumerate(jobs):
        if len(waiting) == size:
            yield waiting.popleft().result()
        waiting.append(pool.submit(_call, number, job))
        begun.read()
    while waiting:
        yield waiting.popleft().result()


class _Begun:
    """Which job each worker began last, by what the workers write into a queue."""

    def __init__(self, queue: SimpleQueue) -> None:
        self.queue = queue
        self.numbers: dict[int, int] = {}  # of jobs, by process id
        self.processes: dict[int, BaseProcess] = {}

    def read(self) -> None:
        """Take what is in the queue, whose pipe would fill up otherwise."""
        self.processes |= {process.pid: process for process in multiprocessing.active_children()}
        while not self.queue.empty():
            process, number = self.queue.get()
            self.numbers[process] = number

    def by_killed(self) -> list[int]:
        """The jobs of the workers that ended otherwise than the pool ends them; of all if there is no such one."""
        self.read()
        ends = {process: self.processes[process].exitcode for process in self.numbers if process in self.processes}
        killed = [process for process, end in ends.items() if end not in (None, 0, -signal.SIGTERM)]
        return sorted(self.numbers[process] for process in killed or self.numbers)


def _name(job: Any) -> str:
    """The files of a job, which is a path or holds some; nothing if it does not."""
    files = _files(job)
    if not files:
        return ""
    return f"{files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")


def _files(job: Any) -> list[Path]:
    if isinstance(job, Path):
        return [job]
    return [path for part in job for path in _files(part)] if isinstance(job, tuple | list) else []


# ---- in a worker ----


def _call(number: int, job: Any) -> Any:
    _begun.put((os.getpid(), number))
    return _function(job)


def _start(function: Callable, begun: SimpleQueue) -> None:
    """Take the function, which is not sent with each job, and the queue, and end when the parent is gone."""
    global _begun, _function
    _begun, _function = begun, function
    parent = multiprocessing.parent_process()

    def wait_and_exit() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_and_exit, daemon=True).start()
