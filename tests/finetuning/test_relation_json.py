"""SciBERT's lines: arguments in brackets, in either order; the text comes back exactly; broken lines are named."""

import json

import pytest

from finetuning.relation_json import read_json_lines, unmark
from tests.finetuning.relation_samples import scibert, write

CLASSES = {name: name for name in ("INHIBITOR", "SUBSTRATE", "AGONIST")}


def test_arguments_in_the_order_of_their_roles(tmp_path):
    file = read_json_lines(write(tmp_path, {"train.txt": scibert()}) / "train.txt", CLASSES)
    assert file.form == "raw"
    assert [one.text for one in file.relations][1] == "renin was seen with high lithium carbonate (<5)"
    shown = [[one.text[start:end] for start, end in one.arguments] for one in file.relations]
    assert shown == [["naloxone", "renin"], ["lithium carbonate", "renin"], ["cocaine", "renin"]]


@pytest.mark.parametrize("text", ["[[ a ]] and [[ b ]]", "<< a >> b", "a", "[[ a >> and << b ]]", "[[a]] << b >>"])
def test_texts_without_both_pairs_of_brackets(text):
    assert unmark(text) is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not a JSON object with"),
        ("[]", "line 2 is not a JSON object with"),
        ('{"text": "a"}', "line 2 is not a JSON object with"),
        ('{"text": ["[[ a ]] << b >>"], "label": "AGONIST"}', "line 2 is not a JSON object with texts"),
        ('{"text": "[[ a ]] << b >>", "label": ["AGONIST"]}', "line 2 is not a JSON object with texts"),
        (json.dumps({"text": "[[ a ]] << b >>", "label": "X"}), "line 2 has the label 'X': expected one of INHIBITOR"),
        (json.dumps({"text": "[[ a ]]", "label": "AGONIST"}), "line 2 has not one << ... >> and one [[ ... ]]"),
    ],
)
def test_broken_lines_are_named(tmp_path, line, message):
    first = scibert().split("\n")[0]
    path = write(tmp_path, {"train.txt": f"{first}\n{line}\n"}) / "train.txt"
    with pytest.raises(ValueError) as refused:
        read_json_lines(path, CLASSES)
    assert message in str(refused.value)


def test_an_empty_file(tmp_path):
    with pytest.raises(ValueError, match="train.txt is empty"):
        read_json_lines(write(tmp_path, {"train.txt": "\n"}) / "train.txt", CLASSES)
