"""Relation extraction: which class of relation, if any, holds between two marked mentions of a sentence.

Shared by the relation benchmarks; run one of those, for example `python -m finetuning.chemprot`. A benchmark's `read`
gives a `Distribution`; then

1. each sentence is written in one of three ways (`--input`):
   "anonymised": the mentions are replaced by @CHEMICAL$, @GENE$ ..., both by one @CHEM-GENE$ where they overlap, as
   BLUE and BLURB do; "marker": [E1] naloxone [/E1] ... [E2] ... [/E2] ([E1-E2] around both where they overlap);
   "raw": as it is (in BLURB's paper ChemProt has 50.5 so and 77.2 anonymised, DDI 37.0 and 82.4). Ready-made files have
   placeholders already: markers then go around those;
2. placeholders and markers are tokens of their own, added to the tokenizer, so that cased and uncased vocabularies do
   not cut them differently; each begins as the mean of the word pieces that it would have been. What it would have
   been is said. `--split-placeholders` leaves them to the vocabulary, as BLURB's own code does;
3. the head sees the [CLS] vector ("cls"), or beside it the vectors of the two arguments: of their start markers or
   placeholders ("marker"), or the mean over the mentions ("mention");
4. softmax over the classes; the score is micro-F1 over the classes that are relations (finetuning.text_scores).
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

from finetuning import classification, encoder
from finetuning.classification import Settings, argument_spans, classification_task
from finetuning.command import Prepared
from finetuning.config import FinetuneConfig
from finetuning.ranks import say
from finetuning.relation_files import Marks, Relation, RelationFile, locate, wanted_splits
from finetuning.relation_inputs import HEADS, INPUTS, Distribution, Reader, as_one, make_examples, render, together
from finetuning.relation_predictions import (
    biocreative_lines,
    in_order,
    read_predictions,
    semeval_lines,
    table_lines,
)
from finetuning.result_files import read_json
from finetuning.splits import SPLITS, Benchmark, check_split, recognise
from finetuning.text_inputs import Example
from finetuning.text_scores import MICRO_F1, counts_scores, positive_f1_scores
from finetuning.texts import write_lines


def read_examples(
    options: Namespace, read: Reader
) -> tuple[Distribution, str, list[dict[str, list[Example]]]]:  # fmt: skip
    """The files, the style that --input means for them, and the examples of each fold and split."""
    data = read(options, wanted_splits(getattr(options, "train_split", None)))
    style = options.input or data.input
    folds = []
    for files in data.folds:
        fold = {split: make_examples(file, data, style, options.head) for split, file in files.items()}
        kept = [example for example in fold["train"] if example.label not in data.unlearnable]
        if len(kept) < len(fold["train"]):
            count = len(fold["train"]) - len(kept)
            say(f"train: {count} pair(s) left out of training ({', '.join(data.unlearnable)})")
        folds.append({**fold, "train": kept})
    return data, style, folds


def tokens_in_use(data: Distribution, style: str) -> tuple[str, ...]:
    """What is to be one token each: the placeholders or markers that the texts have."""
    placeholders = data.marks.names() if style != "raw" and data.folds[0]["train"].form == "anonymised" else ()
    if style == "anonymised":
        return data.marks.names()
    return placeholders + (data.markers if style == "marker" else ())


def report_tokens(tokens: tuple[str, ...], model: str, whole: bool) -> None:
    """Say how the vocabulary of `model` cuts the placeholders and markers."""
    tokenizer = encoder.load_tokenizer(model, encoder.load_config(model))
    pieces = {token: tokenizer.tokenize(token) for token in tokens}
    cut = ", ".join(f"{token} ({' '.join(parts)})" for token, parts in pieces.items() if len(parts) > 1)
    if cut:
        say(f"{'kept whole, not cut by the vocabulary' if whole else 'cut by the vocabulary'}: {cut}")


def prediction_writer(data: Distribution) -> Callable[[list[Example], list[Any], Path], None]:
    """The function that writes predictions in the distribution's format."""
    makers = {
        "table": table_lines,
        "semeval": partial(semeval_lines, negative=data.negative),
        "biocreative": partial(biocreative_lines, negative=data.negative),
    }
    return lambda examples, predicted, path: write_lines(path, makers[data.predictions](examples, predicted))


