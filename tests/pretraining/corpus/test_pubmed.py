"""The PubMed reader: every quirk of the real files, bad input, and the real files where they are."""

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from pretraining.corpus.documents import read_documents
from pretraining.corpus.pubmed import convert, read_pubmed

REPOSITORY = Path(__file__).parents[3]
DATA = REPOSITORY.parent / "shared" / "data" / "pubmed_xml"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real PubMed files are not here")

HEAD = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    '<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle//EN" "http://dtd.nlm.nih.gov/x.dtd">\n'
)


def article(body, pmid="1", version="1", extra="", outside=""):
    return (
        f'<PubmedArticle><MedlineCitation Owner="NLM"><PMID Version="{version}">{pmid}</PMID><Article>'
        "<Journal><JournalIssue><PubDate><Year>1999</Year></PubDate></JournalIssue></Journal>"
        f"{body}<Language>eng</Language>{extra}</Article>{outside}</MedlineCitation>"
        "<PubmedData><ArticleIdList><ArticleId>9</ArticleId></ArticleIdList></PubmedData></PubmedArticle>"
    )


def body(title="Title.", text="Text."):
    return f"<ArticleTitle>{title}</ArticleTitle><Abstract><AbstractText>{text}</AbstractText></Abstract>"


def write(path, *records, head=HEAD):
    path.write_text(f"{head}<PubmedArticleSet>\n{''.join(records)}</PubmedArticleSet>\n", encoding="utf-8")
    return path


def read_one(tmp_path, *args, titles_only="drop", **more):
    path = write(tmp_path / "one.xml", article(*args, **more))
    counts = Counter()
    documents = list(read_pubmed(path, counts, titles_only))
    assert counts["records"] == 1
    return documents[0] if documents else counts


# ---- text ----


def test_text_identifier_and_metadata(tmp_path):
    document = read_one(tmp_path, body("A title.", "An abstract."), pmid="123", version="2")
    assert document.id == "123" and document.text == "A title.\nAn abstract."
    assert document.metadata == {
        "pmid": 123, "version": 2, "date": 1999, "language": "eng", "file": "one.xml"
    }  # fmt: skip


def test_all_text_of_marked_up_children(tmp_path):
    text = (
        "CO<sub>2</sub> and <i>E. <b>coli</b></i> at 10<sup>-3</sup> M, <u>not</u> "
        "<!-- never -->less<?pi no?>. "
        '<mml:math xmlns:mml="http://www.w3.org/1998/Math/MathML">\n <mml:mover>\n  <mml:mi>V</mml:mi>\n'
        "  <mml:mo>.</mml:mo>\n </mml:mover>\n <mml:mi>O</mml:mi><mml:mn>2</mml:mn>\n</mml:math> "
        "max &lt; 3 &amp; up"
    )
    document = read_one(tmp_path, body("Role of <i>RAS</i> in H<sub>2</sub>O.", text))
    title, abstract = document.text.split("\n")
    assert title == "Role of RAS in H2O."
    assert abstract == "CO2 and E. coli at 10-3 M, not less. V.O2 max < 3 & up"


def test_white_space_control_characters_and_nfc(tmp_path):
    text = "\n      p\u2009&lt;\u20090.05,\n      n\u00a0= 3;\tcafe\u0301 soft\u00adhyphen &#x85; end\u200b.\n "
    assert read_one(tmp_path, body("T\n  T.", text)).text == "T T.\np < 0.05, n = 3; café softhyphen end."


def test_structured_abstract_keeps_its_labels(tmp_path):
    sections = (
        "<ArticleTitle>T.</ArticleTitle><Abstract>"
        '<AbstractText Label="BACKGROUND AND AIM" NlmCategory="BACKGROUND">Why.</AbstractText>'
        '<AbstractText Label="METHODS" NlmCategory="METHODS"/>'
        '<AbstractText Label="UNLABELLED">Plain.</AbstractText><AbstractText>No label.</AbstractText>'
        '<AbstractText Label="Results">That.</AbstractText>'
        "<CopyrightInformation>Copyright 1999 Nobody.</CopyrightInformation></Abstract>"
    )
    lines = read_one(tmp_path, sections).text.split("\n")
    assert lines == ["T.", "BACKGROUND AND AIM: Why.", "Plain.", "No label.", "Results: That."]


def test_other_abstract_vernacular_title_and_copyright_are_not_text(tmp_path):
    document = read_one(
        tmp_path,
        body("[Translated title].", "English."),
        extra="<VernacularTitle>Titre.</VernacularTitle>",
        outside='<OtherAbstract Language="fre"><AbstractText>Fr.</AbstractText></OtherAbstract>',
    )
    assert document.text == "Translated title.\nEnglish."


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("[A title].", "A title."),
        ("[A title.]", "A title."),
        ("[Is it?].", "Is it?"),
        ("[On [3H]thymidine].", "On [3H]thymidine."),
        ("[3H]thymidine in [14C].", "[3H]thymidine in [14C]."),
        ("Uptake of [18F]FDG.", "Uptake of [18F]FDG."),
        ("[Broken", "[Broken"),
        ("[Not Available].", None),
        ("[In Process Citation]", None),
        ("", None),
    ],
)
def test_titles(tmp_path, title, expected):
    assert read_one(tmp_path, body(title, "Abstract.")).text == (f"{expected}\nAbstract." if expected else "Abstract.")


