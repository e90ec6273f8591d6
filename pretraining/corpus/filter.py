"""Choose the documents of a corpus: rules, benchmarks, duplicates, samples; on one machine or a Slurm cluster.

    python -m pretraining.corpus.filter --input DIR... --output DIR [--workers N] [--engine slurm] [rules, see --help]

Steps, each a pipeline of datatrove with one task a shard:

1. rules on metadata and text (selection.py), texts that share 12 words in a row with a benchmark; with
   --journal-metric documents of the journals that reach --journal-minimum, or with --journal-control as many drawn at
   random from what the other rules leave;
2. with --duplicates, equal PMIDs, equal texts and near duplicates (duplicates.py);
3. what is left is written, a shard of the output for each of the input.

A run that was killed goes on with the same command (stages.py), and its result is the same to the byte, whatever the
number of workers.
"""

import shutil
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from pretraining.corpus import duplicates
from pretraining.corpus.benchmark_files import list_files
from pretraining.corpus.documents import list_shards, read_manifest, shard_name, source_entry
from pretraining.corpus.engine import Engine, read_counts, read_engine
from pretraining.corpus.filter_flags import make_parser, read_rules
from pretraining.corpus.selection import Rules, Selection
from pretraining.corpus.stages import Run, run_stage, running_stage, stage_sources
from pretraining.corpus.steps import (
    CountJournals,
    ReadInput,
    RemovedWriter,
    Select,
    SelectJournals,
    WriteKept,
    control_threshold,
    find_contaminated,
    write_ngrams,
)
from pretraining.corpus.writing import open_whole

FILES = ("allow_pmids", "deny_pmids", "journal_metric", "benchmark")  # rules that name files


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


def filter_corpus(plan: Plan, output: Path, engine: Engine, removed: Path | None = None) -> dict:
    """Write what the plan keeps of its inputs to `output`, and what it leaves out to the file `removed`.

    Returns the manifest. Raises ValueError for wrong input, OSError if tasks could not be run.
    """
    sources = stage_sources(plan.inputs)
    sentences = {source["manifest"]["sentences"] for source in sources}
    if len(sentences) > 1:
        raise ValueError("--input: some folders have one sentence a line and some do not; filter them apart")
    Selection(plan.rules)  # so that a mistake in a file is said now
    shards = [(str(path), number) for number, one in enumerate(plan.inputs) for path in list_shards(one)]
    if not shards:
        raise ValueError(f"--input {plan.inputs[0]} has no documents; nothing to filter")
    digests = [source["sha256"] for source in sources]
    with running_stage(
        output,
        "filter",
        engine=engine,
        tasks=[[digests, path] for path, _ in shards],
        options=plan.options(),
        sentences=sentences.pop(),
        packages=("datatrove",),
    ) as run:
        run.stage.sources = sources
        run.stage.counts = counts = _run_pipelines(plan, shards, run)
        run.publish(run.shards(len(shards), lambda _: "kept"))
        if not any(entry["documents"] for entry in run.stage.files):
            raise ValueError(f"no document passes ({_in_words(counts)}); ask for less")
        if removed is not None:
            _join_removed(run.work / "removed", plan, removed)
    return read_manifest(output)


def _run_pipelines(plan: Plan, shards: list[tuple[str, int]], stage: Run) -> Counter:
    """Run all pipelines; what they kept is below work/kept. Returns what was read and dropped."""
    rules, tasks, work, gone = plan.rules, len(shards), stage.work, stage.work / "removed"
    digests = [entry["sha256"] for source in stage.stage.sources for entry in source["manifest"]["files"]]
    if plan.rules.benchmark and plan.ngrams:
        write_ngrams(rules.benchmark, work / "ngrams")

    def select(writing: bool) -> list[PipelineStep]:
        steps: list[PipelineStep] = [
            ReadInput(shards, digests),
            Select(rules, RemovedWriter(gone / "rules") if writing else None),
        ]
        if plan.rules.benchmark and plan.ngrams:
            writer = RemovedWriter(gone / "ngrams", "benchmark_text") if writing else None
            steps.append(find_contaminated(work / "ngrams", writer))
        return steps

    def run(name: str, *pipeline: PipelineStep) -> None:
        stage.tasks(name, list(pipeline), tasks, unit="shard")

    journals: list[PipelineStep] = []
    if rules.journal_metric:
        control = None
        if rules.journal_control:
            run("journals", *select(False), CountJournals(rules, work / "journals"))
            control = control_threshold(work / "journals", tasks)
        journals = [SelectJournals(rules, control, RemovedWriter(gone / "journals"))]
    run("select", *select(True), *journals, WriteKept(work / "selected"))
    selected = [(str(work / "selected" / shard_name(rank)), number) for rank, (_, number) in enumerate(shards)]
    for place, kind in enumerate(plan.duplicates):
        duplicates.find(kind, plan.duplicates[:place], selected, stage)
    run("write", ReadInput(selected), *duplicates.filters(plan.duplicates, work, gone), WriteKept(work / "kept"))
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


def _join_removed(folder: Path, plan: Plan, target: Path) -> None:
    """Write all that was removed to one file, in the order of the rules and of the shards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_whole(target) as whole:
        for name in ("rules", "ngrams", "journals", *plan.duplicates):
            for path in sorted((folder / name).glob("*.jsonl")):
                with open(path, "rb") as part:
                    shutil.copyfileobj(part, whole)


def main() -> None:
    """Run the command line."""
    arguments = make_parser().parse_args()

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
