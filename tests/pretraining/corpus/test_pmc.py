"""The reader of PMC full texts: what is prose and what is not, packages, licences, bad input, and the real files."""

import gzip
import io
import re
import resource
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from pretraining.corpus import pmc
from pretraining.corpus.documents import read_documents, read_manifest
from pretraining.corpus.engine import Engine
from pretraining.corpus.jats import read_article
from pretraining.corpus.pmc import convert, read_articles
from tests.tar_files import extract

REPOSITORY = Path(__file__).parents[3]
DATA = REPOSITORY.parent / "shared" / "data" / "pmc_nxml"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real PMC files are not here")

BY = '<license xlink:href="https://creativecommons.org/licenses/by/4.0/"><license-p>Open.</license-p></license>'


def article(body="<p>Text.</p>", pmcid="PMC7", title="A title.", abstract="", licence=BY, more="", meta=""):
    return (
        '<article xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:mml="http://www.w3.org/1998/Math/MathML" '
        'article-type="research-article" xml:lang="en"><front><journal-meta><journal-title-group>'
        "<journal-title>J Tests</journal-title></journal-title-group><issn>1234-5678</issn></journal-meta>"
        "<article-meta>"
        f'<article-id pub-id-type="pmc">{pmcid}</article-id><article-id pub-id-type="pmid">55</article-id>'
        f"<title-group><article-title>{title}</article-title></title-group>"
        "<pub-date><month>5</month><year>2011</year></pub-date>"
        "<pub-date><day>3</day><month>12</month><year>2010</year></pub-date>"
        f"<permissions>{licence}</permissions>{abstract}<kwd-group><kwd>mice</kwd></kwd-group>{meta}</article-meta></front>"
        f"<body>{body}</body><back><ref-list><ref><mixed-citation>A reference.</mixed-citation></ref></ref-list></back>"
        f"{more}</article>"
    )


def write(folder, content=None, name="PMC7.nxml"):
    path = folder / name
    path.write_bytes((content or article()).encode())
    return path


def read_one(tmp_path, **parts):
    counts = Counter()
    ((name, element),) = read_articles(write(tmp_path, article(**parts)))
    document, reason = read_article(element, Path(name).name, counts)
    assert document is not None, reason
    return document, counts


def lines_of(tmp_path, body):
    document, _ = read_one(tmp_path, body=body)
    return document.text.split("\n")[1:]


# ---- text ----


def test_text_and_metadata(tmp_path):
    document, _ = read_one(tmp_path)
    assert (document.id, document.text) == ("PMC7", "A title.\nText.")
    assert document.metadata == {
        "source": "PMC7.nxml",
        "pmcid": "PMC7",
        "pmid": "55",
        "date": "2010-12-03",
        "language": ["eng"],
        "journal": "J Tests",
        "issn": ["1234-5678"],
        "publication_types": ["research-article"],
        "keywords": ["mice"],
        "license": "CC BY",
    }
    assert read_one(tmp_path, pmcid="7")[0].id == "PMC7"


@pytest.mark.parametrize(
    ("link", "kind", "retracted"),
    [
        ("retraction-forward", "research-article", True),
        ("retracted-article", "research-article", False),
        ("retracted-article", "retraction", False),
        ("retraction-forward", "retraction", False),
    ],
)
def test_an_article_that_a_notice_took_back_is_retracted_and_the_notice_is_not(tmp_path, link, kind, retracted):
    content = article(meta=f'<related-article related-article-type="{link}" id="r"/>').replace("research-article", kind)
    ((_, element),) = read_articles(write(tmp_path, content))
    assert read_article(element, "a", Counter())[0].metadata.get("retracted", False) == retracted


