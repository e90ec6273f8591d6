"""MNLI from both distributions to scores: matched pairs are the test, mismatched ones choose the epoch."""

import pytest

from finetuning import mnli
from tests.finetuning.text_samples import NLI, error_of, nli_lines, run, score, write_splits


def write_glue(folder):
    header = "index\tpromptID\tpairID\tsentence1\tsentence2\tlabel1\tgold_label\n"
    text = header + "".join(f"{i}\t1\t1e\t{a}\t{b}\t-\t{label}\n" for i, (a, b, label) in enumerate(NLI))
    return write_splits(folder, text, ["train.tsv", "dev_matched.tsv", "dev_mismatched.tsv"])


@pytest.mark.parametrize("form", ["json", "glue"])
def test_files_to_results(tiny_model, tmp_path, form):
    names = ["multinli_1.0_train.jsonl", "multinli_1.0_dev_matched.jsonl", "multinli_1.0_dev_mismatched.jsonl"]
    data = write_splits(tmp_path / "json", nli_lines(), names) if form == "json" else write_glue(tmp_path / "glue")
    results = run(mnli, tiny_model, data, tmp_path / "out")
    assert results["metric"] == "accuracy"
    assert "mismatched" in results["split"]["dev"]["file"] and "dev_matched" in results["split"]["test"]["file"]
    predictions = results["folder"] / "seed_0.predictions.tsv"
    assert predictions.read_text().startswith("index\tprediction\n" + ("p0\t" if form == "json" else "0\t"))
    assert score(mnli, data, predictions)["accuracy"] == results["seeds"][0]["score"]


def test_sizes_are_checked(tiny_model, tmp_path):
    message = error_of(mnli, tiny_model, write_glue(tmp_path / "glue"), tmp_path / "out")
    assert "MNLI (matched) has 392,702 / 9,832 / 9,815 pairs; found 4 / 4 / 4 pairs" in message
