"""launch/prepare_corpus.sh: from PubMed XML to an index; what is done is not done again, what changed is."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.launches import REPOSITORY

SCRIPT = REPOSITORY / "launch" / "prepare_corpus.sh"
RECORD = """<PubmedArticle><MedlineCitation><PMID Version="1">{pmid}</PMID><Article><ArticleTitle>Title {pmid}.
</ArticleTitle><Abstract><AbstractText>{text} It held in {pmid} rats.</AbstractText></Abstract>
<Language>{language}</Language></Article></MedlineCitation></PubmedArticle>"""


def prepare(folder: Path, *flags: str, status: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": sys.executable, "WORKERS": "1", "VOCAB_SIZE": "120"}
    environment |= {"PUBMED": str(folder / "xml"), "OUTPUT": str(folder / "out")} | variables
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


@pytest.mark.slow
def test_full_texts_and_records_join_pubmed(xml: Path) -> None:
    (xml / "pmc").mkdir()
    for number in range(5):
        (xml / "pmc" / f"PMC{number}.nxml").write_text(
            f'<article><front><article-meta><article-id pub-id-type="pmc">{number}</article-id><title-group>'
            f"<article-title>Full {number}.</article-title></title-group></article-meta></front>"
            "<body><p>The dose was given to the cell.</p></body></article>"
        )
    rows = "".join(f'{{"id": "r{number}", "text": "A note on the drug {number}."}}\n' for number in range(4))
    (xml / "notes.jsonl").write_text(rows)
    result = prepare(xml, PMC=str(xml / "pmc"), RECORDS=str(xml / "notes.jsonl"))
    assert "pmc: 5 documents" in result.stdout and "records: 4 documents" in result.stdout
    assert "index: 39 documents" in result.stdout


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"PUBMED": ""}, "error: nothing to read; set PUBMED or TEXT to files or folders\n"),
        ({"PUBMED": "/nowhere/at/all"}, "error: /nowhere/at/all does not exist; check PUBMED and TEXT\n"),
        ({"ENGINE": "spark"}, "error: ENGINE=spark is neither local nor slurm\n"),
    ],
)
def test_mistakes_are_one_sentence(xml: Path, variables: dict[str, str], says: str) -> None:
    result = prepare(xml, status=1, **variables)
    assert result.stderr == says
