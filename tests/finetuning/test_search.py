"""The search for settings: first the given ones, stopped and gone on with, judged by dev alone."""

import json
import math
import sys
from dataclasses import replace

import pytest

from finetuning import search as module
from finetuning.search import SPACE, best_of, distributions, suggest, with_settings
from tests.finetuning.test_command import benchmark, error_of, run
from tests.finetuning.toy import CONFIG, METRIC, toy_task

optuna = pytest.importorskip("optuna")
RUN = {"variant": "Toy", "config": {"epochs": 3}}


def curve(settings):
    """A made-up dev score with its top at learning rate 2e-4 and dropout 0.1."""
    return 0.9 - 0.1 * abs(math.log10(settings["learning_rate"] / 2e-4)) - abs(settings["dropout"] - 0.1)


def trials_of(count, score=curve, config=CONFIG):
    trials = []
    for _ in range(count):
        settings = suggest(trials, config)
        trials.append({"settings": settings, "dev": score(settings), "failed": None})
    return trials


def test_the_first_trial_is_the_given_settings_and_the_others_lie_in_the_ranges():
    trials = trials_of(12)
    assert trials[0]["settings"] == {name: getattr(CONFIG, name) for name in SPACE if name != "encoder_dropout"}
    for trial in trials[1:]:
        settings = trial["settings"]
        assert 1e-5 <= settings["learning_rate"] <= 1e-3
        assert 0.6 <= settings["layer_decay"] <= 1.0
        assert 0.0 <= settings["dropout"] <= 0.3
        assert settings["batch_size"] in (8, 16, 32, 64)
        assert settings["epochs"] in (2, 3, 4, 6)
        replace(CONFIG, **settings)  # in range for the program too
    assert len({json.dumps(trial["settings"]) for trial in trials}) > 8


def test_suggestions_follow_from_the_trials_before_alone():
    whole = trials_of(9)
    assert [suggest(whole[:i], CONFIG) for i in range(9)] == [trial["settings"] for trial in whole]
    other = [{**trial, "dev": -trial["dev"]} for trial in whole]
    assert suggest(whole, CONFIG) != suggest(other, CONFIG)


def test_search_finds_better_than_chance():
    trials = trials_of(40)
    random_best = max(curve(trial["settings"]) for trial in trials[1:6])
    late = sorted(curve(trial["settings"]) for trial in trials[20:])[10]
    assert max(trial["dev"] for trial in trials) > random_best
    assert late > sorted(curve(trial["settings"]) for trial in trials[1:6])[2]


def test_failed_trials_are_told_and_never_the_best():
    trials = [{"settings": {}, "dev": None, "failed": "x"}, {"settings": {}, "dev": 0.1}, {"settings": {}, "dev": 0.1}]
    assert best_of(trials) == 1
    with pytest.raises(ValueError, match="all 1 trials failed, the last one since x: a larger --search goes on"):
        best_of(trials[:1])
    failed = trials_of(6, score=lambda settings: None)
    assert len({json.dumps(trial["settings"]) for trial in failed}) > 4


@pytest.mark.parametrize(("batch", "parts", "at_once"), [(32, 32, 1), (32, 1, 32), (8, 1, 8), (24, 3, 8), (16, 3, 5)])
def test_no_trial_has_more_inputs_at_once_than_the_given_settings(batch, parts, at_once):
    """What fits in memory as given fits as tried: a trial that does not would end every search that goes on."""
    config = replace(CONFIG, batch_size=batch, gradient_accumulation=parts)
    sizes = distributions(config)["batch_size"].choices
    assert sizes == (8, 16, 32, 64)
    for size in sizes:
        tried = with_settings(config, {"batch_size": size, "dropout": 0.2})
        assert (tried.batch_size, tried.dropout, tried.epochs) == (size, 0.2, config.epochs)
        largest = math.ceil(size / tried.gradient_accumulation)
        assert largest <= at_once and (tried.gradient_accumulation == 1 or size > at_once)


def test_epochs_to_try():
    assert distributions(replace(CONFIG, epochs=1))["epochs"].choices == (1, 2)


def test_seeds_run_with_the_best_settings_and_a_stopped_search_goes_on(tiny_model, tmp_path, monkeypatch):
    scored = []
    task = toy_task()
    original = task.score
    task = replace(task, score=lambda split, outputs: scored.append(split) or original(split, outputs))
    bench, seen = benchmark(task)
    run(bench, tiny_model, tmp_path / "whole", "--search", "4", "--seeds", "1")
    folder = tmp_path / "whole" / "toy-line" / "m"
    found = json.loads((folder / "search.json").read_text())
    assert len(found["trials"]) == 4 and found["given"]["epochs"] == 3
    results = json.loads((folder / "results.json").read_text())
    best = max(found["trials"], key=lambda trial: trial["dev"])
    assert {name: results["config"][name] for name in SPACE} == best["settings"]
    assert results["search"]["trials"] == 4
    assert found["trials"][results["search"]["best"]] == best
    assert seen[-1][1].dropout == best["settings"]["dropout"]  # the task was made with these settings
    assert scored.count("test") == 1

    real, calls = module.run_trial, []

    def stopping(tasks, config):
        calls.append(config)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(tasks, config)

    monkeypatch.setattr(module, "run_trial", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(bench, tiny_model, tmp_path / "stopped", "--search", "4", "--seeds", "1")
    run(bench, tiny_model, tmp_path / "stopped", "--search", "4", "--seeds", "1")
    assert len(calls) == 5
    again = json.loads((tmp_path / "stopped" / "toy-line" / "m" / "search.json").read_text())
    assert [trial["settings"] for trial in again["trials"]] == [trial["settings"] for trial in found["trials"]]
    assert [trial["dev"] for trial in again["trials"]] == [trial["dev"] for trial in found["trials"]]
    run(bench, tiny_model, tmp_path / "stopped", "--search", "4", "--seeds", "2")  # seed 0 is there already
    assert len(calls) == 5


def test_what_a_search_refuses(tiny_model, tmp_path, monkeypatch):
    bench, _ = benchmark(toy_task(dev=0))
    assert "no dev split to judge" in error_of(bench, tiny_model, tmp_path / "a", "--search", "2")
    bench, _ = benchmark(toy_task())
    assert "--search -1" in error_of(bench, tiny_model, tmp_path / "a", "--search", "-1")
    run(bench, tiny_model, tmp_path / "b", "--search", "1", "--seeds", "1")
    message = error_of(bench, tiny_model, tmp_path / "b", "--search", "2", "--seeds", "1", "--clip-norm", "2")
    assert "search.json is the search of another run, which differs in config.clip_norm" in message
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "--search needs Optuna" in error_of(bench, tiny_model, tmp_path / "c", "--search", "2")


def test_with_train_on_dev_the_search_still_judges_by_dev(tiny_model, tmp_path):
    bench, _ = benchmark(toy_task())
    run(bench, tiny_model, tmp_path, "--search", "2", "--seeds", "1", "--train-on-dev")
    folder = tmp_path / "toy-line" / "m"
    assert all(trial["dev"] > 0 for trial in json.loads((folder / "search.json").read_text())["trials"])
    assert json.loads((folder / "seed_0.json").read_text())["dev"] is None


def test_folds_are_judged_by_their_mean():
    tasks = [toy_task(seed=0), toy_task(seed=10)]
    both = module.run_trial(tasks, CONFIG)["dev"]
    assert both == pytest.approx(sum(module.run_trial([task], CONFIG)["dev"] for task in tasks) / 2)
    assert METRIC == tasks[0].metric
