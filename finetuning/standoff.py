"""Read and write entities as character spans beside a text: PubTator files and brat folders. Nothing to run here.

- PubTator: `id|t|title`, `id|a|abstract`, then `id<TAB>start<TAB>end<TAB>mention<TAB>type<TAB>concept`, a blank line
  between documents. Offsets count title, one character, abstract. A seventh column (the parts of a composite
  mention) and the concept ids (`-1` where there is none, `D014786|D006311`) are not needed here; lines without
  offsets (relations such as `CID`) are no entities and are counted.
- brat: one `.txt` and one `.ann` (or BioNLP Shared Task's `.a1`) a document; `T1<TAB>type 0 4;8 12<TAB>mention`, of one
  piece or several, which are one where nothing but white space is between them (brat cuts mentions at line
  breaks); other lines (relations, events, notes) are counted. `._*` files of macOS are not documents.

Offsets are characters, and they decide: where they lie in the text but the mention printed beside them reads
differently, that is counted and said. Where more than one in ten does, the offsets belong to another text: an error.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from finetuning.conll import decode, read_bytes
from finetuning.words import Place

TITLE, ABSTRACT = "t", "a"
TEXT_LINE = re.compile(r"([^|\t]+)\|([ta])\|(.*)", re.DOTALL)
MOST_WRONG = 0.1  # a larger part of mentions that differ from the text at their offsets is an error


@dataclass(frozen=True)
class Entity:
    """One mention: its pieces in characters of the document's text, nearly always one, and its line in the file."""

    pieces: tuple[Place, ...]
    type: str
    line: int


@dataclass(frozen=True)
class Document:
    """A text and the entities in it, in the order of the file."""

    id: str
    text: str
    entities: list[Entity]


@dataclass
class Standoff:
    """All documents of a PubTator file or a brat folder."""

    path: Path
    documents: list[Document]
    sha256: str
    notes: list[str]  # counted warnings, a sentence each


def is_pubtator(path: Path) -> bool:
    """The first line of the file that is not blank is a PubTator title."""
    for line in read_bytes(path)[:100_000].splitlines():
        if line.strip():
            return bool(TEXT_LINE.match(line.decode("utf-8-sig", "replace")))
    return False


def read_pubtator(path: Path) -> Standoff:
    """The documents of a PubTator file, a line break between title and abstract; ValueError names a wrong line."""
    data = read_bytes(path)
    documents: list[Document] = []
    other, wrong = 0, []
    # Not splitlines(): it also breaks at characters such as U+2028, which may be part of a text.
    for number, line in enumerate(decode(data, path).split("\n"), start=1):
        line = line.rstrip("\r")
        if not line.strip():
            continue
        text = TEXT_LINE.match(line)
        if text and text[2] == TITLE:
            documents.append(Document(text[1], text[3], []))
            continue
        current = documents[-1] if documents else None
        name = text[1] if text else line.split("\t")[0]
        if current is None or name != current.id:
            raise ValueError(
                f"{path} line {number} is of document {name[:30]!r}, whose title (`id|t|`) is not above it"
            )
        if text:
            if current.entities or "\n" in current.text:
                raise ValueError(
                    f"{path} line {number}: document {name} has a second abstract or one after its entities"
                )
            documents[-1] = Document(name, f"{current.text}\n{text[3]}", [])
            continue
        cells = line.split("\t")
        if is_relation(cells, current.text):
            other += 1
            continue
        current.entities.append(pubtator_entity(cells, path, number))
        if not agrees(current, current.entities[-1], cells[3]):
            wrong.append(number)
    if not documents:
        raise ValueError(f"{path} has no document in it: expected `id|t|title` and `id|a|abstract` lines")
    notes = [f"{other} lines without offsets (relations) are no entities"] if other else []
    count = sum(len(document.entities) for document in documents)
    notes += wrong_offsets(wrong, count, path) + repeated(documents)
    return Standoff(path, documents, hashlib.sha256(data).hexdigest(), notes)


def is_relation(cells: list[str], text: str) -> bool:
    """Whether a line has a relation's name where an entity has its first offset.

    An entity whose first offset is damaged is none, but an error: its mention stands before its other offset.
    """
    if len(cells) < 2 or not cells[1].strip()[:1].isalpha():
        return False
    end, mention = (*cells[2:4], "", "")[:2]
    return not (mention.strip() and re.fullmatch("[0-9]{1,9}", end) and text[: int(end)].endswith(mention))


def pubtator_entity(cells: list[str], path: Path, number: int) -> Entity:
    """The entity of a line of PubTator; ValueError if it has too few columns or no proper offsets."""
    numbers = all(re.fullmatch(r"\s*[0-9]+\s*", cell) for cell in cells[1:3])
    if len(cells) < 5 or not numbers or not cells[4].strip():
        wrong = "" if numbers else f", of them {' and '.join(map(repr, cells[1:3])) or 'none'} for the offsets"
        raise ValueError(
            f"{path} line {number} has {len(cells)} columns{wrong}: expected id, start, end, mention, type and "
            "concept, with tabs between them"
        )
    return Entity(((int(cells[1]), int(cells[2])),), cells[4].strip(), number)


