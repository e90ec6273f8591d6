"""OHSUMED from class folders to scores, a tenth of train held out for dev."""

from argparse import Namespace

import pytest

from finetuning import ohsumed
from finetuning.texts import read_variant
from tests.finetuning.text_samples import error_of, run, score, unpack


def write_folders(folder):
    for part, count in (("training", 24), ("test", 4)):
        for i in range(count):
            name = ("C01", "C02")[i % 2]
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            word = ("liver failure", "cocaine seizures")[i % 2]
            (folder / part / name / f"{part[:2]}{i:03}").write_text(f"{word}\n patients improved.\n")
    return folder


def test_files_to_results(tiny_model, tmp_path):
    data = write_folders(tmp_path / "data")
    results = run(ohsumed, tiny_model, data, tmp_path / "out")
    assert (results["metric"], results["nonstandard_split"]) == ("accuracy", True)
    assert [results["split"][split]["documents"] for split in ("train", "dev", "test")] == [22, 2, 4]
    assert results["split"]["dev"]["part"] == "every 10th of each label"
    scored = score(ohsumed, data, results["folder"] / "seed_0.predictions.tsv")
    assert scored["accuracy"] == results["seeds"][0]["score"]
    assert set(scored["classes"]) == {"C01", "C02"}


def test_broken_folders_are_named(tiny_model, tmp_path):
    data = write_folders(tmp_path / "data")
    message = error_of(ohsumed, tiny_model, data, tmp_path / "out", "--nonstandard-split", "--train-split", "test")
    assert "--train-split test is of no use here" in message
    message = error_of(ohsumed, tiny_model, data, tmp_path / "out")
    assert "expected OHSUMED, single label has 3,357 / 4,043 documents; found 24 / 4 documents" in message
    (data / "test").rename(data / "testing")
    assert "has no folder test: expected" in error_of(ohsumed, tiny_model, data, tmp_path / "out")


@pytest.mark.slow  # 7,400 files to unpack and read
def test_files_as_distributed(tmp_path):
    folder = unpack("cls/ohsumed_single_23.tar.xz", tmp_path)
    options = Namespace(data=folder, nonstandard_split=False, train_split=None)
    files, variant = read_variant(ohsumed.BENCHMARK, options, ohsumed.CORPUS)
    assert (variant.name, variant.standard) == ("OHSUMED, single label", True)
    assert len(files["test"].examples) == 4043
    assert len(files["train"].examples) + len(files["dev"].examples) == 3357
    assert 300 < len(files["dev"].examples) < 340
    assert len({one.label for one in files["train"].examples}) == 23
