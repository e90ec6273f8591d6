"""Everything that touches DeepSpeed: ranks, ZeRO, precision, the optimizer step.

Above this line an objective maps a micro-batch to a loss on one device; below it, everything is about ranks. Only
training_state.py, which takes an engine's weights and moments out and puts them in, imports deepspeed too.

Steps: (1) `start_ranks` opens the process group; (2) `initialize` wraps objective and optimizer; (3) `train_step`
runs the micro-batches of one optimizer step.
"""

import io
import logging
import math
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.accelerator import get_accelerator
from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam
from torch import nn
from torch.distributed import distributed_c10d as c10d

from pretraining.allocator import keep_freed_memory
from pretraining.batch import MaskedBatch
from pretraining.config import OptimizerConfig, RunConfig
from pretraining.ds_config import offloads_optimizer, precision, zero_stage
from pretraining.masking import hash_bits
from pretraining.metrics import add_sums
from pretraining.objectives import Sums
from pretraining.optim import Lamb, parameter_groups
from pretraining.reachability import own_address

STREAM_DROPOUT = 9
ADDRESS_BYTES = 64
STALE_LOCK_SECONDS = 60
FP16_SKIPS_ALLOWED = 20  # consecutive overflows while the loss scale finds its level; more means divergence


class NonFiniteError(RuntimeError):
    """A loss or gradient that is not finite; the message names the micro-batches."""


class CommonError(ValueError):
    """A mistake that all ranks know of, so that one of them says it."""


@dataclass
class Engine:
    """DeepSpeed's engine and the few facts about it that a step needs."""

    deepspeed: Any
    device: torch.device
    rank: int
    world_size: int
    micro_batch_size: int
    accumulation: int
    stage: int
    precision: str
    skipped_in_a_row: int = 0

    @property
    def module(self) -> nn.Module:
        return self.deepspeed.module


def start_ranks(timeout_minutes: float = RunConfig.distributed_timeout_minutes) -> tuple[int, int, torch.device]:
    """Open the process group (NCCL on GPUs, gloo on CPUs). Returns (rank, world size, device)."""
    local_rank = int(os.environ["LOCAL_RANK"])
    accelerator = get_accelerator()
    device = torch.device(accelerator.device_name(local_rank) if accelerator.device_name() == "cuda" else "cpu")
    if device.type == "cuda":
        accelerator.set_device(local_rank)
    keep_freed_memory(device)
    if local_rank == 0:
        _break_stale_locks()
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed 0.19 calls collectives by names that torch 2.13 has replaced: every rank would say so.
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
    if not dist.is_initialized():
        with redirect_stdout(io.StringIO()):  # DeepSpeed's prints: nothing in them that the log has not
            deepspeed.init_distributed(verbose=False, timeout=timedelta(minutes=timeout_minutes))
    _forget_shared_memory()  # already here: a run that is refused before it has an engine would leave it
    return dist.get_rank(), dist.get_world_size(), device


def limit_waiting(timeout_minutes: float) -> None:
    """Give every process group the timeout; DeepSpeed opens groups of its own, with torch's 30 minutes."""
    for group in list(c10d._world.pg_map):
        c10d._set_pg_timeout(timedelta(minutes=timeout_minutes), group)


def addresses_of_ranks(device: torch.device) -> list[str]:
    """The address of each rank's host, equal on all ranks; every rank must call it."""
    own = own_address(os.environ["MASTER_ADDR"]).encode().ljust(ADDRESS_BYTES)
    gathered = torch.empty(dist.get_world_size(), ADDRESS_BYTES, dtype=torch.uint8, device=device)
    dist.all_gather(list(gathered), torch.tensor(list(own), dtype=torch.uint8, device=device))
    return [bytes(row.tolist()).decode().strip() for row in gathered]


