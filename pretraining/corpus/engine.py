"""Runs pipelines of datatrove, on this machine or as Slurm job arrays; there is no command here.

Steps: `run_tasks(pipeline, tasks, folder, engine)` runs what of the tasks is not yet marked as complete in
`folder`/completions, and returns when all are. A run that was killed is repeated with the same call.

datatrove hands its executor to Slurm tasks as a pickle in `folder`, which only those who may write the output can
write; nothing else is unpickled.
"""

import os
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import orjson
from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from pretraining.corpus.steps import write_whole

ROOT = Path(__file__).resolve().parents[2]
POLL_SECONDS = 2.0
ORPHAN_SECONDS = 0.1


@dataclass(frozen=True)
class Engine:
    """Where tasks run."""

    kind: str = "local"  # or "slurm"
    workers: int = 1  # tasks at a time
    partition: str | None = None  # Slurm's default one if None
    time: str = "20:00:00"  # limit of a task, as sbatch takes it
    memory_gib: int = 4  # of a task
    sbatch: tuple[str, ...] = ()  # further options, NAME=VALUE


class _Slurm(SlurmPipelineExecutor):
    """datatrove's executor without its second job, which only adds up statistics."""

    def launch_merge_stats(self) -> None:
        """Launch nothing."""


def run_tasks(pipeline: list[PipelineStep], tasks: int, folder: Path, engine: Engine) -> None:
    """Run the tasks that are not complete. Raises what a local task raises, OSError if Slurm left some undone."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # de-duplication opens a file a shard
    logger.remove()  # each task has a log of its own in `folder`/logs
    if engine.kind == "local":
        _Local(
            pipeline, tasks=tasks, workers=min(engine.workers, tasks), logging_dir=str(folder), start_method="spawn"
        ).run()
        return
    executor = _Slurm(
        pipeline,
        tasks=tasks,
        workers=engine.workers,
        time=engine.time,
        partition=engine.partition or _default_partition(),
        mem_per_cpu_gb=engine.memory_gib,
        qos="",
        job_name=f"corpus-{folder.name}",
        logging_dir=str(folder),
        env_command=f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}",
        sbatch_args=dict(option.split("=", 1) for option in engine.sbatch),
    )
    job = folder / "job"
    if job.is_file():  # a run that was killed left its array to Slurm
        _wait_for(job.read_text())
    executor.run()
    if executor.job_id != -1:
        write_whole(job, executor.job_id.encode())
        _wait_for(executor.job_id)
    if undone := executor.get_incomplete_ranks():
        raise OSError(
            f"{len(undone):,} of {tasks:,} tasks did not end well; {folder}/slurm_logs and {folder}/logs say why; "
            "run the same command again for those"
        )


class _Local(LocalPipelineExecutor):
    """datatrove's executor, whose tasks end when the process that started them is gone."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1):  # noqa: ANN202
        # local_rank is only used for what is printed on the terminal: from 1 on, nothing
        end_with_parent(self.launcher)
        try:
            return super()._run_for_rank(rank, local_rank + 1, node_rank)
        finally:
            logger.remove()

    def run(self):  # noqa: ANN202
        """Run the tasks; this process is then their parent."""
        self.launcher = os.getpid()
        return super().run()


def end_with_parent(parent: int) -> None:
    """In a child of the process `parent`: end at once when it is gone, or else a second run would meet the first."""
    name = "end with parent"
    if os.getpid() == parent or any(thread.name == name for thread in threading.enumerate()):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name=name, daemon=True).start()


def read_counts(folder: Path) -> Counter:
    """What the steps of complete tasks counted: datatrove's statistics, `STEP NAME` of all tasks together."""
    counts: Counter = Counter()
    for path in sorted((folder / "stats").glob("[0-9]*.json")):
        for step in orjson.loads(path.read_bytes()):
            for name, value in step["stats"].items():
                counts[f"{step['name']} {name}"] += value["total"] if isinstance(value, dict) else value
    return counts


def _default_partition() -> str:
    names = subprocess.run(["sinfo", "-h", "-o", "%P"], capture_output=True, text=True, check=True).stdout.split()
    default = next((name for name in names if name.endswith("*")), None)
    if default is None:
        raise ValueError(f"Slurm has no default partition; give --partition, one of {', '.join(names)}")
    return default.removesuffix("*")


def _wait_for(job: str) -> None:
    while _is_queued(job):
        time.sleep(POLL_SECONDS)


def _is_queued(job: str) -> bool:
    """Whether a job waits or runs; Slurm forgets a job some minutes after its end."""
    found = subprocess.run(["squeue", "-h", "-j", str(job), "-o", "%T"], capture_output=True, text=True)
    if found.returncode != 0 and "Invalid job id" not in found.stderr:
        return True  # the controller does not answer: ask again
    return bool(found.stdout.strip())
