"""Losses by hand on 2 x 4 word pieces; what is replaced and labelled; what gradients reach; sums of micro-batches."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pretraining import objectives
from pretraining.batch import MaskedBatch
from pretraining.config import Config
from pretraining.data import Samples
from pretraining.metrics import HISTOGRAM_BINS, add_sums
from pretraining.objectives import OBJECTIVES, build_objective
from pretraining.softmax import VOCABULARY_MULTIPLE
from tests.tiny import VOCAB_SIZE, make_corpus, micro_batches, open_samples, tiny_config, write_corpus

CLS, SEP, MASK = 2, 3, 4
# Two samples of four: [CLS] 5 6 [SEP] and [CLS] 7 6 [SEP]. Masked: the 5 and the last 6 (as [MASK]), and the 7
# (left as it is).
IDS = [CLS, 5, 6, SEP, CLS, 7, 6, SEP]
MASKED = [1, 5, 6]
# Generator: weights of the eight ids at each masked position; the softmax is these over their sum, 16.
WEIGHTS = [[1, 1, 1, 1, 1, 8, 2, 1], [1, 1, 1, 1, 1, 1, 2, 8], [1, 1, 1, 1, 1, 2, 1, 8]]
# Uniforms that draw 6 (not the 5 that was there), 7 (what was there), 5 (not the 6 that was there).
UNIFORMS = [13.5 / 16, 9 / 16, 6 / 16]
CORRUPTED = [CLS, 6, 6, SEP, CLS, 7, 5, SEP]
REPLACED = [0, 1, 0, 0, 0, 0, 1, 0]
SCORES = [-2.0, 1.0, -1.0, 0.5, -3.0, -0.5, -0.25, 0.25]


class Fixed(nn.Module):
    """A head that gives the same logits whatever comes in."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        assert len(hidden) == len(self.logits)
        return self.logits


def batch_by_hand(**changes) -> MaskedBatch:
    generator_ids = torch.tensor(IDS)
    generator_ids[[1, 6]] = MASK
    batch = MaskedBatch(
        input_ids=torch.tensor(IDS),
        generator_ids=generator_ids,
        token_type_ids=torch.zeros(8, dtype=torch.int64),
        position_ids=torch.tensor([0, 1, 2, 3] * 2),
        cu_seqlens=torch.tensor([0, 4, 8], dtype=torch.int32),
        masked_positions=torch.tensor(MASKED),
        replacement_uniforms=torch.tensor(UNIFORMS, dtype=torch.float64),
        lengths=(4, 4),
        global_masked=3.0,
        global_tokens=8.0,
        index=0,
        sample_ids=((0, 0), (0, 1)),
    )
    return batch._replace(**changes)


def objective_by_hand(**settings) -> nn.Module:
    objective = build_objective(tiny_config(**settings).model, 8, seed=0).double()
    objective.generator_head = Fixed(torch.tensor(WEIGHTS, dtype=torch.float64).log())
    objective.discriminator_head = Fixed(torch.tensor(SCORES, dtype=torch.float64))
    return objective


def generator_loss_by_hand() -> float:
    """Cross-entropy of the originals 5, 7 and 6, the one that was left as it is included."""
    return -(math.log(8 / 16) + math.log(8 / 16) + math.log(1 / 16))


def discriminator_loss_by_hand() -> float:
    """Binary cross-entropy of all eight word pieces, [CLS] and [SEP] included."""
    return sum(math.log1p(math.exp(-score if label else score)) for score, label in zip(SCORES, REPLACED, strict=True))


def test_losses_by_hand() -> None:
    loss, sums = objective_by_hand()(batch_by_hand())
    generator, discriminator = generator_loss_by_hand(), discriminator_loss_by_hand()
    assert sums["generator_loss"].item() == pytest.approx(generator, rel=1e-12)
    assert sums["discriminator_loss"].item() == pytest.approx(discriminator, rel=1e-12)
    assert loss.item() == pytest.approx(generator / 3 + 50 * discriminator / 8, rel=1e-12)
    assert sums["generator_correct"].item() == 2 and sums["masked"].item() == 3 and sums["tokens"].item() == 8


def test_weights_and_global_counts_by_hand() -> None:
    batch = batch_by_hand(global_masked=30.0, global_tokens=400.0)
    loss, _ = objective_by_hand(generator_loss_weight=2.0, discriminator_loss_weight=7.0)(batch)
    expected = 2 * generator_loss_by_hand() / 30 + 7 * discriminator_loss_by_hand() / 400
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_a_correct_guess_counts_as_original(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    histogram = objectives.logit_histogram

    def note_labels(scores: torch.Tensor, replaced: torch.Tensor) -> torch.Tensor:
        seen["labels"] = replaced.int().tolist()
        return histogram(scores, replaced)

    monkeypatch.setattr(objectives, "logit_histogram", note_labels)
    _, sums = objective_by_hand()(batch_by_hand())
    assert seen["labels"] == REPLACED  # the 7 was masked, guessed right, and is an original
    assert sums["histogram"].shape == (2, HISTOGRAM_BINS)
    assert sums["histogram"].sum(1).tolist() == [6, 2]


def test_the_discriminator_reads_the_text_with_the_samples_put_in() -> None:
    objective, read = objective_by_hand(), []
    objective.embeddings.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0].tolist()))
    objective(batch_by_hand())
    assert read == [[CLS, MASK, 6, SEP, CLS, 7, MASK, SEP], CORRUPTED]


