"""Ready-made tables: columns, headers, line ends, labels, placeholders, folds; what is broken says where."""

import pytest

from finetuning.relation_files import (
    Marks,
    find_split,
    locate,
    read_folds,
    read_ready_made,
    read_table,
    read_tables,
    wanted_splits,
)
from tests.finetuning.relation_samples import ASSOCIATIONS, folds, write

GENES = Marks("@GENE$", "@DISEASE$", "@GENE-DISEASE$")
DRUGS = Marks("@DRUG$", "@DRUG$", "@DRUG-DRUG$")
YES_NO = {"0": "0", "1": "1"}


def table(tmp_path, text, name="train.tsv"):
    return write(tmp_path, {name: text}) / name


def test_forms_of_a_table(tmp_path):
    """A byte order mark, CRLF, quotes, blanks at the end of a sentence; a header known by its words."""
    rows, header, _ = read_table(table(tmp_path, '\ufeffindex\tsentence\tlabel\r\n7.a\t"a\u0085 "b"" \t1\r\n\r\n'))
    assert header == ("index", "sentence", "label")
    assert [(row.line, row.index, row.sentence, row.label) for row in rows] == [(2, "7.a", '"a\u0085 "b"" ', "1")]
    rows, header, _ = read_table(table(tmp_path, "sentence one\t1\nlabel\t0"))
    assert header == ()
    assert [(row.line, row.index) for row in rows] == [(1, "0"), (2, "1")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "train.tsv is empty: expected a sentence, a tab and its label on each line"),
        ("a\t1\nb\t2\t3\n", "train.tsv line 2 has 3 columns ('b\\t2\\t3'): expected 2, divided by tabs"),
        ("a,1\nb,0\n", "line 1 has 1 columns ('a,1'): expected 2 (sentence, label) or 3 (index, sentence, label)"),
        ("a\t1\n\nb\t1\n", "train.tsv line 2 has 1 columns (''): expected 2"),
        ("a\t1\nb\t \n", "train.tsv line 2 has an empty cell ('b\\t '): fill it or drop it"),
        ("sentence\tlabel\n", "train.tsv has a header and no line below it"),
    ],
)
def test_broken_tables_name_the_line(tmp_path, text, message):
    with pytest.raises(ValueError) as refused:
        read_table(table(tmp_path, text))
    assert message in str(refused.value)


def test_bytes_that_are_not_utf8_name_the_line(tmp_path):
    (tmp_path / "train.tsv").write_bytes(b"a\t1\n\xff\t1\n")
    with pytest.raises(ValueError, match="train.tsv line 2 is not UTF-8"):
        read_table(tmp_path / "train.tsv")


def test_labels_get_one_spelling_and_unknown_ones_are_refused(tmp_path):
    spellings = {"false": "none", "0": "none", "CPR:3": "CPR:3"}
    path = table(tmp_path, "@GENE$ @DISEASE$\t0\n@GENE$ @DISEASE$\t1\n")
    write(tmp_path, {"label2id.tsv": "0\t0\nCPR:3\t1"})
    file, marks = read_ready_made(path, spellings, (GENES,))
    assert marks == GENES
    assert file.label_counts() == {"CPR:3": 1, "none": 1}
    path = table(tmp_path, "@GENE$ @DISEASE$\t1\n@GENE$ @DISEASE$\t7\n")
    with pytest.raises(ValueError, match="line 2 has the label '7': expected one of 0, 1, false, CPR:3"):
        read_ready_made(path, spellings, (GENES,))
    write(tmp_path, {"label2id.tsv": "0\t0\nCPR:3\t0"})
    with pytest.raises(ValueError, match="label2id.tsv line 2 is 'CPR:3.t0': expected a class, a tab and a number"):
        read_ready_made(path, spellings, (GENES,))


