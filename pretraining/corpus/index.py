"""The index stage: documents of one sentence a line -> word pieces in Megatron's .bin/.idx, to train from.

    python -m pretraining.corpus.index --input DIR --tokenizer DIR --output-prefix PREFIX [--workers N]
    python -m pretraining.corpus.index --adopt PREFIX --tokenizer DIR

Steps of the first: cut the shards of the input into chunks of whole documents, the same ones for any number
of workers; in each worker, cut the documents at line ends and encode the sentences; write the chunks in order
to PREFIX.bin and PREFIX.idx, each byte once, and the documents' ids to PREFIX.ids; last, write the manifest
PREFIX.json, which holds those of all stages before. Sentences and documents without a single word piece are
dropped and counted. What a killed run leaves (`.NAME.*.partial`) the next one overwrites.
The second is for a corpus that Megatron's own tools made: see `pretraining.corpus.adopt`.
"""

import argparse
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import orjson
from tokenizers import Tokenizer

from pretraining.corpus.adopt import adopt, is_index_manifest, write_manifest
from pretraining.corpus.document_ids import DocumentIdWriter
from pretraining.corpus.documents import MANIFEST, list_shards, read_manifest, source_entry
from pretraining.corpus.indexed import CorpusWriter, corpus_path, token_dtype
from pretraining.corpus.tokenizer import load_tokenizer, special_tokens, tokenizer_sha256, vocabulary_size
from pretraining.corpus.workers import map_in_order, usable_cores

CHUNK_BYTES = 512 << 10  # of JSON lines; less than a second of work, so that no worker waits long for the last one
_BATCH_SENTENCES = 256  # encoded in one call; an encoding takes a hundred times the memory of its ids


@dataclass(frozen=True)
class Chunk:
    """The documents whose lines begin within bytes [start, end) of a shard, and the tokenizer for them."""

    shard: Path
    start: int
    end: int
    tokenizer: str


@dataclass
class EncodedChunk:
    """What a chunk adds to the corpus, and what was dropped."""

    tokens: np.ndarray
    sentence_lengths: np.ndarray  # in word pieces
    document_sentences: np.ndarray
    ids: bytes  # of the documents, each ended by a line feed
    id_lengths: np.ndarray  # in bytes, with the line feed
    counts: Counter


def build_index(source: Path, tokenizer_folder: Path, prefix: str, workers: int) -> dict:
    """Write PREFIX.bin, .idx and .json from a stage folder of one sentence a line; return the manifest."""
    tokenizer = load_tokenizer(tokenizer_folder)
    source_manifest = read_manifest(source)
    if not source_manifest.get("sentences"):
        raise ValueError(
            f"{source} is not split into sentences yet; run `python -m pretraining.corpus.sentences "
            f"--input {source} --output DIR` and give that DIR as --input"
        )
    _require_replaceable(prefix)
    # A worker is one core's work; threads of the tokenizer's own would compete with the other workers.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    chunks = _chunks(source, os.fspath(tokenizer_folder))
    counts: Counter = Counter()
    documents_of = dict.fromkeys((entry["name"] for entry in source_manifest["files"]), 0)
    with CorpusWriter(prefix, vocabulary_size(tokenizer)) as writer, DocumentIdWriter(prefix) as id_writer:
        encoded_chunks = map_in_order(encode_chunk, chunks, workers=workers, description="index", unit="chunk")
        for chunk, encoded in zip(chunks, encoded_chunks, strict=True):
            writer.add(encoded.tokens, encoded.sentence_lengths, encoded.document_sentences)
            id_writer.add(encoded.ids, encoded.id_lengths)
            documents_of[chunk.shard.name] += len(encoded.document_sentences)
            counts.update(encoded.counts)
        id_writer.finish()
        if writer.tokens:
            _unfinished(prefix).touch()  # from here on files without a manifest may be ours, whenever we are killed
        facts = writer.finish()
        id_writer.rename()
    entry = {
        "stage": source_manifest["stage"],
        "documents": source_manifest["documents"],
        **source_entry(source / MANIFEST),
        "manifest": source_manifest,
    }
    # How many documents each shard gave, in order: with it, a document's number leads back to its file.
    shards = [{"name": name, "documents": number} for name, number in documents_of.items()]
    facts |= {"sources": [entry], "shards": shards, "counts": dict(sorted(counts.items()))}
    manifest = write_manifest(prefix, tokenizer_folder, tokenizer, facts)
    _unfinished(prefix).unlink()
    return manifest


def encode_chunk(chunk: Chunk) -> EncodedChunk:
    """Read and encode one chunk: a sequence for each sentence, no special tokens."""
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
    return EncodedChunk(tokens, lengths[kept], document_sentences[whole], b"".join(ids), id_lengths, counts)


