"""The PubMed reader beside pubmed_parser, record by record: text, date, language, journal, types, MeSH, keywords.

Where the two differ on purpose, the comparison allows it or the records avoid it: pubmed_parser keeps white space,
brackets round translated titles and labels of empty sections, takes only the year of a date in words, and loses the
text of elements inside elements (formulas, bold italics) and the label of a section that is alone.

python -m pytest -q tests/pretraining/corpus/test_pubmed_oracle.py
"""

import gzip
import unicodedata
from pathlib import Path

import pytest

from launch.sample_data import write_sample_data
from pretraining.corpus.documents import Document
from pretraining.corpus.pubmed import read_pubmed

DATA = Path(__file__).parents[4] / "shared" / "data" / "pubmed_xml"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real PubMed files are not here")
pubmed_parser = pytest.importorskip("pubmed_parser", reason="tests/requirements.txt has pubmed_parser")

QUIRKS = """<PubmedArticleSet>
<PubmedArticle><MedlineCitation><PMID Version="1">1</PMID><Article><Journal><ISSN>0001-0002</ISSN><JournalIssue>
<PubDate><Year>2019</Year><Month>Jul</Month><Day>03</Day></PubDate></JournalIssue><Title>Journal of Tests</Title>
</Journal><ArticleTitle>[Uptake of <sup>18</sup>F-<i>FDG</i> &lt; 3 &amp; caf\u00e9].</ArticleTitle><Abstract>
<AbstractText Label="AIM" NlmCategory="OBJECTIVE">Why <b>bold</b>
   more.</AbstractText><AbstractText Label="RESULTS">p\u2009&lt;\u20090.05.</AbstractText>
<CopyrightInformation>Copyright.</CopyrightInformation></Abstract><Language>ger</Language><Language>eng</Language>
<PublicationTypeList><PublicationType UI="D1">Journal Article</PublicationType>
<PublicationType UI="D2">Review</PublicationType></PublicationTypeList><VernacularTitle>Titel.</VernacularTitle>
</Article><MedlineJournalInfo><ISSNLinking>0001-0002</ISSNLinking></MedlineJournalInfo><MeshHeadingList><MeshHeading>
<DescriptorName UI="D3">Mice</DescriptorName><QualifierName UI="Q1">genetics</QualifierName></MeshHeading><MeshHeading>
<DescriptorName UI="D4">Humans</DescriptorName></MeshHeading></MeshHeadingList>
<OtherAbstract Language="fre"><AbstractText>Pourquoi.</AbstractText></OtherAbstract>
<KeywordList><Keyword>one</Keyword><Keyword>two words</Keyword></KeywordList></MedlineCitation><PubmedData/>
</PubmedArticle>
<PubmedArticle><MedlineCitation><PMID>2</PMID><Article><Journal><JournalIssue><PubDate><MedlineDate>1998 Dec-1999 Jan
</MedlineDate></PubDate></JournalIssue></Journal><ArticleTitle>Plain.</ArticleTitle><Abstract><AbstractText>One.
</AbstractText></Abstract></Article></MedlineCitation><PubmedData/></PubmedArticle></PubmedArticleSet>"""


def letters(text: str) -> str:
    """The letters and digits of a text."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFC", text)))


def names(terms: str) -> list[str]:
    """`D000818:Animals; D006801:Humans` -> Animals, Humans."""
    return [term.partition(":")[2] for term in terms.split("; ") if term]


def assert_equal(ours: Document, theirs: dict) -> None:
    metadata = ours.metadata
    assert letters(ours.text) == letters(theirs["title"] + theirs["abstract"])
    assert (metadata.get("date") or "").startswith(theirs["pubdate"]) and bool(theirs["pubdate"]) == (
        "date" in metadata
    )
    assert ";".join(metadata.get("language", [])) == theirs["languages"]
    assert metadata.get("journal", "") == theirs["journal"]
    assert metadata.get("publication_types", []) == names(theirs["publication_types"])
    assert metadata.get("mesh", []) == names(theirs["mesh_terms"])
    assert letters("".join(metadata.get("keywords", []))) == letters(theirs["keywords"])
    assert not theirs["issn_linking"] or theirs["issn_linking"] in metadata["issn"]


def compare(path: Path) -> int:
    """Compare all records of a file (gzip, as pubmed_parser opens everything); return how many there are."""
    theirs = list(pubmed_parser.parse_medline_xml(str(path), year_info_only=False))
    ours = list(read_pubmed(path, titles_only="keep"))
    assert [document.id for document in ours] == [article["pmid"] for article in theirs]
    for document, article in zip(ours, theirs, strict=True):
        assert_equal(document, article)
    return len(ours)


def test_quirks(tmp_path):
    path = tmp_path / "quirks.xml.gz"
    path.write_bytes(gzip.compress(QUIRKS.encode()))
    assert compare(path) == 2


def test_made_up_records(tmp_path):
    write_sample_data(tmp_path, abstracts=60, seed=3)
    assert sum(compare(path) for path in sorted((tmp_path / "pubmed").glob("*.gz"))) == 60


@needs_data
@pytest.mark.parametrize("path", sorted((DATA / "baseline").glob("*.gz")), ids=lambda path: path.name)
def test_real_files(path):
    assert compare(path) >= 10
