"""ChemProt: each distribution is known by its files, runs to a score, and its predictions score the same again."""

import json

import pytest

from finetuning import chemprot
from finetuning.chemprot_reading import BIO_ELECTRA, read
from finetuning.relation_inputs import MARKERS, make_examples, render
from tests.finetuning.relation_samples import (
    FLAGS,
    SPLITS,
    bio_electra,
    blue,
    blurb_files,
    options_of,
    original_chemprot,
    scibert,
    variant_of,
    write,
)
from tests.finetuning.text_samples import error_of, run, score, unpack

DISTRIBUTIONS = {
    "ChemProt (BLURB)": blurb_files(),
    "ChemProt (BLUE)": {f"{split}.csv": "\ufeff" + blue() for split in SPLITS},
    "ChemProt (bio_electra)": {f"{split}.tsv": bio_electra() for split in SPLITS},
    "ChemProt (SciBERT)": {f"{split}.txt": scibert() for split in SPLITS},
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_ready_made_files_to_results(tiny_model, tmp_path, name):
    data = write(tmp_path / "data", DISTRIBUTIONS[name])
    results = run(chemprot, tiny_model, data, tmp_path / "out", "--epochs", "1", "--head", "marker")
    assert (results["variant"], results["metric"], results["nonstandard_split"]) == (name, "micro-F1", True)
    assert results["published"] == []
    count = 3 if name == "ChemProt (SciBERT)" else 6
    assert results["split"]["test"]["examples"] == count
    predictions = results["folder"] / "seed_0.predictions.tsv"
    assert predictions.read_text().count("\n") == 1 + count
    assert score(chemprot, data, predictions, **FLAGS)["micro-F1"] == results["seeds"][0]["score"]


def test_original_files_to_results(tiny_model, tmp_path):
    data = write(tmp_path / "data", original_chemprot())
    results = run(chemprot, tiny_model, data, tmp_path / "out", "--epochs", "40")
    assert results["variant"] == "ChemProt (BLURB)"
    assert results["split"]["test"] | {"sha256": ""} == {
        "file": "chemprot_test_abstracts_gs.tsv",
        "sha256": "",
        "examples": 4,
        "labels": {"CPR:4": 1, "CPR:6": 1, "CPR:9": 1, "false": 1},
        "gold relations": 5,
        "not among the pairs": 2,
    }
    predictions = results["folder"] / "seed_0.predictions.tsv"
    scored = score(chemprot, data, predictions, **FLAGS)
    assert scored["micro-F1"] == results["seeds"][0]["score"] > 0
    assert scored["all gold relations (BioCreative)"]["relations"] == 5


def test_the_official_measure_counts_relations_across_sentences(tmp_path):
    data = write(tmp_path / "data", original_chemprot())
    lines = ["101\tCPR:4\tArg1:T1\tArg2:T2", "101\tCPR:3\tArg1:T0\tArg2:T2", "102\tCPR:9\tArg1:T2\tArg2:T3"]
    path = write(tmp_path, {"ours.tsv": "\n".join(lines)}) / "ours.tsv"
    scored = score(chemprot, data, path, **FLAGS)
    # of the pairs: one right of two predicted, three there are; of all relations: two right of three, five there are
    assert (scored["precision"], scored["recall"]) == pytest.approx((1 / 2, 1 / 3))
    official = scored["all gold relations (BioCreative)"]
    assert (official["precision"], official["recall"]) == pytest.approx((2 / 3, 2 / 5))
    assert official["f1-score"] == pytest.approx(1 / 2)
    assert scored["predictions for no pair of the file"] == 1
    nothing = write(tmp_path, {"none.tsv": ""}) / "none.tsv"
    assert score(chemprot, data, nothing, **FLAGS)["micro-F1"] == 0


def test_labels_of_any_spelling_score_the_same(tmp_path):
    data = write(tmp_path / "data", {f"{split}.tsv": blue() for split in SPLITS})
    labels = ["CPR:4", "CPR:3", "false", "CPR:9", "CPR:5", "CPR:6"]
    indices = ["0", "1", "2", "3", "3", "5"]  # two classes of one pair are two rows
    rows = [f"101.T1.T{index}\t{label}" for index, label in zip(indices, labels, strict=True)]
    path = write(tmp_path, {"ours.tsv": "\n".join(rows)}) / "ours.tsv"
    assert score(chemprot, data, path, **FLAGS)["micro-F1"] == 1.0
    path.write_text("\n".join(rows).replace("false", "False").replace("CPR:4", "0"))
    assert score(chemprot, data, path, **FLAGS)["recall"] == pytest.approx(4 / 5)


def test_train_on_dev_where_there_is_no_train_file(tiny_model, tmp_path):
    data = write(tmp_path / "data", {f"{split}.csv": blue() for split in ("dev", "test")})
    message = error_of(chemprot, tiny_model, data, tmp_path / "out")
    assert "has no train file" in message and "--nonstandard-split --train-split dev" in message
    results = run(chemprot, tiny_model, data, tmp_path / "out", "--epochs", "1", "--train-split", "dev")
    assert (results["train_split"], set(results["split"])) == ("dev", {"train", "test"})
    assert results["split"]["train"]["file"] == "dev.csv"
    assert results["nonstandard_split"] is True


def test_other_sizes_are_refused_with_both_counts(tiny_model, tmp_path):
    data = write(tmp_path / "data", blurb_files())
    message = error_of(chemprot, tiny_model, data, tmp_path / "out")
    assert "ChemProt (BLURB) has 18,035 / 11,268 / 15,745 pairs, 4,112 / 2,408 / 3,430 positive pairs" in message
    assert "found 6 / 6 / 6 pairs, 5 / 5 / 5 positive pairs" in message


def test_files_of_two_distributions_are_refused(tiny_model, tmp_path):
    files = {f"{split}.tsv": blue() for split in SPLITS} | {"test.tsv": bio_electra()}
    message = error_of(chemprot, tiny_model, write(tmp_path / "mixed", files), tmp_path / "out")
    assert "are of different distributions: their placeholders are" in message
    files["test.tsv"] = "@GENE$ @CHEMICAL$\tfalse\n"
    message = error_of(chemprot, tiny_model, write(tmp_path / "header", files), tmp_path / "out")
    assert "are of different distributions: their headers are" in message
    both = write(tmp_path / "both", original_chemprot() | blurb_files())
    assert "holds both ready-made and BioCreative's own files" in error_of(chemprot, tiny_model, both, tmp_path / "out")
    assert "is not a folder" in error_of(chemprot, tiny_model, tmp_path / "no", tmp_path / "out")


def test_protocols_share_no_published_score():
    rows = [row for variant in chemprot.BENCHMARK.variants for row in variant.published]
    assert len(rows) == len(set(rows)) == 8
    blue_rows = chemprot.BENCHMARK.variants[1].published
    assert all(source.startswith("BLUE") for _, _, source in blue_rows)


@pytest.mark.parametrize(
    ("archive", "name"),
    [
        ("chemprot_blurb_scifive", "ChemProt (BLURB)"),
        ("chemprot_bio_electra", "ChemProt (bio_electra)"),
        ("chemprot_scibert_jsonl", "ChemProt (SciBERT)"),
    ],
)
def test_files_as_distributed(tmp_path, archive, name):
    data = unpack(f"re/{archive}.tar.xz", tmp_path)
    found, standard, distribution = variant_of(chemprot, data)
    assert (found, standard) == (name, True)
    (files,) = distribution.folds
    assert all(one.arguments for file in files.values() for one in file.relations)
    if name == "ChemProt (SciBERT)":  # with its own markers each text is that of the file again
        examples = make_examples(files["dev"], distribution, "marker", "marker")
        lines = (data / "dev.txt").read_text(encoding="utf-8").split("\n")[:-1]
        assert [one.text_a for one in examples] == [json.loads(line)["text"] for line in lines]
        assert {one.text_a[slice(*one.arguments[0])] for one in examples} == {"[["}
    if name == "ChemProt (bio_electra)":
        assert distribution.marks == BIO_ELECTRA
        assert sum(one.arguments[0] == one.arguments[1] for one in files["train"].relations) == 24


def test_blue_file_as_distributed(tmp_path):
    """Only dev is shared: its counts are BLUE's, and it can be trained on."""
    data = unpack("re/chemprot_blue_electramed_devonly.tar.xz", tmp_path)
    file = read(options_of(data), {"train": "dev"}).folds[0]["train"]
    assert file.label_counts() == {
        "CPR:3": 550, "CPR:4": 1094, "CPR:5": 116, "CPR:6": 199, "CPR:9": 457, "false": 9404,
    }  # fmt: skip
    assert len(file.relations) == 11820
    assert {one.document for one in file.relations if one.index.startswith("10064839.")} == {"pmid:10064839"}
    assert sum(one.arguments[0] == one.arguments[1] for one in file.relations) == 946
    shown = render(file.relations[0], "anonymised", None, MARKERS)[0]
    assert shown == file.relations[0].text
