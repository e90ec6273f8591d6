"""Compiled layers: as many graphs as there are networks whatever the lengths, the same losses and gradients as without,
bit by bit the same run after run; and when they are used.

The compiler is tested by its own backend (`slow`: it calls g++), what surrounds it by one that only traces.
"""

import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pretraining import compiling
from pretraining.batch import MaskedBatch
from pretraining.compiling import (
    OFF,
    ON,
    compile_layers,
    compile_networks,
    differ,
    outputs_of,
    resolve_compile,
    run_widened,
)
from pretraining.engine import seed_dropout
from pretraining.fused import Choice
from pretraining.objectives import build_objective
from tests.tiny import tiny_config

VOCAB_SIZE = 100
STEPS = 200
BACKENDS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def batch_of(number: int) -> MaskedBatch:
    """Micro-batch `number`: 1 to 6 samples of 5 to 64 word pieces, 15 % masked; a function of its number."""
    random = np.random.default_rng(number)
    lengths = tuple(sorted(random.integers(5, 65, random.integers(1, 7)).tolist(), reverse=True))
    ids = torch.from_numpy(random.integers(5, VOCAB_SIZE, sum(lengths)))
    masked = torch.from_numpy(np.sort(random.choice(len(ids), max(1, len(ids) * 15 // 100), replace=False)))
    positions = torch.cat([torch.arange(length) for length in lengths])
    bounds = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32)
    uniforms = torch.from_numpy(random.random(len(masked)))
    counts = (float(len(masked)), float(len(ids)))
    masked_ids = ids.index_fill(0, masked, 4)
    return MaskedBatch(
        ids, masked_ids, positions % 2, positions, bounds, masked, uniforms, lengths, *counts, number, ()
    )  # fmt: skip


def network() -> nn.Module:
    config = tiny_config(hidden_dropout=0.1, attention_dropout=0.1)
    return build_objective(config.model, VOCAB_SIZE, seed=1)


def compiled_network(backend: str) -> nn.Module:
    """A network whose layers are compiled and have run once, as the trainer makes it."""
    ours = network()
    choice = Choice(ON, partial(compile_layers, backend=backend), "")
    assert compile_networks(ours, choice, "fp32", "on") is choice
    return ours


def losses_and_gradients(objective: nn.Module, numbers: range) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of these micro-batches and the sum of their gradients."""
    losses = []
    for number in numbers:
        seed_dropout(7, 0, number)
        loss, _ = objective(batch_of(number))
        loss.backward()
        losses.append(loss.item())
    return losses, {name: parameter.grad for name, parameter in objective.named_parameters()}


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_hundred_batches_of_all_lengths_need_one_graph_a_network_and_mode(backend: str) -> None:
    ours = compiled_network(backend)
    stats = torch._dynamo.utils.counters["stats"]
    graphs = stats["unique_graphs"]
    assert graphs == 2 * 2  # generator and discriminator, training and validation
    batches = [batch_of(number) for number in range(STEPS)]
    assert len({len(batch.input_ids) for batch in batches}) > 100 and {len(b.lengths) for b in batches} == {
        *range(1, 7)
    }
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in batches:
            ours(batch)[0].backward()
        ours.eval()
        with torch.no_grad():
            ours(batches[0])
    assert stats["unique_graphs"] == graphs
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_losses_and_gradients_are_those_of_the_plain_layers(backend: str) -> None:
    """With dropout: a compiled network draws the same numbers in the same order."""
    plain, compiled = network(), compiled_network(backend)
    (expected, their), (found, our) = (losses_and_gradients(module, range(5)) for module in (plain, compiled))
    assert found == pytest.approx(expected, rel=1e-6)
    for name, gradient in their.items():
        assert (our[name] - gradient).abs().max() <= 1e-5 * gradient.abs().max(), name


@pytest.mark.slow
def test_a_compiled_run_repeats_bit_by_bit_and_goes_on_from_any_batch() -> None:
    """The second run, in a compiler that knows nothing, begins with another batch than the first one did."""
    losses_and_gradients(first := compiled_network("inductor"), range(3))
    nn.Module.zero_grad(first)
    before = losses_and_gradients(first, range(3, 6))
    torch._dynamo.reset()
    after = losses_and_gradients(compiled_network("inductor"), range(3, 6))
    assert before[0] == after[0]
    assert all(torch.equal(before[1][name], gradient) for name, gradient in after[1].items())


def test_what_differs_or_fails_is_not_used() -> None:
    def wrong(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        return lambda *arguments: tuple(output * 1.01 for output in graph(*arguments))

    def broken(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        raise RuntimeError("no compiler\nat all")

    for backend, word in ((wrong, "differs from the plain layers"), (broken, "no compiler")):
        torch._dynamo.reset()
        ours, choice = network(), Choice(ON, partial(compile_layers, backend=backend), "")
        with pytest.raises(ValueError, match="^--compile on: it .*leave --compile out"):
            compile_networks(ours, choice, "fp32", "on")
        torch._dynamo.reset()
        result = compile_networks(ours := network(), choice, "fp32")
        assert result.name == OFF and word in result.why
        assert losses_and_gradients(ours, range(2))[0] == losses_and_gradients(network(), range(2))[0]


def test_in_half_precision_what_fp32_gives_is_the_measure() -> None:
    """Compiled layers round less often than plain ones: they may lie as far on the other side of the exact outputs.

    Plain ones alone as the measure, with 5 % of the largest value, left `large` a tenth of that before it was refused.
    """
    ours = network().bfloat16()
    batch = compiling.first_batch(64, torch.device("cpu"))
    plain, exact = outputs_of(ours, batch), outputs_of(ours, batch, run_widened)
    assert ours.training and all(parameter.dtype == torch.bfloat16 for parameter in ours.parameters())
    for widened, expected in zip(exact, outputs_of(ours.float(), batch), strict=True):
        assert (widened - expected).abs().max() <= 1e-5 * expected.abs().max()
    errors = [rounded - true for rounded, true in zip(plain, exact, strict=True)]

    def apart(share: float) -> list[torch.Tensor]:
        return [true + share * error for true, error in zip(exact, errors, strict=True)]

    assert not differ(apart(-1.0), plain, exact) and not differ(apart(0.0), plain, exact)
    assert differ(apart(3.0), plain, exact) and differ(apart(torch.nan), plain, exact)
    assert differ([exact[0], exact[1].flip(0)], plain, exact)
    assert differ(apart(1.0), exact, None) and not differ(exact, exact, None)


def test_off_changes_nothing() -> None:
    ours = network()
    choice = resolve_compile("off", "cpu", 1)
    assert compile_networks(ours, choice, "fp32", "off") is choice and choice.name == OFF
    ours(batch_of(0))
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    present: dict[str, bool] = {"triton": True, "g++": True}
    monkeypatch.setattr(compiling, "installed", lambda module: present[module])
    monkeypatch.setattr(shutil, "which", lambda program: program if present["g++"] else None)
    monkeypatch.delenv("CXX", raising=False)
    assert resolve_compile("auto", "cuda", 1).name == ON
    assert resolve_compile("auto", "cpu", 1).name == OFF and resolve_compile("on", "cpu", 1).name == ON
    assert [resolve_compile("off", device, 1).name for device in ("cuda", "cpu")] == [OFF, OFF]
    present.update({"triton": False, "g++": False})
    for device, stage, word in (("cuda", 3, "stage 3"), ("cuda", 2, "triton"), ("cpu", 2, "no C[+][+] compiler")):
        assert resolve_compile("auto", device, stage).name == OFF
        with pytest.raises(ValueError, match=f"^--compile on: .*{word}.*; leave --compile out"):
            resolve_compile("on", device, stage)
