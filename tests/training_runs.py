"""Runs trainings as a launcher does, N ranks of a process each, but without the seconds that each needs to import.

    run = train(tmp_path / "out", 2, ["--preset", "tiny", ..., "--save", str(tmp_path / "run")])
    assert run.statuses == [0, 0]

    assert on_ranks(two, mean_of_ranks, 10) == [10.5, 10.5]     # a function instead of a training

1. A server process imports torch, DeepSpeed and the trainer once (multiprocessing's `forkserver`). It starts no thread
   and opens no process group, so a fork of it is as good as a fresh process: own signals, groups and exit status.
2. Each rank is such a fork with the rank variables that launchers set, its outputs in files of their own.
3. A hook, a function at the level of a test's module, may change the trainer inside the rank before it starts: to
   record what it does, to delay it, to break it.
"""

import gc
import json
import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.distributed import ENVIRONMENT, _free_port, rank_context
from tests.run_folders import read_rows


class Run:
    """Ranks that run or have run. `statuses` is by rank; -9 is a rank that was killed."""

    def __init__(self, folder: Path, processes: list, port: int):
        self.folder, self.processes, self.port = folder, processes, port

    @property
    def statuses(self) -> list[int | None]:
        return [process.exitcode for process in self.processes]

    def output(self, rank: int = 0) -> str:
        """What a rank has written on standard output."""
        return (self.folder / f"rank{rank}.out").read_text(encoding="utf-8")

    def errors(self, rank: int = 0) -> str:
        """What a rank has written on standard error."""
        return (self.folder / f"rank{rank}.err").read_text(encoding="utf-8")

    def mistake(self) -> str:
        """The one line of a user's mistake: all that the only rank wrote on standard error, with exit status 1."""
        assert self.statuses == [1], self.report()
        lines = self.errors().splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), self.report()
        return lines[0]

    def left_in_memory(self) -> list[str]:
        """Shared memory that the ranks left behind; DeepSpeed's is 66 MiB a rank."""
        return [path.name for path in Path("/dev/shm").glob(f"*_{self.port}_*")]

    def signal(self, number: int, *ranks: int) -> None:
        """Send a signal to these ranks, or to all."""
        for rank in ranks or range(len(self.processes)):
            os.kill(self.processes[rank].pid, number)

    def wait(self, timeout_s: float = 90.0) -> "Run":
        """Wait for all ranks; raises TimeoutError, and ends them, after timeout_s seconds."""
        deadline = time.monotonic() + timeout_s
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        late = [rank for rank, process in enumerate(self.processes) if process.is_alive()]
        if late:
            self.end()
            raise TimeoutError(f"ranks {late} still ran after {timeout_s:g} s\n{self.report()}")
        return self

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()

    def report(self) -> str:
        """Exit statuses and outputs, for a failed assertion."""
        texts = [f"rank {rank}: status {status}" for rank, status in enumerate(self.statuses)]
        for rank in range(len(self.processes)):
            texts += [f"--- rank {rank}", self.output(rank)[-3000:], self.errors(rank)[-3000:]]
        return "\n".join(texts)


