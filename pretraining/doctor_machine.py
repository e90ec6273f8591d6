"""What the preflight looks at on each machine: versions, devices, kernels, compilers.

Steps: each function looks at one thing and returns rows (doctor_report.py); doctor.py calls them on every rank.
"""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pretraining.attention import attention_by_sample
from pretraining.config import Config
from pretraining.doctor_report import Row, note, ok, problem
from pretraining.ds_config import offloads_optimizer, precision, precision_of_hardware
from pretraining.fused import compute_dtype, kernel_table, resolve_attention
from pretraining.machine import REPOSITORY, uses_gpu

NAMES = ("torch", "deepspeed", "transformers", "tokenizers", "safetensors", "numpy")
STALE_LOCK_SECONDS = 600  # compiling an operator takes a minute or two
ATTENTION_TOLERANCE, HALF_TOLERANCE = 1e-5, 2e-2  # of values near 1, in fp32 and in bf16 or fp16


def versions() -> list[Row]:
    """Versions against requirements.txt. Ranks that differ get a row each."""
    lines = (REPOSITORY / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split()[0].split("==") for line in lines if "==" in line.split("#")[0])
    found, wrong = {}, []
    for name in NAMES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is not installed")
            continue
        if found[name].split("+")[0] != pinned[name]:
            wrong.append(f"{name} {found[name]}, tested with {pinned[name]}")
    cure = "install what requirements.txt says: bash tests/run.sh, or pip install -r requirements.txt"
    if wrong:
        return [problem("versions", "; ".join(wrong), cure)]
    seen = ", ".join(f"{name} {version}" for name, version in found.items())
    return [ok("versions", f"Python {platform.python_version()}, {seen}")]


def devices(local_rank: int, kind: str) -> list[Row]:
    """The device of this rank, and whether it can do the precision `kind` ("bf16", "fp16", "fp32", "autocast")."""
    rows = []
    if uses_gpu():
        count = torch.cuda.device_count()
        if local_rank >= count:
            return [
                problem("device", f"local rank {local_rank}, but {count} GPUs", "start no more ranks than GPUs a node")
            ]
        torch.cuda.set_device(local_rank)
        free, total = torch.cuda.mem_get_info()
        rows.append(ok("device", f"{torch.cuda.get_device_name()}, {total / 2**30:.0f} GiB"))
        if free < 0.9 * total:
            seen = f"GPU {local_rank}: only {free / 2**30:.0f} of {total / 2**30:.0f} GiB are free"
            rows.append(problem("device memory", seen, "end the other program (nvidia-smi lists it)"))
    elif any(Path("/dev").glob("nvidia[0-9]*")) and os.environ.get("DS_ACCELERATOR") != "cpu":
        seen = "the machine has NVIDIA GPUs that torch does not see"
        cure = "install the CUDA build of torch and check CUDA_VISIBLE_DEVICES; DS_ACCELERATOR=cpu trains on the CPU"
        rows.append(problem("device", seen, cure))
    else:
        rows.append(
            ok("device", f"CPU, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads a rank")
        )
    fastest = precision_of_hardware()
    if kind == "bf16" and fastest != "bf16":
        seen = "bf16 is asked for, and the hardware has no instructions for it"
        rows.append(problem("precision", seen, f"--deepspeed-config ds_configs/zero1_{fastest}.json"))
    else:
        rows.append(ok("precision", kind))
    return rows


def kernels(config: Config, settings: dict[str, Any]) -> list[Row]:
    """What a run with these flags and this DeepSpeed JSON calls for each operation, and whether its attention gives
    what the plain reference gives on this device.
    """
    device, kind, model = "cuda" if uses_gpu() else "cpu", precision(settings), config.model
    if model.num_attention_heads < 1 or model.hidden_size % model.num_attention_heads:
        return []  # the row of the flags says so
    rows = kernel_table(device, config, kind, offloads_optimizer(settings))
    chosen = "; ".join(f"{row[0]}: {row[1]}" for row in rows)
    dtype, generator = compute_dtype(kind), torch.Generator().manual_seed(0)
    lengths, heads = (48, 32, 16), 2
    qkv = torch.randn(sum(lengths), 3, heads, model.head_width, generator=generator).to(dtype)
    boundaries = torch.tensor([0, 48, 80, 96], dtype=torch.int32)
    expected = attention_by_sample(qkv.float(), lengths, boundaries, 0.0)
    run = resolve_attention(device, dtype, model.attention_dropout > 0, model.head_width).run
    distance = float((run(qkv.to(device), lengths, boundaries.to(device), 0.0).float().cpu() - expected).abs().max())
    if not distance <= (ATTENTION_TOLERANCE if dtype == torch.float32 else HALF_TOLERANCE):  # NaN is none
        seen = f"attention differs from its reference by {distance:.1e}"
        return [problem("kernels", seen, "the driver or the torch build is broken: reinstall torch for this GPU")]
    return [ok("kernels", f"{chosen}; attention equals its reference to {distance:.0e}")]


def compilers() -> list[Row]:
    """What DeepSpeed's just-in-time operators need: a C++ compiler that works, ninja, a folder, nvcc on GPUs."""
    folder = Path(os.environ.get("TORCH_EXTENSIONS_DIR", Path.home() / ".cache" / "torch_extensions"))
    compiled = sorted({path.stem for path in folder.glob("**/*.so")})
    locks = [lock for lock in folder.glob("**/lock") if time.time() - lock.stat().st_mtime > STALE_LOCK_SECONDS]
    if locks:
        return [problem("compiler", f"{locks[0]} is left of a killed build: all later ones wait for it", "delete it")]
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++")
    if compiler is None:
        return [problem("compiler", "no C++ compiler; DeepSpeed builds operators", "install g++ or load its module")]
    if shutil.which("ninja") is None:
        return [problem("compiler", "no ninja on the PATH", "pip install ninja and put the environment's bin on PATH")]
    nearest = next(path for path in [folder, *folder.parents] if path.exists())
    if not os.access(nearest, os.W_OK):
        return [
            problem("compiler", f"{folder} is not writable", "set TORCH_EXTENSIONS_DIR to a folder on a local disk")
        ]
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "probe.cpp")
        source.write_text("#include <Python.h>\n#include <vector>\nint main() { return std::vector<int>{0}[0]; }\n")
        command = [compiler, "-std=c++17", "-fsyntax-only", f"-I{sysconfig.get_path('include')}", str(source)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if result.returncode:
        first = (result.stderr.strip().splitlines() or ["no words"])[0]
        cure = "install the compiler's C++ headers and Python's (python3-dev)"
        return [problem("compiler", f"{compiler} fails: {first}", cure)]
    if uses_gpu() and shutil.which("nvcc") is None and "CUDA_HOME" not in os.environ and not compiled:
        cure = "load the CUDA module or set CUDA_HOME, or build the operators on another node first"
        return [note("compiler", "no nvcc: CUDA operators that are not compiled yet cannot be", cure)]
    seen = f"{compiler}, ninja; {len(compiled)} operators compiled in {folder}"
    return [ok("compiler", seen)]