@pytest.mark.parametrize(
    ("text", "marks", "found"),
    [
        ("a @DISEASE$ of @GENE$", GENES, ("@GENE$", "@DISEASE$")),
        ("@GENE$ @GENE$ @DISEASE$", GENES, ("@GENE$", "@DISEASE$")),
        ("x@GENE-DISEASE$y", GENES, ("@GENE-DISEASE$", "@GENE-DISEASE$")),
        ("a @DRUG$,@DRUG$ and @DRUG$", DRUGS, ("@DRUG$", "@DRUG$")),
        ("one @DRUG$", DRUGS, ("@DRUG$", "@DRUG$")),
        ("@gene$ @disease$", GENES, None),
    ],
)
def test_placeholders_are_found(text, marks, found):
    spans = locate(text, marks)
    assert (spans and tuple(text[start:end] for start, end in spans)) == found
    if spans and marks == DRUGS and text.count("@DRUG$") > 1:
        assert spans[0] < spans[1]
    if spans and text.startswith("@GENE$ @GENE$"):
        assert spans[0] == (0, 6)


def test_sentences_without_placeholders_are_kept_counted_and_said(tmp_path, capsys):
    file, _ = read_ready_made(table(tmp_path, "@GENE$ @DISEASE$\t0\nnothing\t1\n"), YES_NO, (GENES,))
    assert [one.arguments for one in file.relations] == [((0, 6), (7, 16)), None]
    assert file.counts == {"without placeholders": 1}
    said = capsys.readouterr().out
    assert "warning: 1 of 2 sentences of" in said and "have no @GENE$ or @DISEASE$ or @GENE-DISEASE$: they are" in said


def test_one_file_a_split(tmp_path):
    assert find_split(tmp_path, "dev") is None
    write(tmp_path, {"dev.tsv": "a\t1\n", "dev.csv": "a\t1\n"})
    with pytest.raises(ValueError, match="has dev.tsv and dev.csv: keep only the one that is the dev split"):
        find_split(tmp_path, "dev")


def test_a_missing_split_says_what_can_be_done(tmp_path):
    write(tmp_path, {"dev.tsv": "a @GENE$ @DISEASE$\t1\n", "test.tsv": "a @GENE$ @DISEASE$\t0\n"})
    with pytest.raises(ValueError) as refused:
        read_tables(tmp_path, wanted_splits(None), YES_NO, (GENES,))
    assert "has no train file: expected one of train.tsv, train.csv, train_blurb.tsv, train.txt" in str(refused.value)
    assert "--nonstandard-split --train-split dev trains on the dev file" in str(refused.value)
    files, _ = read_tables(tmp_path, wanted_splits("dev"), YES_NO, (GENES,))
    assert {split: file.path.name for split, file in files.items()} == {"train": "dev.tsv", "test": "test.tsv"}
    with pytest.raises(ValueError, match="--train-split test: expected dev"):
        wanted_splits("test")


def test_files_of_different_distributions_are_refused(tmp_path):
    write(tmp_path, {name: "a @GENE$ @DISEASE$\t1\n" for name in ("train.tsv", "dev.tsv")})
    write(tmp_path, {"test.tsv": "a @DRUG$ and @DRUG$\t1\n"})
    with pytest.raises(ValueError, match="of different distributions: their placeholders are"):
        read_tables(tmp_path, wanted_splits(None), YES_NO, (GENES, DRUGS))


def test_folds(tmp_path):
    read = read_folds(write(tmp_path, folds()), YES_NO, GENES)
    assert len(read) == 10 and set(read[9]) == {"train", "test"}  # the empty dev file is none
    assert [one.index for one in read[9]["test"].relations] == ["10.0", "10.1", "10.2", "10.3"]
    assert [(one.text, one.label) for one in read[0]["train"].relations] == ASSOCIATIONS


def test_a_dev_file_that_is_the_test_file_is_not_used(tmp_path, capsys):
    same = "index\tsentence\tlabel\n" + "".join(f"{i}\t{text}\t1\n" for i, (text, _) in enumerate(ASSOCIATIONS))
    assert "dev" not in read_folds(write(tmp_path / "same", folds(dev=same)), YES_NO, GENES)[0]
    assert capsys.readouterr().out.count("it is not used") == 10
    other = read_folds(write(tmp_path / "other", folds(dev="@GENE$ of @DISEASE$\t1\n")), YES_NO, GENES)
    assert len(other[0]["dev"].relations) == 1


def test_absent_folds_are_named(tmp_path):
    write(tmp_path, {name: text for name, text in folds().items() if not name.startswith(("3/", "10/"))})
    with pytest.raises(ValueError, match="has no folder 3, 10: the folds are in folders 1 ... 10"):
        read_folds(tmp_path, YES_NO, GENES)
