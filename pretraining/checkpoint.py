"""Checkpoints that are whole or not there: staging folder, barrier, checksums, rename, and only then `latest`.

    RUN/checkpoints/step_00000100/   weights.safetensors, exp_avg.safetensors, exp_avg_sq.safetensors,
                                     config.json, tokenizer/, manifest.json
    RUN/checkpoints/latest           the name of the newest whole checkpoint

DeepSpeed alone writes to the final names, publishes `latest` before other ranks have finished, and loads flipped
bytes without a word (measured). Here: (1) all ranks gather and rank 0 writes into `step_N.staging`; (2) barrier; each
rank takes the SHA-256 of its share of the files; (3) rank 0 writes `manifest.json`, renames the folder, replaces
`latest`; (4) older checkpoints are pruned. Loading goes the other way: `latest` -> manifest -> checksums -> tensors.

Nothing in a checkpoint is a pickle, and nothing depends on the number of ranks or the ZeRO stage: a run goes on on
others, export and `--finetune` need no DeepSpeed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.distributed as dist

from pretraining import engine as engine_module
from pretraining import training_state
from pretraining.config import Config
from pretraining.corpus.tokenizer import save_tokenizer_files
from pretraining.training_state import WEIGHTS

FORMAT = 2  # 1 had DeepSpeed's shards instead of moments by name: its weights can be used, its run cannot go on
LATEST, MANIFEST, CONFIG, TOKENIZER = "latest", "manifest.json", "config.json", "tokenizer"
# Differences that do not change what is trained: where things are, how often they are written, how a batch is cut up.
FREE_TO_CHANGE = {
    "data": {"data_path", "tokenizer", "data_cache_path", "stage_data_to"},
    "optimizer": {"micro_batch_size"},
    "run": None,  # all but the seed, which is checked on its own
}


def checkpoint_folder(run: Path, step: int) -> Path:
    """Folder of the checkpoint after this many steps."""
    return run / "checkpoints" / f"step_{step:08d}"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Replace a small text file in one step, on disk before its name is."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def save_checkpoint(
    engine: engine_module.Engine, run: Path, config: Config, state: dict[str, Any], facts: dict[str, Any]
) -> Path:
    """Write the checkpoint of this step; every rank must call it. Returns its folder.

    state: step and consumed samples; facts: hashes that a later run must share (corpus).
    """
    final = checkpoint_folder(run, state["step"])
    staging = final.with_name(final.name + ".staging")

    def begin() -> None:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)

    def add_configuration() -> None:
        (staging / CONFIG).write_text(json.dumps(config.to_dict(), indent=2) + "\n", encoding="utf-8")
        (staging / TOKENIZER).mkdir()
        save_tokenizer_files(config.data.tokenizer, staging / TOKENIZER)

    def publish() -> None:
        manifest = {
            "format": FORMAT,
            **state,
            **facts,
            "counters": counters,
            "layout": layout(engine),
            "precision": engine.precision,
            "files": files,
        }
        write_atomically(staging / MANIFEST, json.dumps(manifest, indent=2) + "\n")
        if final.exists():  # the same step again, after a resume from an older checkpoint
            _take_name(final)
        os.replace(staging, final)
        _sync_folder(final.parent)
        write_atomically(final.parent / LATEST, final.name + "\n")
        _prune(final.parent, config.run.keep_checkpoints)

    # What fails on one rank, of a full disk, ends all of them, with one sentence.
    engine_module.on_rank_zero(begin)
    counters = training_state.save_state(engine, staging)
    engine_module.on_rank_zero(add_configuration)
    files = _hash_together(staging, engine)  # none is missing from here on
    engine_module.on_rank_zero(publish)
    engine_module.barrier()  # rank 0 may end after this, and with it what the others still wait for
    return final


def layout(engine: engine_module.Engine) -> dict[str, int]:
    """How the work was spread: what another start of the run may change."""
    return {"ranks": engine.world_size, "zero_stage": engine.stage, "micro_batch_size": engine.micro_batch_size}


def _hash_together(folder: Path, engine: engine_module.Engine) -> dict[str, dict[str, Any]]:
    """{relative name: {bytes, sha256}} of all files, each rank hashing (and syncing) its share."""
    names = None
    if engine.rank == 0:  # one rank looks through the folder
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    names = engine_module.from_rank_zero(names)

    def my_share() -> dict[str, dict[str, Any]]:
        mine = {}
        for name in names[engine.rank :: engine.world_size]:
            path = folder / name
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            mine[name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        return mine

    mine = engine_module.on_every_rank(my_share)
    shares: list[dict] = [{}] * engine.world_size
    dist.all_gather_object(shares, mine)
    return dict(sorted(item for share in shares for item in share.items()))


def _prune(folder: Path, keep: int) -> None:
    """Delete all but `keep` whole checkpoints, and what an interrupted save left; 0 keeps all.

    The one that `latest` names stays, and of the others the newest: after a step back there are later ones of an
    earlier try.
    """
    for leftover in [*folder.glob("step_*.staging"), *folder.glob("step_*.old")]:
        shutil.rmtree(leftover, ignore_errors=True)
    newest = (folder / LATEST).read_text(encoding="utf-8").strip()
    whole = [path for path in folder.glob("step_*") if (path / MANIFEST).is_file()]
    whole.sort(key=lambda path: (path.name == newest, path.name))
    for path in whole[:-keep] if keep else []:
        shutil.rmtree(_take_name(path), ignore_errors=True)


def _take_name(path: Path) -> Path:
    """Take a checkpoint's name away, lest a half-deleted one be taken for whole; return the folder, to be deleted."""
    doomed = path.with_name(path.name + ".old")
    shutil.rmtree(doomed, ignore_errors=True)  # of a deletion that was interrupted
    os.replace(path, doomed)
    return doomed


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint that --load names: itself, or the newest of a run folder. Raises ValueError where there is
    none.
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
        return path
    pointer = path / "checkpoints" / LATEST
    if not pointer.is_file():
        raise ValueError(f"--load {path}: no checkpoint there (neither {MANIFEST} nor checkpoints/{LATEST})")
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    folder = pointer.parent / name
    if not name or Path(name).name != name or not (folder / MANIFEST).is_file():
        others = sorted(p.name for p in pointer.parent.glob("step_*") if not p.suffix and (p / MANIFEST).is_file())
        instead = f"; whole ones there: {', '.join(others)}" if others else ""
        raise ValueError(
            f'{pointer} names "{name}", which is no whole checkpoint; give --load the folder of one{instead}'
        )
    return folder


