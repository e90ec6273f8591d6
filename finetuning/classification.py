"""Sequence classification and regression: single texts and pairs, one label or several, a number.

Shared by the text, similarity, relation and yes/no benchmarks; run one of those, for example
`python -m finetuning.hoc`. A family's reader makes an `Example` of each text and says with a `Settings` what the
labels are and how predictions are scored; `classification_task` makes the Task of finetuning.loop:

1. texts become inputs (finetuning.text_inputs); long ones are windows whose scores are pooled, in training too:
   their mean, or for several labels the highest of each label (a label holds for a text if it holds for a part);
2. the model is an encoder under a head (finetuning.text_heads);
3. one label: softmax and cross-entropy, the highest score is the prediction. Several labels: a sigmoid each, binary
   cross-entropy summed over the labels, all from probability 0.5 are predicted. A number: squared error to the
   gold number, brought to mean 0 and deviation 1 on the training split, and back for the prediction.

`predict_texts` does the same with new texts and a saved model.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import AddedToken
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from finetuning import encoder, text_heads
from finetuning.config import FinetuneConfig
from finetuning.loop import Batch, Feature, Task, predict
from finetuning.results import read_json, write_json
from finetuning.text_inputs import Example, Label, Layout, collate, layout_of, make_features, word_pieces

PROBLEMS = {  # kind -> transformers' problem_type
    "single": "single_label_classification",
    "multi": "multi_label_classification",
    "regression": "regression",
}
NUMBER = "score"  # the one "label" of a regression


@dataclass(frozen=True)
class Settings:
    """What a benchmark says of its labels, head and scores."""

    kind: str  # "single", "multi" or "regression"
    metric: str  # the one of the scores that chooses the epoch and goes into the table
    score: Callable[[list[Label], list[Label]], dict[str, Any]]  # gold, predicted -> scores
    write: Callable[[list[Example], list[Label], Path], None]  # predictions of the test split -> file
    labels: tuple[str, ...] = (NUMBER,)  # all there are, in the order of the outputs
    head: str = "cls"  # or "markers"
    added_tokens: tuple[str, ...] = ()  # kept whole by the tokenizer: placeholders, markers
    both_orders: bool = False  # train on each pair in both orders
    benchmark: str = ""  # its name, for task.json

    def __post_init__(self) -> None:
        assert self.kind in PROBLEMS and self.head in text_heads.HEADS
        assert (self.kind == "regression") == (self.labels == (NUMBER,))


def with_tokens(tokenizer: PreTrainedTokenizerBase, tokens: tuple[str, ...]) -> dict[str, list[int]]:
    """Add to the tokenizer what it does not keep whole yet; returns those and the word pieces they were before."""
    ids, _ = word_pieces(tokenizer, list(tokens), False)
    absent = {token: pieces for token, pieces in zip(tokens, ids, strict=True) if len(pieces) > 1}
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in absent])
    return absent


def targets(examples: list[Example], settings: Settings, scale: tuple[float, float]) -> list[Any]:
    """What the loss compares with: a class index, a list of 0 and 1, or a number in units of the training split."""
    index = {label: i for i, label in enumerate(settings.labels)}
    if settings.kind == "single":
        return [index[example.label] for example in examples]
    if settings.kind == "multi":
        return [[float(label in example.label) for label in settings.labels] for example in examples]
    return [(example.label - scale[0]) / scale[1] for example in examples]


def scale_of(examples: list[Example], kind: str) -> tuple[float, float]:
    """Mean and standard deviation of the gold numbers; (0, 1) where labels are names."""
    if kind != "regression":
        return 0.0, 1.0
    numbers = np.array([example.label for example in examples], dtype=float)
    return float(numbers.mean()), float(numbers.std()) or 1.0


def loss(logits: Tensor, batch: Batch, kind: str) -> Tensor:
    """Summed over the examples of the batch; logits are [examples, labels]."""
    if kind == "single":
        return F.cross_entropy(logits, batch["labels"], reduction="sum")
    if kind == "multi":
        return F.binary_cross_entropy_with_logits(logits, batch["labels"], reduction="sum")
    return F.mse_loss(logits[:, 0], batch["labels"], reduction="sum")


def decode(outputs: Iterable[np.ndarray], settings: Settings, scale: tuple[float, float]) -> list[Label]:
    """The predicted label of each output [1, labels]."""
    if settings.kind == "single":
        return [settings.labels[int(row[0].argmax())] for row in outputs]
    if settings.kind == "multi":  # a logit of 0 is a probability of 0.5
        names = settings.labels
        return [tuple(name for name, logit in zip(names, row[0], strict=True) if logit >= 0) for row in outputs]
    return [float(row[0, 0]) * scale[1] + scale[0] for row in outputs]


def make_batch(features: list[Feature], layout: Layout) -> Batch:
    """Windows and, where the features have them, targets: int64 [B], or float32 [B] or [B, labels]."""
    batch = collate(features, layout)
    if "target" in features[0]:
        whole = isinstance(features[0]["target"], int)
        kind = torch.int64 if whole else torch.float32
        batch["labels"] = torch.tensor([feature["target"] for feature in features], dtype=kind)
    return batch


def label_counts(examples: list[Example], kind: str) -> Counter:
    """How many examples have each label ("" where several are possible and none holds); nothing for numbers."""
    if kind == "regression":
        return Counter()
    if kind == "single":
        return Counter(example.label for example in examples)
    return Counter(label for example in examples for label in (example.label or ("",)))


def check_labels(examples: dict[str, list[Example]], settings: Settings) -> None:
    """Say which labels are in dev or test but not in train; assert that all are in settings.labels."""
    counts = {split: label_counts(part, settings.kind) for split, part in examples.items()}
    for split, count in counts.items():
        assert set(count) <= {*settings.labels, ""}, f"{split}: {sorted(set(count) - set(settings.labels))}"
        for label in sorted(set(count) - set(counts["train"]) - {""}):
            print(
                f"warning: label {label!r} of {count[label]} {split} example(s) is in no training example: "
                "it cannot be learned, and counts as wrong",
                flush=True,
            )


def report_long(features: dict[str, list[Feature]], length: int) -> None:
    """Say how many texts are longer than an input, and what was done with them."""
    for split, part in features.items():
        many = [len(feature["windows"]) for feature in part if len(feature["windows"]) > 1]
        if many:
            print(
                f"{split}: {len(many)} of {len(part)} texts are longer than {length} word pieces: each is divided "
                f"into 2 to {max(many)} windows, whose scores are pooled",
                flush=True,
            )
        part_shown = [feature["left_out"] for feature in part if feature.get("left_out")]
        if part_shown:
            print(
                f"{split}: {len(part_shown)} of {len(part)} texts are longer than {length} word pieces: the part "
                f"around the two marked arguments is shown, {sum(part_shown)} word pieces are left out",
                flush=True,
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
    features = {split: make_features(part, tokenizer, layout) for split, part in inputs.items()}
    for split, part in inputs.items():
        for feature, target in zip(features[split], targets(part, settings, scale), strict=True):
            feature["target"] = target
    report_long(features, length)
    gold = {split: [example.label for example in part] for split, part in examples.items()}

    def make_model() -> nn.Module:
        problem = PROBLEMS[settings.kind]
        network = text_heads.make_model(model, settings.head, list(settings.labels), problem, config.dropout)
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
            "max_length": length,
            "overlap": config.overlap,
            "scale": list(scale),
        }
        write_json(folder / "task.json", record)

    return Task(
        features=features,
        make_model=make_model,
        collate=partial(make_batch, layout=layout),
        forward=partial(text_heads.forward, pool=pool_of(settings.kind)),
        rows=lambda feature: 1,
        loss=partial(loss, kind=settings.kind),
        score=lambda split, outputs: settings.score(gold[split], decode(outputs, settings, scale)),
        metric=settings.metric,
        save=save,
        write_predictions=lambda outputs, path: settings.write(
            examples["test"], decode(outputs, settings, scale), path
        ),
    )


def pool_of(kind: str) -> str:
    """How the scores of a long text's windows become one."""
    return "max" if kind == "multi" else "mean"


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


