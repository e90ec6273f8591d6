"""Profile of a few optimizer steps: a trace for a viewer and a table of the ten costliest operators.

    deepspeed launch/pretrain.sh --profile ...      # SAVE/profile/trace.json, SAVE/profile/operators.md

Steps: `StepProfile.advance` after every optimizer step of rank 0; the first steps warm up, two are recorded, and both
files are written. The trace opens in https://ui.perfetto.dev or chrome://tracing.
"""

from pathlib import Path

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, schedule

from pretraining.machine import uses_gpu

SKIPPED, WARM, RECORDED = 1, 1, 2  # optimizer steps
COSTLIEST = 10


def operator_table(recorded: profile, on_gpu: bool) -> str:
    """The ten operators with the most time of their own, as Markdown; the device's time where there is a GPU.

    There the profiler lists each kernel twice, by itself and in the operator that started it, and the names of ranges
    on the GPU's timeline besides: shares are of the kernels' time, rows are operators.
    """

    def own_time(event: object) -> float:  # microseconds
        return event.self_device_time_total if on_gpu else event.self_cpu_time_total

    named = [event for event in recorded.key_averages() if not event.key.startswith("ProfilerStep")]
    events = [event for event in named if event.device_type == DeviceType.CPU]
    kernels = [event for event in named if event.device_type != DeviceType.CPU and not event.is_user_annotation]
    total = sum(own_time(event) for event in (kernels if on_gpu else events))
    lines = ["| operator | calls | own time, ms | share |", "| --- | --- | --- | --- |"]
    for event in sorted(events, key=own_time, reverse=True)[:COSTLIEST]:
        share = own_time(event) / total if total else 0.0
        lines.append(f"| {event.key} | {event.count:,} | {own_time(event) / 1e3:,.1f} | {share:.1%} |")
    rest = total - sum(own_time(event) for event in events)
    if on_gpu and rest > 0:  # extensions start kernels without an operator: an optimizer's, say
        lines.append(f"| (kernels of no operator) | | {rest / 1e3:,.1f} | {rest / total:.1%} |")
    return "\n".join(lines) + "\n"


def write_profile(recorded: profile, folder: Path) -> None:
    """Write trace.json and operators.md into the folder, made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    recorded.export_chrome_trace(str(folder / "trace.json"))
    (folder / "operators.md").write_text(operator_table(recorded, uses_gpu()), encoding="utf-8")


class StepProfile:
    """Profiler of one rank's steps; does nothing where the folder is None."""

    def __init__(self, folder: Path | None):
        self.folder, self.written = folder, False
        self.profiler = None
        if folder is not None:
            self.profiler = profile(
                activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if uses_gpu() else [])],
                schedule=schedule(wait=0, skip_first=SKIPPED, warmup=WARM, active=RECORDED, repeat=1),
                on_trace_ready=self._write,
            )
            self.profiler.start()

    def _write(self, recorded: profile) -> None:
        write_profile(recorded, self.folder)
        self.written = True

    def advance(self) -> bool:
        """An optimizer step has ended. Returns whether the files have just been written."""
        if self.profiler is None:
            return False
        self.profiler.step()
        if self.written:
            self.profiler = None
        return self.written

    def close(self) -> None:
        """End a profile that has not got its steps; what it has recorded is thrown away."""
        if self.profiler is not None:
            self.profiler.on_trace_ready = None
            self.profiler.stop()
            self.profiler = None