def read_index_manifest(prefix: str | Path, tokenizer_folder: str | Path = "DIR") -> dict:
    """Return the manifest of the corpus PREFIX. Raises ValueError if there is none, or it describes another .bin."""
    path = corpus_path(prefix, ".json")
    if not path.is_file():
        raise ValueError(
            f"{path} is missing, so {prefix} is unfinished or not made here; run the index stage again, "
            f"or `python -m pretraining.corpus.index --adopt {prefix} --tokenizer {tokenizer_folder}`"
        )
    if not is_index_manifest(path):
        raise ValueError(f"{path} is not the manifest of a corpus; run the index stage again")
    manifest = json.loads(path.read_text(encoding="utf-8"))
    bin_path = corpus_path(prefix, ".bin")
    if not bin_path.is_file() or bin_path.stat().st_size != manifest["bin_bytes"]:
        raise ValueError(f"{bin_path} is not the file that {path} describes; make or copy the corpus again")
    return manifest


def check_tokenizer(prefix: str | Path, tokenizer_folder: str | Path) -> dict:
    """Return the manifest of the corpus PREFIX, once it is known that this tokenizer made it.

    Raises ValueError as `read_index_manifest` does, and if another tokenizer made the corpus.
    """
    manifest = read_index_manifest(prefix, tokenizer_folder)
    made_with, given = manifest["tokenizer_sha256"], tokenizer_sha256(tokenizer_folder)
    if made_with != given:
        raise ValueError(
            f"the corpus {prefix} was made with another tokenizer ({manifest['vocab_size']:,} entries, "
            f"sha256 {made_with[:12]}) than {tokenizer_folder} (sha256 {given[:12]}); give that one, "
            "or run the index stage with this one"
        )
    return manifest


def _chunks(source: Path, tokenizer: str) -> list[Chunk]:
    return [
        Chunk(shard, start, min(start + CHUNK_BYTES, size), tokenizer)
        for shard in list_shards(source)
        for size in [shard.stat().st_size]
        for start in range(0, size, CHUNK_BYTES)
    ]


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


def _unfinished(prefix: str) -> Path:
    """A file that is there while the finished files get their names."""
    return corpus_path(prefix, "").parent / f".{Path(prefix).name}.unfinished"


def _require_replaceable(prefix: str) -> None:
    """Refuse to replace anything but an earlier corpus of this stage."""
    if prefix.endswith("/") or Path(prefix).is_dir():
        raise ValueError(f"--output-prefix {prefix} is a folder; add a name, as in {Path(prefix) / 'corpus'}")
    manifest_path = corpus_path(prefix, ".json")
    if manifest_path.exists() and not is_index_manifest(manifest_path):
        raise ValueError(f"{manifest_path} was not made by this stage; choose another --output-prefix")
    for path in (corpus_path(prefix, suffix) for suffix in (".bin", ".idx", ".ids")):
        if path.exists() and not manifest_path.exists() and not _unfinished(prefix).exists():
            raise ValueError(
                f"{path} exists but {manifest_path} does not, so this stage did not make it; "
                "remove it or choose another --output-prefix"
            )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.index",
        description="Encode documents of one sentence a line into PREFIX.bin, .idx, .ids and .json.",
    )
    parser.add_argument("--input", type=Path, metavar="DIR", help="The folder that the sentences stage wrote.")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="DIR",
        required=True,
        help="The folder that the vocab stage wrote, or a Hugging Face folder with a tokenizer.json.",
    )
    parser.add_argument(
        "--output-prefix",
        metavar="PREFIX",
        help="The corpus is written to PREFIX.bin, PREFIX.idx, PREFIX.ids, PREFIX.json.",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        default=usable_cores(),
        help="Number of processes; does not change the result. Default: one per core (here %(default)s).",
    )
    parser.add_argument(
        "--adopt",
        metavar="PREFIX",
        help="Instead of all that: check a corpus that Megatron's own tools made, and write its manifest.",
    )
    arguments = parser.parse_args()
    if arguments.adopt is None and None in (arguments.input, arguments.output_prefix):
        parser.error("give --input and --output-prefix, or --adopt")
    if arguments.adopt is not None and (arguments.input, arguments.output_prefix) != (None, None):
        parser.error("--adopt goes with --tokenizer alone, without --input and --output-prefix")
    return arguments


def main() -> None:
    """Run the command."""
    arguments = _parse_arguments()
    prefix = arguments.adopt or arguments.output_prefix
    try:
        if arguments.adopt:
            manifest = adopt(prefix, arguments.tokenizer)
        else:
            manifest = build_index(arguments.input, arguments.tokenizer, prefix, arguments.workers)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(
        f"index: {manifest['documents']:,} documents, {manifest['sentences']:,} sentences, "
        f"{manifest['tokens']:,} word pieces ({manifest['counts']['unknown_word_pieces']:,} unknown) "
        f"in {prefix}"
    )


if __name__ == "__main__":
    main()
