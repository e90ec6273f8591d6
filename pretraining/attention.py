"""Attention within each sample of an unpadded micro-batch, six implementations; fused.py chooses one of them.

Steps: (1) `attention_by_sample` is the plain reference; (2) `attention_written_out` is the fast one on CPUs, with its
backward pass written by hand; (3) the others are kernels over `cu_seqlens` for GPUs. All equal the reference
(tests/pretraining/test_fused.py and test_kernels_gpu.py).

Shapes: T word pieces of a micro-batch, S samples, H heads, D width of a head, L length of a sample.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pretraining.dropout import dropout, dropout_mask, masked

# (qkv [T, 3, H, D], lengths of S samples, cu_seqlens int32 [S + 1], dropout probability) -> [T, H, D]
Attention = Callable[[torch.Tensor, tuple[int, ...], torch.Tensor, float], torch.Tensor]


def attention_by_sample(
    qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout_probability: float
) -> torch.Tensor:
    """Reference attention within each sample: plain matrix products and softmax, samples of equal length at once.

    qkv [T, 3, H, D] -> [T, H, D]. Samples come longest first (data.deal), and most are of full length, so that a few
    products serve a whole micro-batch.
    """
    heads, width = qkv.shape[2:]
    runs = [(length, len(list(same))) for length, same in itertools.groupby(lengths)]
    outputs = []
    # split, not slices: its backward is one concatenation instead of one full-size gradient per sample.
    for (length, count), samples in zip(runs, qkv.split([length * count for length, count in runs]), strict=True):
        query, key, value = samples.view(count, length, 3, heads, width).permute(2, 0, 3, 1, 4)  # [count, H, L, D] each
        scores = torch.matmul(query * width**-0.5, key.transpose(2, 3))
        weights = dropout(F.softmax(scores, dim=-1), dropout_probability)
        outputs.append(torch.matmul(weights, value).transpose(1, 2).reshape(count * length, heads, width))
    return torch.cat(outputs)


def by_sample(values: torch.Tensor, lengths: tuple[int, ...]) -> Iterator[torch.Tensor]:
    """Views of [T, ..., H, D] for each run of samples of equal length: [..., samples, H, L, D], heads before words."""
    begin = 0
    for length, same in itertools.groupby(lengths):
        count = len(list(same))
        part = values[begin : begin + count * length].unflatten(0, (count, length))  # [count, L, ..., H, D]
        begin += count * length
        yield part.movedim((0, 1), (-4, -2))


class _AttentionWrittenOut(torch.autograd.Function):
    """Attention and its backward pass, samples of equal length at once; see `attention_written_out`."""

    @staticmethod
    def forward(ctx: Any, qkv: torch.Tensor, lengths: tuple[int, ...], probability: float) -> torch.Tensor:
        output = qkv.new_empty(len(qkv), *qkv.shape[2:])
        ctx.lengths, ctx.drops, ctx.scale, kept = lengths, probability > 0, 1.0, []
        for inputs, result in zip(by_sample(qkv, lengths), by_sample(output, lengths), strict=True):
            dense = inputs.clone(memory_format=torch.contiguous_format)
            query, key, value = dense.flatten(1, 2).unbind()  # [samples * H, L, D] each
            query *= query.shape[-1] ** -0.5
            weights = torch.softmax(torch.bmm(query, key.transpose(1, 2)), dim=-1)
            kept += [query, key, value, weights]
            if ctx.drops:
                mask, ctx.scale = dropout_mask(weights, probability)
                value *= ctx.scale  # here, not in the weights: L * D values instead of L * L
                weights = masked(weights, mask)
                kept.append(mask)
            result.copy_(torch.bmm(weights, value).view(result.shape))
        ctx.save_for_backward(*kept)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        result = gradient.new_empty(len(gradient), 3, *gradient.shape[1:])
        tensors = iter(ctx.saved_tensors)  # once: recomputed activations can be asked for once
        for outer, parts in zip(by_sample(gradient, ctx.lengths), by_sample(result, ctx.lengths), strict=True):
            query, key, value, weights = itertools.islice(tensors, 4)
            mask = next(tensors) if ctx.drops else None
            outer = outer.reshape(query.shape)
            kept = weights if mask is None else masked(weights, mask)
            of_value = torch.bmm(kept.transpose(1, 2), outer)
            of_weights = torch.bmm(outer, value.transpose(1, 2))  # the scale of dropout is in the value
            if mask is not None:
                of_value *= ctx.scale
                of_weights = masked(of_weights, mask)
            of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
            of_query = torch.bmm(of_scores, key).mul_(query.shape[-1] ** -0.5)
            of_key = torch.bmm(of_scores.transpose(1, 2), query)  # the query is scaled already
            for part, found in zip(parts, (of_query, of_key, of_value), strict=True):
                part.copy_(found.view(part.shape))
        return result, None, None


def attention_written_out(
    qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout_probability: float
) -> torch.Tensor:
    """The reference's matrix products with a backward pass written by hand: what CPUs use.

    qkv [T, 3, H, D] -> [T, H, D]. Query, key and value are copied once so that each product is of dense matrices, all
    gradients go straight to their place, and the scales stay with the L * D values. Draws what the reference draws.
    """
    with torch.autocast(qkv.device.type, enabled=False):
        return _AttentionWrittenOut.apply(qkv, lengths, dropout_probability)


def attention_jagged(
    qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout_probability: float
) -> torch.Tensor:
    """Attention of all samples in one kernel over `cu_seqlens`: torch's scaled dot product on jagged nested tensors.

    qkv [T, 3, H, D] -> [T, H, D]. On GPUs this runs flash attention in half precision, with dropout.
    """
    query, key, value = (
        torch.nested.nested_tensor_from_jagged(
            part.contiguous(), cu_seqlens.long(), min_seqlen=min(lengths), max_seqlen=max(lengths)
        ).transpose(1, 2)
        for part in qkv.unbind(1)
    )
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout_probability).transpose(1, 2).values()


def attention_flash_torch(
    qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout_probability: float
) -> torch.Tensor:
    """The same by the operator below torch's varlen_attn: qkv [T, 3, H, D] in bf16 or fp16 -> [T, H, D]; with dropout.

    Jagged nested tensors end in the same kernel, but their classes in Python took 4 ms a layer forward and as much
    backward (benchmarks/NOTES.md): more than the whole step of a GPU. Torch may change the operator without a word:
    then the self-test of fused.py fails, and they run.
    """
    query, key, value = qkv.unbind(1)
    longest = max(lengths)
    bounds = (cu_seqlens, cu_seqlens, longest, longest)
    return torch.ops.aten._flash_attention_forward(query, key, value, *bounds, dropout_probability, False, False)[0]


def attention_flash_attn(
    qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout_probability: float
) -> torch.Tensor:
    """The same by the package flash-attn, version 2: qkv [T, 3, H, D] in bf16 or fp16 -> [T, H, D]; with dropout."""
    from flash_attn import flash_attn_varlen_qkvpacked_func

    return flash_attn_varlen_qkvpacked_func(qkv, cu_seqlens, max(lengths), dropout_p=dropout_probability)


def attention_varlen(
    qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout_probability: float
) -> torch.Tensor:
    """The same by torch's own varlen_attn: qkv [T, 3, H, D] in bf16 or fp16 -> [T, H, D]. It has no dropout."""
    from torch.nn.attention.varlen import varlen_attn

    assert dropout_probability == 0, "varlen_attn has no dropout"
    query, key, value = (part.contiguous() for part in qkv.unbind(1))
    longest = max(lengths)
    return varlen_attn(query, key, value, cu_seqlens, cu_seqlens, longest, longest)
