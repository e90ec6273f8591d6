"""One article in JATS (PubMed Central's full texts), as parsed by lxml, into a document; there is no command here.

Steps: `read_article(article)` finds the identifiers, takes the text in reading order, one line for each title and
paragraph, and the metadata, or says why there is no document.

| what the article holds | kept as | why |
| --- | --- | --- |
| article-title | text, first line | |
| abstract | text, `LABEL: ` before a section | graphical abstracts, teasers and highlights are not prose; counted |
| trans-abstract | nothing | the same again in another language |
| body: sections, titles, paragraphs, lists, boxes | text, a line each | |
| MathML of a formula | text | |
| tex-math, and any alternative but the first | nothing | the same formula again |
| tables, figures, their captions, media | nothing | out of reading order, and tables are not prose |
| citations by number and their brackets | nothing | `[3-5]`, and numbers glued to words; `Smith (2004)` stays |
| section numbers (label), footnotes | nothing | |
| references, acknowledgements, appendices (back) | nothing | |
| sub-article, response | nothing | reviews and translations: other documents; counted |
| PMC id, PMID, date, journal, ISSNs, language, keywords | metadata | filters select by them |
| licence, type of article | metadata | filters select by them |
| link to a notice of retraction | `retracted` | the notice is an article of its own |
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from lxml import etree

from pretraining.corpus.documents import Document, normalise_text

XLINK = "{http://www.w3.org/1999/xlink}href"
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
# ISO 639-1, as JATS has it, to the codes that PubMed has (ISO 639-2/B)
LANGUAGES = {
    "en": "eng", "fr": "fre", "de": "ger", "es": "spa", "pt": "por", "it": "ita", "ru": "rus", "zh": "chi",
    "ja": "jpn", "ko": "kor", "pl": "pol", "nl": "dut", "tr": "tur",
}  # fmt: skip
NOT_PROSE = frozenset(
    "table-wrap table-wrap-group table fig fig-group graphic inline-graphic media supplementary-material tex-math "
    "label fn fn-group ref-list ack object-id alt-text long-desc kwd-group trans-abstract trans-title".split()
)
CONTAINERS = frozenset(
    "body sec list list-item boxed-text disp-quote statement def-list def-item def abstract speech verse-group".split()
)
# Blanks go round these where they stand inside a line.
BLOCKS = frozenset(
    "p list list-item def def-item term title disp-formula disp-quote break speech boxed-text sec".split()
)
OTHER_ABSTRACTS = frozenset("graphical teaser short toc precis key-points web-summary executive-summary".split())
LETTERS = re.compile(r"[^\W\d_]").search
EMPTY_BRACKETS = re.compile(r"\s*[\[(][\s,;\u2010-\u2015-]*[\])]")
AFTER_OPENING = re.compile(r"([\[(])[\s,;]+")
BEFORE_CLOSING = re.compile(r"[\s,;]+([\])])")
BLANK_BEFORE_STOP = re.compile(r"\s+([.,;:!?])")
RETRACTED_BY = "retraction-forward"  # in the notice, "retracted-article" leads back
NOTICES = ("retraction", "partial-retraction")
COMMONS = re.compile(r"creativecommons\.org/(?:licenses/([a-z-]+)|(publicdomain/zero))", re.IGNORECASE)


def read_article(article: etree._Element, source: str, counts: Counter) -> tuple[Document | None, str]:
    """The document of an `article` element without namespace, or None and the reason why it has none."""
    meta = article.find("front/article-meta")
    if meta is None:
        return None, "no_metadata"
    identifiers = {one.get("pub-id-type", ""): (one.text or "").strip() for one in meta.iterfind("article-id")}
    number = identifiers.get("pmcid") or identifiers.get("pmc") or ""
    pmcid = f"PMC{number.removeprefix('PMC')}" if number else ""
    identity = pmcid or identifiers.get("pmid") or identifiers.get("doi")
    if not identity:
        return None, "no_id"
    lines = [_line(title) for title in meta.iterfind("title-group/article-title")]
    lines += _abstract(meta, counts)
    body = article.find("body")
    if body is not None:
        lines += _lines(body)
    counts["dropped_sub_articles"] += len(article.findall("sub-article")) + len(article.findall("response"))
    text = "\n".join(line for line in lines if line)
    if not text:
        return None, "no_text"
    if "&" in text and next(article.iter(etree.Entity), None) is not None:
        return None, "unresolved_entity"
    known = {"source": source, "pmcid": pmcid, "pmid": identifiers.get("pmid"), **_metadata(article, meta)}
    return Document(identity, text, {name: value for name, value in known.items() if value}), ""


# ---- text ----


def _abstract(meta: etree._Element, counts: Counter) -> Iterator[str]:
    for abstract in meta.iterfind("abstract"):
        if abstract.get("abstract-type", "") in OTHER_ABSTRACTS:
            counts["dropped_other_abstracts"] += 1
            continue
        for child in abstract:
            if child.tag != "sec":
                if child.tag != "title" and child.tag not in NOT_PROSE:  # the title of an abstract says "Abstract"
                    yield _line(child)
                continue
            title = child.find("title")
            label = _line(title).rstrip(":.") if title is not None else ""
            paragraphs = [line for line in _lines(child, skip=title) if line]
            if label and paragraphs:
                paragraphs[0] = f"{label}: {paragraphs[0]}"
            yield from paragraphs


def _lines(container: etree._Element, skip: etree._Element | None = None) -> Iterator[str]:
    """The titles and paragraphs below an element, in reading order, one line each."""
    for child in container:
        if child is skip or child.tag in NOT_PROSE:
            continue
        if child.tag in CONTAINERS:
            yield from _lines(child)
        else:
            yield _line(child)


def _line(element: etree._Element) -> str:
    """All prose of an element in one line, without citations and what they leave behind."""
    parts: list[str] = []
    _collect(element, parts)
    text = normalise_text("".join(parts))
    if "[" in text or "(" in text:
        text = BEFORE_CLOSING.sub(r"\1", AFTER_OPENING.sub(r"\1", text))
        while (shorter := EMPTY_BRACKETS.sub("", text)) != text:  # brackets in brackets: `[(3)]`
            text = shorter
    return BLANK_BEFORE_STOP.sub(r"\1", text).strip(" ,;")


def _collect(element: etree._Element, parts: list[str]) -> None:
    """Append the element's text and that of its children that are prose; not its tail."""
    if isinstance(element, etree._Entity):
        parts.append(element.text)
        return
    if element.text:
        parts.append(element.text)
    for number, child in enumerate(element):
        alternative = element.tag == "alternatives" and number > 0
        citation = child.tag == "xref" and child.get("ref-type") == "bibr" and not LETTERS("".join(child.itertext()))
        if not (alternative or citation or child.tag in NOT_PROSE):
            block = child.tag in BLOCKS
            parts.append(" " if block else "")
            _collect(child, parts)
            parts.append(" " if block else "")
        if child.tail:
            parts.append(child.tail)


