"""The corpus files: written and read back, against Megatron's own code, and every kind of damage refused."""

import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pretraining.corpus import indexed
from pretraining.corpus.indexed import CorpusWriter, IndexedCorpus, corpus_path, token_dtype

SMALL_VOCABULARY, LARGE_VOCABULARY = 1000, 70_000
HEADER_BYTES = 34


def documents(vocab_size: int, number: int = 20) -> list[list[list[int]]]:
    """Documents of 1 to 4 sentences of 1 to 9 word pieces."""
    random = np.random.default_rng(7)
    return [
        [random.integers(0, vocab_size, random.integers(1, 10)).tolist() for _ in range(random.integers(1, 5))]
        for _ in range(number)
    ]


def add(writer: CorpusWriter, some_documents: list[list[list[int]]]) -> None:
    sentences = [sentence for document in some_documents for sentence in document]
    writer.add(
        np.array([token for sentence in sentences for token in sentence], np.int64),
        np.array([len(sentence) for sentence in sentences], np.int32),
        np.array([len(document) for document in some_documents], np.int64),
    )


def write(prefix: Path, vocab_size: int, all_documents: list[list[list[int]]] | None = None) -> dict:
    with CorpusWriter(prefix, vocab_size) as writer:
        for document in all_documents or documents(vocab_size):
            add(writer, [document])
        return writer.finish()


def read(corpus: IndexedCorpus) -> list[list[list[int]]]:
    bounds = corpus.document_starts.tolist()
    return [
        [corpus.sentence(index).tolist() for index in range(start, end)]
        for start, end in zip(bounds[:-1], bounds[1:], strict=True)
    ]


def test_the_type_follows_the_vocabulary():
    assert token_dtype(65_499) == np.uint16 and token_dtype(65_500) == np.int32


@pytest.mark.parametrize("vocab_size", [SMALL_VOCABULARY, LARGE_VOCABULARY])
def test_what_is_written_is_read(tmp_path, vocab_size, monkeypatch):
    monkeypatch.setattr(indexed, "_COPY_ENTRIES", 7)  # many blocks
    all_documents = documents(vocab_size)
    facts = write(tmp_path / "deep" / "v1.2", vocab_size, all_documents)
    corpus = IndexedCorpus(str(tmp_path / "deep" / "v1.2"))
    corpus.verify()
    assert read(corpus) == all_documents
    assert corpus.dtype == token_dtype(vocab_size) and corpus.tokens.dtype == corpus.dtype
    lengths = [len(sentence) for document in all_documents for sentence in document]
    assert corpus.sentence_lengths.tolist() == lengths and corpus.sentence_lengths.dtype == np.int32
    starts = np.cumsum([0, *lengths[:-1]])
    assert len(corpus.sentence_starts) == len(lengths) and corpus.sentence_starts.dtype == np.int64
    assert np.array_equal(np.asarray(corpus.sentence_starts), starts)
    assert np.array_equal(corpus.sentence_starts[3:9], starts[3:9]) and corpus.sentence_starts[-1] == starts[-1]
    counts = (corpus.num_documents, corpus.num_sentences, corpus.num_tokens)
    assert counts == (len(all_documents), len(lengths), sum(lengths))
    assert counts == (facts["documents"], facts["sentences"], facts["tokens"])
    assert facts["bin_bytes"] == corpus_path(corpus.prefix, ".bin").stat().st_size
    assert read(pickle.loads(pickle.dumps(corpus))) == all_documents
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["v1.2.bin", "v1.2.idx"]


def test_the_bytes_do_not_depend_on_how_documents_are_grouped(tmp_path):
    all_documents = documents(SMALL_VOCABULARY)
    one_by_one = write(tmp_path / "a", SMALL_VOCABULARY, all_documents)
    with CorpusWriter(tmp_path / "b", SMALL_VOCABULARY) as writer:
        add(writer, all_documents[:11])
        add(writer, [])
        add(writer, all_documents[11:])
        at_once = writer.finish()
    assert one_by_one == at_once


