"""The Markdown table: order, marks, published rows, and what is not a result."""

import json
import re

import pytest

from finetuning import table


def results(variant, model, mean, **more):
    """The content of a results.json."""
    part = {"sentences": 4560}
    return {
        "variant": variant,
        "model": model,
        "metric": "entity-level F1",
        "mean": mean,
        "std": 0.0012,
        "seeds": [{}, {}, {}],
        "failed": 0,
        "nonstandard_split": False,
        "published": [],
        "split": {"train": part, "dev": part, "test": part},
        **more,
    }


def write(folder, content):
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content))


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
