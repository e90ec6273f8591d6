"""torch.compile of both networks: whether it pays here, which part, and a start that makes runs repeatable.

Compiled is what follows attention in a layer (`Layer.after_attention`: projection, dropout, residual, LayerNorm,
feed-forward). The compiler sees one changing size, the number of word pieces T, so all layers of a network share one
graph for training and one for validation. Outside stay the embedding lookup (inside, two threads differ from repeat to
repeat) and attention: the number of samples never reaches the compiler, and its kernels keep their backward passes.

Steps: (1) `resolve_compile` says whether, before anything runs; (2) `compile_networks`, called once before the first
step, wraps the layers and runs each network at a fixed size, whatever the first batch will be: the compiler's choices
follow the first size it sees, and a run that goes on must compute as the one before; (3) what comes out is compared
with what the plain layers gave, and where it differs or fails the plain layers are back.
"""

import os
import shutil
from collections.abc import Callable

import torch
from torch import nn

from pretraining.batch import MaskedBatch
from pretraining.fused import Choice, installed
from pretraining.model import Encoder, Layer

ON, OFF = "torch.compile", "off"
FIRST_SAMPLES, FIRST_LENGTH = 4, 128  # the fixed size, in samples and word pieces


def compile_layers(objective: nn.Module, backend: str = "inductor") -> None:
    """Let the layers of all networks be compiled when they are first called."""
    for module in objective.modules():
        if isinstance(module, Layer):
            plain = module.after_attention
            module.after_attention = torch.compile(plain, backend=backend, dynamic=True, fullgraph=True)


def plain_layers(objective: nn.Module) -> None:
    """Take `compile_layers` back."""
    for module in objective.modules():
        if isinstance(module, Layer):
            vars(module).pop("after_attention", None)


def resolve_compile(wanted: str, device_type: str, stage: int) -> Choice:
    """Whether to compile. wanted: --compile, which is auto, on or off; stage: ZeRO's.

    Raises ValueError where it is asked for and cannot be.
    """
    fault = None
    if stage == 3:
        fault = "ZeRO stage 3 gathers each layer's weights on its way"
    elif device_type == "cuda" and not installed("triton"):
        fault = "triton is not installed"
    elif device_type == "cpu" and not shutil.which(os.environ.get("CXX", "g++")):
        fault = "there is no C++ compiler"
    if fault and wanted == "on":
        raise ValueError(f"--compile on: {fault}; leave --compile out, or change that")
    if wanted == "auto" and device_type == "cpu":
        fault = "no gain on CPUs (benchmarks/NOTES.md)"
    if wanted == "off":
        fault = "--compile off"
    if fault:
        return Choice(OFF, plain_layers, fault)
    return Choice(ON, compile_layers, "layers behind attention with their dropout and LayerNorm, one graph a network")


def first_batch(longest: int, device: torch.device) -> MaskedBatch:
    """The batch of the fixed size; longest: rows of the position table."""
    length = min(FIRST_LENGTH, longest)
    positions, ids = torch.arange(length).repeat(FIRST_SAMPLES), torch.zeros(FIRST_SAMPLES * length, dtype=torch.int64)
    batch = MaskedBatch(
        input_ids=positions % 7,  # a few words of any vocabulary
        generator_ids=ids,
        token_type_ids=ids,
        position_ids=positions,
        cu_seqlens=torch.arange(0, len(ids) + 1, length, dtype=torch.int32),
        masked_positions=torch.zeros(0, dtype=torch.int64),
        replacement_uniforms=torch.zeros(0, dtype=torch.float64),
        lengths=(length,) * FIRST_SAMPLES,
        global_masked=1.0,
        global_tokens=1.0,
        index=0,
        sample_ids=(),
    )
    return batch.to(device)


def run_widened(module: nn.Module, *inputs: torch.Tensor | MaskedBatch) -> torch.Tensor:
    """The module with its weights widened to fp32."""
    weights = {name: parameter.float() for name, parameter in module.named_parameters()}
    with torch.autocast(inputs[0].device.type, enabled=False):
        return torch.func.functional_call(module, weights, inputs)


def outputs_of(objective: nn.Module, batch: MaskedBatch, run: Callable = nn.Module.__call__) -> list[torch.Tensor]:
    """What each network makes of the batch without dropout, [T, W] each. run: `run_widened` for that in fp32."""
    encoders = [module for module in objective.modules() if isinstance(module, Encoder)]
    objective.eval()
    with torch.no_grad():
        embedded = run(objective.embeddings, batch.input_ids, batch)
        outputs = [run(encoder, embedded, batch).float() for encoder in encoders]
    objective.train()
    return outputs


def differ(found: list[torch.Tensor], plain: list[torch.Tensor], exact: list[torch.Tensor] | None) -> bool:
    """Whether the compiled layers' outputs are wrong. exact: in half precision, what fp32 gives; None in fp32.

    In half precision rounding grows with the depth: 24 plain layers are 3.4 % of the largest value from the exact ones,
    and 4.5 % from fused ones, which round less often. So the exact ones are the measure: twice what plain layers miss.
    """
    if exact is None:
        pairs = zip(found, plain, strict=True)
        return any(not (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max() for ours, theirs in pairs)
    triples = zip(found, plain, exact, strict=True)
    return any(not (ours - true).abs().max() <= 2 * (theirs - true).abs().max() for ours, theirs, true in triples)


def gradients_are_finite(objective: nn.Module, batch: MaskedBatch) -> bool:
    """Run forward and backward of each network as in training; nothing is kept."""
    for encoder in (module for module in objective.modules() if isinstance(module, Encoder)):
        output = encoder(objective.embeddings(batch.input_ids, batch), batch)
        # Not backward(): DeepSpeed listens to what is accumulated.
        gradients = torch.autograd.grad(output.float().square().mean(), list(encoder.parameters()))
        if not all(bool(gradient.isfinite().all()) for gradient in gradients):
            return False
    return True


def compile_networks(objective: nn.Module, choice: Choice, precision: str, wanted: str = "auto") -> Choice:
    """Compile, run once, compare. Returns the choice, or the plain layers and why where they cannot be compiled.

    objective: on its device. precision: fp32, fp16, bf16 or autocast. wanted: --compile.
    Raises ValueError where they cannot be compiled and --compile says on.
    """
    if choice.name == OFF:
        return choice
    weight = objective.embeddings.word.weight
    batch = first_batch(objective.config.max_position_embeddings, weight.device)
    fault = None
    with torch.autocast(weight.device.type, torch.bfloat16, enabled=precision == "autocast"):
        expected = outputs_of(objective, batch)
        exact = None if precision == "fp32" else outputs_of(objective, batch, run_widened)
        choice.run(objective)
        try:
            found = outputs_of(objective, batch)
            if not gradients_are_finite(objective, batch):
                fault = "its gradients are not finite"
        except Exception as error:  # compilers raise whatever they like
            cause = getattr(error, "inner_exception", error)
            fault = f"it fails here ({type(cause).__name__}: {(str(cause).splitlines() or [''])[0][:60]})"
        else:
            if differ(found, expected, exact):
                fault = "it differs from the plain layers"
    if fault and wanted == "on":
        raise ValueError(f"--compile on: {fault}; leave --compile out")
    if fault:
        plain_layers(objective.train())
        return Choice(OFF, plain_layers, fault)
    return choice
