"""The generator's loss, its gradient and its samples against torch's own and against float64, on every row."""

import pytest
import torch
from torch.nn import functional as F

from pretraining.softmax import SAMPLING_BLOCK, cross_entropy_and_sample, cross_entropy_sum, sample_inverse_cdf

LARGEST_UNIFORM = 1 - 2.0**-53
SMALLEST_SPACING = 2.0**-53
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-5, torch.bfloat16: 1e-2}  # of the largest value


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
    tolerance = TOLERANCE[dtype]
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_loss_and_sample_from_one_softmax_equal_torch_s_and_float64_s(dtype: torch.dtype, temperature: float) -> None:
    """With an id that cannot be at the end of the padded row; no gradient comes from the samples."""
    generator = torch.Generator().manual_seed(4)
    logits = (torch.randn(300, 1009, generator=generator, dtype=torch.float64) * 4).to(dtype)
    logits[:, -1] = -torch.inf
    targets = torch.randint(1008, (300,), generator=generator)
    uniforms = torch.rand(300, generator=generator, dtype=torch.float64)
    ours, reference = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    wide = reference if dtype == torch.float64 else reference.float()
    expected = F.cross_entropy(wide, targets, reduction="sum")
    expected.backward()
    loss, correct, ids = cross_entropy_and_sample(ours, targets, uniforms, temperature)
    loss.backward()
    tolerance = TOLERANCE[dtype]
    assert torch.equal(ids, reference_ids(wide.detach() / temperature, uniforms)) and not ids.requires_grad
    assert loss.dtype == wide.dtype and loss.item() == pytest.approx(expected.item(), rel=min(tolerance, 1e-6))
    assert correct.item() == (logits.argmax(-1) == targets).sum().item()
    assert ours.grad.dtype == dtype and not ours.grad[:, -1].any()
    assert (ours.grad - reference.grad).abs().max() <= tolerance * reference.grad.abs().max()
