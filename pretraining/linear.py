"""A linear layer whose bias gradient is cheap on CPUs: a row of ones times the gradient, one matrix product.

torch sums the gradient over its rows, which takes twice as long in fp32 (widths 768 to 3,072) and up to three times in
bf16, where it makes a copy in fp32 first: 4 to 10 % of a step of `small` (benchmarks/NOTES.md).

Steps: (1) the product and the bias as torch's layer computes them, the bias without gradient; (2) `_WithBiasGradient`
passes the output on, and the gradient backwards, from which it takes the bias's.

Shapes: T word pieces, N output width.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class _WithBiasGradient(torch.autograd.Function):
    """The output [T, N] of a linear layer as it is; backward also the gradient of its bias [N]."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.dtype = bias.dtype
        ctx.mark_dirty(output)  # or it would come out as a view, of which the compiler makes another graph
        return output

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast(gradient.device.type, enabled=False):
            ones = gradient.new_ones(1, len(gradient))
            return gradient, torch.mm(ones, gradient).squeeze(0).to(ctx.dtype)


def linear(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """torch's F.linear: values [T, width], weight [N, width], bias [N] -> [T, N]."""
    if values.device.type != "cpu" or torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return F.linear(values, weight, bias)
    return _WithBiasGradient.apply(F.linear(values, weight, bias.detach()), bias)


class Linear(nn.Linear):
    """torch's linear layer for [T, width] -> [T, N]; parameters, names and values are the same."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[T, width] -> [T, N]."""
        return linear(values, self.weight, self.bias)
