"""Stopping before the last step: signals, the end of the time, a launcher that is gone; always with a checkpoint."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pretraining import checkpoint
from pretraining.run_log import EXIT_STOPPED
from pretraining.stopping import SIGNALS, StopRequest
from tests.run_folders import differing_tensors, metric_rows, run_state
from tests.tiny import make_corpus
from tests.training_runs import flags_of, start_training, steps_seen, train, watch_steps


@pytest.fixture
def own_signals() -> Iterator[None]:
    """Signal handlers as they were before the test."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_signals_are_noted_and_the_first_one_is_the_reason(own_signals: None, number: signal.Signals) -> None:
    request = StopRequest(None)
    assert not request.wanted()
    os.kill(os.getpid(), number)
    assert request.wanted()
    assert request.reason == f"signal {number.name}"


def test_the_last_checkpoint_still_fits_into_the_time(own_signals: None) -> None:
    request = StopRequest(limit_minutes=10)
    assert not request.wanted()
    request.saved_in(200)
    request.saved_in(1)
    assert not request.wanted()  # 400 of 600 seconds are for the checkpoint
    request.started -= 150
    assert not request.wanted()
    request.started -= 60
    assert request.wanted() and request.reason == "--exit-duration-in-mins"


def test_another_step_and_the_first_checkpoint_fit_too(own_signals: None) -> None:
    request = StopRequest(limit_minutes=10)
    request.started -= 400
    assert not request.wanted()  # a first step of 400 s, which has compiled, is not expected again
    request.asked -= 100
    assert not request.wanted()  # 500 s are over: a step of 100 s and twice the guessed 30 s are to come
    request.started -= 45
    assert request.wanted()


def test_without_a_limit_time_does_not_matter(own_signals: None) -> None:
    request = StopRequest(None)
    request.started -= 10**9
    assert not request.wanted()


def test_a_launcher_that_is_gone_ends_the_run(own_signals: None, monkeypatch: pytest.MonkeyPatch) -> None:
    request = StopRequest(None)
    assert not request.wanted()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert request.wanted() and "launcher" in request.reason


def wait_for(condition, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def test_a_signal_to_all_ranks_leaves_one_checkpoint_from_which_the_run_goes_on(tmp_path: Path) -> None:
    """Like a scheduler, from outside, and more than once; the weights at the end are those of an undisturbed run."""
    corpus = make_corpus(tmp_path / "corpus", documents=20)
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"

    def flags(save: Path, **more) -> list[str]:
        return flags_of(corpus, save, train_iters=8, hidden_dropout=0.1, keep_checkpoints=0, **more)

    train(tmp_path / "out0", 2, flags(undisturbed))

    seen = tmp_path / "seen"
    slowly = partial(watch_steps, seen, pause_s=0.4)
    run = start_training(tmp_path / "out1", 2, flags(stopped), slowly)
    wait_for(lambda: (seen / "steps1.jsonl").exists() and len(steps_seen(seen, 1)) >= 2)
    while None in run.statuses:  # again and again, so also while the checkpoint is written
        for rank, status in enumerate(run.statuses):
            if status is None:
                run.signal(signal.SIGTERM, rank)
        time.sleep(0.05)
    assert run.wait().statuses == [EXIT_STOPPED, EXIT_STOPPED], run.report()
    state = run_state(stopped)
    assert (state["status"], state["reason"]) == ("stopped", "signal SIGTERM")
    assert 2 <= state["step"] < 8
    (folder,) = (stopped / "checkpoints").glob("step_*")
    assert folder == checkpoint.find_checkpoint(stopped)
    assert checkpoint.read_manifest(folder)["step"] == state["step"]

    train(tmp_path / "out2", 2, flags(stopped, load=stopped))
    assert differing_tensors(checkpoint.find_checkpoint(stopped), checkpoint.find_checkpoint(undisturbed)) == []
    assert metric_rows(stopped) == metric_rows(undisturbed)
    assert run_state(stopped)["status"] == "finished"


def test_a_run_whose_time_is_over_stops_with_a_checkpoint(tmp_path: Path) -> None:
    corpus, save = make_corpus(tmp_path / "corpus", documents=20), tmp_path / "run"
    flags = flags_of(corpus, save, train_iters=50, exit_duration_in_mins=1e-4)
    run = train(tmp_path / "out", 2, flags, status=EXIT_STOPPED)
    state = run_state(save)
    assert (state["status"], state["step"], state["reason"]) == ("stopped", 1, "--exit-duration-in-mins")
    assert checkpoint.find_checkpoint(save).name == "step_00000001"
    assert "stopped after step 1" in run.output(0) and run.output(1).count("stopped") == 0
