"""Checkpoints that are whole or not there: delayed saves, killed ones, and what is kept."""

import os
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pretraining import checkpoint, training_state
from pretraining.run_log import EXIT_STOPPED
from tests.run_folders import differing_tensors, run_state
from tests.tiny import make_corpus
from tests.training_runs import flags_of, start_training, train, watch_steps

Corpus = tuple[Path, Path]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), documents=20)


@pytest.fixture(scope="module")
def two_ranks(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of two ranks with checkpoints after 2, 4 and 6 steps."""
    folder = tmp_path_factory.mktemp("two")
    train(folder / "out", 2, flags_of(corpus, folder / "run", train_iters=6, save_interval=2, keep_checkpoints=0))
    return folder / "run"


def verify(folder: Path) -> None:
    checkpoint.verify_files(folder, checkpoint.read_manifest(folder))


def names_in(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def delay_rank_one() -> None:
    """A hook: rank 1 comes to every save two seconds late."""
    original = training_state.save_state

    def save_state(engine, folder):
        time.sleep(2.0 * engine.rank)
        return original(engine, folder)

    training_state.save_state = save_state


def test_latest_is_not_visible_before_everything_else(corpus: Corpus, tmp_path: Path) -> None:
    save = tmp_path / "run"
    run = start_training(tmp_path / "out", 2, flags_of(corpus, save, train_iters=2, eval_iters=0), delay_rank_one)
    folder, staging_seen, looks_after = save / "checkpoints", 0, 0
    while None in run.statuses:
        if (folder / "latest").exists():
            looks_after += 1
            verify(checkpoint.find_checkpoint(save))
        elif list(folder.glob("step_*.staging")):
            staging_seen += 1
            whole = [path for path in folder.glob("step_*") if not path.name.endswith(".staging")]
            assert all((path / "manifest.json").exists() for path in whole)
        time.sleep(0.01)
    assert run.wait().statuses == [0, 0], run.report()
    assert staging_seen > 50  # of two seconds
    assert names_in(save) == ["latest", "step_00000002"]
    tensors = sorted(path.name for path in (folder / "step_00000002").glob("*.safetensors"))
    assert tensors == ["exp_avg.safetensors", "exp_avg_sq.safetensors", "weights.safetensors"]


def kill_in_save(rank: int, step: int, where: str) -> None:
    """A hook: this rank is killed in this step's save: before or after its part of it, or where `latest` is written."""

    def dying(original: Callable, doomed: Callable[..., bool], first: bool) -> Callable:
        def wrapped(*arguments):
            if not doomed(*arguments):
                return original(*arguments)
            if not first:
                original(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        return wrapped

    if where == "latest":

        def doomed(path: Path, text: str) -> bool:
            return path.name == "latest" and str(step) in text

        checkpoint.write_atomically = dying(checkpoint.write_atomically, doomed, first=True)
    else:

        def doomed(engine, folder: Path) -> bool:
            return engine.rank == rank and str(step) in folder.name

        training_state.save_state = dying(training_state.save_state, doomed, first=where == "before")


@pytest.mark.parametrize(
    ("rank", "where"),
    [
        (1, "after"),
        (0, "latest"),
        pytest.param(1, "before", marks=pytest.mark.slow),
        pytest.param(0, "after", marks=pytest.mark.slow),
    ],
)
def test_a_rank_killed_while_saving_leaves_the_checkpoint_before(
    corpus: Corpus, two_ranks: Path, tmp_path: Path, rank: int, where: str
) -> None:
    save = tmp_path / "run"
    flags = flags_of(corpus, save, train_iters=6, save_interval=2, keep_checkpoints=0)
    began = time.monotonic()
    run = start_training(tmp_path / "out0", 2, flags, partial(kill_in_save, rank, 4, where)).wait(60)
    assert time.monotonic() - began < 45
    assert run.statuses[rank] == -signal.SIGKILL, run.report()
    assert run.statuses[1 - rank] not in (None, 0, 70, 75), run.report()
    assert run.left_in_memory() == []
    assert checkpoint.find_checkpoint(save).name == "step_00000002"
    verify(checkpoint.find_checkpoint(save))
    left_over = "step_00000004" if where == "latest" else "step_00000004.staging"
    assert names_in(save) == ["latest", "step_00000002", left_over]
    assert run_state(save)["status"] == "running"  # what a wrapper sees: neither finished nor stopped

    resumed = train(tmp_path / "out1", 2, [*flags, "--load", str(save), "--save-interval", "0"])
    assert "steps 2 to 6" in resumed.output()
    whole = [left_over] if where == "latest" else []  # a staging folder is cleaned away by the next save
    assert names_in(save) == ["latest", "step_00000002", *whole, "step_00000006"]
    assert differing_tensors(checkpoint.find_checkpoint(save), checkpoint.find_checkpoint(two_ranks)) == []


def test_a_run_killed_in_its_first_save_can_start_again(corpus: Corpus, tmp_path: Path) -> None:
    save = tmp_path / "run"
    flags = flags_of(corpus, save, train_iters=1, load=save)
    run = start_training(tmp_path / "out0", 1, flags, partial(kill_in_save, 0, 1, "after")).wait()
    assert run.statuses == [-signal.SIGKILL]
    assert names_in(save) == ["step_00000001.staging"]
    train(tmp_path / "out1", 1, flags)
    assert names_in(save) == ["latest", "step_00000001"]
    verify(checkpoint.find_checkpoint(save))


def test_only_the_newest_are_kept(corpus: Corpus, tmp_path: Path) -> None:
    save = tmp_path / "run"
    train(tmp_path / "out", 1, flags_of(corpus, save, train_iters=5, save_interval=1, keep_checkpoints=2))
    assert names_in(save) == ["latest", "step_00000004", "step_00000005"]
    assert checkpoint.find_checkpoint(save).name == "step_00000005"


def test_a_step_back_never_deletes_the_checkpoint_just_written(corpus: Corpus, tmp_path: Path) -> None:
    """Back to step 2, of which there are three later ones of the earlier try, more than are to be kept."""
    save = tmp_path / "run"
    flags = flags_of(corpus, save, train_iters=5, save_interval=1, keep_checkpoints=0)
    train(tmp_path / "out0", 1, flags)
    older = ["--load", str(save / "checkpoints" / "step_00000002"), "--keep-checkpoints", "2"]
    stop = partial(watch_steps, tmp_path / "seen", {(0, 3): signal.SIGTERM})
    train(tmp_path / "out1", 1, [*flags, *older], stop, status=EXIT_STOPPED)
    assert checkpoint.find_checkpoint(save).name == "step_00000003"
    verify(checkpoint.find_checkpoint(save))
    assert names_in(save) == ["latest", "step_00000003", "step_00000005"]


def kill_in_deletion() -> None:
    """A hook: this rank is killed when it has deleted one file of a whole checkpoint."""
    original = shutil.rmtree

    def rmtree(path, **options):
        if (Path(path) / checkpoint.MANIFEST).is_file():
            (Path(path) / training_state.WEIGHTS).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        original(path, **options)

    shutil.rmtree = rmtree


def test_killed_while_a_step_is_saved_again_no_half_checkpoint_has_its_name(corpus: Corpus, tmp_path: Path) -> None:
    """Back to step 1 and on to step 2, of which there is a checkpoint of the earlier try."""
    save = tmp_path / "run"
    flags = flags_of(corpus, save, train_iters=2, save_interval=1, keep_checkpoints=0)
    train(tmp_path / "out0", 1, flags)
    older = ["--load", str(save / "checkpoints" / "step_00000001")]
    run = start_training(tmp_path / "out1", 1, [*flags, *older], kill_in_deletion).wait()
    assert run.statuses == [-signal.SIGKILL], run.report()
    verify(checkpoint.find_checkpoint(save))
    train(tmp_path / "out2", 1, [*flags, *older])
    assert names_in(save) == ["latest", "step_00000001", "step_00000002"]
    verify(checkpoint.find_checkpoint(save))


def fill_the_disk() -> None:
    """A hook: from the first save on no file gets longer than a part of the weights."""
    original = training_state.save_state

    def save_state(engine, folder):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        return original(engine, folder)

    training_state.save_state = save_state


def test_a_disk_that_is_full_ends_all_ranks_with_one_sentence(corpus: Corpus, tmp_path: Path) -> None:
    save = tmp_path / "run"
    run = start_training(tmp_path / "out", 2, flags_of(corpus, save, train_iters=1), fill_the_disk).wait()
    assert run.statuses == [1, 1], run.report()
    lines = (run.errors(0) + run.errors(1)).splitlines()
    assert len(lines) == 1 and re.match(rf"error: {save}.*/weights\.safetensors cannot be written: ", lines[0])
    assert not (save / "checkpoints" / "latest").exists()
