"""The trainer as a whole, in processes of its own: going on, taking weights over, exporting, ending on NaN."""

import json
import math
import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pretraining import checkpoint
from pretraining import engine as engine_module
from pretraining.export import PROBE_TEXT, export
from pretraining.run_log import EXIT_INVALID, EXIT_STOPPED
from tests.run_folders import differing_tensors, metric_rows, read_rows, run_state
from tests.tiny import make_corpus
from tests.training_runs import flags_of, on_ranks, start_training, steps_seen, train, watch_steps

Corpus = tuple[Path, Path]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """81 training samples of length 32: batches of 8 come to the end of an epoch within step 11."""
    return make_corpus(tmp_path_factory.mktemp("corpus"), documents=20)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """weights.safetensors of a run's newest checkpoint."""
    return safetensors.torch.load_file(checkpoint.find_checkpoint(run) / checkpoint.WEIGHTS)


def check_meter(run: Path) -> None:
    """Every training row, and TensorBoard at every step, has the meter's numbers; two ranks are hardly ever equal."""
    rows = [row for row in read_rows(run / "metrics.jsonl") if row["kind"] == "train"]
    board = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    for name in ("data_wait_share", "rank_imbalance", "mfu"):
        values = [row[name] for row in rows]
        assert all(0 <= value < 1 for value in values) and any(values), name
        events = board.Scalars(f"train/{name}")
        assert [event.step for event in events] == [row["step"] for row in rows]
        assert [event.value for event in events] == pytest.approx(values, rel=1e-5)


def check_profile(folder: Path) -> None:
    """A trace of two optimizer steps, forward and backward, and the table beside it."""
    names = Counter(event.get("name") for event in json.loads((folder / "trace.json").read_text())["traceEvents"])
    assert sum(name.startswith("ProfilerStep#") for name in names if name) >= 2
    assert names["aten::gelu"] and names["aten::gelu_backward"]
    assert (folder / "operators.md").read_text().startswith("| operator |")


# Going on


@pytest.mark.parametrize(
    "deepspeed_name",
    ["zero1_bf16", "zero3_fp32"]
    + [
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("zero1_fp32", "zero2_fp32", "zero2_bf16", "zero3_bf16", "zero0_fp32")
    ],
)
def test_a_stopped_run_goes_on_bit_by_bit(corpus: Corpus, tmp_path: Path, deepspeed_name: str) -> None:
    """Twelve steps at once, and six, new processes, six more: across the end of an epoch, with dropout, two ranks."""

    def flags(name: str, **more) -> list[str]:
        return flags_of(
            corpus,
            tmp_path / name,
            train_iters=12,
            hidden_dropout=0.1,
            attention_dropout=0.1,
            eval_interval=4,
            deepspeed_config=f"ds_configs/{deepspeed_name}.json",
            **more,
        )

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(tmp_path / "out0", 2, flags("whole", profile=True), partial(watch_steps, whole))
    check_meter(whole)
    check_profile(whole / "profile")
    # One rank alone is asked to stop, in its sixth step: both must.
    stop = {(0, 6): signal.SIGTERM}
    train(tmp_path / "out1", 2, flags("parts"), partial(watch_steps, parts, stop), status=EXIT_STOPPED)
    assert run_state(parts) | {"launch": ""} == {
        "status": "stopped", "step": 6, "launch": "", "reason": "signal SIGTERM",
    }  # fmt: skip
    first_rows = metric_rows(parts)
    train(tmp_path / "out2", 2, flags("parts", load=parts), partial(watch_steps, parts))

    theirs, ours = checkpoint.find_checkpoint(whole), checkpoint.find_checkpoint(parts)
    assert theirs.name == ours.name == "step_00000012"
    assert differing_tensors(ours, theirs) == []
    for rank in range(2):
        assert steps_seen(parts, rank) == steps_seen(whole, rank)
    epochs = {epoch for row in steps_seen(whole, 0)[6:] for batch in row["samples"] for epoch, _ in batch}
    assert epochs == {0, 1}  # the end of an epoch was in the second half
    assert metric_rows(parts) == metric_rows(whole)
    assert metric_rows(parts)[: len(first_rows)] == first_rows
    assert [row["step"] for row in metric_rows(parts) if row["kind"] == "train"] == list(range(1, 13))
    assert run_state(parts)["status"] == "finished"