def start(folder: Path, world_size: int, function: Callable[..., Any], *arguments: Any) -> Run:
    """Start function(*arguments), both picklable, on every rank; outputs go to a new folder."""
    folder.mkdir(parents=True)
    context = rank_context()
    port = _free_port()
    processes = [
        context.Process(
            target=_run_rank, args=(str(folder), (rank, world_size, port), function, arguments), daemon=True
        )
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    return Run(folder, processes, port)


def flags_of(corpus: tuple[Path, Path], run: Path, **settings: Any) -> list[str]:
    """Command-line flags of a small, quick training; settings are fields of the configuration, None leaves one out."""
    settings = {
        "preset": "tiny",
        "deepspeed_config": "ds_configs/zero1_fp32.json",  # quick on every CPU, which bf16 is not
        "peak_tflops": 1,  # stated: measuring it takes a rank seconds where it is slow
        "data_path": corpus[0],
        "tokenizer": corpus[1],
        "save": run,
        "seq_length": 32,
        "global_batch_size": 8,
        "micro_batch_size": 2,
        "lr_warmup_iters": 3,
        "log_interval": 1,
        "eval_interval": 0,
        "eval_iters": 1,
        "save_interval": 0,
    } | settings
    given = {name.replace("_", "-"): value for name, value in settings.items() if value is not None}
    return [
        part
        for name, value in given.items()
        for part in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]


def start_training(folder: Path, world_size: int, flags: list[str], hook: Callable[[], None] | None = None) -> Run:
    """Start `python -m pretraining.train FLAGS` on every rank, after the hook."""
    return start(folder, world_size, _train, [str(flag) for flag in flags], hook)


def train(
    folder: Path, world_size: int, flags: list[str], hook: Callable[[], None] | None = None, status: int = 0
) -> Run:
    """`start_training` and wait; every rank must end with this exit status and leave nothing in memory."""
    run = start_training(folder, world_size, flags, hook).wait()
    assert run.statuses == [status] * world_size, run.report()
    assert run.left_in_memory() == []
    return run


def on_ranks(folder: Path, world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What function(*arguments) returns on every rank of a gloo process group."""
    run = start(folder, world_size, _call, function, arguments).wait()
    assert run.statuses == [0] * world_size, run.report()
    return [pickle.loads((folder / f"rank{rank}.result").read_bytes()) for rank in range(world_size)]


def _run_rank(folder: str, place: tuple[int, int, int], function: Callable[..., Any], arguments: tuple) -> None:
    """The body of a rank: variables, outputs to files, and the function, whose SystemExit is the exit status."""
    rank, world_size, port = place
    os.environ.update(
        ENVIRONMENT,
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world_size),
        LOCAL_WORLD_SIZE=str(world_size),
        LOCAL_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    for stream, ending in ((sys.stdout, "out"), (sys.stderr, "err")):
        stream.flush()
        file = os.open(Path(folder, f"rank{rank}.{ending}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, stream.fileno())
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # tqdm's lock then leaves no named semaphore when killed
    gc.freeze()  # what the server imported is not looked through again: DeepSpeed collects garbage at every turn
    if function is _call:
        arguments = (*arguments, Path(folder, f"rank{rank}.result"))
    function(*arguments)


def _train(flags: list[str], hook: Callable[[], None] | None) -> None:
    from pretraining import train as trainer

    sys.argv = [trainer.__file__, *flags]
    if hook:
        hook()
    trainer.main()


def _call(function: Callable[..., Any], arguments: tuple, result: Path) -> None:
    from pretraining import engine

    engine.start_ranks()
    result.write_bytes(pickle.dumps(function(*arguments)))
    engine.end_rank(0)


def watch_steps(folder: Path, signals: dict[tuple[int, int], int] | None = None, pause_s: float = 0.0) -> None:
    """A hook: write down the samples of every step, and send this rank the signal of {(rank, steps done): signal}.

    `steps_seen` reads what was written. pause_s lengthens every step.
    """
    from pretraining import engine as engine_module

    original = engine_module.train_step

    def train_step(engine: Any, batches: list, rate: float, seed: int, step: int) -> tuple:
        result = original(engine, batches, rate, seed, step)
        seen = {"step": step + 1, "samples": [b.sample_ids for b in batches], "lengths": [b.lengths for b in batches]}
        with (folder / f"steps{engine.rank}.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\n")
        time.sleep(pause_s)
        number = (signals or {}).get((engine.rank, step + 1))
        if number:
            os.kill(os.getpid(), number)
        return result

    folder.mkdir(parents=True, exist_ok=True)
    engine_module.train_step = train_step


def steps_seen(folder: Path, rank: int) -> list[dict[str, Any]]:
    """What `watch_steps` wrote on a rank, in order."""
    return read_rows(folder / f"steps{rank}.jsonl")
