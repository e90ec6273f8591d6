"""How a process on a CPU keeps its memory: freed tensors stay with it, for the next step.

glibc gives every freed block above 32 MiB back to the system at once, and takes it anew, page by page and filled with
zeros, in the next operation. `small` trains up to 17 % faster without that (benchmarks/NOTES.md).

Steps: `keep_freed_memory` says so to glibc, once, before the first step; other C libraries are left as they are.
"""

import ctypes

import torch

# mallopt(3)
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
MOST = 2**31 - 1  # bytes at the end of the heap that may lie free: the largest number that it takes
PAD = 64 * 2**20  # bytes that the heap grows by beyond what was asked for


def keep_freed_memory(device: torch.device) -> bool:
    """Keep freed memory where tensors lie in the host's memory. Returns whether the C library took it."""
    if device.type != "cpu":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(key, value) == 1 for key, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, MOST), (M_TOP_PAD, PAD)))
