"""Sequence classification and regression: single texts and pairs, one label or several, a number.

Shared by the text, similarity, relation and yes/no benchmarks; run one of those, for example
`python -m finetuning.hoc`. A family's reader makes an `Example` of each text and says with a `Settings` what the
labels are and how predictions are scored; `classification_task` makes the Task of finetuning.loop:

1. texts become inputs (finetuning.text_inputs); long ones are windows whose scores are pooled, in training too:
   their mean, or for several labels the highest of each label (a label holds for a text if it holds for a part);
2. the model is an encoder under a head (finetuning.text_heads);
3. losses, predictions and scores are those of finetuning.text_labels.

`predict_texts` does the same with new texts and a saved model; one that was trained on sentences, and whose record says
so ("unit"), is shown the sentences of a text, and the labels of all of them are the text's.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from finetuning import encoder, text_heads
from finetuning.config import FinetuneConfig
from finetuning.loop import Batch, Feature, Task, choose_device, predict
from finetuning.pieces import Span
from finetuning.ranks import say
from finetuning.result_files import read_json
from finetuning.results import write_json
from finetuning.text_inputs import Example, Layout, collate, layout_of, make_features, word_pieces
from finetuning.text_labels import (
    PROBLEMS,
    Settings,
    always_one,
    check_labels,
    decode,
    loss,
    pool_of,
    scale_of,
    score_labels,
    targets,
)
from finetuning.words import sentence_places


def with_tokens(tokenizer: PreTrainedTokenizerBase, tokens: tuple[str, ...]) -> dict[str, list[int]]:
    """Make the tokenizer keep these whole; returns the new ones and the word pieces that they were before.

    The blank before one belongs to it: byte-level tokenizers would make a piece of its own of it. Those that the folder
    has as special tokens keep their embeddings, and are tokens of texts from now on.
    """
    ids, _ = word_pieces(tokenizer, list(tokens), False)
    unknown = tokenizer.unk_token_id
    absent = {
        token: pieces for token, pieces in zip(tokens, ids, strict=True) if len(pieces) > 1 or pieces == [unknown]
    }
    special = set(absent) & set(tokenizer.added_tokens_encoder)
    tokenizer.add_tokens([AddedToken(token, normalized=False, lstrip=True) for token in absent])
    if special:  # the library does not forget what was special, and would go on to cut it in texts
        tokenizer._tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    return {token: pieces for token, pieces in absent.items() if token not in special}


def make_batch(features: list[Feature], layout: Layout, head: str) -> Batch:
    """Windows and, where the features have them, targets: int64 [B], or float32 [B] or [B, labels]."""
    batch = collate(features, layout, marks=head == "markers")
    if "target" in features[0]:
        whole = isinstance(features[0]["target"], int)
        kind = torch.int64 if whole else torch.float32
        batch["labels"] = torch.tensor([feature["target"] for feature in features], dtype=kind)
    return batch


def report_long(features: dict[str, list[Feature]], length: int) -> None:
    """Say how many texts are longer than an input, and what was done with them."""
    for split, part in features.items():
        many = [len(feature["windows"]) for feature in part if len(feature["windows"]) > 1]
        if many:
            say(
                f"{split}: {len(many)} of {len(part)} texts are longer than {length} word pieces: each is divided "
                f"into 2 to {max(many)} windows, whose scores are pooled"
            )
        part_shown = [feature["left_out"] for feature in part if feature.get("left_out")]
        if part_shown:
            say(
                f"{split}: {len(part_shown)} of {len(part)} texts are longer than {length} word pieces: the part "
                f"around the two marked arguments is shown, {sum(part_shown)} word pieces are left out"
            )


def swapped(example: Example) -> Example:
    """The same pair in the other order."""
    return Example(example.text_b, example.label, example.text_a, example.document)


def classification_task(
    examples: dict[str, list[Example]], model: str, config: FinetuneConfig, settings: Settings
) -> Task:
    """The Task of these splits (train, test and, where there is one, dev) with the encoder `model`."""
    check_labels(examples, settings)
    encoder_settings = encoder.load_config(model)
    tokenizer = encoder.load_tokenizer(model, encoder_settings)
    added = with_tokens(tokenizer, settings.added_tokens)
    length = min(config.max_length, encoder.longest_input(encoder_settings))
    layout = layout_of(tokenizer, encoder_settings, length, config.overlap)
    scale = scale_of(examples["train"], settings.kind)
    inputs = dict(examples)
    if settings.both_orders:
        inputs["train"] = [*inputs["train"], *map(swapped, inputs["train"])]
        inputs["dev, swapped"] = list(map(swapped, inputs.get("dev", ())))
    features = {split: make_features(part, tokenizer, layout) for split, part in inputs.items()}
    for split, part in inputs.items():
        for feature, target in zip(features[split], targets(part, settings, scale), strict=True):
            feature["target"] = target
    dev_swapped = features.pop("dev, swapped", [])
    report_long(features, length)

    def make_model() -> nn.Module:
        problem = PROBLEMS[settings.kind]
        dropouts = config.dropout, config.encoder_dropout
        network = text_heads.make_model(model, settings.head, list(settings.labels), problem, *dropouts)
        text_heads.add_tokens(network, tokenizer, added)
        return network

    def save(network: nn.Module, folder: Path) -> None:
        text_heads.save(network, tokenizer, folder)
        record = {
            "family": "classification",
            "benchmark": settings.benchmark,
            "kind": settings.kind,
            "labels": list(settings.labels),
            "metric": settings.metric,
            "head": settings.head,
            "pairs": any(one.text_b is not None for part in examples.values() for one in part),
            "max_length": length,
            "overlap": config.overlap,
            "scale": list(scale),
            **settings.record,
        }
        write_json(folder / "task.json", record)

    return Task(
        features=features,
        make_model=make_model,
        collate=partial(make_batch, layout=layout, head=settings.head),
        forward=partial(text_heads.forward, pool=pool_of(settings.kind)),
        rows=lambda feature: 1,
        loss=partial(loss, kind=settings.kind),
        score=lambda split, outputs: score_labels(examples[split], decode(outputs, settings, scale), settings),
        metric=settings.metric,
        save=save,
        write_predictions=lambda outputs, path: settings.write(
            examples["test"], decode(outputs, settings, scale), path
        ),
        predictions_suffix=settings.suffix,
        dev_trained_too=dev_swapped,
        collapse=lambda outputs: (
            always_one(examples["dev"], decode(outputs, settings, scale)) if settings.kind == "single" else None
        ),
    )


def prediction(logits: np.ndarray, settings: Settings, scale: tuple[float, float]) -> dict[str, Any]:
    """One line of `predict_texts` from [1, labels]."""
    (label,) = decode([logits], settings, scale)
    if settings.kind == "regression":
        return {"score": label}
    row = torch.from_numpy(logits[0]).double()
    chances = row.softmax(0) if settings.kind == "single" else row.sigmoid()
    name = "label" if settings.kind == "single" else "labels"
    probabilities = {key: round(value, 4) for key, value in zip(settings.labels, chances.tolist(), strict=True)}
    return {name: label if settings.kind == "single" else list(label), "probabilities": probabilities}


def argument_spans(record: dict[str, Any]) -> tuple[Span, Span] | None:
    """The "arguments" of a record, None where it has none; ValueError if they are not two spans in its text."""
    given, text = record.get("arguments"), record["text"]
    if given is None:
        return None
    spans = given if isinstance(given, (list, tuple)) and len(given) == 2 else ()
    right = [
        tuple(span)
        for span in spans
        if isinstance(span, (list, tuple)) and len(span) == 2 and all(isinstance(place, int) for place in span)
        and 0 <= span[0] < span[1] <= len(text)
    ]  # fmt: skip
    if len(right) != 2:
        raise ValueError(f'"arguments" {given} are not two spans [start, end] within the text {text[:40]!r}')
    return right[0], right[1]


def record_example(record: dict[str, Any], settings: Settings, pairs: bool | None) -> Example:
    """The Example of a record of `predict_texts`; ValueError if it lacks something.

    `pairs` says whether the model was trained on pairs of texts; None: that is not known.
    """
    text = record.get("text")
    second = None if pairs is False else record.get("text_b", record.get("question"))
    if not isinstance(text, str) or not isinstance(second, str | None):
        raise ValueError(f'a record needs a string "text" (and for pairs "text_b"): got {str(record)[:80]}')
    if pairs and second is None:
        raise ValueError('this model was trained on pairs of texts: each record needs a "text_b" (or "question")')
    spans = argument_spans(record) if second is None else None
    if settings.head == "markers" and not spans:
        raise ValueError('this model needs "arguments" in each record: [[start, end], [start, end]], in characters')
    if second is not None and "text_b" not in record:  # a question, asked first, as in training
        text, second = second, text
    return Example(text, "", second, arguments=spans)


def record_parts(record: dict[str, Any], settings: Settings, task: dict[str, Any]) -> list[Example]:
    """What the model is shown of a record: itself, or its sentences one by one."""
    whole, unit = record_example(record, settings, task.get("pairs")), task.get("unit")
    places = sentence_places(whole.text_a) if unit == "sentence" else []
    return [replace(whole, text_a=whole.text_a[start:end], arguments=None) for start, end in places] or [whole]


def predict_texts(
    folder: Path,
    records: Iterable[dict[str, Any]],
    batch_size: int,
    shown: Callable[[dict[str, Any]], dict[str, Any]] = lambda record: record,
) -> Iterator[dict[str, Any]]:
    """Each record, in order, with what the model in `folder` (as Task.save writes it) says of it.

    A record is {"text": ...}, for pairs with "text_b" (or "question", which then comes first), for the markers head
    with "arguments" [[start, end], [start, end]], and what else there is; `shown` gives the record that the model is
    shown in its place. Added are "label" and "probabilities", "labels" and "probabilities", or "score".
    """
    task = read_json(folder / "task.json")
    settings = Settings(
        task["kind"], task["metric"], dict, print, tuple(task["labels"]), task["head"], benchmark=task["benchmark"]
    )
    network = text_heads.load(folder, settings.head, list(settings.labels), PROBLEMS[settings.kind])
    network.to(choose_device())
    tokenizer = encoder.load_tokenizer(str(folder), network.config)
    layout = layout_of(tokenizer, network.config, task["max_length"], task["overlap"])
    config = FinetuneConfig(batch_size=batch_size)
    runner = Task(
        features={},
        make_model=lambda: network,
        collate=partial(make_batch, layout=layout, head=settings.head),
        forward=partial(text_heads.forward, pool=pool_of(settings.kind)),
        rows=lambda feature: 1,
        loss=partial(loss, kind=settings.kind),
        score=lambda split, outputs: {},
        metric=settings.metric,
        save=lambda network, folder: None,
        write_predictions=lambda outputs, path: None,
    )
    waiting = iter(records)
    with tqdm(desc="predict", unit=" texts", leave=False, disable=None) as bar:
        # Each record is looked at before the next is taken: finetuning.predict can then name the line of a wrong one.
        while chunk := [(one, record_parts(shown(one), settings, task)) for one in islice(waiting, 64 * batch_size)]:
            features = make_features([example for _, part in chunk for example in part], tokenizer, layout)
            outputs = iter(predict(network, runner, features, config, batch_size))
            for one, part in chunk:  # of each label the highest: the labels of all sentences
                logits = np.max([next(outputs) for _ in part], axis=0)
                yield {**one, **prediction(logits, settings, tuple(task["scale"]))}
            bar.update(len(chunk))
