"""Variants known by their sizes; other sizes are refused with both counts, or marked."""

from dataclasses import replace
from pathlib import Path

import pytest

from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant, check_split, recognise

BLUE = Variant("X (BLUE)", {"examples": (10, 2, 3), "CPR:3": (1, 1, 1)}, published=(("BERT", 70.0, "a paper"),))
BLURB = Variant("X (BLURB)", {"examples": (9, 2, 3), "CPR:3": (1, 1, 1)})
BENCHMARK = Benchmark("X", (BLUE, BLURB), FinetuneConfig(), prepare=None, score_file=None)
ODD = {"examples": (1000, 2, 3), "CPR:3": (1, 1, 1)}


def test_published_sizes_are_known_whatever_the_flag(tmp_path):
    for nonstandard in (False, True):
        assert recognise(BENCHMARK, dict(BLUE.sizes), tmp_path, nonstandard) is BLUE
        assert recognise(BENCHMARK, dict(BLURB.sizes), tmp_path, nonstandard) is BLURB


def test_other_sizes_are_refused_with_what_was_expected_and_found(tmp_path):
    with pytest.raises(ValueError) as error:
        recognise(BENCHMARK, ODD, tmp_path, False)
    message = str(error.value)
    assert message.startswith(f"{tmp_path} is not a published split of X: expected (train / dev / test) X (BLUE) has ")
    assert "X (BLURB) has 9 / 2 / 3 examples, 1 / 1 / 1 CPR:3; found 1,000 / 2 / 3 examples, 1 / 1 / 1 CPR:3" in message
    assert message.endswith("add --nonstandard-split to score these as a split of their own")


def test_nonstandard_variants_carry_the_mark_and_no_published_scores(tmp_path):
    found = recognise(BENCHMARK, ODD, tmp_path, True)
    assert (found.name, found.standard, found.published) == ("X", False, ())
    assert recognise(BENCHMARK, ODD, tmp_path, True, "X odd").name == "X odd"
    only = replace(BENCHMARK, variants=(BLUE,))
    assert recognise(only, ODD, tmp_path, True) == Variant("X (BLUE)", ODD, standard=False)


def test_a_label_that_no_variant_has_is_another_benchmark(tmp_path):
    with pytest.raises(ValueError, match="has CPR:99; X has only CPR:3, examples"):
        recognise(BENCHMARK, {**ODD, "CPR:99": (1, 0, 0)}, tmp_path, True)


def test_a_benchmark_without_variants_takes_any_sizes(tmp_path):
    found = recognise(replace(BENCHMARK, variants=()), ODD, tmp_path, False)
    assert (found.name, found.standard) == ("X", False)


def test_one_size_each_needs_no_order(tmp_path):
    folds = Benchmark("F", (Variant("F", {"examples": (355,)}),), FinetuneConfig(), None, None)
    with pytest.raises(ValueError, match="expected F has 355 examples; found 354 examples"):
        recognise(folds, {"examples": (354,)}, tmp_path, False)


PAIRED = Benchmark(
    "Pairs",
    (
        Variant("one", {"pairs": (10, 5, 6), "positive pairs": (3, 2, 1)}),
        Variant("other", {"positive pairs": (4, 2, 2), "pairs in dev": (7,)}),
        Variant("without dev", {"pairs": (15, 9)}),
    ),
    FinetuneConfig(),
    prepare=None,
    score_file=None,
)


@pytest.mark.parametrize(
    ("split", "pairs", "positive"),
    [("test", 6, 1), ("train", 10, 3), ("dev", 5, 2), ("test", 100, 2), ("test", 9, 5), ("train", 15, 5)],
)
def test_a_published_split_alone_is_known(split, pairs, positive):
    check_split(PAIRED, split, {"pairs": pairs, "positive pairs": positive}, Path("f"), nonstandard=False)


def test_another_split_alone_is_refused_unless_told():
    found = {"pairs": 6, "positive pairs": 5}
    with pytest.raises(
        ValueError,
        match="f is no published test split of Pairs: expected 6 pairs and 1 positive pairs, or 2 positive "
        "pairs, or 9 pairs; found 6 pairs and 5 positive pairs; .* --nonstandard-split",
    ):
        check_split(PAIRED, "test", found, Path("f"), nonstandard=False)
    check_split(PAIRED, "test", found, Path("f"), nonstandard=True)
    check_split(replace(PAIRED, variants=()), "test", found, Path("f"), nonstandard=False)
