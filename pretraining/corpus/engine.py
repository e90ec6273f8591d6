"""Where the tasks of a stage run, and the part of its command line that stages share; there is no command here.

`executors` runs the tasks. This file is apart from it because datatrove's executors take half a second to import, for
which a mistake in the flags need not wait.
"""

import argparse
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import orjson

from pretraining.corpus.workers import usable_cores


@dataclass(frozen=True)
class Engine:
    """Where tasks run."""

    kind: str = "local"  # or "slurm"
    workers: int = 1  # tasks at a time
    partition: str | None = None  # Slurm's default one if None
    time: str = "20:00:00"  # limit of a job, as sbatch takes it
    memory_gib: int = 4  # of a job
    sbatch: tuple[str, ...] = ()  # further options, NAME=VALUE

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError(f"--workers {self.workers} is not a number of processes; give 1 or more")
        for option in self.sbatch:
            if "=" not in option:
                raise ValueError(f"--sbatch {option} is not NAME=VALUE; write it as account=lab")
        if self.kind == "slurm" and shutil.which("sbatch") is None:
            raise ValueError("--engine slurm: this machine has no sbatch; run it where jobs are submitted")


LOCAL = Engine()


def add_output_flag(parser: argparse.ArgumentParser) -> None:
    """Add the --output of a stage that `stages.running_stage` runs."""
    parser.add_argument("--output", type=Path, required=True, metavar="DIR",
        help="the folder to write, an earlier result is replaced; DIR.work is used on the way")  # fmt: skip


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `read_engine` reads."""
    add = parser.add_argument_group("engine").add_argument
    add("--workers", type=int, default=usable_cores(), metavar="N",
        help="Tasks at a time, a file or shard each; not part of the result (default: the cores).")  # fmt: skip
    add("--engine", choices=("local", "slurm"), default="local", help="Where tasks run (default: here).")
    add("--partition", metavar="NAME", help="Slurm's partition (default: Slurm's default).")
    add("--time", default=Engine.time, metavar="LIMIT", help="Slurm's limit for a job (default: %(default)s).")
    add("--memory-gib", type=int, default=Engine.memory_gib, metavar="N", help="Memory of a Slurm job (%(default)s).")
    add("--sbatch", nargs="+", default=(), metavar="NAME=VALUE", help="More of sbatch's options, as account=lab.")


def read_engine(arguments: argparse.Namespace) -> Engine:
    """The engine that the flags say. Raises ValueError for flags that say none."""
    return Engine(
        arguments.engine,
        arguments.workers,
        arguments.partition,
        arguments.time,
        arguments.memory_gib,
        tuple(arguments.sbatch),
    )


def read_counts(folder: Path) -> Counter:
    """What the steps of complete tasks counted: datatrove's statistics, `STEP NAME` of all tasks together."""
    counts: Counter = Counter()
    for path in sorted((folder / "stats").glob("[0-9]*.json")):
        for step in orjson.loads(path.read_bytes()):
            for name, value in step["stats"].items():
                counts[f"{step['name']} {name}"] += value["total"] if isinstance(value, dict) else value
    return counts
