"""Readers of token-per-line files: same entities from every format; a fault names file, line and cure."""

import gzip
import lzma

import pytest

from finetuning.conll import read_file
from finetuning.entity_files import read_splits, texts
from tests.finetuning.samples import SENTENCES, iobes, pairs, write_benchmark


def tags_of(sentences):
    return [[tag for _, tag in pairs(sentence)] for sentence in sentences]


def write_splits(folder, text):
    """train = dev = test = this text."""
    folder.mkdir(exist_ok=True)
    for name in ("train.txt", "dev.txt", "test.txt"):
        (folder / name).write_text(text)
    return folder


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
        assert file.documents == [] and file.notes == []


def test_bare_tags_get_a_type(tmp_path):
    file = read_splits(write_benchmark(tmp_path / "data", "biobert"))["train"]
    assert (file.scheme, file.columns, file.typed) == ("IOB2", 2, False)
    assert file.entity_counts() == {"Entity": 8}
    assert file.sentences[4].tags == ["B-Entity", "B-Entity", "I-Entity", "O", "B-Entity"]


def test_scibert_files_are_iob1_without_docstart_sentences(tmp_path):
    file = read_splits(write_benchmark(tmp_path / "data", "scibert"))["dev"]
    assert (file.scheme, file.columns) == ("IOB1", 4)
    assert len(file.sentences) == len(SENTENCES)
    assert file.documents == ["227508"]
    assert file.sentences[1].tags == ["B-Entity", "I-Entity", "O", "B-Entity", "I-Entity"]
    assert file.sentences[0].tags == ["B-Entity", "O", "O", "O", "O"]  # a bare I starts an entity


def test_only_blanks_divide_columns_without_tabs(tmp_path):
    """Other white space may be part of a token, as in files with tabs."""
    text = "5\u2009mg  NN O B-X\n\u00a0 NN  O I-X \nof NN O O\n\n"
    file = read_splits(write_splits(tmp_path / "data", text))["test"]
    assert file.sentences[0].words == ["5\u2009mg", "\u00a0", "of"]
    assert (file.columns, file.entity_counts()) == (4, {"X": 1})


def test_tags_without_any_b_and_columns_divided_by_blanks(tmp_path):
    """EBM-NLP as SciBERT has it; with the documents' ids."""
    text = "-DOCSTART- (10037531)\n\nXylitol NN O I-INT\nfor NN O O\n\n\n"
    text += "-DOCSTART- (7)\n\nadults NN O I-PAR\nwith NN O I-PAR\n"
    file = read_splits(write_splits(tmp_path / "data", text))["test"]
    assert (file.scheme, file.columns, file.typed) == ("IO", 4, True)
    assert file.documents == ["10037531", "7"]
    assert [(one.words, one.tags, one.line, one.document) for one in file.sentences] == [
        (["Xylitol", "for"], ["B-INT", "O"], 3, 0),
        (["adults", "with"], ["B-PAR", "I-PAR"], 9, 1),
    ]


