"""The report that compares vocabularies: numbers counted by hand, terms of both kinds of files, bad input."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pretraining.corpus.documents import Document, write_shard, writing_stage
from pretraining.corpus.tokenizer import assemble_tokenizer, build_tokenizer
from pretraining.corpus.vocab import write_folder
from pretraining.corpus.vocab_report import compare, read_terms, report
from pretraining.corpus.vocab_train import train_model
from pretraining.corpus.word_counts import Words, cut_units, select_words

REPOSITORY = Path(__file__).parents[3]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TAGGED = "Naloxone\tB\nhydro\tI\nand\tO\naspirin\tB\nibuprofen\tB\n\nx\tO\naspirin\tB\n"


def vocabulary(folder: Path, *pieces: str) -> Path:
    write_folder(folder, build_tokenizer([*SPECIAL, *pieces], lowercase=True, strip_accents=True), {})
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """One that keeps the words whole and one that has letters only, without z."""
    letters = [form for letter in "abcdefghijklmnopqrstuvwxy" for form in (letter, f"##{letter}")]
    return [
        vocabulary(tmp_path / "whole", "gene", "of", "mice", "."),
        vocabulary(tmp_path / "letters", *letters, "."),
    ]


def write_documents(folder: Path, *texts: str) -> Path:
    with writing_stage(folder, "text", options={}, sentences=False) as stage:
        stage.files = [write_shard(folder, 0, [Document(str(n), text) for n, text in enumerate(texts)])]
    return folder


def test_numbers_that_can_be_counted(folders: list[Path]) -> None:
    cuts, terms, sizes = compare(folders, ["Gene of mice .", "gene zzz"], ["gene", "mice gene"])
    assert sizes == {"whole": 9, "letters": 56}
    whole, letters = cuts["whole"], cuts["letters"]
    assert whole.words == letters.words == 5  # the full stop is none
    assert whole.lengths.tolist() == [4, 2] and whole.unknown == 1
    assert letters.lengths.tolist() == [11, 5] and letters.unknown == 1
    assert whole.pieces_per_word == pytest.approx(6 / 5)
    assert terms["whole"].lengths.tolist() == [1, 2] and terms["letters"].lengths.tolist() == [4, 8]
    table = report(cuts, terms, sizes)
    assert "| | whole | letters |" in table
    assert "| word pieces a word | 1.200 | 3.200 |" in table
    assert "| unknown pieces | 16.6667% | 6.2500% |" in table
    assert "| terms of a single piece | 50.0% | 0.0% |" in table


def test_every_type_is_compared(folders: list[Path], tmp_path: Path) -> None:
    for kind, size in (("bpe", 270), ("unigram", 14)):
        counts = select_words(
            sorted(cut_units(Counter(["gene", "genes", "mice"] * 9), Words(kind, True, True)).items()), 9
        )
        write_folder(tmp_path / kind, assemble_tokenizer(train_model(kind, counts, size), kind, True, True), {})
    names = [*folders, tmp_path / "bpe", tmp_path / "unigram"]
    cuts, terms, sizes = compare(names, ["Gene of mice .", "gene zzz"], ["gene", "mice gene"])
    assert [one.kind for one in cuts.values()] == ["wordpiece", "wordpiece", "bpe", "unigram"]
    assert cuts["bpe"].words == 5 and cuts["bpe"].unknown == 0 < cuts["unigram"].unknown
    assert terms["bpe"].lengths.tolist() == [1, 2] and cuts["bpe"].lengths[1] > 2
    assert "| type | wordpiece | wordpiece | bpe | unigram |" in report(cuts, terms, sizes)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (TAGGED, ["Naloxone hydro", "aspirin", "ibuprofen", "aspirin"]),
        ("one\tS-X\ntwo\tB-X\nparts\tE-X\nthe\tO\nend\tB-Y", ["one", "two parts", "end"]),
        ("p53\n\n alpha  beta \n", ["p53", "alpha beta"]),
    ],
)
def test_terms_of_tagged_files_and_of_lists(content: str, expected: list[str], tmp_path: Path) -> None:
    path = tmp_path / "terms"
    path.write_text(content)
    assert list(read_terms(path)) == expected


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pretraining.corpus.vocab_report", *map(str, arguments)],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip


def test_the_command_prints_the_table_and_draws(folders: list[Path], tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents", *["gene of mice ."] * 20)
    (tmp_path / "terms.tsv").write_text(TAGGED)
    plot = tmp_path / "plot.png"
    result = command("--tokenizer", *folders, "--input", documents, "--terms", tmp_path / "terms.tsv", "--plot", plot)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("| | whole | letters |") and "| terms | 3 | 3 |" in result.stdout
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_mistakes_are_one_sentence(folders: list[Path], tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents", "gene")
    (tmp_path / "empty").write_text("\n")
    for arguments, message in (
        (("--tokenizer", tmp_path / "none", "--input", documents), "none"),
        (("--tokenizer", *folders, "--input", tmp_path), "has no manifest.json"),
        (("--tokenizer", *folders, "--input", documents, "--terms", tmp_path / "empty"), "holds no term"),
        (("--tokenizer", *folders, "--input", documents, "--documents", 0), "--documents 0"),
    ):
        result = command(*arguments)
        assert result.returncode == 1 and message in result.stderr and result.stderr.count("\n") == 1, result.stderr
