"""The vocabulary stage: documents -> a WordPiece vocabulary, as a tokenizer folder that `transformers` loads.

    python -m pretraining.corpus.vocab --input DIR --output DIR --vocab-size N [--cased] [--keep-accents]
    python -m pretraining.corpus.vocab --from-vocab FILE --output DIR --uncased

Steps of the first: count the characters of the text after BERT's clean-up and keep the most frequent ones as
the alphabet; train WordPiece on all of the text, with [PAD] [UNK] [CLS] [SEP] [MASK] at ids 0 to 4; write the
folder, its manifest included, and move it into place.
The second takes an existing vocab.txt: every entry keeps its line number as id, empty lines too.

The same text gives the same bytes. By itself the trainer of `tokenizers` does not: it numbers the pieces of
one character in the order of a hash table, and breaks ties between equally frequent pairs by those numbers.
Here it is given all of them, plain and with "##", in sorted order. It takes them as special tokens, which
they must not stay; therefore the tokenizer that is saved is built anew from the list of pieces.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer
from tqdm import tqdm

from pretraining.corpus.documents import MANIFEST, read_documents, read_manifest, source_entry
from pretraining.corpus.tokenizer import (
    CONTINUATION,
    SPECIAL_TOKENS,
    bert_normalizer,
    bert_pre_tokenizer,
    build_tokenizer,
    tokenizer_sha256,
    write_tokenizer,
)

ALPHABET_CHARACTERS = 1000  # the most frequent ones; a word with a rarer character becomes [UNK]
MINIMUM_FREQUENCY = 2  # how often a pair of pieces must occur to become a piece
_CASED_SHARE = 0.05  # an uncased vocabulary has few entries with capitals (SciVocab 0.5 %), a cased one a third
_UNICODE_SIZE = 0x110000
_COUNTED_CHARACTERS = 1 << 22  # of one text at a time, for memory


def train_vocabulary(folder: Path, vocab_size: int, lowercase: bool, strip_accents: bool) -> list[str]:
    """The pieces of a WordPiece vocabulary of exactly `vocab_size` entries, in the order of their ids.

    `folder` is the output of any stage of documents. Raises ValueError if its text cannot yield so many.
    """
    total = read_manifest(folder)["documents"]
    alphabet, continuations = _alphabet(_progress(folder, "characters", total), lowercase, strip_accents)
    fixed = [*SPECIAL_TOKENS, *alphabet, *continuations]
    if len(fixed) >= vocab_size:
        raise ValueError(
            f"--vocab-size {vocab_size} is too small: special tokens and the {len(alphabet)} different "
            f"characters of the text alone take {len(fixed)} entries; give more"
        )
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = bert_normalizer(lowercase, strip_accents)
    tokenizer.pre_tokenizer = bert_pre_tokenizer()
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=MINIMUM_FREQUENCY,
        # These have their ids before training begins; the limit keeps it from adding rarer characters.
        special_tokens=fixed,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUATION,
        show_progress=sys.stderr.isatty(),
    )
    # Lines, not documents: one document may be as long as a whole corpus.
    lines = (text.split("\n") for text in _progress(folder, "words", total))
    tokenizer.train_from_iterator(lines, trainer)
    pieces = tokenizer.get_vocab(with_added_tokens=True)
    if len(pieces) != vocab_size:
        raise ValueError(
            f"the text of {folder} yields only {len(pieces):,} entries; "
            f"give --vocab-size {len(pieces)} or less, or more text"
        )
    return sorted(pieces, key=pieces.__getitem__)


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
        write_tokenizer(partial, tokenizer)
        files = [source_entry(path) for path in sorted(partial.iterdir())]
        manifest = {
            "stage": "vocab",
            "vocab_size": tokenizer.get_vocab_size(with_added_tokens=True),
            "tokenizer_sha256": tokenizer_sha256(partial),
            "files": files,
            **facts,
            "versions": {"python": platform.python_version(), "tokenizers": version("tokenizers")},
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


def _progress(folder: Path, description: str, total: int) -> Iterator[str]:
    documents = tqdm(read_documents(folder), desc=description, total=total, unit="document", disable=None)
    return (document.text for document in documents)


def _alphabet(texts: Iterator[str], lowercase: bool, strip_accents: bool) -> tuple[list[str], list[str]]:
    """The most frequent characters of the cleaned text, sorted, and "##" pieces of those that join words."""
    raw_counts = _count_characters(texts)
    # The clean-up changes each character by itself: cleaning each once stands for cleaning the text.
    normalizer, pre_tokenizer = bert_normalizer(lowercase, strip_accents), bert_pre_tokenizer()
    counts_of: dict[str, int] = {}
    for code in np.flatnonzero(raw_counts):
        for character in normalizer.normalize_str(chr(code)):
            if not character.isspace():
                counts_of[character] = counts_of.get(character, 0) + int(raw_counts[code])
    by_frequency = sorted(counts_of, key=lambda character: (-counts_of[character], character))
    alphabet = sorted(by_frequency[:ALPHABET_CHARACTERS])

    def joins(character: str) -> bool:
        words = pre_tokenizer.pre_tokenize_str(normalizer.normalize_str("a" + character))
        return words[0][0] == "a" + character  # punctuation and CJK characters are words of their own

    return alphabet, [CONTINUATION + character for character in alphabet if joins(character)]


def _count_characters(texts: Iterator[str]) -> np.ndarray:
    """How often each character occurs, int64 [1114112], by its code point."""
    counts = np.zeros(_UNICODE_SIZE, np.int64)
    for text in texts:
        for start in range(0, len(text), _COUNTED_CHARACTERS):
            part = text[start : start + _COUNTED_CHARACTERS].encode("utf-32-le", "replace")
            found = np.bincount(np.frombuffer(part, "<u4"))
            counts[: len(found)] += found
    return counts


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


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.vocab",
        description="Train a WordPiece vocabulary, or take an existing one, into a Hugging Face folder.",
    )
    parser.add_argument(
        "--input",
        type=Path,
        metavar="DIR",
        help="The folder of documents to train on, from any corpus stage.",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", required=True, help="The tokenizer folder to write.")
    parser.add_argument("--vocab-size", type=int, metavar="N", help="Number of entries, special tokens included.")
    parser.add_argument(
        "--from-vocab",
        type=Path,
        metavar="FILE",
        help="Take this vocab.txt as it is instead of training one.",
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
    return arguments


def _run(arguments: argparse.Namespace) -> str:
    """Do what the command says; return the summary."""
    lowercase = arguments.lowercase is not False
    strip_accents = lowercase if arguments.strip_accents is None else arguments.strip_accents
    _require_replaceable(arguments.output)
    options = {"lowercase": lowercase, "strip_accents": strip_accents}
    if arguments.from_vocab is not None:
        vocabulary, source = _from_vocabulary_file(arguments.from_vocab, arguments), arguments.from_vocab
        sources = [source_entry(source)]
    else:
        source = arguments.input
        vocabulary = train_vocabulary(source, arguments.vocab_size, lowercase, strip_accents)
        manifest = read_manifest(source)
        sources = [
            {
                "stage": manifest["stage"],
                "documents": manifest["documents"],
                **source_entry(source / MANIFEST),
            }
        ]
        options |= {"alphabet_characters": ALPHABET_CHARACTERS, "minimum_frequency": MINIMUM_FREQUENCY}
    try:
        tokenizer = build_tokenizer(vocabulary, lowercase, strip_accents)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    write_folder(arguments.output, tokenizer, {"options": options, "sources": sources})
    case = "lower-cased" if lowercase else "cased"
    accents = "stripped" if strip_accents else "kept"
    return f"vocab: {len(vocabulary):,} entries, {case}, accents {accents}, in {arguments.output}"


def main() -> None:
    """Run the command."""
    arguments = _parse_arguments()
    try:
        print(_run(arguments))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
