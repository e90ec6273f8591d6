"""Metrics of replaced token detection from sums that add up over micro-batches, steps and ranks.

Steps: (1) every micro-batch yields sums (objectives.py), among them a histogram of discriminator logits for
original and replaced word pieces; (2) `add_sums` and one all-reduce (engine.py) add them up; (3) `summarize` turns
them into the numbers of a log line. Nothing is read from the device in between.

Accuracy has a floor near 94 % (all "original"), so it is given as points above that floor, beside AUC, precision,
recall.
"""

import numpy as np
import torch

HISTOGRAM_BINS = 2048  # bin edges lie on logit 0, so that precision and recall are exact
HISTOGRAM_LIMIT = 16.0  # logits beyond +-16 fall into the outer bins; a probability there is within 2e-7 of 0 or 1


def logit_histogram(logits: torch.Tensor, replaced: torch.Tensor) -> torch.Tensor:
    """Counts of logits [T] by bin, for original (row 0) and replaced (row 1) word pieces: float64 [2, bins]."""
    scaled = logits.float() * (HISTOGRAM_BINS / (2 * HISTOGRAM_LIMIT))
    # floor before the shift: -1e-9 + 1 would round to 1 and count as positive.
    bins = (scaled.nan_to_num(0).floor() + HISTOGRAM_BINS // 2).clamp(0, HISTOGRAM_BINS - 1).long()
    bins = bins + replaced.long() * HISTOGRAM_BINS
    # Not bincount, which on a GPU waits for the whole queue, twice: it looks for the lowest and the highest bin.
    counts = torch.zeros(2 * HISTOGRAM_BINS, dtype=torch.int64, device=bins.device)
    return counts.scatter_add_(0, bins, torch.ones_like(bins)).view(2, HISTOGRAM_BINS).double()


def add_sums(total: dict[str, torch.Tensor] | None, more: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Sum of two dictionaries of sums; None is nothing yet."""
    return more if total is None else {name: total[name] + value for name, value in more.items()}


def area_under_curve(histogram: np.ndarray) -> float:
    """Probability that a replaced word piece has the higher logit, ties counted half; NaN where one class is
    missing.
    """
    originals, replaced = histogram
    if not originals.sum() or not replaced.sum():
        return float("nan")
    below = np.cumsum(originals) - originals / 2
    return float((replaced * below).sum() / (originals.sum() * replaced.sum()))


def ratio(numerator: float, denominator: float) -> float:
    """Their quotient, or NaN where there is nothing to divide by."""
    return float(numerator / denominator) if denominator else float("nan")


def summarize(sums: dict[str, torch.Tensor], loss_weights: tuple[float, float]) -> dict[str, float]:
    """Numbers for people. Losses are means per masked position (generator) and per word piece (discriminator), in nats;
    `loss` is their weighted sum, with loss_weights (generator, discriminator); shares are between 0 and 1."""
    values = {name: value.cpu().numpy() for name, value in sums.items()}
    result = {
        "generator_loss": ratio(values["generator_loss"], values["masked"]),
        "generator_accuracy": ratio(values["generator_correct"], values["masked"]),
    }
    if "histogram" not in values:
        return {"loss": result["generator_loss"], **result}
    histogram = values["histogram"]
    originals, replaced = histogram.sum(axis=1)
    false_positives, true_positives = histogram[:, HISTOGRAM_BINS // 2 :].sum(axis=1)
    accuracy = ratio(originals - false_positives + true_positives, originals + replaced)
    discriminator_loss = ratio(values["discriminator_loss"], values["tokens"])
    return {
        "loss": loss_weights[0] * result["generator_loss"] + loss_weights[1] * discriminator_loss,
        **result,
        "discriminator_loss": discriminator_loss,
        "discriminator_auc": area_under_curve(histogram),
        "discriminator_precision": ratio(true_positives, true_positives + false_positives),
        "discriminator_recall": ratio(true_positives, replaced),
        "accuracy_above_majority": accuracy - ratio(max(originals, replaced), originals + replaced),
        "replaced_share": ratio(replaced, originals + replaced),
    }
