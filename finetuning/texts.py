"""From the files of a text benchmark to its Task, and from a file of predictions to its scores.

Shared by the text, similarity and yes/no benchmarks; run one of those, for example `python -m finetuning.hoc`. A
benchmark's script hands over a `Corpus`: how its files are read, which labels and scores it has. Then

1. read every split, and know the published one by its sizes (finetuning.splits);
2. where there is no dev split, hold out a tenth of train for it;
3. make the Task (finetuning.classification);
4. test predictions are written as `index<TAB>label` (BLUE's form), or as the benchmark's own; `score_file` reads
   the same form again, made by anyone.
"""

import math
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.classification import classification_task
from finetuning.command import Prepared
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Sizes, Variant, recognise
from finetuning.text_files import TextFile, hold_out, numbered_lines
from finetuning.text_inputs import Example, Label
from finetuning.text_labels import Settings, score_labels

Files = dict[str, TextFile]  # by split


@dataclass(frozen=True)
class Corpus:
    """What a benchmark's script says of its files, labels and scores."""

    read: Callable[[Namespace], Files]  # --data and the benchmark's own flags -> splits
    settings: Callable[[Variant, Files], Settings]
    read_predictions: Callable[[Path, list[Example], Settings], list[Label]] | None = None  # None: read_column
    documents: str = ""  # what a number in Example.document is: "pmid:" for PMIDs, "" for nothing to look up
    names: Callable[[Variant, Files], Variant] = lambda variant, files: variant  # another name for a lookalike


def sizes(files: Files) -> Sizes:
    """What each split has of everything that is counted."""
    return {name: tuple(file.counts[name] for file in files.values()) for name in files["test"].counts}


def read_variant(benchmark: Benchmark, options: Namespace, corpus: Corpus) -> tuple[Files, Variant]:
    """The files of --data, checked against the published sizes; with a dev split."""
    files = corpus.read(options)
    variant = recognise(benchmark, sizes(files), options.data, options.nonstandard_split)
    variant = corpus.names(variant, files)
    if "dev" not in files:
        train, dev = hold_out(files["train"])
        files = {"train": train, "dev": dev, "test": files["test"]}
    return files, variant


def split_record(file: TextFile) -> dict[str, Any]:
    """What results.json says of one split."""
    return {"file": file.path.name, "sha256": file.sha256, **file.counts, **file.notes, "inputs": len(file.examples)}


def document_texts(file: TextFile, prefix: str) -> list[tuple[str, str]]:
    """(id, text) of each example, both texts of a pair, for the leak guard; the id is "" where it is no number."""
    ids = [prefix + one.document if prefix and one.document.isdecimal() else "" for one in file.examples]
    texts = ["\n".join(filter(None, (one.text_a, one.text_b))) for one in file.examples]
    return list(zip(ids, texts, strict=True))


def prepare(benchmark: Benchmark, options: Namespace, config: FinetuneConfig, corpus: Corpus) -> Prepared:
    """Read, check and turn into inputs as the flags say."""
    files, variant = read_variant(benchmark, options, corpus)
    settings = corpus.settings(variant, files)
    examples = {split: file.examples for split, file in files.items()}
    return Prepared(
        variant=variant,
        tasks=[classification_task(examples, options.model, config, settings)],
        metric=settings.metric,
        split={split: split_record(file) for split, file in files.items()},
        texts={split: document_texts(file, corpus.documents) for split, file in files.items()},
    )


def score_file(benchmark: Benchmark, options: Namespace, corpus: Corpus) -> dict[str, Any]:
    """Scores of --predictions on --split of --data: the numbers that training prints."""
    files, variant = read_variant(benchmark, options, corpus)
    if options.split not in files:
        raise ValueError(f"--split {options.split}: {options.data} has {', '.join(files)}")
    settings = corpus.settings(variant, files)
    examples = files[options.split].examples
    read = corpus.read_predictions or read_column
    return score_labels(examples, read(options.predictions, examples, settings), settings)


def write_lines(path: Path, lines: list[str]) -> None:
    """Write beside `path` first, then rename."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    temporary.replace(path)


def write_column(examples: list[Example], predicted: list[Label], path: Path, name: str = "label") -> None:
    """A header and `index<TAB>label` for each example: several labels divided by commas, numbers with all digits."""
    rows = []
    for example, label in zip(examples, predicted, strict=True):
        value = ",".join(label) if isinstance(label, tuple) else repr(label) if isinstance(label, float) else label
        rows.append(f"{example.index}\t{value}")
    write_lines(path, [f"index\t{name}", *rows])


def parse_label(text: str, settings: Settings) -> Label:
    """A predicted label as its file has it; ValueError saying what is wrong with it."""
    if settings.kind == "regression":
        number = float(text)  # its ValueError says: could not convert string to float
        if not math.isfinite(number):
            raise ValueError(f"{text!r} is not a finite number")
        return number
    labels = tuple(filter(None, (part.strip() for part in text.split(",")))) if settings.kind == "multi" else (text,)
    for label in labels:
        if label not in settings.labels:
            raise ValueError(f"{label!r} is none of the labels {', '.join(settings.labels)}")
    return labels if settings.kind == "multi" else text


def read_column(path: Path, examples: list[Example], settings: Settings) -> list[Label]:
    """The predicted label of each example from lines `index<TAB>label`, in any order, with or without a header.

    ValueError naming the line of an unknown or repeated index or label, or an example that is not there.
    """
    expected = {example.index for example in examples}
    found: dict[str, Label] = {}
    for number, line in numbered_lines(path):
        index, tab, text = line.rstrip().partition("\t") if settings.kind != "multi" else line.partition("\t")
        if not line.strip() or (number == 1 and index == "index"):
            continue
        if not tab:
            raise ValueError(f"{path} line {number} ({line[:40]!r}) is not `index<TAB>label`: correct it")
        if index not in expected:
            raise ValueError(f"{path} line {number}: {index!r} is not an index of this split")
        if index in found:
            raise ValueError(f"{path} line {number}: {index!r} has a prediction already; keep one")
        try:
            found[index] = parse_label(text.strip(), settings)
        except ValueError as error:
            raise ValueError(f"{path} line {number}: {error}") from None
    absent = [example.index for example in examples if example.index not in found]
    if absent:
        raise ValueError(f"{path} has no prediction for {len(absent)} of {len(examples)} examples (first: {absent[0]})")
    return [found[example.index] for example in examples]
