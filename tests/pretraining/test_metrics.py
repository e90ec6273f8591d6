"""Metrics from sums against scikit-learn, and that they add up."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score

from pretraining.metrics import add_sums, area_under_curve, logit_histogram, summarize

WEIGHTS = (1.0, 50.0)


def scores_and_labels(seed: int, count: int = 20_000, shift: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Discriminator logits whose classes overlap, 8 % replaced."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(count, generator=generator) < 0.08
    return torch.randn(count, generator=generator) * 2 + shift * labels - 1, labels


def sums_of(scores: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    number = torch.tensor(1.0, dtype=torch.float64)
    return {
        "generator_loss": 30 * number,
        "generator_correct": 4 * number,
        "masked": 10 * number,
        "tokens": len(scores) * number,
        "discriminator_loss": 0.2 * len(scores) * number,
        "histogram": logit_histogram(scores, labels),
    }


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.5, 3.0, 10.0])
def test_auc_equals_scikit_learn_s(shift: float) -> None:
    scores, labels = scores_and_labels(1, shift=shift)
    ours = summarize(sums_of(scores, labels), WEIGHTS)["discriminator_auc"]
    assert ours == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)


def test_auc_of_a_good_discriminator_far_from_zero() -> None:
    """Trained discriminators put originals near -8; the bins there are as fine as elsewhere."""
    scores, labels = scores_and_labels(2, shift=2.0)
    scores = scores - 8
    ours = area_under_curve(logit_histogram(scores, labels).numpy())
    assert ours == pytest.approx(roc_auc_score(labels, scores), abs=1e-3)


def test_auc_counts_ties_half() -> None:
    scores = torch.tensor([0.5, 0.5, -1.0, -1.0, 2.0, 2.0, 2.0])
    labels = torch.tensor([0, 1, 0, 0, 1, 0, 1]).bool()
    ours = area_under_curve(logit_histogram(scores, labels).numpy())
    assert ours == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    all_equal = area_under_curve(logit_histogram(torch.zeros(7), labels).numpy())
    assert all_equal == 0.5


@pytest.mark.parametrize("label", [False, True])
def test_auc_is_not_a_number_where_a_class_is_missing(label: bool) -> None:
    histogram = logit_histogram(torch.randn(10), torch.full((10,), label))
    assert math.isnan(area_under_curve(histogram.numpy()))


@pytest.mark.parametrize("seed", range(5))
def test_precision_recall_and_accuracy_equal_scikit_learn_s(seed: int) -> None:
    scores, labels = scores_and_labels(seed)
    numbers = summarize(sums_of(scores, labels), WEIGHTS)
    predicted = scores >= 0
    assert numbers["discriminator_precision"] == pytest.approx(precision_score(labels, predicted), rel=1e-12)
    assert numbers["discriminator_recall"] == pytest.approx(recall_score(labels, predicted), rel=1e-12)
    majority = 1 - labels.double().mean().item()
    expected = accuracy_score(labels, predicted) - majority
    assert numbers["accuracy_above_majority"] == pytest.approx(expected, abs=1e-12)
    assert numbers["replaced_share"] == pytest.approx(labels.double().mean().item(), rel=1e-12)


def test_the_threshold_is_exactly_zero() -> None:
    scores = torch.tensor([-1e-30, -1e-9, -1e-7, -1e-3, 0.0, 1e-30, 1e-9, 1e-3])
    for labels in (torch.ones(8, dtype=torch.bool), torch.arange(8) % 2 == 0):
        numbers = summarize(sums_of(scores, labels), WEIGHTS)
        assert numbers["discriminator_recall"] == recall_score(labels, scores >= 0)


def test_logits_beyond_the_bins_and_none_at_all_are_counted() -> None:
    scores = torch.tensor([-1e9, -16.0, 16.0, 1e9, math.inf, -math.inf])
    histogram = logit_histogram(scores, torch.zeros(6, dtype=torch.bool))
    assert histogram.sum() == 6 and histogram[0, 0] == 3 and histogram[0, -1] == 3
    assert logit_histogram(torch.tensor([math.nan]), torch.tensor([True])).sum() == 1


def test_precision_without_any_positive_is_not_a_number() -> None:
    numbers = summarize(sums_of(torch.full((10,), -3.0), torch.arange(10) < 2), WEIGHTS)
    assert math.isnan(numbers["discriminator_precision"]) and numbers["discriminator_recall"] == 0
    assert numbers["accuracy_above_majority"] == pytest.approx(0.0, abs=1e-15)


def test_losses_and_shares_are_means() -> None:
    numbers = summarize(sums_of(*scores_and_labels(0)), WEIGHTS)
    assert numbers["generator_loss"] == 3.0 and numbers["generator_accuracy"] == 0.4
    assert numbers["discriminator_loss"] == pytest.approx(0.2, rel=1e-12)
    assert numbers["loss"] == pytest.approx(3.0 + 50 * 0.2, rel=1e-12)
    assert summarize(sums_of(*scores_and_labels(0)), (2.0, 1.0))["loss"] == pytest.approx(6.2, rel=1e-12)


def test_masked_language_modelling_has_no_discriminator_numbers() -> None:
    sums = sums_of(*scores_and_labels(0))
    del sums["histogram"], sums["discriminator_loss"]
    assert summarize(sums, WEIGHTS) == {"loss": 3.0, "generator_loss": 3.0, "generator_accuracy": 0.4}


def test_sums_add_up_over_micro_batches() -> None:
    """Metrics of parts added up are those of the whole: a mean of AUCs would not be."""
    scores, labels = scores_and_labels(4)
    total = None
    for part_scores, part_labels in zip(scores.split(701), labels.split(701), strict=True):
        total = add_sums(total, sums_of(part_scores, part_labels))
    whole = sums_of(scores, labels)
    assert torch.equal(total["histogram"], whole["histogram"])
    assert summarize(total, WEIGHTS)["discriminator_auc"] == summarize(whole, WEIGHTS)["discriminator_auc"]
    parts = [
        roc_auc_score(part_labels, part) for part, part_labels in zip(scores.split(701), labels.split(701), strict=True)
    ]
    assert abs(np.mean(parts) - summarize(total, WEIGHTS)["discriminator_auc"]) > 1e-5
