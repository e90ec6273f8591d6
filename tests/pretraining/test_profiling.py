"""The profile of a run: a trace that is JSON, a table of ten operators, and nothing where it is not asked for."""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.autograd import DeviceType

from pretraining.profiling import COSTLIEST, RECORDED, SKIPPED, WARM, StepProfile, operator_table


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


def test_on_a_gpu_no_kernel_counts_twice() -> None:
    """The profiler lists the operator that started a kernel, the kernel, and the step on the GPU's own timeline."""

    def event(key: str, device: DeviceType, microseconds: float, annotation: bool = False) -> SimpleNamespace:
        return SimpleNamespace(
            key=key,
            count=2,
            device_type=device,
            self_device_time_total=microseconds,
            self_cpu_time_total=1.0,
            is_user_annotation=annotation,
        )

    events = [
        event("aten::mm", DeviceType.CPU, 600.0),
        event("sm90_gemm", DeviceType.CUDA, 600.0),
        event("aten::gelu", DeviceType.CPU, 300.0),
        event("gelu_kernel", DeviceType.CUDA, 300.0),
        event("multi_tensor_adam", DeviceType.CUDA, 100.0),  # an extension starts it without an operator
        event("Torch-Compiled Region", DeviceType.CUDA, 1000.0, annotation=True),
    ]
    lines = operator_table(SimpleNamespace(key_averages=lambda: events), on_gpu=True).splitlines()
    assert lines[2:] == [
        "| aten::mm | 2 | 0.6 | 60.0% |",
        "| aten::gelu | 2 | 0.3 | 30.0% |",
        "| (kernels of no operator) | | 0.1 | 10.0% |",
    ]
