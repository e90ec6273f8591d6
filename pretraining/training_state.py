"""Weights, moments and counters of a run by parameter name: the same files whatever ZeRO stage, precision and ranks.

    weights.safetensors  exp_avg.safetensors  exp_avg_sq.safetensors        fp32, whole tensors, tied ones once

DeepSpeed's own shards fit one number of ranks and one ZeRO stage, are pickles, and hold 18 bytes a parameter in bf16
beside the weights in fp32 that export needs; these files hold 12. They are exact: a run that goes on on the same ranks
at the same stage has bitwise the same weights and moments as one that never stopped.

Steps of saving: (1) every rank gives its part of a tensor, one tensor after another; (2) rank 0 writes a file at a
time, so that it holds four bytes a parameter. Steps of loading: (1) the module gets the weights before the engine is
made, which rounds and shards them; (2) `load_state` puts the fp32 weights and the moments into the engine's own copies;
every rank maps the files and takes its part; (3) counters: optimizer steps (bias correction) and fp16's loss scale.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import nn

from pretraining.engine import Engine, on_rank_zero

WEIGHTS = "weights.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")  # Adam's and LAMB's
# DeepSpeed's DynamicLossScaler: where it stands, not how it is set up.
LOSS_SCALE = ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")


def moment_file(name: str) -> str:
    """File of a moment."""
    return f"{name}.safetensors"


def save_state(engine: Engine, folder: Path) -> dict[str, Any]:
    """Write the three files into a folder; every rank must call it. Returns the counters for the manifest."""
    _make_moments(engine)
    for file, moment in [(WEIGHTS, None), *((moment_file(name), name) for name in MOMENTS)]:
        on_rank_zero(partial(_write, whole_tensors(engine, moment), folder / file))
    counters: dict[str, Any] = {"optimizer_steps": _optimizer_steps(engine)}
    if engine.precision == "fp16":
        scaler = engine.deepspeed.optimizer.loss_scaler
        counters["loss_scale"] = {name: getattr(scaler, name) for name in LOSS_SCALE}
    return counters


def _write(tensors: dict[str, torch.Tensor], path: Path) -> None:
    try:
        safetensors.torch.save_file(tensors, path)
    except safetensors.SafetensorError as error:  # a full disk, for which it has no OSError
        raise OSError(f"{path} cannot be written: {error}; make room, and the same command goes on") from None


def whole_tensors(engine: Engine, moment: str | None = None) -> dict[str, torch.Tensor]:
    """All weights, or one moment of them, in fp32 on the CPU by parameter name; every rank must call it, rank 0 gets
    them.
    """
    tensors = {}
    for name, parameter in engine.module.named_parameters():
        full = _whole(engine, parameter, moment)
        if engine.rank == 0:
            tensors[name] = full.detach().float().cpu().contiguous().clone()
    return tensors


def check_state(folder: Path, module: nn.Module) -> None:
    """Raise ValueError unless the files hold exactly this module's parameters; only their headers are read."""
    shapes = {name: list(parameter.shape) for name, parameter in module.named_parameters()}
    for file in (WEIGHTS, *map(moment_file, MOMENTS)):
        try:
            with safetensors.safe_open(folder / file, "pt") as tensors:
                found = {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError) as error:
            raise ValueError(f"{folder / file} is not a whole safetensors file ({error}): do not load it") from None
        if found != shapes:
            name = next(name for name in sorted(found | shapes) if found.get(name) != shapes.get(name))
            raise ValueError(f"{folder / file} does not fit this model: {name} is another one, or is not there")


def load_state(engine: Engine, folder: Path, counters: dict[str, Any]) -> None:
    """Put what `save_state` wrote into an engine whose module was made with these weights."""
    _make_moments(engine, counters["optimizer_steps"])
    for file, moment in [(WEIGHTS, None), *((moment_file(name), name) for name in MOMENTS)]:
        with safetensors.safe_open(folder / file, "pt") as tensors:
            for name, parameter in engine.module.named_parameters():
                _put(engine, parameter, tensors.get_tensor(name), moment)
    if "loss_scale" in counters:
        for name, value in counters["loss_scale"].items():
            setattr(engine.deepspeed.optimizer.loss_scaler, name, value)


def _stepped_tensors(engine: Engine) -> Iterator[torch.Tensor]:
    """What the optimizer takes its steps on: the parameters, or this rank's flat parts of them."""
    if engine.stage == 3:
        yield from engine.deepspeed.optimizer.fp32_partitioned_groups_flat
        return
    for group in _plain_optimizer(engine).param_groups:
        yield from group["params"]


def _plain_optimizer(engine: Engine) -> torch.optim.Optimizer:
    return engine.deepspeed.optimizer.optimizer if engine.stage else engine.deepspeed.optimizer


def _make_moments(engine: Engine, steps: int = 0) -> None:
    """Give the optimizer its moments, zeros after this many steps, where it has none yet: it makes them in its first
    step, which fp16 may have skipped so far.
    """
    states = _plain_optimizer(engine).state
    for tensor in _stepped_tensors(engine):
        if not states[tensor]:
            states[tensor].update({name: torch.zeros_like(tensor.data) for name in MOMENTS}, step=steps)
    if engine.stage in (1, 2):
        # DeepSpeed links parameters to moments after the first group's first step, when other groups have none yet.
        engine.deepspeed.optimizer._hp_optimizer_states_linked = False
        engine.deepspeed.optimizer._lazy_init_hp_params_optimizer_state()


def _optimizer_steps(engine: Engine) -> int:
    """Steps taken; FusedAdam counts for a whole group in the state of its last tensor."""
    states = _plain_optimizer(engine).state
    return max(int(states[tensor]["step"]) for tensor in _stepped_tensors(engine))


def _whole(engine: Engine, parameter: nn.Parameter, moment: str | None) -> torch.Tensor:
    if engine.stage == 0:
        return engine.deepspeed.optimizer.state[parameter][moment] if moment else parameter
    return safe_get_full_optimizer_state(parameter, moment) if moment else safe_get_full_fp32_param(parameter)


def _put(engine: Engine, parameter: nn.Parameter, value: torch.Tensor, moment: str | None) -> None:
    """Copy a whole tensor into the engine's own copy of it, or this rank's part into its part."""
    if engine.stage == 0:
        with torch.no_grad():
            _whole(engine, parameter, moment).copy_(value)
        return
    if engine.stage == 3:
        # DeepSpeed's setter of whole tensors fails where they do not divide by the ranks: the last part is padded.
        part = parameter.ds_tensor.numel()
        padded = torch.zeros(part * engine.world_size)
        padded[: value.numel()] = value.flatten()
        value = padded[engine.rank * part :][:part]
    put_weights, put_moment = (
        (safe_set_local_fp32_param, safe_set_local_optimizer_state)
        if engine.stage == 3
        else (safe_set_full_fp32_param, safe_set_full_optimizer_state)
    )
    if moment:
        put_moment(parameter, value, moment)
    else:
        put_weights(parameter, value)
