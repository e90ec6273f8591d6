"""The operations that have several implementations: which one runs here, and why; each has its plain reference.

Steps: (1) `resolve_attention` and `resolve_layer_norm` pick an implementation for a device once: installed, equal to
the reference on this device, and (apex) faster; (2) `kernel_table` says what was picked and why not the others, for the
start of a run and `--dry-run`; (3) the model calls what was picked. What goes over the vocabulary is in softmax.py.

Shapes: T word pieces of a micro-batch, H heads, D width of a head.
"""

import functools
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional as F

from pretraining.attention import (
    Attention,
    attention_by_sample,
    attention_flash_attn,
    attention_jagged,
    attention_varlen,
    attention_written_out,
)
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
    """Whether a module could be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that would hold it
        return False


def fault_of_attention(attention: Attention, device: str, dtype: torch.dtype) -> str | None:
    """Why this attention cannot be used on the device: it fails, or output or gradient differ from the reference's."""
    generator = torch.Generator().manual_seed(0)
    lengths, plain = (32, 16, 1), torch.randn(49, 3, 2, 64, generator=generator)
    bounds = torch.tensor([0, 32, 48, 49], dtype=torch.int32)
    results = []
    try:
        for run, values, cu_seqlens in (
            (attention_by_sample, plain.to(dtype).float(), bounds),
            (attention, plain.to(device, dtype), bounds.to(device)),
        ):
            # The first call may come from an evaluation, without gradients, or from under autocast.
            with torch.enable_grad(), torch.autocast(device, enabled=False):
                qkv = values.requires_grad_()
                output = run(qkv, lengths, cu_seqlens, 0.0)
                output.float().square().sum().backward()
            results.append((output.detach().float().cpu(), qkv.grad.float().cpu()))
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        return f"its self-test failed ({type(error).__name__}: {str(error).splitlines()[0][:60]})"
    tolerance = 2e-2 if dtype.itemsize < 4 else 1e-5  # of the largest value: bf16 has 8 bits
    for expected, found in zip(*results, strict=True):
        if not (found - expected).abs().max() <= tolerance * expected.abs().max():
            return "its self-test differs from the reference"
    return None


@functools.cache
def resolve_attention(device_type: str, dtype: torch.dtype, with_dropout: bool) -> Choice:
    """The attention for this kind of device, this precision, and attention dropout or none."""
    if device_type != "cuda":
        return Choice("attention_written_out", attention_written_out, "no CPU kernel of torch is faster backward")
    half, reasons = dtype in (torch.bfloat16, torch.float16), []
    for attention, module, excuse in (
        (attention_varlen, "torch.nn.attention.varlen", "no dropout" if with_dropout else ""),
        (attention_flash_attn, "flash_attn", ""),
    ):
        fault = excuse or (None if half else "half precision only")
        fault = fault or (None if installed(module) else "not installed")
        fault = fault or fault_of_attention(attention, device_type, dtype)
        if fault is None:
            return Choice(attention.__name__, attention, "; ".join(["one kernel over cu_seqlens", *reasons]))
        reasons.append(f"{module}: {fault}")
    return Choice("attention_jagged", attention_jagged, "; ".join(["one kernel over cu_seqlens", *reasons]))


def layer_norm_apex(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float) -> torch.Tensor:
    """LayerNorm over the last axis by NVIDIA's apex, on GPUs."""
    from apex.normalization.fused_layer_norm import fused_layer_norm_affine

    return fused_layer_norm_affine(values, weight, bias, weight.shape, epsilon)


def layer_norm_torch(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float) -> torch.Tensor:
    """Reference LayerNorm over the last axis."""
    return F.layer_norm(values, weight.shape, weight, bias, epsilon)


def seconds_of_layer_norm(run: Callable, device: str) -> tuple[float, torch.Tensor]:
    """(seconds of 20 passes forward and backward, output) on values as a step has them."""
    values = torch.sin(torch.arange(8192 * 768, device=device).view(8192, 768).float()).requires_grad_()
    weight, bias = torch.ones(768, device=device), torch.zeros(768, device=device)
    with torch.enable_grad(), torch.autocast(device, enabled=False):
        run(values, weight, bias, 1e-12).sum().backward()
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(20):
            output = run(values, weight, bias, 1e-12)
            output.sum().backward()
        torch.cuda.synchronize()
    return time.perf_counter() - began, output.detach()


@functools.cache
def resolve_layer_norm(device_type: str) -> Choice:
    """torch's LayerNorm, or apex's on a GPU where it is installed, equal and faster."""
    found, word = nvidia_apex()
    plain = Choice("torch", layer_norm_torch, f"apex: {word}")
    if device_type != "cuda" or not found:
        return plain
    try:
        (ours, expected), (theirs, output) = (
            seconds_of_layer_norm(run, device_type) for run in (layer_norm_torch, layer_norm_apex)
        )
    except (ImportError, RuntimeError, TypeError) as error:
        return plain._replace(why=f"apex: its self-test failed ({type(error).__name__})")
    if not torch.allclose(output, expected, atol=1e-5):
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
    return True, f"version {importlib.metadata.version('apex')}"


def kernel_table(
    device_type: str,
    bias_correction: bool,
    dtype: torch.dtype = torch.bfloat16,
    attention_dropout: float = 0.1,
    optimizer: str = "adam",
    offloaded: bool = False,
) -> list[tuple[str, str, str]]:
    """Rows (operation, what runs, why) for the start of a run.

    bias_correction: Adam's. optimizer: --optimizer's. offloaded: whether the DeepSpeed JSON takes a GPU's steps on the
    CPU.
    """
    attention = resolve_attention(device_type, dtype, attention_dropout > 0)
    layer_norm = resolve_layer_norm(device_type)
    on_cpu, multiple = device_type == "cpu", VOCABULARY_MULTIPLE[device_type]
    vocabulary = "as it is", "padded it is slower (benchmarks/NOTES.md)"
    if multiple > 1:
        vocabulary = f"padded to {multiple}", "for tensor cores; nobody can draw the added ids"
    corrected = "with" if bias_correction else "no"
    why = f"{corrected} bias correction, at every ZeRO stage; torch's cannot leave it out, apex's is the same kernel"
    steps = "DeepSpeed FusedAdam", why
    if optimizer == "lamb":
        steps = "Lamb", "ours, on whole fp32 tensors"
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
