"""Learning rates by layer, schedule, frozen and new layers, and Adam's formula with and without correction."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DebertaConfig,
    DebertaV2Config,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

from finetuning.config import FinetuneConfig
from finetuning.optim import (
    layer_depths,
    layer_learning_rates,
    make_optimizer,
    model_depths,
    prepare_layers,
    schedule_factor,
    set_step,
)

SHAPE = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3, "vocab_size": 99}
KINDS = [BertConfig, RobertaConfig, ElectraConfig, DebertaConfig, DebertaV2Config, ModernBertConfig]
NAMES = [
    "electra.embeddings.word_embeddings.weight",
    "electra.embeddings_project.weight",
    "electra.encoder.layer.0.output.dense.weight",
    "electra.encoder.layer.1.output.dense.weight",
    "electra.encoder.layer.2.output.dense.weight",
    "classifier.weight",
]


def token_model(kind, auto=AutoModelForTokenClassification, **more):
    """A random model of this architecture with a head; every weight is 7 so that new ones show."""
    torch.manual_seed(0)
    model = auto.from_config(kind(**{**SHAPE, "pad_token_id": 0, **more}))
    for parameter in model.parameters():
        parameter.data.fill_(7.0)
        parameter._is_hf_initialized = True  # as after from_pretrained
    return model


def test_layer_learning_rates_as_numbers():
    config = FinetuneConfig(learning_rate=1.0, layer_decay=0.5)
    ours = layer_learning_rates(layer_depths(NAMES, "electra"), config)
    assert [ours[name] for name in NAMES] == [1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0]
    reference = layer_learning_rates(
        layer_depths(NAMES, "electra"), replace(config, reference_layer_decay_exponent=True)
    )
    # google-research/electra: embeddings 0, layers 1 ... n, head n + 2; lr * decay^(n + 2 - depth)
    assert [reference[name] for name in NAMES] == [1 / 32, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0]


def test_layers_are_found_in_other_architectures():
    modern = AutoModelForTokenClassification.from_config(ModernBertConfig(**SHAPE, pad_token_id=0))
    depths = layer_depths([name for name, _ in modern.named_parameters()], modern.base_model_prefix)
    assert depths["model.embeddings.tok_embeddings.weight"] == 0
    assert depths["model.layers.2.mlp.Wi.weight"] == depths["model.final_norm.weight"] == 3
    assert depths["classifier.weight"] == depths["head.dense.weight"] == 4
    albert = AutoModelForTokenClassification.from_config(AlbertConfig(**SHAPE, embedding_size=8))
    depths = layer_depths([name for name, _ in albert.named_parameters()], albert.base_model_prefix)
    assert depths["albert.encoder.embedding_hidden_mapping_in.weight"] == 0
    assert depths["albert.encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"] == 1
    assert depths["classifier.weight"] == 2


def test_optimizer_groups():
    model = token_model(ElectraConfig, num_hidden_layers=2)
    optimizer = make_optimizer(model, FinetuneConfig(learning_rate=1.0, layer_decay=0.5, weight_decay=0.01))
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    found = {name: group_of[id(p)] for name, p in model.named_parameters()}
    assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups)
    rates = {name: group["lr"] for name, group in found.items()}
    assert rates["electra.embeddings.word_embeddings.weight"] == 1 / 8
    assert rates["electra.encoder.layer.0.attention.self.query.weight"] == 1 / 4
    assert rates["electra.encoder.layer.1.output.LayerNorm.bias"] == 1 / 2
    assert rates["classifier.bias"] == 1.0
    decayed = {name for name, group in found.items() if group["weight_decay"] == 0.01}
    assert {name for name in found if name not in decayed} == {
        name for name in found if name.endswith("bias") or "LayerNorm" in name
    }


def test_schedule():
    factors = [schedule_factor(step, 20, 0.1) for step in range(20)]
    assert factors[:3] == [0.5, 1.0, 1.0]
    assert factors[-1] == pytest.approx(1 / 18)
    assert all(a > b for a, b in zip(factors[2:], factors[3:], strict=False))
    assert schedule_factor(0, 5, 0.0) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_new_top_layers_by_the_architectures_own_rule(kind):
    model = token_model(kind)
    depths = model_depths(model)
    prepare_layers(model, FinetuneConfig(reinit_layers=2))
    weights = []
    for name, parameter in model.named_parameters():
        numbered = ".layer.1." in name or ".layer.2." in name or "layers.1." in name or "layers.2." in name
        if not numbered:
            assert (parameter == 7).all(), name
            continue
        assert depths[name] in (2, 3)
        assert not (parameter == 7).any(), name
        if parameter.ndim == 1:
            assert len(parameter.unique()) == 1 and parameter[0] in (0.0, 1.0), name  # biases 0, normalisation 1
        else:
            weights.append(parameter.detach().flatten())
    assert 0.01 < torch.cat(weights).std() < 0.03  # initializer_range is 0.02


def test_a_pooler_is_new_with_the_top_layer():
    model = token_model(BertConfig, AutoModelForSequenceClassification)
    prepare_layers(model, FinetuneConfig(reinit_layers=1))
    assert not (model.bert.pooler.dense.weight == 7).any()
    assert (model.bert.encoder.layer[1].output.dense.weight == 7).all()
    assert (model.classifier.weight == 7).all()


def test_new_layers_depend_on_the_seed():
    def drawn(seed):
        model = token_model(ElectraConfig)
        torch.manual_seed(seed)
        prepare_layers(model, FinetuneConfig(reinit_layers=1))
        return model.electra.encoder.layer[2].output.dense.weight

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_layers_stay_and_the_others_train(kind):
    model = token_model(kind, initializer_range=0.1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    config = FinetuneConfig(freeze_layers=2, learning_rate=0.1, layer_decay=1.0, weight_decay=0.5)
    prepare_layers(model, config)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(model, config)
    ids = torch.arange(1, 9).view(1, 8)
    model(input_ids=ids, labels=torch.ones_like(ids)).loss.backward()
    set_step(optimizer, 1, 10, config)
    optimizer.step()
    depths = model_depths(model)
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed <= {name for name, depth in depths.items() if depth > 2}
    assert {depths[name] for name in changed} == {3, 4}
    assert any("embedding" in name and depth == 0 for name, depth in depths.items())


def test_more_layers_than_there_are_is_an_error():
    for freeze, new in ((4, 0), (0, 4), (2, 2)):
        with pytest.raises(ValueError, match=f"--freeze-layers {freeze} and --reinit-layers {new} .* model has 3"):
            prepare_layers(token_model(BertConfig), FinetuneConfig(freeze_layers=freeze, reinit_layers=new))
    with pytest.raises(ValueError, match=r"model has 1 \(ALBERT's shared ones count once\)"):
        prepare_layers(token_model(AlbertConfig, embedding_size=8), FinetuneConfig(freeze_layers=2))


def test_albert_has_one_layer_to_make_new():
    model = token_model(AlbertConfig, embedding_size=8)
    prepare_layers(model, FinetuneConfig(reinit_layers=1))
    layer = model.albert.encoder.albert_layer_groups[0].albert_layers[0]
    assert not (layer.ffn.weight == 7).any()
    assert (model.albert.encoder.embedding_hidden_mapping_in.weight == 7).all()


def follow(config, gradients, total):
    """The weight after one AdamW step for each gradient, by make_optimizer and set_step, in float64."""
    model = nn.Module()
    model.head = nn.Parameter(torch.tensor([[1.5, -2.0]], dtype=torch.float64))
    optimizer = make_optimizer(model, config)
    for step, gradient in enumerate(gradients):
        model.head.grad = gradient.clone()
        set_step(optimizer, step, total, config)
        optimizer.step()
    return model.head.detach()


CONFIG = FinetuneConfig(learning_rate=0.03, layer_decay=1.0, weight_decay=0.2, adam_epsilon=1e-3, warmup_fraction=0.2)


@pytest.fixture
def gradients():
    torch.manual_seed(3)
    return [torch.randn(1, 2, dtype=torch.float64) * 0.05 for _ in range(12)]


@pytest.mark.parametrize("corrected", [True, False])
def test_adam_is_the_written_out_formula(gradients, corrected):
    config = replace(CONFIG, bias_correction=corrected)
    w = torch.tensor([[1.5, -2.0]], dtype=torch.float64)
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, gradient in enumerate(gradients, start=1):
        rate = 0.03 * schedule_factor(t - 1, 15, 0.2)
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        m_used = m / (1 - 0.9**t) if corrected else m
        v_used = v / (1 - 0.999**t) if corrected else v
        w = w - rate * 0.2 * w - rate * m_used / (v_used.sqrt() + 1e-3)
    torch.testing.assert_close(follow(config, gradients, 15), w, rtol=1e-12, atol=0)


def test_corrected_adam_is_torchs_and_the_other_is_not(gradients):
    theirs = nn.Parameter(torch.tensor([[1.5, -2.0]], dtype=torch.float64))
    optimizer = torch.optim.AdamW([theirs], lr=0.03, weight_decay=0.2, eps=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule_factor(step, 15, 0.2))
    for gradient in gradients:
        theirs.grad = gradient.clone()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(follow(CONFIG, gradients, 15), theirs.detach(), rtol=1e-12, atol=0)
    other = follow(replace(CONFIG, bias_correction=False), gradients, 15)
    assert (other - theirs.detach()).abs().max() > 0.01
