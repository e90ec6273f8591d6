"""Choose the documents of a corpus: rules, benchmarks, duplicates, samples; on one machine or a Slurm cluster.

    python -m pretraining.corpus.filter --input DIR... --output DIR [--workers N] [--engine slurm] [rules, see --help]

Steps, each a pipeline of datatrove with one task a shard:

1. rules on metadata and text (selection.py), texts that share 12 words in a row with a benchmark; with
   --journal-metric documents of the journals that reach --journal-minimum, or with --journal-control as many drawn at
   random from what the other rules leave;
2. with --duplicates, equal PMIDs, equal texts and near duplicates (duplicates.py);
3. what is left is written, a shard of the output for each of the input.

Until the end all is below OUTPUT.work, with a marker for each finished task: a run that was killed goes on with the
same command, and its result is the same to the byte, whatever the number of workers. Then OUTPUT is made and
OUTPUT.work goes.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from pretraining.corpus import duplicates
from pretraining.corpus.benchmark_files import list_files
from pretraining.corpus.documents import (
    MANIFEST,
    UNFINISHED,
    list_shards,
    read_manifest,
    run_stage,
    source_entry,
    writing_stage,
)
from pretraining.corpus.engine import Engine, end_with_parent, read_counts, run_tasks
from pretraining.corpus.filter_flags import make_parser, read_engine, read_rules
from pretraining.corpus.selection import Rules, Selection
from pretraining.corpus.steps import (
    CountJournals,
    ReadShard,
    RemovedWriter,
    Select,
    SelectJournals,
    WriteShard,
    control_threshold,
    find_contaminated,
    write_ngrams,
    write_whole,
)

FILES = ("allow_pmids", "deny_pmids", "journal_metric", "benchmark")  # rules that name files
NAME = "filter"


@dataclass(frozen=True)
class Plan:
    """What decides the result."""

    inputs: tuple[Path, ...]
    rules: Rules
    duplicates: tuple[str, ...] = ()
    ngrams: bool = True  # whether texts of --benchmark are searched for

    def options(self) -> dict[str, Any]:
        """The flags for the manifest, files by name and hash, so that a moved corpus has the same."""
        options: dict[str, Any] = {}
        for rule in fields(Rules):
            value = getattr(self.rules, rule.name)
            if value in (None, (), False):
                continue
            if rule.name in FILES:
                value = [source_entry(path) for path in list_files([value] if isinstance(value, str) else value)]
            options[rule.name] = list(value) if isinstance(value, tuple) else value
        return options | {"duplicates": list(self.duplicates), "ngrams": self.ngrams}

    def sources(self) -> list[dict]:
        """The manifests of the inputs."""
        return [{**source_entry(p / MANIFEST), "name": f"{p.resolve().name}/{MANIFEST}"} for p in self.inputs]


def filter_corpus(plan: Plan, output: Path, engine: Engine, removed: Path | None = None) -> dict:
    """Write what the plan keeps of its inputs to `output`, and what it leaves out to the file `removed`.

    Returns the manifest. Raises ValueError for wrong input, OSError if tasks could not be run.
    """
    manifests = [read_manifest(path) for path in plan.inputs]
    sentences = {manifest["sentences"] for manifest in manifests}
    if len(sentences) > 1:
        raise ValueError("--input: some folders have one sentence a line and some do not; filter them apart")
    Selection(plan.rules)  # so that a mistake in a file is said now
    shards = [(str(path), number) for number, one in enumerate(plan.inputs) for path in list_shards(one)]
    if not shards:
        raise ValueError(f"--input {plan.inputs[0]} has no documents; nothing to filter")
    _require_replaceable(output)
    options, sources = plan.options(), plan.sources()
    with _work_folder(output, {"options": options, "sources": sources}) as work:
        counts = _run_pipelines(plan, shards, work, engine)
        entries = [json.loads((work / "kept" / f"{rank:05d}.json").read_bytes()) for rank in range(len(shards))]
        if not any(entry["documents"] for entry in entries):
            raise ValueError(f"no document passes ({_in_words(counts)}); ask for less")
        if removed is not None:
            _join_removed(work / "removed", plan, removed)
        with writing_stage(output, NAME, options=options, sentences=sentences.pop(), packages=["datatrove"]) as stage:
            stage.files, stage.sources, stage.counts = entries, sources, counts
            for entry in entries:
                _link(work / "kept" / entry["name"], output / entry["name"])
    return read_manifest(output)


def _run_pipelines(plan: Plan, shards: list[tuple[str, int]], work: Path, engine: Engine) -> Counter:
    """Run all pipelines; what they kept is below work/kept. Returns what was read and dropped."""
    rules, tasks, gone = plan.rules, len(shards), work / "removed"
    if plan.rules.benchmark and plan.ngrams:
        write_ngrams(rules.benchmark, work / "ngrams")

    def select(writing: bool) -> list[PipelineStep]:
        steps: list[PipelineStep] = [
            ReadShard(shards),
            Select(rules, RemovedWriter(gone / "rules") if writing else None),
        ]
        if plan.rules.benchmark and plan.ngrams:
            writer = RemovedWriter(gone / "ngrams", "benchmark_text") if writing else None
            steps.append(find_contaminated(work / "ngrams", writer))
        return steps

    def run(name: str, *pipeline: PipelineStep) -> None:
        run_tasks(list(pipeline), tasks, work / "tasks" / name, engine)

    journals: list[PipelineStep] = []
    if rules.journal_metric:
        control = None
        if rules.journal_control:
            run("journals", *select(False), CountJournals(rules, work / "journals"))
            control = control_threshold(work / "journals", tasks)
        journals = [SelectJournals(rules, control, RemovedWriter(gone / "journals"))]
    run("select", *select(True), *journals, WriteShard(work / "selected"))
    selected = [(str(work / "selected" / f"documents-{rank:05d}.jsonl"), n) for rank, (_, n) in enumerate(shards)]
    for place, kind in enumerate(plan.duplicates):
        duplicates.find(kind, plan.duplicates[:place], selected, work, engine)
    run("write", ReadShard(selected), *duplicates.filters(plan.duplicates, work, gone), WriteShard(work / "kept"))
    return _count(work)


def _count(work: Path) -> Counter:
    """The counts of the manifest from datatrove's statistics."""
    selected, written = read_counts(work / "tasks" / "select"), read_counts(work / "tasks" / "write")
    counts = Counter({"documents_read": selected["READER: documents documents"]})
    for name, number in selected.items():
        what = name.rpartition(" ")[2]
        if what.startswith("dropped_"):
            counts["dropped_benchmark_text" if what == "dropped_contaminated" else what] += number
    for name, number in written.items():
        if name.startswith("duplicate_") and name.endswith(" dropped"):
            counts[f"dropped_{name.partition(' ')[0]}"] += number
    return counts


