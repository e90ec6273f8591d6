"""Pretraining objectives: an `nn.Module` that turns a micro-batch into (loss, sums for the metrics).

ELECTRA (Clark et al., ICLR 2020, section 2): a small generator predicts masked word pieces; where it is asked, its
samples replace the original ones; the discriminator, the network that is kept, tells for every word piece whether
it was replaced. Masked language modelling (`mlm`) is the same trainer with one full-size network.

Steps of `Electra.forward`: (1) generator on the masked text, head at the masked positions only; (2) cross-entropy,
summed, and (3) one sample per masked position at the uniform number that came with the batch, no gradient; (4) the
discriminator on the text with the samples put in; a sample equal to the original counts as original; (5) binary
cross-entropy over all word pieces, [CLS] and [SEP] included, summed.

Losses divide by the *global* counts of the batch, so the sum over all micro-batches and ranks is the loss of the step,
however the samples are spread. Metrics are sums too: they add up over micro-batches and ranks (metrics.py).

A new objective is one class with `encoder` (what export takes), one entry in OBJECTIVES and one test.
"""

import torch
from torch import nn
from torch.nn import functional as F

from pretraining.batch import MaskedBatch
from pretraining.config import ModelConfig
from pretraining.local_attention import start_local
from pretraining.metrics import logit_histogram
from pretraining.model import (
    DiscriminatorHead,
    Embeddings,
    Encoder,
    GeneratorHead,
    discriminator_shape,
    generator_shape,
    initialize_weights,
)
from pretraining.softmax import at_least_fp32, cross_entropy_and_sample, cross_entropy_sum

Sums = dict[str, torch.Tensor]


def _start_weights(objective: nn.Module, encoders: list[Encoder]) -> None:
    """Draw all weights, and point heads at their neighbours where --attention-init says so."""
    std = objective.config.init_method_std
    initialize_weights(objective, std)
    if objective.config.attention_init == "local":
        start_local(objective.embeddings, encoders, std)


class Electra(nn.Module):
    """Generator and discriminator in one module with shared embeddings: one engine, one optimizer, one parameter
    list.
    """

    def __init__(self, config: ModelConfig, vocab_size: int):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config, vocab_size)
        self.generator = Encoder(generator_shape(config))
        self.generator_head = GeneratorHead(generator_shape(config), self.embeddings.word)
        self.encoder = Encoder(discriminator_shape(config))
        self.discriminator_head = DiscriminatorHead(discriminator_shape(config))
        _start_weights(self, [self.generator, self.encoder])

    def forward(self, batch: MaskedBatch) -> tuple[torch.Tensor, Sums]:
        """(this micro-batch's share of the step's loss, sums for the metrics)."""
        hidden = self.generator(self.embeddings(batch.generator_ids, batch), batch)
        logits = self.generator_head(hidden[batch.masked_positions])
        originals = batch.input_ids[batch.masked_positions]
        generator_loss, correct, samples = cross_entropy_and_sample(
            logits, originals, batch.replacement_uniforms, self.config.sampling_temperature
        )
        with torch.no_grad():
            corrupted_ids = batch.input_ids.index_copy(0, batch.masked_positions, samples)
            replaced = corrupted_ids != batch.input_ids

        scores = at_least_fp32(self.discriminator_head(self.encoder(self.embeddings(corrupted_ids, batch), batch)))
        discriminator_loss = F.binary_cross_entropy_with_logits(scores, replaced.to(scores.dtype), reduction="sum")
        loss = (
            self.config.generator_loss_weight / batch.global_masked * generator_loss
            + self.config.discriminator_loss_weight / batch.global_tokens * discriminator_loss
        )
        with torch.no_grad():
            sums = _generator_sums(generator_loss, correct, batch)
            sums["discriminator_loss"] = discriminator_loss.detach().double()
            sums["histogram"] = logit_histogram(scores, replaced)
        return loss, sums


class MaskedLanguageModel(nn.Module):
    """BERT's objective without next-sentence prediction, on ELECTRA's masks (85 % [MASK], 15 % unchanged)."""

    def __init__(self, config: ModelConfig, vocab_size: int):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config, vocab_size)
        self.encoder = Encoder(discriminator_shape(config))
        self.generator_head = GeneratorHead(discriminator_shape(config), self.embeddings.word)
        _start_weights(self, [self.encoder])

    def forward(self, batch: MaskedBatch) -> tuple[torch.Tensor, Sums]:
        """(this micro-batch's share of the step's loss, sums for the metrics)."""
        hidden = self.encoder(self.embeddings(batch.generator_ids, batch), batch)
        logits = self.generator_head(hidden[batch.masked_positions])
        originals = batch.input_ids[batch.masked_positions]
        loss, correct = cross_entropy_sum(logits, originals)
        with torch.no_grad():
            sums = _generator_sums(loss, correct, batch)
        return loss / batch.global_masked, sums


def _generator_sums(loss: torch.Tensor, correct: torch.Tensor, batch: MaskedBatch) -> Sums:
    return {
        "generator_loss": loss.detach().double(),
        "generator_correct": correct.double(),
        "masked": torch.full((), len(batch.masked_positions), dtype=torch.float64, device=loss.device),
        "tokens": torch.full((), len(batch.input_ids), dtype=torch.float64, device=loss.device),
    }


OBJECTIVES = {"electra": Electra, "mlm": MaskedLanguageModel}


def build_objective(config: ModelConfig, vocab_size: int, seed: int) -> nn.Module:
    """The objective with freshly initialised weights, the same for the same seed on every rank."""
    torch.manual_seed(seed)
    return OBJECTIVES[config.objective](config, vocab_size)
