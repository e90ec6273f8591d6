"""Sentences as BLURB cut them: by hand, and against BLURB's own examples where they are there."""

import re
from collections import defaultdict

import pytest

from finetuning.chemprot_sentences import sentences
from tests.finetuning.text_samples import unpack

KEY = 12  # characters by which sentences are looked up
PLACEHOLDERS = re.compile(r"@CHEMICAL\$|@GENE\$|@CHEM-GENE\$")


@pytest.mark.parametrize(
    "text",
    [
        "One fell.|It rose (p<0.05).|Why?|[Both] fell!",
        "E. coli at 37 degrees C. The wild type died.",  # a letter of an abbreviation never ends a sentence
        "It bound phospholipase A.|Protein fell.",  # another letter does, before a word
        "By J. Biol.|5.|The end.",  # unless what follows looks like an initial
        "Given i.v.|Then p.o.|(e.g.|twice), vs. control.",  # as Punkt's English model has it
        'So "it fell."|Then it rose.',
        "Up 2. fold, 3.|Two.",
        "(see below.)|Now (100 mg/kg, i.p.|), then.",
        "mean of the U.S. Food agency.|Done",
        "Ten mg.|However it fell, mg. by mg. of it.",
    ],
)
def test_by_hand(text):
    whole = text.replace("|", " ")
    assert [whole[start:end] for start, end in sentences(whole)] == text.split("|")


def test_title_and_abstract_are_apart_and_blanks_are_no_part():
    text = "A title without a stop\tOne.  Two. "
    assert [text[start:end] for start, end in sentences(text)] == ["A title without a stop", "One.", "Two."]
    assert sentences("") == []


def test_all_of_a_text_is_in_a_sentence():
    text = "A. B. c (d). e.g. f? 3.5 mg.) i.p.), g; h.\tI. J. K.L. 5. m."
    spans = sentences(text)
    assert "".join(text[start:end] for start, end in spans).replace(" ", "") == re.sub(r"\s", "", text)
    assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:], strict=False))


@pytest.mark.slow
@pytest.mark.parametrize(("split", "name"), [("training", "train"), ("development", "dev")])
def test_every_example_of_blurb_is_one_of_our_sentences(tmp_path, split, name):
    original = unpack("re/chemprot_original_partial.tar.xz", tmp_path / "original")
    endings, beginnings, everything = defaultdict(list), defaultdict(list), []
    for line in (original / f"chemprot_{split}_abstracts.tsv").read_text(encoding="utf-8").split("\n"):
        text = line.partition("\t")[2]
        for start, end in sentences(text):
            sentence = text[start:end]
            everything.append(sentence)
            endings[sentence[-KEY:]].append(sentence)
            beginnings[sentence[:KEY]].append(sentence)
    lines = (unpack("re/chemprot_blurb_scifive.tar.xz", tmp_path / "blurb") / f"{name}_blurb.tsv").read_text()
    texts = {line.rpartition("\t")[0] for line in lines.split("\n") if line}
    absent = []
    for text in texts:
        parts = PLACEHOLDERS.split(text)
        pattern = re.compile(".+?".join(map(re.escape, parts)), re.DOTALL)
        candidates = everything
        if len(parts[-1]) >= KEY:
            candidates = endings[parts[-1][-KEY:]]
        elif len(parts[0]) >= KEY:
            candidates = beginnings[parts[0][:KEY]]
        if not any(
            one.startswith(parts[0]) and one.endswith(parts[-1]) and pattern.fullmatch(one) for one in candidates
        ):
            absent.append(text)
    assert len(texts) == {"train": 17858, "dev": 11190}[name]
    assert absent == []
