"""Attention of unpadded samples against torch's own, and exact categorical samples against float64."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pretraining import fused
from pretraining.attention import Attention, attention_by_sample, attention_jagged
from pretraining.dropout import dropout
from pretraining.fused import (
    SAMPLING_BLOCK,
    cross_entropy_sum,
    fault_of_attention,
    kernel_table,
    nvidia_apex,
    resolve_attention,
    sample_inverse_cdf,
)

LENGTHS = (1, 37, 5, 128, 2)
LARGEST_UNIFORM = 1 - 2.0**-53
SMALLEST_SPACING = 2.0**-53


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


@pytest.mark.parametrize("attention", [attention_by_sample, attention_jagged])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-13), (torch.float32, 1e-5)], ids=["64", "32"])
def test_attention_equals_torch_s_sample_by_sample(attention: Attention, dtype: torch.dtype, tolerance: float) -> None:
    for ours, theirs in zip(run_attention(attention, dtype), run_attention(attention_of_torch, dtype), strict=True):
        assert ours.shape == theirs.shape and ours.dtype == dtype
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


@pytest.mark.parametrize("attention", [attention_by_sample, attention_jagged])
def test_attention_stays_within_the_sample(attention: Attention) -> None:
    qkv = torch.randn(sum(LENGTHS), 3, 2, 8, dtype=torch.float64)
    bounds = torch.tensor(np.cumsum([0, *LENGTHS]), dtype=torch.int32)
    changed = qkv.clone()
    changed[bounds[3] : bounds[4]] += 1
    ours, other = attention(qkv, LENGTHS, bounds, 0.0), attention(changed, LENGTHS, bounds, 0.0)
    differs = (ours != other).flatten(1).any(1)
    assert torch.equal(differs.nonzero().flatten(), torch.arange(int(bounds[3]), int(bounds[4])))


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


def test_the_choice_is_named_in_the_table() -> None:
    assert resolve_attention("cpu", torch.float32, True).run is attention_by_sample
    choice = resolve_attention("cuda", torch.float32, True)
    assert choice.run is attention_jagged
    assert "varlen: no dropout" in choice.why and "flash_attn: half precision only" in choice.why
    for device in ("cpu", "cuda"):
        rows = {name: (chosen, why) for name, chosen, why in kernel_table(device, True, torch.float32)}
        assert rows["attention"][0] == resolve_attention(device, torch.float32, True).name
        assert rows["optimizer"][1].startswith("with bias correction")
        assert all(chosen and why for chosen, why in rows.values())
    assert kernel_table("cpu", bias_correction=False)[-1][2].startswith("no bias correction")


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


def reference_ids(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The plain inverse of the cumulative sum, all of it in float64, clamped to the last id of some weight."""
    weights = torch.exp(logits - logits.amax(-1, keepdim=True)).double()
    cumulative = weights.cumsum(-1)
    ids = torch.searchsorted(cumulative, uniforms.unsqueeze(1) * cumulative[:, -1:], right=True)
    last = torch.where(weights > 0, torch.arange(weights.shape[1]), -1).amax(1, keepdim=True)
    return ids.minimum(last).squeeze(1)


