"""DDI 2013 from the corpus' own XML: documents -> pairs of drugs. Nothing to run here.

Used by finetuning.ddi. The folder is DDICorpus as it comes out of its archive: one file a document in `Train` and
`Test/Test for DDI Extraction task`, below DrugBank and MedLine. `Test/Test for DrugNER task` is another task's test
set, in which every pair says "false": it is not read.

1. Read each file with lxml: no entities, no document type, nothing from the network.
2. Turn offsets, whose ends are inclusive (`0-7` is eight characters), into spans. A mention in several pieces
   (`1-3;5-9`) is what lies between its first and its last character, as BLURB has it.
3. Every `pair` is an example, the mention that starts first being the first argument. The class of one that is no
   interaction is `false`. One training pair is an interaction without a type: it counts in the sizes, and is left out
   of training, as none of the four classes is known to be right.

Two divisions, by `--protocol`:

- "blurb": 624, 90 and 191 documents. BLURB's list of dev documents is not in its files; DEV_DOCUMENTS are those that
  have the pairs of its dev file (11 of the 90 have no pair, and cannot be seen there). The examples are BLURB's but
  for 21 dev pairs of two documents, whose offsets are one off in the copy of the corpus that BLURB used;
- "original": all 714 documents to train on, no dev split.

BLUE's files cannot be had from the XML: its dev split is a quarter of the training sentences, drawn at random, its
train split lacks some of the rest, and its test split has 45 pairs of a document that is not in the corpus.
"""

import hashlib
import re
from collections import Counter
from pathlib import Path

from lxml import etree

from finetuning.relation_files import Relation, RelationFile, Span
from finetuning.relation_inputs import as_one, together

TYPES = ("mechanism", "effect", "advise", "int")
NEGATIVE = "false"
UNTYPED = "interaction without type"
PROTOCOLS = ("blurb", "original")
FOLDERS = {"train": ("train",), "test": ("test for ddi extraction task",)}
# Found by looking for each text of BLURB's dev file in the corpus. DrugBank 168 and 342 have the same 28 pairs and 25
# and 439 the same one: which of the two BLURB took makes no difference.
DEV_DOCUMENTS = {
    "DrugBank": (
        "7 8 22 25 35 39 40 42 52 55 57 67 70 74 116 128 148 158 161 166 168 185 217 222 232 240 248 252 262 270 309 "
        "314 325 326 327 340 341 348 362 369 372 377 378 399 422 427 438 450 453 469 479 493 494 497 498 502 507 511 "
        "516 529 548 552 563"
    ),
    "MedLine": "21 23 42 55 67 68 79 86 104 110 116 119 125 128 131 134",
}
OFFSETS = re.compile(r"\d+-\d+(;\d+-\d+)*")


def dev_documents() -> set[str]:
    """The ids of BLURB's dev documents that have a pair."""
    return {f"DDI-{source}.d{number}" for source, numbers in DEV_DOCUMENTS.items() for number in numbers.split()}


def find_folder(folder: Path, split: str) -> Path | None:
    """The folder of the train or test documents: `folder` has it, or one of its subfolders (DDICorpus, Test)."""
    found = sorted(path for path in folder.rglob("*") if path.is_dir() and path.name.lower() in FOLDERS[split])
    if len(found) > 1:
        raise ValueError(f"{folder} has {found[0]} and {found[1]}: keep only one of them")
    return found[0] if found else None


def is_original(folder: Path) -> bool:
    """Whether `folder` holds the corpus' own XML."""
    return any(find_folder(folder, split) for split in FOLDERS)


def read_document(path: Path) -> tuple[etree._Element, bytes]:
    """The root of one document and the file's bytes; ValueError if it is no document of this corpus."""
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:  # refused before it is parsed: the corpus has none
        raise ValueError(f"{path} declares a document type or entities, which DDI 2013 never does: get the original")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"{path} line {error.lineno} is not well-formed XML: {error.msg}") from None
    if root.tag != "document" or not root.get("id"):
        raise ValueError(f"{path} line 1: expected <document id=...>, found <{root.tag}>")
    return root, data


