"""The DeepSpeed JSON: what a file in ds_configs/ may say, and the merged one that DeepSpeed gets.

Steps: (1) `find_ds_config` says which file it is where --deepspeed-config leaves that open; (2) `load_ds_config` reads
it and refuses keys that DeepSpeed removed, keys that it would ignore without a word, keys whose numbers are flags of
ours, and combinations that train wrongly; (3) `merge_ds_config` adds batch sizes and clipping, the numbers that flags
own. The merged JSON is written to the run folder.
"""

import difflib
import json
from pathlib import Path
from typing import Any

import torch

from pretraining.machine import REPOSITORY, uses_gpu

# Ours: flags own these numbers (one owner per number).
OWNED_BY_FLAGS = {
    "train_batch_size": "--global-batch-size",
    "train_micro_batch_size_per_gpu": "--micro-batch-size",
    "gradient_accumulation_steps": "--global-batch-size and --micro-batch-size",
    "gradient_clipping": "--clip-grad",
    "optimizer": "--lr, --adam-eps, --weight-decay and their like",
    "scheduler": "--lr-warmup-iters and --train-iters",
    "tensorboard": "--tensorboard-dir",
    "steps_per_print": "--log-interval",
}
# Removed in DeepSpeed 0.19.7 and 0.19.8; an old recipe that has one would fail late or do nothing.
REMOVED = {
    "amp": 'use "bf16" or "torch_autocast"',
    "elasticity": "a run goes on at any batch arithmetic that its flags allow",
    "curriculum_learning": "start a second run with --finetune and another --seq-length",
    "progressive_layer_drop": "leave it out",
    "sparse_gradients": "leave it out",
    "eigenvalue": "leave it out",
    "nebula": "leave it out",
    "compression_training": "leave it out",
    "quantize_training": "leave it out",
    "sparse_attention": "leave it out: samples are unpadded",
    "graph_harvesting": "leave it out",
}
# What a file may hold: the keys that were seen to work with this trainer.
ALLOWED = (
    "bf16",
    "fp16",
    "torch_autocast",
    "data_types",
    "communication_data_type",
    "zero_optimization",
    "zero_allow_untested_optimizer",
    "prescale_gradients",
    "gradient_predivide_factor",
    "disable_allgather",
    "checkpoint",
    "wall_clock_breakdown",
    "memory_breakdown",
    "comms_logger",
    "flops_profiler",
    "dump_state",
)


def find_ds_config(given: str | None) -> str:
    """Path of the DeepSpeed JSON: as given, from this repository where the path is not there, or by the hardware."""
    path = Path(given or f"ds_configs/zero1_{precision_of_hardware()}.json")
    return str(REPOSITORY / path) if not path.exists() and (REPOSITORY / path).exists() else str(path)


def precision_of_hardware() -> str:
    """The precision that is fastest here and safe: "bf16", "fp16" on GPUs before Ampere, "fp32" on CPUs without bf16.

    A CPU without the instructions multiplies bf16 matrices one number after another: a linear layer, forward and
    backward, took 44 times as long as in fp32 (AVX2; 2,048 rows, 256 to 1,024).
    """
    if uses_gpu():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    instructions = torch.cpu.get_capabilities()
    return "bf16" if any(has for name, has in instructions.items() if name.endswith("bf16")) else "fp32"


def load_ds_config(path: str | Path) -> dict[str, Any]:
    """Read and check a DeepSpeed JSON file. Raises ValueError in one sentence that names the file, the key and the
    cure.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"--deepspeed-config {path}: no such file; ds_configs/ has one for each ZeRO stage")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique_keys)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    for key in settings:
        if key in OWNED_BY_FLAGS:
            raise ValueError(f'{path}: remove "{key}", which the flags {OWNED_BY_FLAGS[key]} own')
        if key in REMOVED:
            raise ValueError(f'{path}: remove "{key}", which DeepSpeed no longer has; {REMOVED[key]}')
        if key not in ALLOWED:
            near = difflib.get_close_matches(key, ALLOWED, 1)
            hint = f'; did you mean "{near[0]}"?' if near else f"; known are {', '.join(ALLOWED)}"
            raise ValueError(f'{path}: unknown key "{key}", which DeepSpeed would ignore{hint}')
    _check_stage_and_precision(path, settings)
    return settings


def merge_ds_config(settings: dict[str, Any], micro: int, accumulation: int, world: int, clip: float) -> dict[str, Any]:
    """The JSON that DeepSpeed gets: the file's settings and the batch arithmetic and clipping of the flags."""
    return settings | {
        "train_batch_size": micro * accumulation * world,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": clip,
        "steps_per_print": 2**31 - 1,  # the log line is ours
    }