def agrees(document: Document, entity: Entity, mention: str) -> bool:
    """The text at the entity's offsets is the mention printed beside them, white space and missing mentions aside."""
    if any(not 0 <= start < end <= len(document.text) for start, end in entity.pieces):
        return False
    found = " ".join(document.text[start:end] for start, end in entity.pieces)
    return not mention.strip() or found.split() == mention.split()


def wrong_offsets(lines: list, count: int, path: Path) -> list[str]:
    """A note on the lines whose mention differs from the text; ValueError if they are too many to trust the rest."""
    if not lines:
        return []
    facts = f"{len(lines)} of {count:,} entities differ from the text at their offsets (the first: line {lines[0]})"
    if len(lines) > MOST_WRONG * count and len(lines) > 1:
        raise ValueError(f"{path}: {facts}: the offsets are not characters of this text, so get text and entities anew")
    return [f"{facts}; the offsets are kept"]


def repeated(documents: list[Document]) -> list[str]:
    """A note on documents that are there more than once; all their entities count, as in the published numbers."""
    again = len(documents) - len({document.id for document in documents})
    return [f"{again} documents are there twice; both are kept"] if again else []


def read_annotations(path: Path) -> tuple[list[Entity], list[str], int]:
    """Entities of a brat file, the mention printed beside each, and the number of other lines."""
    entities, mentions, other = [], [], 0
    for number, line in enumerate(decode(path.read_bytes(), path).split("\n"), start=1):
        if not line.strip():
            continue
        if not line.startswith("T"):
            other += 1
            continue
        cells = line.rstrip("\r").split("\t")
        found = re.fullmatch(r"(\S+) (\d+ \d+(?:;\d+ \d+)*)", cells[1].strip()) if len(cells) > 1 else None
        if not found:
            raise ValueError(f"{path} line {number} is not `T1<TAB>type start end<TAB>mention`: {line[:60]!r}")
        pieces = tuple(tuple(map(int, piece.split())) for piece in found[2].split(";"))
        entities.append(Entity(pieces, found[1], number))
        mentions.append(cells[2] if len(cells) > 2 else "")
    return entities, mentions, other


def joined(entity: Entity, text: str) -> Entity:
    """The entity with pieces that only white space divides as one: brat cuts a mention at each line break."""
    pieces = [entity.pieces[0]]
    for start, end in entity.pieces[1:]:
        before = pieces[-1]
        if before[1] <= start and not text[before[1] : start].strip() and start <= len(text):
            pieces[-1] = (before[0], end)
        else:
            pieces.append((start, end))
    return replace(entity, pieces=tuple(pieces))


def annotation_files(folder: Path) -> list[Path]:
    """The `.a1` files of a folder, or where it has none its `.ann` files; hidden ones and `._*` left out."""
    for pattern in ("*.a1", "*.ann"):
        found = sorted(path for path in folder.glob(pattern) if path.is_file() and not path.name.startswith("."))
        if found:
            return found
    return []


def read_brat(folder: Path) -> Standoff:
    """The documents of a brat folder, by name; ValueError names a file that is wrong or lacks its partner."""
    documents: list[Document] = []
    digest = hashlib.sha256()
    others, wrong = 0, []
    paths = annotation_files(folder)
    texts = {path.stem for path in folder.glob("*.txt") if not path.name.startswith(".")}
    alone = sorted(texts ^ {path.stem for path in paths})
    if alone or not paths:
        raise ValueError(
            f"{folder}: {len(alone)} documents have only one of .txt and .ann (first: {alone[:1] or 'none'}): every "
            "text needs both, the .ann may be empty"
        )
    for path in paths:
        data = path.with_suffix(".txt").read_bytes()
        digest.update(path.name.encode() + b"\0" + data + b"\0" + path.read_bytes() + b"\0")
        text = decode(data, path.with_suffix(".txt"), "utf-8")  # brat's offsets count a byte order mark and each \r
        entities, mentions, other = read_annotations(path)
        others += other
        document = Document(path.stem, text, [joined(one, text) for one in entities])
        documents.append(document)
        wrong += [
            f"{entity.line} of {path.name}"
            for entity, mention in zip(document.entities, mentions, strict=True)
            if not agrees(document, entity, mention)
        ]
    count = sum(len(document.entities) for document in documents)
    notes = [f"{others} lines that are no text spans (relations, events, notes) are no entities"] if others else []
    return Standoff(folder, documents, digest.hexdigest(), notes + wrong_offsets(wrong, count, folder))


def write_pubtator(documents: Iterable[tuple[str, str, list[tuple[int, int, str]]]], path: Path) -> None:
    """Write (id, text, entities as (start, end, type)) as PubTator; concept ids are -1, as BioCreative has them.

    The first line of a text is its title. Other line breaks and tabs become blanks, so that offsets stay.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        for name, text, entities in documents:
            title, _, rest = (re.sub(r"[\t\r\x0b\f\x85\u2028\u2029]", " ", part) for part in text.partition("\n"))
            flat = f"{title} {rest}".replace("\n", " ")
            file.write(f"{name}|t|{flat[: len(title)]}\n{name}|a|{flat[len(title) + 1 :]}\n")
            for start, end, kind in sorted(entities):
                file.write(f"{name}\t{start}\t{end}\t{flat[start:end]}\t{kind}\t-1\n")
            file.write("\n")
    temporary.replace(path)
