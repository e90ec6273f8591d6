"""The operations that have several implementations: which one runs here, and why; each has its plain reference.

Steps: (1) `resolve_attention` and `resolve_layer_norm` pick an implementation for a device once: installed, equal to
the reference on this device, and (apex) faster; (2) `kernel_table` says what was picked and why not the others, for the
start of a run and `--dry-run`; (3) the model calls what was picked. What goes over the vocabulary is in softmax.py.

Shapes: T word pieces of a micro-batch, H heads, D width of a head.
"""

import functools
import importlib.machinery
import importlib.metadata
import importlib.util
import itertools
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch.nn import functional as F

from pretraining.attention import (
    Attention,
    attention_by_sample,
    attention_flash_attn,
    attention_flash_torch,
    attention_jagged,
    attention_varlen,
    attention_written_out,
)
from pretraining.config import Config
from pretraining.softmax import VOCABULARY_MULTIPLE


def compute_dtype(precision: str) -> torch.dtype:
    """The type of matrix products in a run whose DeepSpeed JSON says fp32, fp16, bf16 or autocast."""
    return {"fp32": torch.float32, "fp16": torch.float16}.get(precision, torch.bfloat16)


class Choice(NamedTuple):
    """What runs, and why not the others."""

    name: str
    run: Callable
    why: str


def installed(module: str) -> bool:
    """Whether a module is there, without importing it or a package that holds it, which may fail to import."""
    first, *rest = module.split(".")
    spec = importlib.util.find_spec(first)
    for depth in range(len(rest)):
        if spec is None or not spec.submodule_search_locations:
            return False
        name = ".".join((first, *rest[: depth + 1]))
        spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec is not None


def differs(found: Iterable[torch.Tensor], expected: Iterable[torch.Tensor], dtype: torch.dtype) -> bool:
    """Whether one of a kernel's results is not the reference's, by more than dtype's rounding of its largest value."""
    tolerance = 2e-2 if dtype.itemsize < 4 else 1e-5  # bf16 has 8 bits
    pairs = zip((part.float().cpu() for part in found), (part.float().cpu() for part in expected), strict=True)
    return any(not (ours - plain).abs().max() <= tolerance * plain.abs().max() for ours, plain in pairs)


def run_attention(
    attention: Attention, qkv: torch.Tensor, lengths: tuple[int, ...], outer: torch.Tensor, probability: float
) -> tuple[torch.Tensor, ...]:
    """(output, gradients of query, key and value) for the gradient `outer` of the output."""
    bounds = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=qkv.device)
    # The first call may come from an evaluation, without gradients, or from under autocast.
    with torch.enable_grad(), torch.autocast(qkv.device.type, enabled=False):
        given = qkv.detach().clone().requires_grad_()
        output = attention(given, lengths, bounds, probability)
        output.backward(outer)
    return output.detach(), *given.grad.unbind(1)


def fault_of_attention(
    attention: Attention, device: str, dtype: torch.dtype, with_dropout: bool = False, width: int = 64
) -> str | None:
    """Why this attention cannot be used on the device: it fails, or output or gradient differ from the reference's.

    width: of a head. The random numbers of the run stay as they are.
    """
    generator = torch.Generator().manual_seed(0)
    lengths = (200, 70, 16, 1)  # more than one block of a kernel, and less
    qkv, outer = (torch.randn(sum(lengths), *shape, width, generator=generator) for shape in ((3, 2), (2,)))
    plain, given = ([part.to(dtype).float() for part in (qkv, outer)], [part.to(dtype) for part in (qkv, outer)])
    expected = run_attention(attention_by_sample, plain[0], lengths, plain[1], 0.0)
    try:
        on_device = [part.to(device) for part in given]
        found = run_attention(attention, on_device[0], lengths, on_device[1], 0.0)
        if differs(found, expected, dtype):
            return "its self-test differs from the reference"
        return fault_of_dropout(attention, device, dtype, width) if with_dropout else None
    except Exception as error:  # kernels raise whatever they like
        return f"its self-test failed ({type(error).__name__}: {(str(error).splitlines() or ['no words'])[0][:60]})"


