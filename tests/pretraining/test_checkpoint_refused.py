"""Checkpoints that are not loaded: damaged and hostile ones, those of other runs; never a silent start from zero."""

import json
import os
import pickle
import random
import shutil
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pretraining import checkpoint
from tests.tiny import make_corpus
from tests.training_runs import flags_of, start_training, train

Corpus = tuple[Path, Path]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"), documents=20)


@pytest.fixture(scope="module")
def one_rank(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one rank with checkpoints after 1 and 2 of 4 steps; it was stopped there."""
    folder = tmp_path_factory.mktemp("one")
    train(folder / "out", 1, flags_of(corpus, folder / "run", train_iters=4, save_interval=1, keep_checkpoints=0))
    for step in (3, 4):
        shutil.rmtree(checkpoint.checkpoint_folder(folder / "run", step))
    (folder / "run" / "checkpoints" / "latest").write_text("step_00000002\n")
    return folder / "run"


@pytest.fixture
def damaged(one_rank: Path, tmp_path: Path) -> Path:
    """A copy of that run, to be damaged."""
    return shutil.copytree(one_rank, tmp_path / "run")


def names_in(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def flip(path: Path) -> None:
    """Flip every bit of 64 bytes in the middle of a file."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def plant(path: Path, zipped: bool = False) -> None:
    """A payload instead of tensors, and its checksum in the manifest: who can write the one can the other."""
    payload = {"extra": Payload(path.parents[3] / "MARKER")}
    if zipped:
        torch.save(payload, path)
    else:
        path.write_bytes(pickle.dumps(payload))
    sign(path)


def rename_parameter(path: Path) -> None:
    tensors = safetensors.torch.load_file(path)
    tensors["other"] = tensors.pop(next(iter(tensors)))
    safetensors.torch.save_file(tensors, path)
    sign(path)


def forget_moment(path: Path) -> None:
    """A manifest without one of the files, which is not there either."""
    manifest = json.loads(path.read_text())
    del manifest["files"]["exp_avg.safetensors"]
    path.write_text(json.dumps(manifest))
    (path.parent / "exp_avg.safetensors").unlink()


def make_older(path: Path) -> None:
    """The manifest of a checkpoint of version 1, which had DeepSpeed's shards."""
    manifest = json.loads(path.read_text())
    del manifest["counters"], manifest["layout"]
    path.write_text(json.dumps(manifest | {"format": 1, "world_size": 1, "zero_stage": 1}))


def sign(path: Path) -> None:
    folder = path.parent
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][str(path.relative_to(folder))] = {
        "bytes": path.stat().st_size,
        "sha256": checkpoint.sha256_of(path),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


STEP = "checkpoints/step_00000002"
MOMENT, SQUARES = f"{STEP}/exp_avg.safetensors", f"{STEP}/exp_avg_sq.safetensors"
DAMAGE = {
    # what is damaged: (file, how, what the sentence must hold)
    "flipped moment": (MOMENT, flip, [MOMENT]),
    "flipped weights": (f"{STEP}/weights.safetensors", flip, ["weights.safetensors"]),
    "truncated moment": (MOMENT, truncate, [MOMENT]),
    "missing moment": (SQUARES, Path.unlink, [SQUARES, "missing"]),
    "empty moment": (SQUARES, lambda path: path.write_bytes(b""), [SQUARES]),
    "signed away": (f"{STEP}/manifest.json", forget_moment, [MOMENT]),
    "version before": (f"{STEP}/manifest.json", make_older, [f"{STEP}/manifest.json", "--finetune"]),
    "truncated manifest": (f"{STEP}/manifest.json", truncate, [f"{STEP}/manifest.json"]),
    "empty manifest": (f"{STEP}/manifest.json", lambda path: path.write_text(""), [f"{STEP}/manifest.json"]),
    "manifest of nothing": (f"{STEP}/manifest.json", lambda path: path.write_text("{}"), [f"{STEP}/manifest.json"]),
    "missing manifest": (f"{STEP}/manifest.json", Path.unlink, ["checkpoints/latest", "step_00000001"]),
    "flipped settings": (f"{STEP}/config.json", truncate, [f"{STEP}/config.json"]),
    "missing latest": ("checkpoints/latest", Path.unlink, ["--load", "no checkpoint"]),
    "empty latest": ("checkpoints/latest", lambda path: path.write_text(""), ["checkpoints/latest", "step_00000001"]),
    "binary latest": ("checkpoints/latest", lambda path: path.write_bytes(b"\xff\xfe\x00"), ["checkpoints/latest"]),
    "latest a folder": ("checkpoints/latest", make_directory, ["checkpoints/latest"]),
    "latest elsewhere": (
        "checkpoints/latest",
        lambda path: path.write_text("../checkpoints/step_00000001\n"),
        ["checkpoints/latest", "../checkpoints/step_00000001"],
    ),
    "latest in vain": ("checkpoints/latest", lambda path: path.write_text("step_00000007\n"), ["step_00000007"]),
    "payload": (MOMENT, plant, [MOMENT, "safetensors"]),
    "payload of torch": (f"{STEP}/weights.safetensors", partial(plant, zipped=True), ["weights.safetensors"]),
    "other model": (MOMENT, rename_parameter, [MOMENT, "does not fit"]),
}


def test_damage_ends_in_one_sentence_and_never_in_a_fresh_start(corpus: Corpus, one_rank: Path, tmp_path: Path) -> None:
    runs, contents = {}, {}
    for number, (name, (file, damage, _)) in enumerate(DAMAGE.items()):
        folder = shutil.copytree(one_rank, tmp_path / str(number) / "run")
        damage(folder / file)
        contents[name] = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        # --load equal to --save starts fresh only where nothing has ever been.
        runs[name] = start_training(tmp_path / f"out{number}", 1, flags_of(corpus, folder, train_iters=4, load=folder))
        if number % 4 == 3:
            runs[name].wait()
    problems = []
    for number, (name, (_, _, expected)) in enumerate(DAMAGE.items()):
        try:
            sentence = runs[name].wait().mistake()
            assert all(words in sentence for words in expected), sentence
            folder = tmp_path / str(number)
            assert {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()} == contents[name]
            assert not (folder / "MARKER").exists()
        except AssertionError as error:
            problems.append(f"=== {name}: {error}")
    assert not problems, "\n".join(problems)


def test_the_planted_payload_would_have_worked(damaged: Path) -> None:
    """Or the tests above show nothing."""
    plant(damaged / MOMENT)
    pickle.loads((damaged / MOMENT).read_bytes())
    assert (damaged.parent / "MARKER").exists()


def test_two_ranks_say_once_what_is_damaged(corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(tmp_path / "out0", 2, flags_of(corpus, folder, train_iters=1))
    flip(folder / "checkpoints/step_00000001/exp_avg.safetensors")
    run = start_training(tmp_path / "out1", 2, flags_of(corpus, folder, train_iters=1, load=folder)).wait()
    assert run.statuses == [1, 1], run.report()
    said = [line for rank in range(2) for line in run.errors(rank).splitlines()]
    assert [line for line in said if "Warning" not in line and line.startswith("error: ")] == [said[0]]
    assert "exp_avg.safetensors" in said[0] and "Traceback" not in run.report()


@pytest.mark.parametrize("seed", range(40))
def test_a_manifest_with_anything_wrong_is_no_crash(damaged: Path, seed: int) -> None:
    """Entries of the manifest removed or of another kind: ValueError or nothing, never another error."""
    random.seed(seed)
    path = damaged / STEP / "manifest.json"
    manifest = json.loads(path.read_text())
    place, name = manifest, random.choice(list(manifest))
    while isinstance(place[name], dict) and random.random() < 0.8:
        place, name = place[name], random.choice(list(place[name]))
    if random.random() < 0.3:
        del place[name]
    else:
        place[name] = random.choice([None, "a", 1.5, [], {}, {"bytes": 1}, -1])
    path.write_text(json.dumps(manifest))
    config = checkpoint.load_config(damaged / STEP)
    original = json.loads((damaged / "checkpoints/step_00000001/manifest.json").read_text())
    facts = {key: original[key] for key in ("bin_sha256", "idx_sha256", "tokenizer_sha256")}
    try:
        folder = checkpoint.find_checkpoint(damaged)
        checkpoint.refuse_other_run(folder, config, facts, "fp32")
        checkpoint.verify_files(folder, checkpoint.read_manifest(folder))
        assert isinstance(checkpoint.read_manifest(folder)["step"], int)
    except ValueError as error:
        assert str(STEP) in str(error)


def test_another_run_is_refused_with_all_that_differs(corpus: Corpus, one_rank: Path, tmp_path: Path) -> None:
    other = make_corpus(tmp_path / "other", documents=20, seed=1)
    cases = {
        "shape": (
            {"hidden_size": 128, "num_layers": 1},
            ["--hidden-size 64 there, 128 here", "--num-layers 2 there, 1 here"],
        ),
        "preset": ({"preset": "small"}, ["--preset tiny there, small here", "--hidden-size 64 there, 256 here"]),
        "corpus": ({"data_path": other[0]}, ["bin_sha256", "idx_sha256"]),
        "seed": ({"seed": 4321}, ["--seed 1234 there, 4321 here"]),
        "precision": ({"deepspeed_config": "ds_configs/zero1_bf16.json"}, ["precision fp32 there, bf16 here"]),
        "schedule": (
            {"lr": 0.5, "global_batch_size": 16, "seed": 1},
            ["--lr 0.001 there, 0.5 here", "--global-batch-size 8 there, 16 here", "--seed 1234 there, 1 here"],
        ),
    }  # fmt: skip
    runs = {}
    for number, (name, (settings, _)) in enumerate(cases.items()):
        flags = flags_of(corpus, tmp_path / f"run{number}", train_iters=4, load=one_rank, **settings)
        runs[name] = start_training(tmp_path / f"out{number}", 1, flags)
        if number % 4 == 3:
            runs[name].wait()
    for number, (name, (_, expected)) in enumerate(cases.items()):
        sentence = runs[name].wait().mistake()
        assert str(one_rank / STEP) in sentence, (name, sentence)
        assert all(words in sentence for words in expected), (name, sentence)
        assert not (tmp_path / f"run{number}").exists()


def test_what_does_not_change_the_training_may_change(corpus: Corpus, damaged: Path, tmp_path: Path) -> None:
    """A corpus that was moved, other micro-batches, other intervals, another folder to save in."""
    moved = shutil.copytree(corpus[0].parent, tmp_path / "moved")
    flags = flags_of(
        (moved / "c", moved / "tokenizer"),
        tmp_path / "saved",
        train_iters=4,
        load=damaged,
        micro_batch_size=4,
        log_interval=2,
        eval_iters=0,
        keep_checkpoints=1,
    )
    run = train(tmp_path / "out", 1, flags)
    assert "steps 2 to 4" in run.output()
    assert checkpoint.find_checkpoint(tmp_path / "saved").name == "step_00000004"
