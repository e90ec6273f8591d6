"""launch/prepare_corpus.sh: from PubMed XML to an index; what is done is not done again, what changed is."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pretraining.corpus.documents import read_documents
from tests.launch.launches import REPOSITORY, write_program
from tests.launch.test_slurm import slurm  # noqa: F401

SCRIPT = REPOSITORY / "launch" / "prepare_corpus.sh"
RECORD = """<PubmedArticle><MedlineCitation><PMID Version="1">{pmid}</PMID><Article><ArticleTitle>Title {pmid}.
</ArticleTitle><Abstract><AbstractText>{text} It held in {pmid} rats.</AbstractText></Abstract>
<Language>{language}</Language></Article></MedlineCitation></PubmedArticle>"""


def variables_of(folder: Path, **variables: str) -> dict[str, str]:
    environment = os.environ | {"PYTHON": sys.executable, "WORKERS": "1", "VOCAB_SIZE": "120"}
    return environment | {"PUBMED": str(folder / "xml"), "OUTPUT": str(folder / "out")} | variables


def prepare(folder: Path, *flags: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = variables_of(folder, **variables)
    result = subprocess.run(["bash", SCRIPT, *flags], env=environment, capture_output=True, text=True)
    assert result.returncode == status, result.stderr
    return result


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def xml(tmp_path: Path) -> Path:
    (tmp_path / "xml").mkdir()
    records = [
        RECORD.format(pmid=number, text=f"The {word} of the cell was seen.", language="ger" if number == 12 else "eng")
        for number, word in enumerate("gene protein drug dose blood tumour".split() * 5, 10)
    ]
    (tmp_path / "xml" / "a.xml").write_text(f"<PubmedArticleSet>{''.join(records)}</PubmedArticleSet>")
    return tmp_path


@pytest.mark.slow
def test_all_stages_once_and_again_only_what_changed(xml: Path) -> None:
    first = prepare(xml, "--language", "eng")
    assert "dropped language 1" in first.stdout and "index: 29 documents" in first.stdout
    before = contents(xml / "out")
    stamp = (xml / "out" / ".pubmed.stamp").read_text()
    assert len(stamp.splitlines()) == 2 and "a.xml" not in stamp  # of a mirror of PMC it would name millions
    again = prepare(xml, "--language", "eng")
    assert again.stdout.splitlines() == [
        f"{stage}: done already" for stage in ("pubmed", "filter", "sentences", "vocab", "index")
    ]
    (xml / "out" / "sentences" / "manifest.json").unlink()  # as a killed stage leaves it
    (xml / "out" / "sentences" / "unfinished.json").write_text('{"stage": "sentences"}')
    repeated = prepare(xml, "--language", "eng")
    assert "filter: done already\nsentences: 29 documents" in repeated.stdout
    assert contents(xml / "out") == before
    changed = prepare(xml)
    assert "pubmed: done already\nfilter: 30 documents" in changed.stdout and "index: 30 documents" in changed.stdout
    denied, flags = xml / "denied.txt", ("--deny-pmids", str(xml / "denied.txt"), "--removed", str(xml / "removed"))
    for pmids in ("10\n", "10\n11\n"):  # files that flags name are input, too; what is written is not
        denied.write_text(pmids)
        assert f"filter: {30 - len(pmids.split())} documents" in prepare(xml, *flags).stdout
    assert "filter: done already" in prepare(xml, *flags).stdout


@pytest.fixture
def four_kinds(xml: Path) -> dict[str, str]:
    """Files of all that is read, two of PubMed; the variables that name them."""
    text = (xml / "xml" / "a.xml").read_text()
    text = text.replace('<PMID Version="1">', '<PMID Version="1">5').replace(">510<", ">10<")  # 10 is revised
    (xml / "xml" / "b.xml").write_text(text)
    (xml / "pmc").mkdir()
    for number in range(5):
        (xml / "pmc" / f"PMC{number}.nxml").write_text(
            f'<article><front><article-meta><article-id pub-id-type="pmc">{number}</article-id><title-group>'
            f"<article-title>Full {number}.</article-title></title-group></article-meta></front>"
            "<body><p>The dose was given to the cell.</p></body></article>"
        )
    rows = "".join(f'{{"id": "r{number}", "text": "A note on the drug {number}."}}\n' for number in range(4))
    (xml / "notes.jsonl").write_text(rows)
    (xml / "notes.txt").write_text("A line on the rat.\n\nAnother one, on blood.\n")
    named = {"PMC": "pmc", "RECORDS": "notes.jsonl", "TEXT": "notes.txt"}
    return {name: str(xml / path) for name, path in named.items()} | {"TEXT_LAYOUT": "paragraph-per-line"}


@pytest.mark.slow
def test_full_texts_records_and_text_join_pubmed(xml: Path, four_kinds: dict[str, str]) -> None:
    result = prepare(xml, **four_kinds)
    for kind in ("pmc: 5", "records: 4", "text: 2", "index: 70"):
        assert f"{kind} documents" in result.stdout


@pytest.mark.slow
def test_of_an_article_in_both_the_full_text_stands(xml: Path, four_kinds: dict[str, str]) -> None:
    article = xml / "pmc" / "PMC0.nxml"
    both = '<article-id pub-id-type="pmid">11</article-id><title-group>'
    article.write_text(article.read_text().replace("<title-group>", both))
    result = prepare(xml, "--duplicates", "pmid", "--removed", str(xml / "removed"), PMC=four_kinds["PMC"])
    assert "index: 63 documents" in result.stdout
    assert [json.loads(line)["id"] for line in (xml / "removed").read_text().splitlines()] == ["11"]
    kept = [document.id for document in read_documents(xml / "out" / "filtered")]
    assert "PMC0" in kept and "11" not in kept


STAND_IN = """#!/usr/bin/env bash
echo "$*" >>"$LOG"
while [[ $1 != --output* ]]; do shift; done
mkdir -p "$2"
touch "$2/manifest.json" "$2/tokenizer.json" "$2.json"
"""


def test_flags_for_the_readers_reach_them_and_belong_to_what_is_done(xml: Path, four_kinds: dict[str, str]) -> None:
    (xml / "python").write_text(STAND_IN)
    (xml / "python").chmod(0o755)
    flags = {
        "PMC_FLAGS": "--license CC0",
        "PUBMED_FLAGS": "--titles-only keep",
        "RECORDS_FLAGS": "--text-field abstract",
        "TEXT_FLAGS": "--skip-broken",
    }
    variables = {**four_kinds, **flags, "PYTHON": str(xml / "python"), "LOG": str(xml / "log")}
    prepare(xml, **variables)
    calls = (xml / "log").read_text().splitlines()
    for call, given in zip(calls, flags.values(), strict=False):
        assert f" {given} --engine local" in call
    again = prepare(xml, **variables)
    assert again.stdout.count("done already") == len(calls) == 8
    changed = prepare(xml, **variables | {"PMC_FLAGS": "--license CC0 --skip-broken"})
    assert "pmc: done already" not in changed.stdout and "pubmed: done already" in changed.stdout


def kill_something(process: subprocess.Popen, generator: random.Random) -> None:
    """Kill the script and all that it started, or one of the processes below it, as a lack of memory does."""
    listing = subprocess.run(["ps", "-o", "pid=,ppid=", "-g", str(process.pid)], capture_output=True, text=True).stdout
    below = [int(line.split()[0]) for line in listing.splitlines() if int(line.split()[0]) != process.pid]
    try:
        if below and generator.random() < 0.5:
            os.kill(generator.choice(below), signal.SIGKILL)
            process.wait()
        else:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    except ProcessLookupError:
        pass


@pytest.mark.slow
def test_killed_ten_times_at_random_moments_it_goes_on(xml: Path, four_kinds: dict[str, str]) -> None:
    flags = ("--duplicates", "exact")
    began = time.monotonic()
    prepare(xml, *flags, **four_kinds)
    seconds = time.monotonic() - began
    (xml / "out").rename(xml / "undisturbed")
    generator = random.Random(time.time_ns())
    command, environment = ["bash", SCRIPT, *flags], variables_of(xml, **four_kinds, WORKERS="2")
    for _ in range(10):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(generator.uniform(0.02, 0.3) * seconds)
            break  # it went through
        except subprocess.TimeoutExpired:
            kill_something(process, generator)
    prepare(xml, *flags, **four_kinds, WORKERS="2")
    assert contents(xml / "out") == contents(xml / "undisturbed")
    assert not [path.name for path in (xml / "out").iterdir() if ".work" in path.name or ".lock" in path.name]


@pytest.mark.slow
def test_on_a_real_slurm_every_stage_writes_the_same(
    xml: Path,
    four_kinds: dict[str, str],
    slurm: dict[str, str],  # noqa: F811
) -> None:
    flags = ("--duplicates", "exact")
    prepare(xml, *flags, **four_kinds)
    (xml / "out").rename(xml / "local")
    on_slurm = four_kinds | slurm | {"ENGINE": "slurm", "ENGINE_FLAGS": "--sbatch mem-per-cpu=0"}
    prepare(xml, *flags, **on_slurm)
    assert contents(xml / "out") == contents(xml / "local")
    (xml / "xml" / "b.xml").write_text("<PubmedArticleSet><PubmedArticle>")
    broken = prepare(xml, *flags, status=1, **on_slurm)
    assert broken.stderr.startswith(f"error: {xml}/xml/b.xml is not well-formed XML") and broken.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"PUBMED": ""}, "error: nothing to read; set PUBMED, PMC, RECORDS or TEXT to files or folders\n"),
        ({"PUBMED": "/nowhere/at/all"}, "error: /nowhere/at/all does not exist; check PUBMED, PMC, RECORDS and TEXT\n"),
        ({"ENGINE": "spark"}, "error: ENGINE=spark is neither local nor slurm\n"),
    ],
)
def test_mistakes_are_one_sentence(xml: Path, variables: dict[str, str], says: str) -> None:
    result = prepare(xml, status=1, **variables)
    assert result.stderr == says


def test_paths_are_those_of_the_folder_that_it_is_called_in(xml: Path) -> None:
    reader = f'#!/bin/bash\ncase "$*" in *corpus.pubmed*) exec "{sys.executable}" "$@" ;; esac\necho "$*" && exit 3\n'
    named = {"PUBMED": "xml", "OUTPUT": "out", "PYTHON": str(write_program(xml / "bin" / "python", reader))}
    command = ["bash", SCRIPT, "--removed", "removed"]
    result = subprocess.run(command, env=variables_of(xml, **named), cwd=xml, capture_output=True, text=True)
    assert result.returncode == 3 and (xml / "out" / "pubmed" / "manifest.json").is_file(), result.stderr
    assert "--input out/pubmed --output out/filtered --removed removed" in result.stdout