@pytest.mark.parametrize("vocabulary", [1, 2, 127, 128, 129, 1000, 30_522])
@pytest.mark.parametrize("scale", [0.02, 1.0, 8.0], ids=["flat", "normal", "peaked"])
def test_samples_equal_float64_on_every_row(vocabulary: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    rows = 100 if vocabulary > 10_000 else 4000
    logits = torch.randn(rows, vocabulary, generator=generator) * scale
    uniforms = torch.rand(rows, generator=generator, dtype=torch.float64)
    ids = sample_inverse_cdf(logits, uniforms)
    assert ids.dtype == torch.int64 and ids.shape == (rows,)
    assert torch.equal(ids, reference_ids(logits, uniforms))
    assert torch.equal(sample_inverse_cdf(logits.double(), uniforms), reference_ids(logits.double(), uniforms))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_sampled_as_exactly(dtype: torch.dtype) -> None:
    logits = (torch.randn(1000, 5000) * 3).to(dtype)
    uniforms = torch.rand(1000, dtype=torch.float64)
    assert torch.equal(sample_inverse_cdf(logits, uniforms), reference_ids(logits.float(), uniforms))


@pytest.mark.parametrize("vocabulary", [5, 128, 300])
def test_the_ends_of_the_uniforms(vocabulary: int) -> None:
    logits = torch.randn(50, vocabulary)
    assert (sample_inverse_cdf(logits, torch.zeros(50, dtype=torch.float64)) == 0).all()
    last = torch.full((50,), LARGEST_UNIFORM, dtype=torch.float64)
    assert (sample_inverse_cdf(logits, last) == vocabulary - 1).all()
    # The first and last ids have no weight: the nearest ones that have some.
    logits[:, :2] = logits[:, -2:] = -torch.inf
    assert (sample_inverse_cdf(logits, torch.zeros(50, dtype=torch.float64)) == 2).all()
    assert (sample_inverse_cdf(logits, last) == vocabulary - 3).all()


@pytest.mark.parametrize("uniform", [0.0, SMALLEST_SPACING, 0.5, LARGEST_UNIFORM])
def test_rows_with_a_single_possible_id(uniform: float) -> None:
    vocabulary = 3 * SAMPLING_BLOCK + 17
    logits = torch.full((vocabulary, vocabulary), -torch.inf)
    logits.fill_diagonal_(-7.0)
    ids = sample_inverse_cdf(logits, torch.full((vocabulary,), uniform, dtype=torch.float64))
    assert torch.equal(ids, torch.arange(vocabulary))


def test_ids_without_weight_are_never_drawn() -> None:
    """Whole blocks without weight, before, between and behind."""
    logits = torch.randn(1, 10 * SAMPLING_BLOCK)
    allowed = torch.zeros(10 * SAMPLING_BLOCK, dtype=torch.bool)
    allowed[[130, 131, 500, 501, 1000]] = True
    logits[:, ~allowed] = -torch.inf
    uniforms = torch.cat(
        [torch.linspace(0, LARGEST_UNIFORM, 5000, dtype=torch.float64), torch.tensor([LARGEST_UNIFORM])]
    )
    ids = sample_inverse_cdf(logits.expand(len(uniforms), -1), uniforms)
    assert set(ids.tolist()) == {130, 131, 500, 501, 1000}
    assert (ids.diff() >= 0).all()  # the inverse of a cumulative distribution does not go back


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_shares_follow_the_softmax(temperature: float) -> None:
    """Chi-square of 100,000 draws over 150 ids; the rarest are counted together."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(1, 150, generator=generator)
    uniforms = torch.rand(100_000, generator=generator, dtype=torch.float64)
    ids = sample_inverse_cdf((logits / temperature).expand(len(uniforms), -1), uniforms)
    expected = torch.softmax(logits[0].double() / temperature, 0) * len(uniforms)
    counts = torch.bincount(ids, minlength=150)
    rare = expected < 10
    if rare.any():
        expected, counts = (torch.cat([part[~rare], part[rare].sum()[None]]) for part in (expected, counts))
    degrees = len(expected) - 1
    assert degrees > 100
    assert ((counts - expected) ** 2 / expected).sum() < degrees + 5 * (2 * degrees) ** 0.5


def test_rare_ids_can_be_drawn_where_an_fp32_sum_loses_them() -> None:
    """One likely id and 30,521 that have 2.3e-8 of its weight each: together 7 of 10,000 draws. In fp32 most of
    them end where the one before ended and can never be drawn; here each is drawn at its place."""
    vocabulary = 30_522
    logits = torch.full((vocabulary,), -17.6)
    logits[0] = 0.0
    weights = torch.exp(logits)
    assert (weights.cumsum(0).diff() == 0).sum() > 15_000  # the trap is real
    middles = weights.double().cumsum(0) - weights.double() / 2
    wanted = torch.arange(0, vocabulary, 97)
    uniforms = (middles / weights.double().sum())[wanted]
    ids = torch.cat([sample_inverse_cdf(logits.expand(len(part), -1), part) for part in uniforms.split(64)])
    assert torch.equal(ids, wanted)


def test_every_rank_of_uniform_finds_the_right_block() -> None:
    """Uniforms right at the borders between ids: the id that begins there, not the one that ends."""
    logits = torch.zeros(1, 4 * SAMPLING_BLOCK)  # equal weights: id i owns [i, i + 1) / 512, exact in binary
    borders = torch.arange(512, dtype=torch.float64) / 512
    assert torch.equal(sample_inverse_cdf(logits.expand(512, -1), borders), torch.arange(512))
    below = (borders[1:] - SMALLEST_SPACING).clamp(min=0)
    assert torch.equal(sample_inverse_cdf(logits.expand(511, -1), below), torch.arange(511))


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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_cross_entropy_and_its_gradient_equal_torch_s(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = (torch.randn(200, 1009, generator=generator, dtype=torch.float64) * 4).to(dtype).requires_grad_()
    targets = torch.randint(1009, (200,), generator=generator)
    targets[:50] = logits[:50].argmax(-1)
    reference = logits.detach().clone().requires_grad_()
    wide = reference if dtype == torch.float64 else reference.float()
    expected = F.cross_entropy(wide, targets, reduction="sum")
    (3 * expected).backward()
    loss, correct = cross_entropy_sum(logits, targets)
    (3 * loss).backward()
    tolerance = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    assert loss.dtype == wide.dtype and loss.item() == pytest.approx(expected.item(), rel=min(tolerance, 1e-6))
    assert correct.item() == (reference.argmax(-1) == targets).sum().item() >= 50
    assert logits.grad.dtype == dtype
    assert (logits.grad - reference.grad).abs().max() <= tolerance * reference.grad.abs().max()


def test_ids_that_cannot_be_cost_nothing_and_get_no_gradient() -> None:
    """Rows of -inf, as a vocabulary padded to a multiple has them."""
    logits = torch.randn(20, 128, dtype=torch.float64)
    logits[:, 100:] = -torch.inf
    logits.requires_grad_()
    targets = torch.arange(20)
    loss, _ = cross_entropy_sum(logits, targets)
    loss.backward()
    assert loss.item() == pytest.approx(F.cross_entropy(logits[:, :100], targets, reduction="sum").item(), rel=1e-13)
    assert not logits.grad[:, 100:].any() and logits.grad.isfinite().all()


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
