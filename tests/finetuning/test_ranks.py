"""Two gloo ranks do what one process does: gradients, outputs, files; errors of one end both."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch

from finetuning import ranks
from finetuning.loop import epoch_batches, fit, predict, train_epoch
from finetuning.results import run_seeds
from tests.distributed import run_distributed
from tests.finetuning import toy
from tests.finetuning.samples import write_benchmark
from tests.finetuning.toy import CONFIG, toy_task


def one_to_three_items(features):
    """A batch in which an input counts 1, 2 or 3 times, so that ranks have different numbers of items."""
    batch = toy.collate(features)
    batch["weights"] = torch.tensor([float(len(one["input_ids"]) % 3 + 1) for one in features])
    batch["items"] = int(batch["weights"].sum())
    return batch


def weighted_loss(logits, batch):
    return (torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none") * batch["weights"]).sum()


def unused_layer():
    """The toy network with one more weight that takes no part, and so has no gradient."""
    model = toy.Network()
    model.pooler = torch.nn.Linear(2, 2)
    return model


TASK = replace(toy_task(train=45), collate=one_to_three_items, loss=weighted_loss, make_model=unused_layer)


def gradients_of_an_epoch(gradient_accumulation=1):
    """The gradient of every batch (None for the unused weight) and the epoch's mean loss."""
    config = replace(CONFIG, gradient_accumulation=gradient_accumulation)
    torch.manual_seed(0)
    model = TASK.make_model()
    found = []

    def update():
        found.append([None if p.grad is None else p.grad.numpy().copy() for p in model.parameters()])
        model.zero_grad(set_to_none=True)

    batches = [*epoch_batches([1] * 44, 8, 0, 1), [44]]  # the last one is for one rank alone
    return found, train_epoch(model, TASK, config, batches, update)


def weights_after_training(seed=0):
    torch.manual_seed(seed + 100 * ranks.rank())  # other weights on each rank: all must take rank 0's
    model = TASK.make_model()
    result = fit(model, TASK, CONFIG, seed)
    outputs = predict(model, TASK, TASK.features["test"], CONFIG)
    return [p.detach().numpy() for p in model.parameters()], outputs, result.history, torch.rand(1).item()


def results_of_seeds(folder):
    run = {"variant": "Toy", "model": "m", "nonstandard_split": False}
    results = run_seeds([toy_task()], run, CONFIG, folder, 2)
    return [row["score"] for row in results["seeds"]]


def message(call, number):
    """What `call` makes of a function that fails on rank `number`."""

    def function():
        if ranks.rank() == number:
            raise ValueError("--data is not there")
        return ranks.rank()

    try:
        return call(function)
    except ValueError as error:
        return str(error)


def everything(folder):
    """All that the tests compare, in one start of the ranks (their imports take seconds)."""
    found = {
        "gradients": [gradients_of_an_epoch(1), gradients_of_an_epoch(3)],
        "training": weights_after_training(),
        "seeds": results_of_seeds(folder),
        "errors": [message(ranks.agree, number) for number in (0, 1, 5)],
        "errors of the first": [message(ranks.from_first, number) for number in (0, 1)],
    }
    if ranks.rank() == 0 and ranks.world() > 1:
        (folder / "seed_1.json").unlink()
    found["seeds again"] = results_of_seeds(folder)
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return everything(tmp_path_factory.mktemp("one") / "out")


@pytest.fixture(scope="module")
def folder_of_two(tmp_path_factory):
    return tmp_path_factory.mktemp("two") / "out"


@pytest.fixture(scope="module")
def two(folder_of_two):
    return run_distributed(everything, 2, folder_of_two, timeout_s=400.0)  # seconds, but for a busy machine


def same_gradients(ours, theirs):
    assert theirs[1] == pytest.approx(ours[1], rel=1e-6)
    assert len(theirs[0]) == len(ours[0]) == 7
    for batch, other in zip(ours[0], theirs[0], strict=True):
        assert [one is None for one in batch] == [two is None for two in other] == [False] * 4 + [True] * 2
        for one, two in zip(batch[:4], other[:4], strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-6, atol=1e-6)


def test_gradients_of_two_ranks_are_those_of_one(alone, two):
    for found in two:
        for theirs in found["gradients"]:
            same_gradients(alone["gradients"][0], theirs)


@pytest.mark.slow
def test_gradients_of_three_ranks_are_those_of_one(alone):
    for theirs in run_distributed(gradients_of_an_epoch, 3):
        same_gradients(alone["gradients"][0], theirs)


def test_a_training_of_two_ranks_is_that_of_one(alone, two):
    weights, outputs, history, _ = alone["training"]
    for found in two:
        their_weights, their_outputs, their_history, _ = found["training"]
        assert [row["dev"] for row in their_history] == [row["dev"] for row in history]
        for one, other in zip([*weights, *outputs], [*their_weights, *their_outputs], strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    assert two[0]["training"][3] != two[1]["training"][3]  # their dropout differs


def test_rank_0_writes_and_all_agree_on_what_is_done(alone, two, folder_of_two):
    """The second time seed 0 is there and seed 1 is not."""
    for found in two:
        assert found["seeds"] == found["seeds again"] == alone["seeds"]
    names = {path.name for path in folder_of_two.iterdir()}
    assert names == {
        *(f"seed_{i}{kind}" for i in range(2) for kind in (".json", ".predictions.json")),
        "results.json",
        "model",
    }
    assert json.loads((folder_of_two / "seed_1.json").read_text())["ranks"] == 2


def test_an_error_of_one_rank_is_one_of_all(two):
    text = "--data is not there"
    assert [found["errors"] for found in two] == [[text, f"rank 1: {text}", 0], [text, f"rank 1: {text}", 1]]
    assert [found["errors of the first"] for found in two] == [[text, 0]] * 2


def test_a_single_process_is_rank_0():
    assert (ranks.rank(), ranks.world(), ranks.share([1, 2]), ranks.gather(3)) == (0, 1, [1, 2], [3])
    with ranks.joined():
        assert not torch.distributed.is_initialized()


def test_ranks_wait_for_one_that_looks_through_a_large_corpus(monkeypatch):
    """Longer than torch's 10 (NCCL) or 30 minutes (gloo)."""
    given = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **more: given.update(more))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with ranks.joined():
        assert given["timeout"] >= timedelta(hours=12)


LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"],
    "deepspeed": ["-m", "deepspeed.launcher.runner", "--num_gpus", "2", "--module"],
}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_as_launched(tiny_model, tmp_path, repository, launcher):
    data = write_benchmark(tmp_path / "data", "iob")
    line = [sys.executable, *LAUNCHERS[launcher], "finetuning.bc5cdr", "--model", str(tiny_model), "--data", str(data)]
    line += ["--output", str(tmp_path / "out"), "--model-name", "m", "--seeds", "1", "--epochs", "3"]
    environment = {**os.environ, "LOCAL_SIZE": "2", "PYTHONPATH": str(repository)}

    def call(*more):
        done = subprocess.run([*line, *more], cwd=repository, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    status, text = call()
    assert status != 0
    assert text.count("error: ") == 1 and "is not a published split" in text
    status, text = call("--nonstandard-split")
    assert status == 0, text
    assert text.count("seed 0 epoch 3: loss") == 1
    (path,) = (tmp_path / "out").rglob("seed_0.json")
    assert json.loads(path.read_text())["ranks"] == 2
    shutil.rmtree(tmp_path / "out")