def compile_anew(cache: Path, watched: Path, signals: dict[tuple[int, int], int] | None = None) -> None:
    """A hook: nothing that an earlier run compiled is taken; watch the steps."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
    watch_steps(watched, signals)


@pytest.mark.slow
def test_a_compiled_run_goes_on_bit_by_bit(corpus: Corpus, tmp_path: Path) -> None:
    """Six steps at once, and three, a new process that compiles anew and begins with another batch, and three more."""
    settings = {"train_iters": 6, "hidden_dropout": 0.1, "attention_dropout": 0.1, "compile": "on"}
    settings["deepspeed_config"] = "ds_configs/zero1_fp32.json"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run = train(
        tmp_path / "out0", 1, flags_of(corpus, whole, **settings), partial(compile_anew, tmp_path / "cache0", whole)
    )
    assert "torch.compile" in run.output(0)
    stop = {(0, 3): signal.SIGTERM}
    hook = partial(compile_anew, tmp_path / "cache1", parts, stop)
    train(tmp_path / "out1", 1, flags_of(corpus, parts, **settings), hook, status=EXIT_STOPPED)
    hook = partial(compile_anew, tmp_path / "cache2", parts)
    train(tmp_path / "out2", 1, flags_of(corpus, parts, load=parts, **settings), hook)
    assert differing_tensors(checkpoint.find_checkpoint(parts), checkpoint.find_checkpoint(whole)) == []
    assert metric_rows(parts) == metric_rows(whole)
    assert [row["step"] for row in metric_rows(parts) if row["kind"] == "train"] == list(range(1, 7))


# Taking weights over


def test_weights_are_taken_over_for_a_longer_length_or_from_an_export(corpus: Corpus, tmp_path: Path) -> None:
    """--finetune and --init-from start at step 0 with exactly the weights; step 0 has learning rate 0, so they stay."""
    first = tmp_path / "first"
    train(tmp_path / "out0", 1, flags_of(corpus, first, train_iters=4, seq_length=64))
    export(str(first), tmp_path / "exported", list(PROBE_TEXT))

    schedule = {"train_iters": 1, "lr_warmup_iters": 1, "seq_length": 128, "lr": 3e-3, "seed": 5}
    schedule["deepspeed_config"] = "ds_configs/zero1_fp32.json"  # in bf16, DeepSpeed starts from rounded weights
    taken, published = tmp_path / "taken", tmp_path / "published"
    runs = [
        start_training(
            tmp_path / "out1",
            1,
            flags_of(corpus, taken, finetune=True, load=first, **schedule),
            partial(watch_steps, taken),
        ),
        start_training(tmp_path / "out2", 1, flags_of(corpus, published, init_from=tmp_path / "exported", **schedule)),
    ]
    for run in runs:
        assert run.wait().statuses == [0], run.report()
    expected = weights_of(first)
    for folder in (taken, published):
        weights = weights_of(folder)
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert max(max(lengths) for row in steps_seen(taken, 0) for lengths in row["lengths"]) > 64
    # The same weights on the same data have the same losses, and better ones than chance has.
    assert metric_rows(published) == metric_rows(taken)
    assert [row["step"] for row in metric_rows(taken)] == [1, 1]
    fresh = metric_rows(first)[0]["loss"]
    assert metric_rows(taken)[0]["loss"] < 0.95 * fresh


def export_all(runs: list[Path]) -> list[float]:
    """Export every run beside itself; the largest difference of a logit of each."""
    return [max(difference for _, difference in export(str(run), run / "exported", list(PROBE_TEXT))) for run in runs]


def test_every_stage_exports_the_same_model(corpus: Corpus, tmp_path: Path) -> None:
    runs = [tmp_path / f"stage{stage}" for stage in range(4)]
    for stage, run in enumerate(runs):
        settings = {"train_iters": 3, "lr_warmup_iters": 0, "deepspeed_config": f"ds_configs/zero{stage}_fp32.json"}
        train(tmp_path / f"out{stage}", 2, flags_of(corpus, run, **settings))
    (differences,) = on_ranks(tmp_path / "out", 1, export_all, runs)
    assert max(differences) < 1e-5
    for half in ("discriminator", "generator"):
        first, *others = [safetensors.torch.load_file(run / "exported" / half / "model.safetensors") for run in runs]
        for other in others:
            assert list(other) == list(first)
            for name, tensor in first.items():
                torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=1e-6)


# Losses that are not finite


def spoil_a_step(watched: Path) -> None:
    """A hook: in the fourth step, the loss of rank 1 is NaN."""
    watch_steps(watched)
    original = engine_module.train_step

    def train_step(engine, batches, rate, seed, step):
        handle = None
        if step == 3 and engine.rank == 1:
            (watched / "spoiled.json").write_text(json.dumps([batch.sample_ids for batch in batches]))
            handle = engine.module.register_forward_hook(
                lambda module, batch, output: (output[0] * math.nan, output[1])
            )
        try:
            return original(engine, batches, rate, seed, step)
        finally:
            if handle:
                handle.remove()

    engine_module.train_step = train_step


@pytest.mark.parametrize("deepspeed_name", ["zero0_fp32", "zero1_bf16"])
def test_a_loss_that_is_not_finite_ends_the_run_and_says_where(
    corpus: Corpus, tmp_path: Path, deepspeed_name: str
) -> None:
    save = tmp_path / "run"
    flags = flags_of(corpus, save, train_iters=8, save_interval=2, deepspeed_config=f"ds_configs/{deepspeed_name}.json")
    run = train(tmp_path / "out", 2, flags, partial(spoil_a_step, tmp_path / "seen"), status=EXIT_INVALID)
    samples = json.loads((tmp_path / "seen" / "spoiled.json").read_text())
    named = ", ".join(f"{epoch}:{sample}" for batch in samples for epoch, sample in batch)
    lines = [line for line in run.errors(0).splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "error: " not in run.errors(1)
    assert f"step 4: the loss is not finite; samples (epoch:index) {named}." in lines[0]
    state = run_state(save)
    assert (state["status"], state["step"]) == ("invalid", 3)
    newest = checkpoint.find_checkpoint(save)
    assert newest.name == "step_00000002"
    checkpoint.verify_files(newest, checkpoint.read_manifest(newest))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights_of(save).values())
