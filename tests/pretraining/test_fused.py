"""Attention of unpadded samples against torch's own, dropout, and which kernel is picked."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pretraining import fused
from pretraining.attention import (
    Attention,
    attention_by_sample,
    attention_flash_torch,
    attention_jagged,
    attention_varlen,
    attention_written_out,
)
from pretraining.dropout import dropout
from pretraining.fused import (
    Choice,
    fault_of_attention,
    installed,
    kernel_table,
    nvidia_apex,
    resolve_attention,
)
from tests.tiny import tiny_config

LENGTHS = (1, 37, 5, 128, 2)


def run_attention(attention: Attention, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(output, gradient of qkv) for fixed inputs of very different lengths."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(sum(LENGTHS), 3, 4, 16, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weights = torch.randn(sum(LENGTHS), 4, 16, generator=generator, dtype=torch.float64).to(dtype)
    bounds = torch.tensor(np.cumsum([0, *LENGTHS]), dtype=torch.int32)
    output = attention(qkv, LENGTHS, bounds, 0.0)
    (output * weights).sum().backward()
    return output.detach(), qkv.grad


def attention_of_torch(
    qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout: float
) -> torch.Tensor:
    """torch's scaled dot product, sample by sample."""
    outputs = []
    for sample in qkv.split(lengths):
        query, key, value = sample.permute(1, 2, 0, 3).unsqueeze(1)  # [1, H, L, D] each
        outputs.append(F.scaled_dot_product_attention(query, key, value)[0].transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("attention", [attention_by_sample, attention_written_out, attention_jagged])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-13), (torch.float32, 1e-5)], ids=["64", "32"])
def test_attention_equals_torch_s_sample_by_sample(attention: Attention, dtype: torch.dtype, tolerance: float) -> None:
    for ours, theirs in zip(run_attention(attention, dtype), run_attention(attention_of_torch, dtype), strict=True):
        assert ours.shape == theirs.shape and ours.dtype == dtype
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("attention", [attention_by_sample, attention_written_out, attention_jagged])
def test_attention_stays_within_the_sample(attention: Attention) -> None:
    qkv = torch.randn(sum(LENGTHS), 3, 2, 8, dtype=torch.float64)
    bounds = torch.tensor(np.cumsum([0, *LENGTHS]), dtype=torch.int32)
    changed = qkv.clone()
    changed[bounds[3] : bounds[4]] += 1
    ours, other = attention(qkv, LENGTHS, bounds, 0.0), attention(changed, LENGTHS, bounds, 0.0)
    differs = (ours != other).flatten(1).any(1)
    assert torch.equal(differs.nonzero().flatten(), torch.arange(int(bounds[3]), int(bounds[4])))


@pytest.mark.parametrize("dropout_probability", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_attention_written_out_drops_and_computes_as_the_reference(
    dtype: torch.dtype, dropout_probability: float
) -> None:
    """Same seed, same dropped weights; in bf16 no further from float64 than the reference is, by more than a tenth."""
    lengths, generator = (32, 32, 32, 16, 5, 1), torch.Generator().manual_seed(0)
    bounds = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32)
    plain = torch.randn(sum(lengths), 3, 4, 64, generator=generator).to(dtype)
    outer = torch.randn(sum(lengths), 4, 64, generator=generator).to(dtype)
    exact = torch.float64 if dtype != torch.bfloat16 else torch.float32  # bf16's masks are those of fp32
    results = []
    for attention, kind in (
        (attention_by_sample, exact),
        (attention_by_sample, dtype),
        (attention_written_out, dtype),
    ):
        qkv = plain.to(kind, copy=True).requires_grad_()
        torch.manual_seed(3)
        output = attention(qkv, lengths, bounds, dropout_probability)
        output.backward(outer.to(kind))
        results.append((output.detach().double(), qkv.grad.double()))
        assert torch.equal(plain.to(kind), qkv.detach())  # nothing was scaled in place
    for expected, reference, ours in zip(*results, strict=True):
        distances = [(found - expected).norm() / expected.norm() for found in (reference, ours)]
        assert distances[1] <= max(1.1 * distances[0], 1e-6 if dtype == torch.float32 else 1e-15)


