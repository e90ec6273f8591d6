"""Freed memory stays with the process on a CPU, and nothing is touched elsewhere."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from pretraining import allocator
from pretraining.allocator import keep_freed_memory

# Least page faults of the last of many tensors that were freed one after another: small blocks settle between the first
FAULTS = """
import resource, torch
from pretraining.allocator import keep_freed_memory
print(keep_freed_memory(torch.device("cpu")) if {keep} else True)
faults = []
for _ in range(20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensor = torch.ones(2**24)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    del tensor
print(min(faults[-5:]))
"""
OTHER_ALLOCATORS = ("MALLOC_", "LD_PRELOAD", "GLIBC_TUNABLES")  # what would decide instead of us


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's: run it on a Linux with glibc")
def test_a_freed_tensor_s_pages_are_used_again() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OTHER_ALLOCATORS)}
    faults = []
    for keep in (False, True):
        output = subprocess.run(
            [sys.executable, "-c", FAULTS.format(keep=keep)],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout.split()
        assert output[0] == "True"
        faults.append(int(output[1]))
    assert faults[1] < faults[0] / 4  # here 0 of 16,385; of 32 where the system makes all pages huge


def test_gpus_and_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: asked.append(name) or object())
    assert not keep_freed_memory(torch.device("cuda")) and not asked
    assert not keep_freed_memory(torch.device("cpu")) and asked == [None]
