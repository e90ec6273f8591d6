"""GAD in BLURB's split and in BioBERT's folds, in the community's formats; the files themselves are not shared."""

import pytest

from finetuning import gad
from finetuning.splits import Variant
from tests.finetuning.relation_samples import ASSOCIATIONS, FLAGS, SPLITS, folds, variant_of, write
from tests.finetuning.text_samples import error_of, run, score

TABLE = "\n".join(map("\t".join, ASSOCIATIONS))


def test_blurb_split_to_results(tiny_model, tmp_path):
    data = write(tmp_path / "data", {f"{split}_blurb.tsv": TABLE for split in SPLITS})
    results = run(gad, tiny_model, data, tmp_path / "out", "--epochs", "1")
    assert (results["variant"], results["metric"]) == ("GAD (BLURB)", "F1")
    assert results["split"]["test"]["labels"] == {"0": 2, "1": 2}
    predictions = results["folder"] / "seed_0.predictions.tsv"
    assert score(gad, data, predictions, **FLAGS)["F1"] == results["seeds"][0]["score"]
    with pytest.raises(
        ValueError, match=r"is no published test split of GAD: expected 534 sentences; found 4 sentences"
    ):
        score(gad, data, predictions, **FLAGS, nonstandard_split=False)


def test_an_empty_file_of_predictions_is_no_score_of_0(tmp_path):
    data = write(tmp_path / "data", {f"{split}_blurb.tsv": TABLE for split in SPLITS})
    for text in ("", "index\tlabel\n"):
        path = write(tmp_path, {"p.tsv": text}) / "p.tsv"
        with pytest.raises(ValueError, match="p.tsv has no prediction in it: each pair of the file needs one"):
            score(gad, data, path, **FLAGS)


def test_published_sizes_are_known(tmp_path):
    """As many lines as BLURB's files and BioBERT's folds have."""
    line = "@GENE$ of @DISEASE$\t1\n"
    sizes = dict(zip(SPLITS, (4261, 535, 534), strict=True))
    data = write(tmp_path / "blurb", {f"{split}.tsv": line * count for split, count in sizes.items()})
    assert variant_of(gad, data)[:2] == ("GAD (BLURB)", True)
    files = folds() | {f"{fold}/test.tsv": "index\tsentence\tlabel\n" + f"0\t{line}" * 533 for fold in range(1, 11)}
    assert variant_of(gad, write(tmp_path / "folds", files))[:2] == ("GAD (10 folds)", True)


def test_other_sizes_are_refused(tiny_model, tmp_path):
    data = write(tmp_path / "data", {f"{split}.tsv": TABLE for split in SPLITS})
    message = error_of(gad, tiny_model, data, tmp_path / "out")
    assert "GAD (BLURB) has 4,261 / 535 / 534 sentences; found 4 / 4 / 4 sentences" in message


def test_unknown_labels_are_refused(tiny_model, tmp_path):
    data = write(
        tmp_path / "data", {f"{split}.tsv": TABLE for split in SPLITS} | {"dev.tsv": "@GENE$ @DISEASE$\tyes\n"}
    )
    message = error_of(gad, tiny_model, data, tmp_path / "out")
    assert "dev.tsv line 1 has the label 'yes': expected one of 0, 1" in message


@pytest.mark.parametrize("variant", gad.BENCHMARK.variants, ids=lambda variant: variant.name)
def test_published_scores_have_a_source(variant: Variant):
    assert all(source and 50 < value < 100 for _, value, source in variant.published)
