"""Sample boundaries: nothing lost, never across documents, fixed by corpus, split, length and seed."""

from pathlib import Path

import numpy as np
import pytest

from pretraining import sample_map
from pretraining.corpus.indexed import CorpusWriter, IndexedCorpus
from pretraining.sample_map import (
    RECORD,
    build_sample_map,
    cut_documents,
    open_sample_map,
    sample_map_path,
    sample_records,
    split_documents,
)
from tests.tiny import FIRST_WORD, VOCAB_SIZE, Document, make_documents, write_corpus

CUT = (61, 0.05, 7)  # longest, share of short samples, seed


def corpus_of(folder: Path, documents: list[Document]) -> IndexedCorpus:
    return IndexedCorpus(write_corpus(folder, documents)[0])


def numbered(sentence_lengths: list[int]) -> Document:
    """A document whose word pieces count up, so that a lost or moved one shows."""
    pieces = FIRST_WORD + np.arange(sum(sentence_lengths)) % (VOCAB_SIZE - FIRST_WORD)
    return [part.tolist() for part in np.split(pieces, np.cumsum(sentence_lengths)[:-1])]


def starts_of(corpus: IndexedCorpus, records: np.ndarray) -> np.ndarray:
    """Where each sample begins in the corpus, in word pieces."""
    return corpus.sentence_starts[records["sentence"]] + records["offset"]


def check_records(corpus: IndexedCorpus, records: np.ndarray, first: int, last: int, longest: int) -> None:
    """Samples follow each other without gap or overlap, end at document ends, and fit."""
    starts, lengths = starts_of(corpus, records), records["length"].astype(np.int64)
    document_bounds = np.append(corpus.sentence_starts[:], corpus.num_tokens)[corpus.document_starts]
    assert starts[0] == document_bounds[first]
    assert np.array_equal(starts[1:], (starts + lengths)[:-1])  # in order, nothing lost, nothing twice
    assert starts[-1] + lengths[-1] == document_bounds[last]
    document_of_first = np.searchsorted(document_bounds, starts, side="right")
    document_of_last = np.searchsorted(document_bounds, starts + lengths - 1, side="right")
    assert np.array_equal(document_of_first, document_of_last)  # never across documents
    assert lengths.min() >= 1 and lengths.max() <= longest
    assert (records["offset"] >= 0).all()
    assert (records["offset"] < corpus.sentence_lengths[records["sentence"]]).all()
    # Only a document's last sample is shorter than what it was cut for.
    ends_document = np.isin(starts + lengths, document_bounds)
    assert np.array_equal(lengths[~ends_document], records["target"][~ends_document])


def test_samples_are_the_documents_word_for_word(tmp_path: Path) -> None:
    documents = make_documents(150, seed=1)
    corpus = corpus_of(tmp_path, documents)
    records = sample_records(corpus, 0, 150, CUT)
    pieces = [
        corpus.tokens[start : start + length]
        for start, length in zip(starts_of(corpus, records), records["length"], strict=True)
    ]
    everything = [piece for document in documents for sentence in document for piece in sentence]
    assert np.concatenate(pieces).tolist() == everything
    check_records(corpus, records, 0, 150, 61)


def test_a_split_has_its_own_documents_and_no_others(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, make_documents(60, seed=2))
    records = sample_records(corpus, 17, 42, CUT)
    check_records(corpus, records, 17, 42, 61)


@pytest.mark.parametrize(
    "sentence_lengths",
    [[1], [61], [62], [1000], [1, 1, 1], [60, 1, 1], [200, 3, 4]],
    ids=["one word piece", "exactly full", "one more", "one long sentence", "tiny", "edge", "long first"],
)
def test_awkward_documents(tmp_path: Path, sentence_lengths: list[int]) -> None:
    corpus = corpus_of(tmp_path, [numbered(sentence_lengths), numbered([5]), numbered(sentence_lengths)])
    for seed in range(5):
        check_records(corpus, sample_records(corpus, 0, 3, (61, 0.05, seed)), 0, 3, 61)
        check_records(corpus, sample_records(corpus, 0, 3, (2, 0.5, seed)), 0, 3, 2)


