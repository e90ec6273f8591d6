"""Schemes of tags: spans as conlleval reads them, conversions there and back, faults."""

import random

import pytest

from finetuning.tags import as_iob2, first_fault, iob2_tags, iob_spans, split_tag
from tests.finetuning.samples import iobes


@pytest.mark.parametrize(
    ("tags", "spans"),
    [
        ([], []),
        (["O", "O"], []),
        (["I-X", "I-X", "O"], [(0, 2, "X")]),
        (["I-X", "B-X", "I-X"], [(0, 1, "X"), (1, 3, "X")]),
        (["B-X", "I-Y", "I-Y"], [(0, 1, "X"), (1, 3, "Y")]),
        (["O", "I-X", "O", "I-X"], [(1, 2, "X"), (3, 4, "X")]),
    ],
)
def test_spans_by_hand(tags, spans):
    assert iob_spans(tags) == spans


def test_conversions_there_and_back():
    chance = random.Random(0)
    for _ in range(500):
        spans, at = [], 0
        while at < 12:
            at += chance.randint(0, 2)
            end = at + chance.randint(1, 3)
            if end > 12:
                break
            spans.append((at, end, chance.choice("XY")))
            at = end
        tags = iob2_tags(spans, 12)
        assert iob_spans(tags) == spans
        assert as_iob2(iobes(tags), "IOBES") == tags
        assert first_fault(tags, "IOB2") is None
        assert first_fault(iobes(tags), "IOBES") is None


def test_neighbours_are_one_entity_in_io():
    assert as_iob2(["I-X", "I-X", "I-Y", "O"], "IO") == ["B-X", "I-X", "B-Y", "O"]


def test_faults():
    assert first_fault(["O", "I-X"], "IOB2") == 1
    assert first_fault(["B-X", "O"], "IOBES") == 0
    assert first_fault(["B-X", "I-Y"], "IOB2") == 1
    # an entity that goes on over the ends of the sentence
    assert first_fault(["E-X", "O"], "IOBES", before="B-X") is None
    assert first_fault(["E-X", "O"], "IOBES", before="B-Y") == 0
    assert first_fault(["O", "B-X"], "IOBES", after="E-X") is None
    assert first_fault(["O", "B-X"], "IOBES", after="E-Y") == 1


def test_tags_are_known_ones():
    assert split_tag("B-cell_type") == ("B", "cell_type")
    assert split_tag("L-X") == ("E", "X")
    assert split_tag("U") == ("S", "")
    for tag in ("X-Chemical", "B-", "O-Chemical", "", "BX"):
        with pytest.raises(ValueError, match="unknown tag"):
            split_tag(tag)
