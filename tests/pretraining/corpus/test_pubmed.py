"""The PubMed reader: every quirk of the real files, bad input, and the real files where they are."""

import gzip
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest

from pretraining.corpus.documents import read_documents
from pretraining.corpus.engine import Engine
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
        "source": "one.xml", "pmid": "123", "version": 2, "date": "1999", "language": ["eng"]
    }  # fmt: skip


METADATA = """<PubmedArticle><MedlineCitation><PMID>77</PMID><Article>
<Journal><ISSN IssnType="Print">0001-0002</ISSN><ISSN IssnType="Electronic">0003-0004</ISSN>
<JournalIssue><PubDate><Year>2019</Year><Month>Jul</Month><Day>3</Day></PubDate></JournalIssue>
<Title>Journal of
 Tests</Title></Journal><ArticleTitle>T.</ArticleTitle><Abstract><AbstractText>A.</AbstractText></Abstract>
<Language>ger</Language><Language>eng</Language>
<PublicationTypeList><PublicationType>Journal Article</PublicationType><PublicationType>Review</PublicationType>
</PublicationTypeList></Article><MedlineJournalInfo><ISSNLinking>0001-0002</ISSNLinking></MedlineJournalInfo>
<CommentsCorrectionsList><CommentsCorrections RefType="RetractionIn"><PMID>78</PMID></CommentsCorrections>
</CommentsCorrectionsList><MeshHeadingList><MeshHeading><DescriptorName>Mice</DescriptorName>
<QualifierName>genetics</QualifierName></MeshHeading></MeshHeadingList>
<KeywordList><Keyword>p<i>53</i></Keyword><Keyword> </Keyword></KeywordList></MedlineCitation></PubmedArticle>"""


def test_metadata_that_filters_ask_for(tmp_path):
    document = next(read_pubmed(write(tmp_path / "m.xml", METADATA)))
    assert document.metadata == {
        "source": "m.xml",
        "pmid": "77",
        "version": 1,
        "date": "2019-07-03",
        "language": ["ger", "eng"],
        "journal": "Journal of Tests",
        "issn": ["0001-0002", "0003-0004"],
        "publication_types": ["Journal Article", "Review"],
        "mesh": ["Mice"],
        "keywords": ["p53"],
        "retracted": True,
    }
    without = METADATA.replace("RetractionIn", "CommentIn")
    assert "retracted" not in next(read_pubmed(write(tmp_path / "m.xml", without))).metadata
    marked = without.replace(">Review<", ">Retracted Publication<")
    assert next(read_pubmed(write(tmp_path / "m.xml", marked))).metadata["retracted"] is True


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
        return next(read_pubmed(path)).metadata.get("date")

    assert date("<MedlineDate>1998 Dec-1999 Jan</MedlineDate>") == "1998-12"
    assert date("<MedlineDate>Summer 1998</MedlineDate>") == "1998"
    assert date("<Year>1998</Year><Month>11</Month>") == "1998-11"
    assert date("<Year>1998</Year><Month>Sept</Month><Day>31</Day>") == "1998-09-31"
    assert date("<Year>1998</Year><Month>13</Month><Day>2</Day>") == "1998"
    assert date("<Season>Spring</Season>") is None


# ---- what becomes a document ----


def test_records_without_abstract(tmp_path):
    title = "<ArticleTitle>Only a title.</ArticleTitle>"
    assert read_one(tmp_path, title)["dropped_no_abstract"] == 1
    assert read_one(tmp_path, body(text=" \n "))["dropped_no_abstract"] == 1
    assert read_one(tmp_path, title, titles_only="keep").text == "Only a title."
    assert read_one(tmp_path, "")["dropped_no_text"] == 1
    assert read_one(tmp_path, body(), pmid="x")["dropped_no_pmid"] == 1


BOOK = (
    "<PubmedBookArticle><BookDocument><PMID>9</PMID><Book><BookTitle>A book.</BookTitle><PubDate><Year>2001</Year>"
    "</PubDate></Book><ArticleTitle>A chapter.</ArticleTitle><Language>eng</Language>"
    "<Abstract><AbstractText>On it.</AbstractText></Abstract></BookDocument></PubmedBookArticle>"
)


def test_books_deletions_and_bare_roots(tmp_path):
    deletion = "<DeleteCitation><PMID Version='1'>5</PMID><PMID>6</PMID></DeleteCitation>"
    counts = Counter()
    path = write(tmp_path / "a.xml", "<!-- c -->", BOOK, article(body(), pmid="5"), deletion)
    assert [d.id for d in read_pubmed(path, counts)] == ["9", "5"]  # convert applies deletions
    assert counts == {"records": 2, "deletions": 2}
    bare = tmp_path / "bare.xml"
    bare.write_text(article(body(), pmid="7"))  # no XML declaration, no DOCTYPE
    assert [d.id for d in read_pubmed(bare)] == ["7"]
    bare.write_text(BOOK)
    (book,) = read_pubmed(bare)
    assert book.text == "A chapter.\nOn it." and book.metadata["date"] == "2001"
    bare.write_text(BOOK.replace("<ArticleTitle>A chapter.</ArticleTitle>", ""))
    assert next(read_pubmed(bare)).text == "A book.\nOn it."


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
    manifest = convert([DATA / "baseline"], tmp_path / "o", engine=Engine(workers=2))
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
    assert kept["documents"] == 174 and kept["counts"]["dropped_replaced"] == 10
    assert kept["files"][0]["documents"] == 0


@needs_data
def test_real_update_file(tmp_path):
    manifest = convert([DATA / "update"], tmp_path / "o", titles_only="keep")
    assert manifest["counts"] == {"records": 7, "deletions": 3, "dropped_deleted": 0, "dropped_replaced": 1}
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
