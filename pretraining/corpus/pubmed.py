"""Read PubMed XML (baseline files, update files, what efetch returns) into documents.

    python -m pretraining.corpus.pubmed --input PATH... --output DIR [--workers N] [--titles-only keep]

Steps: each input file, gzip or not by its content, is parsed as a stream in constant memory, one worker
process a file; each record becomes one document, its title line and then one line for each section of its
abstract; each input file becomes one shard; of records with the same PMID one is kept, the highest version
and of equals the last in the order of the input; the manifest comes last. The result does not depend on the
number of workers.

What is text: ArticleTitle without the brackets of a translated title, and the AbstractText of Abstract with
all text of its marked-up children. A section with a label starts with `LABEL: ` (but for UNLABELLED, which
is none). OtherAbstract, VernacularTitle, CopyrightInformation, comments and processing instructions are not
text. No DTD is loaded, no entity resolved, nothing fetched; a DTD inside a file is an error, for PubMed has
none. Books and deletions (DeleteCitation) are counted and are not documents; deletions are not applied.
"""

import argparse
import gzip
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy
from lxml import etree

from pretraining.corpus.documents import (
    Document,
    find_files,
    normalise_text,
    read_manifest,
    read_shard,
    source_entry,
    summary,
    write_shard,
    writing_stage,
)
from pretraining.corpus.workers import map_in_order, usable_cores

SUFFIXES = (".xml", ".xml.gz")
ROOTS = ("PubmedArticleSet", "PubmedArticle", "PubmedBookArticleSet", "PubmedBookArticle")
RECORDS = ("PubmedArticle", "PubmedBookArticle", "DeleteCitation")
MATH = "{http://www.w3.org/1998/Math/MathML}math"
# PubMed's stand-ins for a title that it does not have
NO_TITLE = {"", "Not Available", "Not Available.", "In Process Citation", "In Process Citation."}
# No DTD, entity or address is followed, and libxml2's limits on depth and size stay on.
SAFE = {"load_dtd": False, "no_network": True, "resolve_entities": False, "huge_tree": False}
PARSER_OPTIONS = {**SAFE, "remove_comments": True, "remove_pis": True}


def read_pubmed(path: Path | str, counts: Counter | None = None, titles_only: str = "drop") -> Iterator[Document]:
    """Yield the documents of one PubMed XML file; add to `counts` what was read and dropped.

    `titles_only` ("keep" or "drop") decides on records without an abstract. Raises ValueError if broken.
    """
    path, counts = Path(path), Counter() if counts is None else counts
    try:
        with _open_xml(path) as file:
            _check_head(path, file)
        with _open_xml(path) as file:
            for element in _iterate_records(file):
                if element.tag == "DeleteCitation":
                    counts["deletions_not_applied"] += len(element.findall("PMID"))
                    continue
                counts["records"] += 1
                document, reason = _read_record(element, path.name, titles_only)
                if document is None:
                    counts[f"dropped_{reason}"] += 1
                else:
                    yield document
    except etree.XMLSyntaxError as error:
        raise ValueError(f"{path} is not well-formed XML ({error.msg}); fetch it again or leave it out") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is cut short or damaged (gzip: {error}); fetch it again") from None


def _open_xml(path: Path) -> BinaryIO:
    """Open a file for reading bytes, through gzip if it starts as gzip does."""
    with open(path, "rb") as file:
        start = file.read(2)
    if not start:
        raise ValueError(f"{path} is empty; fetch it again or leave it out")
    return gzip.open(path) if start == b"\x1f\x8b" else open(path, "rb")


