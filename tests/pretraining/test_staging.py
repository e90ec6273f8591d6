"""Copies on a node's own disk: made once, checked, found again, never half there; a training that reads from them."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from pretraining import staging
from pretraining.staging import MARKER, stage_files
from tests.run_folders import metric_rows
from tests.tiny import make_corpus
from tests.training_runs import flags_of, start_training, train


@pytest.fixture
def source(tmp_path: Path) -> dict[Path, str]:
    """Two files and their SHA-256."""
    folder = tmp_path / "shared"
    folder.mkdir()
    for name, content in (("c.bin", os.urandom(100_000)), ("c.idx", b"index")):
        (folder / name).write_bytes(content)
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MARKER}


def test_files_are_copied_once_and_read_again(source: dict[Path, str], tmp_path: Path, monkeypatch) -> None:
    copies = stage_files(source, tmp_path / "node", "c.1")
    assert copies == tmp_path / "node" / "c.1"
    assert contents(copies) == {path.name: path.read_bytes() for path in source}
    marker = json.loads((copies / MARKER).read_text())
    assert {name: facts["sha256"] for name, facts in marker.items()} == {p.name: d for p, d in source.items()}
    assert not os.access(copies / "c.bin", os.W_OK) or os.getuid() == 0
    monkeypatch.setattr(staging, "_copy", lambda *_: pytest.fail("copied again"))
    assert stage_files(source, tmp_path / "node", "c.1") == copies


@pytest.mark.parametrize("harm", ["cut off", "changed", "no marker", "empty marker", "marker of nothing", "missing"])
def test_a_copy_that_changed_is_made_again(source: dict[Path, str], tmp_path: Path, harm: str) -> None:
    copies = stage_files(source, tmp_path / "node", "c.1")
    file, marker = copies / "c.bin", copies / MARKER
    file.chmod(0o600)
    if harm == "cut off":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "changed":
        file.write_bytes(b"x" + file.read_bytes()[1:])
    elif harm == "missing":
        file.unlink()
    elif harm == "no marker":
        marker.unlink()
    else:
        marker.write_text("" if harm == "empty marker" else "[]")
    stage_files(source, tmp_path / "node", "c.1")
    assert contents(copies) == {path.name: path.read_bytes() for path in source}
    assert sorted(path.name for path in copies.parent.iterdir()) == [".c.1.lock", "c.1"]


def test_a_damaged_source_is_refused_and_nothing_stays(source: dict[Path, str], tmp_path: Path) -> None:
    damaged = next(iter(source))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"c\.bin is damaged \(its checksum is not the manifest's\)"):
        stage_files(source, tmp_path / "node", "c.1")
    assert [path.name for path in (tmp_path / "node").iterdir()] == [".c.1.lock"]


def test_too_little_space_is_said_before_anything_is_copied(source, tmp_path: Path, monkeypatch) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(ValueError, match=r"--stage-data-to .*node has 0.00 GiB free, and 0.00 GiB are to be copied"):
        stage_files(source, tmp_path / "node", "c.1")
    assert [path.name for path in (tmp_path / "node").iterdir()] == [".c.1.lock"]


def test_a_folder_that_cannot_be_is_named(source: dict[Path, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"--stage-data-to .*file: .*give a folder on this node's own disk"):
        stage_files(source, tmp_path / "file", "c.1")


def stage_slowly(source: dict[Path, str], folder: Path, began) -> None:
    original = staging._copy_one

    def copy_one(path: Path, copy: Path) -> str:
        with (folder.parent / "copied").open("a") as file:
            file.write(f"{path.name}\n")
        began.set()
        time.sleep(0.5)
        return original(path, copy)

    staging._copy_one = copy_one
    stage_files(source, folder, "c.1")


def test_one_process_of_a_node_copies_and_a_killed_one_leaves_no_lock(source: dict[Path, str], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    began = context.Event()
    folder = tmp_path / "node"
    first = context.Process(target=stage_slowly, args=(source, folder, began))
    first.start()
    assert began.wait(20)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert not (folder / "c.1").exists() and (folder / ".c.1.partial").exists()
    (tmp_path / "copied").unlink()
    both = [context.Process(target=stage_slowly, args=(source, folder, began)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(20)
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "copied").read_text() == "c.bin\nc.idx\n"
    assert contents(folder / "c.1") == {path.name: path.read_bytes() for path in source}


def hide_source() -> None:
    """A hook: once a sample map is open, the shared corpus is gone: all reads go to the copies."""
    from pretraining import train as trainer

    original = trainer.open_samples

    def open_samples(config, corpus, split):
        samples = original(config, corpus, split)
        assert Path(samples.corpus.prefix).is_relative_to(config.data.stage_data_to)
        assert Path(samples.sample_map.filename).is_relative_to(config.data.stage_data_to)
        return samples

    trainer.open_samples = open_samples


def test_a_training_reads_from_the_copies(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", documents=20)
    flags = flags_of(corpus, tmp_path / "run", train_iters=3, stage_data_to=tmp_path / "node")
    train(tmp_path / "out0", 2, flags, hide_source)
    train(tmp_path / "out1", 2, flags_of(corpus, tmp_path / "plain", train_iters=3))
    assert metric_rows(tmp_path / "run") == metric_rows(tmp_path / "plain")
    staged = [path.name for path in (tmp_path / "node").iterdir() if not path.name.startswith(".")]
    assert len(staged) == 3  # the corpus, and the sample maps of training and validation

    (tmp_path / "full").write_text("")
    flags = flags_of(corpus, tmp_path / "other", train_iters=3, stage_data_to=tmp_path / "full")
    run = start_training(tmp_path / "out2", 2, flags).wait()
    assert run.statuses == [1, 1], run.report()
    assert "--stage-data-to" in run.errors(0) and "Traceback" not in run.report()
    assert not (tmp_path / "other").exists()
