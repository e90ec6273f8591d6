"""The filter stage: duplicates, n-grams, controls, what is removed; kills, numbers of workers, a real Slurm."""

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

from pretraining.corpus.documents import Document, read_documents, read_manifest, write_shard, writing_stage
from pretraining.corpus.engine import Engine
from pretraining.corpus.filter import Plan, filter_corpus
from pretraining.corpus.selection import Rules, id_hash
from tests.launch.real_slurm import slurm  # noqa: F401

REPOSITORY = Path(__file__).parents[3]
WORDS = "the cell of a rat was seen in blood with drug gene and protein after dose when patients were given".split()
ENGINE = Engine(workers=1)


def sentence(seed: int, words: int = 60) -> str:
    """Words drawn at random, the same ones for a seed."""
    generator = random.Random(seed)
    return " ".join(f"{generator.choice(WORDS)}{generator.choice('abcdefghijklm')}" for _ in range(words))


def write_corpus(folder: Path, shards: list[list[Document]]) -> Path:
    with writing_stage(folder, "pubmed", options={}, sentences=False) as stage:
        stage.files = [write_shard(folder, number, shard) for number, shard in enumerate(shards)]
    return folder


def kept(output: Path) -> list[str]:
    return [document.id for document in read_documents(output)]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def two_inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """PubMed: 1, 2, 3 and a copy of 1; PMC: 1's PMID, 2's text in other case, 3's with one word more."""
    folder = tmp_path_factory.mktemp("inputs")
    one, two, three = (sentence(seed) for seed in (1, 2, 3))
    pubmed = [[Document("1", one, {"pmid": "1"}), Document("2", two, {"pmid": "2"})], [],
              [Document("3", three, {"pmid": "3"}), Document("x", one, {})]]  # fmt: skip
    pmc = [[Document("PMC1", sentence(4), {"pmid": "1"}), Document("PMC2", two.upper().replace(" ", "\n"), {}),
            Document("PMC3", three + " again", {}), Document("PMC9", sentence(9), {"pmid": "9"})]]  # fmt: skip
    return write_corpus(folder / "pubmed", pubmed), write_corpus(folder / "pmc", pmc)


@pytest.mark.parametrize(
    ("kinds", "gone"),
    [
        ((), set()),
        (("pmid",), {"PMC1"}),
        (("exact",), {"x", "PMC2"}),
        (("pmid", "exact", "near"), {"PMC1", "x", "PMC2", "PMC3 or 3"}),
    ],
)
def test_duplicates(two_inputs: tuple[Path, Path], tmp_path: Path, kinds: tuple[str, ...], gone: set[str]) -> None:
    manifest = filter_corpus(Plan(two_inputs, Rules(), kinds), tmp_path / "out", ENGINE, tmp_path / "removed.jsonl")
    removed = [json.loads(line) for line in (tmp_path / "removed.jsonl").read_text().splitlines()]
    assert {"PMC3 or 3" if one["id"] in ("3", "PMC3") else one["id"] for one in removed} == gone
    every = ["1", "2", "3", "x", "PMC1", "PMC2", "PMC3", "PMC9"]
    assert kept(tmp_path / "out") == [one for one in every if one not in {line["id"] for line in removed}]
    counts = manifest["counts"]
    assert counts["documents_read"] == 8 and sum(counts.values()) == 8 + len(removed)
    assert all(counts[f"dropped_{line['reason']}"] for line in removed)
    assert all(set(document.metadata) <= {"pmid"} for document in read_documents(tmp_path / "out"))
    assert not [path for path in tmp_path.iterdir() if path.name not in ("out", "removed.jsonl")]


def test_texts_of_a_benchmark_are_found(two_inputs: tuple[Path, Path], tmp_path: Path) -> None:
    words = sentence(9).split()
    (tmp_path / "test.txt").write_text(" ".join(words[20:32]).title() + ".\n" + " ".join(sentence(2).split()[:11]))
    plan = Plan(two_inputs, Rules(benchmark=(str(tmp_path / "test.txt"),)))
    assert filter_corpus(plan, tmp_path / "out", ENGINE)["counts"]["dropped_benchmark_text"] == 1
    assert kept(tmp_path / "out") == ["1", "2", "3", "x", "PMC1", "PMC2", "PMC3"]