def test_temperature_divides_the_logits_of_the_sampler_alone() -> None:
    """At temperature 1/20 the likeliest id is drawn whatever the uniform; the loss stays that of temperature 1."""
    objective, read = objective_by_hand(sampling_temperature=0.05), []
    objective.embeddings.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0].tolist()))
    _, sums = objective(batch_by_hand())
    assert [read[1][position] for position in MASKED] == [5, 7, 7]
    assert sums["generator_loss"].item() == pytest.approx(generator_loss_by_hand(), rel=1e-12)


def test_mlm_loss_by_hand() -> None:
    objective = build_objective(tiny_config(objective="mlm").model, 8, seed=0).double()
    objective.generator_head = Fixed(torch.tensor(WEIGHTS, dtype=torch.float64).log())
    loss, sums = objective(batch_by_hand(global_masked=30.0))
    assert loss.item() == pytest.approx(generator_loss_by_hand() / 30, rel=1e-12)
    assert set(sums) == {"generator_loss", "generator_correct", "masked", "tokens"}
    loss.backward()
    softmax = torch.tensor(WEIGHTS, dtype=torch.float64) / 16
    one_hot = nn.functional.one_hot(torch.tensor([5, 7, 6]), 8)
    assert torch.allclose(objective.generator_head.logits.grad, (softmax - one_hot) / 30, atol=1e-15)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Samples]:
    config = tiny_config(*make_corpus(tmp_path_factory.mktemp("corpus")))
    return config, open_samples(config)


def double_objective(config: Config) -> nn.Module:
    return build_objective(config.model, VOCAB_SIZE, seed=1).double()


def gradients(objective: nn.Module) -> dict[str, torch.Tensor | None]:
    return {name: parameter.grad for name, parameter in objective.named_parameters()}


def test_no_gradient_reaches_the_generator_from_the_discriminator(corpus: tuple[Config, Samples]) -> None:
    config, samples = corpus
    (batch,) = micro_batches(samples, 8, 8)
    only_discriminator = tiny_config(generator_loss_weight=0.0)
    objective = double_objective(only_discriminator)
    objective(batch)[0].backward()
    for name, gradient in gradients(objective).items():
        if name.startswith(("generator.", "generator_head.")):
            assert gradient is None or not gradient.any(), name
        else:
            assert gradient.any(), name  # the shared embeddings, and the discriminator's own


def test_the_discriminator_s_own_weights_get_nothing_from_the_generator_s_loss(corpus: tuple[Config, Samples]) -> None:
    config, samples = corpus
    (batch,) = micro_batches(samples, 8, 8)
    objective = double_objective(tiny_config(discriminator_loss_weight=0.0))
    objective(batch)[0].backward()
    for name, gradient in gradients(objective).items():
        if name.startswith(("encoder.", "discriminator_head.")):
            assert gradient is None or not gradient.any(), name
        else:
            assert gradient.any(), name


def test_unchanged_masked_positions_are_in_the_generator_s_loss(corpus: tuple[Config, Samples]) -> None:
    """15 % of the masked positions show their word; leaving them out changes loss and count."""
    config, samples = corpus
    (batch,) = micro_batches(samples, 64, 64)
    shown = batch.generator_ids[batch.masked_positions] != samples.special.mask
    assert 0.1 < shown.float().mean() < 0.2
    seen = {}
    objective = double_objective(config)
    objective.generator_head.register_forward_hook(lambda _, __, output: seen.update(logits=output.detach()))
    _, sums = objective(batch)
    originals = batch.input_ids[batch.masked_positions]
    by_position = nn.functional.cross_entropy(seen["logits"], originals, reduction="none")
    assert by_position[shown].sum() > 0
    assert sums["generator_loss"].item() == pytest.approx(by_position.sum().item(), rel=1e-12)
    assert sums["masked"].item() == len(by_position)


def test_only_masked_positions_are_replaced(corpus: tuple[Config, Samples]) -> None:
    """[CLS] above all: the reference uses position 0 for unused slots, where rewrites have gone wrong."""
    config, samples = corpus
    (batch,) = micro_batches(samples, 64, 64)
    objective, read = double_objective(config), []
    objective.embeddings.register_forward_pre_hook(lambda _, arguments: read.append(arguments[0]))
    objective(batch)
    generator_reads, discriminator_reads = read
    assert torch.equal(generator_reads, batch.generator_ids)
    changed = (discriminator_reads != batch.input_ids).nonzero().flatten()
    assert np.isin(changed, batch.masked_positions).all() and len(changed) > 0.5 * len(batch.masked_positions)
    assert (discriminator_reads[batch.cu_seqlens[:-1].long()] == samples.special.cls).all()
    assert (discriminator_reads[batch.cu_seqlens[1:].long() - 1] == samples.special.sep).all()