def _in_words(counts: Counter) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in sorted(counts.items()))


# ---- files ----


def _require_replaceable(output: Path) -> None:
    """Refuse, before hours of work, an output that `writing_stage` would refuse after them."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    marker = next((output / name for name in (MANIFEST, UNFINISHED) if (output / name).is_file()), None)
    if marker is None or json.loads(marker.read_bytes()).get("stage") != NAME:
        raise ValueError(f"--output {output} holds files not made by this stage ({NAME}); name a new folder")


@contextmanager
def _work_folder(output: Path, plan: dict) -> Iterator[Path]:
    """The folder OUTPUT.work of this plan, that of another plan removed; it goes when all went well."""
    work, done = output.with_name(output.name + ".work"), output.with_name(output.name + ".work.done")
    digest = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest().encode()
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output.with_name(f".{output.name}.lock"), "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another run writes --output {output}; wait for its end") from None
        shutil.rmtree(done, ignore_errors=True)
        if work.is_dir() and any(work.iterdir()):
            if not (work / "plan").is_file() and {p.name for p in work.iterdir()} != {"plan.partial"}:
                raise ValueError(f"{work} was not made by this stage; remove it or name another --output")
            if not (work / "plan").is_file() or (work / "plan").read_bytes() != digest:
                work.rename(done)
                shutil.rmtree(done)
        work.mkdir(exist_ok=True)
        write_whole(work / "plan", digest)
        yield work
        work.rename(done)  # at once: half a work folder would be taken for a run that was killed
        shutil.rmtree(done)
        os.unlink(lock.name)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _join_removed(folder: Path, plan: Plan, target: Path) -> None:
    """Write all that was removed to one file, in the order of the rules and of the shards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial_file = target.with_name(target.name + ".partial")
    with open(partial_file, "wb") as whole:
        for name in ("rules", "ngrams", "journals", *plan.duplicates):
            for path in sorted((folder / name).glob("*.jsonl")):
                with open(path, "rb") as part:
                    shutil.copyfileobj(part, whole)
    partial_file.rename(target)


def main() -> None:
    """Run the command line."""
    arguments = make_parser().parse_args()
    os.environ["TQDM_DISABLE"] = "1"  # datatrove's bars would run over each other
    os.register_at_fork(after_in_child=partial(end_with_parent, os.getpid()))  # datatrove's manager process

    def convert() -> dict:
        plan = Plan(
            inputs=tuple(arguments.input),
            rules=read_rules(arguments),
            duplicates=tuple(kind for kind in duplicates.KINDS if kind in arguments.duplicates),
            ngrams=not arguments.no_ngrams,
        )
        return filter_corpus(plan, arguments.output, read_engine(arguments), arguments.removed)

    run_stage(convert, arguments.output)


if __name__ == "__main__":
    main()
