"""The benchmark from files to results.json: split sizes, seeds that go on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finetuning import bc5cdr
from tests.finetuning.samples import SENTENCES, write_benchmark

ROOT = Path(__file__).parents[2]
QUICK = "--learning-rate 3e-3 --layer-decay 1 --batch-size 4 --epochs 15 --patience 15".split()


def command(model, data, output, *more):
    return ["--model", str(model), "--data", str(data), "--output", str(output), *QUICK, *more]


def run(model, data, output, *more):
    """Results of a run whose model is called tiny, and which is the only one of this variant in `output`."""
    bc5cdr.main(command(model, data, output, "--nonstandard-split", "--model-name", "tiny", *more))
    (path,) = output.glob("*/tiny/results.json")
    return json.loads(path.read_text())


def error_of(capsys, *arguments):
    """The message of a run that is refused."""
    with pytest.raises(SystemExit) as stopped:
        bc5cdr.main(command(*arguments))
    assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code
    return stopped.value.code


def test_files_to_results(tiny_model, benchmark_folder, tmp_path):
    output = tmp_path / "out"
    results = run(tiny_model, benchmark_folder, output, "--seeds", "2")
    folder = output / "bc5cdr-chemical+disease-nonstandard" / "tiny"
    assert (results["benchmark"], results["variant"]) == ("BC5CDR", "BC5CDR chemical+disease")
    assert results["model"] == "tiny"
    assert results["metric"] == "entity-level F1"
    assert results["nonstandard_split"] is True
    assert results["published"] == []
    assert results["split"]["dev"]["file"] == "devel.tsv"
    assert results["split"]["test"]["entities"] == {"Chemical": 8, "Disease": 4}
    assert results["split"]["test"]["sentences"] == 8
    scores = [row["score"] for row in results["seeds"]]
    assert results["failed"] == 0 and min(scores) > 0.3
    assert results["mean"] == pytest.approx(sum(scores) / 2)
    assert results["std"] == pytest.approx(abs(scores[0] - scores[1]) / 2**0.5)
    assert results["config"]["learning_rate"] == 3e-3
    assert {"python", "torch", "transformers", "seqeval"} <= set(results["versions"])
    seed = json.loads((folder / "seed_1.json").read_text())
    assert seed["test"]["entity-level F1"] == scores[1]
    assert seed["test"]["entities"] == 12  # all gold entities of the file
    assert len(seed["history"]) == 15
    predictions = (folder / "seed_0.predictions.tsv").read_text()
    assert predictions.count("\n\n") == len(SENTENCES)
    assert (folder / "model" / "model.safetensors").is_file()
    task = json.loads((folder / "model" / "task.json").read_text())
    assert (task["family"], task["benchmark"], task["labels"][1]) == ("tagging", "BC5CDR", "B-Chemical")
    assert not list(output.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("form", "variant"),
    [("biobert", "BC5CDR untyped"), ("iobes", "BC5CDR chemical+disease"), ("scibert", "BC5CDR untyped")],
)
def test_every_format_runs(tiny_model, tmp_path, form, variant):
    data = write_benchmark(tmp_path / "data", form)
    results = run(tiny_model, data, tmp_path / "out", "--seeds", "1", "--epochs", "1")
    assert results["variant"] == variant
    assert results["std"] is None


def test_iobes_scores_as_iob2(tiny_model, tmp_path):
    """Same entities, same seed: the form of the file does not change the score."""
    scores = []
    for form in ("iob", "iobes"):
        data = write_benchmark(tmp_path / form, form)
        scores.append(run(tiny_model, data, tmp_path / f"{form}_out", "--seeds", "1", "--epochs", "8")["mean"])
    assert scores[0] == scores[1] > 0


def test_other_sizes_are_refused_with_both_counts(tiny_model, tmp_path, capsys):
    data = write_benchmark(tmp_path / "data", "iob")
    message = error_of(capsys, tiny_model, data, tmp_path / "out")
    assert "expected (train / dev / test) BC5CDR chemical+disease has 4,560 / 4,581 / 4,797 sentences" in message
    assert "9,385" not in message and "5,203 / 5,347 / 5,385 Chemical" in message
    assert "found 8 / 8 / 8 sentences, 8 / 8 / 8 Chemical, 4 / 4 / 4 Disease" in message
    assert "--nonstandard-split" in message
    assert not (tmp_path / "out").exists()
    bare = write_benchmark(tmp_path / "bare", "biobert")
    message = error_of(capsys, tiny_model, bare, tmp_path / "out")
    assert "BC5CDR chemical has" in message and "BC5CDR disease has" in message


def test_other_types_and_empty_splits_are_refused_even_if_nonstandard(tiny_model, benchmark_folder, tmp_path, capsys):
    original = (benchmark_folder / "test.tsv").read_text()
    (benchmark_folder / "test.tsv").write_text(original.replace("Disease", "protein"))
    message = error_of(capsys, tiny_model, benchmark_folder, tmp_path / "out", "--nonstandard-split")
    assert "has protein; BC5CDR has only Chemical, Disease, Entity, documents, sentences" in message
    (benchmark_folder / "test.tsv").write_text("a\tO\n")
    message = error_of(capsys, tiny_model, benchmark_folder, tmp_path / "out", "--nonstandard-split")
    assert "test.tsv has no entity" in message


def test_a_stopped_run_goes_on(tiny_model, benchmark_folder, tmp_path):
    """Seed 0 is not run again, seed 1 is; together they are what one run of both gives."""
    output = tmp_path / "out"
    folder = output / "bc5cdr-chemical+disease-nonstandard" / "tiny"
    run(tiny_model, benchmark_folder, output, "--seeds", "1")
    (folder / "results.json").unlink()
    marked = json.loads((folder / "seed_0.json").read_text())
    marked["seconds"] = -1
    (folder / "seed_0.json").write_text(json.dumps(marked))
    ours = run(tiny_model, benchmark_folder, output, "--seeds", "2")
    assert json.loads((folder / "seed_0.json").read_text())["seconds"] == -1
    theirs = run(tiny_model, benchmark_folder, tmp_path / "whole", "--seeds", "2")
    assert ours["seeds"] == theirs["seeds"]
    assert (ours["mean"], ours["std"]) == (theirs["mean"], theirs["std"])


def test_another_configuration_or_data_in_the_same_folder_is_an_error(tiny_model, benchmark_folder, tmp_path, capsys):
    output = tmp_path / "out"
    results = output / "bc5cdr-chemical+disease-nonstandard" / "tiny" / "results.json"
    run(tiny_model, benchmark_folder, output, "--seeds", "1", "--epochs", "1")
    before = results.read_bytes()
    more = ["--nonstandard-split", "--model-name", "tiny", "--epochs", "1"]
    message = error_of(capsys, tiny_model, benchmark_folder, output, *more, "--overlap", "32")
    assert "differ in config.overlap (64, now 32): choose another" in message
    with (benchmark_folder / "train.tsv").open("a") as file:
        file.write("more\tO\n")
    message = error_of(capsys, tiny_model, benchmark_folder, output, *more)
    assert "differ in split.train." in message
    assert results.read_bytes() == before


def test_failed_seeds_are_counted_and_left_out(tiny_model, benchmark_folder, tmp_path):
    """A learning rate of 1e-9 for one epoch tags next to nothing right: dev F1 0."""
    more = ["--seeds", "2", "--learning-rate", "1e-9", "--epochs", "1"]
    data = benchmark_folder
    for name in ("train.tsv", "devel.tsv", "test.tsv"):
        (data / name).write_text("patients\tO\n" * 300 + "lithium\tB-Chemical\ncarbonate\tI-Chemical\n" * 2)
    results = run(tiny_model, data, tmp_path / "out", *more)
    assert results["failed"] == 2
    assert (results["mean"], results["std"], results["best_seed"]) == (None, None, None)
    assert all("dev score was 0" in row["failed"] for row in results["seeds"])
    assert not list((tmp_path / "out").rglob("model"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--seeds", "0"], "--seeds 0: at least one seed is needed"),
        (["--batch-size", "0"], "--batch-size 0 is out of range"),
    ],
)
def test_wrong_values_are_one_sentence(tiny_model, benchmark_folder, tmp_path, capsys, more, message):
    assert message in error_of(capsys, tiny_model, benchmark_folder, tmp_path / "out", "--nonstandard-split", *more)


def test_command_line_as_typed(tiny_model, benchmark_folder, tmp_path):
    more = ["--nonstandard-split", "--model-name", "Tiny model", "--seeds", "1", "--epochs", "2"]
    line = [sys.executable, "-m", "finetuning.bc5cdr", *command(tiny_model, benchmark_folder, tmp_path / "out", *more)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "seed 0 epoch 2: loss" in done.stdout
    assert done.stderr == ""  # no warnings, and no progress bar where there is no terminal
    (path,) = (tmp_path / "out").glob("*/tiny-model/results.json")
    results = json.loads(path.read_text())
    assert results["command"].startswith("python -m finetuning.bc5cdr --model ")


def test_a_model_that_is_not_there_is_one_sentence(benchmark_folder, tmp_path, capsys):
    message = error_of(capsys, tmp_path / "no" / "model", benchmark_folder, tmp_path / "out", "--nonstandard-split")
    assert message.startswith("error: --model")


def test_help_and_unknown_flags(capsys):
    with pytest.raises(SystemExit) as stopped:
        bc5cdr.main(["--help"])
    assert stopped.value.code == 0
    assert "(default: 20)" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        bc5cdr.main(["--model", "a", "--data", "b", "--output", "c", "--no-such-flag"])
    assert stopped.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err
