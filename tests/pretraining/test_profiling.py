"""The profile of a run: a trace that is JSON, a table of ten operators, and nothing where it is not asked for."""

import json
from pathlib import Path

import torch

from pretraining.profiling import COSTLIEST, RECORDED, SKIPPED, WARM, StepProfile


def step() -> None:
    left = torch.randn(64, 64, requires_grad=True)
    torch.nn.functional.gelu(left @ left).softmax(-1).sum().backward()


def test_two_steps_are_recorded_and_written_once(tmp_path: Path) -> None:
    profile, written = StepProfile(tmp_path / "profile"), []
    for _ in range(SKIPPED + WARM + RECORDED + 3):
        step()
        written.append(profile.advance())
    assert written.index(True) == SKIPPED + WARM + RECORDED - 1 and sum(written) == 1
    events = json.loads((tmp_path / "profile/trace.json").read_text())["traceEvents"]
    assert sum(event.get("name") == "aten::gelu" for event in events) == RECORDED
    lines = (tmp_path / "profile/operators.md").read_text().splitlines()
    assert lines[0].startswith("| operator |") and len(lines) == 2 + COSTLIEST
    shares = [float(line.split("|")[4].strip(" %")) for line in lines[2:]]
    assert shares == sorted(shares, reverse=True) and 50 < sum(shares) <= 100.5
    assert any("aten::mm" in line for line in lines)


def test_nothing_is_profiled_where_nobody_asks(tmp_path: Path) -> None:
    profile = StepProfile(None)
    assert not profile.advance()
    profile.close()
    assert list(tmp_path.iterdir()) == []
