"""The shared command line, with a benchmark whose network trains in milliseconds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from finetuning import command
from finetuning.command import Prepared
from finetuning.splits import Benchmark, Variant
from tests.finetuning import toy
from tests.finetuning.toy import CONFIG, METRIC, toy_task

VARIANT = Variant("Toy (line)", {"points": (40, 20, 30)}, published=(("Human", 100.0, "a paper"),))
SPLIT = {split: {"file": f"{split}.txt", "sha256": "0", "points": 10} for split in ("train", "dev", "test")}
TEXTS = {"train": [("", "a text")], "dev": [("", "another")], "test": [("", "A  text")]}


def benchmark(*tasks, variant=VARIANT):
    """A benchmark of these tasks; remembers the options and the config that it was given."""
    seen = []

    def prepare(bench, options, config):
        seen.append((options, config))
        return Prepared(variant, list(tasks), METRIC, SPLIT, TEXTS)

    bench = Benchmark("Toy", (VARIANT,), CONFIG, prepare, score_file=None)
    return bench, seen


def run(bench, model, output, *more):
    line = ["--model", str(model), "--data", "unused", "--output", str(output), "--model-name", "m", *more]
    command.main(bench, "What it is.", line)


def error_of(bench, model, output, *more):
    with pytest.raises(SystemExit) as stopped:
        run(bench, model, output, *more)
    assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code
    return stopped.value.code


def test_flags_to_files(tiny_model, tmp_path, capsys):
    bench, seen = benchmark(toy_task())
    run(bench, tiny_model, tmp_path, "--seeds", "2", "--epochs", "2", "--no-bias-correction")
    options, config = seen[0]
    assert (config.epochs, config.bias_correction, config.batch_size) == (2, False, CONFIG.batch_size)
    assert (options.train_split, options.nonstandard_split) == (None, False)
    results = json.loads((tmp_path / "toy-line" / "m" / "results.json").read_text())
    assert results["config"]["epochs"] == 2
    assert results["published"] == [["Human", 100.0, "a paper"]]
    assert results["train_on_dev"] is False
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "Toy (line): inputs {'train': 40, 'dev': 20, 'test': 30}"
    assert printed[-1].startswith(f"Toy (line): accuracy {100 * results['mean']:.2f} ± ")
    assert printed[-1].endswith(
        f"on test, 2 seeds, 0 failed; written to {tmp_path / 'toy-line' / 'm' / 'results.json'}"
    )


def test_train_on_dev_trains_on_both_and_scores_no_dev(tiny_model, tmp_path):
    scored = []
    task = toy_task()
    task = replace(task, score=lambda split, outputs: scored.append(split) or toy.score(task.features, split, outputs))
    bench, _ = benchmark(task)
    run(bench, tiny_model, tmp_path / "both", "--seeds", "1", "--epochs", "5", "--patience", "1", "--train-on-dev")
    seed = json.loads((tmp_path / "both" / "toy-line" / "m" / "seed_0.json").read_text())
    assert seed["run"]["train_on_dev"] is True
    assert (seed["dev"], seed["best_epoch"], len(seed["history"])) == (None, 5, 5)
    assert scored == ["test"]
    both = replace(task, features={"train": task.features["train"] + task.features["dev"], **task.features})
    assert len(both.features["train"]) == 40  # the original is unchanged
    message = error_of(benchmark(toy_task(dev=0))[0], tiny_model, tmp_path / "none", "--train-on-dev")
    assert "--train-on-dev: this benchmark has no dev split" in message


def test_wrong_flags_are_one_sentence(tiny_model, tmp_path):
    bench, seen = benchmark(toy_task())
    assert "--seeds 0: at least one" in error_of(bench, tiny_model, tmp_path, "--seeds", "0")
    assert "add --nonstandard-split" in error_of(bench, tiny_model, tmp_path, "--train-split", "dev")
    assert "--patience 0 is out of range" in error_of(bench, tiny_model, tmp_path, "--patience", "0")
    (tmp_path / "file").write_text("")
    assert "is a file: give a folder" in error_of(bench, tiny_model, tmp_path / "file")
    assert "is not a folder" in error_of(bench, tmp_path / "no" / "model", tmp_path)
    assert seen == []  # all of it before any file is read


def test_own_flags_stand_beside_the_shared_ones():
    bench, _ = benchmark()
    bench = replace(bench, add_flags=lambda parser: parser.add_argument("--input-style"))
    options = command.make_parser(bench, "").parse_args(
        "--model m --data d --output o --input-style raw --train-on-dev".split()
    )
    assert (options.input_style, options.train_on_dev, options.seeds) == ("raw", True, 5)
    assert command.own_flags(options, CONFIG) == {"input_style": "raw"}


def test_files_named_by_a_flag_may_have_moved_when_a_run_goes_on(tiny_model, tmp_path, capsys):
    """Their checksums are compared, as those of --data; their folders are no part of the run."""
    bench, _ = benchmark(toy_task())
    bench = replace(bench, add_flags=lambda parser: parser.add_argument("--train", nargs="+", type=Path))
    run(bench, tiny_model, tmp_path, "--seeds", "1", "--train", str(tmp_path / "one" / "a.json"), "b.json")
    results = json.loads((tmp_path / "toy-line" / "m" / "results.json").read_text())
    assert results["flags"] == {"train": ["a.json", "b.json"]}
    run(bench, tiny_model, tmp_path, "--seeds", "1", "--train", "a.json", str(tmp_path / "other" / "b.json"))
    assert "seed 0 is already in" in capsys.readouterr().out
    message = error_of(bench, tiny_model, tmp_path, "--seeds", "1", "--train", "c.json")
    assert "differ in flags.train (['a.json', 'b.json'], now ['c.json'])" in message


def test_another_value_of_an_own_flag_is_another_run(tiny_model, tmp_path):
    bench, _ = benchmark(toy_task())
    assert (
        command.own_flags(command.make_parser(bench, "").parse_args("--model m --data d --output o".split()), CONFIG)
        == {}
    )
    bench = replace(bench, add_flags=lambda parser: parser.add_argument("--head", default="cls"))
    run(bench, tiny_model, tmp_path, "--seeds", "1")
    results = json.loads((tmp_path / "toy-line" / "m" / "results.json").read_text())
    assert results["flags"] == {"head": "cls"}
    message = error_of(bench, tiny_model, tmp_path, "--seeds", "1", "--head", "markers")
    assert "differ in flags.head (cls, now markers): choose another --output or --model-name" in message