def test_attention_written_out_works_where_activations_are_recomputed() -> None:
    """Saved tensors may be asked for once there, and the second forward pass must draw the same."""
    qkv, bounds = torch.randn(24, 3, 2, 8), torch.tensor([0, 16, 24], dtype=torch.int32)
    gradients = []
    for recompute in (False, True):
        given = qkv.clone().requires_grad_()
        torch.manual_seed(5)
        arguments = (given, (16, 8), bounds, 0.2)
        if recompute:
            output = checkpoint(attention_written_out, *arguments, use_reentrant=False)
        else:
            output = attention_written_out(*arguments)
        output.square().sum().backward()
        gradients.append(given.grad)
    assert torch.equal(*gradients)


def test_dropout_of_attention_weights_keeps_their_mean() -> None:
    """With equal scores and values of 1 each output is a mean of kept weights over 0.75: 1 on average."""
    qkv = torch.cat([torch.zeros(400, 2, 8, 4), torch.ones(400, 1, 8, 4)], dim=1)
    bounds = torch.tensor([0, 200, 400], dtype=torch.int32)
    torch.manual_seed(0)
    output = attention_by_sample(qkv, (200, 200), bounds, 0.25)
    assert output.mean() == pytest.approx(1.0, abs=0.01)
    expected_deviation = (0.25 / 0.75 / 200) ** 0.5
    assert output.std() == pytest.approx(expected_deviation, rel=0.1)
    torch.manual_seed(0)
    assert torch.equal(attention_by_sample(qkv, (200, 200), bounds, 0.25), output)
    torch.manual_seed(1)
    assert not torch.equal(attention_by_sample(qkv, (200, 200), bounds, 0.25), output)


@pytest.fixture
def without_self_tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every kernel that is installed works, as if there were a GPU."""
    resolve_attention.cache_clear()
    monkeypatch.setattr(fused, "fault_of_attention", lambda *_: None)
    yield
    resolve_attention.cache_clear()


def test_the_choice_is_named_in_the_table(without_self_tests: None) -> None:
    assert resolve_attention("cpu", torch.float32, True).run is attention_written_out
    choice = resolve_attention("cuda", torch.float32, True)
    assert choice.run is attention_jagged
    assert "varlen: no dropout" in choice.why and "flash_attn: half precision only" in choice.why
    assert resolve_attention("cuda", torch.bfloat16, False).run is attention_varlen
    if not installed("flash_attn"):
        assert resolve_attention("cuda", torch.bfloat16, True).run is attention_flash_torch
    for device in ("cpu", "cuda"):
        config = tiny_config(adam_bias_correction=True, attention_dropout=0.1)
        rows = {name: (chosen, why) for name, chosen, why in kernel_table(device, config, "fp32", False)}
        assert rows["attention"][0] == resolve_attention(device, torch.float32, True).name
        assert rows["optimizer"][1].startswith("with bias correction")
        assert all(chosen and why for chosen, why in rows.values())
    assert kernel_table("cpu", tiny_config(), "fp32", False)[-1][2].startswith("no bias correction")
    assert kernel_table("cpu", tiny_config(optimizer="lamb"), "fp32", False)[-1][:2] == ("optimizer", "Lamb")
    assert kernel_table("cuda", tiny_config(), "bf16", True)[-1][:2] == ("optimizer", "DeepSpeed CPUAdam")
    assert kernel_table("cpu", tiny_config(), "bf16", True)[-1][:2] == ("optimizer", "DeepSpeed FusedAdam")  # engine.py


def test_the_table_s_layer_norm_is_that_of_weights(without_self_tests: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast they stay fp32, whatever products are in: model.py asks for the weights' type."""
    monkeypatch.setattr(fused, "resolve_layer_norm", lambda _, dtype: Choice(str(dtype), torch.nn.LayerNorm, "why"))
    names = {
        precision: dict(row[:2] for row in kernel_table("cuda", tiny_config(), precision, False))["LayerNorm"]
        for precision in ("fp32", "autocast", "bf16", "fp16")
    }
    assert names == {
        "fp32": "torch.float32", "autocast": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16",
    }  # fmt: skip


