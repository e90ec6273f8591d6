"""Permutation tests: values worked by hand, scipy's on random scores, and what --compare prints."""

import math

import numpy as np
import pytest
from scipy.stats import permutation_test

from finetuning import significance, table
from finetuning.significance import label_permutations, sign_flips
from tests.finetuning.result_samples import results, seeded, write_all


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([0.1], 1.0),  # + and -: both as far from 0
        ([0.1, 0.2, 0.3], 2 / 8),  # only +++ and --- reach 0.6
        ([0.1, 0.2, -0.3], 1.0),  # the sum is 0: every flip is as far
        ([0.1, 0.2, 0.3, -0.1], 6 / 16),  # |sum| >= 0.5 of 0.7, 0.5, 0.5 and their negatives
        ([0.0, 0.0, 0.0], 1.0),
        ([-0.01] * 6, 2 / 64),
    ],
)
def test_sign_flips_by_hand(differences, p):
    found = sign_flips(differences)
    assert found.p == pytest.approx(p, abs=1e-15)
    assert found.smallest == 2 / 2 ** len(differences)
    assert found.test == f"sign flips, all {2 ** len(differences)}"


@pytest.mark.parametrize(
    ("one", "other", "p", "number"),
    [
        ([1.0], [0.0], 1.0, 2),
        ([3.0, 4.0], [1.0, 2.0], 2 / 6, 6),  # of the pairs only {3, 4} has the largest sum
        ([4.0], [1.0, 2.0, 3.0], 2 / 4, 4),
        ([1.0, 2.0, 3.0], [4.0], 2 / 4, 4),
        ([2.0, 4.0], [1.0, 3.0], 4 / 6, 6),  # {3, 4} and {2, 4} reach 6
        ([0.5, 0.5], [0.5, 0.5, 0.5], 1.0, 10),
    ],
)
def test_label_permutations_by_hand(one, other, p, number):
    found = label_permutations(one, other)
    assert found.p == pytest.approx(p, abs=1e-15)
    assert found.smallest == min(1.0, 2 / number)
    assert found.test == f"label permutations, all {number}"


def difference(one, other, axis):
    """The difference of means times both sizes, for scipy: exact in halves, quarters ..., so that its ties are too."""
    return np.sum(one, axis=axis) * other.shape[axis] - np.sum(other, axis=axis) * one.shape[axis]


@pytest.mark.parametrize("seed", range(12))
def test_as_scipy(seed):
    draw = np.random.default_rng(seed)
    sizes = draw.integers(2, 8, 2)
    one, other = (draw.integers(low, low + 8, size) / 64 for low, size in zip((42, 40), sizes, strict=True))
    expected = permutation_test((one, other), difference, vectorized=True, n_resamples=10**6)
    assert label_permutations(list(one), list(other)).p == pytest.approx(expected.pvalue, abs=1e-12)

    pairs = draw.integers((42, 40), 50, (int(sizes[0]), 2)).T / 64
    expected = permutation_test(
        tuple(pairs), difference, permutation_type="samples", vectorized=True, n_resamples=10**6
    )
    assert sign_flips(list(pairs[0] - pairs[1])).p == pytest.approx(expected.pvalue, abs=1e-12)


def test_twenty_pairs_are_exact_and_more_are_sampled():
    values = list(np.random.default_rng(1).normal(0.1, 1, 20))
    exact = sign_flips(values)
    assert exact.test == "sign flips, all 1,048,576"
    # With a difference of 0 more every sum is there twice: the same p, now from the sample.
    sampled = sign_flips([*values, 0.0])
    assert sampled.test == "sign flips, 100,000 sampled" and sampled == sign_flips([*values, 0.0])  # seeded
    error = math.sqrt(exact.p * (1 - exact.p) / 100_000)
    assert 0.02 < exact.p < 0.5 and abs(sampled.p - exact.p) < 6 * error
    assert sign_flips([0.01] * 30).p == sign_flips([0.01] * 30).smallest == 2 / 100_001


