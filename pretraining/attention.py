"""Attention within each sample of an unpadded micro-batch, four implementations; fused.py chooses one of them.

Steps: (1) `attention_by_sample` is the plain reference, and the fast one on CPUs; (2) the others are kernels over
`cu_seqlens` for GPUs, equal to it (tests/pretraining/test_fused.py and test_kernels_gpu.py).

Shapes: T word pieces of a micro-batch, S samples, H heads, D width of a head, L length of a sample.
"""

import itertools
from collections.abc import Callable

import torch
from torch.nn import functional as F

from pretraining.dropout import dropout

# (qkv [T, 3, H, D], lengths of S samples, cu_seqlens int32 [S + 1], dropout probability) -> [T, H, D]
Attention = Callable[[torch.Tensor, tuple[int, ...], torch.Tensor, float], torch.Tensor]


def attention_by_sample(
    qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout_probability: float
) -> torch.Tensor:
    """Reference attention within each sample: plain matrix products and softmax, samples of equal length at once.

    qkv [T, 3, H, D] -> [T, H, D]. On CPUs this is also the fast one: their flash attention's backward pass is
    slower than three matrix products at these lengths, and no padding is computed. Samples come longest first
    (data.deal), and most are of full length, so that a few products serve a whole micro-batch.
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
