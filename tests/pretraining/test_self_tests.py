"""The self-tests that kernels have to pass before a run uses them: what works passes, what is broken does not."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn import functional as F

from pretraining import fused
from pretraining.attention import (
    Attention,
    attention_by_sample,
    attention_flash_attn,
    attention_jagged,
    attention_varlen,
    attention_written_out,
)
from pretraining.fused import (
    fault_of_attention,
    installed,
    layer_norm_apex,
    nvidia_apex,
    resolve_attention,
    resolve_layer_norm,
    time_layer_norm,
)

Values = torch.Tensor
Lengths = tuple[int, ...]
HALF_AND_FULL = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


class _Queries(torch.autograd.Function):
    """The same values; the gradient of the queries with another sign."""

    @staticmethod
    def forward(ctx, qkv: Values) -> Values:  # noqa: ANN001
        return qkv.clone()

    @staticmethod
    def backward(ctx, gradient: Values) -> Values:  # noqa: ANN001
        return torch.cat([-gradient[:, :1], gradient[:, 1:]], dim=1)


class _OtherMask(torch.autograd.Function):
    """Attention whose backward pass drops other weights than its forward pass."""

    @staticmethod
    def forward(ctx, qkv: Values, lengths: Lengths, bounds: Values, probability: float) -> Values:  # noqa: ANN001
        ctx.arguments = qkv.detach(), lengths, bounds, probability
        return attention_by_sample(*ctx.arguments)

    @staticmethod
    def backward(ctx, gradient: Values) -> tuple[Values | None, ...]:  # noqa: ANN001
        qkv, *others = ctx.arguments
        with torch.enable_grad():
            given = qkv.requires_grad_()
            return torch.autograd.grad(attention_by_sample(given, *others), given, gradient)[0], None, None, None


def no_query_gradient(qkv: Values, lengths: Lengths, bounds: Values, probability: float) -> Values:
    return attention_by_sample(torch.cat([qkv[:, :1].detach(), qkv[:, 1:]], dim=1), lengths, bounds, probability)


def wrong_sign(qkv: Values, lengths: Lengths, bounds: Values, probability: float) -> Values:
    return attention_by_sample(_Queries.apply(qkv), lengths, bounds, probability)


def first_block_alone(qkv: Values, lengths: Lengths, bounds: Values, probability: float) -> Values:
    """As a kernel that forgets all keys behind its first block of 128."""
    outputs = []
    for sample in qkv.split(lengths):
        query, key, value = sample.permute(1, 2, 0, 3)  # [H, L, D] each
        weights = torch.softmax(query @ key[:, :128].transpose(1, 2) * query.shape[-1] ** -0.5, -1)
        outputs.append((weights @ value[:, :128]).transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("attention", [no_query_gradient, wrong_sign, first_block_alone])
@HALF_AND_FULL
def test_an_attention_with_a_broken_pass_is_refused(attention: Attention, dtype: torch.dtype) -> None:
    assert fault_of_attention(attention, "cpu", dtype) == "its self-test differs from the reference"


def never_drops(qkv: Values, lengths: Lengths, bounds: Values, probability: float) -> Values:
    return attention_by_sample(qkv, lengths, bounds, 0.0)


def not_scaled(qkv: Values, lengths: Lengths, bounds: Values, probability: float) -> Values:
    return attention_by_sample(qkv, lengths, bounds, probability) * (1 - probability)


def other_mask(qkv: Values, lengths: Lengths, bounds: Values, probability: float) -> Values:
    return _OtherMask.apply(qkv, lengths, bounds, probability)


@pytest.mark.parametrize(
    ("attention", "words"), [(never_drops, "dropped 0% of"), (not_scaled, "differs"), (other_mask, "differs")]
)
@HALF_AND_FULL
def test_an_attention_with_broken_dropout_is_refused(attention: Attention, words: str, dtype: torch.dtype) -> None:
    assert words in fault_of_attention(attention, "cpu", dtype, with_dropout=True)
    assert fault_of_attention(attention, "cpu", dtype) is None  # without dropout it is right


@pytest.mark.parametrize("width", [16, 64, 128])
@HALF_AND_FULL
def test_attention_that_works_passes_and_takes_no_random_number(dtype: torch.dtype, width: int) -> None:
    before = torch.random.get_rng_state()
    for attention in (attention_by_sample, attention_written_out):
        assert fault_of_attention(attention, "cpu", dtype, True, width) is None
    assert torch.equal(torch.random.get_rng_state(), before)
    if dtype == torch.float32:
        assert fault_of_attention(attention_jagged, "cpu", dtype, True, width) is None


def test_an_error_without_words_is_a_fault_too() -> None:
    def wordless(*_: object) -> Values:
        raise AssertionError

    assert fault_of_attention(wordless, "cpu", torch.float32) == "its self-test failed (AssertionError: no words)"


def test_where_no_kernel_works_the_reference_runs() -> None:
    if torch.cuda.is_available():
        pytest.skip("kernels work here")
    choice = resolve_attention("cuda", torch.bfloat16, True)
    assert choice.run is attention_by_sample
    assert "torch.nested: its self-test failed" in choice.why and "varlen: no dropout" in choice.why
    assert "torch.nn.attention.varlen: its self-test failed" in resolve_attention("cuda", torch.bfloat16, False).why


def test_flash_attn_is_called_as_its_version_2_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def flash_attn_varlen_qkvpacked_func(
        qkv: Values,
        cu_seqlens: Values,
        max_seqlen: int,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
    ) -> Values:
        assert qkv.shape[1] == 3 and cu_seqlens.dtype == torch.int32 and isinstance(max_seqlen, int)
        assert softmax_scale is None and not causal and max_seqlen == int(cu_seqlens.diff().max())
        return attention_by_sample(qkv, tuple(cu_seqlens.diff().tolist()), cu_seqlens, dropout_p)

    package = ModuleType("flash_attn")
    package.flash_attn_varlen_qkvpacked_func = flash_attn_varlen_qkvpacked_func
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    assert fault_of_attention(attention_flash_attn, "cpu", torch.bfloat16, with_dropout=True) is None


def test_varlen_attn_is_called_as_torch_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes and types are those of torch's own operator; it computes on GPUs only."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        qkv = torch.zeros(49, 3, 2, 64, dtype=torch.bfloat16, requires_grad=True)
        output = attention_varlen(qkv, (32, 17), torch.zeros(3, dtype=torch.int32), 0.0)
        output.sum().backward()
    assert output.shape == (49, 2, 64) and output.dtype == torch.bfloat16 and qkv.grad.shape == qkv.shape


def apex_with(function: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `function` be NVIDIA's fused_layer_norm_affine, and the CPU the device that it is tried on."""
    for name in ("apex", "apex.normalization", "apex.normalization.fused_layer_norm"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["apex.normalization.fused_layer_norm"].fused_layer_norm_affine = function
    monkeypatch.setattr(fused, "nvidia_apex", lambda: (True, "version 0.1"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    results = []

    def on_the_cpu(run: Callable, device: str, dtype: torch.dtype) -> tuple[float, tuple[Values, ...]]:
        results.append(time_layer_norm(run, "cpu", dtype)[1])
        return 1.0 / len(results), results[-1]  # apex, the second, is the faster one

    monkeypatch.setattr(fused, "time_layer_norm", on_the_cpu)
    resolve_layer_norm.cache_clear()


def layer_norm_of_apex(
    input: Values, weight: Values, bias: Values, normalized_shape: torch.Size, eps: float = 1e-6, memory: bool = False
) -> Values:
    """Upstream's signature; its kernels take one type for all three, and cast them down under autocast."""
    assert input.dtype == weight.dtype == bias.dtype and not torch.is_autocast_enabled("cpu")
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


def layer_norm_without_weight_gradient(input: Values, weight: Values, bias: Values, *others: object) -> Values:
    return layer_norm_of_apex(input, weight.detach(), bias, *others) + 0 * weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("function", "name"), [(layer_norm_of_apex, "apex"), (layer_norm_without_weight_gradient, "torch")]
)
def test_apex_s_layer_norm_is_tried_with_its_gradients_in_the_precision_of_the_run(
    function: Callable, name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    apex_with(function, monkeypatch)
    choice = resolve_layer_norm("cuda", dtype)
    resolve_layer_norm.cache_clear()
    assert choice.name == name, choice.why


def test_apex_s_layer_norm_under_autocast_computes_in_fp32_as_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    apex_with(layer_norm_of_apex, monkeypatch)
    values, weight, bias = torch.randn(8, 16).bfloat16(), torch.randn(16), torch.randn(16)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer_norm_apex(values, weight, bias, 1e-12)
    assert torch.equal(found, F.layer_norm(values.float(), (16,), weight, bias, 1e-12))


def test_a_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPI's apex does not import beside a newer Pyramid: that ended the run, and the sentence on it was never read."""
    package = tmp_path / "apex"
    package.mkdir()
    (package / "__init__.py").write_text(
        "raise ImportError('cannot import name UnencryptedCookieSessionFactoryConfig')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert nvidia_apex() == (False, "the installed apex is PyPI's Pyramid toolkit, not NVIDIA's: pip uninstall apex")
    (package / "optimizers").mkdir()
    (package / "optimizers/__init__.py").write_text("")
    assert nvidia_apex() == (True, "version unknown")
    assert installed("torch.nn.attention.varlen") and not installed("torch.nn.attention.varlen.more")
    assert not installed("nowhere.more")
