"""The wide table: which score stands in which row and column, and which never do."""

import pytest

from finetuning import table
from tests.finetuning.result_samples import results, write, write_all

BLURB = "BLURB, arXiv:2007.15779"
BLUE = "BLUE, arXiv:1906.05474"


def cells(text):
    """Row's name -> column -> cell, of one Markdown table."""
    head, _, *lines = [line.strip("| ").split(" | ") for line in text.strip().splitlines()]
    assert all(len(line) == len(head) for line in lines)
    assert len({line[0] for line in lines}) == len(lines)
    return {line[0]: dict(zip(head[1:], line[1:], strict=True)) for line in lines}


def test_a_row_a_model_and_a_column_a_variant(tmp_path):
    blurb, blue = [["BioBERT", 81.54, BLURB], ["PubMedBERT", 82.32, BLURB]], [["BioBERT", 82.9, BLUE]]
    contents = [
        results("HoC (BLURB)", "ours", 0.81, metric="micro-F1", published=blurb),
        results("HoC (BLURB)", "theirs", None, metric="micro-F1", std=None, failed=3, published=blurb),
        results("HoC (BLUE)", "ours", 0.83, metric="example F1", published=blue),
        results("BC2GM", "theirs", 0.84, failed=1, published=[["BioBERT", 83.82, BLURB]]),
    ]
    write_all(tmp_path, contents)
    gene, blue_hoc, blurb_hoc = "BC2GM (entity-level F1)", "HoC (BLUE) (example F1)", "HoC (BLURB) (micro-F1)"
    assert cells(table.make_table([tmp_path], wide=True)) == {
        "ours": {gene: "–", blue_hoc: "83.00 ± 0.12", blurb_hoc: "81.00 ± 0.12"},
        "theirs": {gene: "84.00 ± 0.12 (1 of 3 failed)", blue_hoc: "–", blurb_hoc: "– (3 of 3 failed)"},
        f"BioBERT [{BLUE}]": {gene: "–", blue_hoc: "82.90", blurb_hoc: "–"},
        f"BioBERT [{BLURB}]": {gene: "83.82", blue_hoc: "–", blurb_hoc: "81.54"},
        f"PubMedBERT [{BLURB}]": {gene: "–", blue_hoc: "–", blurb_hoc: "82.32"},
    }


def test_ours_come_first_by_name(tmp_path):
    published = [["Aardvark", 90.0, BLURB]]
    write_all(tmp_path, [results("BC2GM", name, 0.9, published=published) for name in ("zebra", "hare")])
    assert list(cells(table.make_table([tmp_path], wide=True))) == ["hare", "zebra", f"Aardvark [{BLURB}]"]


def test_nonstandard_variants_have_a_table_and_a_column_each(tmp_path):
    published = [["PubMedBERT", 84.52, BLURB]]
    write(tmp_path / "a", results("BC2GM", "ours", 0.9, published=published))
    for name, checksum in (("b", "0123456789ab"), ("c", "fedcba987654")):
        split = {"train": {"sentences": 20}, "test": {"sentences": 10, "sha256": checksum}}
        write(tmp_path / name, results("BC2GM", "ours", 0.5, nonstandard_split=True, published=published, split=split))
    standard, note, apart = table.make_table([tmp_path], wide=True).split("\n\n")
    assert cells(standard) == {
        "ours": {"BC2GM (entity-level F1)": "90.00 ± 0.12"},
        f"PubMedBERT [{BLURB}]": {"BC2GM (entity-level F1)": "84.52"},
    }
    assert note == table.NOTE
    start = "BC2GM (entity-level F1), nonstandard: 20 / 10 sentences, test"
    assert cells(apart) == {"ours": {f"{start} 01234567": "50.00 ± 0.12", f"{start} fedcba98": "50.00 ± 0.12"}}


def test_training_on_dev_makes_another_row(tmp_path):
    write_all(tmp_path, [results("BC2GM", "ours", 0.8), results("BC2GM", "ours", 0.9, train_on_dev=True)])
    rows = cells(table.make_table([tmp_path], wide=True))
    assert [list(row.values()) for row in rows.values()] == [["80.00 ± 0.12"], ["90.00 ± 0.12"]]
    assert list(rows) == ["ours", "ours (trained on train and dev)"]


def test_two_results_for_one_cell_are_refused(tmp_path):
    write_all(tmp_path, [results("BC2GM", "ours", 0.8), results("BC2GM", "ours", 0.9)])
    with pytest.raises(SystemExit, match=r"error: two results of ours on BC2GM \(entity-level F1\): give folders"):
        table.main([str(tmp_path), "--wide"])


def test_the_command_line_prints_it(tmp_path, capsys):
    write(tmp_path / "a", results("BC2GM", "ours", 0.8))
    table.main([str(tmp_path), "--wide"])
    assert capsys.readouterr().out.startswith("| Model | BC2GM (entity-level F1) |\n| --- | --- |\n| ours |")
