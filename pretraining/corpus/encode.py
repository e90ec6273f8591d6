"""Encodes documents of one sentence a line into word pieces, the tasks of the index stage; there is no command here.

Steps of a task: take the documents whose lines begin within a range of bytes of a shard, in chunks; encode their
sentences; write what each chunk adds to the corpus to the files of the task, so that memory does not grow with the
range. `read_parts` gives it back. Sentences and documents without a single word piece are dropped and counted.
"""

import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from datatrove.pipeline.base import PipelineStep
from tokenizers import Tokenizer

from pretraining.corpus.documents import changed_shard, source_entry
from pretraining.corpus.indexed import token_dtype
from pretraining.corpus.tokenizer import load_tokenizer, special_tokens, vocabulary_size
from pretraining.corpus.writing import open_whole

CHUNK_BYTES = 512 << 10  # of JSON lines; encoded together
TASK_BYTES = 16 << 20  # of JSON lines; some seconds of work, so that no worker waits long for the last one
_BATCH_SENTENCES = 256  # encoded in one call; an encoding takes a hundred times the memory of its ids


@dataclass(frozen=True)
class Chunk:
    """The documents whose lines begin within bytes [start, end) of a shard, and the tokenizer for them."""

    shard: Path
    start: int
    end: int
    tokenizer: str


@dataclass
class Encoded:
    """What documents add to the corpus."""

    tokens: np.ndarray
    sentence_lengths: np.ndarray  # int32, in word pieces
    document_sentences: np.ndarray  # int64
    ids: np.ndarray  # uint8: of the documents, each ended by a line feed
    id_lengths: np.ndarray  # int64, in bytes, with the line feed


class Encode(PipelineStep):
    """Encode one range of a shard a task, and write what it adds to the corpus, a file for each array."""

    type, name = "TOKENIZER", "word pieces"

    def __init__(self, ranges: list[Chunk], folder: Path, digests: Sequence[str] = ()) -> None:
        super().__init__()
        self.digests = tuple(digests)  # for each range, the SHA-256 of its shard
        self.ranges, self.folder, self.chunk_bytes = tuple(ranges), str(folder), CHUNK_BYTES

    def inputs(self, rank: int) -> list[Path]:
        """What a task reads, for the error of a process that is killed."""
        return [self.ranges[rank].shard]

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the files."""
        # A task is one core's work; threads of the tokenizer's own would compete with the other tasks.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        whole, counts = self.ranges[rank], Counter()
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            files = {part: stack.enter_context(open_whole(path)) for part, path in _paths(self.folder, rank).items()}
            for start in range(whole.start, whole.end, self.chunk_bytes):
                chunk = replace(whole, start=start, end=min(start + self.chunk_bytes, whole.end))
                encoded, counted = encode_chunk(chunk)
                counts.update(counted)
                for part, file in files.items():
                    file.write(getattr(encoded, part).data)
        if self.digests and whole.start == 0 and source_entry(whole.shard)["sha256"] != self.digests[rank]:
            raise changed_shard(whole.shard)
        for name, number in counts.items():
            self.stat_update(name, value=number)


def cut_into_ranges(shards: list[Path], tokenizer: str) -> list[Chunk]:
    """The ranges of all tasks: parts of shards, in order, the same ones for any number of workers."""
    return [
        Chunk(shard, start, min(start + TASK_BYTES, size), tokenizer)
        for shard in shards
        for size in [shard.stat().st_size]
        for start in range(0, size, TASK_BYTES)
    ]


def read_parts(folder: Path, rank: int, dtype: np.dtype) -> Encoded:
    """What a task of `Encode` wrote; `dtype` is that of the word pieces."""
    types = {"tokens": dtype, "sentence_lengths": np.int32, "ids": np.uint8}
    return Encoded(
        **{part: np.fromfile(path, types.get(part, np.int64)) for part, path in _paths(folder, rank).items()}
    )


def _paths(folder: Path | str, rank: int) -> dict[str, Path]:
    return {part.name: Path(folder) / f"{rank:05d}.{part.name}" for part in fields(Encoded)}


def encode_chunk(chunk: Chunk) -> tuple[Encoded, Counter]:
    """Read and encode one chunk: a sequence for each sentence, no special tokens. Returns what was dropped, too."""
    tokenizer, unk, dtype = _worker_tokenizer(chunk.tokenizer)
    sentences: list[str] = []
    sentences_read: list[int] = []  # of each document
    ids: list[bytes] = []
    for document_id, text in _read_documents(chunk):
        ids.append(document_id.encode("utf-8") + b"\n")
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        sentences += lines
        sentences_read.append(len(lines))

    arrays, lengths = [np.zeros(0, dtype)], np.zeros(len(sentences), np.int32)
    for start in range(0, len(sentences), _BATCH_SENTENCES):
        batch = sentences[start : start + _BATCH_SENTENCES]
        pieces = [one.ids for one in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
        lengths[start : start + len(batch)] = [len(one) for one in pieces]
        arrays.append(np.fromiter(itertools.chain.from_iterable(pieces), dtype))
    tokens = np.concatenate(arrays)

    document_of_sentence = np.repeat(np.arange(len(sentences_read)), sentences_read)
    kept = lengths > 0
    document_sentences = np.bincount(document_of_sentence[kept], minlength=len(sentences_read))
    counts = Counter(
        documents=len(sentences_read),
        dropped_no_word_pieces=int((document_sentences == 0).sum()),
        dropped_sentences_no_word_pieces=int((~kept).sum()),
        unknown_word_pieces=int((tokens == unk).sum()),
    )
    whole = document_sentences > 0
    ids = list(itertools.compress(ids, whole))
    id_lengths = np.array([len(one) for one in ids], np.int64)
    ids_text = np.frombuffer(b"".join(ids), np.uint8)
    return Encoded(tokens, lengths[kept], document_sentences[whole], ids_text, id_lengths), counts


def _read_documents(chunk: Chunk) -> Iterator[tuple[str, str]]:
    """(id, text) of each document of a chunk."""
    with open(chunk.shard, "rb") as lines:
        if chunk.start > 0:
            # A line that reaches into the chunk belongs to an earlier one; it may even cover all of it.
            lines.seek(chunk.start - 1)
            if not lines.readline(chunk.end - chunk.start).endswith(b"\n"):
                return
        while (place := lines.tell()) < chunk.end:
            try:
                record = orjson.loads(lines.readline())
                document_id, text = record["id"], record["text"]
            except (ValueError, KeyError, TypeError):
                document_id = text = None
            if not isinstance(text, str) or not isinstance(document_id, str) or "\n" in document_id:
                raise ValueError(
                    f"{chunk.shard}, the line at byte {place:,}, is not a document; run the stage that wrote it again"
                )
            yield document_id, text


@lru_cache(maxsize=1)
def _worker_tokenizer(folder: str) -> tuple[Tokenizer, int, np.dtype]:
    """Loaded once in each worker process: the tokenizer, the id of [UNK], and the type to store ids in."""
    tokenizer = load_tokenizer(folder)
    return tokenizer, special_tokens(tokenizer).unk, token_dtype(vocabulary_size(tokenizer))
