"""How a sentence is shown: placeholders, markers, overlap; the characters of arguments and start markers."""

import random
from pathlib import Path

import pytest

from finetuning.relation_files import Marks, Relation, RelationFile
from finetuning.relation_inputs import MARKERS, Distribution, as_one, make_examples, pair_sizes, render, together

GENES = Marks("@CHEMICAL$", "@GENE$", "@CHEM-GENE$")
TEXT = "renin fell with naloxone."
RELATION = Relation(TEXT, "CPR:4", ((16, 24), (0, 5)), "1.T1.T2")


def cut(text, spans):
    return [text[start:end] for start, end in spans]


def distribution(relations, form="raw"):
    file = RelationFile(Path("train.tsv"), "", relations, form)
    return Distribution("x", [{"train": file}], {}, {"false": "false", "CPR:4": "CPR:4"}, "false", GENES), file


@pytest.mark.parametrize(
    ("style", "shown", "starts", "inner"),
    [
        ("raw", TEXT, ["naloxone", "renin"], ["naloxone", "renin"]),
        ("anonymised", "@GENE$ fell with @CHEMICAL$.", ["@CHEMICAL$", "@GENE$"], ["@CHEMICAL$", "@GENE$"]),
        ("marker", "[E2] renin [/E2] fell with [E1] naloxone [/E1].", ["[E1]", "[E2]"], ["naloxone", "renin"]),
    ],
)
def test_two_mentions(style, shown, starts, inner):
    text, first, second = render(RELATION, style, GENES, MARKERS)
    assert text == shown
    assert (cut(text, first), cut(text, second)) == (starts, inner)


@pytest.mark.parametrize(
    ("style", "shown", "start"),
    [
        ("raw", "the renin inhibitor fell", "renin inhibitor"),
        ("anonymised", "the @CHEM-GENE$ fell", "@CHEM-GENE$"),
        ("marker", "the [E1-E2] renin inhibitor [/E1-E2] fell", "[E1-E2]"),
    ],
)
def test_overlapping_mentions_are_one(style, shown, start):
    relation = Relation("the renin inhibitor fell", "false", as_one((4, 19), (4, 9)))
    text, starts, inner = render(relation, style, GENES, MARKERS)
    assert text == shown
    assert cut(text, starts) == [start, start]
    assert inner[0] == inner[1]


def test_placeholders_that_stand_there_are_left_and_can_be_marked():
    relation = Relation("@GENE$ and @CHEMICAL$", "false", ((11, 21), (0, 6)))
    assert render(relation, "anonymised", None, MARKERS)[0] == "@GENE$ and @CHEMICAL$"
    text, starts, inner = render(relation, "marker", None, MARKERS)
    assert text == "[E2] @GENE$ [/E2] and [E1] @CHEMICAL$ [/E1]"
    assert (cut(text, starts), cut(text, inner)) == (["[E1]", "[E2]"], ["@CHEMICAL$", "@GENE$"])


def test_rendering_is_undone_by_replacing_back():
    """Random spans: putting the mentions back for the placeholders, or taking the markers out, gives the text."""
    chance = random.Random(5)
    for _ in range(200):
        text = "".join(chance.choice("ab c") for _ in range(chance.randint(4, 30)))
        a, b, c, d = sorted(chance.sample(range(len(text) + 1), 4)) if len(text) > 3 else (0, 1, 2, 3)
        first, second = ((a, b), (c, d)) if chance.random() < 0.5 else ((c, d), (a, b))
        relation = Relation(text, "false", (first, second))
        marked = render(relation, "marker", GENES, MARKERS)[0]
        for i in range(4):
            marked = marked.replace(f"{MARKERS[i]} " if i % 2 == 0 else f" {MARKERS[i]}", "")
        assert marked == text
        shown = render(relation, "anonymised", GENES, MARKERS)[0]
        back = shown.replace("@CHEMICAL$", text[slice(*first)]).replace("@GENE$", text[slice(*second)])
        assert back == text


@pytest.mark.parametrize(
    ("first", "second", "shares", "touches"),
    [((0, 5), (4, 8), True, True), ((4, 8), (0, 4), False, True), ((0, 3), (4, 8), False, False),
     ((0, 9), (3, 4), True, True), ((3, 4), (0, 9), True, True)],
)  # fmt: skip
def test_what_overlap_is(first, second, shares, touches):
    assert together(first, second, touching=False) is shares
    assert together(first, second, touching=True) is touches


def test_heads_look_at_their_arguments():
    data, file = distribution([RELATION])
    for style, head, expected in (
        ("marker", "marker", ["[E1]", "[E2]"]),
        ("marker", "mention", ["naloxone", "renin"]),
        ("anonymised", "marker", ["@CHEMICAL$", "@GENE$"]),
        ("raw", "mention", ["naloxone", "renin"]),
        ("raw", "cls", ["naloxone", "renin"]),
    ):
        (example,) = make_examples(file, data, style, head)
        assert cut(example.text_a, example.arguments) == expected
        assert (example.label, example.index) == ("CPR:4", "1.T1.T2")


def test_what_cannot_be_shown_is_refused():
    data, file = distribution([Relation("@GENE$ and @CHEMICAL$", "false", ((11, 21), (0, 6)))], "anonymised")
    with pytest.raises(ValueError, match="--input raw: train.tsv has placeholders instead of the mentions"):
        make_examples(file, data, "raw", "cls")
    data, file = distribution([RELATION])
    with pytest.raises(ValueError, match="--head marker: raw text has no markers"):
        make_examples(file, data, "raw", "marker")
    data, file = distribution([Relation("nothing", "false", None, "7")], "anonymised")
    assert make_examples(file, data, "anonymised", "cls")[0].arguments is None
    for style, head in (("anonymised", "marker"), ("marker", "cls")):
        with pytest.raises(ValueError, match="row 7 .'nothing'. shows no argument by @CHEMICAL. @GENE. @CHEM-GENE."):
            make_examples(file, data, style, head)


def test_sizes_and_classes():
    data, file = distribution([RELATION, Relation("x", "false", None)])
    assert pair_sizes({"train": file, "test": file}, "false") == {"pairs": (2, 2), "positive pairs": (1, 1)}
    assert data.classes() == ["false", "CPR:4"]
