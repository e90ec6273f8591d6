"""Pairs of sentences: JSON lines, tsv of several forms, Word files; broken ones are named."""

import json
import zipfile

import pytest

from finetuning.pair_files import read_nli, read_similarity, read_word_pairs, word_table
from tests.finetuning.text_samples import NLI, SIMILAR, nli_lines

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def write_word(path, rows, head=""):
    """A .docx with one table; a cell is a list of paragraphs, each in two runs."""

    def cell(paragraphs):
        runs = "".join(
            f"<w:p><w:r><w:t>{text[:3]}</w:t></w:r><w:r><w:t>{text[3:]}</w:t></w:r></w:p>" for text in paragraphs
        )
        return f"<w:tc>{runs}</w:tc>"

    table = "".join(f"<w:tr>{''.join(cell(one) for one in row)}</w:tr>" for row in rows)
    text = (
        f'<?xml version="1.0"?>{head}<w:document xmlns:w="{WORD}"><w:body><w:tbl>{table}</w:tbl></w:body></w:document>'
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", text)
    return path


def test_json_lines_and_tsv_of_nli_are_the_same_pairs(tmp_path):
    lines, glue = tmp_path / "mli_train_v1.jsonl", tmp_path / "train.tsv"
    lines.write_text(nli_lines())
    header = "index\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label\n"
    glue.write_text(
        header
        + "".join(f"{i}\tp{i}\tslate\t{one}\t{two}\tneutral\t{label}\n" for i, (one, two, label) in enumerate(NLI))
    )
    ours, theirs = read_nli(lines), read_nli(glue)
    assert ours.counts == theirs.counts == {"pairs": 4}
    assert [one.index for one in ours.examples] == ["p0", "p1", "p2", "p3"]
    assert [one.index for one in theirs.examples] == ["0", "1", "2", "3"]
    for file in (ours, theirs):
        assert [(one.text_a, one.text_b, one.label) for one in file.examples] == NLI


def test_pairs_without_a_majority_are_counted(tmp_path, capsys):
    path = tmp_path / "dev.jsonl"
    path.write_text(nli_lines([*NLI, ("a", "b", "-")]))
    file = read_nli(path)
    assert file.counts == {"pairs": 4}
    assert file.notes == {"pairs without a gold label, left out": 1}
    assert "dev.jsonl: 1 pairs without a majority" in capsys.readouterr().out


def test_pairs_with_one_index_are_numbered(tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text(nli_lines().replace("p1", "p0"))
    assert [one.index for one in read_nli(path).examples] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", "line 2 is not a JSON object"),
        (json.dumps({"sentence1": "a", "sentence2": "b", "gold_label": "maybe"}), "line 2: gold_label is 'maybe'"),
        (json.dumps({"sentence1": "a", "gold_label": "neutral"}), "line 2: a pair needs two sentences"),
        (json.dumps({"sentence1": " ", "sentence2": "b", "gold_label": "neutral"}), "line 2: a pair needs two"),
    ],
)
def test_broken_nli_is_named(tmp_path, line, message):
    path = tmp_path / "dev.jsonl"
    path.write_text(nli_lines(NLI[:1]) + line + "\n")
    with pytest.raises(ValueError) as refused:
        read_nli(path)
    assert f"{path} {message}" in str(refused.value)


def test_three_forms_of_similarity(tmp_path):
    forms = {
        "n2c2.txt": "".join(f"{one}\t{two}\t{score}\n" for one, two, score in SIMILAR),
        "blue.tsv": "index\tgenre\tsentence1\tsentence2\tscore\n"
        + "".join(f"{i}\t-\t{one}\t{two}\t{score}\n" for i, (one, two, score) in enumerate(SIMILAR)),
        "scifive.tsv": "".join(f"s1: {one} s2: {two}\t{score}\n" for one, two, score in SIMILAR),
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
        file = read_similarity(tmp_path / name, 4.0)
        assert [(one.text_a, one.text_b, one.label) for one in file.examples] == SIMILAR, name
        assert file.counts == {"pairs": 4}
    assert [one.index for one in file.examples] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\t4.2\n", "line 1: the score 4.2 is outside 0 to 4"),
        ("a\tb\tnan\n", "line 1: the score nan is outside"),
        ("a\tb\t1\nc\td\thigh\n", "line 2: the score 'high' is not a number"),
        ("a\tb\n", "line 1 has 2 columns"),
        ("s1: a s3: b\t1.0\n", "line 1 is not `s1: ... s2: ...<TAB>score`"),
        ("", "has nothing in it"),
    ],
)
def test_broken_similarity_is_named(tmp_path, text, message):
    path = tmp_path / "test.tsv"
    path.write_text(text)
    with pytest.raises(ValueError) as refused:
        read_similarity(path, 4.0)
    assert f"{path} {message}" in str(refused.value)


def test_word_files(tmp_path):
    pairs = write_word(
        tmp_path / "pairs.docx",
        [[[""], ["Sentence 1"], ["Sentence 2"]], [["1 "], ["one  text"], ["other"]], [["2"], ["two", "parts"], ["b"]]],
    )
    scores = write_word(tmp_path / "scores.docx", [[["No"], ["A"]], [["1"], ["4"]], [["2"], ["x"]]])
    with pytest.raises(ValueError, match="scores.docx row 2: the score 'x' is not a number"):
        read_word_pairs(pairs, scores, 4.0)
    write_word(scores, [[["No"], ["A"], ["B"], ["C"]], [["1"], ["4"], ["3"], ["3"]], [["2"], ["0"], ["0"], ["1"]]])
    found = read_word_pairs(pairs, scores, 4.0)
    assert [(one.text_a, one.text_b, one.label) for one in found.values()] == [
        ("one text", "other", 3.3333),
        ("two parts", "b", 0.3333),
    ]
    write_word(scores, [[["No"], ["A"]], [["1"], ["4"]], [["2"], ["1"]], [["3"], ["1"]]])
    with pytest.raises(ValueError, match=r"has scores of pairs that pairs.docx has not: \[3\]"):
        read_word_pairs(pairs, scores, 4.0)


def test_word_files_fetch_and_expand_nothing(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    head = f'<!DOCTYPE d [<!ENTITY e SYSTEM "file://{secret}">]>'
    path = write_word(tmp_path / "a.docx", [[["abc&e;def"]]], head)
    assert "secret" not in str(word_table(path))
    path.write_text("no archive")
    with pytest.raises(ValueError, match=r"a.docx is not a Word file"):
        word_table(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", f'<w:document xmlns:w="{WORD}"/>')
    with pytest.raises(ValueError, match="has no table in it"):
        word_table(path)
