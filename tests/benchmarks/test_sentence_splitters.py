"""The comparison of sentence splitters: passages from the three forms, errors counted by hand, the command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.sentence_splitters import (
    Errors,
    Passage,
    count_errors,
    entity_passages,
    join_tokens,
    labelled_passages,
    open_ways,
    section_passages,
    split_and_time,
)
from pretraining.corpus.documents import Document, write_shard, writing_stage

TOKENS = (
    "-DOCSTART-\tO\n\nA\tO\ntitle\tO\n.\tO\n\nIL-2\tB\nrose\tO\n(\tO\nFig.\tO\n2\tO\n)\tO\n.\tO\n\nNF-kappa\tB\nB\tI\n"
    "fell\tO\n.\tO\n\nSo\tO\nit\tO\nended\tO\n.\tO\n\n-DOCSTART-\tO\n\nUnknown\tO\n"
)
ABSTRACT = "IL-2 rose (Fig. 2). NF-kappa B fell. So it ended."
LABELLED = """###1
background\tThe rate ( n = 5 ) was 3 , i.e. low .
other\tIt was cut o
aim\tWe asked why .

###2
aim\tAlone .
"""
STRUCTURED = """A title: two parts.
BACKGROUND: E. coli grew. It died.
Methods and aims: We saw (p < 0.05).
Results: None."""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "tokens.tsv").write_text(TOKENS)
    (tmp_path / "texts" / "test").mkdir(parents=True)
    (tmp_path / "texts" / "test" / "1.txt").write_text(f"A title.\n{ABSTRACT}\n")
    (tmp_path / "labelled.txt").write_text(LABELLED)
    documents = [Document("1", STRUCTURED), Document("2", "A title.\nAim: One is no structure.\nText.\nEnd: x.")]
    with writing_stage(tmp_path / "documents", "pubmed", options={}, sentences=False) as stage:
        stage.files.append(write_shard(tmp_path / "documents", 0, documents))
    return tmp_path


def test_passages_of_all_forms(files: Path) -> None:
    (entities,) = entity_passages([files / "tokens.tsv"], files / "texts")
    first = len("IL-2rose(Fig.2).")
    assert entities == Passage(ABSTRACT, frozenset({first, first + len("NF-kappaBfell.")}))
    (labelled,) = labelled_passages([files / "labelled.txt"])
    assert labelled.text == "The rate (n = 5) was 3, i.e. low. It was cut o We asked why."
    assert labelled.ends == {len("Therate(n=5)was3,i.e.low.")}
    (sections,) = section_passages([files / "documents"])
    assert sections.text == "E. coli grew. It died. We saw (p < 0.05). None." and sections.partial
    first = len("E.coligrew.Itdied.")
    assert sections.ends == {first, first + len("Wesaw(p<0.05).")}


def test_tokens_are_joined_as_in_print() -> None:
    assert join_tokens("IL - 2 ( 3 % ) , the dog 's [ 1 ] was -1 .") == "IL-2 (3%), the dog's [1] was -1."


def test_errors_are_counted() -> None:
    passage = Passage("Aa. Bb. Cc. Dd.", frozenset({3, 6}))
    errors = count_errors([["Aa.", "Bb. Cc.", "Dd."]] * 2, [passage, passage])
    assert (errors.right, errors.false, errors.missed) == (2, 2, 2)
    assert (errors.precision, errors.recall, errors.f1) == (0.5, 0.5, 0.5)
    partial = count_errors([passage.text.split()], [Passage(passage.text, passage.ends, partial=True)])
    assert (partial.right, partial.false, partial.missed, partial.f1) == (2, 0, 0, None)
    assert Errors(right=3, false=1).precision == 0.75


def test_every_way_splits_plain_prose_and_keeps_its_text() -> None:
    text = "The cells can't grow. Mice weren't treated, however. This is the end."
    for name, split in open_ways(["ours", "blingfire", "syntok", "pysbd"]).items():
        assert [sentence.strip() for sentence in split(text)] == [
            "The cells can't grow.", "Mice weren't treated, however.", "This is the end.",
        ], name  # fmt: skip
    ways = {"fast": str.split, "slow": lambda text: [str(sum(range(200_000)))]}
    split, seconds = split_and_time(ways, [text], rounds=2)
    assert split["fast"] == [text.split()] and 0 <= seconds["fast"] < seconds["slow"]


def command(*flags: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.sentence_splitters", *map(str, flags)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True,
    )  # fmt: skip


def test_the_command_prints_the_tables(files: Path) -> None:
    result = command(
        "--tokens", files / "tokens.tsv", "--texts", files / "texts", "--sections", files / "documents",
        "--ways", "ours", "blingfire", "--rounds", 1, "--json", files / "found.json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "| entities: 1 abstracts, 2 boundaries | ours | 1.0000 | 1.0000 | 1.0000 | 0 | 0 |" in result.stdout
    assert "| sections: 1 abstracts, 2 boundaries | ours |  | 1.0000 |  |  | 0 |" in result.stdout
    assert "| way | MB of text a second |" in result.stdout
    found = json.loads((files / "found.json").read_text())
    assert found["errors"]["ours"]["entities"]["precision"] == 1.0 and found["mb_per_s"]["blingfire"] > 0
    assert found["versions"].keys() == {"blingfire"}


def test_mistakes_are_one_sentence(files: Path) -> None:
    for flags, message in (
        (("--tokens", files / "tokens.tsv"), "--tokens and --texts belong together"),
        (("--labelled", files / "tokens.tsv"), "gives no abstract of two sentences"),
        ((), "nothing to measure"),
    ):
        result = command(*flags)
        assert result.returncode == 1 and message in result.stderr and result.stderr.count("\n") == 1
