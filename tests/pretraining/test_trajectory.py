"""Thirty steps of ours, through DeepSpeed, against Hugging Face's two classes tied by hand in a plain PyTorch loop.

Theirs pads, computes the whole global batch at once, applies its head to every position, and takes its steps with
the reference's optimizer written out (google-research/electra, `model/optimization.py`): Adam without bias correction,
epsilon outside the root, decoupled decay but for LayerNorm and biases, one global clip, warm-up times linear decay.
Ours is unpadded, in four micro-batches on two ranks, in DeepSpeed's ZeRO. Batches, masks and sampling noise are the
same; dropout is off.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from pretraining import engine as engine_module
from pretraining import objectives
from pretraining.batch import MaskedBatch
from pretraining.config import Config, batch_arithmetic
from pretraining.data import rank_share, training_steps
from pretraining.ds_config import load_ds_config, merge_ds_config
from pretraining.hf_weights import DISCRIMINATOR, GENERATOR, halves, hugging_face_settings, to_hugging_face
from pretraining.metrics import summarize
from pretraining.objectives import build_objective
from pretraining.optim import learning_rate
from tests.conftest import REPOSITORY
from tests.tiny import VOCAB_SIZE, make_corpus, open_samples, tiny_config
from tests.training_runs import on_ranks

STEPS, PEAK, WARMUP, TOTAL = 30, 2e-3, 6, 40
BATCH, MICRO_BATCH = 8, 2
# Where a uniform number lies this near to the edge between two word pieces, rounding decides which of them is drawn.
NEAR = 1e-5


def settings(corpus: tuple[Path, Path]) -> Config:
    return tiny_config(
        *corpus,
        seq_length=32,
        global_batch_size=BATCH,
        micro_batch_size=MICRO_BATCH,
        train_iters=TOTAL,
        lr=PEAK,
        lr_warmup_iters=WARMUP,
        clip_grad=1.0,
        weight_decay=0.01,
    )


def our_trajectory(corpus: tuple[Path, Path], deepspeed_name: str) -> dict[str, Any]:
    """Loss of every step through the engine, and this rank's samples: {(step, micro-batch): sampled ids}."""
    config, samples = settings(corpus), {}
    rank, world_size, device = engine_module.start_ranks()
    micro, accumulation = batch_arithmetic(config.optimizer, world_size)
    assert accumulation == 2
    file = REPOSITORY / "ds_configs" / f"{deepspeed_name}.json"
    merged = merge_ds_config(load_ds_config(file), micro, accumulation, world_size, config.optimizer.clip_grad)
    objective = build_objective(config.model, VOCAB_SIZE, config.run.seed)
    engine = engine_module.initialize(objective, config.optimizer, merged, device)

    drawn: list[torch.Tensor] = []
    ours = objectives.cross_entropy_and_sample

    def note_samples(*arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = ours(*arguments)
        drawn.append(result[2])
        return result

    objectives.cross_entropy_and_sample = note_samples
    share = rank_share(rank, world_size, accumulation)
    batches_of_steps = training_steps(open_samples(config), 0, BATCH, MICRO_BATCH, share)
    losses, norms = [], []
    for step in range(STEPS):
        batches = next(batches_of_steps)
        drawn.clear()
        rate = learning_rate(step, PEAK, WARMUP, TOTAL)
        sums, norm = engine_module.train_step(engine, batches, rate, config.run.seed, step)
        losses.append(summarize(engine_module.reduce_sums(sums), (1.0, 50.0))["loss"])
        norms.append(float(norm))
        samples |= {(step, batch.index): ids for batch, ids in zip(batches, drawn, strict=True)}
    return {"losses": losses, "norms": norms, "samples": samples}


def tied_by_hand(config: Config) -> tuple[ElectraForMaskedLM, ElectraForPreTraining]:
    """Hugging Face's two networks with the weights that ours starts from, sharing embeddings and output table."""
    weights = dict(build_objective(config.model, VOCAB_SIZE, config.run.seed).named_parameters())
    networks = {}
    for half, network_class in ((GENERATOR, ElectraForMaskedLM), (DISCRIMINATOR, ElectraForPreTraining)):
        encoder, shape, head = halves(config.model)[half]
        fields = hugging_face_settings(config.model, shape, VOCAB_SIZE, 0)
        network = network_class(ElectraConfig(**fields, attn_implementation="eager"))
        theirs = {name: tensor.detach() for name, tensor in to_hugging_face(weights, encoder, shape, head).items()}
        missing, unexpected = network.load_state_dict(theirs, strict=False)
        assert not unexpected and set(missing) <= {"generator_lm_head.weight", "electra.embeddings.position_ids"}
        networks[half] = network
    generator, discriminator = networks[GENERATOR], networks[DISCRIMINATOR]
    ours, theirs = generator.electra.embeddings, discriminator.electra.embeddings
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm"):
        setattr(ours, name, getattr(theirs, name))
    generator.generator_lm_head.weight = theirs.word_embeddings.weight
    return generator, discriminator


def check_samples(logits: torch.Tensor, uniforms: torch.Tensor, samples: torch.Tensor) -> None:
    """Each sample is the word piece whose stretch of the cumulative distribution holds its uniform number."""
    ends = torch.softmax(logits.detach().double(), dim=-1).cumsum(-1)
    begins = F.pad(ends, (1, 0))[:, :-1]
    above = uniforms - begins.gather(1, samples.unsqueeze(1)).squeeze(1)
    below = ends.gather(1, samples.unsqueeze(1)).squeeze(1) - uniforms
    assert min(float(above.min()), float(below.min())) > -NEAR


def their_loss(
    networks: tuple[ElectraForMaskedLM, ElectraForPreTraining], batches: list[MaskedBatch], drawn: list[torch.Tensor]
) -> torch.Tensor:
    """ELECTRA's loss of a whole global batch, padded."""
    generator, discriminator = networks

    def pad(name: str) -> torch.Tensor:
        rows = [row for batch in batches for row in getattr(batch, name).split(batch.lengths)]
        return pad_sequence(rows, batch_first=True)

    input_ids, real = pad("input_ids"), pad("input_ids") != 0  # [PAD] is id 0 and never in a text
    segments = {"attention_mask": real.long(), "token_type_ids": pad("token_type_ids")}
    logits = generator(input_ids=pad("generator_ids"), **segments).logits[real]  # all word pieces, [T, V]
    starts = torch.tensor([0, *[len(batch.input_ids) for batch in batches[:-1]]]).cumsum(0).tolist()
    masked = torch.cat([batch.masked_positions + start for batch, start in zip(batches, starts, strict=True)])
    originals, samples = input_ids[real], torch.cat(drawn)
    check_samples(logits[masked], torch.cat([batch.replacement_uniforms for batch in batches]), samples)
    corrupted = originals.clone()
    corrupted[masked] = samples

    padded = torch.zeros_like(input_ids)
    padded[real] = corrupted
    scores = discriminator(input_ids=padded, **segments).logits[real]
    return F.cross_entropy(logits[masked], originals[masked]) + 50 * F.binary_cross_entropy_with_logits(
        scores, (corrupted != originals).float()
    )


class ReferenceAdam:
    """`AdamWeightDecayOptimizer` of the reference, with its learning rate and its clipping."""

    def __init__(self, networks: tuple[nn.Module, ...]):
        self.parameters, names = [], []
        for network in networks:
            for name, parameter in network.named_parameters():
                if all(parameter is not other for other in self.parameters):
                    self.parameters.append(parameter)
                    names.append(name)
        self.decays = [not any(word in name for word in ("LayerNorm", "bias")) for name in names]
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, number: int) -> float:
        """One step from the gradients, which it clears. Returns their global norm."""
        rate = PEAK * (1 - number / TOTAL) * min(1.0, number / WARMUP)
        norm = torch.sqrt(sum((parameter.grad.double() ** 2).sum() for parameter in self.parameters))
        scale = float(1.0 / torch.clamp(norm, min=1.0))
        for parameter, decays, first, second in zip(self.parameters, self.decays, self.first, self.second, strict=True):
            gradient = parameter.grad * scale
            first.mul_(0.9).add_(0.1 * gradient)
            second.mul_(0.999).add_(0.001 * gradient**2)
            update = first / (second.sqrt() + 1e-6)
            if decays:
                update = update + 0.01 * parameter
            parameter -= rate * update
            parameter.grad = None
        return float(norm)


