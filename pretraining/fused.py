"""The operations that have several implementations: which one runs here, and why; each beside its plain reference.

Steps: (1) `choose_attention` picks the attention for a device once; (2) `kernel_table` says what was picked and why
not the others, for the start of a run and `--dry-run`; (3) the model calls `attention(...)`, the objective
`sample_inverse_cdf(...)`.

Shapes: T word pieces of a micro-batch, H heads, D width of a head, S samples, M masked positions, V vocabulary.
"""

import importlib.metadata
import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

# Sums of exp(logit - max) run in float64 over blocks of this many ids: a plain fp32 cumulative sum over 30,000 ids ends
# below its own total on up to 43 % of rows and can never draw thousands of rare ids (measured).
SAMPLING_BLOCK = 128


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


class _DropoutFromWords(torch.autograd.Function):
    """Dropout from 16-bit parts of 64-bit random words; see `dropout`."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, probability: float) -> torch.Tensor:
        threshold = round(probability * 2**16)
        words = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.int16)[: values.numel()] >= threshold - 2**15
        # A product with a mask of the values' own type: torch.where takes 10 times as long on CPUs (NOTES.md).
        mask = keep.view(values.shape).to(values.dtype)
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


Attention = Callable[[torch.Tensor, tuple[int, ...], torch.Tensor, float], torch.Tensor]


def choose_attention(device_type: str) -> Attention:
    """The attention for this kind of device."""
    return attention_jagged if device_type == "cuda" else attention_by_sample


def at_least_fp32(values: torch.Tensor) -> torch.Tensor:
    """Half-precision values as fp32, for losses and sampling; fp32 and float64 stay as they are."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def softmax_weights(logits: torch.Tensor, columns: int, highest: torch.Tensor | None = None) -> torch.Tensor:
    """exp(logit - highest of the row), [M, V] -> [M, columns]; columns beyond V weigh nothing: nobody can draw them.

    Written straight into the padded table, without a copy; highest [M, 1] is computed where it is not given.
    """
    rows, vocabulary = logits.shape
    highest = logits.amax(dim=-1, keepdim=True) if highest is None else highest
    weights = logits.new_empty(rows, columns)
    weights[:, vocabulary:] = 0
    torch.sub(logits, highest, out=weights[:, :vocabulary]).exp_()
    return weights


class _CrossEntropy(torch.autograd.Function):
    """Summed cross-entropy whose backward pass is one product; see `cross_entropy_sum`."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        wide = at_least_fp32(logits)
        highest, best = wide.max(dim=-1, keepdim=True)
        weights = softmax_weights(wide, wide.shape[1], highest)
        totals = weights.sum(-1, keepdim=True)
        of_target = wide.gather(1, targets.unsqueeze(1))
        ctx.save_for_backward(weights, totals, targets)
        ctx.dtype = logits.dtype
        correct = (best.squeeze(1) == targets).sum()
        ctx.mark_non_differentiable(correct)
        return (totals.log() + highest - of_target).sum(), correct

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor, None]:
        weights, totals, targets = ctx.saved_tensors
        result = weights * (gradient / totals)
        result.scatter_add_(1, targets.unsqueeze(1), (-gradient).expand(len(targets), 1))
        return result.to(ctx.dtype), None


def cross_entropy_sum(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(sum over rows of -log softmax(logits)[target], how many rows have their highest logit at the target).

    logits [M, V] in any floating type, targets int64 [M]. Equal to F.cross_entropy(reduction="sum") and argmax, which
    go over the logits twice as often: half precision is widened, the softmax and its gradient are one product each.
    """
    return _CrossEntropy.apply(logits, targets)


def sample_inverse_cdf(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """Exact categorical samples of softmax(logits), one per row, from one uniform number each.

    logits [M, V] in any floating type, -inf allowed but not for a whole row; uniforms float64 [M] in [0, 1).
    Returns ids int64 [M]; an id of weight zero is never returned.
    The inverse of the cumulative distribution at u: first the block of 128 ids, then the id inside it.
    """
    rows, vocabulary = logits.shape
    weights = softmax_weights(at_least_fp32(logits), columns=vocabulary + -vocabulary % SAMPLING_BLOCK)
    weights = weights.view(rows, -1, SAMPLING_BLOCK)
    block_sums = weights.sum(-1, dtype=torch.float64)
    block_ends = block_sums.cumsum(-1)
    target = uniforms.unsqueeze(1) * block_ends[:, -1:]
    block = torch.searchsorted(block_ends, target, right=True).minimum(last_positive(block_sums))

    inside = weights.gather(1, block.unsqueeze(2).expand(-1, 1, SAMPLING_BLOCK)).squeeze(1).double()
    rest = (target - (block_ends - block_sums).gather(1, block)).clamp(min=0)
    offset = torch.searchsorted(inside.cumsum(-1), rest, right=True).minimum(last_positive(inside))
    return (block * SAMPLING_BLOCK + offset).squeeze(1)


def last_positive(weights: torch.Tensor) -> torch.Tensor:
    """Column of the last weight above zero of each row: [M, N] -> int64 [M, 1]."""
    columns = torch.arange(weights.shape[1], device=weights.device)
    return torch.where(weights > 0, columns, -1).amax(dim=1, keepdim=True)


def nvidia_apex() -> tuple[bool, str]:
    """Whether NVIDIA's apex is installed, and a word on it. The package named apex on PyPI is another program."""
    if importlib.util.find_spec("apex") is None:
        return False, "not installed (optional; build it from github.com/NVIDIA/apex)"
    if importlib.util.find_spec("apex.optimizers") is None:
        return False, "the installed apex is PyPI's Pyramid toolkit, not NVIDIA's: pip uninstall apex"
    return True, f"version {importlib.metadata.version('apex')}"


def kernel_table(device_type: str, bias_correction: bool) -> list[tuple[str, str, str]]:
    """Rows (operation, what runs, why) for the start of a run; bias_correction: Adam's."""
    chosen = choose_attention(device_type).__name__
    attention = (
        "one kernel over cu_seqlens, with dropout"
        if chosen == "attention_jagged"
        else "no CPU kernel is faster backward"
    )
    return [
        ("attention", chosen, attention),
        ("LayerNorm", "torch.nn.LayerNorm", f"apex: {nvidia_apex()[1]}"),
        ("GELU", "torch, exact (erf)", "as the reference"),
        (
            "dropout",
            "from 64-bit random words" if device_type == "cpu" else "torch",
            "three times faster than torch's on CPUs" if device_type == "cpu" else "on the GPU",
        ),
        ("sampling", "sample_inverse_cdf", "one uniform number per masked position, float64 sums"),
        (
            "optimizer",
            "DeepSpeed FusedAdam",
            f"{'with' if bias_correction else 'no'} bias correction, at every ZeRO stage",
        ),
    ]
