"""The plain-text reader: its layouts, packed files, odd bytes, bad input, and real files where they are."""

import gzip
import lzma
import os
import resource
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from pretraining.corpus import text as text_module
from pretraining.corpus.documents import read_documents, read_manifest
from pretraining.corpus.text import LAYOUTS, convert, read_text

REPOSITORY = Path(__file__).parents[3]
DATA = REPOSITORY.parent / "shared" / "data" / "pretrain"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real text files are not here")

LINES = "One.\nTwo.\n\n \t\n\u2009\nThree.\nFour."


def read(tmp_path, content, layout="sentence-per-line", name="a.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_text(path, layout))


def test_sentences_and_blank_lines(tmp_path):
    documents = read(tmp_path, LINES)
    assert [(d.id, d.text) for d in documents] == [("a:1", "One.\nTwo."), ("a:6", "Three.\nFour.")]
    assert documents[0].metadata == {"source": "a.txt"}
    # blank lines at both ends and several at once make no documents
    assert [d.text for d in read(tmp_path, "\n\nOne.\nTwo.\n\n\nThree.\n\n")] == ["One.\nTwo.", "Three."]


def test_other_layouts(tmp_path):
    texts = {layout: [d.text for d in read(tmp_path, LINES, layout)] for layout in LAYOUTS}
    assert texts["paragraph-per-line"] == texts["sentence-per-line"]
    assert texts["document-per-line"] == ["One.", "Two.", "Three.", "Four."]
    assert texts["document-per-file"] == ["One.\nTwo.\nThree.\nFour."]
    assert [d.id for d in read(tmp_path, LINES, "document-per-line")] == ["a:1", "a:2", "a:6", "a:7"]
    assert [d.id for d in read(tmp_path, LINES, "document-per-file", "PMC12.txt")] == ["PMC12"]


def test_line_ends_marks_and_white_space(tmp_path):
    content = "\ufeffp\u2009<\u00a00.05\r\nsecond  line\x0b\u2028still\r\n\r\nNext\x00."
    documents = read(tmp_path, content)
    assert [d.text for d in documents] == ["p < 0.05\nsecond line still", "Next."]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.xz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_packed_files_are_told_by_content(tmp_path, name, pack):
    documents = read(tmp_path, pack(LINES.encode()), name=name)
    assert [(d.id, d.text) for d in documents] == [("a:1", "One.\nTwo."), ("a:6", "Three.\nFour.")]


def test_manifest_says_whether_lines_are_sentences(tmp_path):
    (tmp_path / "b.txt").write_text(LINES)
    (tmp_path / "a.txt").write_text("First.\n")
    for layout in LAYOUTS:
        manifest = convert([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "o", layout=layout)
        assert manifest["sentences"] is (layout == "sentence-per-line")
        assert manifest["options"] == {"layout": layout, "skip_broken": False} and manifest["counts"] == {"lines": 5}
        assert next(read_documents(tmp_path / "o")).text == "First."


def test_shards_are_cut_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(text_module, "SHARD_CHARACTERS", 50)
    lines = [f"Document {n}." for n in range(40)]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    manifest = convert([tmp_path / "a.txt"], tmp_path / "o", layout="document-per-line")
    assert len(manifest["files"]) > 5
    assert [d.text for d in read_documents(tmp_path / "o")] == lines


def test_a_document_without_end_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(text_module, "LONGEST_DOCUMENT", 100)
    with pytest.raises(ValueError, match="line 3: a document without end; choose another --layout"):
        read(tmp_path, "One.\n\n" + "Word.\n" * 30)
    assert len(read(tmp_path, "Word.\n" * 30, "document-per-line")) == 30


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_a_line_without_end_is_an_error(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(text_module, "LONGEST_LINE", 1000)
    with pytest.raises(ValueError, match=r"a.txt, line 2, is longer than 1,000 bytes"):
        read(tmp_path, pack(b"One.\n" + b"word " * 300))
    assert [len(d.text) for d in read(tmp_path, pack(b"x" * 999 + b"\n" + b"y" * 999))] == [1999]


def test_a_gzip_of_one_huge_line_ends_in_a_sentence_in_bounded_memory(tmp_path):
    path = tmp_path / "line.txt.gz"
    path.write_bytes(gzip.compress(b"x" * 10_000_000) * 150)  # members follow one another: 1.5 GB
    result = subprocess.run(
        [sys.executable, "-m", "pretraining.corpus.text", "--input", path, "--output", tmp_path / "o"],
        cwd=REPOSITORY, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000, 1_000_000_000)),
    )  # fmt: skip
    assert result.returncode == 1 and result.stderr.startswith(f"error: {path}, line 1, is longer than")
    assert result.stderr.count("\n") == 1 and list((tmp_path / "o").iterdir()) == []


def test_a_broken_file_is_skipped_from_its_break_on_where_asked(tmp_path):
    good, cut, latin = tmp_path / "a.txt", tmp_path / "b.txt.gz", tmp_path / "c.txt"
    good.write_text("One.\n")
    cut.write_bytes(RANDOM[:-20])
    latin.write_bytes("Erste.\nZweite.\nDritte f\xfcr.\nVierte.".encode("latin-1"))
    with pytest.raises(ValueError, match="b.txt.gz is cut short"):
        convert([good, cut, latin], tmp_path / "o", layout="document-per-line")
    manifest = convert([good, cut, latin], tmp_path / "o", layout="document-per-line", skip_broken=True)
    assert [d.text for d in read_documents(tmp_path / "o")] == ["One.", "Erste.", "Zweite."]
    assert manifest["counts"]["broken_files"] == 2 and "broken" not in manifest["sources"][0]
    assert "line 3: byte 0xfc is not UTF-8" in manifest["sources"][2]["broken"]


RANDOM = gzip.compress(os.urandom(2000).hex().encode())
BAD = {
    "empty": (b"", "is empty"),
    "blank": (b" \n\n", "has no text"),
    "truncated gzip": (RANDOM[:-20], "cut short or damaged"),
    "truncated xz": (lzma.compress(os.urandom(2000).hex().encode())[:-40], "cut short or damaged"),
    "broken gzip": (RANDOM[:100] + b"\0" * 100 + RANDOM[200:], "cut short or damaged"),
    "latin-1": ("Erste.\nZweite f\xfcr.".encode("latin-1"), "line 2: byte 0xfc is not UTF-8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_name_themselves_and_leave_nothing(tmp_path, case):
    content, message = BAD[case]
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    result = subprocess.run(
        [sys.executable, "-m", "pretraining.corpus.text", "--input", path, "--output", tmp_path / "o"],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 1 and result.stdout == ""
    assert str(path) in result.stderr and message in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert list((tmp_path / "o").iterdir()) == []


@needs_data
def test_real_document_of_446504_sentences(tmp_path):
    manifest = convert([DATA / "abstract_sentences.txt.xz"], tmp_path / "o")
    assert manifest["documents"] == 1 and manifest["counts"] == {"lines": 446_504}
    (document,) = read_documents(tmp_path / "o")
    assert document.text.count("\n") + 1 == 446_504
    assert read_manifest(tmp_path / "o")["sentences"] is True


@needs_data
def test_real_pmc_articles(tmp_path):
    (tmp_path / "in").mkdir()
    with tarfile.open(DATA / "pmc_fulltext_txt.tar.xz") as archive:
        members = [member for _, member in zip(range(41), archive, strict=False) if member.isfile()]
        for member in members:
            content = archive.extractfile(member).read()
            (tmp_path / "in" / Path(member.name).name).write_bytes(content)
    manifest = convert([tmp_path / "in"], tmp_path / "o", layout="document-per-file")
    assert manifest["documents"] == len(members) >= 40 and len(manifest["files"]) == 1
    texts = {d.id: d.text for d in read_documents(tmp_path / "o")}
    assert set(texts) == {Path(member.name).stem for member in members}
    assert all(text.startswith("TITLE:") and text.count("\n") >= 2 for text in texts.values())


@needs_data
def test_real_abstracts_one_a_line():
    counts = Counter()
    documents = list(read_text(DATA / "PubMedAbstract_1MB.txt.xz", "document-per-line", counts))
    assert len(documents) == counts["lines"] == 725
