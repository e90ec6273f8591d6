"""Several processes train one model together: each takes a share of every batch. Nothing to run here; start

    deepspeed --num_gpus 4 --module finetuning.bc5cdr --model DIR ...
    torchrun --nproc-per-node 4 -m finetuning.bc5cdr --model DIR ...

1. `joined` joins the ranks that the launcher's variables (RANK, WORLD_SIZE) tell of: NCCL on GPUs, gloo on CPUs.
2. Before a training all take rank 0's weights; their dropout differs.
3. After every batch `sum_gradients` adds up the gradients, and divides by the items of the whole batch: what a
   batch does to the weights does not depend on the number of ranks.
4. Rank 0 alone writes and prints. What may go wrong on one rank (`agree`, `from_first`) ends all.

A process started by no launcher is the only rank, and nothing here does anything.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from tqdm import tqdm

# How long ranks wait for one another: one looks through the pretraining corpus (all of PubMed takes more than an hour)
# while the others wait. torch's 10 or 30 minutes would end that. A rank that dies is noticed by the launcher.
PATIENCE = timedelta(days=1)


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the ranks of the launcher, if there is one, are a group, and each has its GPU or its CPU threads."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("LOCAL_SIZE", os.environ["WORLD_SIZE"])))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // local_size))  # all ranks with all threads crawl
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def say(text: str) -> None:
    """Print a line, once whatever the number of ranks."""
    if rank() == 0:
        tqdm.write(text)
        sys.stdout.flush()  # a batch job's log is a file, and is read while the job runs


def agree(function: Callable[[], Any]) -> Any:
    """function() of this rank; a ValueError or OSError on any rank is a ValueError on every one."""
    if world() == 1:
        return function()
    value, fault = None, None
    try:
        value = function()
    except (ValueError, OSError) as error:
        fault = str(error)
    for number, other in enumerate(gather(fault)):
        if other is not None:
            raise ValueError(other if number == 0 else f"rank {number}: {other}")
    return value


def from_first(function: Callable[[], Any]) -> Any:
    """What function() returns on rank 0, on every rank, and it is called only there; errors as in `agree`."""
    value = agree(lambda: function() if rank() == 0 else None)
    if world() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def gather(value: Any) -> list[Any]:
    """`value` of every rank, by rank."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def share(items: list[Any]) -> list[Any]:
    """This rank's part: every n-th, so that neighbours of similar length go to different ranks."""
    return items[rank() :: world()]


def start_together(model: nn.Module, seed: int) -> None:
    """Rank 0's weights for all, and random numbers (dropout) for each; nothing changes for a single rank."""
    if world() == 1:
        return
    for value in [*model.parameters(), *model.buffers()]:
        dist.broadcast(value.data, src=0)
    torch.manual_seed((seed << 16) + rank())


def sum_gradients(model: nn.Module, scale: float, items: int) -> None:
    """Make each rank's gradient, of its summed loss / `scale`, that of the whole batch's mean loss.

    `items` are those of this rank's share. A weight without a gradient on all ranks keeps none.
    """
    if world() == 1:
        return
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    device = parameters[0].device
    used = torch.tensor([float(parameter.grad is not None) for parameter in parameters] + [float(items)], device=device)
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([used, *(part.flatten() for part in parts)])  # one message, not one a weight
    dist.all_reduce(flat)
    counts, flat = flat[: len(used)].tolist(), flat[len(used) :] * (scale / flat[len(used) - 1])
    for parameter, count, part in zip(
        parameters, counts[:-1], flat.split([p.numel() for p in parameters]), strict=True
    ):
        parameter.grad = part.view_as(parameter) if count else None


def total(values: Tensor) -> Tensor:
    """The sum over all ranks of a tensor on the CPU."""
    if world() > 1:
        dist.all_reduce(values)
    return values
