"""Records in pieces and as a stream: always the same ones, and the same error; hostile XML in bounded memory.

python -m pytest -q tests/pretraining/corpus/test_record_elements.py
"""

import gzip
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from lxml import etree

from pretraining.corpus import record_elements
from pretraining.corpus.documents import read_documents, read_manifest
from pretraining.corpus.pubmed import convert, read_pubmed
from pretraining.corpus.record_elements import iterate_records

REPOSITORY = Path(__file__).parents[3]
DATA = REPOSITORY.parent / "shared" / "data" / "pubmed_xml"


def article(pmid, text="Text.", extra=""):
    return (
        f"<PubmedArticle><MedlineCitation><PMID>{pmid}</PMID><Article><ArticleTitle>T.</ArticleTitle><Abstract>"
        f"<AbstractText>{text}</AbstractText></Abstract></Article>{extra}</MedlineCitation></PubmedArticle>"
    )


def in_set(*records, head="<PubmedArticleSet>", tail="</PubmedArticleSet>"):
    return (head + "\n".join(records) + tail).encode()


DOCTYPE = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//X" "http://x/x.dtd">\n'
BOOK = "<PubmedBookArticle><BookDocument><PMID>9</PMID></BookDocument></PubmedBookArticle>"
RANDOM = random.Random(1)  # bytes that gzip cannot pack away
THREE = [article(number) for number in (1, 2, 3)]
CASES = {
    "plain": in_set(*THREE),
    "as published": in_set(*THREE, head=DOCTYPE + "<PubmedArticleSet>"),
    "byte order mark": "\ufeff".encode() + in_set(*THREE),
    "entities of the outside DTD": in_set(article(1, "a&nbsp;b"), *THREE, head=DOCTYPE + "<PubmedArticleSet>"),
    "a name space of the root": in_set(
        article(1, "<m:math><m:mi> V </m:mi></m:math>"), *THREE, head='<PubmedArticleSet xmlns:m="http://x/m">'
    ),
    "books and deletions": in_set(BOOK, *THREE, BOOK, "<DeleteCitation><PMID>5</PMID></DeleteCitation>"),
    "an end in CDATA": in_set(article(1, "<![CDATA[</PubmedArticle>]]>"), *THREE),
    "an end in a comment": in_set(*THREE, "<!-- </PubmedArticle> -->", *THREE),
    "a comment that holds a root": in_set(*THREE, head="<!-- <PubmedArticleSet> --><PubmedArticleSet>"),
    "records one level down": in_set("<Part>", *THREE, "</Part>"),
    "something between": in_set(THREE[0], "<Note>n</Note>", THREE[1]),
    "another root": in_set(BOOK, head="<PubmedBookArticleSet>", tail="</PubmedBookArticleSet>"),
    "UTF-16": f'<?xml version="1.0" encoding="utf-16"?>{in_set(*THREE).decode()}'.encode("utf-16"),
    "empty set": in_set(),
    "cut after a record": in_set(*THREE, tail=""),
    "cut in a record": in_set(*THREE)[:-90],
    "two roots": in_set(*THREE) + in_set(*THREE),
    "a bad byte in the third": in_set(*THREE[:2], article(3, "@"), article(4)).replace(b"@", b"\xe9"),
    "an entity that nobody declares": in_set(*THREE, article(4, "&nbsp;")),
    "a cut gzip": gzip.compress(in_set(*(article(n, RANDOM.randbytes(500).hex()) for n in range(99))))[:-30],
}
BROKEN = list(CASES)[-6:]


def outcome(elements):
    """What an iterator gives: the records as XML, and how it ends."""
    found = []
    try:
        for element in elements:  # one by one, for the stream forgets what it gave
            found.append((element.tag, etree.tostring(element, with_tail=False)))
    except (etree.XMLSyntaxError, EOFError) as error:
        return found, f"{type(error).__name__}: {error}"
    return found, "whole"


@pytest.mark.parametrize("piece", [100, 500, 1 << 18])
@pytest.mark.parametrize("case", CASES)
def test_pieces_and_stream_agree(tmp_path, monkeypatch, case, piece):
    monkeypatch.setattr(record_elements, "PIECE", piece)
    path = tmp_path / "a.xml"
    path.write_bytes(CASES[case])
    records, end = outcome(iterate_records(path))
    expected, expected_end = outcome(record_elements._as_stream(path))
    # of a cut gzip file, small pieces give some more, for each `read` gives all or nothing
    assert (records[: len(expected)] if case == "a cut gzip" else records) == expected and end == expected_end
    assert (end == "whole") == (case not in BROKEN) and bool(records) == (case != "empty set")


@pytest.mark.parametrize("piece", [300, 1 << 18])
def test_what_pubmed_publishes_never_needs_the_stream(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(record_elements, "PIECE", piece)
    monkeypatch.delattr(record_elements, "_as_stream")
    path = tmp_path / "a.xml"
    for case in ("as published", "books and deletions"):
        path.write_bytes(CASES[case])
        assert len(list(iterate_records(path))) == (3 if case == "as published" else 6)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real PubMed files are not here")
@pytest.mark.parametrize("path", sorted((DATA / "baseline").glob("*.gz")), ids=lambda path: path.name)
def test_pieces_and_stream_agree_on_real_files(path, monkeypatch):
    expected = outcome(record_elements._as_stream(path))
    monkeypatch.delattr(record_elements, "_as_stream")
    assert outcome(iterate_records(path)) == expected and expected[1] == "whole"


# ---- hostile XML ----

MEMORY_BYTES = 2_000_000_000
TINY = {
    "between records": (article(1), "<x/>" * 6_000_000, article(2)),
    "inside a record": (article(1), article(2, extra="<x/>" * 5_000_000)),
    "with text between": (article(1), article(2, extra="a<x/>" * 4_000_000)),
    "before the root": ("<!DOCTYPE a [" + "<!ENTITY a 'b'>" * 2_000_000,),
}


@pytest.mark.parametrize("case", TINY)
def test_millions_of_tiny_elements_are_refused_in_bounded_memory(tmp_path, case):
    path = tmp_path / "tiny.xml.gz"
    head = "" if case == "before the root" else "<PubmedArticleSet>"
    path.write_bytes(gzip.compress((head + "".join(TINY[case])).encode(), compresslevel=1))
    result = subprocess.run(
        [sys.executable, "-m", "pretraining.corpus.pubmed", "--input", path, "--output", tmp_path / "o"],
        cwd=REPOSITORY, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES)),
    )  # fmt: skip
    assert result.returncode == 1 and result.stderr.startswith(f"error: {path} has ") and result.stderr.count("\n") == 1
    assert case == "before the root" or "after PMID 1" in result.stderr
    assert list((tmp_path / "o").iterdir()) == []


def test_what_stands_before_a_record_too_large_is_kept_where_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(record_elements, "LARGEST_RECORD", 100_000)
    monkeypatch.setattr(record_elements, "PIECE", 10_000)
    path = tmp_path / "a.xml"
    path.write_bytes(in_set(*THREE, article(4, "long " * 50_000), article(5)))
    with pytest.raises(ValueError, match="a.xml has no end of a record in 100,000 bytes of XML after PMID 3"):
        list(read_pubmed(path))
    convert([path], tmp_path / "o", skip_broken=True)
    assert [document.id for document in read_documents(tmp_path / "o")] == ["1", "2", "3"]
    assert "after PMID 3" in read_manifest(tmp_path / "o")["sources"][0]["broken"]