def their_trajectory(corpus: tuple[Path, Path], samples: dict[tuple[int, int], torch.Tensor]) -> dict[str, Any]:
    """Loss and gradient norm of every step in a plain PyTorch loop."""
    config = settings(corpus)
    networks = tied_by_hand(config)
    optimizer = ReferenceAdam(networks)
    steps = training_steps(open_samples(config), 0, BATCH, MICRO_BATCH, list(range(BATCH // MICRO_BATCH)))
    losses, norms = [], []
    for step in range(STEPS):
        batches = next(steps)
        loss = their_loss(networks, batches, [samples[step, batch.index] for batch in batches])
        loss.backward()
        losses.append(loss.item())
        norms.append(optimizer.step(step))
    return {"losses": losses, "norms": norms}


@pytest.mark.parametrize(
    "deepspeed_name", ["zero1_fp32", *(pytest.param(f"zero{n}_fp32", marks=pytest.mark.slow) for n in (0, 2, 3))]
)
def test_thirty_steps_equal_hugging_face_in_a_plain_loop(tmp_path: Path, deepspeed_name: str) -> None:
    corpus = make_corpus(tmp_path, documents=120)
    open_samples(settings(corpus))  # the sample map, which ranks would build both
    of_ranks = on_ranks(tmp_path / "ours", 2, our_trajectory, corpus, deepspeed_name)
    ours = of_ranks[0]
    theirs = on_ranks(
        tmp_path / "theirs", 1, their_trajectory, corpus, of_ranks[0]["samples"] | of_ranks[1]["samples"]
    )[0]
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-4)
    assert ours["norms"] == pytest.approx(theirs["norms"], rel=1e-2)
    assert min(theirs["norms"]) > 1.0  # clipping had something to do in every step
    assert ours["losses"][-1] < 0.8 * ours["losses"][0]  # and the weights went somewhere