def _break_stale_locks() -> None:
    """Remove locks on DeepSpeed's compiled operators that a killed process left: all later ones would wait for ever."""
    for lock in Path(os.environ.get("TORCH_EXTENSIONS_DIR", "/nowhere")).glob("*/lock"):
        compiled = lock.with_name(lock.parent.name + ".so").exists()
        try:
            # Loading what is compiled takes seconds, and compiling minutes.
            if compiled and time.time() - lock.stat().st_mtime > STALE_LOCK_SECONDS:
                lock.unlink()
        except FileNotFoundError:
            pass  # its owner, or another rank, was faster


def _forget_shared_memory() -> None:
    """Unlink the buffer that DeepSpeed's CPU communication left in /dev/shm, 66 MiB a rank that nobody ever removes.

    Every rank has mapped it by now and goes on using it; without its name it ends with the last of them, even if they
    are killed.
    """
    dist.barrier()
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    name = f"deepspeed_allreduce_buffer_{os.getuid()}_{address}_{port}_{dist.get_rank()}"
    Path("/dev/shm", name).unlink(missing_ok=True)


def initialize(
    objective: nn.Module, optimizer: OptimizerConfig, merged: dict[str, Any], device: torch.device
) -> Engine:
    """Wrap an objective for training under the merged DeepSpeed JSON; weights come from rank 0."""
    # On CPUs, FusedAdam is compiled from the same source as DeepSpeedCPUAdam, which offloading from a GPU needs.
    adam = DeepSpeedCPUAdam if offloads_optimizer(merged) and device.type == "cuda" else FusedAdam
    with redirect_stdout(io.StringIO()):
        steps = {"adam": adam, "lamb": Lamb}[optimizer.optimizer](
            parameter_groups(objective.to(device), optimizer.weight_decay),
            bias_correction=optimizer.adam_bias_correction,
            betas=(optimizer.adam_beta1, optimizer.adam_beta2),
            eps=optimizer.adam_eps,
        )
        merged = merged | {"zero_force_ds_cpu_optimizer": device.type == "cuda"}
        wrapped, *_ = deepspeed.initialize(model=objective, optimizer=steps, config=merged)
    _forget_shared_memory()  # DeepSpeed opened its own only now where somebody else opened the process group
    if hasattr(getattr(wrapped.optimizer, "loss_scaler", None), "raise_error_at_min_scale"):
        # At its smallest scale DeepSpeed would raise a bare Exception; FP16_SKIPS_ALLOWED ends such a run, with
        # samples.
        wrapped.optimizer.loss_scaler.raise_error_at_min_scale = False
    return Engine(
        wrapped,
        device,
        dist.get_rank(),
        dist.get_world_size(),
        merged["train_micro_batch_size_per_gpu"],
        merged["gradient_accumulation_steps"],
        zero_stage(merged),
        precision(merged),
    )


def seed_dropout(seed: int, step: int, index: int) -> None:
    """Make dropout a function of (seed, step, micro-batch in the global batch): the same whatever rank computes it."""
    torch.manual_seed(int(hash_bits(seed, STREAM_DROPOUT, step, index)[0] >> 1))


def train_step(
    engine: Engine, batches: list[MaskedBatch], learning_rate: float, seed: int, step: int
) -> tuple[Sums, torch.Tensor | float]:
    """One optimizer step over this rank's micro-batches. Returns (its sums, global gradient norm before clipping).

    The norm may still be on the device: reading it there waits for the whole step. That it is finite is known without:
    DeepSpeed, which clips by it, reads so much in the middle of each step and then leaves the weights alone.
    Raises NonFiniteError, before the weights are touched, where a loss or gradient is not finite.
    """
    engine.deepspeed.train()
    for group in engine.deepspeed.optimizer.param_groups:
        group["lr"] = learning_rate
    # DeepSpeed averages over ranks and accumulation; our losses are shares of the whole batch and must be summed.
    factor = engine.world_size * engine.accumulation
    total, losses, skipped_before = None, [], engine.deepspeed.skipped_steps
    for batch in batches:
        seed_dropout(seed, step, batch.index)
        loss, sums = engine.deepspeed(batch.to(engine.device))
        engine.deepspeed.backward(loss * factor)
        if len(losses) == engine.accumulation - 1 and engine.stage == 0:
            # Stage 0 reports no norm and would put a NaN into the weights for good: look before the step.
            norm = _norm_of_gradients(engine.module)
            if not math.isfinite(norm):
                raise NonFiniteError(_blame(engine, [*losses, loss.detach()], batches, step))
        engine.deepspeed.step()
        losses.append(loss.detach())
        total = add_sums(total, sums)
    if engine.stage:
        norm = engine.deepspeed.get_global_grad_norm()
        skipped = engine.deepspeed.skipped_steps > skipped_before
        engine.skipped_in_a_row = engine.skipped_in_a_row + 1 if skipped else 0
        if engine.skipped_in_a_row > (FP16_SKIPS_ALLOWED if engine.precision == "fp16" else 0):
            raise NonFiniteError(_blame(engine, losses, batches, step))
    return total, norm


