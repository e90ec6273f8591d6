"""Seeds and folds: files, means, deviations, failed runs, and runs killed at any moment."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from finetuning import results
from finetuning.provenance import commit
from finetuning.results import flat_scores, mean_of_folds, run_folder, run_seeds, slug, summary
from tests.finetuning.toy import CONFIG, METRIC, toy_task

RUN = {"variant": "Toy", "model": "m", "nonstandard_split": False, "split": {"train": {"points": 40}}, "config": {}}


class Killed(BaseException):
    """Stands for SIGKILL: nothing between its raise and the end of the process is caught or run."""


def read(path):
    return json.loads(path.read_text())


def deep_equal(one, other):
    """Two folders of results hold the same but for times."""

    def content(folder):
        files = {}
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if path.suffix == ".json" and "predictions" not in name:
                text = read(path)
                for timed in [text, *text.get("folds", ()), *text.get("history", ())]:
                    for key in ("seconds", "written"):
                        timed.pop(key, None)
                for fold in text.get("folds", ()):
                    for row in fold["history"]:
                        row.pop("seconds")
                files[name] = text
            elif path.suffix == ".pt":
                files[name] = {key: value.tolist() for key, value in torch.load(path).items()}
            elif path.is_file():
                files[name] = path.read_text()
        return files

    assert content(one) == content(other)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("BC5CDR chemical+disease", "bc5cdr-chemical+disease"),
        ("ChemProt (BLURB)", "chemprot-blurb"),
        ("../runs/My model_2", "runs-my-model-2"),
        ("bert-base-uncased", "bert-base-uncased"),
    ],
)
def test_slug(text, name):
    assert slug(text) == name


def test_a_run_that_gives_one_answer_always_has_failed(tmp_path):
    """Seed 0 learns; its scores stay in the file. Of folds one is enough."""
    reasons = iter([None] * CONFIG.epochs)
    task = replace(toy_task(dev=20), collapse=lambda outputs: next(reasons))
    one_epoch = replace(CONFIG, patience=1)
    found = run_seeds([task], RUN, one_epoch, tmp_path, 1)
    assert (found["failed"], read(tmp_path / "seed_0.json")["failed"]) == (0, None)
    reasons = iter(["answers class 1 always"] * 99)
    found = run_seeds([task], RUN, one_epoch, tmp_path, 2)
    seed = read(tmp_path / "seed_1.json")
    assert (found["failed"], found["mean"]) == (1, found["seeds"][0]["score"])
    assert seed["failed"] == "answers class 1 always" and seed["test"][METRIC] > 0
    found = run_seeds([toy_task(dev=20), task], RUN, CONFIG, tmp_path / "folds", 1)
    assert found["seeds"][0]["failed"] == "fold 1: answers class 1 always" and found["mean"] is None


def test_names_without_a_letter_are_refused():
    with pytest.raises(ValueError, match="give --model-name"):
        slug("../..")


def test_nonstandard_runs_have_a_folder_of_their_own(tmp_path):
    assert run_folder(tmp_path, RUN) == tmp_path / "toy" / "m"
    assert run_folder(tmp_path, {**RUN, "nonstandard_split": True}) == tmp_path / "toy-nonstandard" / "m"


def test_files_of_one_run(tmp_path):
    ours = run_seeds([toy_task()], RUN, CONFIG, tmp_path / "a" / "b", 3)
    folder = tmp_path / "a" / "b"
    seeds = [f"seed_{i}{kind}" for i in range(3) for kind in (".json", ".predictions.json")]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*seeds, "results.json", "model"])
    scores = [read(folder / f"seed_{i}.json")["test"][METRIC] for i in range(3)]
    assert ours["mean"] == pytest.approx(np.mean(scores))
    assert ours["std"] == pytest.approx(np.std(scores, ddof=1))
    assert ours["scores"]["classes.all.right"]["mean"] == pytest.approx(30 * np.mean(scores))
    assert read(folder / "results.json") == ours
    seed = read(folder / "seed_1.json")
    assert seed["run"] == RUN
    assert {"versions", "commit", "command", "written", "seconds", "device", "history"} <= set(seed)
    best = max(range(3), key=lambda i: read(folder / f"seed_{i}.json")["dev"][METRIC])
    assert ours["best_seed"] == best
    predictions = read(folder / f"seed_{best}.predictions.json")
    task = toy_task()
    model = task.make_model()
    model.load_state_dict(torch.load(folder / "model" / "weights.pt"))
    outputs = results.predict(model, task, task.features["test"], CONFIG)
    assert [int(row[0].argmax()) for row in outputs] == predictions  # the model that is kept is the best seed's


def test_folds_are_averaged_within_a_seed(tmp_path):
    tasks = [toy_task(seed=10 * i) for i in range(3)]
    ours = run_seeds(tasks, RUN, CONFIG, tmp_path, 2)
    for seed in range(2):
        whole = read(tmp_path / f"seed_{seed}.json")
        folds = [read(tmp_path / f"seed_{seed}.fold_{i}.json") for i in range(3)]
        assert whole["test"][METRIC] == pytest.approx(np.mean([fold["test"][METRIC] for fold in folds]))
        assert whole["folds"][2]["test"] == folds[2]["test"]
        assert len({fold["test"][METRIC] for fold in folds}) > 1
        assert (tmp_path / f"seed_{seed}.fold_1.predictions.json").is_file()
    assert ours["mean"] == pytest.approx(np.mean([row["score"] for row in ours["seeds"]]))
    alone = run_seeds([tasks[1]], RUN, CONFIG, tmp_path / "alone", 1)
    assert read(tmp_path / "seed_0.fold_1.json")["test"][METRIC] == alone["mean"]


def test_a_failed_fold_fails_its_seed():
    good = {"seed": 0, "failed": None, "test": {METRIC: 0.5}, "dev": {METRIC: 0.5}, "best_epoch": 1, "seconds": 1.0}
    good |= {"device": "cpu", "ranks": 1, "history": []}
    bad = {**good, "failed": "the loss was not finite in epoch 1", "test": None, "dev": None}
    whole = mean_of_folds([good, bad], METRIC)
    assert whole["failed"] == "fold 1: the loss was not finite in epoch 1"
    assert whole["test"] is None
    assert summary([whole], METRIC)["failed"] == 1


def test_failed_runs_are_counted_and_left_out_of_the_mean(tmp_path):
    """Seed 1's loss is not a number: its model is drawn with weights that are not."""
    task = toy_task()

    def make_model():
        model = task.make_model()
        if torch.initial_seed() == 1:
            model.body.weight.data.fill_(math.nan)
        return model

    ours = run_seeds([replace(task, make_model=make_model)], RUN, CONFIG, tmp_path, 3)
    assert ours["failed"] == 1
    assert ours["seeds"][1] == {
        "seed": 1,
        "score": None,
        "dev": None,
        "best_epoch": 0,
        "failed": "the loss was not finite in epoch 1",
    }
    good = [ours["seeds"][i]["score"] for i in (0, 2)]
    assert ours["mean"] == pytest.approx(np.mean(good))
    assert ours["std"] == pytest.approx(np.std(good, ddof=1))
    assert ours["best_seed"] in (0, 2)


