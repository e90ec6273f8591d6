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
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from lxml import etree

from pretraining.corpus.documents import Document, normalise_text

MATH = "{http://www.w3.org/1998/Math/MathML}math"
# PubMed's stand-ins for a title that it does not have
NO_TITLE = {"", "Not Available", "Not Available.", "In Process Citation", "In Process Citation."}
MONTHS = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
YEAR = re.compile(r"(1[5-9]|20)\d\d")
MEDLINE_DATE = re.compile(r"\b((?:1[5-9]|20)\d\d)\b(?: ([A-Z][a-z]{2}))?")
# Strings straight from libxml2: half the time of walking the elements, each of which becomes a Python object.
_strings = partial(etree.XPath, smart_strings=False)
TYPES = _strings("PublicationTypeList/PublicationType/text() | PublicationType/text()")  # a book has no list of them
LANGUAGES = _strings("Language/text()")
JOURNAL = _strings("Journal/Title/text()")
ISSNS = _strings("Journal/ISSN/text()")
LINKING_ISSN = _strings("MedlineJournalInfo/ISSNLinking/text()")
MESH = _strings("MeshHeadingList/MeshHeading/DescriptorName/text()")
KEYWORDS = _strings("KeywordList/Keyword/text()")
MARKED_UP_KEYWORDS = _strings("boolean(KeywordList/Keyword/*)")
NOTES = _strings("CommentsCorrectionsList/CommentsCorrections/@RefType")
RETRACTED = "Retracted Publication"


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
        citation = article = element.find("BookDocument")
    else:
        citation = element.find("MedlineCitation")
        article = citation.find("Article") if citation is not None else None
    identifier = citation.find("PMID") if citation is not None else None
    pmid = (identifier.text or "").strip() if identifier is not None else ""
    if not (pmid.isascii() and pmid.isdigit() and len(pmid) <= 12):
        return Record(0, 1, None, "no_pmid")
    number = identifier.get("Version", "1")
    record = Record(int(pmid), int(number) if number.isascii() and number.isdigit() else 1, None)
    title, sections = (_title(article), _sections(article)) if article is not None else ("", [])
    if not title and not sections:
        record.reason = "no_text"
        return record
    if not sections and titles_only == "drop":
        record.reason = "no_abstract"
        return record
    text = "\n".join([title, *sections] if title else sections)
    if "&" in text and next(article.iter(etree.Entity), None) is not None:
        record.reason = "unresolved_entity"  # &name; of the outside DTD: nothing says what it stands for
        return record
    found = {"source": file_name, "pmid": pmid, "version": record.version, **_metadata(citation, article)}
    record.document = Document(pmid, text, found)
    return record


# ---- text ----


def _title(article: etree._Element) -> str:
    """Return the title; a book's is that of the chapter or else its own."""
    element = article.find("ArticleTitle")
    if element is None:
        element = article.find("Book/BookTitle")
    return clean_title(_text(element) if element is not None else "")


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


# ---- metadata ----


def _metadata(citation: etree._Element, article: etree._Element) -> dict[str, Any]:
    """What filters may ask for; what a record does not have is left out."""
    types = _terms(TYPES(article))
    journal = _terms(JOURNAL(article))
    marked_up = MARKED_UP_KEYWORDS(citation)
    found = {
        "date": _date(article),
        "language": _terms(LANGUAGES(article)),
        "journal": journal[0] if journal else None,
        "issn": list(dict.fromkeys(_terms(ISSNS(article)) + _terms(LINKING_ISSN(citation)))),
        "publication_types": types,
        "mesh": _terms(MESH(citation)),
        "keywords": _terms(map(_text, citation.iterfind("KeywordList/Keyword")) if marked_up else KEYWORDS(citation)),
        "retracted": RETRACTED in types or "RetractionIn" in NOTES(citation),
    }
    return {name: value for name, value in found.items() if value}


def _terms(texts: Iterable[str]) -> list[str]:
    """The texts, normalised, without the empty ones."""
    return [term for text in texts if (term := _term(text))]


_term = lru_cache(1 << 16)(normalise_text)  # the terms of controlled vocabularies come again and again


def _date(article: etree._Element) -> str | None:
    """The date of publication, of the issue or else of the article itself: YYYY, YYYY-MM or YYYY-MM-DD."""
    for path in ("Journal/JournalIssue/PubDate", "ArticleDate", "Book/PubDate", "ContributionDate"):
        element = article.find(path)
        if element is None:
            continue
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