def relation_scores(gold: list[Any], predicted: list[Any], classes: list[str], metric: str) -> dict[str, Any]:
    """Micro-F1 over `classes`, those that are relations, under the name `metric`; precision, recall and each class."""
    scores = positive_f1_scores(gold, predicted, classes)
    return {metric: scores.pop(MICRO_F1), **scores}


def settings_of(benchmark: Benchmark, options: Namespace, data: Distribution, style: str) -> Settings:
    """What finetuning.classification must know."""
    classes = data.classes()
    positive = [name for name in classes if name != data.negative]
    return Settings(
        kind="single",
        metric=data.metric,
        score=partial(relation_scores, classes=positive, metric=data.metric),
        write=prediction_writer(data),
        labels=tuple(classes),
        head="cls" if options.head == "cls" else "markers",
        added_tokens=() if options.split_placeholders else tokens_in_use(data, style),
        benchmark=benchmark.name,
        record={
            "family": "relations",
            "input": style,
            "relation_head": options.head,
            "placeholders": [data.marks.first, data.marks.second, data.marks.both],
            "markers": list(data.markers),
        },
    )


def split_record(files: list[RelationFile]) -> dict[str, Any]:
    """What results.json says of one split: of its file, or of those of all folds together."""
    labels: dict[str, int] = {}
    counts: dict[str, int] = {}
    for file in files:
        for name, number in file.label_counts().items():
            labels[name] = labels.get(name, 0) + number
        for name, number in file.counts.items():
            counts[name] = counts.get(name, 0) + number
    checksums = [file.sha256 for file in files]
    return {
        "file": files[0].path.name,
        "sha256": checksums[0] if len(files) == 1 else sha256(" ".join(checksums).encode()).hexdigest(),
        "examples": sum(len(file.relations) for file in files),
        **({"folds": len(files)} if len(files) > 1 else {}),
        "labels": labels,
        **counts,
    }


def add_flags(parser: ArgumentParser) -> None:
    """The flags that only relation benchmarks have."""
    group = parser.add_argument_group("relations")
    group.add_argument(
        "--input",
        choices=INPUTS,
        help="How the two mentions are shown (default: as the files have it; anonymised, if they are the originals).",
    )
    group.add_argument(
        "--head",
        choices=HEADS,
        default="cls",
        help="What the classifier sees: [CLS] alone, or with it the start markers or placeholders of the two "
        "arguments, or the mean over their mentions (default: cls).",
    )
    group.add_argument(
        "--split-placeholders",
        action="store_true",
        help="Let the vocabulary cut placeholders and markers, as BLURB's own code does.",
    )


def check_positive(data: Distribution) -> None:
    """ValueError if there is a file without a relation (other than unlearnable ones) to learn or to score."""
    for files in data.folds:
        for file in files.values():
            if not {one.label for one in file.relations} - {data.negative, *data.unlearnable}:
                raise ValueError(f"{file.path} has no example of a relation: there is nothing to learn or to score")


def pmid_of(relation: Relation) -> str:
    """The document id where it is a PMID, which a pretraining corpus can be searched for; else ""."""
    return relation.document if relation.document.startswith("pmid:") else ""


def prepare(benchmark: Benchmark, options: Namespace, config: FinetuneConfig, read: Reader) -> Prepared:
    """Read, check and turn into inputs as the flags say; `read` is the benchmark's own."""
    data, style, folds = read_examples(options, read)
    variant = recognise(benchmark, data.found, options.data, options.nonstandard_split, data.name)
    check_positive(data)
    settings = settings_of(benchmark, options, data, style)
    report_tokens(tokens_in_use(data, style), options.model, whole=not options.split_placeholders)
    # All sentences of a data set in folds are in any one fold; with all of them, each would be its own duplicate.
    first = data.folds[0]
    split = {name: split_record([files[name] for files in data.folds if name in files]) for name in first}
    # How the texts are shown is part of what is run: results with another head or input are no part of it.
    split["train"] |= {"input": style, "head": options.head, "placeholders split": options.split_placeholders}
    return Prepared(
        variant=variant,
        tasks=[classification_task(examples, options.model, config, settings) for examples in folds],
        metric=data.metric,
        split=split,
        texts={
            split: list(dict.fromkeys((pmid_of(one), one.text) for one in file.relations))
            for split, file in first.items()
        },
    )


