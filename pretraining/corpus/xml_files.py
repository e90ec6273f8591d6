"""Opening XML from outside safely, plain or gzip; there is no command here.

Steps of a reader: `open_xml(path)` or bytes of its own; `check_head` before anything else is parsed; parsing with
`PARSER_OPTIONS`; all of it inside `with naming(path, position)`, which turns what lxml and gzip raise into one
sentence.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lxml import etree

# No DTD, entity or address is followed, and libxml2's limits on depth and size stay on.
SAFE = {"load_dtd": False, "no_network": True, "resolve_entities": False, "huge_tree": False}
PARSER_OPTIONS = {**SAFE, "remove_comments": True, "remove_pis": True}
LONGEST_HEAD = 1_000_000  # bytes before the root element; more is a DTD of entities without end
DTD_INSIDE = re.compile(rb"""<!DOCTYPE(?:[^>\["']|"[^"]*"|'[^']*')*\[""")  # names in quotes may hold a `>`


class TooLargeError(Exception):
    """XML that would not fit into memory; the text says what is too large, `naming` says where."""


def open_xml(path: Path) -> BinaryIO:
    """Open a file for reading bytes, through gzip if it starts as gzip does."""
    with open(path, "rb") as file:
        start = file.read(2)
    if not start:
        raise ValueError(f"{path} is empty; fetch it again or leave it out")
    return gzip.open(path) if start == b"\x1f\x8b" else open(path, "rb")


def check_head(path: Path | str, file: BinaryIO, kind: str) -> str:
    """The tag of a file's root, from its first kilobytes. Refuses a DTD inside the file (entity bombs)."""
    parser = etree.XMLPullParser(events=("start",), **PARSER_OPTIONS)
    event, taken = None, 0
    while event is None and (chunk := file.read(1 << 14)):
        taken += len(chunk)
        if taken > LONGEST_HEAD:
            raise TooLargeError(f"has no root element in {LONGEST_HEAD:,} bytes of XML")
        try:
            parser.feed(chunk)
        except etree.XMLSyntaxError:  # further down in this chunk: what comes before it is for the reader to take
            if (event := next(iter(parser.read_events()), None)) is None:
                raise
            break
        event = next(iter(parser.read_events()), None)
    if event is None:
        parser.close()  # raises what is wrong
        raise ValueError(f"{path} holds no XML element; fetch it again or leave it out")
    root = event[1]
    if DTD_INSIDE.search(etree.tostring(root.getroottree())):
        raise ValueError(f"{path} has a DTD inside, which {kind} files never have; leave it out")
    return root.tag


@contextmanager
def naming(path: Path | str, position: Callable[[], str]) -> Iterator[None]:
    """Raise what lxml and gzip raise, and TooLargeError, as a ValueError with the file and the place, `position()`."""
    try:
        yield
    except etree.XMLSyntaxError as error:
        raise ValueError(
            f"{path} is not well-formed XML after {position()} ({error.msg}); fetch it again or leave it out"
        ) from None
    except TooLargeError as error:
        raise ValueError(f"{path} {error} after {position()}, which is no real data; leave it out") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is cut short or damaged after {position()} (gzip: {error}); fetch it again") from None
