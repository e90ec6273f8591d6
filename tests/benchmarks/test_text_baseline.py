"""The bag-of-words baseline on small files: learned words are found, several labels, errors of the user."""

import json

import pytest

from benchmarks import text_baseline
from tests.finetuning.text_samples import SIMILAR, nli_lines, write_splits

WORDS = {"RESULTS": "significant difference found", "METHODS": "patients were randomized", "BACKGROUND": "is unknown"}
TEXT = "".join(
    f"###{i}\n" + "".join(f"{label}\t{text} {i}\n" for label, text in WORDS.items()) + "\n" for i in range(8)
)


def test_learned_words_are_found_and_scored(tmp_path, capsys):
    data = write_splits(tmp_path / "data", TEXT, ["train.txt", "dev.txt", "test.txt"])
    output = tmp_path / "scores.json"
    text_baseline.main(["pubmed_rct", "--data", str(data), "--nonstandard-split", "--output", str(output)])
    assert "PubMed RCT: TF-IDF with logistic regression: weighted F1 100.00 on test (C 1)" in capsys.readouterr().out
    assert json.loads(output.read_text())["mean"] == 1.0


def test_strength_is_chosen_on_dev(tmp_path, capsys):
    """An abstract with both words has both labels: only a weak regularisation says so."""
    rows = "apoptosis cells .\t7\ngrowth cells .\t8\napoptosis growth cells .\t7|8\nmice .\t10\n" * 3
    data = write_splits(tmp_path / "data", rows, ["train_blurb.tsv", "dev_blurb.tsv", "test_blurb.tsv"])
    text_baseline.main(["hoc", "--data", str(data), "--nonstandard-split"])
    assert "micro-F1 100.00" in capsys.readouterr().out


def test_pairs_have_columns_of_their_own(tmp_path, capsys):
    rows = [("patients improved", word, label) for word, label in (("yes", "entailment"), ("no", "neutral"))] * 4
    rows += [("no yes", "patients", "contradiction")] * 4
    names = [f"mli_{split}_v1.jsonl" for split in ("train", "dev", "test")]
    data = write_splits(tmp_path / "data", nli_lines(rows), names)
    text_baseline.main(["mednli", "--data", str(data), "--nonstandard-split"])
    assert "accuracy 100.00" in capsys.readouterr().out


def test_errors_are_one_sentence(tmp_path):
    text = "".join(f"{one}\t{two}\t{value}\n" for one, two, value in SIMILAR)
    data = write_splits(tmp_path / "data", text, ["train.tsv", "dev.tsv", "test.tsv"])
    for arguments, message in {
        ("biosses", "--data", str(data), "--nonstandard-split"): "error: BIOSSES has numbers for labels",
        ("pubmed_rct", "--data", str(data)): "error: .* has no train file",
        ("bc5cdr", "--data", str(data)): "error: BC5CDR is no benchmark of texts or relations",
        ("nothing", "--data", str(data)): "error: nothing is no benchmark of finetuning/",
    }.items():
        with pytest.raises(SystemExit, match=message):
            text_baseline.main(list(arguments))
