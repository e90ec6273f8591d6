"""Read entity annotations written one token a line, as the community distributes them, into one form.

Used by finetuning.entity_files; nothing to run here. What is read as it is:

- two columns `token<TAB>tag` (BioBERT: bare `B`, `I`, `O`; MTL-Bioinformatics-2016: `B-Chemical`), or more with
  the tag last, such as `token POS chunk tag` (CoNLL 2003, SciBERT); columns divided by tabs, or by blanks where
  the file has no tab;
- every scheme of finetuning.tags;
- `-DOCSTART-` lines, with the document's id in brackets or without, and `###MEDLINE:id` lines (the original
  JNLPBA, whose numbers are MEDLINE's own and no PMIDs: the document is called `MEDLINE:id`): a document begins
  there, and they are no sentence;
- a last sentence with or without a blank line after it, CRLF, a byte order mark, gzip and xz.

1. Read the lines of every split.
2. Find the scheme from the tags of all splits together; where the tags fit none, say which line does not.
3. Turn the tags of every sentence into IOB2, the only form the rest of the code knows.
"""

import gzip
import hashlib
import lzma
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetuning.tags import as_iob2, first_fault, split_tag

DOCUMENT_LINE = re.compile(r"(?:-DOCSTART-(?:\s+\((?P<id>[^)]*)\))?|###(?P<medline>MEDLINE:\S+)\s*$)")


@dataclass(frozen=True)
class Sentence:
    """Words of one sentence and one tag for each; IOB2 once it has left the reader."""

    words: list[str]
    tags: list[str]
    line: int = 0  # of the first word in the file, counted from 1
    document: int = 0  # index into TaggedFile.documents, where there are any
    offsets: list[tuple[int, int]] | None = None  # of each word in the document's text, where there is one


@dataclass
class TaggedFile:
    """One split: its sentences, its documents and what the file looked like."""

    path: Path
    sentences: list[Sentence]
    sha256: str
    columns: int = 0
    typed: bool | None = None  # tags with a type; None as long as there is no entity
    scheme: str = ""
    form: str = "CoNLL"  # or PubTator, or brat
    documents: list[str] = field(
        default_factory=list
    )  # ids, "" where there is none; empty if the file has no documents
    texts: list[str] = field(default_factory=list)  # of those documents; empty for CoNLL files
    missed: list[tuple[int, Any]] = field(default_factory=list)  # (document, entity) that no tags can stand for
    notes: list[str] = field(default_factory=list)  # counted warnings, a sentence each

    def entity_counts(self) -> dict[str, int]:
        """Number of entities of each type, types in alphabetical order: all that are in the file."""
        counts = Counter(tag[2:] for sentence in self.sentences for tag in sentence.tags if tag[0] == "B")
        counts.update(entity.type for _, entity in self.missed)
        return dict(sorted(counts.items()))


def read_bytes(path: Path) -> bytes:
    """The content of a file, decompressed if its name ends in .gz or .xz; ValueError if that fails."""
    data = path.read_bytes()
    try:
        if path.suffix == ".gz":
            return gzip.decompress(data)
        return lzma.decompress(data) if path.suffix == ".xz" else data
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{path} cannot be decompressed ({error}): get the file again") from None


