"""Parity with Hugging Face's ELECTRA: logits, losses and gradients of both networks, ours unpadded, theirs padded.

The same weights go through hf_weights into `ElectraForPreTraining` and `ElectraForMaskedLM`, whose shared
embeddings and output table are tied by hand; both sides compute the full ELECTRA loss on samples of very different
lengths, without dropout.
"""

from collections.abc import Iterator

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F

from pretraining import objectives
from pretraining.batch import MaskedBatch
from pretraining.config import Config
from pretraining.hf_weights import (
    DISCRIMINATOR,
    GENERATOR,
    MASKED_LANGUAGE_MODEL,
    from_hugging_face,
    halves,
    hugging_face_settings,
    to_hugging_face,
)
from pretraining.model import recompute_activations
from pretraining.objectives import build_objective
from pretraining.softmax import cross_entropy_and_sample, sample_inverse_cdf
from tests.tiny import tiny_config

VOCAB_SIZE = 1009  # no multiple of 128
PAD, CLS, SEP, MASK = 0, 2, 3, 4
LENGTHS = (64, 3, 17, 5, 41, 9)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


@pytest.fixture(autouse=True)
def without_hub_messages() -> Iterator[None]:
    transformers.utils.logging.set_verbosity_error()
    yield


def config_of(preset: str, **settings) -> Config:
    return tiny_config(preset=preset, seq_length=64, **settings)


def perturbed(config: Config, dtype: torch.dtype) -> nn.Module:
    """An objective whose weights are all random: zero biases and unit LayerNorms would hide a mistake."""
    objective = build_objective(config.model, VOCAB_SIZE, seed=1).to(dtype)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in objective.named_parameters():
            if parameter.dim() == 1:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(noise.to(dtype), alpha=0.1)
            elif name.startswith("embeddings"):
                parameter.mul_(3)
    return objective


