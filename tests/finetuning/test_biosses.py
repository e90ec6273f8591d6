"""BIOSSES from its Word files and from tsv; predictions in BLUE's form."""

from argparse import Namespace

import pytest
from scipy.stats import pearsonr

from finetuning import biosses, command
from finetuning.config import config_from
from tests.finetuning.text_samples import DATA, SIMILAR, error_of, run, score, sizes_of, unpack, write_splits

FILES = ["train.tsv", "dev.tsv", "test.tsv"]


def write_pairs(folder):
    text = "index\tsentence1\tsentence2\tscore\n"
    text += "".join(f"{i}\t{one}\t{two}\t{value}\n" for i, (one, two, value) in enumerate(SIMILAR))
    return write_splits(folder, text, FILES)


def test_files_to_results(tiny_model, tmp_path):
    data = write_pairs(tmp_path / "data")
    results = run(biosses, tiny_model, data, tmp_path / "out")
    assert (results["variant"], results["metric"]) == ("BIOSSES", "Pearson")
    assert results["split"]["train"]["pairs"] == 4
    predictions = results["folder"] / "seed_0.predictions.tsv"
    rows = [line.split("\t") for line in predictions.read_text().splitlines()]
    assert rows[0] == ["index", "score"]
    theirs = pearsonr([value for *_, value in SIMILAR], [float(row[1]) for row in rows[1:]])[0]
    assert results["seeds"][0]["score"] == pytest.approx(theirs)
    assert score(biosses, data, predictions)["Pearson"] == results["seeds"][0]["score"]
    predictions.write_text("index\tscore\n0\thigh\n")
    with pytest.raises(ValueError, match="line 2: could not convert string to float: 'high'"):
        score(biosses, data, predictions)


def test_sizes_and_scores_are_checked(tiny_model, tmp_path):
    data = write_pairs(tmp_path / "data")
    message = error_of(biosses, tiny_model, data, tmp_path / "out")
    assert "BIOSSES has 64 / 16 / 20 pairs; found 4 / 4 / 4 pairs" in message
    text = (data / "test.tsv").read_text()
    (data / "test.tsv").write_text(text.replace("2.0", "20"))
    message = error_of(biosses, tiny_model, data, tmp_path / "out", "--nonstandard-split")
    assert "test.tsv line 4: the score 20 is outside 0 to 4" in message


def key(example):
    """Both sentences without blanks, which the two distributions have in other places."""
    return "".join(example.text_a.split()), "".join(example.text_b.split())


def test_word_files_and_scifive_form_agree(tmp_path):
    """The same pairs in the same splits from both distributions, scores to SciFive's one decimal."""
    word = DATA / "sts"
    if not (word / "Annotation-Pairs.docx").is_file():
        pytest.skip(f"{word / 'Annotation-Pairs.docx'} is not there")
    scifive = unpack("sts/biosses_blurb_scifive.tar.xz", tmp_path)
    expected = ("BIOSSES", True, {"pairs": (64, 16, 20)})
    assert sizes_of(biosses, word) == sizes_of(biosses, scifive) == expected
    for split, file in biosses.read(Namespace(data=word, train_split=None)).items():
        theirs = biosses.read(Namespace(data=scifive, train_split=None))[split]
        ours = {key(one): one.label for one in file.examples}
        assert len(ours) == len(file.examples) == len(theirs.examples)
        assert ours == pytest.approx({key(one): one.label for one in theirs.examples}, abs=1e-9)
    counts = DATA / "sts" / "biosses_from_docx.tsv"
    derived = [line.split("\t") for line in counts.read_text(encoding="utf-8").splitlines()[1:]]
    assert {int(row[0]) for row in derived if row[-1] == "test"} == biosses.TEST
    assert {int(row[0]) for row in derived if row[-1] == "dev"} == biosses.DEV


def test_pairs_of_dev_are_trained_on_in_both_orders_too(tiny_model, tmp_path):
    """With --train-on-dev; where dev is scored, as by --search, it has each pair once."""
    flags = ["--model", tiny_model, "--data", write_pairs(tmp_path / "data"), "--output", tmp_path]
    options = command.make_parser(biosses.BENCHMARK, "").parse_args(
        [*map(str, flags), "--nonstandard-split", "--train-on-dev"]
    )
    (task,) = biosses.BENCHMARK.prepare(biosses.BENCHMARK, options, config_from(options)).tasks
    train = task.features["train"]
    assert (len(train), len(task.features["dev"])) == (8, 4)
    both = command.with_dev_in_train(task).features
    assert list(both) == ["train", "test"]
    assert both["train"] == [*train, *train]  # the files of train and dev are the same here
