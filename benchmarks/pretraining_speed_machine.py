"""What the machine is and what it uses: clock, memory of a step, device, commit.

No command of its own; see `python -m benchmarks.pretraining_speed --help`.

Steps: `clock_of` is what time is read from; `StepMemory` is what a step needs above what lies there between steps;
`describe_machine` says what it ran on. The rate of matrix products is measured by pretraining/meter.py, as in a run.
"""

import ctypes
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pretraining.machine import commit_of_code, name_of_device

CLEAR_PEAK = "5"  # written to clear_refs, sets VmHWM of the process back (proc(5))


def clock_of(name: str) -> Callable[[], float]:
    """A clock in seconds: "wall", or "processor", the seconds of this process's threads over their number.

    The processor's does not count the time that other programs take; it is of no use where a GPU computes.
    """
    threads = torch.get_num_threads()
    return time.perf_counter if name == "wall" else lambda: time.process_time() / threads


class StepMemory:
    """Largest memory of the device (GPU) or of the process (CPU) above what lay there at the last `reset`, in bytes.

    What lies there between steps, weights and moments of every network of the process, is not a step's own.
    """

    def __init__(self, device: torch.device):
        self.device, self.before = device, 0

    def reset(self) -> None:
        """Begin anew."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
            if trim:  # so that a step's memory is not taken from what another one has left
                trim(0)
            try:
                Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
            except OSError:
                pass  # some containers forbid it: read() then says by how much the peak of the whole run has grown
        self.before = self._peak()

    def read(self) -> int:
        """Bytes."""
        return self._peak() - self.before

    def _peak(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        status = Path("/proc/self/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


def describe_machine(device: torch.device) -> dict[str, str | int]:
    """Device, instructions, threads, versions, commit and command."""
    return {
        "device": name_of_device(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit_of_code(),
        "command": " ".join(["python -m benchmarks.pretraining_speed", *sys.argv[1:]]),
    }