def test_a_kernel_that_fails_or_differs_is_not_used() -> None:
    def wrong(qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout: float) -> torch.Tensor:
        return attention_by_sample(qkv, lengths, cu_seqlens, dropout) * 1.001

    def broken(qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout: float) -> torch.Tensor:
        raise RuntimeError("no kernel image\nfor this device")

    def across(qkv: torch.Tensor, lengths: tuple[int, ...], cu_seqlens: torch.Tensor, dropout: float) -> torch.Tensor:
        return attention_by_sample(qkv, (sum(lengths),), cu_seqlens, dropout)

    assert fault_of_attention(attention_jagged, "cpu", torch.float32) is None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert fault_of_attention(attention_jagged, "cpu", torch.float32) is None
    assert "differs" in fault_of_attention(wrong, "cpu", torch.float32)
    assert "differs" in fault_of_attention(across, "cpu", torch.bfloat16)
    assert fault_of_attention(broken, "cpu", torch.float32) == "its self-test failed (RuntimeError: no kernel image)"


def test_the_apex_of_pypi_is_recognised_and_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "installed", lambda module: module == "apex")  # a package without apex.optimizers
    found, word = nvidia_apex()
    assert not found and "Pyramid toolkit, not NVIDIA's: pip uninstall apex" in word
    monkeypatch.setattr(fused, "installed", lambda module: False)
    assert nvidia_apex() == (False, "not installed (optional; bash launch/install_apex.sh builds it)")


def test_dropout_zeroes_at_its_rate_scales_the_rest_and_passes_the_same_gradient() -> None:
    values = torch.full((400, 500), 2.0, requires_grad=True)
    torch.manual_seed(1)
    dropped = dropout(values, 0.1)
    kept = dropped != 0
    assert kept.double().mean().item() == pytest.approx(0.9, abs=0.003)
    assert torch.allclose(dropped[kept], torch.tensor(2 / 0.9), rtol=1e-4)
    dropped.sum().backward()
    assert torch.equal(values.grad, dropped.detach() / 2)
    # No pattern along rows or columns, another draw each time, the same after the same seed.
    for axis in (0, 1):
        shares = kept.double().mean(axis)
        deviation = (0.9 * 0.1 / kept.shape[axis]) ** 0.5
        assert shares.std().item() == pytest.approx(deviation, rel=0.15)
    assert not torch.equal(dropout(values, 0.1) != 0, kept)
    torch.manual_seed(1)
    assert torch.equal(dropout(values, 0.1), dropped)
    assert dropout(values, 0.0) is values


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dropout_just_below_one_drops_and_stays_finite(dtype: torch.dtype) -> None:
    """Rounded to 1/65536 it would be 1, and what is kept would be divided by nothing."""
    dropped = dropout(torch.ones(100_000, dtype=dtype), 0.999_999)
    assert dropped.isfinite().all() and (dropped == 0).double().mean() > 0.999


def test_dropout_draws_the_same_values_in_every_type() -> None:
    """By bits in half precision, by a product in wider types; what is dropped is plus zero, even where it was not
    finite."""
    values = torch.randn(300, 7, dtype=torch.float64)
    kept = []
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        torch.manual_seed(2)
        dropped = dropout(values.to(dtype), 0.3)
        assert torch.allclose(dropped[dropped != 0].double(), values[dropped != 0] / 0.7, rtol=2e-2)
        kept.append(dropped != 0)
    assert all(torch.equal(kept[0], other) for other in kept[1:])
    torch.manual_seed(2)
    infinite = dropout(torch.full((300, 7), -torch.inf, dtype=torch.bfloat16), 0.3)
    assert torch.equal(infinite == 0, ~kept[0]) and not infinite.isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dropout_keeps_the_mean_in_every_type(dtype: torch.dtype) -> None:
    """The scale 1.1111 is not rounded to bf16's 1.109."""
    torch.manual_seed(2)
    values = torch.full((100_000,), 256.0, dtype=dtype, requires_grad=True)
    dropped = dropout(values, 0.1)
    assert dropped.dtype == dtype
    expected = torch.tensor(256.0 / 0.9).to(dtype)
    assert torch.allclose(dropped[dropped != 0], expected, rtol=1e-4)
    dropped.backward(torch.full_like(values, 2.0))
    assert torch.allclose(values.grad[dropped != 0], torch.tensor(2.0 / 0.9).to(dtype), rtol=1e-4)
    assert not values.grad[dropped == 0].any()