def test_without_short_samples_every_document_is_cut_evenly(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [numbered([100, 100]), numbered([61])])
    records = sample_records(corpus, 0, 2, (61, 0.0, 7))
    assert records["length"].tolist() == [61, 61, 61, 17, 61]
    assert records["sentence"].tolist() == [0, 0, 1, 1, 2]
    assert records["offset"].tolist() == [0, 61, 22, 83, 0]  # a cut sentence goes on in the next sample


def test_a_document_of_446504_sentences(tmp_path: Path) -> None:
    """As long as one in a published corpus of abstracts, where blank lines between documents are missing."""
    lengths = np.random.default_rng(0).integers(1, 4, 446_504)
    prefix = tmp_path / "long"
    with CorpusWriter(prefix, VOCAB_SIZE) as writer:
        writer.add(np.full(3, FIRST_WORD), np.array([3]), np.array([1]))
        writer.add(np.full(lengths.sum(), FIRST_WORD), lengths, np.array([len(lengths)]))
        writer.finish()
    corpus = IndexedCorpus(prefix)
    records = sample_records(corpus, 0, 2, (509, 0.05, 7))
    check_records(corpus, records, 0, 2, 509)
    assert len(records) > lengths.sum() // 509


def test_empty_documents_and_sentences_of_other_tools_make_no_empty_samples(tmp_path: Path) -> None:
    """Our index stage drops them; a corpus taken over from Megatron may hold some."""
    prefix = tmp_path / "gaps"
    with CorpusWriter(prefix, VOCAB_SIZE) as writer:
        writer.add(np.arange(5, 12), np.array([0, 3, 0, 0, 4]), np.array([3, 0, 1, 1]))
        writer.finish()
    corpus = IndexedCorpus(prefix)
    assert corpus.num_documents == 4
    records = sample_records(corpus, 0, 4, CUT)
    assert records["length"].tolist() == [3, 4] and starts_of(corpus, records).tolist() == [0, 3]


def test_five_percent_are_cut_for_a_random_shorter_length() -> None:
    samples = cut_documents(np.arange(20_000), np.full(20_000, 200), 61, 0.05, 7)
    targets = samples[:, 3]
    short = targets[targets < 61]
    assert len(short) / len(targets) == pytest.approx(0.05 * 56 / 57, abs=0.003)
    assert short.min() == 5 and short.max() == 60
    counts = np.bincount(short - 5, minlength=56)
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 55 + 5 * np.sqrt(110)
    assert (cut_documents(np.arange(100), np.full(100, 200), 61, 0.0, 7)[:, 3] == 61).all()