def fault_of_dropout(attention: Attention, device: str, dtype: torch.dtype, width: int) -> str | None:
    """Why this attention's dropout cannot be used: its rate, its scale, or a backward pass that drops other weights.

    With a unit matrix for values the output is the weights themselves, and shows which ones were dropped.
    """
    generator, samples, probability = torch.Generator().manual_seed(1), 4, 0.5
    qkv = torch.randn(samples * width, 3, 2, width, generator=generator)
    qkv[:, 2] = torch.eye(width).repeat(samples, 1).unsqueeze(1)
    outer = torch.randn(samples * width, 2, width, generator=generator)
    lengths, given = (width,) * samples, (qkv.to(device, dtype), outer.to(device, dtype))
    with torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else []):
        torch.manual_seed(0)
        found = run_attention(attention, given[0], lengths, given[1], probability)
    kept = (found[0] != 0).float().cpu()
    if abs(float(kept.mean()) - (1 - probability)) > 0.1:
        return f"its self-test dropped {1 - float(kept.mean()):.0%} of the weights instead of {probability:.0%}"
    masks = kept.view(samples, width, 2, width).transpose(1, 2)  # [samples, H, L, L]

    def with_these_masks(
        qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, probability: float
    ) -> torch.Tensor:
        query, key, value = qkv.view(samples, width, 3, 2, width).permute(2, 0, 3, 1, 4)  # [samples, H, L, D] each
        weights = F.softmax(query @ key.transpose(2, 3) * width**-0.5, dim=-1) * masks / (1 - probability)
        return (weights @ value).transpose(1, 2).reshape(samples * width, 2, width)

    plain = [part.to(dtype).float() for part in (qkv, outer)]
    expected = run_attention(with_these_masks, plain[0], lengths, plain[1], probability)
    return "dropout in its self-test differs from the reference" if differs(found, expected, dtype) else None


@functools.cache
def resolve_attention(device_type: str, dtype: torch.dtype, with_dropout: bool, width: int = 64) -> Choice:
    """The attention for this kind of device, this precision, attention dropout or none, and this width of a head."""
    if device_type != "cuda":
        return Choice("attention_written_out", attention_written_out, "no CPU kernel of torch is faster backward")
    half, reasons = dtype in (torch.bfloat16, torch.float16), []
    for attention, module, name in (
        (attention_varlen, "torch.nn.attention.varlen", "torch.nn.attention.varlen"),
        (attention_flash_attn, "flash_attn", "flash_attn"),
        (attention_flash_torch, "torch", "torch's flash attention"),
        (attention_jagged, "torch.nested", "torch.nested"),
    ):
        fault = "no dropout" if attention is attention_varlen and with_dropout else None
        fault = fault or (None if half or attention is attention_jagged else "half precision only")
        fault = fault or (None if installed(module) else "not installed")
        fault = fault or fault_of_attention(attention, device_type, dtype, with_dropout, width)
        if fault is None:
            return Choice(attention.__name__, attention, "; ".join(["one kernel over cu_seqlens", *reasons]))
        reasons.append(f"{name}: {fault}")
    return Choice("attention_by_sample", attention_by_sample, "; ".join(["no kernel works here", *reasons]))


def layer_norm_apex(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float) -> torch.Tensor:
    """LayerNorm over the last axis by NVIDIA's apex, on GPUs; under autocast in fp32, as torch's."""
    from apex.normalization.fused_layer_norm import fused_layer_norm_affine

    with torch.autocast(values.device.type, enabled=False):  # apex would cast all of them down
        return fused_layer_norm_affine(values.to(weight.dtype), weight, bias, weight.shape, epsilon)


