"""Dropout that is cheap on CPUs, where torch draws one random number for each value in turn.

Steps: (1) 64-bit random words, four values of 16 bits each; (2) `dropout_mask` compares them with the probability;
(3) `masked` lets through what is kept: in half precision by the bits, as a table of bools and a product take more than
four times as long there (benchmarks/NOTES.md). Where a network is compiled, the first is an operator that the compiler
does not look into: it draws the same numbers.
"""

from typing import Any

import torch
from torch.nn import functional as F


@torch.library.custom_op("pretraining::random_words", mutates_args=())
def random_words(values: torch.Tensor) -> torch.Tensor:
    """A random int16 for each value, in its shape, from torch's default generator; on CPUs."""
    words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int16)[: values.numel()].view(values.shape)


@random_words.register_fake
def _(values: torch.Tensor) -> torch.Tensor:
    return torch.empty(values.shape, dtype=torch.int16, device=values.device)


def dropout_mask(values: torch.Tensor, probability: float) -> tuple[torch.Tensor, float]:
    """(mask for `masked`, what its result is still to be multiplied by): dropout of the values, on CPUs.

    Half precision: int16, -1 (all bits) where a value is kept, 0 where it is dropped. Wider types: what a value is
    multiplied by, so that nothing is left to do.
    """
    threshold = min(round(probability * 2**16), 2**16 - 1)  # a probability of 0.999999 would leave nothing to scale
    scale = 2**16 / (2**16 - threshold)
    keep = random_words(values).ge_(threshold - 2**15)  # 1 or 0, in place: a table of bools takes five times as long
    if values.dtype.itemsize == 2:
        return keep.neg_(), scale
    return keep.to(values.dtype).mul_(scale), 1.0


def masked(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The values with what the mask drops set to zero; mask of `dropout_mask`."""
    if mask.dtype == torch.int16:
        return (values.view(torch.int16) & mask).view(values.dtype)
    return values * mask  # torch.where takes 10 times as long on CPUs


class _DropoutFromWords(torch.autograd.Function):
    """Dropout from 16-bit parts of 64-bit random words; see `dropout`."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, probability: float) -> torch.Tensor:
        mask, ctx.scale = dropout_mask(values, probability)
        ctx.save_for_backward(mask)
        kept = masked(values, mask)
        return kept if ctx.scale == 1 else kept.mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (mask,) = ctx.saved_tensors
        kept = masked(gradient, mask)
        return (kept if ctx.scale == 1 else kept.mul_(ctx.scale)), None


def dropout(values: torch.Tensor, probability: float) -> torch.Tensor:
    """Zero each value with this probability and scale up the others; the probability is rounded to 1/65536 on CPUs.

    torch's own dropout draws one number for each value in turn on CPUs and costs several times as much forward
    (benchmarks/NOTES.md). Both take their randomness from torch's default generator.
    """
    if probability == 0:
        return values
    if probability == 1:
        return values * 0
    if values.device.type == "cpu":
        return _DropoutFromWords.apply(values, probability)
    return F.dropout(values, probability)
