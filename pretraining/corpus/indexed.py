"""The corpus on disk: Megatron's indexed data set (`PREFIX.bin` and `PREFIX.idx`), its writer and its reader.

Classes only, no command: `pretraining.corpus.index` writes with them, the training data reads with them.

    PREFIX.bin    the word pieces of all sequences, one after the other, little endian, uint16 or int32
    PREFIX.idx    "MMIDIDX" 0 0 | uint64 version (1) | uint8 type code
                  | uint64 number of sequences | uint64 number of documents + 1
                  | int32 lengths[sequences], in word pieces | int64 offsets[sequences], in bytes
                  | int64 boundaries[documents + 1]: the first sequence of each document, and the end

A sequence is a sentence in what we write; in GPT-style corpora it is a whole document, read the same way.

Steps of writing: the word pieces go to the .bin as they come and the lengths to temporary files, so that
memory does not grow with the corpus; `finish` makes the .idx of them, and only then are both files named.
Steps of reading: map both files into memory, compare every count in the .idx with the sizes of the files.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pretraining.corpus.writing import naming_file

_HEADER = struct.Struct("<9sQBQQ")  # magic, version, type code, sequences, documents + 1
_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_TYPES = {
    1: "<u1",
    3: "<i2",
    4: "<i4",
    5: "<i8",
    8: "<u2",
}  # 2, 6, 7: int8 and floats
_LARGEST_UINT16_VOCABULARY = 65_499  # entries; Megatron's own rule is "below 65,500"
_COPY_ENTRIES = 1 << 20  # entries of an array in memory at a time while the .idx is made


def token_dtype(vocab_size: int) -> np.dtype:
    """The type Megatron stores word pieces in: uint16 where the vocabulary allows it, else int32."""
    return np.dtype("<u2" if vocab_size <= _LARGEST_UINT16_VOCABULARY else "<i4")


def corpus_path(prefix: str | Path, suffix: str) -> Path:
    """PREFIX with a suffix put behind it, whatever dots PREFIX has: a/v1.2 with .bin is a/v1.2.bin."""
    return Path(os.fspath(prefix) + suffix)


class IndexedCorpus:
    """A corpus opened for reading; every array is mapped from the files, nothing is read before it is used.

    tokens             1-D, all word pieces of the corpus, of type `dtype`
    sentence_lengths   int32 [num_sentences], in word pieces
    sentence_starts    int64 [num_sentences], where in `tokens` each sentence begins; to be indexed or sliced
    document_starts    int64 [num_documents + 1], each document's first sentence, and at last num_sentences

    Opening takes the same time for every size. It raises ValueError, naming the file, where header, counts,
    ends of the arrays and sizes of the files disagree; what lies between the ends only `verify` compares.
    """

    def __init__(self, prefix: str | Path):
        self.prefix = os.fspath(prefix)
        bin_path, idx_path = corpus_path(prefix, ".bin"), corpus_path(prefix, ".idx")
        for path in (bin_path, idx_path):
            if not path.is_file():
                raise ValueError(f"{path} does not exist; make the corpus with `python -m pretraining.corpus.index`")
        self.dtype, self.num_sentences, boundaries = _read_header(idx_path)
        self.num_documents = boundaries - 1

        lengths_at = _HEADER.size
        offsets_at = lengths_at + 4 * self.num_sentences
        boundaries_at = offsets_at + 8 * self.num_sentences
        _require_size(idx_path, boundaries_at + 8 * boundaries, "its own header")
        self.sentence_lengths = np.memmap(idx_path, "<i4", "r", lengths_at, (self.num_sentences,))
        self._offsets = np.memmap(idx_path, "<i8", "r", offsets_at, (self.num_sentences,))
        self.document_starts = np.memmap(idx_path, "<i8", "r", boundaries_at, (boundaries,))
        self.sentence_starts = _TokenStarts(self._offsets, self.dtype.itemsize)

        ends = (self._offsets[0], self.document_starts[0], self.document_starts[-1])
        if ends != (0, 0, self.num_sentences):
            raise ValueError(
                f"{idx_path} is damaged: its arrays do not begin at 0 and end at its counts; make it again"
            )
        bin_bytes = int(self._offsets[-1]) + int(self.sentence_lengths[-1]) * self.dtype.itemsize
        _require_size(bin_path, bin_bytes, idx_path)
        self.num_tokens = bin_bytes // self.dtype.itemsize
        if self.num_tokens == 0:
            raise ValueError(f"{bin_path} holds no word pieces; make the corpus again from text that has some")
        self.tokens = np.memmap(bin_path, self.dtype, "r", 0, (self.num_tokens,))

    def __reduce__(self):
        # A worker process maps the files anew instead of receiving their content.
        return IndexedCorpus, (self.prefix,)

    def sentence(self, index: int) -> np.ndarray:
        """The word pieces of one sentence, a view of the mapped file."""
        start = int(self.sentence_starts[index])
        return self.tokens[start : start + int(self.sentence_lengths[index])]

    def verify(self) -> None:
        """Read the whole .idx; raise ValueError where lengths, offsets or documents contradict each other."""
        idx_path, end_bytes = corpus_path(self.prefix, ".idx"), 0
        for start in range(0, self.num_sentences, _COPY_ENTRIES):
            lengths = self.sentence_lengths[start : start + _COPY_ENTRIES].astype(np.int64)
            offsets, end_bytes = _offsets(lengths, end_bytes, self.dtype.itemsize)
            if lengths.min() < 0 or not np.array_equal(offsets, self._offsets[start : start + _COPY_ENTRIES]):
                raise ValueError(f"{idx_path} is damaged: its offsets are not the sums of its lengths; make it again")
        for start in range(0, self.num_documents, _COPY_ENTRIES):
            if (np.diff(self.document_starts[start : start + _COPY_ENTRIES + 1]) < 0).any():
                raise ValueError(f"{idx_path} is damaged: its document boundaries go backwards; make it again")


class CorpusWriter:
    """Writes a corpus in any number of `add`s and a `finish`, under its final names only when it is whole.

    Used as a context manager: leaving it without `finish` removes everything it wrote.
    """

    def __init__(self, prefix: str | Path, vocab_size: int):
        self.prefix, self.vocab_size, self.dtype = os.fspath(prefix), vocab_size, token_dtype(vocab_size)
        self.documents = self.sentences = self.tokens = 0
        corpus_path(prefix, ".bin").parent.mkdir(parents=True, exist_ok=True)
        self._partial = {
            name: corpus_path(prefix, "").parent / f".{Path(prefix).name}.{name}.partial"
            for name in ("bin", "idx", "lengths", "documents")
        }
        self._files = {name: open(self._partial[name], "wb") for name in ("bin", "lengths", "documents")}
        self._digest = hashlib.sha256()

    def __enter__(self) -> "CorpusWriter":
        return self

    def __exit__(self, *_) -> None:
        for file in self._files.values():
            with suppress(OSError):  # what a full disk did not take of a file that is removed
                file.close()
        for path in self._partial.values():
            path.unlink(missing_ok=True)

    def add(self, tokens: np.ndarray, sentence_lengths: np.ndarray, document_sentences: np.ndarray) -> None:
        """Append documents: word pieces, word pieces of each sentence, sentences of each document."""
        if len(tokens) == 0:
            return
        if int(tokens.min()) < 0 or int(tokens.max()) >= self.vocab_size:
            raise ValueError(f"a word piece's id is not within the vocabulary of {self.vocab_size:,} entries")
        if int(sentence_lengths.sum()) != len(tokens) or int(document_sentences.sum()) != len(sentence_lengths):
            raise ValueError("the lengths of sentences and documents do not add up to what was given")
        data = np.ascontiguousarray(tokens, self.dtype).data.cast("B")
        with naming_file(corpus_path(self.prefix, ".bin")):
            self._files["bin"].write(data)
            self._files["lengths"].write(sentence_lengths.astype("<i4").tobytes())
            self._files["documents"].write(document_sentences.astype("<i8").tobytes())
        self._digest.update(data)
        self.tokens += len(tokens)
        self.sentences += len(sentence_lengths)
        self.documents += len(document_sentences)

    def finish(self) -> dict:
        """Make the .idx, give both files their names, return counts, size and hashes for the manifest.

        A manifest PREFIX.json of an earlier corpus is removed first, so that it never stands beside files
        that it does not describe. Raises ValueError if nothing was added.
        """
        if self.tokens == 0:
            raise ValueError(f"there are no word pieces to write to {self.prefix}.bin; the documents are all empty")
        with naming_file(corpus_path(self.prefix, ".bin")):
            for file in self._files.values():
                _sync_and_close(file)
        with naming_file(corpus_path(self.prefix, ".idx")), open(self._partial["idx"], "wb") as file:
            idx_digest = self._write_idx(file)
            _sync_and_close(file)
        bin_bytes = self._partial["bin"].stat().st_size
        corpus_path(self.prefix, ".json").unlink(missing_ok=True)
        for name in ("bin", "idx"):
            os.replace(self._partial[name], corpus_path(self.prefix, f".{name}"))
        return {
            "documents": self.documents,
            "sentences": self.sentences,
            "tokens": self.tokens,
            "bin_bytes": bin_bytes,
            "bin_sha256": self._digest.hexdigest(),
            "idx_sha256": idx_digest,
        }

    def _write_idx(self, file: BinaryIO) -> str:
        digest = hashlib.sha256()

        def write(data: bytes) -> None:
            file.write(data)
            digest.update(data)

        code = next(code for code, name in _TYPES.items() if np.dtype(name) == self.dtype)
        write(_HEADER.pack(_MAGIC, _VERSION, code, self.sentences, self.documents + 1))
        for lengths in _read_entries(self._partial["lengths"], "<i4"):
            write(lengths.tobytes())
        end_bytes = 0
        for lengths in _read_entries(self._partial["lengths"], "<i4"):
            offsets, end_bytes = _offsets(lengths.astype(np.int64), end_bytes, self.dtype.itemsize)
            write(offsets.astype("<i8").tobytes())
        last = 0
        write(struct.pack("<q", last))
        for counts in _read_entries(self._partial["documents"], "<i8"):
            ends = last + np.cumsum(counts)
            last = int(ends[-1])
            write(ends.astype("<i8").tobytes())
        return digest.hexdigest()


class _TokenStarts:
    """An int64 array of offsets in bytes as offsets in word pieces, computed for the entries asked for."""

    dtype = np.dtype(np.int64)

    def __init__(self, offsets_bytes: np.ndarray, itemsize: int):
        self._offsets_bytes, self._itemsize = offsets_bytes, itemsize

    @property
    def shape(self) -> tuple[int, ...]:
        return self._offsets_bytes.shape

    def __len__(self) -> int:
        return len(self._offsets_bytes)

    def __getitem__(self, key) -> np.ndarray | np.int64:
        return self._offsets_bytes[key] // self._itemsize

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def _offsets(lengths: np.ndarray, start_bytes: int, itemsize: int) -> tuple[np.ndarray, int]:
    """Where each sequence starts, in bytes, and where the last one ends; lengths in word pieces, int64."""
    ends = start_bytes + np.cumsum(lengths * itemsize)
    return ends - lengths * itemsize, int(ends[-1])


def _read_header(path: Path) -> tuple[np.dtype, int, int]:
    """Type of the word pieces, number of sequences, number of document boundaries."""
    with open(path, "rb") as file:
        header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise ValueError(f"{path} is not the index of a Megatron corpus, or is cut off; make it again")
    _, version, code, sequences, boundaries = _HEADER.unpack(header)
    if version != _VERSION:
        raise ValueError(f"{path} has version {version} of Megatron's format; only version {_VERSION} can be read")
    if code not in _TYPES:
        raise ValueError(f"{path} has the type code {code}, which is no integer type of Megatron's for word pieces")
    if sequences == 0 or boundaries < 2:
        raise ValueError(f"{path} says that the corpus has no documents; make it again from text that has some")
    return np.dtype(_TYPES[code]), sequences, boundaries


def _require_size(path: Path, expected_bytes: int, according_to: str | Path) -> None:
    found = path.stat().st_size
    if found != expected_bytes:
        state = "cut off" if found < expected_bytes else "too long"
        raise ValueError(
            f"{path} is {state}: it has {found:,} bytes and should have {expected_bytes:,} "
            f"by {according_to}; make or copy the corpus again"
        )


def _read_entries(path: Path, dtype: str) -> Iterator[np.ndarray]:
    with open(path, "rb") as file:
        while len(entries := np.fromfile(file, dtype, _COPY_ENTRIES)):
            yield entries


def _sync_and_close(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
