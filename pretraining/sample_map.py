"""Sample boundaries as a file: which word pieces make up sample 0, 1, 2, ... of one split of a corpus.

A sample is a run of word pieces of one document. Documents are cut one after another into runs of the target length
(the sequence length less [CLS] and two [SEP]); 5 % of the samples have a random shorter target, as in ELECTRA's
builder. What a cut leaves over begins the next sample, so nothing is lost: a cut sentence goes on in the next
sample. The boundaries are fixed by (corpus, split, length, seed), so every epoch has the same samples; all else
varies with the epoch (data.py).

Steps: (1) `split_documents` turns `--split` into a range of documents; (2) `build_sample_map` cuts all documents of
a block at once, one sample of each per round, and appends to a temporary file; (3) the file is renamed; (4)
`open_sample_map` maps it.

One record a sample, 16 bytes: `sentence` (index in the corpus), `offset` (word pieces into that sentence), `length`
(word pieces), `target` (the length it was cut for, which decides the middle of its two segments).
"""

import os
import secrets
from pathlib import Path

import numpy as np

from pretraining.corpus.indexed import IndexedCorpus
from pretraining.masking import STREAM_SHORT, STREAM_SHORT_LENGTH, hash_bits, uniforms

RECORD = np.dtype([("sentence", "<i8"), ("offset", "<i4"), ("length", "<u2"), ("target", "<u2")])
SPECIALS_PER_SAMPLE = 3  # [CLS] first [SEP] second [SEP]; a sample of one segment has two
SHORTEST_TARGET = 5  # word pieces; the reference draws short lengths from [5, maximum]
DOCUMENTS_PER_BLOCK = 65_536  # working arrays stay near the cache: three times as fast as blocks of a million
SPLITS = ("training", "validation", "test")


def split_documents(weights: str, num_documents: int, split: str) -> tuple[int, int]:
    """Range [first, last) of the documents of a split; weights like "969,30,1" divide them in corpus order.

    Raises ValueError where the weights make no sense or leave the split without a document.
    """
    try:
        shares = np.array([float(weight) for weight in weights.split(",")])
        assert len(shares) == len(SPLITS) and (shares >= 0).all() and 0 < shares.sum() < np.inf
    except (ValueError, AssertionError):
        raise ValueError(f'--split "{weights}" is not three weights such as 969,30,1') from None
    bounds = np.rint(np.concatenate([[0], np.cumsum(shares)]) / shares.sum() * num_documents).astype(np.int64)
    first, last = (int(bound) for bound in bounds[SPLITS.index(split) :][:2])
    if first == last:
        raise ValueError(
            f'--split "{weights}" leaves no document for {split}: the corpus has {num_documents} document(s); '
            "change the weights or use a larger corpus"
        )
    return first, last


def cut_documents(
    document_ids: np.ndarray, tokens: np.ndarray, longest: int, short_prob: float, seed: int
) -> np.ndarray:
    """Cut documents into samples, one sample of every unfinished document per round.

    document_ids, tokens: int64 [D], index and word pieces of each; longest: word pieces of a full sample.
    Returns int64 [N, 4] in document order: (row in document_ids, start within the document, length, target).
    """
    rows, rounds, pieces = np.flatnonzero(tokens), 0, []  # other tools' corpora may hold empty documents
    starts = np.zeros(len(rows), np.int64)
    while len(rows):
        keys = (document_ids[rows], rounds)
        target = np.full(len(rows), longest, np.int64)
        short = np.flatnonzero(uniforms(seed, STREAM_SHORT, *keys) < short_prob)
        if len(short):
            shortest = min(SHORTEST_TARGET, longest)
            span = np.uint64(longest - shortest + 1)
            bits = hash_bits(seed, STREAM_SHORT_LENGTH, *keys)[short]
            target[short] = shortest + (bits % span).astype(np.int64)
        length = np.minimum(target, tokens[rows] - starts)
        pieces.append(np.stack([rows, starts, length, target], axis=1))
        starts = starts + length
        unfinished = starts < tokens[rows]
        rows, starts, rounds = rows[unfinished], starts[unfinished], rounds + 1
    samples = np.concatenate(pieces) if pieces else np.zeros((0, 4), np.int64)
    return samples[np.argsort(samples[:, 0], kind="stable")]


def sample_records(corpus: IndexedCorpus, first: int, last: int, cut: tuple[int, float, int]) -> np.ndarray:
    """RECORD array of the samples of documents [first, last); cut: (longest, short_prob, seed) for cut_documents."""
    sentence_bounds = np.asarray(corpus.document_starts[first : last + 1])
    lengths = np.asarray(corpus.sentence_lengths[sentence_bounds[0] : sentence_bounds[-1]], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(lengths)])  # word pieces before each sentence of the block
    document_ends = ends[sentence_bounds - sentence_bounds[0]]
    samples = cut_documents(np.arange(first, last), np.diff(document_ends), *cut)

    position = document_ends[:-1][samples[:, 0]] + samples[:, 1]
    sentence = np.searchsorted(ends, position, side="right") - 1
    records = np.empty(len(samples), RECORD)
    records["sentence"] = sentence + sentence_bounds[0]
    records["offset"] = position - ends[sentence]
    records["length"], records["target"] = samples[:, 2], samples[:, 3]
    return records


def sample_map_path(
    prefix: str | Path,
    folder: str | Path | None,
    corpus_hash: str,
    documents: tuple[int, int],
    cut: tuple[int, float, int],
) -> Path:
    """Where the sample map of these settings lies; every setting that decides its content is in its name."""
    longest, short_prob, seed = cut
    name = f"{Path(prefix).name}.{corpus_hash[:12]}.{documents[0]}-{documents[1]}.{longest}.{short_prob}.{seed}.samples"
    return Path(folder or Path(prefix).parent) / name


def build_sample_map(
    corpus: IndexedCorpus, path: Path, documents: tuple[int, int], cut: tuple[int, float, int]
) -> None:
    """Write the sample map under a temporary name and rename it; does nothing where it is there already."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own for each writer: in containers the rank 0 of two runs may well have the same process id.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            for first in range(documents[0], documents[1], DOCUMENTS_PER_BLOCK):
                block = sample_records(corpus, first, min(first + DOCUMENTS_PER_BLOCK, documents[1]), cut)
                file.write(block.tobytes())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def open_sample_map(path: Path) -> np.memmap:
    """Map a sample map, RECORD [number of samples]. Raises ValueError where it is empty or cut off."""
    size = path.stat().st_size
    if size == 0 or size % RECORD.itemsize:
        raise ValueError(f"{path} is not a whole sample map ({size} bytes): delete it, it will be built again")
    return np.memmap(path, RECORD, mode="r")
