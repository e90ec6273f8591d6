"""Freed memory stays with the process on a CPU, and nothing is touched elsewhere."""

import resource
import subprocess
import sys

import pytest
import torch

from pretraining import allocator
from pretraining.allocator import keep_freed_memory

# Page faults of the last of many tensors that were freed one after another: small blocks settle between the first ones.
FAULTS = """
import resource, torch
from pretraining.allocator import keep_freed_memory
print(keep_freed_memory(torch.device("cpu")) if {keep} else True)
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensor = torch.ones(2**24)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    del tensor
print(faults)
"""


@pytest.mark.skipif(sys.platform != "linux" or resource.getpagesize() > 2**16, reason="glibc on Linux; faults by page")
def test_a_freed_tensor_s_pages_are_used_again() -> None:
    faults = []
    for keep in (False, True):
        output = subprocess.run(
            [sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True
        ).stdout.split()
        assert output[0] == "True"
        faults.append(int(output[1]))
    pages = 4 * 2**24 // resource.getpagesize()
    assert faults[0] > pages / 1000  # of 2 MiB each where the system has made them huge
    assert faults[1] < pages / 10_000


def test_gpus_and_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: asked.append(name) or object())
    assert not keep_freed_memory(torch.device("cuda")) and not asked
    assert not keep_freed_memory(torch.device("cpu")) and asked == [None]
