"""Reads what a run left in its folder, and compares two runs bit by bit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file, none of them with numbers that JSON does not have."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{path} has {name}, which is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text(encoding="utf-8").splitlines()]


def metric_rows(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl of a run without what depends on the clock."""
    clock = (
        "time", "seconds", "seconds_left", "data_wait_share",
        "tokens_per_second", "samples_per_second", "model_tflops", "mfu",
    )  # fmt: skip
    return [
        {name: value for name, value in row.items() if name not in clock} for row in read_rows(run / "metrics.jsonl")
    ]


def run_state(run: Path) -> dict[str, Any]:
    """run_state.json of a run."""
    return json.loads((run / "run_state.json").read_text(encoding="utf-8"))


def differing_tensors(ours: Path, theirs: Path) -> list[str]:
    """Names of what is not bitwise equal in two checkpoints: weights and the shards' weights, moments and counters.

    ZeRO-3's own copy of the weights is left out: its padding is memory that nobody has written. They are all in
    weights.safetensors.
    """
    different, compared = [], 0
    for path in sorted(theirs.rglob("*")):
        name = str(path.relative_to(theirs))
        if path.suffix == ".safetensors" and (ours / name).read_bytes() != path.read_bytes():
            different.append(name)
        if path.suffix == ".pt":
            pair = [dict(_leaves(torch.load(file / name, weights_only=False))) for file in (ours, theirs)]
            if pair[1].get("/optimizer_state_dict/zero_stage") == 3:
                pair = [{k: v for k, v in leaves.items() if "fp32_flat_groups" not in k} for leaves in pair]
            compared += len(pair[1])
            assert list(pair[0]) == list(pair[1]), f"{name} has other entries"
            different += [f"{name}:{key}" for key, value in pair[1].items() if not _same(pair[0][key], value)]
    assert compared > 20, f"nothing to compare in {theirs}"
    return different


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Tensors and numbers in nested dictionaries and lists, with their places; not what describes the program."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key not in ("ds_config", "ds_version"):
                yield from _leaves(part, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{name}/{number}")
    elif isinstance(value, torch.Tensor | int | float):
        yield name, value


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, torch.Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    return ours == theirs
