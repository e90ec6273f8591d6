"""Predictions as files: the three formats are written, known by their first line, and read back."""

from functools import partial

import pytest

from finetuning.relation_files import Relation
from finetuning.relation_predictions import (
    biocreative_lines,
    in_order,
    read_predictions,
    semeval_lines,
    table_lines,
)
from finetuning.text_inputs import Example
from tests.finetuning.relation_samples import write

SPELLINGS = {"false": "false", "0": "false", "CPR:3": "CPR:3", "CPR:4": "CPR:4", "effect": "effect"}


def examples(*indices):
    return [Example("text", "false", index=index) for index in indices]


def relations(*indices):
    return [Relation("text", "false", None, index) for index in indices]


def read(tmp_path, text):
    return read_predictions(write(tmp_path, {"p.tsv": text}) / "p.tsv", SPELLINGS, "false")


@pytest.mark.parametrize(
    ("kind", "indices", "labels", "lines"),
    [
        ("table", ["7", "8"], ["CPR:3", "false"], ["index\tlabel", "7\tCPR:3", "8\tfalse"]),
        ("semeval", ["s|s.e0|s.e1", "s|s.e0|s.e2"], ["effect", "false"],
         ["s|s.e0|s.e1|1|effect", "s|s.e0|s.e2|0|null"]),
        ("biocreative", ["7.T1.T2", "7.T1.T3"], ["CPR:4", "false"], ["7\tCPR:4\tArg1:T1\tArg2:T2"]),
    ],
)  # fmt: skip
def test_written_and_read_back(tmp_path, kind, indices, labels, lines):
    lines_of = {
        "table": table_lines,
        "semeval": partial(semeval_lines, negative="false"),
        "biocreative": partial(biocreative_lines, negative="false"),
    }
    written = lines_of[kind](examples(*indices), labels)
    assert written == lines
    found, predictions = read(tmp_path, "\n".join(written) + "\n")
    assert found == kind
    assert in_order(relations(*indices), found, predictions, "false", "p.tsv") == (labels, 0)


def test_any_order_and_any_spelling(tmp_path):
    kind, predictions = read(tmp_path, "8\t0\n7\tCPR:3\n")
    assert in_order(relations("7", "8"), kind, predictions, "false", "p") == (["CPR:3", "false"], 0)
    kind, predictions = read(tmp_path, "s|s.e2|s.e0|1|effect\n")
    assert in_order(relations("s|s.e0|s.e2"), kind, predictions, "false", "p") == (["effect"], 0)


def test_a_pair_on_several_rows(tmp_path):
    """Its labels go to the rows in turn; one label is for all of them."""
    kind, predictions = read(tmp_path, "7\tCPR:3\n7\tCPR:4\n8\tCPR:3\n")
    rows = relations("7", "7", "8", "8")
    assert in_order(rows, kind, predictions, "false", "p") == (["CPR:3", "CPR:4", "CPR:3", "CPR:3"], 0)


def test_biocreative_names_only_relations(tmp_path):
    kind, predictions = read(tmp_path, "7\tCPR:4\tArg1:T1\tArg2:T9\n")
    assert in_order(relations("7.T1.T2"), kind, predictions, "false", "p") == (["false"], 1)
    assert read(tmp_path, "") == ("biocreative", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7\tCPR:3\n8 false\n", "p.tsv line 2 is '8 false': expected the table format of the lines before"),
        ("7\tCPR:3\n8\tCPR:10\n", "p.tsv line 2 has the label 'CPR:10': expected false, 0, CPR:3"),
        ("7\tCPR:3\tArg1:T1\tArg2:T2\n7\tCPR:3\tT1\tT2\n", "p.tsv line 2 is"),
        ("s|a|b|2|effect\n", "p.tsv line 1 is 's|a|b|2|effect': expected the semeval format"),
    ],
)
def test_broken_lines_are_named(tmp_path, text, message):
    with pytest.raises(ValueError) as refused:
        read(tmp_path, text)
    assert message in str(refused.value)


def test_absent_and_strange_pairs_are_refused(tmp_path):
    kind, predictions = read(tmp_path, "7\tCPR:3\n9\tCPR:3\n")
    with pytest.raises(ValueError, match="p.tsv has no prediction for 8: each pair of the file needs one"):
        in_order(relations("7", "8"), kind, predictions, "false", "p.tsv")
    with pytest.raises(ValueError, match="p.tsv has a prediction for 9, which is no pair of the test file"):
        in_order(relations("7"), kind, predictions, "false", "p.tsv")
