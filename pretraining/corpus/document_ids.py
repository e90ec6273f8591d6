"""The documents' ids beside an index: which PMID a sample came from. `PREFIX.ids`, its writer and its reader.

Classes only, no command: `pretraining.corpus.index` writes the file, `pretraining.corpus_info` reads it.

    PREFIX.ids    "EMIDS" 0 0 0 | uint64 version (1) | uint64 number of documents | uint64 bytes of text
                  | the ids in the order of the documents, each ended by a line feed, UTF-8
                  | zeros up to a multiple of 8 | int64 starts[ceil(documents / 64)]: where each 64th id begins

Little endian. Nine bytes a document for PubMed, 350 MB for all of it; an id costs one read of at most 64.

Steps of writing: ids go to a temporary file as they come; `finish` adds the starts and fills in the header; the
caller names the file (`rename`) once the index that it describes is whole. Steps of reading: map, look up.
"""

import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np

from pretraining.corpus.indexed import corpus_path
from pretraining.corpus.writing import naming_file

_HEADER = struct.Struct("<8sQQQ")  # magic, version, documents, bytes of text
_MAGIC, _VERSION = b"EMIDS\x00\x00\x00", 1
_BLOCK = 64  # ids between two entries of `starts`


class DocumentIdWriter:
    """Writes PREFIX.ids; leaving it as a context manager without `rename` removes what it wrote."""

    def __init__(self, prefix: str | Path):
        self.path = corpus_path(prefix, ".ids")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        self.documents = self._bytes = 0
        self._starts: list[np.ndarray] = []
        self._file = open(self._partial, "wb")
        self._file.write(bytes(_HEADER.size))

    def __enter__(self) -> "DocumentIdWriter":
        return self

    def __exit__(self, *_) -> None:
        with suppress(OSError):  # what a full disk did not take of a file that is removed
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def add(self, text: bytes, lengths: np.ndarray) -> None:
        """Append ids: each ended by a line feed, UTF-8, and the bytes of each with it, int64 [documents]."""
        assert int(lengths.sum()) == len(text) and text.count(b"\n") == len(lengths)
        starts = self._bytes + np.cumsum(lengths) - lengths
        self._starts.append(starts[-self.documents % _BLOCK :: _BLOCK])
        with naming_file(self.path):
            self._file.write(text)
        self._bytes += len(text)
        self.documents += len(lengths)

    def finish(self) -> None:
        """Make the file whole and put it on disk, still under its temporary name."""
        with naming_file(self.path):
            self._file.write(bytes(-self._bytes % 8))
            for starts in self._starts:
                self._file.write(starts.astype("<i8").tobytes())
            self._file.seek(0)
            self._file.write(_HEADER.pack(_MAGIC, _VERSION, self.documents, self._bytes))
            self._file.flush()
            os.fsync(self._file.fileno())

    def rename(self) -> None:
        """Give the finished file its name."""
        os.replace(self._partial, self.path)


class DocumentIds:
    """The ids of a corpus, mapped: `ids[document]` is a string. Raises ValueError where the file is not whole."""

    def __init__(self, prefix: str | Path):
        self.path = corpus_path(prefix, ".ids")
        if not self.path.is_file():
            raise ValueError(
                f"{self.path} does not exist, so documents cannot be traced; an adopted corpus has none, "
                "for another run the index stage again"
            )
        size = self.path.stat().st_size
        with open(self.path, "rb") as file:
            header = file.read(_HEADER.size)
        magic, version, self._documents, text_bytes = (
            _HEADER.unpack(header) if len(header) == _HEADER.size else (b"", 0, 0, 0)
        )
        starts, starts_at = -(-self._documents // _BLOCK), _HEADER.size + text_bytes + -text_bytes % 8
        if (magic, version) != (_MAGIC, _VERSION) or size != starts_at + 8 * starts or not self._documents:
            raise ValueError(f"{self.path} is not a whole file of document ids; run the index stage again")
        self._text = np.memmap(self.path, np.uint8, "r", _HEADER.size, (text_bytes,))
        self._starts = np.memmap(self.path, "<i8", "r", starts_at, (starts,))

    def __len__(self) -> int:
        return self._documents

    def __getitem__(self, document: int) -> str:
        if not 0 <= document < self._documents:
            raise IndexError(document)
        block, place = divmod(document, _BLOCK)
        end = int(self._starts[block + 1]) if block + 1 < len(self._starts) else len(self._text)
        return self._text[int(self._starts[block]) : end].tobytes().split(b"\n")[place].decode("utf-8")
