"""Dropout that is cheap on CPUs, where torch draws one random number for each value in turn.

Steps: (1) 64-bit random words, four values of 16 bits each; (2) compare them with the probability; (3) multiply.
Where a network is compiled, the first is an operator that the compiler does not look into: it draws the same numbers.
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


class _DropoutFromWords(torch.autograd.Function):
    """Dropout from 16-bit parts of 64-bit random words; see `dropout`."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, probability: float) -> torch.Tensor:
        threshold = round(probability * 2**16)
        keep = random_words(values) >= threshold - 2**15
        # A product with a mask of the values' own type: torch.where takes 10 times as long on CPUs (NOTES.md).
        mask = keep.to(values.dtype)
        scale = 2**16 / (2**16 - threshold)
        ctx.scale = None
        if values.dtype.itemsize < 4:
            ctx.scale = scale  # applied in fp32: in the mask it would be rounded to 8 bits
        else:
            mask *= scale
        ctx.save_for_backward(mask)
        return values * mask if ctx.scale is None else (values * mask).mul_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradient * mask if ctx.scale is None else (gradient * mask).mul_(ctx.scale), None


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