def test_the_stored_format(tmp_path):
    """The bytes of a corpus of two documents, spelt out."""
    write(tmp_path / "a", 10, [[[1, 2], [3]], [[4, 5, 6]]])
    assert (tmp_path / "a.bin").read_bytes() == struct.pack("<6H", 1, 2, 3, 4, 5, 6)
    header = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 3, 3)
    arrays = struct.pack("<3i", 2, 1, 3) + struct.pack("<3q", 0, 4, 6) + struct.pack("<3q", 0, 2, 3)
    assert (tmp_path / "a.idx").read_bytes() == header + arrays


@pytest.mark.parametrize("vocab_size", [SMALL_VOCABULARY, LARGE_VOCABULARY])
def test_megatron_reads_ours_and_writes_the_same_bytes(tmp_path, vocab_size):
    theirs_module = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="needs megatron-core")
    torch = pytest.importorskip("torch")
    all_documents = documents(vocab_size)
    write(tmp_path / "ours", vocab_size, all_documents)

    theirs = theirs_module.IndexedDataset(str(tmp_path / "ours"))
    sentences = [sentence for document in all_documents for sentence in document]
    assert [theirs[index].tolist() for index in range(len(theirs))] == sentences
    bounds = np.cumsum([0, *(len(document) for document in all_documents)])
    assert theirs.document_indices.tolist() == bounds.tolist()

    dtype = theirs_module.DType.optimal_dtype(vocab_size)
    builder = theirs_module.IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=dtype)
    for document in all_documents:
        for sentence in document:
            builder.add_item(torch.tensor(sentence))
        builder.end_document()
    builder.finalize(str(tmp_path / "theirs.idx"))
    for suffix in (".bin", ".idx"):
        assert (tmp_path / f"theirs{suffix}").read_bytes() == (tmp_path / f"ours{suffix}").read_bytes()
    assert read(IndexedCorpus(tmp_path / "theirs")) == all_documents


def test_a_gpt_style_corpus_of_megatron_is_read(tmp_path):
    theirs_module = pytest.importorskip("megatron.core.datasets.indexed_dataset", reason="needs megatron-core")
    torch = pytest.importorskip("torch")
    sequences = [[1, 2, 3], [4], [5, 6]]
    builder = theirs_module.IndexedDatasetBuilder(str(tmp_path / "gpt.bin"), dtype=np.int32)
    for sequence in sequences:
        builder.add_document(torch.tensor(sequence), [len(sequence)])
    builder.finalize(str(tmp_path / "gpt.idx"))
    corpus = IndexedCorpus(tmp_path / "gpt")
    corpus.verify()
    assert read(corpus) == [[sequence] for sequence in sequences]


def test_leaving_without_finish_leaves_nothing_and_the_earlier_corpus_alone(tmp_path):
    write(tmp_path / "a", SMALL_VOCABULARY)
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt), CorpusWriter(tmp_path / "a", SMALL_VOCABULARY) as writer:
        add(writer, documents(SMALL_VOCABULARY))
        raise KeyboardInterrupt
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write(tmp_path / "a", SMALL_VOCABULARY, [[[1]]])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.bin",
        "a.idx",
    ]  # the manifest described another


def test_the_writer_refuses_what_does_not_fit(tmp_path):
    with CorpusWriter(tmp_path / "a", 10) as writer:
        with pytest.raises(ValueError, match="vocabulary of 10"):
            add(writer, [[[3, 10]]])
        with pytest.raises(ValueError, match="vocabulary of 10"):
            add(writer, [[[3, -1]]])
        with pytest.raises(ValueError, match="add up"):
            writer.add(np.array([1, 2]), np.array([1]), np.array([1]))
        with pytest.raises(ValueError, match="no word pieces"):
            writer.finish()
    assert list(tmp_path.iterdir()) == []


