"""Scores of predicted labels: accuracy, F1 over chosen classes, F1 of several labels a text, Pearson's r.

Shared by the text, similarity, relation and yes/no benchmarks; nothing to run here. All take the gold labels and the
predicted ones, in the same order, and give fractions (1.0 is perfect). A ratio with nothing below the line is 0, as
in scikit-learn with zero_division=0.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from finetuning.text_inputs import Label

ACCURACY = "accuracy"
MACRO_F1 = "macro-F1"
WEIGHTED_F1 = "weighted F1"
MICRO_F1 = "micro-F1"
EXAMPLE_F1 = "example-based F1"
PEARSON = "Pearson"


def ratio(above: float, below: float) -> float:
    """above / below, 0 if below is 0."""
    return above / below if below else 0.0


def counts_scores(right: int, predicted: int, gold: int) -> dict[str, float]:
    """Precision, recall and F1 from three counts."""
    return {
        "precision": ratio(right, predicted),
        "recall": ratio(right, gold),
        "f1-score": ratio(2 * right, predicted + gold),
    }


def class_scores(gold: list[set[str]], predicted: list[set[str]], names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1 and number of gold examples of each class; each example has a set of classes."""
    found = {}
    for name in names:
        in_gold = [name in labels for labels in gold]
        in_predicted = [name in labels for labels in predicted]
        right = sum(one and other for one, other in zip(in_gold, in_predicted, strict=True))
        found[name] = {**counts_scores(right, sum(in_predicted), sum(in_gold)), "examples": sum(in_gold)}
    return found


def micro(gold: list[set[str]], predicted: list[set[str]]) -> dict[str, float]:
    """Precision, recall and F1 over all decisions of all examples."""
    right = sum(len(one & other) for one, other in zip(gold, predicted, strict=True))
    return counts_scores(right, sum(map(len, predicted)), sum(map(len, gold)))


def accuracy_scores(gold: list[Label], predicted: list[Label]) -> dict[str, Any]:
    """Accuracy, F1 averaged over the classes (plainly and weighted by their gold examples) and scores of each class.

    The classes are those that occur in gold or predicted labels, as in scikit-learn. Where an example has one class,
    micro-F1 over all classes is the accuracy.
    """
    names = sorted({*gold, *predicted})
    classes = class_scores([{one} for one in gold], [{one} for one in predicted], names)
    right = sum(one == other for one, other in zip(gold, predicted, strict=True))
    return {
        ACCURACY: ratio(right, len(gold)),
        MACRO_F1: ratio(sum(row["f1-score"] for row in classes.values()), len(classes)),
        WEIGHTED_F1: ratio(sum(row["f1-score"] * row["examples"] for row in classes.values()), len(gold)),
        "classes": classes,
    }


def positive_f1_scores(gold: list[Label], predicted: list[Label], positive: Iterable[str]) -> dict[str, Any]:
    """Micro-F1 over the `positive` classes; what is none of them, in gold or predicted labels, is no relation.

    With one positive class this is its F1.
    """
    positive = list(positive)
    ours = [{label} & set(positive) for label in predicted]
    theirs = [{label} & set(positive) for label in gold]
    total = micro(theirs, ours)
    return {MICRO_F1: total.pop("f1-score"), **total, "classes": class_scores(theirs, ours, positive)}


def multilabel_scores(gold: list[Label], predicted: list[Label], labels: Iterable[str]) -> dict[str, Any]:
    """Micro-F1 over the decisions of all labels and examples, the same by label, and BLUE's example-based F1.

    BLUE: precision and recall of each example, their means over the examples, the F1 of those two. BLUE's corpus has
    only examples with a label; here those without gold label are left out of that number ("examples with a label").
    """
    theirs, ours = [set(one) for one in gold], [set(one) for one in predicted]
    total = micro(theirs, ours)
    labelled = [(one, other) for one, other in zip(theirs, ours, strict=True) if one]
    precision = ratio(sum(ratio(len(one & other), len(other)) for one, other in labelled), len(labelled))
    recall = ratio(sum(len(one & other) / len(one) for one, other in labelled), len(labelled))
    return {
        MICRO_F1: total.pop("f1-score"),
        **total,
        EXAMPLE_F1: ratio(2 * precision * recall, precision + recall),
        "examples with a label": len(labelled),
        "classes": class_scores(theirs, ours, labels),
    }


def pearson_scores(gold: list[float], predicted: list[float]) -> dict[str, float]:
    """Pearson's correlation of the numbers and the mean squared error; 0 if all of one side are the same."""
    x, y = np.array(gold, dtype=float), np.array(predicted, dtype=float)
    error = float(np.mean((x - y) ** 2))
    x, y = x - x.mean(), y - y.mean()
    length = float(np.sqrt((x @ x) * (y @ y)))
    return {PEARSON: ratio(float(x @ y), length), "mean squared error": error}
