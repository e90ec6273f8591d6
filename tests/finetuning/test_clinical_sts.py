"""ClinicalSTS in n2c2's and BLUE's files."""

from argparse import Namespace

import pytest

from finetuning import clinical_sts
from tests.finetuning.text_samples import SIMILAR, error_of, run, score, write_splits


def write_n2c2(folder):
    folder.mkdir()
    rows = [f"{one} {i}\t{two}\t{value}\n" for i in range(5) for one, two, value in SIMILAR]
    (folder / "clinicalSTS2019.train.txt").write_text("".join(rows))
    (folder / "clinicalSTS2019.test.txt").write_text("".join(f"{one}\t{two}\n" for one, two, _ in SIMILAR))
    (folder / "clinicalSTS2019.test.gs.sim.txt").write_text("".join(f"{value}\n" for *_, value in SIMILAR))
    return folder


def test_n2c2_files_to_results(tiny_model, tmp_path):
    data = write_n2c2(tmp_path / "data")
    results = run(clinical_sts, tiny_model, data, tmp_path / "out")
    assert results["metric"] == "Pearson"
    assert [results["split"][split]["pairs"] for split in ("train", "dev", "test")] == [18, 2, 4]
    scored = score(clinical_sts, data, results["folder"] / "seed_0.predictions.tsv")
    assert scored["Pearson"] == results["seeds"][0]["score"]


def test_blue_files_to_results(tiny_model, tmp_path):
    text = "index\tsentence1\tsentence2\tscore\n"
    text += "".join(f"{i}\t{one}\t{two}\t{value + 1}\n" for i, (one, two, value) in enumerate(SIMILAR))
    data = write_splits(tmp_path / "data", text, ["train.tsv", "dev.tsv", "test.tsv"])
    results = run(clinical_sts, tiny_model, data, tmp_path / "out")
    assert results["split"]["dev"]["pairs"] == 4


def test_broken_files_are_named(tiny_model, tmp_path):
    data = write_n2c2(tmp_path / "data")
    message = error_of(clinical_sts, tiny_model, data, tmp_path / "out")
    assert "ClinicalSTS n2c2 2019 has 1,642 / 412 pairs; found 20 / 4 pairs" in message
    gold = data / "clinicalSTS2019.test.gs.sim.txt"
    gold.write_text("1.0\n2.0\n")
    message = error_of(clinical_sts, tiny_model, data, tmp_path / "out", "--nonstandard-split")
    assert "has 2 scores, clinicalSTS2019.test.txt has 4 pairs" in message
    gold.write_text("1\n2\n3\n5.5\n")
    message = error_of(clinical_sts, tiny_model, data, tmp_path / "out", "--nonstandard-split")
    assert "gs.sim.txt line 4: the score 5.5 is outside 0 to 5" in message
    gold.unlink()
    message = error_of(clinical_sts, tiny_model, data, tmp_path / "out", "--nonstandard-split")
    assert "gs.sim.txt is not there: put it beside clinicalSTS2019.train.txt" in message


@pytest.mark.parametrize("value", ["5", "4.75", "0"])
def test_scores_up_to_five(tmp_path, value):
    folder = write_n2c2(tmp_path / "data")
    (folder / "clinicalSTS2019.test.gs.sim.txt").write_text(f"{value}\n" * 4)
    files = clinical_sts.read(Namespace(data=folder, train_split=None))
    assert {one.label for one in files["test"].examples} == {float(value)}
