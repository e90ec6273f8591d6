"""Parity of every kernel on the GPU with its plain reference on the CPU; skipped where there is no GPU."""

import pytest
import torch
from torch.nn import functional as F

from pretraining.attention import (
    Attention,
    attention_flash_attn,
    attention_flash_torch,
    attention_jagged,
    attention_varlen,
)
from pretraining.compiling import compile_networks, resolve_compile
from pretraining.dropout import dropout
from pretraining.fused import (
    fault_of_attention,
    installed,
    layer_norm_apex,
    layer_norm_torch,
    nvidia_apex,
    resolve_attention,
    resolve_layer_norm,
)
from pretraining.objectives import build_objective
from pretraining.softmax import cross_entropy_and_sample, sample_inverse_cdf
from tests.full_batch import full_batch
from tests.tiny import VOCAB_SIZE, tiny_config

pytestmark = pytest.mark.gpu
MODULES = {attention_flash_attn: "flash_attn", attention_varlen: "torch.nn.attention.varlen"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("attention", [attention_flash_attn, attention_flash_torch, attention_varlen, attention_jagged])
def test_attention_and_its_gradient_equal_the_reference(attention: Attention, dtype: torch.dtype) -> None:
    if attention in MODULES and not installed(MODULES[attention]):
        pytest.skip(f"{MODULES[attention]} is not installed")
    assert fault_of_attention(attention, "cuda", dtype, with_dropout=attention is not attention_varlen) is None


@pytest.mark.parametrize("with_dropout", [False, True])
def test_the_chosen_attention_drops_at_its_rate(with_dropout: bool) -> None:
    """Equal scores and values of 1: each output is a mean of kept weights over 0.75, which is 1 on average."""
    qkv = torch.cat([torch.zeros(512, 2, 8, 64), torch.ones(512, 1, 8, 64)], dim=1).to("cuda", torch.bfloat16)
    bounds = torch.tensor([0, 256, 512], dtype=torch.int32, device="cuda")
    attention = resolve_attention("cuda", torch.bfloat16, with_dropout).run
    output = attention(qkv, (256, 256), bounds, 0.25 if with_dropout else 0.0).float()
    assert output.mean().item() == pytest.approx(1.0, abs=0.02)
    assert (output.std().item() > 0.01) == with_dropout


def test_apex_layer_norm_equals_torch_s() -> None:
    if not nvidia_apex()[0]:
        pytest.skip(nvidia_apex()[1])
    values, weight, bias = torch.randn(100, 768), torch.randn(768), torch.randn(768)
    results = []
    for run, device in ((layer_norm_torch, "cpu"), (layer_norm_apex, "cuda")):
        inputs = [tensor.detach().clone().to(device).requires_grad_() for tensor in (values, weight, bias)]
        output = run(*inputs, 1e-12)
        output.square().sum().backward()
        results.append([output.detach().cpu(), *(tensor.grad.cpu() for tensor in inputs)])
    for expected, found in zip(*results, strict=True):
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert resolve_layer_norm("cuda", torch.float32).name in ("apex", "torch")


def test_loss_and_its_gradient_equal_torch_s_on_the_cpu() -> None:
    logits, targets = torch.randn(500, 30_522) * 4, torch.randint(30_522, (500,))
    reference, ours = logits.clone().requires_grad_(), logits.cuda().requires_grad_()
    expected = F.cross_entropy(reference, targets, reduction="sum")
    expected.backward()
    loss, correct, _ = cross_entropy_and_sample(ours, targets.cuda(), torch.rand(500, dtype=torch.float64).cuda(), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert correct.item() == (logits.argmax(-1) == targets).sum().item()
    assert (ours.grad.cpu() - reference.grad).abs().max() <= 1e-5


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_samples_equal_those_of_the_cpu(temperature: float) -> None:
    logits, uniforms = torch.randn(500, 30_522, dtype=torch.float64), torch.rand(500, dtype=torch.float64)
    targets = torch.zeros(500, dtype=torch.int64)
    _, _, ids = cross_entropy_and_sample(logits.cuda(), targets.cuda(), uniforms.cuda(), temperature)
    assert torch.equal(ids.cpu(), sample_inverse_cdf(logits / temperature, uniforms))


def test_dropout_zeroes_at_its_rate() -> None:
    dropped = dropout(torch.ones(1_000_000, device="cuda"), 0.1)
    assert (dropped == 0).double().mean().item() == pytest.approx(0.1, abs=0.003)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.003)


def test_compiled_layers_and_a_padded_vocabulary_equal_the_cpu_s() -> None:
    """Masked language modelling: nothing is sampled, so that rounding cannot grow."""
    batch, results = full_batch(), []
    for device in ("cpu", "cuda"):
        objective = build_objective(tiny_config(objective="mlm").model, VOCAB_SIZE, seed=0).to(device)
        if device == "cuda":
            choice = resolve_compile("on", device, 1)
            assert compile_networks(objective, choice, "fp32", "on") is choice
        columns: list[int] = []
        objective.generator_head.register_forward_hook(lambda _, __, output, seen=columns: seen.append(output.shape[1]))
        loss, _ = objective(batch.to(torch.device(device)))
        loss.backward()
        results.append((loss.item(), {name: p.grad.cpu() for name, p in objective.named_parameters()}))
        assert columns == [VOCAB_SIZE if device == "cpu" else 512]
    (expected, their), (found, our) = results
    assert found == pytest.approx(expected, rel=1e-5)
    for name, gradient in their.items():
        assert (our[name] - gradient).abs().max() <= 1e-4 * gradient.abs().max(), name
