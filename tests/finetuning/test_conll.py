"""Readers of token-per-line files: same entities from every format; a fault names file, line and cure."""

import random

import pytest

from finetuning.conll import Sentence, as_iob2, iob2_tags, iob_spans, read_file, read_splits
from tests.finetuning.samples import SENTENCES, iobes, pairs, write_benchmark


def tags_of(sentences):
    return [[tag for _, tag in pairs(sentence)] for sentence in sentences]


@pytest.mark.parametrize(("form", "scheme", "columns"), [("iob", "IOB2", 2), ("iobes", "IOBES", 2)])
def test_typed_files_give_the_same_sentences(tmp_path, form, scheme, columns):
    files = read_splits(write_benchmark(tmp_path / form, form))
    for file in files.values():
        assert (file.scheme, file.columns, file.typed) == (scheme, columns, True)
        assert [sentence.words for sentence in file.sentences] == [
            [word for word, _ in pairs(sentence)] for sentence in SENTENCES
        ]
        assert [sentence.tags for sentence in file.sentences] == tags_of(SENTENCES)
        assert file.entity_counts() == {"Chemical": 8, "Disease": 4}


def test_bare_tags_get_a_type(tmp_path):
    file = read_splits(write_benchmark(tmp_path / "data", "biobert"))["train"]
    assert (file.scheme, file.columns, file.typed) == ("IOB2", 2, False)
    assert file.entity_counts() == {"Entity": 8}
    assert file.sentences[4].tags == ["B-Entity", "B-Entity", "I-Entity", "O", "B-Entity"]


def test_scibert_files_are_iob1_without_docstart_sentences(tmp_path):
    file = read_splits(write_benchmark(tmp_path / "data", "scibert"))["dev"]
    assert (file.scheme, file.columns) == ("IOB1", 4)
    assert len(file.sentences) == len(SENTENCES)
    assert file.sentences[1].tags == ["B-Entity", "I-Entity", "O", "B-Entity", "I-Entity"]
    assert file.sentences[0].tags == ["B-Entity", "O", "O", "O", "O"]  # a bare I starts an entity


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
def test_iob1_spans_by_hand(tags, spans):
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
        assert as_iob2(Sentence(["w"] * 12, iobes(tags)), "IOBES").tags == tags


def test_last_sentence_without_blank_line_crlf_and_byte_order_mark(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"\xef\xbb\xbfa\tO\r\nb\tB-X\r\n\r\n\r\nc\tO")
    file = read_file(path)
    assert [(one.words, one.tags, one.line) for one in file.sentences] == [
        (["a", "b"], ["O", "B-X"], 1),
        (["c"], ["O"], 5),
    ]


def test_a_line_separator_inside_a_token_ends_no_line(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("a\u2028b\tO\nc\x85\tO\n", encoding="utf-8")
    assert read_file(path).sentences[0].words == ["a\u2028b", "c\x85"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no sentence"),
        ("-DOCSTART- (1)\n\n", "has no sentence"),
        ("a\tO\nb\n", r"train.tsv line 2 has 1 columns \('b'\): expected 2"),
        ("a\tNN\tO\n", "line 1 has 3 columns"),
        ("\tO\n", "line 1 has 2 columns"),
        ("a\tO\n\nb\tX-Chemical\n", "line 3: unknown tag 'X-Chemical'"),
        ("a\tB-\n", "line 1: unknown tag 'B-'"),
        ("a\tB\nb\tI-Chemical\n", "line 2: tag 'I-Chemical' among tags with and without a type"),
        (
            "a\tO\nb\tI-Chemical\n",
            "line 2: tag 'I-Chemical' of word 'b' is not possible there in IOB2: .*--tag-scheme IOB1",
        ),
        ("a\tB-Chemical\nb\tI-Disease\n", "line 2: tag 'I-Disease' .* not possible there in IOB2"),
        ("a\tB-Chemical\nb\tO\n\nc\tS-Chemical\n", "line 1: tag 'B-Chemical' .* not possible there in IOBES"),
        ("a\tE-Chemical\n", "line 1: tag 'E-Chemical' .* not possible there in IOBES"),
    ],
)
def test_faults_name_file_line_and_cure(benchmark_folder, text, message):
    (benchmark_folder / "train.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_splits(benchmark_folder)


def test_iob1_in_two_columns_is_read_when_said(benchmark_folder):
    (benchmark_folder / "train.tsv").write_text("a\tO\nb\tI-Chemical\nc\tB-Chemical\n")
    files = read_splits(benchmark_folder, "IOB1")
    assert files["train"].sentences[0].tags == ["O", "B-Chemical", "B-Chemical"]
    with pytest.raises(ValueError, match="E or S tags, which only IOBES has"):
        read_splits(write_benchmark(benchmark_folder / "iobes", "iobes"), "IOB2")


def test_missing_double_and_undecodable_files(benchmark_folder):
    (benchmark_folder / "dev.tsv").write_text("a\tO\n")
    with pytest.raises(ValueError, match="has devel.tsv and dev.tsv: keep only the one"):
        read_splits(benchmark_folder)
    (benchmark_folder / "dev.tsv").unlink()
    (benchmark_folder / "devel.tsv").unlink()
    with pytest.raises(ValueError, match="has no dev file: expected one of devel.tsv"):
        read_splits(benchmark_folder)
    (benchmark_folder / "devel.tsv").write_bytes(b"a\tO\n\xff\tO\n")
    with pytest.raises(ValueError, match="devel.tsv line 2 is not UTF-8"):
        read_splits(benchmark_folder)
    with pytest.raises(ValueError, match="is not a folder"):
        read_splits(benchmark_folder / "nowhere")


def test_splits_of_two_kinds_are_refused(benchmark_folder):
    (benchmark_folder / "test.tsv").write_text("a\tB\n")
    with pytest.raises(ValueError, match="not one data set"):
        read_splits(benchmark_folder)