def attribute(element: etree._Element, name: str, path: Path) -> str:
    """A mandatory attribute; ValueError with file and line if it is not there."""
    value = element.get(name)
    if value is None:
        raise ValueError(f"{path} line {element.sourceline}: <{element.tag}> has no {name}")
    return value


def mention_span(element: etree._Element, text: str, path: Path) -> Span:
    """From the first to one after the last character of an <entity>; ValueError if its text is not there."""
    offsets = attribute(element, "charOffset", path)
    numbers = [int(number) for number in re.findall(r"\d+", offsets)]
    span = (numbers[0], numbers[-1] + 1) if OFFSETS.fullmatch(offsets) else (0, 0)
    mention = attribute(element, "text", path)
    whole = ";" not in offsets
    if not 0 <= span[0] < span[1] <= len(text) or (whole and text[slice(*span)] != mention):
        raise ValueError(
            f"{path} line {element.sourceline}: characters {offsets} of the sentence are not {mention[:40]!r}: correct "
            "the offsets (the end is inclusive)"
        )
    return span


def pair_label(pair: etree._Element, path: Path) -> str:
    """The class of a <pair>."""
    kind = pair.get("type")
    interacts = attribute(pair, "ddi", path).lower()
    if interacts not in ("true", "false"):
        raise ValueError(f"{path} line {pair.sourceline} has the ddi {interacts!r}: expected true or false")
    if interacts == "false":
        return NEGATIVE
    if kind is not None and kind not in TYPES:
        raise ValueError(f"{path} line {pair.sourceline} has the type {kind!r}: expected one of {', '.join(TYPES)}")
    return kind or UNTYPED


def sentence_pairs(sentence: etree._Element, document: str, path: Path) -> list[Relation]:
    """The pairs of one <sentence>, as raw text with arguments. The index is `sentence|entity|entity`."""
    text = attribute(sentence, "text", path)
    spans = {attribute(one, "id", path): mention_span(one, text, path) for one in sentence.iter("entity")}
    clean = re.sub(r"[\n\t\r]", " ", text)
    relations = []
    for pair in sentence.iter("pair"):
        names = [attribute(pair, name, path) for name in ("e1", "e2")]
        for name in names:
            if name not in spans:
                raise ValueError(f"{path} line {pair.sourceline}: entity {name} is not in the sentence")
        first, second = sorted((spans[name] for name in names), key=lambda span: span[0])
        if together(first, second, touching=False):
            first, second = as_one(first, second)
        index = "|".join([attribute(sentence, "id", path), *names])
        relations.append(Relation(clean, pair_label(pair, path), (first, second), index, document))
    return relations


def read_split(folder: Path, split: str, protocol: str) -> RelationFile:
    """The pairs of one split by "blurb" or "original"; ValueError says what is missing or wrong."""
    assert protocol in PROTOCOLS, protocol
    source = "test" if split == "test" else "train"
    place = find_folder(folder, source)
    if place is None:
        raise ValueError(f"{folder} has no folder {FOLDERS[source][0]!r} of XML files, nor below it")
    paths = sorted(path for path in place.rglob("*.xml") if not path.name.startswith("._"))  # "._": made by macOS
    if not paths:
        raise ValueError(f"{place} has no XML file, nor below it")
    chosen = dev_documents()
    relations, digest, documents = [], hashlib.sha256(), 0
    for path in paths:
        root, data = read_document(path)
        name = root.get("id")
        if protocol == "blurb" and split != "test" and (name in chosen) != (split == "dev"):
            continue
        documents += 1
        digest.update(path.name.encode() + b"\0" + data)
        for sentence in root.iter("sentence"):
            relations += sentence_pairs(sentence, name, path)
    counts = Counter({"documents": documents, UNTYPED: sum(one.label == UNTYPED for one in relations)})
    return RelationFile(place, digest.hexdigest(), relations, "raw", counts=dict(+counts))
