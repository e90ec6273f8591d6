"""The vocabulary stage: documents -> a WordPiece, BPE or Unigram vocabulary, as a folder that `transformers` loads.

    python -m pretraining.corpus.vocab --input DIR --output DIR --vocab-size N [--type bpe] [--cased] [--keep-accents]
    python -m pretraining.corpus.vocab --input 0.7 DIR 0.3 DIR --output DIR --vocab-size N
    python -m pretraining.corpus.vocab --from-vocab FILE --output DIR --uncased

Steps of the first two: count the words of each folder after the clean-up, weigh and add up the counts, keep the most
frequent words (`word_counts.py`); train on them, with [PAD] [UNK] [CLS] [SEP] [MASK] at ids 0 to 4
(`vocab_train.py`); write the folder, its manifest included, and move it into place. The same text and weights give
the same bytes, whatever the number of workers.
The third takes an existing vocab.txt, which is WordPiece's: every entry keeps its line number as id, empty lines too.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer

from pretraining.corpus.blend_weights import parse_blend
from pretraining.corpus.code_digest import digest_of_code
from pretraining.corpus.documents import MANIFEST, read_manifest, source_entry
from pretraining.corpus.tokenizer import (
    KINDS,
    SPECIAL_TOKENS,
    assemble_tokenizer,
    build_tokenizer,
    tokenizer_sha256,
    write_tokenizer,
)
from pretraining.corpus.vocab_train import ALPHABET_CHARACTERS, MINIMUM_FREQUENCY, train_model
from pretraining.corpus.word_counts import Words, count_words
from pretraining.corpus.workers import usable_cores
from pretraining.corpus.writing import naming_file

MAX_WORDS = 1_000_000  # different ones
_CASED_SHARE = 0.05  # an uncased vocabulary has few entries with capitals (SciVocab 0.5 %), a cased one a third


def read_vocabulary(path: Path) -> list[str]:
    """The entries of a vocab.txt, one a line, in order; empty lines are entries, too."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start:,}; a vocab.txt is a text file") from None
    # Not splitlines(): an entry may be one of the rare characters that Python counts as line ends.
    entries = text.replace("\r\n", "\n").split("\n")
    return entries[:-1] if entries[-1] == "" else entries


def looks_cased(vocabulary: list[str]) -> bool:
    """Whether so many entries have capital letters that the vocabulary must be a cased one."""
    with_capitals = sum(entry != entry.lower() for entry in vocabulary if entry not in SPECIAL_TOKENS)
    return with_capitals > _CASED_SHARE * len(vocabulary)