def test_documents_without_ids_of_medline_and_before_the_first_line(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("first\tO\n\n-DOCSTART-\tO\n\nsecond\tO\n###MEDLINE:95369245\n\nthird\tO\n")
    file = read_file(path)
    assert file.documents == ["", "", "MEDLINE:95369245"]
    assert [one.document for one in file.sentences] == [0, 1, 2]


def test_only_numbers_that_are_pmids_are_given_to_the_leak_guard(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("-DOCSTART- (95369245)\n\nfirst\tO\n\n###MEDLINE:95369245\n\nsecond\tO\nthird\tO\n")
    assert texts(read_file(path)) == [("pmid:95369245", "first"), ("", "second third")]


def test_bilou_is_iobes_in_other_letters(tmp_path):
    lines = []
    for sentence in SENTENCES:
        words, tags = zip(*pairs(sentence), strict=True)
        bilou = [{"E": "L", "S": "U"}.get(tag[0], tag[0]) + tag[1:] for tag in iobes(list(tags))]
        lines += [*(f"{word}\t{tag}" for word, tag in zip(words, bilou, strict=True)), ""]
    file = read_splits(write_splits(tmp_path / "data", "\n".join(lines)))["train"]
    assert file.scheme == "IOBES"
    assert [sentence.tags for sentence in file.sentences] == tags_of(SENTENCES)


def test_blank_lines_inside_iobes_entities_are_counted_and_passed_over(tmp_path):
    """As MTL's JNLPBA-IOBES: each blank line comes one token late."""
    text = "a\tO\n\nThyroid\tB-protein\n\nhormone\tI-protein\n\nreceptors\tE-protein\nform\tO\n\nb\tS-DNA\n"
    file = read_splits(write_splits(tmp_path / "data", text))["train"]
    assert [one.words for one in file.sentences] == [["a"], ["Thyroid", "hormone", "receptors", "form"], ["b"]]
    assert file.entity_counts() == {"DNA": 1, "protein": 1}
    assert file.notes == ["2 blank lines inside an entity do not end a sentence (the first: line 4)"]


def test_last_sentence_without_blank_line_crlf_and_byte_order_mark(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"\xef\xbb\xbfa\tO\r\nb\tB-X\r\n\r\n\r\nc\tO")
    file = read_file(path)
    assert [(one.words, one.tags, one.line) for one in file.sentences] == [
        (["a", "b"], ["O", "B-X"], 1),
        (["c"], ["O"], 5),
    ]


def test_compressed_files_are_the_same_files(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"a\tO\n")
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"a\tO\n"))
    (tmp_path / "a.tsv.xz").write_bytes(lzma.compress(b"a\tO\n"))
    plain, *packed = (read_file(tmp_path / name) for name in ("a.tsv", "a.tsv.gz", "a.tsv.xz"))
    assert all((one.sentences, one.sha256) == (plain.sentences, plain.sha256) for one in packed)
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"a\tO\n")[:-4])
    with pytest.raises(ValueError, match="a.tsv.gz cannot be decompressed"):
        read_file(tmp_path / "a.tsv.gz")


def test_a_line_separator_inside_a_token_ends_no_line(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("a\u2028b\tO\nc\x85\tO\n\u00a0\tO\n", encoding="utf-8")
    assert read_file(path).sentences[0].words == ["a\u2028b", "c\x85", "\u00a0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no sentence"),
        ("-DOCSTART- (1)\n\n", "has no sentence"),
        ("a\tO\nb\n", r"train.tsv line 2 has 1 columns \('b'\): expected 2"),
        ("a\n", r"line 1 has 1 columns \('a'\): expected 2 or more \(the token first, its tag last\)"),
        ("a\tNN\tO\nb\tO\n", "line 2 has 2 columns .*expected 3"),
        ("\tO\n", "line 1 has a tag and no token before it"),
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
        ("a\tB-Chemical\n\nb\tE-Disease\n", "line 1: tag 'B-Chemical' .* not possible there in IOBES"),
    ],
)
def test_faults_name_file_line_and_cure(benchmark_folder, text, message):
    (benchmark_folder / "train.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_splits(benchmark_folder)


def test_scheme_as_given(benchmark_folder):
    (benchmark_folder / "train.tsv").write_text("a\tO\nb\tI-Chemical\nc\tB-Chemical\n")
    files = read_splits(benchmark_folder, "IOB1")
    assert files["train"].sentences[0].tags == ["O", "B-Chemical", "B-Chemical"]
    with pytest.raises(ValueError, match="--tag-scheme IO: the files have B tags"):
        read_splits(benchmark_folder, "IO")
    with pytest.raises(ValueError, match="E or S tags, which only IOBES has"):
        read_splits(write_benchmark(benchmark_folder / "iobes", "iobes"), "IOB2")


def test_undecodable_file(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"a\tO\n\xff\tO\n")
    with pytest.raises(ValueError, match="a.tsv line 2 is not UTF-8"):
        read_file(tmp_path / "a.tsv")


def test_splits_of_two_kinds_are_refused(benchmark_folder):
    (benchmark_folder / "test.tsv").write_text("a\tB\n")
    with pytest.raises(ValueError, match="not one data set"):
        read_splits(benchmark_folder)
