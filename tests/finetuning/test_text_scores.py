"""Scores against scikit-learn and scipy on random predictions, and worked by hand."""

import random

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from finetuning.text_scores import accuracy_scores, multilabel_scores, pearson_scores, positive_f1_scores


def draws(seed, names, size=40):
    """Gold labels and predictions of which about half are right; some names may not occur."""
    chance = random.Random(seed)
    gold = [chance.choice(names) for _ in range(size)]
    return gold, [one if chance.random() < 0.5 else chance.choice(names) for one in gold]


@pytest.mark.parametrize("seed", range(20))
def test_accuracy_and_averaged_f1_equal_scikit_learn(seed):
    gold, ours = draws(seed, ["yes", "no", "maybe", "never"], size=6 + seed)
    scores = accuracy_scores(gold, ours)
    assert scores["accuracy"] == pytest.approx(accuracy_score(gold, ours))
    assert scores["macro-F1"] == pytest.approx(f1_score(gold, ours, average="macro", zero_division=0))
    assert scores["weighted F1"] == pytest.approx(f1_score(gold, ours, average="weighted", zero_division=0))
    names = sorted(scores["classes"])
    columns = precision_recall_fscore_support(gold, ours, labels=names, zero_division=0)
    for name, *row in zip(names, *columns, strict=True):
        assert list(scores["classes"][name].values()) == pytest.approx(row)


@pytest.mark.parametrize("seed", range(20))
def test_positive_f1_equals_scikit_learn(seed):
    names = ["CPR:3", "CPR:4", "CPR:9", "false"]
    gold, ours = draws(seed, names)
    scores = positive_f1_scores(gold, ours, names[:3])
    theirs = precision_recall_fscore_support(gold, ours, labels=names[:3], average="micro", zero_division=0)
    assert [scores["precision"], scores["recall"], scores["micro-F1"]] == pytest.approx(theirs[:3])
    binary = positive_f1_scores(gold, ours, ["CPR:3"])["micro-F1"]
    assert binary == pytest.approx(f1_score([g == "CPR:3" for g in gold], [o == "CPR:3" for o in ours]))


def test_negatives_do_not_count():
    assert positive_f1_scores(["false"] * 5, ["false"] * 5, ["a"])["micro-F1"] == 0.0
    scores = positive_f1_scores(["a", "a", "b", "false"], ["a", "b", "false", "a"], ["a", "b"])
    assert (scores["precision"], scores["recall"]) == (1 / 3, 1 / 3)


@pytest.mark.parametrize("seed", range(20))
def test_several_labels_equal_scikit_learn_and_blue(seed):
    chance = random.Random(seed)
    names = ["a", "b", "c", "d"]
    gold = [tuple(name for name in names if chance.random() < 0.4) for _ in range(30)]
    ours = [tuple(name for name in names if (name in one) ^ (chance.random() < 0.2)) for one in gold]
    scores = multilabel_scores(gold, ours, names)
    matrices = [np.array([[name in one for name in names] for one in part]) for part in (gold, ours)]
    assert scores["micro-F1"] == pytest.approx(f1_score(*matrices, average="micro", zero_division=0))
    assert [row["f1-score"] for row in scores["classes"].values()] == pytest.approx(
        f1_score(*matrices, average=None, zero_division=0)
    )
    # BLUE's evaluation (get_p_r_f_arrary), written apart: sets of columns, example by example
    precisions, recalls = [], []
    for theirs, mine in zip(*matrices, strict=True):
        right, wanted, found = int((theirs & mine).sum()), int(theirs.sum()), int(mine.sum())
        if not wanted:
            continue
        precisions.append(right / found if found else 0)
        recalls.append(right / wanted)
    p, r = np.mean(precisions), np.mean(recalls)
    assert scores["example-based F1"] == pytest.approx(2 * p * r / (p + r))
    assert scores["examples with a label"] == len(recalls)


def test_several_labels_by_hand():
    gold = [("a", "b"), ("a",), ()]
    ours = [("a",), ("a", "c"), ("b",)]
    scores = multilabel_scores(gold, ours, ["a", "b", "c"])
    assert scores["micro-F1"] == pytest.approx(2 * 2 / (4 + 3))  # 2 right of 4 predicted and 3 gold
    # examples with a label: precision 1 and 1/2, recall 1/2 and 1
    assert scores["example-based F1"] == pytest.approx(0.75)
    assert scores["classes"]["c"] == {"precision": 0.0, "recall": 0.0, "f1-score": 0.0, "examples": 0}


@pytest.mark.parametrize("seed", range(5))
def test_pearson_equals_scipy(seed):
    chance = np.random.default_rng(seed)
    gold = chance.uniform(0, 5, 20)
    ours = gold + chance.normal(0, 2, 20)
    scores = pearson_scores(list(gold), list(ours))
    assert scores["Pearson"] == pytest.approx(pearsonr(gold, ours)[0])
    assert scores["mean squared error"] == pytest.approx(np.mean((gold - ours) ** 2))
    assert pearson_scores(list(gold), list(-gold))["Pearson"] == pytest.approx(-1)
    assert pearson_scores(list(gold), [2.0] * 20)["Pearson"] == 0.0