def test_many_labels_are_sampled(monkeypatch):
    draw = np.random.default_rng(3)
    one, other = list(draw.normal(1.4, 1, 9)), list(draw.normal(0, 1, 7))
    exact = label_permutations(one, other)
    assert exact.test == "label permutations, all 11,440"
    many = label_permutations(one * 2, other * 2)
    assert many.test == "label permutations, 100,000 sampled" and many == label_permutations(one * 2, other * 2)
    monkeypatch.setattr(significance, "MOST_EXACT", 11_439)
    monkeypatch.setattr(significance, "SAMPLES", 11_000)
    sampled = label_permutations(one, other)
    assert sampled.test == "label permutations, 11,000 sampled" and sampled.smallest == 2 / 11_001
    assert 0.02 < exact.p < 0.9 and abs(sampled.p - exact.p) < 6 * 2 * math.sqrt(exact.p / 2 / 11_000)


def test_compare_prints_paired_and_unpaired_rows(tmp_path, capsys):
    contents = [
        seeded("BC2GM", "ours", [0.84, 0.85, 0.86]),
        seeded("BC2GM", "base", [0.83, 0.83, 0.83]),
        seeded("DDI (BLURB)", "ours", [0.80, None]),
        seeded("DDI (BLURB)", "base", [0.82, 0.81]),
        seeded("BIOSSES", "ours", [None, None]),
        seeded("BIOSSES", "base", [0.9, 0.9]),
        seeded("HoC (BLURB)", "ours", [0.8]),
        seeded("HoC (BLURB)", "third", [0.8]),
    ]
    write_all(tmp_path, contents)
    table.main([str(tmp_path), "--compare", "ours", "base"])
    printed = capsys.readouterr().out
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| ")][2:]
    f1 = "(entity-level F1)"
    assert rows == [
        [f"BC2GM {f1}", "85.00", "83.00", "+2.00", "3 pairs", "sign flips, all 8", "0.25", "0.25"],
        [
            f"BIOSSES {f1}",
            "–",
            "90.00",
            "–",
            "0 and 2 (2 and 0 failed)",
            "none: every run of a model failed",
            "–",
            "–",
        ],
        [
            f"DDI (BLURB) {f1}",
            "80.00",
            "81.50",
            "-1.50",
            "1 and 2 (1 and 0 failed)",
            "label permutations, all 3",
            "0.6667",
            "0.6667",
        ],
    ]
    assert printed.startswith("A is ours, B is base;")
    assert "With fewer than 6 paired seeds no p-value can be below 0.05" in printed
    assert printed.endswith(f"Not compared, for only ours has them: HoC (BLURB) {f1}.\n")


def test_pairs_are_by_seed_not_by_place():
    one, other = {0: 0.8, 1: 0.9, 2: 0.7}, {2: 0.6, 0: 0.7, 1: 0.8}
    assert significance.compare_scores(one, other).p == 0.25  # each seed's difference is 0.1
    assert significance.compare_scores(one, {3: 0.7, 0: 0.8, 1: 0.9}).test.startswith("label")


def test_other_data_of_the_same_name_is_not_compared(tmp_path):
    for name, checksum in (("a", "0" * 64), ("b", "1" * 64)):
        split = {"train": {"sentences": 20}, "test": {"sentences": 10, "sha256": checksum}}
        write_all(tmp_path / name, [seeded("BC2GM", name, [0.5], nonstandard_split=True, split=split)])
    with pytest.raises(SystemExit, match="error: --compare: 'a' and 'b' have no benchmark variant in common"):
        table.main([str(tmp_path), "--compare", "a", "b"])


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (("ours", "nobody"), "error: --compare: there is no model 'nobody' in these folders, only base, ours"),
        (("ours", "ours"), "error: --compare: 'ours' twice: give two models"),
        (("ours", "base"), "error: the results of ours on BC2GM have no scores of single seeds"),
    ],
)
def test_mistakes_end_in_one_sentence(tmp_path, models, message):
    write_all(tmp_path, [results("BC2GM", name, 0.9) for name in ("ours", "base")])
    with pytest.raises(SystemExit, match=message):
        table.main([str(tmp_path), "--compare", *models])