def test_sections_lists_and_boxes_in_reading_order(tmp_path):
    body = (
        "<sec><label>1</label><title>Methods</title><p>One.</p><sec><title>Mice</title><p>Two,<list><list-item><p>a</p>"
        "</list-item><list-item><p>b</p></list-item></list> end.</p></sec></sec>"
        "<boxed-text><p>Three.</p></boxed-text><list><list-item><p>Four.</p></list-item></list>"
    )
    assert lines_of(tmp_path, body) == ["Methods", "One.", "Mice", "Two, a b end.", "Three.", "Four."]


def test_tables_figures_notes_and_numbers_of_citations_are_not_prose(tmp_path):
    body = (
        '<p>Known [<xref ref-type="bibr">3</xref>, <xref ref-type="bibr">4</xref>–<xref ref-type="bibr">6</xref>]. '
        'Cancer<sup><xref ref-type="bibr">7</xref></sup> is. <xref ref-type="bibr">Smith (2004)</xref> agrees '
        '(see <xref ref-type="fig">Figure 1</xref>).<fig><caption><p>Caption.</p></caption></fig>'
        "<table-wrap><table><tr><td>1</td></tr></table></table-wrap><fn><p>Note.</p></fn></p>"
        "<table-wrap><caption><p>C.</p></caption></table-wrap><fig><p>F.</p></fig>"
    )
    assert lines_of(tmp_path, body) == ["Known. Cancer is. Smith (2004) agrees (see Figure 1)."]


def test_a_formula_is_read_once(tmp_path):
    math = "<mml:math><mml:mi>x</mml:mi><mml:mo>=</mml:mo><mml:mn>2</mml:mn></mml:math>"
    tex = r"<tex-math>\documentclass{minimal} x=2</tex-math>"
    body = (
        f"<p>If <inline-formula><alternatives>{math}{tex}</alternatives></inline-formula> or "
        f"<inline-formula>{tex}{math}</inline-formula>, then <alternatives><mml:math><mml:mi>y</mml:mi></mml:math>"
        "<textual-form>y again</textual-form></alternatives>.</p>"
    )
    assert lines_of(tmp_path, body) == ["If x=2 or x=2, then y."]


def test_abstracts(tmp_path):
    abstract = (
        "<abstract><title>Abstract</title><sec><title>Aims:</title><p>Why.</p><p>More.</p></sec><p>Plain.</p></abstract>"
        '<abstract abstract-type="graphical"><p>Picture.</p></abstract>'
        '<trans-abstract xml:lang="fr"><p>Pourquoi.</p></trans-abstract>'
    )
    document, counts = read_one(tmp_path, abstract=abstract)
    assert document.text.split("\n") == ["A title.", "Aims: Why.", "More.", "Plain.", "Text."]
    assert counts["dropped_other_abstracts"] == 1


def test_sub_articles_and_references_are_left_out_and_counted(tmp_path):
    more = (
        "<sub-article><front-stub/><body><p>Review.</p></body></sub-article><response><body><p>R.</p></body></response>"
    )
    document, counts = read_one(tmp_path, more=more)
    assert document.text == "A title.\nText." and counts["dropped_sub_articles"] == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (BY, "CC BY"),
        ("<license><license-p>http://creativecommons.org/licenses/by-nc-nd/3.0/</license-p></license>", "CC BY-NC-ND"),
        ('<license xlink:href="https://creativecommons.org/publicdomain/zero/1.0/"/>', "CC0"),
        ("<license><license-p>All rights reserved.</license-p></license>", "other"),
        ("<copyright-statement>© 2010</copyright-statement>", "none"),
    ],
)  # fmt: skip
def test_licences(tmp_path, words, expected):
    assert read_one(tmp_path, licence=words)[0].metadata["license"] == expected


# ---- the command ----


def package(path, articles):
    with tarfile.open(path, "w:gz") as output:
        for name, content in articles.items():
            info = tarfile.TarInfo(name)
            info.size = len(content.encode())
            output.addfile(info, io.BytesIO(content.encode()))
    return path


def command(*arguments, **process):
    return subprocess.run(
        [sys.executable, "-m", "pretraining.corpus.pmc", *map(str, arguments)],
        cwd=REPOSITORY, capture_output=True, text=True, **process,
    )  # fmt: skip


