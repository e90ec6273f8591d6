"""The index stage: all ids in order, the same bytes for any number of workers, adoption, refusals."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pretraining.corpus import encode, index
from pretraining.corpus.documents import Document, read_documents, write_shard, writing_stage
from pretraining.corpus.engine import Engine
from pretraining.corpus.index import build_index
from pretraining.corpus.index_manifest import check_tokenizer
from pretraining.corpus.indexed import CorpusWriter, IndexedCorpus, corpus_path
from pretraining.corpus.tokenizer import (
    SPECIAL_TOKENS,
    build_tokenizer,
    load_tokenizer,
    special_tokens,
    tokenizer_sha256,
    write_tokenizer,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEXTS = [
    "The first title.\nA sentence.\n\nAnother one [MASK] and [SEP].",
    "",
    "\n \n\u200b\n",  # nothing that has a word piece
    "one line",
    "x" * 101 + " é漢\n\u200b\nlast",
]


def write_tokenizer_folder(folder: Path, *more: str, lowercase: bool = True) -> Path:
    vocabulary = [
        "[PAD]",
        "alone",
        *SPECIAL_TOKENS[1:],
        *LETTERS,
        *("##" + letter for letter in LETTERS),
        *".[]",
    ]
    folder.mkdir()
    write_tokenizer(folder, build_tokenizer([*vocabulary, *more], lowercase, True))
    return folder


def write_documents(folder: Path, texts: list[str], shards: int = 1, sentences: bool = True) -> Path:
    with writing_stage(folder, "sentences" if sentences else "pubmed", options={}, sentences=sentences) as stage:
        for shard in range(shards):
            size = -(-len(texts) // shards)
            part = texts[shard * size : (shard + 1) * size]
            documents = (Document(f"{shard}-{number}", text) for number, text in enumerate(part))
            stage.files.append(write_shard(folder, shard, documents))
    return folder


def run(repository: Path, *flags: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pretraining.corpus.index", *map(str, flags)]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


def read(prefix: Path) -> list[list[list[int]]]:
    corpus = IndexedCorpus(prefix)
    corpus.verify()
    bounds = corpus.document_starts.tolist()
    return [
        [corpus.sentence(number).tolist() for number in range(start, end)]
        for start, end in zip(bounds[:-1], bounds[1:], strict=True)
    ]


def expected_ids(texts: list[str], tokenizer_folder: Path) -> list[list[list[int]]]:
    tokenizer = load_tokenizer(tokenizer_folder)
    documents = [[tokenizer.encode(line, add_special_tokens=False).ids for line in text.split("\n")] for text in texts]
    documents = [[sentence for sentence in document if sentence] for document in documents]
    return [document for document in documents if document]


@pytest.fixture
def tokenizer_folder(tmp_path) -> Path:
    return write_tokenizer_folder(tmp_path / "tokenizer")


@pytest.fixture
def prefix(tmp_path) -> Path:
    return tmp_path / "corpus" / "v1.0"


def test_the_command_writes_every_sentence(repository, tmp_path, tokenizer_folder, prefix):
    source = write_documents(tmp_path / "documents", TEXTS, shards=2)
    flags = ("--input", source, "--tokenizer", tokenizer_folder, "--output-prefix", prefix)
    result = run(repository, *flags, "--workers", "2")
    assert result.returncode == 0, result.stderr
    word_pieces = IndexedCorpus(prefix).num_tokens
    summary = f"index: 3 documents, 6 sentences, {word_pieces} word pieces (2 unknown) in {prefix}\n"
    assert result.stdout == summary
    assert result.stderr == ""
    assert read(prefix) == expected_ids(TEXTS, tokenizer_folder)
    special = special_tokens(load_tokenizer(tokenizer_folder))
    assert not np.isin(IndexedCorpus(prefix).tokens, [special.pad, special.cls, special.sep, special.mask]).any()

    manifest = json.loads(corpus_path(prefix, ".json").read_text(encoding="utf-8"))
    assert {key: manifest[key] for key in ("stage", "documents", "sentences", "vocab_size")} == {
        "stage": "index", "documents": 3, "sentences": 6, "vocab_size": 61,
    }  # fmt: skip
    assert manifest["counts"] == {
        "documents": 5, "dropped_no_word_pieces": 2, "dropped_sentences_no_word_pieces": 2,
        "unknown_word_pieces": 2,
    }  # fmt: skip
    assert (manifest["lowercase"], manifest["strip_accents"]) == (True, True)
    assert manifest["tokenizer_sha256"] == tokenizer_sha256(tokenizer_folder)
    assert manifest["sources"][0]["stage"] == "sentences" and manifest["sources"][0]["documents"] == 5
    for suffix in ("bin", "idx"):
        found = index.source_entry(corpus_path(prefix, f".{suffix}"))
        assert manifest[f"{suffix}_sha256"] == found["sha256"]
    assert manifest["bin_bytes"] == corpus_path(prefix, ".bin").stat().st_size
    assert check_tokenizer(prefix, tokenizer_folder) == manifest
    endings = ("bin", "ids", "idx", "json", "sources.json")
    assert sorted(path.name for path in prefix.parent.iterdir()) == [f"v1.0.{ending}" for ending in endings]


@pytest.mark.parametrize("chunk_bytes", [1, 50, 64, 1000, 1 << 20])
def test_chunks_of_any_size_give_the_same_corpus(tmp_path, tokenizer_folder, monkeypatch, chunk_bytes):
    """Lines shorter than a chunk, as long as one, and covering many."""
    texts = ["short", "b" * 7, "long sentence here\n" * 20, "é漢" * 9, *TEXTS]
    source = write_documents(tmp_path / "documents", texts, shards=2)
    monkeypatch.setattr(encode, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(encode, "TASK_BYTES", max(64, 3 * chunk_bytes))
    monkeypatch.setattr(encode, "_BATCH_SENTENCES", 3)
    build_index(source, tokenizer_folder, str(tmp_path / "c"))
    assert read(tmp_path / "c") == expected_ids(texts, tokenizer_folder)


def test_the_bytes_do_not_depend_on_the_workers(tmp_path, tokenizer_folder, monkeypatch):
    texts = [f"document {number}\n" + "more of it\n" * (number % 7) for number in range(300)]
    source = write_documents(tmp_path / "documents", texts, shards=3)
    monkeypatch.setattr(encode, "CHUNK_BYTES", 500)  # both read by the parent alone
    monkeypatch.setattr(encode, "TASK_BYTES", 2000)
    files = {}
    for workers in (1, 2, 3):
        build_index(source, tokenizer_folder, str(tmp_path / f"c{workers}"), Engine(workers=workers))
        suffixes = (".bin", ".idx", ".ids", ".json")
        files[workers] = [corpus_path(tmp_path / f"c{workers}", s).read_bytes() for s in suffixes]
    assert files[1] == files[2] == files[3]
    assert read(tmp_path / "c2") == expected_ids(texts, tokenizer_folder)


def test_an_earlier_corpus_is_replaced_and_survives_a_failure(tmp_path, tokenizer_folder, monkeypatch):
    prefix = str(tmp_path / "c")
    source = write_documents(tmp_path / "documents", TEXTS)
    build_index(source, tokenizer_folder, prefix)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("c.*")}
    other = write_documents(tmp_path / "other", ["other text"] * 3)
    with monkeypatch.context() as patch:
        patch.setattr(encode, "encode_chunk", lambda chunk: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_index(other, tokenizer_folder, prefix)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*c.*")} == before
    with monkeypatch.context() as patch:
        patch.setattr(index, "write_manifest", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_index(other, tokenizer_folder, prefix)
    with pytest.raises(ValueError, match=r"c\.json is missing"):
        check_tokenizer(prefix, tokenizer_folder)
    build_index(other, tokenizer_folder, prefix)
    build_index(source, tokenizer_folder, prefix)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("c.*")} == before


def test_another_tokenizer_is_refused(tmp_path, tokenizer_folder):
    build_index(write_documents(tmp_path / "d", TEXTS), tokenizer_folder, str(tmp_path / "c"))
    others = {
        "vocabulary": write_tokenizer_folder(tmp_path / "other", "cell"),
        "case": write_tokenizer_folder(tmp_path / "cased", lowercase=False),
    }
    for other in others.values():
        with pytest.raises(ValueError, match="made with another tokenizer") as error:
            check_tokenizer(tmp_path / "c", other)
        assert str(other) in str(error.value) and "\n" not in str(error.value)
    bin_path = tmp_path / "c.bin"
    bin_path.write_bytes(bin_path.read_bytes() + b"\0\0")
    with pytest.raises(ValueError, match="is not the file that"):
        check_tokenizer(tmp_path / "c", tokenizer_folder)


def test_a_corpus_of_megatron_is_adopted(repository, tmp_path, tokenizer_folder):
    theirs = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="needs megatron-core")
    torch = pytest.importorskip("torch")
    ids = expected_ids(TEXTS, tokenizer_folder)
    builder = theirs.IndexedDatasetBuilder(str(tmp_path / "m.bin"), dtype=np.int32)
    for document in ids:
        for sentence in document:
            builder.add_item(torch.tensor(sentence, dtype=torch.int32))
        builder.end_document()
    builder.end_document()  # Megatron writes a document without sentences for a text without word pieces
    builder.finalize(str(tmp_path / "m.idx"))
    with pytest.raises(ValueError, match=f"--adopt {tmp_path / 'm'} --tokenizer"):
        check_tokenizer(tmp_path / "m", tokenizer_folder)
    result = run(repository, "--adopt", tmp_path / "m", "--tokenizer", tokenizer_folder)
    assert result.returncode == 0, result.stderr
    manifest = check_tokenizer(tmp_path / "m", tokenizer_folder)
    assert manifest["sources"] == [{"stage": "adopted"}]
    assert manifest["counts"]["empty_documents"] == 1 and manifest["documents"] == 4
    assert manifest["bin_sha256"] == index.source_entry(tmp_path / "m.bin")["sha256"]
    assert read(tmp_path / "m") == [*ids, []]


def write_corpus(prefix: Path, sentence: list[int]) -> None:
    with CorpusWriter(prefix, 65_000) as writer:
        writer.add(np.array([7, 8, 9]), np.array([3]), np.array([1]))
        writer.add(np.array(sentence), np.array([len(sentence)]), np.array([1]))
        writer.finish()


def prepare_refusals(folder: Path) -> dict[str, tuple[list, str]]:
    """Flags that must be refused, and a part of the sentence that does it."""
    sentences = write_documents(folder / "documents", TEXTS)
    paragraphs = write_documents(folder / "paragraphs", TEXTS, sentences=False)
    empty = write_documents(folder / "empty", ["", "\u200b"])
    broken = write_documents(folder / "broken", TEXTS)
    shard = broken / "documents-00000.jsonl"
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    cut = write_documents(folder / "cut", TEXTS)
    os.truncate(cut / "documents-00000.jsonl", 30)
    tokenizer = write_tokenizer_folder(folder / "tokenizer")
    no_mask = write_tokenizer_folder(folder / "no_mask")
    text = (no_mask / "tokenizer.json").read_text(encoding="utf-8")
    (no_mask / "tokenizer.json").write_text(text.replace("[MASK]", "[MAST]"), encoding="utf-8")
    (folder / "notes.json").write_text('{"mine": 1}')
    (folder / "theirs.bin").write_bytes(b"\0\0")
    write_corpus(folder / "large", [7, 61])
    write_corpus(folder / "eod", [7, 4])
    write_corpus(folder / "damaged", [7, 8])
    idx = bytearray((folder / "damaged.idx").read_bytes())
    idx[34:42] = struct.pack("<2i", 2, 2)  # the ends stay, the first length is wrong
    (folder / "damaged.idx").write_bytes(idx)
    write_corpus(folder / "good", [7, 8])

    def build(source: Path, output: str = "out", tokenizer: Path = tokenizer) -> list:
        return ["--input", source, "--tokenizer", tokenizer, "--output-prefix", folder / output]

    def check(corpus: str, tokenizer: Path = tokenizer) -> list:
        return ["--adopt", folder / corpus, "--tokenizer", tokenizer]

    return {
        "paragraphs": (build(paragraphs), "python -m pretraining.corpus.sentences --input"),
        "nothing to write": (build(empty), "no word pieces"),
        "not a document": (build(broken), "documents-00000.jsonl, the line at byte 0, is not a document"),
        "cut shard": (build(cut), "documents-00000.jsonl has 30 bytes"),
        "no input": (build(folder / "nowhere"), "nowhere is not a folder"),
        "no tokenizer": (build(sentences, tokenizer=folder / "empty"), "has no tokenizer.json"),
        "tokenizer without [MASK]": (build(sentences, tokenizer=no_mask), "has no [MASK]"),
        "folder as prefix": (build(sentences, "empty"), "empty is a folder"),
        "foreign manifest": (build(sentences, "notes"), "notes.json was not made by this stage"),
        "foreign corpus": (build(sentences, "theirs"), "theirs.json does not"),
        "no workers": ([*build(sentences), "--workers", "0"], "--workers 0"),
        "id too large": (check("large"), "holds the id 61"),
        "special token": (check("eod"), "holds [SEP] as word piece 4"),
        "damaged corpus": (check("damaged"), "damaged.idx is damaged"),
        "no corpus": (check("nothing"), "nothing.bin does not exist"),
        "no tokenizer to adopt": (check("good", folder), "has no tokenizer.json"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", [
    "paragraphs", "nothing to write", "not a document", "cut shard", "no input", "no tokenizer",
    "tokenizer without [MASK]", "folder as prefix", "foreign manifest", "foreign corpus", "no workers",
    "id too large", "special token", "damaged corpus", "no corpus", "no tokenizer to adopt",
])  # fmt: skip
def test_bad_input_is_refused_in_one_sentence(repository, tmp_path, kind):
    flags, words = prepare_refusals(tmp_path)[kind]
    before = sorted(tmp_path.iterdir())
    result = run(repository, *flags)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert words in result.stderr
    assert sorted(tmp_path.iterdir()) == before  # no manifest, nothing half-written


def test_a_document_of_very_many_sentences(tmp_path, tokenizer_folder):
    """One document, one line of the shard, far longer than a chunk."""
    sentences = 60_000
    source = write_documents(tmp_path / "documents", ["before", "\n".join(["a long document"] * sentences), "after"])
    assert next(iter(read_documents(source))).text == "before"
    build_index(source, tokenizer_folder, str(tmp_path / "c"), Engine(workers=2))
    corpus = IndexedCorpus(tmp_path / "c")
    assert corpus.document_starts.tolist() == [0, 1, 1 + sentences, 2 + sentences]
    assert corpus.sentence(sentences).tolist() == expected_ids(["a long document"], tokenizer_folder)[0][0]