def damage(path: Path, offset: int, content: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[offset : offset + len(content)] = content
    path.write_bytes(bytes(data))


def damages(sentences: int, boundaries: int) -> dict:
    """What is done to a good corpus, and a word of the sentence that refuses it."""
    offsets = HEADER_BYTES + 4 * sentences
    bounds = offsets + 8 * sentences
    last_bound = bounds + 8 * (boundaries - 1)
    return {
        "bin cut off": (".bin", lambda path: path.write_bytes(path.read_bytes()[:-2]), "cut off"),
        "bin too long": (".bin", lambda path: path.write_bytes(path.read_bytes() + b"\0"), "too long"),
        "bin missing": (".bin", lambda path: path.unlink(), "does not exist"),
        "idx missing": (".idx", lambda path: path.unlink(), "does not exist"),
        "idx cut off": (".idx", lambda path: path.write_bytes(path.read_bytes()[:-1]), "cut off"),
        "idx too long": (".idx", lambda path: path.write_bytes(path.read_bytes() + b"\0"), "too long"),
        "idx empty": (".idx", lambda path: path.write_bytes(b""), "cut off"),
        "magic": (".idx", lambda path: damage(path, 0, b"X"), "not the index"),
        "version": (".idx", lambda path: damage(path, 9, struct.pack("<Q", 2)), "version 2"),
        "type code": (".idx", lambda path: damage(path, 17, b"\x07"), "type code 7"),
        "other type": (".idx", lambda path: damage(path, 17, b"\x04"), "should have"),
        "no sentences": (".idx", lambda path: damage(path, 18, struct.pack("<Q", 0)), "no documents"),
        "no documents": (".idx", lambda path: damage(path, 26, struct.pack("<Q", 1)), "no documents"),
        "sentence count": (".idx", lambda path: damage(path, 18, struct.pack("<Q", 1 << 60)), "cut off"),
        "document count": (".idx", lambda path: damage(path, 26, struct.pack("<Q", 1 << 60)), "cut off"),
        "first offset": (".idx", lambda path: damage(path, offsets, struct.pack("<q", 2)), "damaged"),
        "first bound": (".idx", lambda path: damage(path, bounds, struct.pack("<q", 1)), "damaged"),
        "last bound": (
            ".idx",
            lambda path: damage(path, last_bound, struct.pack("<q", sentences + 1)),
            "damaged",
        ),
        "last length": (
            ".idx",
            lambda path: damage(path, offsets - 4, struct.pack("<i", 1 << 20)),
            "cut off",
        ),
    }


@pytest.mark.parametrize("kind", damages(1, 1))
def test_damage_is_refused_at_opening(tmp_path, kind):
    all_documents = documents(SMALL_VOCABULARY)
    facts = write(tmp_path / "a", SMALL_VOCABULARY, all_documents)
    suffix, apply, words = damages(facts["sentences"], facts["documents"] + 1)[kind]
    apply(tmp_path / f"a{suffix}")
    with pytest.raises(ValueError, match=words) as error:
        IndexedCorpus(tmp_path / "a")
    assert str(tmp_path / "a") in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("place,words", [("length", "offsets"), ("offset", "offsets"), ("bound", "backwards")])
def test_damage_in_the_middle_is_found_by_verify(tmp_path, place, words):
    facts = write(tmp_path / "a", SMALL_VOCABULARY)
    offset = {
        "length": HEADER_BYTES + 4 * 5,
        "offset": HEADER_BYTES + 4 * facts["sentences"] + 8 * 5,
        "bound": HEADER_BYTES + 12 * facts["sentences"] + 8 * 5,
    }[place]
    damage(tmp_path / "a.idx", offset, struct.pack("<i", 1 << 20))
    corpus = IndexedCorpus(tmp_path / "a")
    with pytest.raises(ValueError, match=words):
        corpus.verify()


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """A million documents: their lengths alone are 16 MB, as lists of integers 80."""
    block = [np.ones(60_000, np.uint16), np.full(20_000, 3, np.int32), np.full(10_000, 2, np.int64)]
    peaks = {}
    tracemalloc.start()
    with CorpusWriter(tmp_path / "a", SMALL_VOCABULARY) as writer:
        for _ in range(100):
            writer.add(*block)
        peaks["adding"] = tracemalloc.get_traced_memory()[1]
        facts = writer.finish()
        peaks["finishing"] = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    assert IndexedCorpus(tmp_path / "a").sentence(1_999_999).tolist() == [1, 1, 1]
    peaks["opening"] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert facts["documents"] == 1_000_000
    assert peaks["adding"] < 2e6 and peaks["finishing"] < 64e6 and peaks["opening"] < 2e6, peaks