def _norm_of_gradients(module: nn.Module) -> float:
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def _blame(engine: Engine, losses: list[torch.Tensor], batches: list[MaskedBatch], step: int) -> str:
    """Which samples: those of micro-batches whose loss is not finite, or all of the step where every loss is finite."""
    bad = [b for b, loss in zip(batches, losses, strict=True) if not bool(torch.isfinite(loss))]
    gathered: list[Any] = [None] * engine.world_size
    dist.all_gather_object(gathered, ([b.sample_ids for b in bad], [b.sample_ids for b in batches]))
    what = "loss" if any(bad for bad, _ in gathered) else "gradient"
    named = [ids for bad, every in gathered for batch in (bad if what == "loss" else every) for ids in batch]
    listed = ", ".join(f"{epoch}:{sample}" for epoch, sample in named[:32]) + (" ..." if len(named) > 32 else "")
    return (
        f"step {step + 1}: the {what} is not finite; samples (epoch:index) {listed}. The last checkpoint is untouched; "
        "lower --lr, raise --lr-warmup-iters, or use a bf16 or fp32 DeepSpeed JSON"
    )


def reduce_sums(sums: Sums) -> Sums:
    """Add up sums over all ranks, in one all-reduce."""
    if dist.get_world_size() == 1:
        return sums
    flat = torch.cat([value.reshape(-1) for value in sums.values()])
    dist.all_reduce(flat)
    parts = flat.split([value.numel() for value in sums.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(sums.items(), parts, strict=True)}


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank; all ranks get the same answer at the same step."""
    if dist.get_world_size() == 1:
        return flag
    tensor = torch.tensor(int(flag), dtype=torch.int32, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return bool(tensor.item())


def on_rank_zero(work: Callable[[], None]) -> None:
    """Let rank 0 do this while the others wait; its ValueError or OSError is raised on every rank, as CommonError."""
    outcome: list[str | None] = [None]
    if dist.get_rank() == 0:
        try:
            work()
        except (ValueError, OSError) as error:
            outcome = [str(error)]
    dist.broadcast_object_list(outcome)
    if outcome[0] is not None:
        raise CommonError(outcome[0])


def on_every_rank(work: Callable[[], Any]) -> Any:
    """What this rank's call returns; a ValueError or OSError of any is raised on all, as CommonError."""
    result, outcomes = None, [None] * dist.get_world_size()
    mine = None
    try:
        result = work()
    except (ValueError, OSError) as error:
        mine = f"{socket.gethostname()}: {error}"
    dist.all_gather_object(outcomes, mine)
    failed = [outcome for outcome in outcomes if outcome]
    if failed:
        raise CommonError(failed[0])
    return result


def from_rank_zero(value: Any) -> Any:
    """What rank 0 gave."""
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def barrier() -> None:
    """Wait for all ranks."""
    dist.barrier()


def end_rank(status: int) -> NoReturn:
    """Close the process group and end this process at once, with this exit status.

    DeepSpeed keeps its groups, and with them gloo's threads. One that lets go of a tensor while Python takes itself
    apart calls std::terminate: seldom, but then a finished run has status 134.
    """
    if dist.is_initialized():
        dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