def test_boundaries_are_a_function_of_document_and_seed(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, make_documents(300, seed=3))
    whole = sample_records(corpus, 0, 300, CUT)
    parts = [sample_records(corpus, first, first + 100, CUT) for first in (0, 100, 200)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert not np.array_equal(sample_records(corpus, 0, 300, (61, 0.05, 8)), whole)


def test_the_file_is_the_same_for_every_size_of_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of(tmp_path, make_documents(100, seed=4))
    build_sample_map(corpus, tmp_path / "whole", (3, 98), CUT)
    for size in (1, 7, 95):
        monkeypatch.setattr(sample_map, "DOCUMENTS_PER_BLOCK", size)
        build_sample_map(corpus, tmp_path / f"blocks-{size}", (3, 98), CUT)
        assert (tmp_path / f"blocks-{size}").read_bytes() == (tmp_path / "whole").read_bytes()
    mapped = open_sample_map(tmp_path / "whole")
    assert np.array_equal(mapped, sample_records(corpus, 3, 98, CUT))
    assert RECORD.itemsize == 16


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, folder = corpus_of(tmp_path / "corpus", make_documents(20)), tmp_path / "maps"
    monkeypatch.setattr(sample_map, "DOCUMENTS_PER_BLOCK", 10)
    whole = sample_map.sample_records

    def fail_at_second_block(corpus: IndexedCorpus, first: int, last: int, cut: tuple) -> np.ndarray:
        if first:
            raise OSError("disk full")
        return whole(corpus, first, last, cut)

    monkeypatch.setattr(sample_map, "sample_records", fail_at_second_block)
    with pytest.raises(OSError, match="disk full"):
        build_sample_map(corpus, folder / "map", (0, 20), CUT)
    assert list(folder.iterdir()) == []


def test_two_runs_that_build_the_same_map_at_once_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two containers that share a file system both may have the same process id."""
    corpus = corpus_of(tmp_path / "corpus", make_documents(20))
    whole = sample_map.sample_records

    def other_run_first(*arguments) -> np.ndarray:
        monkeypatch.setattr(sample_map, "sample_records", whole)
        build_sample_map(corpus, tmp_path / "maps" / "map", (0, 20), CUT)
        return whole(*arguments)

    monkeypatch.setattr(sample_map, "sample_records", other_run_first)
    build_sample_map(corpus, tmp_path / "maps" / "map", (0, 20), CUT)
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["map"]
    assert np.array_equal(open_sample_map(tmp_path / "maps" / "map"), whole(corpus, 0, 20, CUT))


def test_a_map_that_is_there_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = corpus_of(tmp_path, make_documents(20))
    build_sample_map(corpus, tmp_path / "map", (0, 20), CUT)
    monkeypatch.setattr(sample_map, "sample_records", lambda *_: pytest.fail("built twice"))
    build_sample_map(corpus, tmp_path / "map", (0, 20), CUT)


@pytest.mark.parametrize("size", [0, 1, 15, 17])
def test_a_damaged_map_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "map"
    path.write_bytes(b"x" * size)
    with pytest.raises(ValueError, match=r"map is not a whole sample map \(\d+ bytes\): delete it"):
        open_sample_map(path)


def test_the_name_holds_everything_that_decides_the_content() -> None:
    def name(**changes) -> str:
        settings = {"corpus_hash": "a" * 64, "documents": (0, 10), "cut": (61, 0.05, 7)} | changes
        return sample_map_path("folder/c.v1", None, **settings).name

    names = [
        name(),
        name(corpus_hash="b" * 64),
        name(documents=(0, 11)),
        name(documents=(1, 10)),
        *(name(cut=cut) for cut in [(60, 0.05, 7), (61, 0.06, 7), (61, 0.05, 8)]),
    ]
    assert len(set(names)) == len(names) and all(n.startswith("c.v1.") for n in names)
    assert sample_map_path("a/c", None, "h", (0, 1), CUT).parent == Path("a")
    assert sample_map_path("a/c", "b", "h", (0, 1), CUT).parent == Path("b")


def test_splits_follow_each_other_and_cover_all_documents() -> None:
    for number in (3, 10, 999, 1000, 123_457):
        weights = "969,30,1" if number >= 999 else "1,1,1"
        bounds = [split_documents(weights, number, split) for split in ("training", "validation", "test")]
        assert bounds[0][0] == 0 and bounds[2][1] == number
        assert bounds[0][1] == bounds[1][0] and bounds[1][1] == bounds[2][0]
    assert split_documents("969,30,1", 1000, "validation") == (969, 999)
    assert split_documents("1,0,0", 5, "training") == (0, 5)
    assert split_documents("0.9,0.1,0", 10, "validation") == (9, 10)


@pytest.mark.parametrize(
    "weights, documents, split", [("1,0,0", 5, "validation"), ("969,30,1", 10, "validation"), ("0,1,0", 5, "test")]
)
def test_an_empty_split_is_an_error(weights: str, documents: int, split: str) -> None:
    with pytest.raises(
        ValueError, match=f'--split "{weights}" leaves no document for {split}: the corpus has {documents}'
    ):
        split_documents(weights, documents, split)


@pytest.mark.parametrize("weights", ["", "1,2", "1,2,3,4", "a,b,c", "-1,1,1", "0,0,0", "nan,1,1", "inf,1,1"])
def test_weights_without_sense_are_an_error(weights: str) -> None:
    with pytest.raises(ValueError, match=f'--split "{weights}" is not three weights such as 969,30,1'):
        split_documents(weights, 100, "training")
