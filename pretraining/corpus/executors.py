"""Runs pipelines of datatrove, on this machine or as Slurm job arrays; there is no command here.

Steps: `run_tasks(pipeline, tasks, folder, engine)` runs what of the tasks is not yet marked as complete in
`folder`/completions, and returns when all are. A run that was killed is repeated with the same call.

datatrove hands its executor to Slurm tasks as a pickle in `folder`, which only those who may write the output can
write; nothing else is unpickled.
"""

import hashlib
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from copy import copy, deepcopy
from pathlib import Path

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger
from tqdm import tqdm

from pretraining.corpus.engine import Engine
from pretraining.corpus.workers import map_in_order
from pretraining.corpus.writing import naming_file

ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 2.0
PATIENCE_SECONDS = 900.0  # with a Slurm controller that is away, as when it is started again
LARGEST_ARRAY = 1000  # Slurm's default limit is 1001; of more tasks each job of the array does several


def run_tasks(pipeline: list[PipelineStep], tasks: int, folder: Path, engine: Engine, unit: str = "task") -> None:
    """Run the tasks that are not complete. `folder` is WORK/tasks/NAME, and stands at the progress bar.

    Raises what the first task that failed raised, OSError if tasks were lost. Each task has a log in `folder`/logs.
    """
    if tasks == 0:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # de-duplication opens a file a shard
    logger.remove()  # datatrove's own, on the terminal
    if engine.kind == "local":
        executor = _Local(pipeline, tasks=tasks, workers=engine.workers, logging_dir=str(folder))
        executor.bar = {"description": describe(folder), "unit": unit}
        executor.run()
    else:
        _run_on_slurm(pipeline, tasks, folder, engine, unit)


def for_one_task(pipeline: list[PipelineStep]) -> list[PipelineStep]:
    """A copy of a pipeline, whose statistics are one task's own.

    Tuples are not copied: nothing writes to them, and of millions of paths, the input of all tasks, each task would
    copy all.
    """
    shared = {id(value): value for step in pipeline for value in vars(step).values() if isinstance(value, tuple)}
    return deepcopy(pipeline, shared)


def describe(folder: Path) -> str:
    """What stands at the progress bar: the output's name and the pipeline's."""
    return f"{folder.parents[1].stem} {folder.name}"


# ---- this machine ----


class _Local(LocalPipelineExecutor):
    """datatrove's executor with a pool that notices when one of its processes is killed, and ends with its parent."""

    bar: dict[str, str]  # what stands at the progress bar

    def run(self) -> None:
        """Run the tasks that are not complete; datatrove's own pool would wait for ever for a process that is gone."""
        ranks = self.get_incomplete_ranks()
        for _ in map_in_order(self.run_rank, ranks, workers=self.workers, files=self.inputs, **self.bar):
            pass

    def inputs(self, rank: int) -> list[Path]:
        """The files that a task reads, as far as its first step says so."""
        first = self.pipeline[0]
        return first.inputs(rank) if hasattr(first, "inputs") else []

    def run_rank(self, rank: int) -> None:
        """Run one task with a pipeline of its own, whose statistics are this task's."""
        executor = copy(self)
        executor.pipeline = for_one_task(self.pipeline)
        logger.disable("datatrove.executor")  # it would print what a task raises, which is for the caller to say
        # datatrove's steps have progress bars of their own, which would run over that of the tasks.
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
            try:
                with naming_file(self.logging_dir.path):
                    executor._run_for_rank(rank, local_rank=1)  # only that of local rank 0 goes to the terminal
            finally:
                logger.remove()


# ---- Slurm ----


