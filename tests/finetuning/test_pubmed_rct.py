"""PubMed RCT's form from files to scores: variants by sizes and text, labels of others, predictions in its own form."""

import pytest
from sklearn.metrics import f1_score

from finetuning import pubmed_rct
from tests.finetuning.text_samples import RCT, error_of, run, score, sizes_of, unpack, write_splits

FILES = ["train.txt", "dev.txt", "test.txt"]


def test_files_to_results(tiny_model, tmp_path):
    data = write_splits(tmp_path / "data", RCT, FILES)
    results = run(pubmed_rct, tiny_model, data, tmp_path / "out")
    assert (results["variant"], results["metric"]) == ("PubMed RCT", "weighted F1")
    assert results["split"]["dev"]["sentences"] == 5 and results["split"]["dev"]["abstracts"] == 2
    predictions = results["folder"] / "seed_0.predictions.tsv"
    lines = predictions.read_text().splitlines()
    assert lines[0] == "###227508" and lines[4:6] == ["", "###227509"]
    assert [line.split("\t")[1] for line in lines if "\t" in line] == [
        line.split("\t")[1] for line in RCT.splitlines() if "\t" in line
    ]
    scored = score(pubmed_rct, data, predictions)
    assert scored["weighted F1"] == results["seeds"][0]["score"]
    gold = [line.split("\t")[0] for line in RCT.splitlines() if "\t" in line]
    ours = [line.split("\t")[0] for line in lines if "\t" in line]
    assert scored["weighted F1"] == pytest.approx(f1_score(gold, ours, average="weighted", zero_division=0))


def test_predictions_must_be_of_the_same_sentences(tmp_path):
    data = write_splits(tmp_path / "data", RCT, FILES)
    path = tmp_path / "ours.txt"
    path.write_text(RCT)
    assert score(pubmed_rct, data, path)["accuracy"] == 1.0
    path.write_text(RCT.replace("no change", "change"))
    with pytest.raises(ValueError, match="sentence 227508_2 is not 227508_2 of the split: 'change was seen"):
        score(pubmed_rct, data, path)
    path.write_text(RCT.replace("CONCLUSIONS\tpatients improved .\n", ""))
    with pytest.raises(ValueError, match="has 4 sentences, the split has 5"):
        score(pubmed_rct, data, path)


def test_labels_and_sizes_of_others_need_the_flag(tiny_model, tmp_path, capsys):
    data = write_splits(tmp_path / "data", RCT.replace("OBJECTIVE", "AIM"), FILES)
    message = error_of(pubmed_rct, tiny_model, data, tmp_path / "out")
    assert "train.txt line 7: label 'AIM' is none of BACKGROUND, OBJECTIVE" in message
    (data / "train.txt").write_text(RCT.replace("OBJECTIVE\tlithium caused liver failure .\n", ""))
    run(pubmed_rct, tiny_model, data, tmp_path / "out")
    assert "warning: label 'AIM' of 1 test example(s) is in no training example" in capsys.readouterr().out
    data = write_splits(tmp_path / "other", RCT, FILES)
    message = error_of(pubmed_rct, tiny_model, data, tmp_path / "out2")
    assert "PubMed 20k RCT has 180,040 / 30,212 / 30,135 sentences, 15,000 / 2,500 / 2,500 abstracts" in message
    assert "found 5 / 5 / 5 sentences, 2 / 2 / 2 abstracts" in message


def test_numbers_as_at_signs_are_another_variant(tmp_path):
    data = write_splits(tmp_path / "data", RCT.replace("no change", "@ mg"), FILES)
    assert sizes_of(pubmed_rct, data, nonstandard_split=True)[0] == "PubMed RCT (numbers as @)"
    data = write_splits(tmp_path / "plain", RCT.replace("no change", "5 mg"), FILES)
    assert sizes_of(pubmed_rct, data, nonstandard_split=True)[0] == "PubMed RCT"


def test_files_as_distributed(tmp_path):
    name, standard, sizes = sizes_of(pubmed_rct, unpack("cls/nicta_piboso.tar.xz", tmp_path / "a"))
    assert (name, standard) == ("NICTA-PIBOSO", True)
    assert sizes == {"sentences": (6979, 801, 1991), "abstracts": (720, 80, 200)}
    derived = unpack("cls/rct_derived.tar.xz", tmp_path / "b")
    with pytest.raises(ValueError, match="found 20,518 / 1,181 / 1,263 sentences, 1,933 / 113 / 112 abstracts"):
        sizes_of(pubmed_rct, derived)
    assert sizes_of(pubmed_rct, derived, nonstandard_split=True)[:2] == ("PubMed RCT", False)
