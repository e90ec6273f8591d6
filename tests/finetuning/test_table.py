"""The table and the CSV: order, marks, published rows, flags, and what is not a result."""

import csv
import os
import re

import pytest

from finetuning import table
from tests.finetuning.result_samples import results, write, write_all


def test_rows_by_benchmark_then_score_with_published_ones_once(tmp_path):
    published = [["PubMedBERT", 93.33, "BLURB, arXiv:2007.15779"]]
    write(tmp_path / "a", results("BC5CDR disease", "ours", 0.851))
    write(tmp_path / "b" / "deep", results("BC5CDR chemical", "weak", 0.9, published=published))
    write(tmp_path / "c", results("BC5CDR chemical", "strong|er", 0.94, failed=1, published=published))
    write(tmp_path / "d", results("BC5CDR chemical", "broken", None, std=None, failed=3))
    lines = table.make_table([tmp_path, tmp_path / "a"]).splitlines()  # a is found twice and shown once
    assert lines[0] == "| Benchmark | Model | Metric | Mean ± std | Seeds | Failed | Split |"
    cells = [line.split(" | ") for line in lines[2:]]
    assert [(row[0], row[1], row[3]) for row in cells] == [
        ("| BC5CDR chemical", "strong\\|er", "94.00 ± 0.12"),
        ("| BC5CDR chemical", "PubMedBERT", "93.33"),
        ("| BC5CDR chemical", "weak", "90.00 ± 0.12"),
        ("| BC5CDR chemical", "broken", "–"),
        ("| BC5CDR disease", "ours", "85.10 ± 0.12"),
    ]
    assert cells[0][4:] == ["3", "1", "published: 4,560 / 4,560 / 4,560 sentences |"]
    assert cells[1][6] == "published score, BLURB, arXiv:2007.15779 |"


def test_nonstandard_splits_stand_apart_without_published_scores(tmp_path):
    published = [["PubMedBERT", 93.33, "BLURB"]]
    write(tmp_path / "a", results("BC5CDR chemical", "ours", 0.9, published=published))
    odd = results("BC5CDR chemical", "odd", 0.99, nonstandard_split=True, published=published)
    write(tmp_path / "b", odd)
    standard, note, apart = table.make_table([tmp_path]).split("\n\n")
    assert "odd" not in standard and "PubMedBERT" in standard
    assert note == table.NOTE
    assert "odd" in apart and "nonstandard: 4,560" in apart and "PubMedBERT" not in apart
    only = table.make_table([tmp_path / "b"])
    assert only.startswith(table.NOTE)


def test_sizes_are_those_of_train_dev_and_test_in_this_order(tmp_path):
    """Whatever their order in the file: BioASQ's runs have test before dev."""
    split = {name: {"questions": size} for name, size in (("train", 7), ("test", 1), ("dev", 2))}
    write(tmp_path / "a", results("BioASQ", "m", 0.5, split=split))
    assert "| published: 7 / 2 / 1 questions |" in table.make_table([tmp_path])


@pytest.mark.parametrize(
    "more",
    [
        {"mean": "0.5"}, {"std": []}, {"seeds": 5}, {"seeds": [1]}, {"failed": None}, {"split": {}}, {"split": [1]},
        {"split": {"test": {"file": "a"}}}, {"split": {"train": {"pairs": 1}, "test": {"texts": 2}}},
        {"split": {"train": {"pairs": 1}, "test": 3}},
    ],
)  # fmt: skip
@pytest.mark.parametrize("flags", [[], ["--wide"], ["--format", "csv"]])
def test_a_file_that_was_edited_is_one_sentence(tmp_path, more, flags):
    write(tmp_path / "a", {**results("BC2GM", "m", 0.5), **more})
    with pytest.raises(SystemExit, match="results.json is not as a finetuning run writes it"):
        table.main([str(tmp_path), *flags])


