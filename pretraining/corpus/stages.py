"""How a stage of many tasks runs, and goes on after a kill; there is no command here.

Steps: `with running_stage(...) as run`, inside it `run.tasks(...)` for each pipeline in its order, what it left below
`run.work` put into `run.stage`, and `run.publish(shards)`. `run_stage` is the end of a stage's command.

While a stage runs, its output holds nothing but unfinished.json. The work stands in OUTPUT.work, with a marker for each
task that is complete, so that a run which was killed goes on with the same command and the same code: of the first
pipeline those tasks stay whose input is what it was, and if all did, what came after them. Then the shards get their
second names in the output, the manifest is written, and OUTPUT.work goes. After an error it stays where tasks are left.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
from datatrove.pipeline.base import PipelineStep

from pretraining.corpus.code_digest import digest_of_code
from pretraining.corpus.document_steps import KeepLines, ReadFiles, WriteShard, read_entries, read_sources
from pretraining.corpus.documents import (
    MANIFEST,
    Stage,
    read_manifest,
    require_replaceable,
    shard_name,
    source_entry,
    summary,
    writing_stage,
)
from pretraining.corpus.engine import Engine, read_counts
from pretraining.corpus.writing import open_whole, write_whole

PLAN = "plan.json"
FIRST = "read"  # the pipeline whose tasks are described in the plan


@dataclass
class Run:
    """A stage at work."""

    stage: Stage
    work: Path
    engine: Engine

    def tasks(self, name: str, pipeline: list[PipelineStep], tasks: int, unit: str = "file") -> None:
        """Run one pipeline of so many tasks."""
        run_tasks(pipeline, tasks, self.work / "tasks" / name, self.engine, unit)

    def read(self, reader: ReadFiles, shard_characters: int | None = None) -> None:
        """Run the first pipeline of a reader of raw files: what it read goes to the stage's sources and counts."""
        tasks = len(reader.groups)
        self.tasks(FIRST, [reader, WriteShard(self.work / "read", shard_characters)], tasks)
        self.stage.sources = read_sources(self.work / "read", tasks)
        self.stage.counts = self.counts(FIRST, str(reader))

    def counts(self, name: str, step: str) -> Counter:
        """What a step of a pipeline counted, over all tasks."""
        found = read_counts(self.work / "tasks" / name)
        return Counter({key.removeprefix(f"{step} "): n for key, n in found.items() if key.startswith(f"{step} ")})

    def keep(self, masks: dict[int, numpy.ndarray], tasks: int) -> list[tuple[Path, dict]]:
        """Write the shards of some tasks again with the documents that their mask (bool) says.

        Returns all shards, those too that are as they were.
        """
        folder = self.work / "masks"
        folder.mkdir(exist_ok=True)
        for number, mask in masks.items():
            with open_whole(folder / f"{number:05d}.npy") as file:
                numpy.save(file, mask, allow_pickle=False)
        paths = [folder / f"{number:05d}.npy" for number in masks]
        self.tasks("keep", [KeepLines(paths, self.work / "read", self.work / "kept")], len(paths))
        return self.shards(tasks, lambda number: "kept" if number in masks else "read")

    def shards(self, tasks: int, folder: Callable[[int], str] = lambda _: "read") -> list[tuple[Path, dict]]:
        """The shards that the tasks wrote, in order, with their entries."""
        return [one for number in range(tasks) for one in read_entries(self.work / folder(number), number)]

    def publish(self, shards: Iterable[tuple[Path, dict]]) -> None:
        """Give the shards their names in the output, in this order."""
        for number, (path, entry) in enumerate(shards):
            name = shard_name(number)
            _link(path, self.stage.output / name)
            self.stage.files.append({**entry, "name": name})


def run_tasks(pipeline: list[PipelineStep], tasks: int, folder: Path, engine: Engine, unit: str = "task") -> None:
    """Run one pipeline of so many tasks; see `executors.run_tasks`."""
    from pretraining.corpus import executors  # half a second, for which a mistake in the flags need not wait

    executors.run_tasks(pipeline, tasks, folder, engine, unit)


@contextmanager
def running_stage(
    output: Path | str,
    name: str,
    *,
    engine: Engine,
    tasks: list[Any],
    options: dict,
    sentences: bool,
    packages: tuple[str, ...] = (),
) -> Iterator[Run]:
    """Open `output` for the stage `name`, as `writing_stage` does, and OUTPUT.work to run its tasks in.

    `tasks` describes the input of each task of the first pipeline (`describe_file`), in what JSON can hold.
    """
    plan = {"stage": name, "options": options, "versions": {package: version(package) for package in packages}}
    require_replaceable(Path(output), name)
    # The work folder first: it finds out whether another run writes this output.
    with work_folder(Path(output), plan, tasks, engine) as work:
        with writing_stage(output, name, options=options, sentences=sentences, packages=packages) as stage:
            yield Run(stage, work, engine)


