"""Entity recognition: from tagged sentences to model inputs and back to entity-level F1.

Shared by the entity benchmarks; run one of those, for example `python -m finetuning.bc5cdr`. The steps are

1. read the files (finetuning.conll) and check their sizes against the published ones;
2. cut each word into word pieces; a sentence longer than the model takes becomes windows that overlap, and
   each word belongs to the window that shows most text on both sides of it, so that nothing is cut and
   nothing counts twice;
3. one linear layer on the first word piece of each word, a softmax over the IOB2 tags (reference ELECTRA does
   the same);
4. join the windows, read the predicted tags as conlleval does (an I that follows no entity starts one), and
   let seqeval score them in strict IOB2 mode: so the number equals conlleval's, and every gold entity of the
   file counts.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2
from torch import Tensor, nn, tensor
from transformers import AutoModelForTokenClassification, PreTrainedTokenizerBase

from finetuning import encoder
from finetuning.command import Prepared
from finetuning.config import FinetuneConfig
from finetuning.conll import SCHEMES, UNTYPED, Sentence, TaggedFile, iob2_tags, iob_spans, read_file, read_splits
from finetuning.loop import Batch, Feature, Task
from finetuning.results import write_json
from finetuning.splits import Benchmark, Sizes, Variant, recognise

METRIC = "entity-level F1"


def word_pieces(tokenizer: PreTrainedTokenizerBase, words: Iterable[str]) -> dict[str, list[int]]:
    """The word-piece ids of each distinct word, at least one each; text such as "[MASK]" is text."""
    distinct = sorted(set(words))
    pieces = tokenizer(
        [[word] for word in distinct],
        is_split_into_words=True,
        add_special_tokens=False,
        split_special_tokens=True,
    )["input_ids"]
    return {word: ids or [tokenizer.unk_token_id] for word, ids in zip(distinct, pieces, strict=True)}


def windows(lengths: list[int], capacity: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Cut a sentence into windows of at most `capacity` word pieces.

    Each is (start, end, own start, own end), counted in words. `lengths` are the word pieces of each word, none above
    `capacity`. Neighbouring windows share up to `overlap` word pieces; the words they share belong half to the one
    and half to the other. The own parts are the whole sentence.
    """
    found = []
    start, own_start = 0, 0
    while True:
        end, used = start, 0
        while end < len(lengths) and used + lengths[end] <= capacity:
            used += lengths[end]
            end += 1
        if end == len(lengths):
            return [*found, (start, end, own_start, end)]
        following, shared = end, 0
        while following - 1 > start and shared + lengths[following - 1] <= overlap:
            following -= 1
            shared += lengths[following]
        own_end = (following + end) // 2
        found.append((start, end, own_start, own_end))
        start, own_start = following, own_end


def make_features(
    sentences: list[Sentence], pieces: dict[str, list[int]], labels: dict[str, int], special: tuple[int, int],
    capacity: int, overlap: int,
) -> list[Feature]:  # fmt: skip
    """The model inputs of `sentences`, in order; `special` are the ids around them ([CLS] and [SEP]).

    Each has input_ids, rows (positions of the first word piece of its own words), labels (ids of their tags)
    and sentence (its index). A single word longer than `capacity` shows its first `capacity` word pieces; it
    is scored.
    """
    features = []
    for index, sentence in enumerate(sentences):
        ids = [pieces[word][:capacity] for word in sentence.words]
        for start, end, own_start, own_end in windows([len(word) for word in ids], capacity, overlap):
            if own_start == own_end:
                continue
            input_ids, rows = [special[0]], []
            for word in range(start, end):
                if own_start <= word < own_end:
                    rows.append(len(input_ids))
                input_ids += ids[word]
            tags = [labels[tag] for tag in sentence.tags[own_start:own_end]]
            features.append({"input_ids": [*input_ids, special[1]], "rows": rows, "labels": tags, "sentence": index})
    return features