def layer_norm_torch(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Reference LayerNorm over the last axis."""
    return F.layer_norm(values, weight.shape, weight, bias, epsilon)


def time_layer_norm(run: Callable, device: str, dtype: torch.dtype) -> tuple[float, tuple[torch.Tensor, ...]]:
    """(seconds of 20 passes forward and backward, (output, gradients)) on values as a step has them."""
    values = torch.sin(torch.arange(8192 * 768, device=device).view(8192, 768).float())
    outer = torch.cos(torch.arange(8192 * 768, device=device).view(8192, 768) * 0.7).to(dtype)
    weight = torch.linspace(0.5, 1.5, 768, device=device)
    inputs = [part.detach().to(dtype).requires_grad_() for part in (values, weight, weight - 1)]

    def once() -> tuple[torch.Tensor, ...]:
        output = run(*inputs, 1e-12)
        return output.detach(), *torch.autograd.grad(output, inputs, outer)

    with torch.enable_grad(), torch.autocast(device, enabled=False):
        once()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(20):
            results = once()
        torch.cuda.synchronize()
    return time.perf_counter() - began, results


@functools.cache
def resolve_layer_norm(device_type: str, dtype: torch.dtype) -> Choice:
    """torch's LayerNorm, or apex's on a GPU where it is installed, equal and faster. dtype: of its weights."""
    found, word = nvidia_apex()
    plain = Choice("torch", layer_norm_torch, f"apex: {word}")
    if device_type != "cuda" or not found:
        return plain
    try:
        (ours, expected), (theirs, results) = (
            time_layer_norm(run, device_type, dtype) for run in (layer_norm_torch, layer_norm_apex)
        )
    except Exception as error:  # kernels raise whatever they like
        return plain._replace(why=f"apex: its self-test failed ({type(error).__name__})")
    if differs(results, expected, dtype):
        return plain._replace(why="apex: its self-test differs from the reference")
    if theirs >= ours:
        return plain._replace(why=f"apex takes {theirs / ours:.2f} times as long")
    return Choice("apex", layer_norm_apex, f"torch takes {ours / theirs:.2f} times as long")


def nvidia_apex() -> tuple[bool, str]:
    """Whether NVIDIA's apex is installed, and a word on it. The package named apex on PyPI is another program."""
    if not installed("apex"):
        return False, "not installed (optional; bash launch/install_apex.sh builds it)"
    if not installed("apex.optimizers"):
        return False, "the installed apex is PyPI's Pyramid toolkit, not NVIDIA's: pip uninstall apex"
    try:
        return True, f"version {importlib.metadata.version('apex')}"
    except importlib.metadata.PackageNotFoundError:  # conda's package has another name
        return True, "version unknown"


def kernel_table(device_type: str, config: Config, precision: str, offloaded: bool) -> list[tuple[str, str, str]]:
    """Rows (operation, what runs, why) for the start of a run of this configuration.

    precision: of its DeepSpeed JSON. offloaded: whether the JSON takes a GPU's steps on the CPU.
    """
    dtype, optimizer, dropout = compute_dtype(precision), config.optimizer, config.model.attention_dropout
    attention = resolve_attention(device_type, dtype, dropout > 0, config.model.head_width)
    layer_norm = resolve_layer_norm(device_type, torch.float32 if precision == "autocast" else dtype)
    on_cpu, multiple = device_type == "cpu", VOCABULARY_MULTIPLE[device_type]
    vocabulary = "as it is", "padded it is slower (benchmarks/NOTES.md)"
    if multiple > 1:
        vocabulary = f"padded to {multiple}", "for tensor cores; nobody can draw the added ids"
    corrected = "with" if optimizer.adam_bias_correction else "no"
    why = f"{corrected} bias correction, at every ZeRO stage; torch's cannot leave it out, apex's is the same kernel"
    steps = "DeepSpeed FusedAdam", why
    if optimizer.optimizer == "lamb":
        steps = "Lamb", "ours, on whole fp32 tensors; apex's has not been tried (benchmarks/NOTES.md)"
    elif offloaded and not on_cpu:
        steps = "DeepSpeed CPUAdam", "the DeepSpeed JSON offloads it"
    return [
        ("attention", attention.name, attention.why),
        ("LayerNorm", layer_norm.name, layer_norm.why),
        ("GELU", "torch, exact (erf)", "as the reference"),
        ("dropout", *(("random words", "torch's is slower on CPUs") if on_cpu else ("torch", "on the GPU"))),
        ("vocabulary", *vocabulary),
        ("loss, samples", "one softmax", "kept from the loss to its gradient; samples by float64 sums (softmax.py)"),
        ("optimizer", *steps),
    ]