def test_a_control_has_the_size_of_the_selection(tmp_path: Path) -> None:
    (tmp_path / "journals.csv").write_text("issn,metric\n1111-1111,5\n2222-2222,1\n")
    documents = [Document(str(n), "x", {"issn": ["1111-1111" if n % 3 == 0 else "2222-2222"]}) for n in range(90)]
    inputs = (write_corpus(tmp_path / "in", [documents[:40], documents[40:]]),)
    rules = {"journal_metric": str(tmp_path / "journals.csv"), "journal_minimum": 2.0}
    filter_corpus(Plan(inputs, Rules(**rules)), tmp_path / "chosen", ENGINE)
    assert kept(tmp_path / "chosen") == [str(n) for n in range(0, 90, 3)]
    filter_corpus(Plan(inputs, Rules(**rules, journal_control=True)), tmp_path / "control", ENGINE)
    lowest = sorted(range(90), key=lambda n: id_hash(str(n)))[:30]
    assert kept(tmp_path / "control") == [str(n) for n in sorted(lowest)]


def test_mistakes_are_said_before_anything_is_written(two_inputs: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="other holds thesis.txt, not made by this stage"):
        filter_corpus(Plan(two_inputs, Rules()), tmp_path / "other", ENGINE)
    with pytest.raises(ValueError, match="no document passes"):
        filter_corpus(Plan(two_inputs, Rules(language=("eng",))), tmp_path / "out", ENGINE)
    assert list((tmp_path / "out").iterdir()) == [] and (tmp_path / "other" / "thesis.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


# ---- the command ----


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards with equal and nearly equal texts among them."""
    generator = random.Random(0)
    shards = [
        [
            Document(
                f"{shard}.{n}", sentence(generator.randrange(400)) + " x" * generator.randrange(2), {"pmid": str(n)}
            )
            for n in range(60)
        ]
        for shard in range(6)
    ]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "in", shards)


def command(corpus: Path, output: Path, *flags: str) -> list[str]:
    return [
        *(sys.executable, "-m", "pretraining.corpus.filter", "--input", str(corpus), "--output", str(output)),
        *("--sample", "90", "--duplicates", "exact", "near", "--removed", str(output) + ".jsonl", *flags),
    ]


def run(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, env=os.environ | environment)
    assert result.returncode == 0, result.stderr
    return result


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run(command(corpus, output, "--workers", "1")).stderr == ""
    counts = read_manifest(output)["counts"]
    assert counts["dropped_sample"] and counts["dropped_duplicate_exact"] and counts["dropped_duplicate_near"]
    return output


def assert_same(output: Path, undisturbed: Path) -> None:
    assert contents(output) == contents(undisturbed)
    assert Path(f"{output}.jsonl").read_bytes() == Path(f"{undisturbed}.jsonl").read_bytes()
    assert sorted(path.name for path in output.parent.iterdir()) == ["out", "out.jsonl"]


def test_any_number_of_workers_writes_the_same(corpus: Path, undisturbed: Path, tmp_path: Path) -> None:
    result = run(command(corpus, tmp_path / "out", "--workers", "3"))
    assert_same(tmp_path / "out", undisturbed)
    assert result.stdout.startswith(f"filter: {len(kept(undisturbed))} documents in 6 file(s); documents read 360")


def test_a_mistake_is_one_sentence(corpus: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        command(corpus, tmp_path / "out", "--date-from", "May"), cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 1 and not (tmp_path / "out").exists()
    assert result.stderr == "error: --date-from May is no date; write YYYY, YYYY-MM or YYYY-MM-DD\n"


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on(corpus: Path, undisturbed: Path, tmp_path: Path) -> None:
    generator = random.Random(time.time_ns())
    killed = 0
    while killed < 10:
        process = subprocess.Popen(
            command(corpus, tmp_path / "out", "--workers", "2"), cwd=REPOSITORY, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(generator.uniform(2, 9))
            assert process.returncode == 0  # it went through; the next one begins anew
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)  # its workers must notice by themselves
            process.wait()
        killed += 1
    run(command(corpus, tmp_path / "out", "--workers", "2"))
    assert_same(tmp_path / "out", undisturbed)


@pytest.mark.slow
def test_on_a_real_slurm(corpus: Path, tmp_path: Path, slurm: dict[str, str]) -> None:  # noqa: F811
    (tmp_path / "local").mkdir()
    (tmp_path / "slurm").mkdir()
    exact = ("--duplicates", "exact", "--workers", "2")
    run(command(corpus, tmp_path / "local" / "out", *exact))
    flags = ("--engine", "slurm", "--sbatch", "mem-per-cpu=0")
    run(command(corpus, tmp_path / "slurm" / "out", *exact, *flags), **slurm)
    assert_same(tmp_path / "slurm" / "out", tmp_path / "local" / "out")