def collate(features: list[Feature], padding: int) -> Batch:
    """Inputs padded to the longest [B, T]; rows are positions in the flat [B * T] axis, one an own word."""
    longest = max(len(feature["input_ids"]) for feature in features)
    ids = np.full((len(features), longest), padding)
    mask = np.zeros_like(ids)
    for i, feature in enumerate(features):
        ids[i, : len(feature["input_ids"])] = feature["input_ids"]
        mask[i, : len(feature["input_ids"])] = 1
    rows = [i * longest + row for i, feature in enumerate(features) for row in feature["rows"]]
    labels = [label for feature in features for label in feature["labels"]]
    return {
        "input_ids": tensor(ids),
        "attention_mask": tensor(mask),
        "rows": tensor(rows),
        "labels": tensor(labels),
        "items": len(labels),
    }


def forward(model: nn.Module, batch: Batch) -> Tensor:
    """Tag logits of the first word piece of each own word, [rows, labels]."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return logits.flatten(0, 1)[batch["rows"]]


def predicted_tags(features: list[Feature], outputs: list[np.ndarray], labels: list[str]) -> list[list[str]]:
    """The IOB2 tags of each sentence: windows joined, tags read as conlleval reads them."""
    sentences: list[list[str]] = [[] for _ in range(features[-1]["sentence"] + 1)]
    for feature, logits in zip(features, outputs, strict=True):
        sentences[feature["sentence"]] += [labels[i] for i in logits.argmax(axis=-1)]
    return [iob2_tags(iob_spans(tags), len(tags)) for tags in sentences]


def entity_scores(gold: list[list[str]], predicted: list[list[str]]) -> dict[str, Any]:
    """Precision, recall, F1 over all entities (micro) and number of gold ones, and the same by type; IOB2."""
    report = classification_report(gold, predicted, output_dict=True, mode="strict", scheme=IOB2, zero_division=0)
    scores = {}
    for name, row in report.items():
        numbers = {key: float(row[key]) for key in ("precision", "recall", "f1-score")}
        scores[name] = {**numbers, "entities": int(row["support"])}
    total = scores.pop("micro avg")
    types = {name: scores[name] for name in sorted(scores) if not name.endswith(" avg")}
    return {METRIC: total.pop("f1-score"), **total, "types": types}


def tagging_task(sentences: dict[str, list[Sentence]], model: str, config: FinetuneConfig, benchmark: str = "") -> Task:
    """The Task of tagging these splits (IOB2) with the encoder `model`, a folder or a hub name."""
    settings = encoder.load_config(model)
    tokenizer = encoder.load_tokenizer(model, settings)
    types = sorted({tag[2:] for part in sentences.values() for one in part for tag in one.tags} - {""})
    labels = ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]
    label_ids = {label: i for i, label in enumerate(labels)}
    pieces = word_pieces(tokenizer, (word for part in sentences.values() for one in part for word in one.words))
    capacity = min(config.max_length, encoder.longest_input(settings)) - 2
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    features = {
        split: make_features(part, pieces, label_ids, special, capacity, min(config.overlap, capacity // 2))
        for split, part in sentences.items()
    }
    gold = {split: [one.tags for one in part] for split, part in sentences.items()}
    record = {
        "family": "tagging",
        "benchmark": benchmark,
        "labels": labels,
        "metric": METRIC,
        "max_length": capacity + 2,
        "overlap": min(config.overlap, capacity // 2),
    }

    def make_model() -> nn.Module:
        names = {"id2label": dict(enumerate(labels)), "label2id": label_ids}
        network = encoder.load_model(AutoModelForTokenClassification, model, **names)
        for child in network.children():  # the architectures' settings for this one go by different names
            if isinstance(child, nn.Dropout):
                child.p = config.dropout
        return network

    def save(network: nn.Module, folder: Path) -> None:
        with encoder.quiet_transformers():
            network.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        write_json(folder / "task.json", record)

    def write_predictions(outputs: list[np.ndarray], path: Path) -> None:
        tags = predicted_tags(features["test"], outputs, labels)
        write_tags(sentences["test"], tags, path)

    return Task(
        features=features,
        make_model=make_model,
        collate=lambda chosen: collate(chosen, tokenizer.pad_token_id),
        forward=forward,
        rows=lambda feature: len(feature["rows"]),
        loss=lambda logits, batch: F.cross_entropy(logits, batch["labels"], reduction="sum"),
        score=lambda split, outputs: entity_scores(gold[split], predicted_tags(features[split], outputs, labels)),
        metric=METRIC,
        save=save,
        write_predictions=write_predictions,
    )


def write_tags(sentences: list[Sentence], predicted: list[list[str]], path: Path) -> None:
    """`token<TAB>gold<TAB>predicted`, a blank line after each sentence: what `conlleval -d '\\t'` reads."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for sentence, tags in zip(sentences, predicted, strict=True):
            for row in zip(sentence.words, sentence.tags, tags, strict=True):
                file.write("\t".join(row) + "\n")
            file.write("\n")
    temporary.replace(path)


