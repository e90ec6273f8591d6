"""Is one model better than another, or may the seeds explain it? Permutation tests over seeds. Nothing to run here; run

    python -m finetuning.table DIR... --compare MODEL_A MODEL_B

1. For each variant that both models have, take the test scores of the seeds that did not fail.
2. Same seeds on both sides: the sign-flip test of the differences, seed by seed. All 2^n flips of n seeds; above 20
   seeds a sample of 100,000 of them.
3. Other seeds on each side: the label permutation test, which deals all scores out anew to the two models. All ways
   if there are at most 2^20, else a sample of 100,000.

Two-sided: twice the smaller tail, at most 1, as in scipy.stats.permutation_test. In a sample the observed arrangement
counts as one more, so that p is never 0. The seeds are those of finetuning alone: nothing is said of other
pretraining runs or other test sets.
"""

import math
import statistics
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from finetuning.result_files import NOTHING, Results, markdown, model_label, one_each

MOST_PAIRS = 20
MOST_EXACT = 2**MOST_PAIRS
SAMPLES = 100_000
BLOCK = 1_000  # rows drawn at a time, which bounds the memory
# Equal means, summed in another order, differ by some 1e-16; scores that are not equal by far more than 1e-12.
TOLERANCE = 1e-12

HEADER = ("Benchmark", "A", "B", "A - B", "Seeds", "Test", "p", "Smallest p possible")
FEW = (
    "With fewer than 6 paired seeds no p-value can be below 0.05: n pairs give at least 2/2^n, which is 0.0625 for 5 "
    "and 0.03125 for 6."
)
SINGLE = (
    "Each p-value is of one benchmark, without a correction for their number; it is about finetuning seeds, not other "
    "pretraining runs."
)


class Outcome(NamedTuple):
    """What a test says: p, the smallest p that so few seeds can give, and the arrangements looked at."""

    p: float
    smallest: float
    test: str


def two_sided(null: np.ndarray, observed: float, sampled: bool) -> float:
    """Twice the smaller share of `null` at or beyond `observed`, at most 1."""
    low = int(np.count_nonzero(null <= observed + TOLERANCE)) + sampled
    high = int(np.count_nonzero(null >= observed - TOLERANCE)) + sampled
    return min(1.0, 2 * min(low, high) / (len(null) + sampled))


def outcome(null: np.ndarray, observed: float, number: int, kind: str) -> Outcome:
    """The Outcome from the statistic of each arrangement, of which `number` exist."""
    sampled = len(null) < number
    smallest = min(1.0, 2 / (SAMPLES + 1 if sampled else number))
    test = f"{kind}, {len(null):,} sampled" if sampled else f"{kind}, all {number:,}"
    return Outcome(two_sided(null, observed, sampled), smallest, test)


def sign_flips(differences: list[float]) -> Outcome:
    """Test of mean difference 0, of score pairs `differences` [n]: each sign is as likely as the other."""
    values = np.asarray(differences, dtype=float)
    if len(values) <= MOST_PAIRS:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate((sums + value, sums - value))
    else:
        draw = np.random.default_rng(0)
        blocks = [draw.choice((-1.0, 1.0), (BLOCK, len(values))) @ values for _ in range(SAMPLES // BLOCK)]
        sums = np.concatenate(blocks)
    return outcome(sums / len(values), float(values.mean()), 2 ** len(values), "sign flips")


def label_permutations(one: list[float], other: list[float]) -> Outcome:
    """Test that `one` and `other` are from one distribution, by the difference of their means."""
    if len(one) > len(other):  # two-sided: the same either way round, and fewer terms to add
        return label_permutations(other, one)
    pooled, size = np.asarray([*one, *other], dtype=float), len(one)
    number = math.comb(len(pooled), size)
    if number <= MOST_EXACT:
        sums = np.fromiter((sum(part) for part in combinations(pooled.tolist(), size)), float, number)
    else:
        draw, rows = np.random.default_rng(0), np.tile(pooled, (BLOCK, 1))
        blocks = [draw.permuted(rows, axis=1)[:, :size].sum(axis=1) for _ in range(SAMPLES // BLOCK)]
        sums = np.concatenate(blocks)
    means = sums / size - (pooled.sum() - sums) / len(other)
    return outcome(means, statistics.fmean(one) - statistics.fmean(other), number, "label permutations")


def good_scores(results: Results) -> dict[int, float]:
    """Seed -> test score (a fraction) of the runs that did not fail."""
    runs: list[dict[str, Any]] = results["seeds"]
    if any(not {"seed", "score", "failed"} <= set(run) for run in runs):
        raise ValueError(f"the results of {results['model']} on {results['variant']} have no scores of single seeds")
    return {run["seed"]: run["score"] for run in runs if not run["failed"]}


def compare_scores(one: dict[int, float], other: dict[int, float]) -> Outcome:
    """Paired if both have the same seeds, else not; neither may be empty."""
    if set(one) == set(other):
        return sign_flips([one[seed] - other[seed] for seed in sorted(one)])
    return label_permutations(list(one.values()), list(other.values()))


def seeds_text(one: Results, other: Results, scores: tuple[dict[int, float], dict[int, float]]) -> str:
    """`5 pairs`, or `5 and 4`; with the number of failed runs, if any."""
    paired = set(scores[0]) == set(scores[1])
    text = f"{len(scores[0])} pairs" if paired else f"{len(scores[0])} and {len(scores[1])}"
    return text + (f" ({one['failed']} and {other['failed']} failed)" if one["failed"] or other["failed"] else "")


def comparison_row(place: str, one: Results, other: Results) -> tuple[str, ...]:
    """The cells of one variant, in the order of HEADER."""
    scores = good_scores(one), good_scores(other)
    means = [statistics.fmean(part.values()) if part else None for part in scores]
    cells = [f"{100 * mean:.2f}" if mean is not None else NOTHING for mean in means]
    seeds = seeds_text(one, other, scores)
    if None in means:
        return (place, *cells, NOTHING, seeds, "none: every run of a model failed", NOTHING, NOTHING)
    result = compare_scores(*scores)
    difference = f"{100 * (means[0] - means[1]):+.2f}"
    return (place, *cells, difference, seeds, result.test, f"{result.p:.4g}", f"{result.smallest:.4g}")


def compare(found: list[Results], one: str, other: str) -> str:
    """Markdown of all variants that models `one` and `other` both have; ValueError if a model or all are not there."""
    models = sorted({model_label(results) for results in found})
    for model in (one, other):
        if model not in models:
            raise ValueError(f"--compare: there is no model {model!r} in these folders, only {', '.join(models)}")
    if one == other:
        raise ValueError(f"--compare: {one!r} twice: give two models")
    chosen = one_each([results for results in found if model_label(results) in (one, other)])
    places = sorted({place for _, place in chosen})
    both = [place for place in places if (one, place) in chosen and (other, place) in chosen]
    if not both:
        raise ValueError(f"--compare: {one!r} and {other!r} have no benchmark variant in common: nothing to compare")
    rows = [comparison_row(place, chosen[one, place], chosen[other, place]) for place in both]
    text = f"A is {one}, B is {other}; scores in percent.\n\n{markdown(HEADER, rows)}\n{FEW}\n{SINGLE}\n"
    for model in (one, other):
        alone = [place for place in places if place not in both and (model, place) in chosen]
        if alone:
            text += f"Not compared, for only {model} has them: {', '.join(alone)}.\n"
    return text