def has_run(run: Path) -> bool:
    """Whether a run has left a checkpoint, whole or damaged, in this folder; one killed before its first left none."""
    folder = run / "checkpoints"
    return (folder / LATEST).exists() or any(not path.name.endswith(".staging") for path in folder.glob("step_*"))


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a checkpoint. Raises ValueError where it is not readable."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        assert manifest["format"] in (1, FORMAT) and manifest["files"]
        assert type(manifest["step"]) is int and manifest["step"] >= 0
        assert all(type(f["bytes"]) is int and type(f["sha256"]) is str for f in manifest["files"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise ValueError(
            f"{folder / MANIFEST} is damaged or of another version: give --load another checkpoint"
        ) from None
    return manifest


def verify_files(folder: Path, manifest: dict[str, Any], wanted: Callable[[str], bool] = lambda name: True) -> None:
    """Compare sizes and SHA-256 of a checkpoint's files with its manifest. Raises ValueError naming the first bad
    one.
    """
    for name, expected in manifest["files"].items():
        path = folder / name
        if not wanted(name):
            continue
        if not path.is_file():
            raise ValueError(f"{path} is missing: the checkpoint is not whole; give --load an earlier one")
        if path.stat().st_size != expected["bytes"] or sha256_of(path) != expected["sha256"]:
            raise ValueError(f"{path} is damaged (its checksum differs): give --load an earlier checkpoint")


def load_config(folder: Path) -> Config:
    """The configuration that a checkpoint was trained with."""
    try:
        return Config.from_dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / CONFIG} is damaged or of another version ({error})") from None


def load_weights(folder: Path, module: torch.nn.Module, verified: bool = False) -> None:
    """Fill a module from weights.safetensors, after its checksum. Raises ValueError where names or shapes differ."""
    if not verified:
        verify_files(folder, read_manifest(folder), lambda name: name == WEIGHTS)
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    fill_module(module, weights, str(folder))


def fill_module(module: torch.nn.Module, weights: dict[str, torch.Tensor], source: str) -> None:
    """Copy weights by parameter name; every parameter must be there in its shape. Raises ValueError naming the
    first.
    """
    parameters = dict(module.named_parameters())
    for name, parameter in parameters.items():
        if name not in weights:
            raise ValueError(f"{source} has no weights for {name}: it is of another objective or size")
        if weights[name].shape != parameter.shape:
            shapes = f"{tuple(weights[name].shape)} there, {tuple(parameter.shape)} here"
            raise ValueError(f"{source}: {name} has another shape ({shapes}); use the same --preset and vocabulary")
    surplus = sorted(set(weights) - set(parameters))
    if surplus:
        raise ValueError(f"{source} has weights that this model has not, such as {surplus[0]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def refuse_other_run(folder: Path, config: Config, facts: dict[str, Any], precision: str) -> dict[str, Any]:
    """The manifest of a checkpoint from which this run goes on exactly, on whatever ranks.

    Raises ValueError, listing what differs, where it would not.
    """
    manifest, theirs, ours = read_manifest(folder), load_config(folder).to_dict(), config.to_dict()
    different = [
        f"--{name.replace('_', '-')} {value} there, {ours[group].get(name)} here"
        for group, values in theirs.items()
        for name, value in values.items()
        if ours[group].get(name) != value
        and (name == "seed" if FREE_TO_CHANGE.get(group, ()) is None else name not in FREE_TO_CHANGE.get(group, ()))
    ]
    different += [
        f"{name} {manifest.get(name)} there, {value} here"
        for name, value in (facts | {"precision": precision}).items()
        if manifest.get(name) != value
    ]
    if different:
        raise ValueError(
            f"--load {folder} cannot go on exactly: {'; '.join(different)}. Give the same, or --finetune for the "
            "weights alone"
        )
    try:
        counters, spread = manifest["counters"], manifest["layout"]
        assert manifest["format"] == FORMAT and type(counters["optimizer_steps"]) is int
        assert all(type(spread[name]) is int and spread[name] >= 0 for name in ("ranks", "zero_stage"))
        assert type(spread["micro_batch_size"]) is int and spread["micro_batch_size"] > 0
        if precision == "fp16":
            assert all(type(counters["loss_scale"][name]) in (int, float) for name in training_state.LOSS_SCALE)
    except (KeyError, TypeError, AssertionError):
        raise ValueError(
            f"{folder / MANIFEST} is of another version: --finetune and export take its weights, but no run goes on "
            "from it"
        ) from None
    return manifest
