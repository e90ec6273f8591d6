"""Labels of texts: what a benchmark says of them, what the loss compares with, how predictions are read and scored.

Used by finetuning.classification; nothing to run here. Three kinds:

- one label of several ("single"): softmax and cross-entropy, the highest score is the prediction;
- any number of labels ("multi"): a sigmoid each, binary cross-entropy summed over the labels; all from probability
  0.5 on are predicted;
- a number ("regression"): squared error to the gold number, brought to mean 0 and deviation 1 on the training split,
  and back for the prediction.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from finetuning.loop import Batch
from finetuning.ranks import say
from finetuning.text_heads import HEADS
from finetuning.text_inputs import Example, Label

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
    write: Callable[[list[Example], list[Label], Path], None]  # test examples (as given), predicted -> file
    labels: tuple[str, ...] = (NUMBER,)  # all there are, in the order of the outputs
    head: str = "cls"  # or "markers"
    added_tokens: tuple[str, ...] = ()  # kept whole by the tokenizer: placeholders, markers
    both_orders: bool = False  # train on each pair in both orders
    by_document: bool = False  # several labels: those of a document's examples are united before they are scored
    benchmark: str = ""  # its name, for task.json
    suffix: str = "tsv"  # of the name of the file that `write` writes
    record: dict[str, Any] = field(default_factory=dict)  # what a family adds to task.json

    def __post_init__(self) -> None:
        assert self.kind in PROBLEMS and self.head in HEADS
        assert (self.kind == "regression") == (self.labels == (NUMBER,))


def pool_of(kind: str) -> str:
    """How the scores of a long text's windows become one."""
    return "max" if kind == "multi" else "mean"


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
            say(
                f"warning: label {label!r} of {count[label]} {split} example(s) is in no training example: "
                "it cannot be learned, and counts as wrong"
            )


def always_one(examples: list[Example], predicted: list[Label]) -> str | None:
    """That all examples get the same label where they have several, as finetuning on few examples may end; or None."""
    if len(set(predicted)) == 1 and len({example.label for example in examples}) > 1:
        return f"answers class {predicted[0]!r} always on dev"
    return None


def united(examples: list[Example], predicted: list[Label]) -> tuple[list[Example], list[Label]]:
    """One example for each document, in order, with all the labels that its examples have; the same of `predicted`."""
    documents: dict[str, tuple[Example, set[str], set[str]]] = {}
    for example, labels in zip(examples, predicted, strict=True):
        _, gold, ours = documents.setdefault(example.document, (example, set(), set()))
        gold.update(example.label)
        ours.update(labels)
    found = [replace(one, label=tuple(sorted(gold))) for one, gold, _ in documents.values()]
    return found, [tuple(sorted(ours)) for *_, ours in documents.values()]


def score_labels(examples: list[Example], predicted: list[Label], settings: Settings) -> dict[str, Any]:
    """The benchmark's scores of the predicted labels of `examples`."""
    if settings.by_document:
        examples, predicted = united(examples, predicted)
    return settings.score([example.label for example in examples], predicted)