def sizes(files: dict[str, TaggedFile]) -> Sizes:
    """Sentences, and entities of each type, in train, dev and test."""
    counts = {split: file.entity_counts() for split, file in files.items()}
    types = sorted(set().union(*counts.values()))
    return {
        "sentences": tuple(len(file.sentences) for file in files.values()),
        **{name: tuple(count.get(name, 0) for count in counts.values()) for name in types},
    }


def rename_types(files: dict[str, TaggedFile], rename: dict[str, str]) -> None:
    """Give the entities in `files` the variant's names of their types (bare tags then have one)."""
    for file in files.values():
        for sentence in file.sentences:
            sentence.tags[:] = [
                f"{tag[:2]}{rename.get(tag[2:], tag[2:])}" if tag != "O" else tag for tag in sentence.tags
            ]


def read_variant(benchmark: Benchmark, options: Namespace) -> tuple[dict[str, TaggedFile], Variant]:
    """The files of --data, checked against the published sizes, with the variant's names of the types."""
    files = read_splits(options.data, options.tag_scheme)
    found = sizes(files)
    types = [name for name in found if name != "sentences"]
    name = f"{benchmark.name} {'untyped' if types == [UNTYPED] else '+'.join(types).lower()}"
    variant = recognise(benchmark, found, options.data, options.nonstandard_split, name)
    for file in files.values():
        if not file.entity_counts():
            raise ValueError(f"{file.path} has no entity: there is nothing to learn or to score")
    rename_types(files, variant.rename or {})
    return files, variant


def split_record(file: TaggedFile) -> dict[str, Any]:
    """What results.json says of one split."""
    return {
        "file": file.path.name,
        "sha256": file.sha256,
        "sentences": len(file.sentences),
        "words": sum(len(sentence.words) for sentence in file.sentences),
        "entities": file.entity_counts(),
        "columns": file.columns,
        "scheme": file.scheme,
    }


def add_flags(parser: ArgumentParser) -> None:
    """The flags that only entity benchmarks have."""
    parser.add_argument(
        "--tag-scheme",
        choices=SCHEMES,
        help="Scheme of the tags; only needed where the files do not show it, which is then said.",
    )


def prepare(benchmark: Benchmark, options: Namespace, config: FinetuneConfig) -> Prepared:
    """Read, check and turn into inputs as the flags say."""
    files, variant = read_variant(benchmark, options)
    sentences = {split: file.sentences for split, file in files.items()}
    return Prepared(
        variant=variant,
        tasks=[tagging_task(sentences, options.model, config, benchmark.name)],
        metric=METRIC,
        split={split: split_record(file) for split, file in files.items()},
        texts={split: [("", " ".join(one.words)) for one in part] for split, part in sentences.items()},
    )


def score_file(benchmark: Benchmark, options: Namespace) -> dict[str, Any]:
    """Scores of --predictions (the last column of each line is the tag) on --split of --data."""
    files, _ = read_variant(benchmark, options)
    gold, ours = files[options.split].sentences, read_file(options.predictions, columns=(2, 3, 4))
    if [one.words for one in ours.sentences] != [one.words for one in gold]:
        raise ValueError(f"{options.predictions} has other sentences or words than {files[options.split].path}")
    return entity_scores(
        [one.tags for one in gold], [iob2_tags(iob_spans(one.tags), len(one.tags)) for one in ours.sentences]
    )