def test_without_dev_the_first_seeds_model_is_kept(tmp_path):
    task = toy_task(dev=0)
    ours = run_seeds([task], RUN, CONFIG, tmp_path, 2)
    assert [row["dev"] for row in ours["seeds"]] == [None, None]
    assert [row["best_epoch"] for row in ours["seeds"]] == [3, 3]
    assert ours["best_seed"] == 0
    run_seeds([task], RUN, CONFIG, tmp_path / "first", 1)
    kept, first = (torch.load(path / "model" / "weights.pt") for path in (tmp_path, tmp_path / "first"))
    assert all(torch.equal(kept[name], first[name]) for name in kept)


@pytest.mark.parametrize("folds", [1, 2])
def test_a_run_killed_at_any_moment_goes_on(tmp_path, monkeypatch, folds):
    """Killed before each single file operation in turn; the second start gives what an undisturbed run gives."""
    tasks = [toy_task(seed=10 * i) for i in range(folds)]
    quick = replace(CONFIG, epochs=1)
    run_seeds(tasks, RUN, quick, tmp_path / "whole", 2)
    path_type = type(tmp_path)
    monkeypatch.setattr(results.os, "fsync", lambda descriptor: None)  # a hundred of them take long on a busy disk
    originals = {"replace": path_type.replace, "rmtree": shutil.rmtree, "write": results.json.dump}

    def run_until(moment, folder):
        """True if the run was killed at this moment, False if it ended before."""
        calls = iter(range(10_000))

        def stumbling(name):
            def call(*arguments, **more):
                if next(calls) == moment:
                    raise Killed
                return originals[name](*arguments, **more)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(path_type, "replace", stumbling("replace"))
            patch.setattr(results.shutil, "rmtree", stumbling("rmtree"))
            patch.setattr(results.json, "dump", stumbling("write"))
            try:
                run_seeds(tasks, RUN, quick, folder, 2)
            except Killed:
                return True
        return False

    moment = 0
    while run_until(moment, tmp_path / "killed"):
        assert not (tmp_path / "killed" / "results.json").exists()
        run_seeds(tasks, RUN, quick, tmp_path / "killed", 2)
        deep_equal(tmp_path / "killed", tmp_path / "whole")
        shutil.rmtree(tmp_path / "killed")
        moment += 1
    assert moment >= 10  # 3 files written and renamed, at least one model: there was something to interrupt


def test_files_of_another_run_are_refused(tmp_path):
    run_seeds([toy_task()], RUN, CONFIG, tmp_path, 1)
    other = {**RUN, "split": {"train": {"points": 41}}}
    with pytest.raises(ValueError, match=r"differ in split\.train\.points \(40, now 41\)"):
        run_seeds([toy_task()], other, CONFIG, tmp_path, 1)
    run_seeds([toy_task()], {**RUN, "published": [["new", 1.0, "a paper"]], "model": "M"}, CONFIG, tmp_path, 1)


def test_broken_files_are_named(tmp_path):
    (tmp_path / "seed_0.json").write_text("{")
    with pytest.raises(ValueError, match="seed_0.json is not JSON"):
        run_seeds([toy_task()], RUN, CONFIG, tmp_path, 1)


def test_flat_scores():
    scores = {"F1": 0.5, "types": {"A": {"f1": 0.25, "entities": 3}}, "note": "text"}
    assert flat_scores(scores) == {"F1": 0.5, "types.A.f1": 0.25, "types.A.entities": 3}


def test_commit_is_of_this_repository_or_none(tmp_path, repository):
    assert commit(tmp_path) is None
    assert commit(repository / "finetuning") is None
    ours = commit(repository)
    if (repository / ".git").exists():
        assert len(ours.removesuffix("-dirty")) == 40
