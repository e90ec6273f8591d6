"""EU-ADR: ten folds as BioBERT distributes them, a seed's score the mean over them, predictions of one or of all."""

import json
import statistics

import pytest

from finetuning import euadr
from tests.finetuning.relation_samples import ASSOCIATIONS, FLAGS, folds, variant_of, write
from tests.finetuning.text_samples import error_of, run, score, unpack


def test_folds_to_results(tiny_model, tmp_path):
    data = write(tmp_path / "data", folds())
    results = run(euadr, tiny_model, data, tmp_path / "out", "--epochs", "1")
    assert (results["variant"], results["metric"]) == ("EU-ADR (10 folds)", "F1")
    assert results["split"]["test"]["examples"] == 40 and results["split"]["test"]["folds"] == 10
    assert "dev" not in results["split"]
    parts = [json.loads((results["folder"] / f"seed_0.fold_{i}.json").read_text())["test"]["F1"] for i in range(10)]
    assert results["seeds"][0]["score"] == pytest.approx(statistics.fmean(parts))
    files = [results["folder"] / f"seed_0.fold_{i}.predictions.tsv" for i in range(10)]
    assert [score(euadr, data, path, **FLAGS)["F1"] for path in files] == pytest.approx(parts)
    everything = (
        write(tmp_path, {"all.tsv": "".join(path.read_text().partition("\n")[2] for path in files)}) / "all.tsv"
    )
    assert score(euadr, data, everything, **FLAGS)["F1"] == pytest.approx(statistics.fmean(parts))


def test_a_fold_of_predictions_must_be_whole(tmp_path):
    data = write(tmp_path / "data", folds())
    path = write(tmp_path, {"ours.tsv": "3.0\t1\n3.1\t1\n3.2\t1\n"}) / "ours.tsv"
    with pytest.raises(ValueError, match="has no prediction for 3.3"):
        score(euadr, data, path, **FLAGS)
    path.write_text("11.0\t1\n")
    with pytest.raises(ValueError, match="has the index '11.0': expected <fold>.<row>, such as 1.0"):
        score(euadr, data, path, **FLAGS)
    path.write_text("3.0\t1\n3.1\t1\n3.2\t1\n3.3\t1\n")
    scored = score(euadr, data, path, **FLAGS)
    assert scored["F1"] == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert list(scored["folds"]) == ["3"]


def test_predictions_of_another_split_are_scored_on_it(tmp_path):
    """Test has four sentences, two of them related; dev here has two, both related."""
    rows = ASSOCIATIONS[0][0], ASSOCIATIONS[1][0]
    dev = "index\tsentence\tlabel\n" + "".join(f"{i}\t{text}\t1\n" for i, text in enumerate(rows))
    data = write(tmp_path / "data", folds(dev=dev))
    path = write(tmp_path, {"ours.tsv": "3.0\t1\n3.1\t1\n"}) / "ours.tsv"
    assert score(euadr, data, path, **FLAGS, split="dev")["F1"] == 1.0
    path.write_text("".join(f"3.{i}\t1\n" for i in range(len(ASSOCIATIONS))))
    assert score(euadr, data, path, **FLAGS, split="train")["F1"] == pytest.approx(2 / 3)
    (data / "7" / "dev.tsv").write_text("")
    for split in ("dev", "devel"):
        with pytest.raises(ValueError, match=f"--split {split}: "):
            score(euadr, data, path, **FLAGS, split=split)


def test_there_is_no_dev_split_to_name(tiny_model, tmp_path):
    data = write(tmp_path / "data", folds())
    message = error_of(euadr, tiny_model, data, tmp_path / "out", "--nonstandard-split", "--train-split", "dev")
    assert "--train-split dev: the folds have no dev split" in message
    message = error_of(euadr, tiny_model, data, tmp_path / "out", "--nonstandard-split", "--train-on-dev")
    assert "no dev split" in message


def test_files_as_distributed(tmp_path):
    data = unpack("re/biobert_euadr_10fold.tar.xz", tmp_path)
    name, standard, distribution = variant_of(euadr, data)
    assert (name, standard) == ("EU-ADR (10 folds)", True)
    sizes = [(len(files["train"].relations), len(files["test"].relations)) for files in distribution.folds]
    assert sizes == [(318, 37), (318, 37), (319, 36), *[(320, 35)] * 7]
    tested = [one for files in distribution.folds for one in files["test"].relations]
    assert len({one.text for one in tested}) == len({one.index for one in tested}) == 355
    assert sum(one.label == "1" for one in tested) == 262
    assert all(one.arguments for one in tested)
    assert ASSOCIATIONS[0][0] not in {one.text for one in tested}