def write_folder(output: Path, tokenizer: Tokenizer, facts: dict) -> None:
    """Write the tokenizer folder `output`, manifest included, in one move; replaces only its own kind."""
    output = output.resolve()
    _require_replaceable(output)
    partial, earlier = (output.with_name(f".{output.name}.{state}") for state in ("partial", "earlier"))
    for folder in (partial, earlier):
        shutil.rmtree(folder, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with naming_file(output):
            write_tokenizer(partial, tokenizer)
        files = [source_entry(path) for path in sorted(partial.iterdir())]
        manifest = {
            "stage": "vocab",
            "vocab_size": tokenizer.get_vocab_size(with_added_tokens=True),
            "tokenizer_sha256": tokenizer_sha256(partial),
            "files": files,
            **facts,
            "versions": {"python": platform.python_version(), "tokenizers": version("tokenizers")},
            "code": digest_of_code(),
        }
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        (partial / MANIFEST).write_text(text, encoding="utf-8")
        for path in partial.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        if output.exists():
            output.rename(earlier)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(earlier, ignore_errors=True)


def _require_replaceable(output: Path) -> None:
    """Refuse to replace anything but an earlier output of this stage."""
    if not output.exists():
        return
    if not output.is_dir():
        raise ValueError(f"--output {output} is a file; name a new folder")
    names = {path.name for path in output.iterdir()}
    try:
        manifest = json.loads((output / MANIFEST).read_text(encoding="utf-8"))
        ours = {entry["name"] for entry in manifest["files"]} | {MANIFEST} if manifest["stage"] == "vocab" else set()
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    if foreign := sorted(names - ours):
        raise ValueError(f"--output {output} holds {foreign[0]}, which this stage did not make; name a new folder")


def _from_vocabulary_file(path: Path, arguments: argparse.Namespace) -> list[str]:
    vocabulary = read_vocabulary(path)
    if arguments.vocab_size not in (None, len(vocabulary)):
        raise ValueError(
            f"{path} has {len(vocabulary):,} entries, not --vocab-size {arguments.vocab_size:,}; leave that flag out"
        )
    if arguments.lowercase is None and looks_cased(vocabulary):
        raise ValueError(f"{path} looks like a cased vocabulary; say --cased or --uncased")
    return vocabulary


def _train(arguments: argparse.Namespace, lowercase: bool, strip_accents: bool) -> tuple[Tokenizer, dict]:
    """The tokenizer that the flags ask for, and what its manifest says of it."""
    names, weights = parse_blend(arguments.input, "--input")
    folders = [Path(name) for name in names]
    sources = []
    for number, folder in enumerate(folders):
        manifest = read_manifest(folder)
        facts = {"stage": manifest["stage"], "documents": manifest["documents"]}
        facts |= {"weight": weights[number]} if weights else {}
        sources.append({**facts, **source_entry(folder / MANIFEST)})
    if arguments.max_words < 1:
        raise ValueError(f"--max-words {arguments.max_words} is not a number of words; give 1 or more")
    output = arguments.output.resolve()
    words = Words(arguments.type, lowercase, strip_accents)
    work = output.with_name(f".{output.name}.counts")
    counts = count_words(folders, weights, words, work, workers=arguments.workers, max_words=arguments.max_words)
    try:
        model = train_model(arguments.type, counts, arguments.vocab_size)
    except ValueError as error:
        raise ValueError(f"{' '.join(names)}: {error}") from None
    options = {"max_words": arguments.max_words}
    options |= {} if arguments.type == "bpe" else {"alphabet_characters": ALPHABET_CHARACTERS}
    options |= {} if arguments.type == "unigram" else {"minimum_frequency": MINIMUM_FREQUENCY}
    facts = {"words": counts.total, "distinct_words": counts.distinct}
    facts |= {f"left_out_{reason}": count for reason, count in sorted(counts.left_out.items())}
    tokenizer = assemble_tokenizer(model, arguments.type, lowercase, strip_accents)
    return tokenizer, {"options": options, "sources": sources, "counts": facts}


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.vocab",
        description="Train a vocabulary of WordPiece, BPE or Unigram, or take an existing one, into a folder.",
    )
    parser.add_argument(
        "--input",
        nargs="+",
        metavar="DIR",
        help="The folder of documents to train on, from any corpus stage; several with a weight before each, as in "
        "0.7 DIR 0.3 DIR, or without weights, and then each counts by its size.",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", required=True, help="The tokenizer folder to write.")
    parser.add_argument("--vocab-size", type=int, metavar="N", help="Number of entries, special tokens included.")
    parser.add_argument(
        "--type",
        choices=KINDS,
        default=KINDS[0],
        help="BERT's WordPiece (the default), GPT-2's BPE of bytes, or SentencePiece's Unigram.",
    )
    parser.add_argument(
        "--max-words",
        type=int,
        metavar="N",
        default=MAX_WORDS,
        help="Train on the N most frequent different words, which bounds the memory. Default: %(default)s.",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        default=usable_cores(),
        help="Number of processes that count; does not change the result. Default: one per core (here %(default)s).",
    )
    parser.add_argument(
        "--from-vocab",
        type=Path,
        metavar="FILE",
        help="Take this vocab.txt, WordPiece's, as it is instead of training one.",
    )
    case = parser.add_mutually_exclusive_group()
    case.add_argument("--uncased", dest="lowercase", action="store_true", help="Lower-case all text (the default).")
    case.add_argument("--cased", dest="lowercase", action="store_false", help="Keep capital letters.")
    accents = parser.add_mutually_exclusive_group()
    accents.add_argument(
        "--strip-accents", action="store_true", help="Take accents off letters (the default with --uncased)."
    )
    accents.add_argument(
        "--keep-accents",
        dest="strip_accents",
        action="store_false",
        help="Keep accents on letters (the default with --cased).",
    )
    parser.set_defaults(lowercase=None, strip_accents=None)
    arguments = parser.parse_args()
    if arguments.from_vocab is None and None in (arguments.input, arguments.vocab_size):
        parser.error("give --input and --vocab-size, or --from-vocab")
    if arguments.from_vocab is not None and arguments.input is not None:
        parser.error("--from-vocab takes a vocabulary as it is; leave out --input")
    if arguments.from_vocab is not None and arguments.type != "wordpiece":
        parser.error(f"--from-vocab takes a vocab.txt, which is WordPiece's; leave out --type {arguments.type}")
    return arguments


def _run(arguments: argparse.Namespace) -> str:
    """Do what the command says; return the summary."""
    lowercase = arguments.lowercase is not False
    strip_accents = lowercase if arguments.strip_accents is None else arguments.strip_accents
    _require_replaceable(arguments.output)
    if arguments.from_vocab is not None:
        try:
            vocabulary = _from_vocabulary_file(arguments.from_vocab, arguments)
            tokenizer = build_tokenizer(vocabulary, lowercase, strip_accents)
        except ValueError as error:
            name = "" if str(arguments.from_vocab) in str(error) else f"{arguments.from_vocab}: "
            raise ValueError(f"{name}{error}") from None
        facts = {"options": {}, "sources": [source_entry(arguments.from_vocab)]}
    else:
        tokenizer, facts = _train(arguments, lowercase, strip_accents)
    facts["options"] |= {"type": arguments.type, "lowercase": lowercase, "strip_accents": strip_accents}
    write_folder(arguments.output, tokenizer, facts)
    case = "lower-cased" if lowercase else "cased"
    accents = "stripped" if strip_accents else "kept"
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    return f"vocab: {arguments.type}, {size:,} entries, {case}, accents {accents}, in {arguments.output}"


def main() -> None:
    """Run the command."""
    arguments = _parse_arguments()
    try:
        print(_run(arguments))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