def _check_head(path: Path, file: BinaryIO) -> None:
    """Refuse a file whose root is not PubMed's, or which brings a DTD of its own (entity bombs)."""
    parser = etree.XMLPullParser(events=("start",), **PARSER_OPTIONS)
    event = None
    while event is None and (chunk := file.read(1 << 14)):
        parser.feed(chunk)
        event = next(iter(parser.read_events()), None)
    if event is None:
        parser.close()  # raises what is wrong
        raise ValueError(f"{path} holds no XML element; fetch it again or leave it out")
    root = event[1]
    if root.tag not in ROOTS:
        raise ValueError(f"{path} is not PubMed XML, its root is <{root.tag}>; leave it out")
    if re.search(rb"<!DOCTYPE[^>]*\[", etree.tostring(root.getroottree())):
        raise ValueError(f"{path} has a DTD inside, which PubMed files never have; leave it out")


def _iterate_records(file: BinaryIO) -> Iterator[etree._Element]:
    """Yield the records of a file one by one; each is gone from memory when the next is asked for."""
    for _, element in etree.iterparse(file, events=("end",), tag=RECORDS, **PARSER_OPTIONS):
        yield element
        element.clear()
        parent = element.getparent()
        while parent is not None and element.getprevious() is not None:
            del parent[0]


def _read_record(record: etree._Element, file_name: str, titles_only: str) -> tuple[Document | None, str]:
    """Return a record's document, or None and the reason why it has none."""
    if record.tag == "PubmedBookArticle":
        return None, "book"
    citation = record.find("MedlineCitation")
    identifier = citation.find("PMID") if citation is not None else None
    pmid = (identifier.text or "").strip() if identifier is not None else ""
    if not re.fullmatch("[0-9]{1,12}", pmid):
        return None, "no_pmid"
    article = citation.find("Article")
    if article is None:
        return None, "no_text"
    title, sections = _title(article), _sections(article)
    if not title and not sections:
        return None, "no_text"
    if not sections and titles_only == "drop":
        return None, "no_abstract"
    text = "\n".join([title, *sections] if title else sections)
    if "&" in text and next(article.iter(etree.Entity), None) is not None:
        return None, "unresolved_entity"  # &name; of the outside DTD: nothing says what it stands for
    number = identifier.get("Version", "1")
    metadata = {
        "pmid": int(pmid),
        "version": int(number) if number.isascii() and number.isdigit() else 1,
        "date": _year(article),
        "language": ",".join(normalise_text(e.text or "") for e in article.findall("Language")) or None,
        "file": file_name,
    }
    return Document(pmid, text, metadata), ""


def _title(article: etree._Element) -> str:
    """Return the title, without the brackets round a translated one: `[Title].` -> `Title.`"""
    element = article.find("ArticleTitle")
    title = _text(element) if element is not None else ""
    body = title.removesuffix(".")
    # only a pair that spans the title: `[3H]thymidine uptake in [A]` keeps its brackets
    if body.startswith("[") and body.endswith("]") and _closes_at_end(body):
        inside = body[1:-1].strip()
        title = inside if inside.endswith((".", "?", "!")) else inside + title[len(body) :]
    return "" if title in NO_TITLE else title


def _closes_at_end(text: str) -> bool:
    """Return whether the bracket that opens `text` is closed by its last character."""
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth == 0:
            return position == len(text) - 1
    return False


def _sections(article: etree._Element) -> list[str]:
    """Return the abstract's sections that are not empty, each with its label at the head."""
    sections = []
    for element in article.iterfind("Abstract/AbstractText"):
        text, label = _text(element), normalise_text(element.get("Label", ""))
        if text:
            sections.append(f"{label}: {text}" if label and label.upper() != "UNLABELLED" else text)
    return sections


def _text(element: etree._Element) -> str:
    """Return all text of an element and its children, white space normalised."""
    if len(element) == 0:
        return normalise_text(element.text or "")
    for math in element.iter(MATH):  # white space between the elements of a formula is layout: V . O 2 -> V.O2
        for node in math.iter():
            node.text = node.text if (node.text or "").strip() else None
            if node is not math:
                node.tail = node.tail if (node.tail or "").strip() else None
    return normalise_text("".join(element.itertext()))