def test_other_data_of_the_same_sizes_is_not_taken_for_the_same(tmp_path):
    """Nonstandard splits of one name: the checksum of the test file tells them apart where there are two."""

    def row(model, mean, checksum):
        part = {"sentences": 8}
        split = {"train": part, "dev": part, "test": {"sha256": checksum, **part}}
        return results("NER data", model, mean, nonstandard_split=True, split=split)

    write_all(tmp_path / "one", [row("a", 0.5, "1" * 64), row("b", 0.6, "1" * 64)])
    assert table.make_table([tmp_path / "one"]).count("| nonstandard: 8 / 8 / 8 sentences |") == 2
    write_all(tmp_path / "two", [row("c", 0.7, "2" * 64)])
    both = table.make_table([tmp_path / "one", tmp_path / "two"])
    assert both.count("| nonstandard: 8 / 8 / 8 sentences, test 11111111 |") == 2
    assert both.count("| nonstandard: 8 / 8 / 8 sentences, test 22222222 |") == 1


def test_a_folder_that_goes_meanwhile_is_passed_over(tmp_path, monkeypatch):
    """A run puts its model in place (model.tmp becomes model) while the table of an array's other task looks."""
    write(tmp_path / "a", results("BC2GM", "m", 0.5))
    (tmp_path / "a" / "model.tmp").mkdir()
    real = os.scandir

    def scandir(place):
        if str(place).endswith("model.tmp"):
            raise FileNotFoundError(place)
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "50.00" in table.make_table([tmp_path])


def test_command_line_writes_what_it_prints(tmp_path, capsys):
    write(tmp_path / "a", results("BC5CDR chemical", "ours", 0.9))
    table.main([str(tmp_path), "--output", str(tmp_path / "table.md")])
    printed = capsys.readouterr().out
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == printed
    assert "| 90.00 ± 0.12 |" in printed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "error: no results.json below .*: give the --output folder of a finished finetuning run"),
        ("{", "results.json is not JSON"),
        ('{"mean": 1}', "results.json is not a result of a finetuning run"),
        ("[]", "results.json is not a JSON object"),
    ],
)
def test_no_or_foreign_results(tmp_path, content, message):
    if content:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(SystemExit) as stopped:
        table.main([str(tmp_path)])
    assert re.search(message, stopped.value.code)
    with pytest.raises(SystemExit, match="does not exist"):
        table.main([str(tmp_path / "nowhere")])


def test_a_model_trained_on_dev_too_is_marked(tmp_path):
    write(tmp_path / "a", results("BC2GM", "ours", 0.9, train_on_dev=True))
    assert "| ours (trained on train and dev) |" in table.make_table([tmp_path])


def test_csv_has_a_line_a_result_with_fractions(tmp_path, capsys):
    published = [["PubMedBERT", 84.52, "BLURB, arXiv:2007.15779"]]
    contents = [
        results("BC2GM", name, 0.1 + 0.2, published=published, failed=1) for name in ("ours", 'with "quotes", commas')
    ]
    contents.append(results("BC2GM", "odd", None, std=None, failed=3, nonstandard_split=True, published=published))
    write_all(tmp_path, contents)
    table.main([str(tmp_path), "--format", "csv", "--output", str(tmp_path / "table.csv")])
    printed = capsys.readouterr().out
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == printed
    head, *lines = csv.reader(printed.splitlines())
    assert head == ["variant", "model", "metric", "mean", "std", "seeds", "failed", "standard", "source"]
    f1 = "entity-level F1"
    assert lines == [
        ["BC2GM", "odd", f1, "", "", "3", "3", "false", ""],
        ["BC2GM", "ours", f1, "0.30000000000000004", "0.0012", "3", "1", "true", ""],
        ["BC2GM", 'with "quotes", commas', f1, "0.30000000000000004", "0.0012", "3", "1", "true", ""],
        ["BC2GM", "PubMedBERT", f1, "0.8452", "", "", "", "true", "BLURB, arXiv:2007.15779"],
    ]


def test_csv_keeps_two_runs_that_are_alike(tmp_path):
    write_all(tmp_path, [results("BC2GM", "ours", 0.9)] * 2)
    assert len(table.make_csv(table.find_results([tmp_path])).splitlines()) == 3


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--wide", "--format", "csv"], "--wide and --format csv"),
        (["--compare", "a", "b", "--wide"], "--wide and --compare"),
        (["--compare", "a", "b", "--format", "csv"], "--format csv and --compare"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path, flags, named):
    write(tmp_path / "a", results("BC2GM", "ours", 0.9))
    with pytest.raises(SystemExit, match=f"error: {named} do not go together: leave one out"):
        table.main([str(tmp_path), *flags])
