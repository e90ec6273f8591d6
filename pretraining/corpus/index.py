"""The index stage: documents of one sentence a line -> word pieces in Megatron's .bin/.idx, to train from.

    python -m pretraining.corpus.index --input DIR --tokenizer DIR --output-prefix PREFIX [--workers N]
    python -m pretraining.corpus.index --adopt PREFIX --tokenizer DIR

Steps of the first: cut the shards of the input into ranges of whole documents, the same ones for any number of
workers; in each task, encode the sentences of one (encode.py) into PREFIX.work; join what the tasks wrote, in order, as
PREFIX.bin and PREFIX.idx, and the documents' ids as PREFIX.ids; copy the manifest of the stage before, which holds all
earlier ones, as PREFIX.sources.json; last, write the manifest PREFIX.json. Sentences and documents without a single
word piece are dropped and counted. A run that was killed goes on with the same command (stages.py);
`.NAME.*.partial`, which it left, are overwritten or removed.
The second is for a corpus that Megatron's own tools made: see `pretraining.corpus.adopt`.
"""

import argparse
import os
import sys
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from pretraining.corpus.adopt import adopt
from pretraining.corpus.document_ids import DocumentIdWriter
from pretraining.corpus.documents import MANIFEST, list_shards, read_manifest, source_entry
from pretraining.corpus.encode import Chunk, Encode, cut_into_ranges, read_parts
from pretraining.corpus.engine import LOCAL, Engine, add_engine_flags, read_counts, read_engine
from pretraining.corpus.index_manifest import is_index_manifest, write_manifest
from pretraining.corpus.indexed import CorpusWriter, corpus_path, token_dtype
from pretraining.corpus.provenance import SOURCES
from pretraining.corpus.stages import FIRST, run_tasks, work_folder
from pretraining.corpus.tokenizer import load_tokenizer, tokenizer_sha256, vocabulary_size
from pretraining.corpus.writing import remove_partials, write_whole


def build_index(source: Path, tokenizer_folder: Path, prefix: str, engine: Engine = LOCAL) -> dict:
    """Write PREFIX and its endings from a stage folder of one sentence a line; return the manifest."""
    tokenizer = load_tokenizer(tokenizer_folder)
    source_manifest = read_manifest(source)
    if not source_manifest.get("sentences"):
        raise ValueError(
            f"{source} is not split into sentences yet; run `python -m pretraining.corpus.sentences "
            f"--input {source} --output DIR` and give that DIR as --input"
        )
    _require_replaceable(prefix)
    ranges = cut_into_ranges(list_shards(source), os.fspath(tokenizer_folder))
    # What decides the result; each task's input is the part of a shard.
    plan = {"stage": "index", "tokenizer": tokenizer_sha256(tokenizer_folder), "versions": [version("tokenizers")]}
    digests = {entry["name"]: entry["sha256"] for entry in source_manifest["files"]}
    tasks = [[digests[one.shard.name], one.start, one.end] for one in ranges]
    with work_folder(Path(prefix), plan, tasks, engine) as work:
        encode = Encode(ranges, work / FIRST, [digests[one.shard.name] for one in ranges])
        run_tasks([encode], len(ranges), work / "tasks" / FIRST, engine)
        facts = _join(ranges, list(digests), work, prefix, vocabulary_size(tokenizer))
        entry = {"stage": source_manifest["stage"], "documents": source_manifest["documents"]}
        facts["sources"] = [entry | source_entry(source / MANIFEST)]
        for ending in (SOURCES, ".json"):
            remove_partials(corpus_path(prefix, ending))
        write_whole(corpus_path(prefix, SOURCES), (source / MANIFEST).read_bytes())
        manifest = write_manifest(prefix, tokenizer_folder, tokenizer, facts)
        _unfinished(prefix).unlink()
    return manifest


def _join(ranges: list[Chunk], shards: list[str], work: Path, prefix: str, vocab_size: int) -> dict:
    """Write PREFIX.bin, .idx and .ids from what the tasks wrote; return what the manifest says of them."""
    documents_of = dict.fromkeys(shards, 0)
    with CorpusWriter(prefix, vocab_size) as writer, DocumentIdWriter(prefix) as id_writer:
        for rank, one in enumerate(tqdm(ranges, "index join", unit="task", disable=None)):
            part = read_parts(work / FIRST, rank, token_dtype(vocab_size))
            writer.add(part.tokens, part.sentence_lengths, part.document_sentences)
            id_writer.add(part.ids.tobytes(), part.id_lengths)
            documents_of[one.shard.name] += len(part.document_sentences)
        id_writer.finish()
        if writer.tokens:
            _unfinished(prefix).touch()  # from here on files without a manifest may be ours, whenever we are killed
        facts = writer.finish()
        id_writer.rename()
    counts = read_counts(work / "tasks" / FIRST)
    # How many documents each shard gave, in order: with it, a document's number leads back to its file.
    facts["shards"] = [{"name": name, "documents": number} for name, number in documents_of.items()]
    return facts | {"counts": {name.rpartition(" ")[2]: counts[name] for name in sorted(counts)}}


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
    for path in (corpus_path(prefix, suffix) for suffix in (".bin", ".idx", ".ids", SOURCES)):
        if path.exists() and not manifest_path.exists() and not _unfinished(prefix).exists():
            raise ValueError(
                f"{path} exists but {manifest_path} does not, so this stage did not make it; "
                "remove it or choose another --output-prefix"
            )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.index",
        description="Encode documents of one sentence a line into PREFIX.bin, .idx, .ids, .sources.json and .json.",
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
        help="The corpus: PREFIX.bin, .idx, .ids, .sources.json and .json; PREFIX.work is used on the way.",
    )
    parser.add_argument(
        "--adopt",
        metavar="PREFIX",
        help="Instead of all that: check a corpus that Megatron's own tools made, and write its manifest.",
    )
    add_engine_flags(parser)
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
            manifest = build_index(arguments.input, arguments.tokenizer, prefix, read_engine(arguments))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(
        f"index: {manifest['documents']:,} documents, {manifest['sentences']:,} sentences, "
        f"{manifest['tokens']:,} word pieces ({manifest['counts']['unknown_word_pieces']:,} unknown) "
        f"in {prefix}"
    )


if __name__ == "__main__":
    main()