def test_dates(tmp_path):
    def date(xml):
        path = write(tmp_path / "d.xml", article(body()).replace("<Year>1999</Year>", xml))
        return next(read_pubmed(path)).metadata["date"]

    assert date("<MedlineDate>1998 Dec-1999 Jan</MedlineDate>") == 1998
    assert date("<Season>Spring</Season>") is None


# ---- what becomes a document ----


def test_records_without_abstract(tmp_path):
    title = "<ArticleTitle>Only a title.</ArticleTitle>"
    assert read_one(tmp_path, title)["dropped_no_abstract"] == 1
    assert read_one(tmp_path, body(text=" \n "))["dropped_no_abstract"] == 1
    assert read_one(tmp_path, title, titles_only="keep").text == "Only a title."
    assert read_one(tmp_path, "")["dropped_no_text"] == 1
    assert read_one(tmp_path, body(), pmid="x")["dropped_no_pmid"] == 1


def test_books_deletions_and_bare_roots(tmp_path):
    book = "<PubmedBookArticle><BookDocument><PMID>9</PMID><Abstract/></BookDocument></PubmedBookArticle>"
    deletion = "<DeleteCitation><PMID Version='1'>5</PMID><PMID>6</PMID></DeleteCitation>"
    counts = Counter()
    path = write(tmp_path / "a.xml", "<!-- c -->", book, article(body(), pmid="5"), deletion)
    assert [d.id for d in read_pubmed(path, counts)] == ["5"]
    assert counts == {"records": 2, "dropped_book": 1, "deletions_not_applied": 2}
    bare = tmp_path / "bare.xml"
    bare.write_text(article(body(), pmid="7"))  # no XML declaration, no DOCTYPE
    assert [d.id for d in read_pubmed(bare)] == ["7"]
    counts = Counter()
    bare.write_text(book)
    assert list(read_pubmed(bare, counts)) == [] and counts["dropped_book"] == 1


def test_entities_of_the_outside_dtd_are_not_resolved(tmp_path):
    counts = Counter()
    path = write(tmp_path / "a.xml", article(body(text="a&nbsp;b")), article(body(text="&amp;nbsp;"), pmid="2"))
    assert [d.text for d in read_pubmed(path, counts)] == ["Title.\n&nbsp;"]
    assert counts["dropped_unresolved_entity"] == 1


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["a.xml", "a.xml.gz"])
def test_gzip_is_told_by_content_not_by_name(tmp_path, name, compressed):
    content = write(tmp_path / "x.xml", article(body())).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if compressed else content)
    assert [d.id for d in read_pubmed(tmp_path / name)] == ["1"]


def test_other_encodings(tmp_path):
    path = tmp_path / "a.xml"
    path.write_bytes(f'<?xml version="1.0" encoding="utf-16"?>{article(body("Ümlaut β."))}'.encode("utf-16"))
    assert next(read_pubmed(path)).text.startswith("Ümlaut β.")


# ---- real files ----


@needs_data
def test_real_baseline(tmp_path):
    manifest = convert([DATA / "baseline"], tmp_path / "o", workers=2)
    # 49, 29, 45, 51 and 10 records; 24 of the 49 have no abstract
    assert manifest["counts"]["records"] == 184
    documents = {entry["name"]: source["documents"] for entry, source in zip(
        manifest["sources"], manifest["files"], strict=True)}  # fmt: skip
    assert documents["pubmed21n0001.xml.gz"] == 25
    assert manifest["documents"] + manifest["counts"]["dropped_no_abstract"] == 184
    texts = {d.id: d.text for d in read_documents(tmp_path / "o")}
    assert "patients with RAS wild-type metastatic colorectal cancer." in texts["31388315"]
    assert not any("  " in t or "\u00a0" in t or "\u2009" in t for t in texts.values())
    kept = convert([DATA / "baseline"], tmp_path / "o", titles_only="keep")
    # the 10 records of pubmed20n0001 are in pubmed21n0001 again
    assert kept["documents"] == 174 and kept["counts"]["dropped_repeated_pmid"] == 10
    assert kept["files"][0]["documents"] == 0


@needs_data
def test_real_update_file(tmp_path):
    manifest = convert([DATA / "update"], tmp_path / "o", titles_only="keep")
    assert manifest["counts"] == {"records": 7, "deletions_not_applied": 3, "dropped_repeated_pmid": 1}
    assert {d.id: d.metadata["version"] for d in read_documents(tmp_path / "o")}["31383287"] == 2


@needs_data
@pytest.mark.parametrize("path", sorted((DATA / "efetch").glob("*.xml")), ids=lambda p: p.name)
def test_real_efetch_files(path, tmp_path):
    counts = Counter()
    if path.name in ("biopython_efetch_pmc.xml", "jabref_MedlineImporterTestMalformedEntry.xml"):
        with pytest.raises(ValueError, match=path.name) as error:
            list(read_pubmed(path, counts))
        assert "\n" not in str(error.value)
        return
    documents = list(read_pubmed(path, counts, "keep"))
    if "Book" not in path.name and "Minimal" not in path.name:
        assert documents and all(line.strip() for d in documents for line in d.text.split("\n"))
    json.dumps([d.metadata for d in documents])
    dropped = sum(n for name, n in counts.items() if name.startswith("dropped"))
    assert len(documents) + dropped == counts["records"] > 0


@needs_data
def test_real_mathml():
    text = next(itertools.islice(read_pubmed(DATA / "efetch" / "biopython_pubmed6.xml"), 1)).text
    assert "maximal oxygen uptake ( V.O2max ) 67.6" in text and "(P < 0.001; ES: 3.54)" in text
