"""The engine on gloo ranks: every ZeRO stage and every number of ranks trains the same, and a step that is not finite
leaves the weights alone. Everything runs in two starts of ranks, one of one rank and one of two.
"""

import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from deepspeed.accelerator import get_accelerator
from torch import nn

from pretraining import engine as engine_module
from pretraining.batch import MaskedBatch
from pretraining.config import Config, batch_arithmetic
from pretraining.data import rank_share, training_steps
from pretraining.ds_config import load_ds_config, merge_ds_config
from pretraining.metrics import summarize
from pretraining.model import recompute_activations
from pretraining.objectives import build_objective
from pretraining.optim import learning_rate
from pretraining.training_state import whole_tensors
from tests.conftest import REPOSITORY
from tests.tiny import VOCAB_SIZE, make_corpus, open_samples, tiny_config
from tests.training_runs import on_ranks

STEPS = 6
# Everything that could come out differently is switched on: clipping, decay, warm-up, dropout, accumulation.
SETTINGS = {
    "seq_length": 32,
    "global_batch_size": 8,
    "micro_batch_size": 2,
    "train_iters": 20,
    "lr": 2e-3,
    "lr_warmup_iters": 3,
    "clip_grad": 1.0,
    "weight_decay": 0.01,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
}
FP32 = [f"zero{stage}_fp32" for stage in range(4)]
BF16 = ["zero1_bf16", "zero2_bf16", "zero3_bf16"]
FP16 = "zero1_fp16"
# (DeepSpeed JSON, what is NaN) of the runs that must end.
POISONED = [*((name, kind) for name in [*FP32, *BF16] for kind in ("loss", "gradient")), (FP16, "loss")]


def make_engine(config: Config, deepspeed_name: str) -> engine_module.Engine:
    """An engine with fresh weights under one of the files of ds_configs/."""
    _, world_size, device = engine_module.start_ranks()
    micro, accumulation = batch_arithmetic(config.optimizer, world_size)
    settings = load_ds_config(REPOSITORY / "ds_configs" / f"{deepspeed_name}.json")
    merged = merge_ds_config(settings, micro, accumulation, world_size, config.optimizer.clip_grad)
    objective = build_objective(config.model, VOCAB_SIZE, config.run.seed)
    if config.run.recompute_activations:
        recompute_activations(objective)
    return engine_module.initialize(objective, config.optimizer, merged, device)


def batches_of(config: Config, engine: engine_module.Engine):
    """This rank's micro-batches, step after step."""
    share = rank_share(engine.rank, engine.world_size, engine.accumulation)
    optimizer = config.optimizer
    return training_steps(open_samples(config), 0, optimizer.global_batch_size, optimizer.micro_batch_size, share)


def run_steps(config: Config, deepspeed_name: str) -> dict[str, Any]:
    """Losses, gradient norms and sample ids of STEPS steps, and the weights after them."""
    engine, optimizer = make_engine(config, deepspeed_name), config.optimizer
    losses, norms, samples = [], [], []
    for step, batches in zip(range(STEPS), batches_of(config, engine), strict=False):
        rate = learning_rate(step, optimizer.lr, optimizer.lr_warmup_iters, optimizer.train_iters)
        sums, norm = engine_module.train_step(engine, batches, rate, config.run.seed, step)
        losses.append(summarize(engine_module.reduce_sums(sums), (1.0, 50.0))["loss"])
        norms.append(float(norm))
        samples.append([batch.sample_ids for batch in batches])
    weights = whole_tensors(engine)
    engine.deepspeed.destroy()
    return {"losses": losses, "norms": norms, "samples": samples, "weights": weights}


def poison(kind: str, module: nn.Module, arguments: tuple[MaskedBatch], output: tuple) -> tuple:
    """A forward hook that makes the loss, or its gradient alone, NaN for micro-batch 1, which is on the last rank."""
    (batch,), (loss, sums) = arguments, output
    if batch.index == 1:
        if kind == "loss":
            loss = loss * math.nan
        else:
            loss.register_hook(lambda gradient: gradient * math.nan)
    return loss, sums