def record_example(record: dict[str, Any], settings: Settings) -> Example:
    """The Example of a record of `predict_texts`; ValueError if it lacks something."""
    text, second = record.get("text"), record.get("text_b", record.get("question"))
    if not isinstance(text, str) or not isinstance(second, str | None):
        raise ValueError(f'a record needs a string "text" (and for pairs "text_b"): got {str(record)[:80]}')
    arguments = record.get("arguments")
    if settings.head == "markers" and not arguments:
        raise ValueError('this model needs "arguments" in each record: [[start, end], [start, end]], in characters')
    if "question" in record:  # asked first, as in training
        text, second = second, text
    spans = tuple((int(start), int(end)) for start, end in arguments) if arguments else None
    return Example(text, "", second, arguments=spans)


def predict_texts(folder: Path, records: Iterable[dict[str, Any]], batch_size: int) -> Iterator[dict[str, Any]]:
    """The prediction for each record, in order, with the model in `folder` (as Task.save writes it).

    A record is {"text": ...}, for pairs with "text_b" (or "question", which then comes first), for the markers head
    with "arguments" [[start, end], [start, end]]. Yields {"label", "probabilities"}, {"labels", "probabilities"} or
    {"score"}.
    """
    task = read_json(folder / "task.json")
    settings = Settings(
        task["kind"], task["metric"], dict, print, tuple(task["labels"]), task["head"], benchmark=task["benchmark"]
    )
    network = text_heads.load(folder, settings.head, list(settings.labels), PROBLEMS[settings.kind])
    tokenizer = encoder.load_tokenizer(str(folder), network.config)
    layout = layout_of(tokenizer, network.config, task["max_length"], task["overlap"])
    config = FinetuneConfig(batch_size=batch_size)
    runner = Task(
        features={},
        make_model=lambda: network,
        collate=partial(make_batch, layout=layout),
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
        while chunk := list(islice(waiting, 64 * batch_size)):
            features = make_features([record_example(one, settings) for one in chunk], tokenizer, layout)
            for logits in predict(network, runner, features, config):
                yield prediction(logits, settings, tuple(task["scale"]))
            bar.update(len(chunk))