def zero_stage(settings: dict[str, Any]) -> int:
    """ZeRO stage of a DeepSpeed JSON, 0 where it says nothing."""
    return settings.get("zero_optimization", {}).get("stage", 0)


def offloads_optimizer(settings: dict[str, Any]) -> bool:
    """Whether moments and fp32 weights are kept, and the steps taken, on the CPU."""
    return _offload_device(settings, "offload_optimizer") != "none"


def offloads_parameters(settings: dict[str, Any]) -> bool:
    """Whether the weights are kept on the CPU between their uses."""
    return _offload_device(settings, "offload_param") != "none"


def check_optimizer(path: str | Path, settings: dict[str, Any], optimizer: str) -> None:
    """Raise ValueError where LAMB would not see whole tensors in fp32: the norm of a slice is not the tensor's."""
    stage, kept = zero_stage(settings), precision(settings)
    if optimizer == "lamb" and (stage or kept not in ("fp32", "autocast")):
        raise ValueError(
            f"--optimizer lamb needs whole fp32 tensors, and {path} has ZeRO stage {stage} with {kept}: "
            "give --deepspeed-config ds_configs/zero0_autocast.json or zero0_fp32.json, or use adam"
        )


def precision(settings: dict[str, Any]) -> str:
    """What parameters are kept in during forward and backward: "bf16", "fp16", "autocast" or "fp32"."""
    for key in ("bf16", "fp16"):
        if _enabled(settings, key):
            return key
    return "autocast" if _enabled(settings, "torch_autocast") else "fp32"


def _check_stage_and_precision(path: Path, settings: dict[str, Any]) -> None:
    for key in ("bf16", "fp16", "torch_autocast", "zero_optimization"):
        if not isinstance(settings.get(key, {}), dict):
            example = '{"stage": 1}' if key == "zero_optimization" else '{"enabled": true}'
            raise ValueError(f'{path}: "{key}" must hold an object such as {example}')
    stage, half = zero_stage(settings), precision(settings)
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"{path}: zero_optimization.stage is {stage}; it must be 0, 1, 2 or 3")
    if _enabled(settings, "bf16") and _enabled(settings, "fp16"):
        raise ValueError(f"{path}: bf16 and fp16 are both enabled; keep one")
    if half == "autocast" and settings["torch_autocast"].get("dtype", "bfloat16") != "bfloat16":
        raise ValueError(f'{path}: torch_autocast.dtype must be "bfloat16"; for fp16 use the block "fp16"')
    if not settings.get("bf16", {}).get("check_grad_overflow", True):
        raise ValueError(f"{path}: without bf16.check_grad_overflow a NaN would reach the weights; leave the key out")
    _check_offload(path, settings)
    if stage == 0 and half in ("bf16", "fp16"):
        raise ValueError(
            f"{path}: ZeRO stage 0 with {half} makes the first updates too small (a DeepSpeed defect); "
            "use stage 1, or fp32"
        )


def _check_offload(path: Path, settings: dict[str, Any]) -> None:
    stage = zero_stage(settings)
    for key, lowest in (("offload_optimizer", 2), ("offload_param", 3)):
        block = settings.get("zero_optimization", {}).get(key)
        if block is not None and not isinstance(block, dict):
            raise ValueError(f'{path}: "{key}" must hold an object such as {{"device": "cpu"}}')
        device = _offload_device(settings, key)
        if device not in ("none", "cpu"):
            raise ValueError(f'{path}: {key}.device is {device!r}; it must be "cpu" or "none"')
        if device == "cpu" and stage < lowest:
            raise ValueError(f"{path}: {key} needs ZeRO stage {lowest} or above, and the stage is {stage}")


def _offload_device(settings: dict[str, Any], key: str) -> str:
    return (settings.get("zero_optimization", {}).get(key) or {}).get("device", "none")


def _enabled(settings: dict[str, Any], key: str) -> bool:
    return bool(settings.get(key, {}).get("enabled"))


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f'"{key}" stands twice')
    return dict(pairs)
