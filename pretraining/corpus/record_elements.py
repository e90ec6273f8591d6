"""The record elements of one PubMed XML file, one after another in bounded memory; there is no command here.

Steps of `iterate_records(path)`:

1. A file as PubMed publishes it, records side by side in one PubmedArticleSet, is cut where records end; each piece,
   between the file's own head and an end tag, is parsed at once. lxml's stream parser needs a third more time, for it
   calls Python at every end tag.
2. Whatever is not like that (another root, another encoding, a comment before the root, anything not well-formed or cut
   short) is parsed as a stream by `iterparse`, from the first record on that was not given yet. So the records, and the
   error and its place, are those of one parser over the whole file, always.

A record has at most LARGEST_RECORD bytes of XML, and so has what stands between two of them: libxml2 takes up to 50
bytes of memory for a byte of tiny elements, so that more could be gigabytes.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from lxml import etree

from pretraining.corpus.xml_files import PARSER_OPTIONS, TooLargeError, open_xml

RECORDS = ("PubmedArticle", "PubmedBookArticle", "DeleteCitation")
LARGEST_RECORD = 16_000_000  # bytes of XML; 15,000 collaborators with their addresses are 6 million
PIECE = 1 << 18  # bytes of XML that are read and parsed at once
PLAIN_HEAD = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:<\?xml\s[^<>]*\?>)?\s*(?:<!DOCTYPE\s[^<>\[]*>)?\s*<PubmedArticleSet(?:\s[^<>]*[^<>/])?>"
)
RECORD_END, SET_END = b"</PubmedArticle>", b"</PubmedArticleSet>"


class _UnusualError(Exception):
    """The file is for the stream parser."""


def iterate_records(path: Path) -> Iterator[etree._Element]:
    """Yield the records of a file in order; the one before is gone from memory some records later.

    Raises what lxml and gzip raise, and TooLargeError, after the last record that is whole.
    """
    given = 0
    try:
        for element in _in_pieces(path):
            yield element
            given += 1
        return
    except (_UnusualError, etree.XMLSyntaxError, EOFError, zlib.error, gzip.BadGzipFile):
        pass
    yield from islice(_as_stream(path), given, None)


def _in_pieces(path: Path) -> Iterator[etree._Element]:
    parser = etree.XMLParser(**PARSER_OPTIONS)
    with open_xml(path) as file:
        rest = file.read(PIECE)
        match = PLAIN_HEAD.match(rest)
        if match is None:
            raise _UnusualError
        head, rest, more = match[0], rest[match.end() :], b" "
        while more:
            end = rest.rfind(RECORD_END)
            if end >= 0:
                end += len(RECORD_END)
                yield from _parse(head + rest[:end] + SET_END, parser)
                rest = rest[end:]
            elif len(rest) > LARGEST_RECORD:
                raise _UnusualError
            more = file.read(min(max(PIECE, len(rest)), LARGEST_RECORD + 1 - len(rest)))
            rest += more
        yield from _parse(head + rest, parser)


def _parse(piece: bytes, parser: etree.XMLParser) -> Iterator[etree._Element]:
    for element in etree.fromstring(piece, parser):
        if element.tag not in RECORDS:
            raise _UnusualError
        yield element


def _as_stream(path: Path) -> Iterator[etree._Element]:
    with open_xml(path) as opened:
        file = _Bounded(opened)
        for _, element in etree.iterparse(file, events=("end",), tag=RECORDS, **PARSER_OPTIONS):
            file.taken = 0
            yield element
            element.clear()
            parent = element.getparent()
            while parent is not None and element.getprevious() is not None:
                del parent[0]


class _Bounded:
    """A file that gives no more than LARGEST_RECORD bytes at a stretch, and a block."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.taken = file, 0

    def read(self, size: int) -> bytes:
        """The next bytes. Raises TooLargeError if nobody set `taken` to 0 for too long."""
        if self.taken > LARGEST_RECORD:
            raise TooLargeError(f"has no end of a record in {LARGEST_RECORD:,} bytes of XML")
        self.taken += size
        return self.file.read(size)