def run_poisoned(config: Config, deepspeed_name: str, kind: str) -> dict[str, Any]:
    """A good step, then NaN in one micro-batch until the engine gives up: its message, and whether weights changed."""
    engine = make_engine(config, deepspeed_name)
    steps, message, poisoned_steps = batches_of(config, engine), "", 0
    engine_module.train_step(engine, next(steps), 1e-3, config.run.seed, 0)
    before = whole_tensors(engine)
    handle = engine.module.register_forward_hook(partial(poison, kind))
    while not message and poisoned_steps < 2 * engine_module.FP16_SKIPS_ALLOWED:
        batches = next(steps)
        poisoned_steps += 1
        try:
            engine_module.train_step(engine, batches, 1e-3, config.run.seed, poisoned_steps)
        except engine_module.NonFiniteError as error:
            message = str(error)
    handle.remove()
    after = whole_tensors(engine)
    engine.deepspeed.destroy()
    return {
        "message": message,
        "poisoned_steps": poisoned_steps,
        "samples": [batch.sample_ids for batch in batches],
        "unchanged": all(torch.equal(before[name], after[name]) for name in before),
    }


def agreement() -> dict[str, Any]:
    """The small agreements between ranks."""
    rank, world_size, device = engine_module.start_ranks()
    sums = {"a": torch.full((2, 3), rank + 1.0, dtype=torch.float64), "b": torch.tensor(10.0, dtype=torch.float64)}
    result: dict[str, Any] = {
        "sums": {name: value.tolist() for name, value in engine_module.reduce_sums(sums).items()},
        "nobody": engine_module.any_rank(False, device),
        "somebody": engine_module.any_rank(rank == world_size - 1, device),
    }
    try:
        engine_module.on_rank_zero(lambda: Path("/nowhere/at/all").read_text())
    except ValueError as error:
        result["error"] = str(error)
    return result


def one_rank(corpus: tuple[Path, Path]) -> dict[str, Any]:
    """What one rank does alone."""
    whole = tiny_config(*corpus, **SETTINGS | {"micro_batch_size": 4})
    return {
        "1 x 2": run_steps(whole, "zero1_fp32"),
        "1 x 4": run_steps(tiny_config(*corpus, **SETTINGS), "zero1_fp32"),
    }


def two_ranks(corpus: tuple[Path, Path]) -> dict[str, Any]:
    """What two ranks do."""
    config = tiny_config(*corpus, **SETTINGS)
    # DeepSpeed asks whether a CPU is quick in fp16; torch computes it on any.
    type(get_accelerator()).is_fp16_supported = lambda self: True
    results: dict[str, Any] = {name: run_steps(config, name) for name in [*FP32, *BF16, FP16]}
    results["2 x 1"] = run_steps(tiny_config(*corpus, **SETTINGS | {"micro_batch_size": 4}), "zero1_fp32")
    for name, value in (("hidden_dropout", 0.0), ("clip_grad", 0.0), ("weight_decay", 0.0), ("lr_warmup_iters", 0)):
        results[f"without {name}"] = run_steps(tiny_config(*corpus, **SETTINGS | {name: value}), "zero1_fp32")
    recomputing = tiny_config(*corpus, **SETTINGS, recompute_activations=True)
    results["recomputing"] = run_steps(recomputing, "zero3_fp32")
    for name, kind in POISONED:
        results[f"{kind} of {name}"] = run_poisoned(config, name, kind)
    results["agreement"] = agreement()
    return results


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), documents=100)
    open_samples(tiny_config(*corpus, **SETTINGS))  # the sample map, which ranks would build both
    return corpus