# ---- metadata ----


def _metadata(article: etree._Element, meta: etree._Element) -> dict[str, Any]:
    journal = article.find("front/journal-meta")
    language = (article.get(LANGUAGE) or "").lower()[:2]
    kind = article.get("article-type")
    return {
        "date": _date(meta),
        "language": [LANGUAGES.get(language, language)] if language else [],
        "journal": "" if journal is None else _first_line(journal, ".//journal-title"),
        "issn": [] if journal is None else [_line(one) for one in journal.iterfind("issn")],
        "publication_types": [kind] if kind else [],
        "keywords": [line for one in meta.iterfind("kwd-group/kwd") if (line := _line(one))],
        "license": licence(meta),
        "retracted": _is_retracted(meta, kind),
    }


def _is_retracted(meta: etree._Element, kind: str | None) -> bool:
    """Whether a notice took the article back. Some notices bear the same link, to what they take back."""
    links = (one.get("related-article-type") for one in meta.iterfind("related-article"))
    return kind not in NOTICES and RETRACTED_BY in links


def _first_line(element: etree._Element, path: str) -> str:
    found = element.find(path)
    return "" if found is None else _line(found)


def _date(meta: etree._Element) -> str | None:
    """The earliest date of publication: YYYY, YYYY-MM or YYYY-MM-DD."""
    dates = []
    for one in meta.iterfind("pub-date"):
        year, month, day = ((one.findtext(part) or "").strip() for part in ("year", "month", "day"))
        if re.fullmatch(r"(1[5-9]|20)\d\d", year):
            numbers = [int(part) for part in (month, day) if part.isdecimal()] if month.isdecimal() else []
            dates.append(year + "".join(f"-{part:02d}" for part in numbers))
    return min(dates, default=None)


def licence(meta: etree._Element) -> str:
    """`CC BY`, `CC BY-NC-ND`, ..., `CC0`; `other` for words that name none of these, `none` where nothing stands."""
    elements = meta.findall("permissions/license")
    if not elements:
        return "none"
    for element in elements:
        addresses = [one.get(XLINK) or "" for one in element.iter(etree.Element)]
        words = " ".join([*addresses, "".join(element.itertext())])
        if found := COMMONS.search(words):
            return "CC0" if found[2] else f"CC {found[1].upper()}"
    return "other"