def test_packages_files_and_repeats_with_any_number_of_workers(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    old, new = article("<p>Old.</p>", pmcid="PMC1"), article("<p>New.</p>", pmcid="PMC1")
    members = {"PMC001/PMC1.nxml": old, "PMC001/PMC2.nxml": article(pmcid="PMC2"), "x.pdf": "%"}
    package(source / "a.tar.gz", {**members, "PMC001/._PMC1.nxml": "Mac OS X", "._x.xml": ""})
    (source / "b.nxml.gz").write_bytes(gzip.compress(new.encode()))
    write(source, article(pmcid="PMC3", licence=""), "c.xml")
    for workers in (1, 2):
        result = command("--input", source, "--output", tmp_path / str(workers), "--workers", workers)
        assert (result.returncode, result.stderr) == (0, "")
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / n).iterdir()} for n in "12")
    assert one == two
    assert [(d.id, d.text.split("\n")[1]) for d in read_documents(tmp_path / "1")] == [
        ("PMC2", "Text."), ("PMC1", "New."), ("PMC3", "Text.")
    ]  # fmt: skip
    assert read_manifest(tmp_path / "1")["counts"]["dropped_repeated"] == 1
    manifest = convert([source], tmp_path / "o", licences=("CC BY",))
    assert manifest["documents"] == 2 and manifest["counts"]["dropped_license"] == 1


def test_a_set_of_articles_and_names_with_a_namespace(tmp_path):
    path = write(tmp_path, f"<pmc-articleset>{article(pmcid='1')}{article(pmcid='2')}</pmc-articleset>")
    assert len(list(read_articles(path))) == 2
    path = write(
        tmp_path, article().replace("<article ", '<article xmlns="https://jats.nlm.nih.gov/ns/archiving/1.3/" ')
    )
    ((_, element),) = read_articles(path)
    assert read_article(element, "x", Counter())[0].text == "A title.\nText."


BOMB = '<!DOCTYPE article [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
HIDDEN = '<!-- <article> --><!DOCTYPE article SYSTEM "http://x/>x.dtd" [<!ENTITY a "ha">]>'
OUTSIDE = '<!DOCTYPE article [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
BAD = {
    "empty": ("", "is empty"),
    "truncated": (article()[:-20], "not well-formed"),
    "bomb": (BOMB + article("<p>&b;</p>"), "DTD inside"),
    "a DTD behind a comment and a quoted >": (HIDDEN + article("<p>&a;</p>"), "DTD inside"),
    "outside entity": (OUTSIDE + article("<p>&x;</p>"), "DTD inside"),
    "not utf-8": (article("<p>\udcff</p>"), "not well-formed"),
    "HTML": ("<html><body/></html>", "root is <html>"),
    "no text": (article("", title=""), "became a document"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_name_themselves_and_leave_nothing(tmp_path, case):
    content, message = BAD[case]
    path = tmp_path / "PMC7.nxml"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message) as error:
        convert([path], tmp_path / "o")
    assert str(path) in str(error.value) and "\n" not in str(error.value) and "root:" not in str(error.value)
    assert list((tmp_path / "o").iterdir()) == []


def test_a_package_that_is_cut_short(tmp_path):
    path = package(tmp_path / "a.tar.gz", {f"PMC{n}.nxml": article("<p>" + str(n) * 4000 + "</p>") for n in range(9)})
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} is cut short or damaged"):
        convert([path], tmp_path / "o")


