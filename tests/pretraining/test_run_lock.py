"""Two runs in one folder: the second waits for the end of the first, or is refused; neither spoils a checkpoint."""

import errno
import fcntl
import time
from functools import partial
from pathlib import Path

import pytest

from pretraining import checkpoint, run_lock
from tests.run_folders import run_state
from tests.tiny import make_corpus
from tests.training_runs import Run, flags_of, start_training, watch_steps

Corpus = tuple[Path, Path]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), documents=20)


def start_slow_run(folder: Path, flags: list[str]) -> Run:
    """A run whose steps take half a second, once it has begun."""
    run = start_training(folder / "first", 1, flags, partial(watch_steps, folder / "seen", pause_s=0.5))
    while not (folder / "seen" / "steps0.jsonl").exists():
        assert run.statuses == [None], run.report()
        time.sleep(0.05)
    return run


def be_impatient() -> None:
    """A hook: hardly wait for the lock."""
    run_lock.WAIT_SECONDS = 0.2


def test_a_second_run_in_the_folder_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    save = tmp_path / "run"
    flags = flags_of(corpus, save, train_iters=20, load=save)
    first = start_slow_run(tmp_path, flags)
    second = start_training(tmp_path / "second", 2, flags, be_impatient).wait()
    assert first.statuses == [None], first.report()
    first.end()
    assert second.statuses == [1, 1], second.report()
    waiting, error = second.errors(0).splitlines()
    assert waiting == f"waiting for another run that writes to --save {save}"
    assert error.startswith(f"error: another run writes to --save {save}: wait for its end") and not second.errors(1)


def test_a_second_run_waits_for_the_end_of_the_first(corpus: Corpus, tmp_path: Path) -> None:
    save = tmp_path / "run"
    flags = flags_of(corpus, save, train_iters=4, save_interval=1, load=save)
    first = start_slow_run(tmp_path, flags)
    second = start_training(tmp_path / "second", 1, flags)
    assert (first.wait().statuses, second.wait().statuses) == ([0], [0]), first.report() + second.report()
    assert "waiting for another run" in second.errors()
    assert run_state(save) == {"status": "finished", "step": 4, "launch": "", "reason": ""}
    newest = checkpoint.find_checkpoint(save)
    assert newest.name == "step_00000004"
    checkpoint.verify_files(newest, checkpoint.read_manifest(newest))


def test_a_file_system_without_locks_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    run_lock.lock_run(tmp_path)