def decode(data: bytes, path: Path, encoding: str = "utf-8-sig") -> str:
    """The text in `data`; ValueError names the first line that is not UTF-8."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path} line {line} is not UTF-8: convert the file to UTF-8") from None


def read_file(path: Path) -> TaggedFile:
    """Sentences of `path` with its tags unchanged; ValueError names the line that is wrong."""
    data = read_bytes(path)
    text = decode(data, path)
    tabs = "\t" in text
    file = TaggedFile(path, [], hashlib.sha256(data).hexdigest())
    words: list[str] = []
    tags: list[str] = []
    # Not splitlines(): it also breaks at characters such as U+0085, which may be part of a token.
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        line = line.rstrip("\r")
        document = DOCUMENT_LINE.match(line) if line[:1] in ("-", "#") else None
        if document or not line.strip(" \t"):
            if words:
                place = max(0, len(file.documents) - 1)
                file.sentences.append(Sentence(words, tags, number - len(words), place))
                words, tags = [], []
            if document:
                if file.sentences and not file.documents:
                    file.documents.append("")  # of what stands before the first such line
                file.documents.append(document["id"] or document["medline"] or "")
            continue
        # Not split(): it also divides at characters such as U+2009, which may be part of a token.
        cells = line.split("\t") if tabs else [cell for cell in line.split(" ") if cell]
        file.columns = file.columns or len(cells)
        if len(cells) == file.columns > 1 and not cells[0].strip(" "):
            raise ValueError(f"{path} line {number} has a tag and no token before it ({line[:60]!r}): correct the file")
        if len(cells) != file.columns or file.columns < 2:
            expected = file.columns if file.columns > 1 else "2 or more (the token first, its tag last)"
            raise ValueError(f"{path} line {number} has {len(cells)} columns ({line[:60]!r}): expected {expected}")
        words.append(cells[0])
        tags.append(cells[-1].strip())
    if not file.sentences:
        raise ValueError(f"{path} has no sentence in it: expected one token and its tag a line")
    return file


def check_tags(file: TaggedFile) -> None:
    """Every tag is a known one, and all or none have a type; sets `file.typed`, and turns BILOU into IOBES."""
    for sentence in file.sentences:
        for i, tag in enumerate(sentence.tags):
            try:
                prefix, entity_type = split_tag(tag)
            except ValueError as error:
                raise ValueError(f"{file.path} line {sentence.line + i}: {error}") from None
            sentence.tags[i] = prefix + tag[1:]
            if prefix == "O":
                continue
            if file.typed is not None and file.typed != bool(entity_type):
                raise ValueError(
                    f"{file.path} line {sentence.line + i}: tag {tag!r} among tags with and without a type: "
                    "correct the file"
                )
            file.typed = bool(entity_type)


def cut_between(before: Sentence | None, sentence: Sentence | None) -> bool:
    """An IOBES entity of one sentence goes on in the next: only an E or S can end it."""
    if before is None or sentence is None or before.document != sentence.document:
        return False
    last, first = before.tags[-1], sentence.tags[0]
    return last[0] in "BI" and first[0] in "IE" and last[1:] == first[1:]


def join_cut_entities(file: TaggedFile) -> None:
    """Join IOBES sentences where an entity goes on after the blank line between them; counted in the notes.

    MTL's JNLPBA-IOBES has each blank line one token late, so that the first word of a sentence stands at the
    end of the one before: 219 of them in its devel split and 443 in its test split are inside an entity.
    """
    joined: list[Sentence] = []
    first = None
    for sentence in file.sentences:
        if cut_between(joined[-1] if joined else None, sentence):
            joined[-1].words.extend(sentence.words)
            joined[-1].tags.extend(sentence.tags)
            first = first or sentence.line - 1
        else:
            joined.append(sentence)
    if first:
        cut = len(file.sentences) - len(joined)
        file.notes.append(f"{cut} blank lines inside an entity do not end a sentence (the first: line {first})")
    file.sentences = joined


def fault_in(file: TaggedFile, scheme: str) -> tuple[Sentence, int] | None:
    """The first sentence, and the place in it, with a tag that IOB2 or IOBES does not allow there."""
    around = zip([None, *file.sentences], file.sentences, [*file.sentences[1:], None], strict=False)
    for before, sentence, after in around:
        last = before.tags[-1] if scheme == "IOBES" and cut_between(before, sentence) else "O"
        first = after.tags[0] if scheme == "IOBES" and cut_between(sentence, after) else "O"
        fault = first_fault(sentence.tags, scheme, last, first)
        if fault is not None:
            return sentence, fault
    return None


def find_scheme(files: dict[str, TaggedFile], given: str | None = None) -> str:
    """The one of SCHEMES as given or from the tags of all splits; ValueError names a line that does not fit.

    IOB1 and a damaged IOB2 file look alike (an I that starts an entity). Only the files of the CoNLL tradition,
    with four columns, are distributed in IOB1, so that elsewhere such a tag is an error and not a guess. Where
    no split has a single B, the scheme is IO.
    """
    prefixes = {tag[0] for file in files.values() for sentence in file.sentences for tag in sentence.tags}
    found = "IOBES" if prefixes & {"E", "S"} else "IOB2" if "B" in prefixes or "I" not in prefixes else "IO"
    scheme = given or found
    if scheme != "IOBES" and prefixes & {"E", "S"}:
        raise ValueError(f"--tag-scheme {scheme}: the files have E or S tags, which only IOBES has")
    if scheme == "IO" and "B" in prefixes:
        raise ValueError("--tag-scheme IO: the files have B tags, which IO has not")
    if scheme in ("IOB1", "IO"):
        return scheme  # any order of its tags is possible
    for file in files.values():
        fault = fault_in(file, scheme)
        if fault is None:
            continue
        if given is None and scheme == "IOB2" and file.columns == 4:
            return "IOB1"
        sentence, place = fault
        cure = ", or add --tag-scheme IOB1 if it is IOB1" if scheme == "IOB2" else ""
        raise ValueError(
            f"{file.path} line {sentence.line + place}: tag {sentence.tags[place]!r} of word "
            f"{sentence.words[place]!r} is not possible there in {scheme}: correct the file{cure}"
        )
    return scheme


def read_files(paths: dict[str, Path], scheme: str | None = None) -> dict[str, TaggedFile]:
    """The splits of a benchmark from these files, their tags turned into IOB2.

    `scheme` is one of SCHEMES, or None to find it. Bare tags get the type UNTYPED. ValueError (which file and
    line, what to do) if one is broken.
    """
    files = {split: read_file(path) for split, path in paths.items()}
    for file in files.values():
        check_tags(file)
    kinds = {file.typed for file in files.values()} - {None}
    if len(kinds) > 1:
        folder = next(iter(paths.values())).parent
        raise ValueError(f"{folder}: some splits have bare tags (B, I) and some have types: they are not one data set")
    typed = kinds.pop() if kinds else False
    scheme = find_scheme(files, scheme)
    for file in files.values():
        file.typed, file.scheme = typed, scheme
        if scheme == "IOBES":
            join_cut_entities(file)
        for sentence in file.sentences:
            sentence.tags[:] = as_iob2(sentence.tags, scheme)
    return files