def test_a_package_cut_anywhere_or_damaged_is_never_taken_for_whole(tmp_path):
    whole = package(tmp_path / "a.tar.gz", {f"PMC{n}.nxml": article(pmcid=str(n)) for n in range(4)}).read_bytes()
    archive = gzip.decompress(whole)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        third = opened.getmembers()[2].offset
    header = bytearray(archive)
    header[third + 10] ^= 1
    cuts = [whole[:length] for length in range(1, len(whole))]
    bad = [*cuts, gzip.compress(archive[:third]), gzip.compress(header), whole[:-8] + b"1234" + whole[-4:]]
    path = tmp_path / "b.tar.gz"
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            list(read_articles(path))
    path.write_bytes(gzip.compress(archive[:third]) + gzip.compress(archive[third:]))  # as parallel gzip packs
    assert len(list(read_articles(path))) == 4


def test_inputs_cut_short_are_left_out_where_asked_and_listed(tmp_path):
    good = write(tmp_path)
    cut = tmp_path / "PMC8.nxml.gz"
    cut.write_bytes(gzip.compress(article(pmcid="8").encode())[:-20])
    convert([good, cut], tmp_path / "o", skip_broken=True)
    manifest = read_manifest(tmp_path / "o")
    assert [d.id for d in read_documents(tmp_path / "o")] == ["PMC7"] and manifest["counts"]["broken_articles"] == 1
    assert str(cut) in str(manifest["sources"])


def test_a_bomb_of_gzip_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(pmc, "LARGEST_ARTICLE", 1_000_000)
    path = tmp_path / "bomb.nxml.gz"
    path.write_bytes(gzip.compress(b" " * 30_000_000))
    with pytest.raises(ValueError, match=r"bomb.nxml.gz unpacks to more than 1,000,000 bytes"):
        convert([path], tmp_path / "o")


@pytest.mark.parametrize("tiny", ["<x/>", "a<x/>", "<x a='1' b='2'/>"])
def test_millions_of_tiny_elements_are_refused_in_bounded_memory(tmp_path, tiny):
    path = tmp_path / "tiny.nxml.gz"
    path.write_bytes(gzip.compress(article(f"<p>{tiny * 7_000_000}</p>").encode(), compresslevel=1))
    good = write(tmp_path)
    arguments = ["--input", good, path, "--output", tmp_path / "o", "--skip-broken", "--workers", "1"]
    result = command(*arguments, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9, 2 * 10**9)))
    assert result.returncode == 0 and "broken articles 1" in result.stdout
    assert (
        result.stderr
        == f"warning: {path} has more than 6,000,000 tags and attributes, which no article has; leave it out\n"
    )


def test_broken_articles_are_left_out_where_asked_and_listed(tmp_path):
    path = package(tmp_path / "a.tar.gz", {"PMC1.nxml": article(pmcid="1"), "PMC2.nxml": "<article>", "PMC3.nxml": ""})
    result = command("--input", path, "--output", tmp_path / "o")
    assert result.returncode == 1 and result.stderr.startswith(f"error: {path}:PMC2.nxml is not well-formed")
    result = command("--input", path, "--output", tmp_path / "o", "--skip-broken")
    assert result.returncode == 0 and "broken articles 2" in result.stdout
    assert result.stderr.count("warning: ") == 2 and f"warning: {path}:PMC3.nxml" in result.stderr
    (source,) = read_manifest(tmp_path / "o")["sources"]
    assert len(source["broken"]) == 2 and "PMC3.nxml" in source["broken"][1]


# ---- real files ----


@needs_data
def test_real_articles(tmp_path):
    with tarfile.open(DATA / "evidence_inference_nxml.tar.xz") as archive:
        extract(archive, tmp_path)
    manifest = convert([tmp_path / "pmc_nxml", DATA], tmp_path / "o", engine=Engine(workers=2))
    assert manifest["documents"] == manifest["counts"]["articles"] == 568
    documents = list(read_documents(tmp_path / "o"))
    text = "\n".join(document.text for document in documents)
    for leftover in (r"\documentclass", r"\usepackage", "[]", "()", " ,", "  "):
        assert leftover not in text, leftover
    assert sum(len(document.text) for document in documents) > 10_000_000
    assert Counter(d.metadata["license"] for d in documents)["CC BY"] > 250
