"""One PubMed record, as parsed by lxml, into a document; there is no command here (pretraining.corpus.pubmed has it).

Steps: `read_record(element)` finds the record's PMID and version, takes its text (the title line and then one line for
each section of the abstract) and its metadata, or says why there is no document.

| what the record holds | kept as | why |
| --- | --- | --- |
| ArticleTitle; of a book ArticleTitle or BookTitle | text | brackets round a translated title are taken off |
| AbstractText of Abstract, with marked-up children | text | its label becomes `LABEL: `; UNLABELLED is none |
| MathML | text | white space between its elements is layout and goes |
| OtherAbstract, VernacularTitle | nothing | translations of what is there already |
| CopyrightInformation, comments, instructions | nothing | not the authors' prose |
| PMID and Version, date, languages, journal, ISSNs | metadata | filters select by them |
| publication types, MeSH, keywords | metadata | filters select by them |
| "Retracted Publication", or a note of a retraction | `retracted` | the notice is a record of its own |
| authors, grants, references, substances, history | nothing | nothing in the chain reads them |
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lxml import etree

from pretraining.corpus.documents import Document, normalise_text

MATH = "{http://www.w3.org/1998/Math/MathML}math"
# PubMed's stand-ins for a title that it does not have
NO_TITLE = {"", "Not Available", "Not Available.", "In Process Citation", "In Process Citation."}
MONTHS = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
YEAR = re.compile(r"(1[5-9]|20)\d\d")
MEDLINE_DATE = re.compile(r"\b((?:1[5-9]|20)\d\d)\b(?: ([A-Z][a-z]{2}))?")
# Straight from libxml2: half the time of walking the elements, each of which becomes a Python object.
MESH = etree.XPath("MeshHeading/DescriptorName/text()", smart_strings=False)
IS_RETRACTED = etree.XPath("boolean(CommentsCorrections[@RefType='RetractionIn'])")
RETRACTED = "Retracted Publication"

Children = dict[str, list[etree._Element]]  # by tag


@dataclass(slots=True)
class Record:
    """What is known of a record: whose it is, and its document or the reason why it has none."""

    pmid: int  # 0 where the record names none
    version: int
    document: Document | None
    reason: str = ""


def read_record(element: etree._Element, file_name: str, titles_only: str) -> Record:
    """The record of a PubmedArticle or PubmedBookArticle element. `titles_only`: "keep" or "drop"."""
    if element.tag == "PubmedBookArticle":
        bodies = _children([element])["BookDocument"]
        citation = article = _children(bodies)
    else:
        citation = _children(_children([element])["MedlineCitation"])
        bodies = citation["Article"]
        article = _children(bodies)
    identifiers = citation["PMID"]
    pmid = (identifiers[0].text or "").strip() if identifiers else ""
    if not (pmid.isascii() and pmid.isdigit() and len(pmid) <= 12):
        return Record(0, 1, None, "no_pmid")
    number = identifiers[0].get("Version", "1")
    record = Record(int(pmid), int(number) if number.isascii() and number.isdigit() else 1, None)
    title, sections = _title(article), _sections(article)
    if not title and not sections:
        record.reason = "no_text"
        return record
    if not sections and titles_only == "drop":
        record.reason = "no_abstract"
        return record
    text = "\n".join([title, *sections] if title else sections)
    if "&" in text and next(bodies[0].iter(etree.Entity), None) is not None:
        record.reason = "unresolved_entity"  # &name; of the outside DTD: nothing says what it stands for
        return record
    found = {"source": file_name, "pmid": pmid, "version": record.version, **_metadata(citation, article)}
    record.document = Document(pmid, text, found)
    return record


def _children(elements: list[etree._Element]) -> Children:
    """The children of some elements by tag: one walk over them takes as long as two or three `find`."""
    found: Children = defaultdict(list)
    for element in elements:
        for child in element:
            found[child.tag].append(child)
    return found


# ---- text ----


def _title(article: Children) -> str:
    """Return the title; a book's is that of the chapter or else its own."""
    titles = article["ArticleTitle"] or _children(article["Book"])["BookTitle"]
    return clean_title(_text(titles[0]) if titles else "")


def clean_title(title: str) -> str:
    """A title without the brackets round a translated one; nothing for PubMed's stand-ins for a missing one."""
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


def _sections(article: Children) -> list[str]:
    """Return the abstract's sections that are not empty, each with its label at the head."""
    sections = []
    for element in _children(article["Abstract"])["AbstractText"]:
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


# ---- metadata ----


def _metadata(citation: Children, article: Children) -> dict[str, Any]:
    """What filters may ask for; what a record does not have is left out."""
    journal = _children(article["Journal"])
    titles = _terms(journal["Title"])
    linking = _children(citation["MedlineJournalInfo"])["ISSNLinking"]
    types = _terms(_children(article["PublicationTypeList"])["PublicationType"] or article["PublicationType"])
    found = {
        "date": _date(article, journal),
        "language": _terms(article["Language"]),
        "journal": titles[0] if titles else None,
        "issn": list(dict.fromkeys(_terms(journal["ISSN"] + linking))),
        "publication_types": types,  # a book has no list of them
        "mesh": [term for one in citation["MeshHeadingList"] for text in MESH(one) if (term := _term(text))],
        "keywords": _terms(_children(citation["KeywordList"])["Keyword"]),
        "retracted": RETRACTED in types or any(map(IS_RETRACTED, citation["CommentsCorrectionsList"])),
    }
    return {name: value for name, value in found.items() if value}


def _terms(elements: Iterable[etree._Element]) -> list[str]:
    """The texts of elements, without the empty ones."""
    return [term for one in elements if (term := _text(one) if len(one) else _term(one.text or ""))]


_term = lru_cache(1 << 16)(normalise_text)  # the terms of controlled vocabularies come again and again


def _date(article: Children, journal: Children) -> str | None:
    """The date of publication, of the issue or else of the article itself: YYYY, YYYY-MM or YYYY-MM-DD."""
    issue, book = _children(journal["JournalIssue"]), _children(article["Book"])
    for element in issue["PubDate"] + article["ArticleDate"] + book["PubDate"] + article["ContributionDate"]:
        parts = {child.tag: child.text or "" for child in element}
        year, month = parts.get("Year"), parts.get("Month")
        if year is None:  # "1998 Dec-1999 Jan", "Summer 1998"
            medline = MEDLINE_DATE.search(parts.get("MedlineDate", ""))
            year, month = medline.groups() if medline else (None, None)
        if year is None or not YEAR.fullmatch(year.strip()):
            continue
        return year.strip() + month_and_day(month, parts.get("Day"))
    return None


def month_and_day(month: str | None, day: str | None) -> str:
    """`-MM-DD`, `-MM` or nothing, of a month in letters or digits."""
    month = (month or "").strip()
    number = int(month) if month.isdecimal() else MONTHS.get(month[:3].lower(), 0)
    if not 1 <= number <= 12:
        return ""
    day = (day or "").strip()
    return f"-{number:02d}" + (f"-{int(day):02d}" if day.isdecimal() and 1 <= int(day) <= 31 else "")