@pytest.mark.parametrize("objective_name", sorted(OBJECTIVES))
def test_micro_batches_add_up_to_the_loss_and_gradient_of_one_batch(
    corpus: tuple[Config, Samples], objective_name: str
) -> None:
    _, samples = corpus
    config = tiny_config(objective=objective_name)

    def run(micro_batch_size: int) -> tuple[float, dict, dict]:
        objective, total, sums = double_objective(config), 0.0, None
        for batch in micro_batches(samples, 24, micro_batch_size):
            loss, more = objective(batch)
            loss.backward()
            total, sums = total + loss.item(), add_sums(sums, more)
        return total, gradients(objective), sums

    whole, whole_gradients, whole_sums = run(24)
    for micro_batch_size in (1, 4, 12):
        total, parts_gradients, sums = run(micro_batch_size)
        assert total == pytest.approx(whole, rel=1e-12)
        for name, gradient in whole_gradients.items():
            assert torch.allclose(parts_gradients[name], gradient, rtol=1e-9, atol=1e-12 * gradient.abs().max()), name
        for name, value in whole_sums.items():
            assert torch.allclose(sums[name], value, rtol=1e-12), name


@pytest.mark.parametrize("multiple", [1, 128])
@pytest.mark.parametrize("objective_name", sorted(OBJECTIVES))
def test_a_micro_batch_without_a_word_to_mask_is_no_error(
    objective_name: str, multiple: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corpora of other tools (--adopt) may hold samples of special tokens alone, which are never masked."""
    monkeypatch.setitem(VOCABULARY_MULTIPLE, "cpu", multiple)
    config = tiny_config(*write_corpus(tmp_path, [[[MASK]], [[SEP, SEP]]]), split="1,0,0", objective=objective_name)
    (batch,) = micro_batches(open_samples(config), 2, 2)
    assert len(batch.masked_positions) == 0
    objective = double_objective(config)
    loss, sums = objective(batch)
    loss.backward()
    assert sums["masked"] == sums["generator_loss"] == 0 and loss.isfinite()
    assert (loss > 0) == (objective_name == "electra")  # the discriminator has all of the text
    assert all(gradient.isfinite().all() for gradient in gradients(objective).values())


@pytest.mark.parametrize("objective_name", sorted(OBJECTIVES))
def test_a_padded_vocabulary_changes_nothing(
    corpus: tuple[Config, Samples], objective_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on GPUs: the added ids are never drawn (the embedding would have no row for them) and get no gradient."""
    _, samples = corpus
    (batch,) = micro_batches(samples, 24, 24)
    batch.replacement_uniforms[:20] = 1 - 2.0**-53  # the last id that can be
    results, columns = [], []
    for multiple in (1, 128):
        monkeypatch.setitem(VOCABULARY_MULTIPLE, "cpu", multiple)
        objective = double_objective(tiny_config(objective=objective_name))
        objective.generator_head.register_forward_hook(lambda _, __, output: columns.append(output.shape[1]))
        loss, sums = objective(batch)
        loss.backward()
        results.append((loss.item(), gradients(objective), sums))
    assert columns == [VOCAB_SIZE, 512] and VOCAB_SIZE < 512
    (expected, their, their_sums), (found, our, our_sums) = results
    assert found == pytest.approx(expected, rel=1e-12)
    for name, gradient in their.items():
        assert our[name].shape == gradient.shape and our[name].isfinite().all(), name
        assert torch.allclose(our[name], gradient, rtol=1e-9, atol=1e-12 * gradient.abs().max()), name
    for name, value in their_sums.items():
        assert torch.allclose(our_sums[name], value, rtol=1e-12), name


def test_the_first_loss_is_that_of_a_network_that_knows_nothing(corpus: tuple[Config, Samples]) -> None:
    """ln(vocabulary) + 50 ln 2: about 44 to 47 at published sizes."""
    config, samples = corpus
    (batch,) = micro_batches(samples, 64, 64)
    loss, _ = double_objective(config)(batch)
    assert loss.item() == pytest.approx(math.log(VOCAB_SIZE) + 50 * math.log(2), rel=0.05)


def test_sums_of_half_precision_networks_are_exact_numbers(corpus: tuple[Config, Samples]) -> None:
    """bf16 networks: losses and sums are at least fp32, and the sums float64."""
    config, samples = corpus
    (batch,) = micro_batches(samples, 8, 8)
    objective = build_objective(config.model, VOCAB_SIZE, seed=1)
    reference, _ = objective(batch)
    loss, sums = objective.bfloat16()(batch)
    assert loss.dtype == torch.float32 and {value.dtype for value in sums.values()} == {torch.float64}
    assert loss.item() == pytest.approx(reference.item(), rel=0.02)
    assert sums["tokens"].item() == len(batch.input_ids)


def test_a_new_objective_is_one_entry(tmp_path: Path) -> None:
    assert set(OBJECTIVES) == {"electra", "mlm"}
    for name in OBJECTIVES:
        objective = build_objective(tiny_config(objective=name).model, 100, seed=0)
        assert isinstance(objective, OBJECTIVES[name]) and isinstance(objective.encoder, nn.Module)
