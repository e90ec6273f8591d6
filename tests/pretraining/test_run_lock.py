"""Two runs in one folder: the second waits for the end of the first, or is refused; neither spoils a checkpoint."""

import errno
import fcntl
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pretraining import checkpoint, run_lock
from pretraining import engine as engine_module
from tests.run_folders import run_state
from tests.tiny import make_corpus
from tests.training_runs import Run, flags_of, start_training, watch_steps

Corpus = tuple[Path, Path]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), documents=20)


def hold_steps(seen: Path, go: Path) -> None:
    """A hook: write down every step, and end none before the file `go` is there."""
    watch_steps(seen)
    original = engine_module.train_step

    def train_step(*given: Any) -> tuple:
        result = original(*given)
        deadline = time.monotonic() + 60
        while not go.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return result

    engine_module.train_step = train_step


def wait_until(condition: Callable[[], bool], *runs: Run) -> None:
    """Wait for a condition, as long as none of the runs has ended; at most a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert all(run.statuses[0] is None for run in runs), "\n".join(run.report() for run in runs)
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def start_held_run(folder: Path, flags: list[str]) -> Run:
    """A run in its first step, which lasts until folder / "go" is there."""
    run = start_training(folder / "first", 1, flags, partial(hold_steps, folder / "seen", folder / "go"))
    wait_until((folder / "seen" / "steps0.jsonl").exists, run)
    return run


def start_waiting_run(folder: Path, flags: list[str], first: Run) -> Run:
    """A second run, which has said that it waits for the first."""
    run, errors = start_training(folder / "second", 1, flags), folder / "second" / "rank0.err"
    wait_until(lambda: errors.exists() and "waiting for another run" in errors.read_text(), first, run)
    return run


def be_impatient() -> None:
    """A hook: hardly wait for the lock."""
    run_lock.WAIT_SECONDS = 0.2


def test_a_second_run_in_the_folder_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    save = tmp_path / "run"
    flags = flags_of(corpus, save, train_iters=4, load=save)
    first = start_held_run(tmp_path, flags)
    second = start_training(tmp_path / "second", 2, flags, be_impatient).wait()
    assert first.statuses == [None], first.report()
    (tmp_path / "go").touch()
    assert first.wait().statuses == [0], first.report()
    assert second.statuses == [1, 1], second.report()
    waiting, error = second.errors(0).splitlines()
    assert waiting == f"waiting for another run that writes to --save {save}"
    assert error.startswith(f"error: another run writes to --save {save}: wait for its end") and not second.errors(1)


def test_a_second_run_waits_for_the_end_of_the_first(corpus: Corpus, tmp_path: Path) -> None:
    save = tmp_path / "run"
    flags = flags_of(corpus, save, train_iters=4, save_interval=1, load=save)
    first = start_held_run(tmp_path, flags)
    second = start_waiting_run(tmp_path, flags, first)
    (tmp_path / "go").touch()
    assert (first.wait().statuses, second.wait().statuses) == ([0], [0]), first.report() + second.report()
    assert run_state(save) == {"status": "finished", "step": 4, "launch": "", "reason": ""}
    newest = checkpoint.find_checkpoint(save)
    assert newest.name == "step_00000004"
    checkpoint.verify_files(newest, checkpoint.read_manifest(newest))


def test_a_fresh_run_that_waited_does_not_overwrite_the_first(corpus: Corpus, tmp_path: Path) -> None:
    save = tmp_path / "run"
    flags = flags_of(corpus, save, train_iters=2)
    first = start_held_run(tmp_path, flags)
    second = start_waiting_run(tmp_path, flags, first)
    (tmp_path / "go").touch()
    assert (first.wait().statuses, second.wait().statuses) == ([0], [1]), first.report() + second.report()
    assert f"error: --save {save} holds a run already" in second.errors()


def test_a_file_system_without_locks_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    run_lock.lock_run(tmp_path)