def unpadded_batch(lengths: tuple[int, ...] = LENGTHS) -> MaskedBatch:
    """Two segments a sample, about a third of the word pieces masked, some of them left as they are."""
    generator = torch.Generator().manual_seed(3)
    rows, types, positions, start = [], [], [], 0
    for length in lengths:
        row = torch.randint(5, VOCAB_SIZE, (length,), generator=generator)
        row[0], row[-1] = CLS, SEP
        segment = torch.zeros(length, dtype=torch.int64)
        if length > 4:
            row[length // 2] = SEP
            segment[length // 2 + 1 :] = 1
        candidates = (row > MASK).nonzero().flatten()
        chosen = candidates[torch.randperm(len(candidates), generator=generator)[: max(1, length // 3)]]
        positions.append(start + chosen.sort().values)
        rows.append(row)
        types.append(segment)
        start += length
    ids, masked = torch.cat(rows), torch.cat(positions)
    return MaskedBatch(
        input_ids=ids,
        generator_ids=ids.index_fill(0, masked[::2], MASK),
        token_type_ids=torch.cat(types),
        position_ids=torch.cat([torch.arange(length) for length in lengths]),
        cu_seqlens=torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32),
        masked_positions=masked,
        replacement_uniforms=torch.rand(len(masked), generator=generator, dtype=torch.float64),
        lengths=lengths,
        global_masked=float(len(masked)),
        global_tokens=float(len(ids)),
        index=0,
        sample_ids=tuple((0, number) for number in range(len(lengths))),
    )


class Padded:
    """The batch as Hugging Face takes it: [S, longest], and back to one axis of word pieces."""

    def __init__(self, batch: MaskedBatch):
        self.lengths = batch.lengths
        self.mask = self.pad(torch.ones_like(batch.input_ids), 0)
        self.real = self.mask.bool()
        self.types = self.pad(batch.token_type_ids, 0)

    def pad(self, flat: torch.Tensor, value: int = PAD) -> torch.Tensor:
        return nn.utils.rnn.pad_sequence(flat.split(self.lengths), batch_first=True, padding_value=value)

    def logits(self, model: nn.Module, flat_ids: torch.Tensor) -> torch.Tensor:
        output = model(input_ids=self.pad(flat_ids), attention_mask=self.mask, token_type_ids=self.types)
        return output.logits[self.real]


def their_models(config: Config, ours: nn.Module, dtype: torch.dtype) -> dict[str, nn.Module]:
    """{half: Hugging Face's model with our weights}, embeddings and output table of the two tied by hand."""
    models, weights = {}, dict(ours.named_parameters())
    for half, (encoder, shape, head) in halves(config.model).items():
        settings = hugging_face_settings(config.model, shape, VOCAB_SIZE, PAD)
        their_config = transformers.ElectraConfig(**settings, attn_implementation="eager")
        kind = transformers.ElectraForPreTraining if half == DISCRIMINATOR else transformers.ElectraForMaskedLM
        with torch.device("meta"):
            model = kind(their_config)
        model = model.to_empty(device="cpu").to(dtype).eval()
        embeddings = model.electra.embeddings
        embeddings.position_ids = torch.arange(config.model.max_position_embeddings)[None]  # which no file holds
        embeddings.token_type_ids = torch.zeros_like(embeddings.position_ids)
        theirs = {name: w.detach().clone() for name, w in to_hugging_face(weights, encoder, shape, head).items()}
        missing, unexpected = model.load_state_dict(theirs, strict=False)
        assert not unexpected and set(missing) <= {"generator_lm_head.weight"}
        models[half] = model
    shared = next(iter(models.values())).electra.embeddings
    for half, model in models.items():
        model.electra.embeddings = shared
        if half != DISCRIMINATOR:
            model.generator_lm_head.weight = shared.word_embeddings.weight
    return models


def their_electra_loss(
    models: dict[str, nn.Module], batch: MaskedBatch
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(loss, sampled ids, generator logits [M, V], discriminator logits [T]) with Hugging Face's networks."""
    padded = Padded(batch)
    masked = batch.masked_positions
    generator_logits = padded.logits(models[GENERATOR], batch.generator_ids)[masked]
    sampled = sample_inverse_cdf(generator_logits.detach(), batch.replacement_uniforms)
    corrupted = batch.input_ids.index_copy(0, masked, sampled)
    scores = padded.logits(models[DISCRIMINATOR], corrupted)
    labels = (corrupted != batch.input_ids).to(scores.dtype)
    loss = F.cross_entropy(generator_logits, batch.input_ids[masked])
    loss = loss + 50 * F.binary_cross_entropy_with_logits(scores, labels)
    return loss, sampled, generator_logits.detach(), scores.detach()


def their_gradients(config: Config, models: dict[str, nn.Module]) -> dict[str, torch.Tensor]:
    """Gradients of Hugging Face's models under our names, query, key and value fused again."""
    gradients = {}
    for half, (encoder, shape, head) in halves(config.model).items():
        theirs = {name: p.grad for name, p in models[half].named_parameters() if p.grad is not None}
        gradients |= from_hugging_face(theirs, encoder, shape, head)
    return gradients


def far(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


def check_electra(preset: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    config, batch = config_of(preset), unpadded_batch()
    ours = perturbed(config, dtype)
    seen = {}

    def note_samples(logits: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = cross_entropy_and_sample(logits, *others)
        seen["generator"], seen["sampled"] = logits, result[2]
        return result

    monkeypatch.setattr(objectives, "cross_entropy_and_sample", note_samples)
    ours.discriminator_head.register_forward_hook(lambda _, __, output: seen.update(discriminator=output.detach()))
    loss, _ = ours(batch)
    loss.backward()

    models = their_models(config, ours, dtype)
    their_loss, sampled, generator_logits, discriminator_logits = their_electra_loss(models, batch)
    their_loss.backward()

    tolerance = TOLERANCE[dtype]
    assert torch.equal(seen["sampled"], sampled)
    assert far(seen["generator"], generator_logits) <= tolerance
    assert far(seen["discriminator"], discriminator_logits) <= tolerance
    assert loss.item() == pytest.approx(their_loss.item(), rel=tolerance)
    gradients = their_gradients(config, models)
    parameters = dict(ours.named_parameters())
    assert set(gradients) == set(parameters)
    different = {name: far(p.grad, gradients[name]) for name, p in parameters.items()}
    assert {name: value for name, value in different.items() if not value <= tolerance} == {}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "fp32"])
@pytest.mark.parametrize("preset", ["tiny", "small", pytest.param("base", marks=pytest.mark.slow)])
def test_electra_s_logits_loss_and_gradients_equal_hugging_face_s(
    preset: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_electra(preset, dtype, monkeypatch)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "fp32"])
def test_mlm_logits_loss_and_gradients_equal_hugging_face_s(dtype: torch.dtype) -> None:
    config, batch = config_of("tiny", objective="mlm"), unpadded_batch()
    ours = perturbed(config, dtype)
    loss, _ = ours(batch)
    loss.backward()
    models = their_models(config, ours, dtype)
    logits = Padded(batch).logits(models[MASKED_LANGUAGE_MODEL], batch.generator_ids)[batch.masked_positions]
    their_loss = F.cross_entropy(logits, batch.input_ids[batch.masked_positions])
    their_loss.backward()
    assert loss.item() == pytest.approx(their_loss.item(), rel=TOLERANCE[dtype])
    gradients = their_gradients(config, models)
    assert set(gradients) == {name for name, _ in ours.named_parameters()}
    for name, parameter in ours.named_parameters():
        assert far(parameter.grad, gradients[name]) <= TOLERANCE[dtype], name


def test_a_sample_s_logits_do_not_depend_on_its_neighbours() -> None:
    config = config_of("tiny")
    ours, batch = perturbed(config, torch.float64).eval(), unpadded_batch()
    with torch.no_grad():
        together = ours.discriminator_head(ours.encoder(ours.embeddings(batch.input_ids, batch), batch))
        start = sum(LENGTHS[:2])
        part = slice(start, start + LENGTHS[2])
        alone = batch._replace(
            position_ids=batch.position_ids[part],
            token_type_ids=batch.token_type_ids[part],
            cu_seqlens=torch.tensor([0, LENGTHS[2]], dtype=torch.int32),
            lengths=(LENGTHS[2],),
        )
        logits = ours.discriminator_head(ours.encoder(ours.embeddings(batch.input_ids[part], alone), alone))
    assert far(logits, together[part]) < 1e-12


def test_the_networks_share_every_embedding_and_nothing_else() -> None:
    ours = build_objective(config_of("tiny").model, VOCAB_SIZE, seed=1)
    assert ours.generator_head.vocabulary.weight is ours.embeddings.word.weight
    names = [name for name, _ in ours.named_parameters(remove_duplicate=False)]
    owners = {name: id(parameter) for name, parameter in ours.named_parameters(remove_duplicate=False)}
    shared = {name for name in names if list(owners.values()).count(owners[name]) > 1}
    assert shared == {"embeddings.word.weight", "generator_head.vocabulary.weight"}
    assert {name.split(".")[1] for name in names if name.startswith("embeddings")} == {
        "word",
        "position",
        "token_type",
        "norm",
    }


def test_widths_that_are_equal_need_no_projection() -> None:
    base, tiny = (build_on_meta(preset) for preset in ("base", "tiny"))
    assert base.encoder.project is None and base.generator.project is not None
    assert tiny.encoder.project is not None
    assert tiny.generator.project is None  # embeddings 32, generator 64 x 0.5


def build_on_meta(preset: str) -> nn.Module:
    with torch.device("meta"):
        return build_objective(config_of(preset).model, VOCAB_SIZE, seed=1)


def test_initial_weights_are_the_reference_s() -> None:
    """Truncated normal at two deviations of 0.02; Glorot for prediction and projection; biases 0, LayerNorm 1."""
    ours = build_objective(config_of("small").model, VOCAB_SIZE, seed=1)
    for name, parameter in ours.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        elif name.endswith(("project.weight", "prediction.weight")):
            bound = (6 / sum(parameter.shape)) ** 0.5
            assert 0.9 * bound < parameter.abs().max() <= bound, name
        else:
            assert parameter.abs().max() <= 0.04, name
            if parameter.numel() > 1000:
                # A normal distribution cut at two deviations keeps 0.8796 of its deviation.
                assert parameter.std().item() == pytest.approx(0.02 * 0.8796, rel=0.05), name


def test_initial_weights_are_a_function_of_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        return torch.cat(
            [p.detach().flatten() for p in build_objective(config_of("tiny").model, 100, seed).parameters()]
        )

    torch.rand(3)  # whatever was drawn before
    assert torch.equal(weights(5), weights(5)) and not torch.equal(weights(5), weights(6))


def test_dropout_stands_where_the_reference_has_it() -> None:
    """Embeddings: behind the LayerNorm. Layers: on what is added to the residual, before the LayerNorm."""
    ours, batch = perturbed(config_of("tiny"), torch.float64), unpadded_batch()
    embeddings, layer = ours.embeddings, ours.encoder.layers[0]
    whole = embeddings(batch.input_ids, batch)
    embeddings.dropout = 0.25  # exact in 1/65536
    torch.manual_seed(0)
    dropped = embeddings(batch.input_ids, batch)
    kept = dropped != 0
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.03)
    assert torch.allclose(dropped[kept], whole[kept] / 0.75)

    hidden = torch.randn(len(batch.input_ids), 64, dtype=torch.float64)
    layer.hidden_dropout = 1.0
    assert torch.equal(layer(hidden, batch), layer.ffn_norm(layer.attention_norm(hidden)))


def test_dropout_acts_in_training_and_follows_the_seed() -> None:
    ours = build_objective(config_of("tiny", hidden_dropout=0.1, attention_dropout=0.1).model, VOCAB_SIZE, seed=1)
    batch = unpadded_batch()

    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        return float(ours(batch)[0].detach())

    assert loss(1) == loss(1) != loss(2)
    ours.eval()
    assert loss(1) == loss(2)


def test_recomputed_activations_give_the_same_numbers_bit_by_bit() -> None:
    """Dropout is on: the second time the same values are dropped. Each layer runs twice."""
    config, batch = config_of("tiny", hidden_dropout=0.1, attention_dropout=0.1), unpadded_batch()
    results, calls = [], []
    for recompute in (False, True):
        ours = build_objective(config.model, VOCAB_SIZE, seed=1)
        if recompute:
            recompute_activations(ours)
        calls.append(0)
        for layer in [*ours.generator.layers, *ours.encoder.layers]:
            layer.register_forward_pre_hook(lambda *_: calls.append(calls.pop() + 1))
        torch.manual_seed(3)
        loss, _ = ours(batch)
        loss.backward()
        results.append((loss.detach(), {name: parameter.grad for name, parameter in ours.named_parameters()}))
    layers = 2 * config.model.num_layers
    assert calls == [layers, 2 * layers]
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(results[1][1][name], gradient) for name, gradient in results[0][1].items())
