"""Read entity annotations written one token a line, as the community distributes them, into one form.

Used by finetuning.tagging; nothing to run here. What is read as it is:

- two columns `token<TAB>tag` (BioBERT: bare `B`, `I`, `O`; MTL-Bioinformatics-2016: `B-Chemical`), or four
  columns `token POS chunk tag` (CoNLL 2003, SciBERT); columns divided by tabs, or by blanks where the file
  has no tab;
- the tag schemes IOB2, IOB1 and IOBES; `-DOCSTART-` lines; a last sentence with or without a blank line after
  it.

1. Read every split (train, dev, test) from the first file name of `SPLIT_FILES` that is there.
2. Find the scheme from the tags of all splits together; where the tags fit none, say which line does not.
3. Turn every sentence into entity spans and these into IOB2 tags, the only form the rest of the code knows.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

SPLIT_FILES = {
    "train": ("train.tsv", "train.txt", "train.conll"),
    "dev": ("devel.tsv", "dev.tsv", "dev.txt", "devel.txt", "dev.conll"),
    "test": ("test.tsv", "test.txt", "test.conll"),
}
SCHEMES = ("IOB2", "IOB1", "IOBES")
UNTYPED = "Entity"  # the type given to bare B and I tags

Span = tuple[int, int, str]  # first word, one after the last word, type


@dataclass(frozen=True)
class Sentence:
    """Words of one sentence and one tag for each; IOB2 once `read_splits` has returned it."""

    words: list[str]
    tags: list[str]
    line: int = 0  # of the first word in the file, counted from 1


@dataclass
class TaggedFile:
    """One split: its sentences and what the file looked like (columns, typed or bare tags, checksum)."""

    path: Path
    sentences: list[Sentence]
    columns: int
    sha256: str
    typed: bool | None = None  # None as long as there is no entity
    scheme: str = ""

    def entity_counts(self) -> dict[str, int]:
        """Number of entities of each type, types in alphabetical order (IOB2 tags only)."""
        counts = Counter(tag[2:] for sentence in self.sentences for tag in sentence.tags if tag[0] == "B")
        return dict(sorted(counts.items()))


def find_split(folder: Path, split: str) -> Path:
    """The one file of `folder` that holds `split`; ValueError if there is none or more than one."""
    found = [folder / name for name in SPLIT_FILES[split] if (folder / name).is_file()]
    if not found:
        raise ValueError(f"{folder} has no {split} file: expected one of {', '.join(SPLIT_FILES[split])}")
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ValueError(f"{folder} has {names}: keep only the one that is the {split} split")
    return found[0]


def read_file(path: Path, columns: tuple[int, ...] = (2, 4)) -> TaggedFile:
    """Sentences of `path` with its tags unchanged; ValueError names the line that is wrong.

    `columns` are the numbers of columns that a file may have; the first is the token, the last the tag.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} line {line} is not UTF-8: convert the file to UTF-8") from None
    separator = "\t" if "\t" in text else None
    sentences: list[Sentence] = []
    words: list[str] = []
    tags: list[str] = []
    width = 0
    # Not splitlines(): it also breaks at characters such as U+0085, which may be part of a token.
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        line = line.rstrip("\r")
        if not line.strip() or line.startswith("-DOCSTART-"):
            if words:
                sentences.append(Sentence(words, tags, number - len(words)))
                words, tags = [], []
            continue
        cells = line.split(separator)
        width = width or len(cells)
        if len(cells) != width or width not in columns or not cells[0].strip():
            expected = width if width in columns else "2 (token, tag) or 4 (token, POS, chunk, tag)"
            raise ValueError(f"{path} line {number} has {len(cells)} columns ({line[:60]!r}): expected {expected}")
        words.append(cells[0])
        tags.append(cells[-1].strip())
    if not sentences:
        raise ValueError(f"{path} has no sentence in it: expected one token and its tag a line")
    return TaggedFile(path, sentences, width, hashlib.sha256(data).hexdigest())


def split_tag(tag: str) -> tuple[str, str]:
    """`B-Chemical` -> (`B`, `Chemical`); `B` -> (`B`, ""); ValueError if it is no tag of IOB or IOBES."""
    prefix, _, entity_type = tag.partition("-")
    if prefix not in ("O", "B", "I", "E", "S") or (prefix == "O" and entity_type) or tag.endswith("-"):
        raise ValueError(f"unknown tag {tag!r}: expected O, or B, I, E or S, alone or with -TYPE")
    return prefix, entity_type


def iob_spans(tags: list[str]) -> list[Span]:
    """Entities of IOB tags as conlleval reads them: one starts at B, and at I after O or another type."""
    spans: list[Span] = []
    start, current = 0, None
    for i, tag in enumerate([*tags, "O"]):
        prefix, entity_type = tag[0], tag[2:]
        if current is not None and (prefix != "I" or entity_type != current):
            spans.append((start, i, current))
            current = None
        if prefix != "O" and current is None:
            start, current = i, entity_type
    return spans


