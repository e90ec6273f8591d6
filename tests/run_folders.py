"""Reads what a run left in its folder, and compares two runs bit by bit."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
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
    """Names of what is not bitwise equal in two checkpoints: weights, moments and counters."""
    different = []
    for path in sorted(theirs.glob("*.safetensors")):
        pair = [safetensors.torch.load_file(file / path.name) for file in (ours, theirs)]
        assert list(pair[0]) == list(pair[1]), f"{path.name} has other entries"
        different += [f"{path.name}:{name}" for name, value in pair[1].items() if not torch.equal(pair[0][name], value)]
    assert len(list(theirs.glob("*.safetensors"))) == 3 and len(pair[1]) > 20, f"nothing to compare in {theirs}"
    counters = [json.loads((file / "manifest.json").read_text(encoding="utf-8"))["counters"] for file in (ours, theirs)]
    return different if counters[0] == counters[1] else [*different, "counters"]
