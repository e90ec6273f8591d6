"""The command that reads PubMed files: order, repeated records, workers, memory, and bad input."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pretraining.corpus.documents import read_documents, read_manifest
from pretraining.corpus.engine import Engine
from pretraining.corpus.pubmed import convert

REPOSITORY = Path(__file__).parents[3]


def article(title="Title.", pmid="1", version="1", text="Text.", extra=""):
    return (
        f'<PubmedArticle><MedlineCitation><PMID Version="{version}">{pmid}</PMID><Article>'
        f"<ArticleTitle>{title}</ArticleTitle><Abstract><AbstractText>{text}</AbstractText></Abstract>{extra}"
        "</Article></MedlineCitation></PubmedArticle>"
    )


def write(path, *records):
    path.write_text(f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>", encoding="utf-8")
    return path


# ---- the command: order, repeats, workers ----


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "pretraining.corpus.pubmed", *map(str, arguments)],
        cwd=REPOSITORY, capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def tree(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_result_does_not_depend_on_workers(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for number in range(5):
        records = (article(f"T{n}.", pmid=str(100 * number + n)) for n in range(20))
        write(source / f"{number}.xml", *records)
    write(source / "5.xml", article("Newer.", pmid="101"))
    for workers in (1, 3):
        result = command("--input", source, "--output", tmp_path / str(workers), "--workers", workers)
        assert result.returncode == 0 and result.stderr == ""
    assert tree(tmp_path / "1") == tree(tmp_path / "3")
    assert "100 documents in 6 file(s)" in result.stdout and "dropped replaced 1" in result.stdout
    assert len(result.stdout.splitlines()) == 2
    manifest = read_manifest(tmp_path / "1")
    assert [s["name"] for s in manifest["sources"]] == [f"{n}.xml" for n in range(6)]
    ids = [d.id for d in read_documents(tmp_path / "1")]
    assert len(ids) == len(set(ids)) == 100 and ids[:2] == ["0", "1"]


def test_of_a_repeated_pmid_the_highest_version_stays_and_then_the_last(tmp_path):
    first = write(
        tmp_path / "first.xml",
        article("1v1 a.", pmid="1"),
        article("2v3.", pmid="2", version="3"),
        article("3v1.", pmid="3"),
        article("1v1 b.", pmid="1"),
    )
    second = write(tmp_path / "second.xml", article("2v2.", pmid="2", version="2"))
    third = write(tmp_path / "third.xml", article("3v1 again.", pmid="3"))
    manifest = convert([first, second, third], tmp_path / "o")
    titles = [d.text.split("\n")[0] for d in read_documents(tmp_path / "o")]
    assert titles == ["2v3.", "1v1 b.", "3v1 again."]
    assert manifest["counts"]["dropped_replaced"] == 3 and manifest["documents"] == 3
    assert [entry["documents"] for entry in manifest["files"]] == [2, 0, 1]


def deletion(*pmids):
    return "<DeleteCitation>" + "".join(f"<PMID>{pmid}</PMID>" for pmid in pmids) + "</DeleteCitation>"


@pytest.mark.parametrize("workers", [1, 2])
def test_updates_revise_and_delete(tmp_path, workers):
    """A deletion removes what came before it and not what comes after; a revision without text withdraws the text."""
    baseline = write(tmp_path / "1.xml", *(article(f"{n}.", pmid=str(n)) for n in range(1, 7)))
    first = write(
        tmp_path / "2.xml",
        article("1 revised.", pmid="1"),
        article(pmid="2", text=""),
        article("7.", pmid="7"),
        deletion(3, 4, 7, 99),
    )
    second = write(tmp_path / "3.xml", article("4 again.", pmid="4"), deletion(5), deletion(5))
    manifest = convert([baseline, first, second], tmp_path / "o", engine=Engine(workers=workers))
    titles = [d.text.split("\n")[0] for d in read_documents(tmp_path / "o")]
    assert titles == ["6.", "1 revised.", "4 again."]
    counts = manifest["counts"]
    assert (counts["records"], counts["deletions"]) == (10, 6)
    # 2 loses its text, and its revision had none
    assert (counts["dropped_deleted"], counts["dropped_replaced"], counts["dropped_no_abstract"]) == (4, 2, 1)
    assert counts["records"] == len(titles) + 4 + 2 + 1


def test_a_broken_file_is_skipped_from_its_break_on_where_asked(tmp_path):
    good, bad = write(tmp_path / "a.xml", article()), tmp_path / "b.xml"
    bad.write_text(f"<PubmedArticleSet>{article(pmid='8')}<PubmedArticle>")
    result = command("--input", good, bad, "--output", tmp_path / "o", "--skip-broken")
    assert result.returncode == 0 and "broken files 1" in result.stdout
    assert result.stderr.startswith(f"warning: {bad} is not well-formed XML after PMID 8")
    assert [d.id for d in read_documents(tmp_path / "o")] == ["1", "8"]
    assert str(bad) in read_manifest(tmp_path / "o")["sources"][1]["broken"]


def test_a_break_near_the_head_loses_no_record_before_it(tmp_path):
    path = tmp_path / "a.xml"
    write(path, *(article(pmid=str(pmid)) for pmid in range(1, 4)), article(pmid="4", text="T@xt."))
    path.write_bytes(path.read_bytes().replace(b"@", b"\xe9"))
    convert([path], tmp_path / "o", skip_broken=True)
    assert [d.id for d in read_documents(tmp_path / "o")] == ["1", "2", "3"]


def test_memory_is_constant(tmp_path):
    code = (
        "import re, sys; from pretraining.corpus.pubmed import read_pubmed\n"
        "count = sum(1 for _ in read_pubmed(sys.argv[1]))\n"
        # not ru_maxrss: a child begins with the peak of the process that started it
        "print(count, re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    )
    peaks = []
    for records in (100, 4000):
        path = tmp_path / f"{records}.xml"
        padded = article(text="word " * 1000, extra="<!-- c --><Note>note</Note>")  # 5 kB
        path.write_text(f"<PubmedArticleSet>{padded * records}</PubmedArticleSet>")
        output = subprocess.run([sys.executable, "-c", code, path], cwd=REPOSITORY, capture_output=True, check=True)
        count, peak_kib = map(int, output.stdout.split())
        assert count == records
        peaks.append(peak_kib)
    assert peaks[1] - peaks[0] < 6_000  # KiB, for 20,000 KiB more of XML


# ---- bad input ----

BOMB = '<!DOCTYPE PubmedArticleSet [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE PubmedArticleSet [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
PARAMETER = '<!DOCTYPE PubmedArticleSet [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>'
GOOD = f"<PubmedArticleSet>{article()}</PubmedArticleSet>".encode()
# random bytes, so that gzip has something to cut
LONG = "".join(article(text=os.urandom(400).hex(), pmid=str(n)) for n in range(1, 200)).encode()
BAD = {
    "empty": (b"", "is empty"),
    "empty gzip": (gzip.compress(b""), "not well-formed"),
    "truncated gzip": (gzip.compress(b"<PubmedArticleSet>" + LONG)[:-50], "cut short"),
    "flipped gzip": (gzip.compress(GOOD)[:-8] + b"\0" * 8, "cut short or damaged"),
    "truncated XML": (b"<PubmedArticleSet>" + LONG, "not well-formed"),
    "blanks": (b" \n ", "not well-formed"),
    "HTML": (b"<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>", "root is <html>"),
    "HTML, sloppy": (b"<!doctype html>\n<html><br><p>503", "not well-formed"),
    "PMC": (b"<pmc-articleset><article/></pmc-articleset>", "root is <pmc-articleset>"),
    "mismatched": (b"<PubmedArticleSet><PubmedArticle></PubmedArticleSet>", "not well-formed"),
    "text": (b"PMID- 1\nTI  - x\n", "not well-formed"),
    "bad encoding": (GOOD.replace(b"Text.", b"\xff\xfe"), "not well-formed"),
    "bomb": (BOMB.encode() + GOOD.replace(b"Text.", b"&b;"), "DTD inside"),
    "outside entity": (OUTSIDE.encode() + GOOD.replace(b"Text.", b"&x;"), "DTD inside"),
    "parameter entity": (PARAMETER.encode() + GOOD, "DTD inside"),
    "no documents": (b"<PubmedArticleSet/>", "became a document"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_name_themselves_and_leave_nothing(tmp_path, case):
    content, message = BAD[case]
    path = tmp_path / "bad.xml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        convert([path], tmp_path / "o")
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert "passwd" not in str(error.value)
    assert list((tmp_path / "o").iterdir()) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_command_on_a_bad_file_among_good_ones(tmp_path, workers):
    good, bad = write(tmp_path / "a.xml", article()), tmp_path / "b.xml.gz"
    bad.write_bytes(BAD["truncated gzip"][0])
    assert command("--input", good, "--output", tmp_path / "o").returncode == 0
    result = command("--input", good, bad, good, "--output", tmp_path / "o", "--workers", workers)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith(f"error: {bad} is cut short") and result.stderr.count("\n") == 1
    assert list((tmp_path / "o").iterdir()) == []  # the earlier, good result is not taken for this one's


def test_command_on_wrong_arguments(tmp_path):
    write(tmp_path / "a.xml", article())
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (
            ("--input", tmp_path / "empty", "--output", tmp_path / "o"),
            "has no file that matches *.xml, *.xml.gz",
        ),
        (("--input", tmp_path / "none", "--output", tmp_path / "o"), "does not exist"),
        (("--input", tmp_path / "a.xml", "--output", tmp_path), "not made by this stage"),
        (("--input", tmp_path / "a.xml", "--output", tmp_path / "o", "--workers", "0"), "--workers 0"),
    ):
        result = command(*arguments)
        assert result.returncode == 1 and message in result.stderr and result.stderr.count("\n") == 1
        assert not (tmp_path / "o" / "manifest.json").exists()
    assert command("--input", tmp_path / "a.xml", "--output", tmp_path / "o", "--wrokers", "2").returncode == 2