class _Slurm(SlurmPipelineExecutor):
    """datatrove's executor, whose tasks leave what they raise in a file, without its job that adds up statistics."""

    def launch_merge_stats(self) -> None:
        """Launch nothing."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1):  # noqa: ANN202
        executor = copy(self)
        executor.pipeline = for_one_task(self.pipeline)  # a job may do several tasks
        try:
            return super(_Slurm, executor)._run_for_rank(rank, local_rank, node_rank)
        except (ValueError, OSError) as error:
            with self.logging_dir.open(f"errors/{rank:05d}", "w") as file:
                file.write(str(error))
            raise


def _run_on_slurm(pipeline: list[PipelineStep], tasks: int, folder: Path, engine: Engine, unit: str) -> None:
    name = job_name(folder.parents[1])
    if any(map(str.isspace, str(folder.resolve()))):
        raise ValueError(f"{folder.parents[1]}: on Slurm the path of the output must not have blanks; name another")
    executor = _Slurm(
        pipeline,
        tasks=tasks,
        workers=engine.workers,
        time=engine.time,
        partition=engine.partition or _default_partition(),
        mem_per_cpu_gb=engine.memory_gib,
        qos="",
        job_name=name,
        logging_dir=str(folder),
        env_command=f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}",
        sbatch_args=dict(option.split("=", 1) for option in engine.sbatch),
        tasks_per_job=math.ceil(tasks / LARGEST_ARRAY),
    )
    shutil.rmtree(folder / "errors", ignore_errors=True)
    try:
        executor.run()
    except subprocess.CalledProcessError as error:
        raise OSError(f"Slurm did not take the job: {' '.join(error.cmd)} ended with {error.returncode}") from None
    with tqdm(total=tasks, desc=describe(folder), unit=unit, disable=None) as bar:
        _wait(name, lambda: bar.update(tasks - len(executor.get_incomplete_ranks()) - bar.n))
    if undone := executor.get_incomplete_ranks():
        for rank in undone:
            if (error := folder / "errors" / f"{rank:05d}").is_file():
                raise ValueError(error.read_text())
        raise OSError(
            f"{len(undone):,} of {tasks:,} tasks did not end well; {folder}/slurm_logs and {folder}/logs say why; "
            "run the same command again for those"
        )


def job_name(work: Path) -> str:
    """The name of the jobs of the stage whose work folder this is, which no other stage's jobs have."""
    return f"corpus-{work.stem}-{hashlib.sha256(str(work.resolve()).encode()).hexdigest()[:10]}"


def wait_for_earlier(work: Path) -> None:
    """Wait for the jobs that a run which was killed left to Slurm: they write to the same folder."""
    if list_jobs(job_name(work)):
        print(f"waiting for the Slurm jobs {job_name(work)} of an earlier run", file=sys.stderr)
        _wait(job_name(work), lambda: None)


def list_jobs(name: str) -> list[str]:
    """The jobs of this name that wait or run. Raises OSError if Slurm does not answer."""
    found = subprocess.run(["squeue", "-h", "--me", f"--name={name}", "-o", "%A"], capture_output=True, text=True)
    if found.returncode != 0:
        raise OSError(f"Slurm does not answer ({found.stderr.strip()}); run the same command again when it does")
    return found.stdout.split()


def _wait(name: str, watch: Callable[[], object]) -> None:
    """Wait for the jobs of this name; a controller that does not answer is asked again for some minutes."""
    answered = time.monotonic()
    while True:
        try:
            if not list_jobs(name):
                return
            answered = time.monotonic()
        except OSError:
            if time.monotonic() - answered > PATIENCE_SECONDS:
                raise
        time.sleep(POLL_SECONDS)
        watch()


def _default_partition() -> str:
    found = subprocess.run(["sinfo", "-h", "-o", "%P"], capture_output=True, text=True)
    if found.returncode != 0:
        raise OSError(f"Slurm does not answer: {found.stderr.strip()}")
    names = found.stdout.split()
    default = next((name for name in names if name.endswith("*")), None)
    if default is None:
        raise ValueError(f"Slurm has no default partition; give --partition, one of {', '.join(names)}")
    return default.removesuffix("*")