def iob2_tags(spans: list[Span], length: int) -> list[str]:
    """The IOB2 tags of `length` words with these entities."""
    tags = ["O"] * length
    for start, end, entity_type in spans:
        tags[start:end] = [f"I-{entity_type}"] * (end - start)
        tags[start] = f"B-{entity_type}"
    return tags


def first_fault(tags: list[str], scheme: str) -> int | None:
    """Index of the first tag that IOB2 or IOBES does not allow where it stands, or None."""
    inside = None  # "-TYPE" ("" for bare tags) of an entity that may go on, else None
    for i, tag in enumerate([*tags, "O"]):
        prefix, suffix = tag[0], tag[1:]
        goes_on = prefix in "IE" and suffix == inside
        if prefix in "IE" and not goes_on:
            return i
        if scheme == "IOBES" and inside is not None and not goes_on:
            return i - 1  # the last word of an entity is not marked E
        inside = suffix if prefix in "BI" else None
    return None


def find_scheme(files: dict[str, TaggedFile], given: str | None = None) -> str:
    """IOBES, IOB2 or IOB1, as given or from the tags of all splits; ValueError names a line that does not
    fit.

    IOB1 and a damaged IOB2 file look alike (an I that starts an entity). Only the four-column files of the
    CoNLL tradition are distributed in IOB1, so that elsewhere such a tag is an error and not a guess.
    """
    prefixes = {tag[0] for file in files.values() for sentence in file.sentences for tag in sentence.tags}
    scheme = given or ("IOBES" if prefixes & {"E", "S"} else "IOB2")
    if scheme != "IOBES" and prefixes & {"E", "S"}:
        raise ValueError(f"--tag-scheme {scheme}: the files have E or S tags, which only IOBES has")
    if scheme == "IOB1":
        return scheme  # any order of its tags is possible
    for file in files.values():
        for sentence in file.sentences:
            fault = first_fault(sentence.tags, scheme)
            if fault is None:
                continue
            if given is None and scheme == "IOB2" and file.columns == 4:
                return "IOB1"
            cure = ", or add --tag-scheme IOB1 if it is IOB1" if scheme == "IOB2" else ""
            raise ValueError(
                f"{file.path} line {sentence.line + fault}: tag {sentence.tags[fault]!r} of word "
                f"{sentence.words[fault]!r} is not possible there in {scheme}: correct the file{cure}"
            )
    return scheme


def check_tags(file: TaggedFile) -> None:
    """Every tag is a known one, and all or none have a type; sets `file.typed`."""
    for sentence in file.sentences:
        for i, tag in enumerate(sentence.tags):
            try:
                prefix, entity_type = split_tag(tag)
            except ValueError as error:
                raise ValueError(f"{file.path} line {sentence.line + i}: {error}") from None
            if prefix == "O":
                continue
            if file.typed is not None and file.typed != bool(entity_type):
                raise ValueError(
                    f"{file.path} line {sentence.line + i}: tag {tag!r} among tags with and without a type: "
                    "correct the file"
                )
            file.typed = bool(entity_type)


def read_splits(folder: Path, scheme: str | None = None) -> dict[str, TaggedFile]:
    """The splits train, dev and test of a benchmark folder, their tags turned into IOB2.

    `scheme` is one of `SCHEMES`, or None to find it. Bare tags get the type `UNTYPED`. ValueError (which file
    and line, what to do) if a split is missing or broken.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: --data takes the folder that holds train, dev and test files")
    files = {split: read_file(find_split(folder, split)) for split in SPLIT_FILES}
    for file in files.values():
        check_tags(file)
    kinds = {file.typed for file in files.values()} - {None}
    if len(kinds) > 1:
        raise ValueError(f"{folder}: some splits have bare tags (B, I) and some have types: they are not one data set")
    typed = kinds.pop() if kinds else False
    scheme = find_scheme(files, scheme)
    for file in files.values():
        file.typed, file.scheme = typed, scheme
        file.sentences = [as_iob2(sentence, scheme) for sentence in file.sentences]
    return files


def as_iob2(sentence: Sentence, scheme: str) -> Sentence:
    """The sentence with IOB2 tags, a type on each; `scheme` is what `find_scheme` said of its tags."""
    tags = sentence.tags
    if scheme == "IOBES":
        tags = [{"E": "I", "S": "B"}.get(tag[0], tag[0]) + tag[1:] for tag in tags]
    spans = [(start, end, entity_type or UNTYPED) for start, end, entity_type in iob_spans(tags)]
    return Sentence(sentence.words, iob2_tags(spans, len(tags)), sentence.line)
