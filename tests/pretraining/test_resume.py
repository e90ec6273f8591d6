"""Ranks that would go on from different checkpoints: a file system slow to show a file, a run that still writes."""

import os
from pathlib import Path

from pretraining import checkpoint
from tests.tiny import make_corpus
from tests.training_runs import flags_of, start_training, train


def see_an_older_checkpoint() -> None:
    """A hook: rank 1 finds the checkpoint of step 1."""
    original = checkpoint.find_checkpoint
    if os.environ["RANK"] == "1":
        checkpoint.find_checkpoint = lambda path: original(path).with_name("step_00000001")


def test_ranks_that_see_different_checkpoints_are_refused(tmp_path: Path) -> None:
    save = tmp_path / "run"
    flags = flags_of(make_corpus(tmp_path / "corpus", documents=20), save, train_iters=3, save_interval=1, load=save)
    train(tmp_path / "out0", 2, flags)
    (save / "checkpoints" / "latest").write_text("step_00000002\n")
    before = sorted(path.name for path in (save / "checkpoints").iterdir())
    run = start_training(tmp_path / "out1", 2, flags, see_an_older_checkpoint).wait()
    assert run.statuses == [1, 1], run.report()
    lines = (run.errors(0) + run.errors(1)).splitlines()
    assert len(lines) == 1 and "the checkpoint of step 1, that of rank 0 the one of step 2" in lines[0], run.report()
    assert sorted(path.name for path in (save / "checkpoints").iterdir()) == before
