"""Starts without progress: counted over a submission, ended by one sentence, never for people who start by hand."""

import os
from functools import partial
from pathlib import Path

import pytest

from pretraining import checkpoint
from pretraining import engine as engine_module
from pretraining.restarts import STARTS, note_start, refuse_endless_restarts
from pretraining.run_log import EXIT_STOPPED
from tests.run_folders import run_state
from tests.tiny import make_corpus
from tests.training_runs import flags_of, train

SUBMISSION = {"PRETRAINING_SUBMISSION": "a-1", "STARTS_WITHOUT_PROGRESS": "2"}


@pytest.fixture
def submission(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SUBMISSION.items():
        monkeypatch.setenv(name, value)


def start(run: Path, step: int) -> None:
    refuse_endless_restarts(run, step)
    note_start(run, step)


def test_starts_at_the_same_step_are_counted(submission: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (0, 0, 5, 5):
        start(tmp_path, step)
    for _ in range(2):  # and it stays refused
        with pytest.raises(
            ValueError, match=r"^2 starts of this job in a row ended without a checkpoint beyond step 5,"
        ):
            start(tmp_path, 5)
    monkeypatch.setenv("STARTS_WITHOUT_PROGRESS", "0")
    refuse_endless_restarts(tmp_path, 5)
    monkeypatch.setenv("STARTS_WITHOUT_PROGRESS", "2")
    monkeypatch.setenv("PRETRAINING_SUBMISSION", "a-2")  # submitted again by somebody who has looked
    start(tmp_path, 5)


def test_a_run_that_is_started_by_hand_is_never_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SUBMISSION:
        monkeypatch.delenv(name, raising=False)
    for _ in range(9):
        start(tmp_path, 0)
    assert not (tmp_path / STARTS).exists()


def test_a_limit_that_is_no_number(submission: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARTS_WITHOUT_PROGRESS", "many")
    with pytest.raises(ValueError, match="STARTS_WITHOUT_PROGRESS is 'many'"):
        refuse_endless_restarts(tmp_path, 0)


def in_a_job(end_before: int) -> None:
    """A hook: a rank of a job, whose node is taken away in this step, with the status that queues the job again."""
    original = engine_module.train_step

    def train_step(engine: engine_module.Engine, batches: list, rate: float, seed: int, step: int) -> tuple:
        if step + 1 == end_before:
            os._exit(EXIT_STOPPED)
        return original(engine, batches, rate, seed, step)

    os.environ.update(SUBMISSION)
    engine_module.train_step = train_step


@pytest.mark.slow
def test_a_job_that_gets_nowhere_is_not_queued_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fast = {"train_iters": 6, "eval_iters": 0, "save_interval": 2, "deepspeed_config": "ds_configs/zero1_fp32.json"}
    flags = flags_of(make_corpus(tmp_path, documents=20), run, load=run, **fast)
    for number, end_before in enumerate((2, 4, 4)):  # one start without progress, one with a checkpoint at step 2
        train(tmp_path / f"out{number}", 1, flags, partial(in_a_job, end_before), status=EXIT_STOPPED)
    assert checkpoint.find_checkpoint(run).name == "step_00000002"
    train(tmp_path / "out3", 1, flags, partial(in_a_job, 3), status=EXIT_STOPPED)
    refused = train(tmp_path / "out4", 1, flags, partial(in_a_job, 0), status=1)
    assert "error: 2 starts of this job in a row ended without a checkpoint beyond step 2," in refused.mistake()
    train(tmp_path / "out5", 1, flags)  # by hand
    assert run_state(run)["status"] == "finished"
    train(tmp_path / "out6", 1, flags, partial(in_a_job, 0))  # the rest of a chain has nothing to do
