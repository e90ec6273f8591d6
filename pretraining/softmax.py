"""Everything that goes over the vocabulary: logits, the generator's loss and its samples, from one softmax.

Steps: (1) `vocabulary_logits` multiplies the hidden states of masked positions by the table of words; (2) the loss and
its gradient need exp(logit - highest of the row), and so does a sample: `cross_entropy_and_sample` computes them once;
`cross_entropy_sum` and `sample_inverse_cdf` are its two halves alone.

Shapes: M masked positions, V vocabulary, E embedding width.
"""

from typing import Any

import torch
from torch.nn import functional as F

# Sums of exp(logit - max) run in float64 over blocks of this many ids: a plain fp32 cumulative sum over 30,000 ids ends
# below its own total on up to 43 % of rows and can never draw thousands of rare ids (measured).
SAMPLING_BLOCK = 128
# A CPU widens a whole table to float64 before it sums: so many rows at once, 8 MB for 30,522 ids, stay in its cache.
SUMMED_ROWS = 32
# Columns of the logits are a multiple of this: tensor cores want rows that begin at 16 bytes, and 30,522 is twice an
# odd number. On CPUs the head of base takes 13 % longer with it (NOTES.md).
VOCABULARY_MULTIPLE = {"cuda": 128, "cpu": 1}


def at_least_fp32(values: torch.Tensor) -> torch.Tensor:
    """Half-precision values as fp32, for losses and sampling; fp32 and float64 stay as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def vocabulary_logits(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Logits over the vocabulary and, up to the device's multiple, over ids that cannot be: [M, E] -> [M, V + some].

    weight [V, E], bias [V]. The added columns are -inf: never drawn, never predicted, without gradient. Parameters,
    checkpoints and export have V rows.
    """
    more = -len(weight) % VOCABULARY_MULTIPLE[hidden.device.type]
    if more:
        weight, bias = F.pad(weight, (0, 0, 0, more)), F.pad(bias, (0, more), value=-torch.inf)
    return F.linear(hidden, weight, bias)


def softmax_weights(logits: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """exp(logit - highest of the row): logits [M, V], highest [M, 1] -> [M, V up to whole blocks of SAMPLING_BLOCK].

    Written straight into the larger table, without a copy; the added columns weigh nothing: nobody can draw them.
    """
    rows, vocabulary = logits.shape
    weights = logits.new_empty(rows, vocabulary + -vocabulary % SAMPLING_BLOCK)
    weights[:, vocabulary:] = 0
    torch.sub(logits, highest, out=weights[:, :vocabulary]).exp_()
    return weights


class _LossAndSample(torch.autograd.Function):
    """Summed cross-entropy whose backward pass is one product, and samples; see `cross_entropy_and_sample`."""

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, uniforms: torch.Tensor | None, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        wide = at_least_fp32(logits)
        highest, best = wide.max(dim=-1, keepdim=True)
        table = softmax_weights(wide, highest)
        weights = table[:, : wide.shape[1]]
        totals = weights.sum(-1, keepdim=True)
        of_target = wide.gather(1, targets.unsqueeze(1))
        ctx.save_for_backward(weights, totals, targets)
        ctx.dtype = logits.dtype
        correct = (best.squeeze(1) == targets).sum()
        samples = None
        if uniforms is not None:
            if temperature != 1:
                table = softmax_weights(wide / temperature, highest / temperature)
            samples = draw(table, uniforms)
            ctx.mark_non_differentiable(samples)
        ctx.mark_non_differentiable(correct)
        return (totals.log() + highest - of_target).sum(), correct, samples

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        weights, totals, targets = ctx.saved_tensors
        result = weights * (gradient / totals)
        result.scatter_add_(1, targets.unsqueeze(1), (-gradient).expand(len(targets), 1))
        return result.to(ctx.dtype), None, None, None


def cross_entropy_sum(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum over rows of -log softmax(logits)[target], how many rows have their highest logit at the target).

    logits [M, V] in any floating type, targets int64 [M]. Equal to F.cross_entropy(reduction="sum") and argmax, which
    go over the logits twice as often: half precision is widened, the softmax and its gradient are one product each.
    """
    return _LossAndSample.apply(logits, targets, None, 1.0)[:2]


def cross_entropy_and_sample(
    logits: torch.Tensor, targets: torch.Tensor, uniforms: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`cross_entropy_sum` of the logits and `sample_inverse_cdf` of logits / temperature, from one softmax at 1."""
    return _LossAndSample.apply(logits, targets, uniforms, temperature)


def sample_inverse_cdf(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Exact categorical samples of softmax(logits), one per row, from one uniform number each.

    logits [M, V] in any floating type, -inf allowed but not for a whole row; uniforms float64 [M] in [0, 1).
    Returns ids int64 [M]; an id of weight zero is never returned.
    """
    wide = at_least_fp32(logits)
    return draw(softmax_weights(wide, wide.amax(dim=-1, keepdim=True)), uniforms)


def draw(weights: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The inverse of the cumulative distribution at u: first the block of 128 ids, then the id inside it.

    weights [M, whole blocks] not negative, uniforms float64 [M] in [0, 1) -> ids int64 [M].
    """
    blocks = weights.unflatten(1, (-1, SAMPLING_BLOCK))
    rows = SUMMED_ROWS if weights.device.type == "cpu" else max(len(weights), 1)
    block_sums = torch.cat([part.sum(-1, dtype=torch.float64) for part in blocks.split(rows)])
    block_ends = block_sums.cumsum(-1)
    target = uniforms.unsqueeze(1) * block_ends[:, -1:]
    block = torch.searchsorted(block_ends, target, right=True).minimum(last_positive(block_sums))

    inside = blocks.gather(1, block.unsqueeze(2).expand(-1, 1, SAMPLING_BLOCK)).squeeze(1).double()
    rest = (target - (block_ends - block_sums).gather(1, block)).clamp(min=0)
    offset = torch.searchsorted(inside.cumsum(-1), rest, right=True).minimum(last_positive(inside))
    return (block * SAMPLING_BLOCK + offset).squeeze(1)


def last_positive(weights: torch.Tensor) -> torch.Tensor:
    """Column of the last weight above zero of each row: [M, N] -> int64 [M, 1]."""
    columns = torch.arange(weights.shape[1], device=weights.device)
    return torch.where(weights > 0, columns, -1).amax(dim=1, keepdim=True)