def describe_file(path: Path) -> list:
    """What tells whether a raw file is the one that it was: name, size, time of its last change."""
    state = path.stat()
    return [str(path), state.st_size, state.st_mtime_ns]


def stage_sources(folders: Iterable[Path]) -> list[dict]:
    """The entries of earlier stages' folders for a manifest's "sources", each with its whole manifest."""
    return [
        {**source_entry(folder / MANIFEST), "name": f"{folder.resolve().name}/{MANIFEST}", "manifest": manifest}
        for folder, manifest in [(folder, read_manifest(folder)) for folder in folders]
    ]


@contextmanager
def work_folder(output: Path, plan: dict, tasks: list[Any], engine: Engine) -> Iterator[Path]:
    """The folder OUTPUT.work of this plan, that of another plan removed; it goes when all went well."""
    output = output.absolute()
    work = output.with_name(output.name + ".work")
    output.parent.mkdir(parents=True, exist_ok=True)
    with _lock(output):
        if engine.kind == "slurm":
            from pretraining.corpus import executors

            executors.wait_for_earlier(work)
        _prepare(work, {"plan": _digest(plan), "code": digest_of_code(), "tasks": [_digest(task) for task in tasks]})
        try:
            yield work
        except BaseException as error:
            complete = sum(1 for _ in work.glob("tasks/*/completions/*"))
            if complete == 0 or (isinstance(error, ValueError) and complete >= len(tasks)):
                _remove(work)  # nothing to go on with
            raise
        _remove(work)


@contextmanager
def _lock(output: Path) -> Iterator[None]:
    """Refuse a second run of the same output."""
    path = output.with_name(f".{output.name}.lock")
    with open(path, "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(lock.fileno()), path.stat())  # else the run before just removed it
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            raise ValueError(f"another run writes --output {output}; wait for its end")
        try:
            yield
        finally:
            path.unlink()


def _prepare(work: Path, plan: dict) -> None:
    """Make the work folder, and take out of that of an earlier run what was not made from the same."""
    shutil.rmtree(work.with_name(work.name + ".done"), ignore_errors=True)
    if work.is_dir() and any(work.iterdir()):
        try:
            earlier = json.loads((work / PLAN).read_bytes())
            was, code, tasks = earlier["plan"], earlier.get("code"), earlier["tasks"]
        except FileNotFoundError:
            if any(not path.name.endswith(".partial") for path in work.iterdir()):
                raise ValueError(f"{work} was not made by this stage; remove it or name another --output") from None
            was, code, tasks = None, None, []
        if was != plan["plan"] or len(tasks) != len(plan["tasks"]):
            _remove(work)
        elif code != plan["code"]:  # half a result of each code would be neither's
            print(f"{work}: begun anew, for the code of the corpus stages has changed since", file=sys.stderr)
            _remove(work)
        elif changed := [rank for rank, task in enumerate(plan["tasks"]) if task != tasks[rank]]:
            # Files too, after the marks: not every later task writes one, and an earlier input's would stand for it.
            for folder in [*(work / "tasks").glob("*"), *work.iterdir()]:
                if folder.is_dir() and folder.name not in (FIRST, "tasks"):
                    shutil.rmtree(folder)
            for rank in changed:
                (work / "tasks" / FIRST / "completions" / f"{rank:05d}").unlink(missing_ok=True)
    work.mkdir(exist_ok=True)
    write_whole(work / PLAN, json.dumps(plan).encode())


def _remove(work: Path) -> None:
    done = work.with_name(work.name + ".done")
    work.rename(done)  # at once: half a work folder would be taken for that of a run that was killed
    shutil.rmtree(done)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def run_stage(convert: Callable[[], dict], output: Path) -> None:
    """The end of a stage's command: convert, print what came of it and what was broken; a mistake is one sentence."""
    try:
        manifest = convert()
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for source in manifest["sources"]:
        broken = source.get("broken", [])
        for sentence in [broken] if isinstance(broken, str) else broken:
            print(f"warning: {sentence}", file=sys.stderr)
    print(f"{summary(manifest)}\nwritten to {output}")