@pytest.fixture(scope="module")
def alone(corpus: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return on_ranks(tmp_path_factory.mktemp("alone") / "out", 1, one_rank, corpus)[0]


@pytest.fixture(scope="module")
def together(corpus: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return on_ranks(tmp_path_factory.mktemp("together") / "out", 2, two_ranks, corpus)


@pytest.mark.parametrize("name", FP32)
def test_every_stage_has_the_same_losses_in_fp32(together: list[dict], name: str) -> None:
    theirs, ours = together[0]["zero1_fp32"], together[0][name]
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-6)
    assert ours["norms"] == pytest.approx(theirs["norms"], rel=1e-5)
    for parameter, weights in theirs["weights"].items():
        torch.testing.assert_close(ours["weights"][parameter], weights, rtol=1e-5, atol=1e-6)
    assert together[1][name]["losses"] == ours["losses"]


def test_recomputed_activations_change_nothing_where_the_weights_are_gathered(together: list[dict]) -> None:
    ours, theirs = together[0]["recomputing"], together[0]["zero3_fp32"]
    assert ours["losses"] == theirs["losses"] and ours["norms"] == theirs["norms"]


@pytest.mark.parametrize("name", ["hidden_dropout", "clip_grad", "weight_decay", "lr_warmup_iters"])
def test_what_the_stages_agree_on_is_switched_on(together: list[dict], name: str) -> None:
    with_it, without = together[0]["zero1_fp32"], together[0][f"without {name}"]
    largest = max(float((with_it["weights"][n] - without["weights"][n]).abs().max()) for n in with_it["weights"])
    assert largest > 1e-5
    assert min(with_it["norms"]) > 1.0  # so clipping to 1 had something to do in every step


@pytest.mark.parametrize(("theirs", "ours"), [("1 x 2", "2 x 1"), ("1 x 4", "zero1_fp32")])
def test_the_number_of_ranks_does_not_matter(alone: dict, together: list[dict], theirs: str, ours: str) -> None:
    assert together[0][ours]["losses"] == pytest.approx(alone[theirs]["losses"], rel=1e-6)
    assert together[0][ours]["norms"] == pytest.approx(alone[theirs]["norms"], rel=1e-5)
    for step, micro_batches in enumerate(alone[theirs]["samples"]):
        of_ranks = [together[rank][ours]["samples"][step] for rank in range(2)]
        turns = zip(*of_ranks, strict=True)
        assert [samples for turn in turns for samples in turn] == micro_batches


@pytest.mark.parametrize("name", BF16)
def test_bf16_follows_fp32(together: list[dict], name: str) -> None:
    theirs, ours = together[0]["zero1_fp32"], together[0][name]
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=0.02)
    assert ours["losses"] != theirs["losses"]


def test_fp16_finds_its_loss_scale_and_then_trains(together: list[dict]) -> None:
    norms, losses = together[0][FP16]["norms"], together[0][FP16]["losses"]
    skipped = [not math.isfinite(norm) for norm in norms]
    assert skipped[0] and not skipped[-1] and skipped == sorted(skipped, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(("name", "kind"), POISONED)
def test_a_step_that_is_not_finite_ends_on_every_rank_and_leaves_the_weights(
    together: list[dict], name: str, kind: str
) -> None:
    first, last = (together[rank][f"{kind} of {name}"] for rank in range(2))
    assert first["message"] == last["message"]
    # fp16 looks for its loss scale by overflowing, also in the step before: only a row of them is an error.
    expected_steps = engine_module.FP16_SKIPS_ALLOWED if name == FP16 else 1
    assert (first["poisoned_steps"], last["poisoned_steps"]) == (expected_steps, expected_steps)
    assert first["message"].startswith(f"step {expected_steps + 1}: the {kind} is not finite")
    # Micro-batch 1 is the first of rank 1; a gradient belongs to all samples of the step.
    guilty = last["samples"][:1] if kind == "loss" else [*first["samples"], *last["samples"]]
    named = [f"{epoch}:{sample}" for samples in guilty for epoch, sample in samples]
    assert f"(epoch:index) {', '.join(named)}." in first["message"]
    assert first["unchanged"]


def test_ranks_agree(together: list[dict]) -> None:
    for rank in range(2):
        result = together[rank]["agreement"]
        assert result["sums"] == {"a": [[3.0] * 3] * 2, "b": 20.0}
        assert (result["nobody"], result["somebody"]) == (False, True)
        assert "/nowhere/at/all" in result["error"]


def test_a_rank_ends_at_once_with_its_status() -> None:
    """Not through the end of the interpreter, where gloo's threads, which DeepSpeed keeps, sometimes abort."""
    work = (
        "import atexit; from pretraining.engine import end_rank, start_ranks; start_ranks()\n"
        "atexit.register(print, 'the interpreter ends'); print('written'); end_rank(75)"
    )
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    environment = os.environ | place | {"DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-c", work]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (75, "written\n"), result.stderr