def official_scores(gold: frozenset[tuple[str, str]], predicted: set[tuple[str, str]]) -> dict[str, Any]:
    """BioCreative's own measure: all gold relations count, those across sentences too."""
    return {**counts_scores(len(gold & predicted), len(predicted), len(gold)), "relations": len(gold)}


def score_fold(relations: list[Relation], data: Distribution, options: Namespace, found: tuple) -> dict[str, Any]:
    """Scores of the predictions `found` (format, labels by index) on the pairs of one test file."""
    kind, predictions = found
    negative = data.negative or ""
    labels, others = in_order(relations, kind, predictions, negative, options.predictions)
    gold = [one.label for one in relations]
    positive = [name for name in dict.fromkeys([*data.classes(), *gold]) if name != data.negative]
    scores = relation_scores(gold, labels, positive, data.metric)
    if kind == "biocreative" and data.gold is not None:
        ours = {(index, label) for index, part in predictions.items() for label in part if label != negative}
        scores["all gold relations (BioCreative)"] = official_scores(data.gold, ours)
        scores["predictions for no pair of the file"] = others
    return scores


def score_file(benchmark: Benchmark, options: Namespace, read: Reader) -> dict[str, Any]:
    """Scores of --predictions on --split of --data, as training gives them; of folds, the mean over those that the
    file has predictions for.
    """
    if options.split not in SPLITS:
        raise ValueError(f"--split {options.split}: expected {', '.join(SPLITS)}")
    data = read(options, {"train": options.split})  # only this split has to be there
    kind, predictions = read_predictions(options.predictions, data.spellings, data.negative or "")
    if not predictions and data.predictions != "biocreative":  # whose files name what is predicted, be it nothing
        raise ValueError(f"{options.predictions} has no prediction in it: each pair of the file needs one")
    if len(data.folds) == 1:
        gold = data.folds[0]["train"].relations
        positive = sum(one.label != data.negative for one in gold)
        found = {"pairs": len(gold), "positive pairs": positive, "sentences": len(gold)}
        check_split(benchmark, options.split, found, options.data, options.nonstandard_split)
        return score_fold(gold, data, options, (kind, predictions))
    if options.split == "test":
        found = {name: sum(numbers) for name, numbers in data.found.items()}
        check_split(benchmark, options.split, found, options.data, options.nonstandard_split)
    if not all(options.split in files for files in data.folds):
        raise ValueError(f"--split {options.split}: the folds of {options.data} have no such split to score")
    scores = {}
    for number, files in enumerate(data.folds, start=1):
        part = {index: labels for index, labels in predictions.items() if index.startswith(f"{number}.")}
        if part:
            scores[str(number)] = score_fold(files[options.split].relations, data, options, (kind, part))
    known = {index for number in scores for index in predictions if index.startswith(f"{number}.")}
    if not scores or known != set(predictions):
        strange = next(iter(set(predictions) - known), "")
        raise ValueError(f"{options.predictions} has the index {strange!r}: expected <fold>.<row>, such as 1.0")
    return {data.metric: fmean(one[data.metric] for one in scores.values()), "folds": scores}


def record_of(record: dict[str, Any], task: dict[str, Any], marks: Marks) -> dict[str, Any]:
    """The record for finetuning.classification, its text written as in training."""
    text = record.get("text")
    if not isinstance(text, str):
        raise ValueError(f'a record needs a string "text": got {str(record)[:80]}')
    if spans := argument_spans(record):
        spans = as_one(*spans) if together(*spans, touching=False) else spans
    else:
        spans, marks = locate(text, marks), None
        if spans is None:
            raise ValueError(
                f'{text[:60]!r}: expected "arguments": [[start, end], [start, end]] in characters, or placeholders'
            )
    shown, starts, inner = render(Relation(text, "", spans), task["input"], marks, tuple(task["markers"]))
    return {"text": shown, "arguments": starts if task["relation_head"] == "marker" else inner}


def predict_texts(folder: Path, records: Iterable[dict[str, Any]], batch_size: int) -> Iterator[dict[str, Any]]:
    """Each record with its class, "label" and "probabilities", by the model in `folder`.

    A record is {"text": ..., "arguments": [[start, end], [start, end]]}, in characters and in the order of the roles
    (chemical, gene); or {"text": ...} alone with the placeholders in it.
    """
    task = read_json(folder / "task.json")
    marks = Marks(*task["placeholders"])
    yield from classification.predict_texts(folder, records, batch_size, partial(record_of, task=task, marks=marks))