def _year(article: etree._Element) -> int | None:
    """Return the year of publication, from the issue's date or else the article's own."""
    issue = "Journal/JournalIssue/PubDate/"
    for path in (f"{issue}Year", f"{issue}MedlineDate", "ArticleDate/Year"):
        if found := re.search(r"\b(1[5-9]|20)\d\d\b", article.findtext(path) or ""):
            return int(found.group())
    return None


# ---- the command ----


@dataclass
class ReadFile:
    """What a worker hands back of one input file."""

    entry: dict  # the shard's entry in the manifest
    source: dict  # the input file's
    counts: Counter  # what was read and dropped
    keys: numpy.ndarray  # int64[documents]: PMID * 256 + version, in the order of the shard


def convert_file(job: tuple[int, Path], output: Path, titles_only: str) -> ReadFile:
    """Write the shard of one input file; `job` is the shard's number and the file."""
    number, path = job
    counts: Counter = Counter()
    keys: list[int] = []

    def documents() -> Iterator[Document]:
        for document in read_pubmed(path, counts, titles_only):
            keys.append(document.metadata["pmid"] * 256 + min(document.metadata["version"], 255))
            yield document

    entry = write_shard(output, number, documents())
    return ReadFile(entry, source_entry(path), counts, numpy.array(keys, dtype=numpy.int64))


def convert(inputs: list[Path], output: Path, *, workers: int = 1, titles_only: str = "drop") -> dict:
    """Read PubMed files and folders into `output`, one shard a file; return the manifest."""
    files = find_files(inputs, SUFFIXES)
    options = {"titles_only": titles_only}
    with writing_stage(output, "pubmed", options=options, sentences=False, packages=["lxml"]) as stage:
        job = partial(convert_file, output=stage.output, titles_only=titles_only)
        read = list(map_in_order(job, list(enumerate(files)), workers=workers, description="PubMed"))
        stage.sources = [r.source for r in read]
        stage.counts = sum((r.counts for r in read), Counter())
        stage.files, stage.counts["dropped_repeated_pmid"] = _drop_repeated(read, stage.output)
        if not any(entry["documents"] for entry in stage.files):
            raise ValueError(f"no record of {files[0]} (of {len(files)} files) became a document")
    return read_manifest(output)


def _drop_repeated(read: list[ReadFile], output: Path) -> tuple[list[dict], int]:
    """Keep one document of each PMID: the highest version, and of equals the last in the order of the input.

    Needs 16 bytes of memory a document. Only shards that hold a repeated PMID are written again.
    """
    keys = numpy.concatenate([r.keys for r in read])
    order = numpy.argsort(keys, kind="stable")
    pmids = keys[order] >> 8
    repeated = numpy.zeros(len(keys), dtype=bool)
    repeated[order[:-1]] = pmids[:-1] == pmids[1:]
    entries, start = [], 0
    for number, result in enumerate(read):
        drop = repeated[start : start + len(result.keys)]
        start += len(result.keys)
        entry = result.entry
        if drop.any():
            shard = read_shard(output / entry["name"])
            entry = write_shard(output, number, (d for d, gone in zip(shard, drop, strict=True) if not gone))
        entries.append(entry)
    return entries, int(repeated.sum())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pretraining.corpus.pubmed", description="Read PubMed XML into documents."
    )
    add = parser.add_argument
    add("--input", nargs="+", type=Path, required=True, metavar="PATH",
        help="PubMed XML files, gzip or not, or folders of them (*.xml and *.xml.gz, by name)")  # fmt: skip
    add("--output", type=Path, required=True, metavar="DIR",
        help="the folder to write; an earlier result is replaced")  # fmt: skip
    add("--titles-only", choices=["keep", "drop"], default="drop",
        help="what to do with records that have a title but no abstract (default: drop)")  # fmt: skip
    add("--workers", type=int, default=usable_cores(), metavar="N",
        help="processes, one file each (default: the cores there are)")  # fmt: skip
    args = parser.parse_args()
    try:
        manifest = convert(args.input, args.output, workers=args.workers, titles_only=args.titles_only)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{summary(manifest)}\nwritten to {args.output}")


if __name__ == "__main__":
    main()
