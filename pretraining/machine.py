"""What a run or a measurement ran on: commit of the code, name of the device, cores, torch's version.

Steps: (1) `uses_gpu` says for all modules what a run trains on; (2) `commit_of_code` asks git, which may be missing,
slow, or not know this folder; (3) `name_of_device`; (4) `machine_facts` is what the trainer writes into machine.json of
the run's folder.
"""

import os
import platform
import subprocess
from pathlib import Path

import torch

REPOSITORY = Path(__file__).resolve().parents[1]
GIT_SECONDS = 10.0


def uses_gpu() -> bool:
    """Whether training runs on GPUs: torch sees one, and DS_ACCELERATOR, which DeepSpeed reads, does not say cpu."""
    return torch.cuda.is_available() and os.environ.get("DS_ACCELERATOR") != "cpu"


def commit_of_code() -> str:
    """What `git describe` says of this repository, or "unknown": in a copy of the code, say, or without git."""
    # Only a repository that begins in this folder counts, not one that a copy of the code lies in.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(REPOSITORY.parent)}
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    try:
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=GIT_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()


def name_of_device(device: torch.device) -> str:
    """The GPU's name, or the processor's with the instructions that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    instructions = [torch.backends.cpu.get_cpu_capability()]
    # What decides about bf16 (ds_config.precision_of_hardware), which torch's word leaves out.
    instructions += [key for key, has in torch.cpu.get_capabilities().items() if has is True and key.endswith("bf16")]
    return f"{name} ({', '.join(instructions)})"


def machine_facts(device: torch.device) -> dict[str, str | int | None]:
    """For machine.json."""
    return {
        "commit": commit_of_code(),
        "device": name_of_device(device),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }
