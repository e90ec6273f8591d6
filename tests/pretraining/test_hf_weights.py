"""Names in both directions, and what --init-from refuses."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from torch import nn

from pretraining.config import Config
from pretraining.corpus.tokenizer import save_tokenizer_files
from pretraining.export import write_half
from pretraining.hf_weights import (
    from_hugging_face,
    halves,
    hugging_face_settings,
    load_published_weights,
    to_hugging_face,
)
from pretraining.objectives import OBJECTIVES, build_objective
from tests.tiny import VOCAB_SIZE, make_tokenizer, tiny_config


def random_objective(config: Config, seed: int = 1) -> nn.Module:
    objective = build_objective(config.model, VOCAB_SIZE, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return objective


def publish(folder: Path, config: Config, objective: nn.Module) -> None:
    """Folders as somebody might publish them, made by the export's own writer."""
    for half, (encoder, shape, head) in halves(config.model).items():
        weights = to_hugging_face(dict(objective.named_parameters()), encoder, shape, head)
        write_half(folder / half, half, weights, hugging_face_settings(config.model, shape, VOCAB_SIZE, 0))
        save_tokenizer_files(config.data.tokenizer, folder / half)


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, Config, nn.Module]:
    """(folder, configuration, objective) of a published model."""
    config = tiny_config(tokenizer=str(make_tokenizer(tmp_path / "tokenizer")))
    objective = random_objective(config)
    publish(tmp_path / "published", config, objective)
    return tmp_path / "published", config, objective


def refused(source: Path, config: Config, match: str, vocab_size: int = VOCAB_SIZE) -> None:
    objective = build_objective(config.model, vocab_size, seed=0)
    with pytest.raises(ValueError, match=match) as caught:
        load_published_weights(str(source), objective, config, vocab_size)
    assert "--init-from" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("objective_name", sorted(OBJECTIVES))
def test_names_go_out_and_come_back(objective_name: str) -> None:
    config = tiny_config(objective=objective_name)
    ours = {name: p.detach() for name, p in random_objective(config).named_parameters()}
    back = {}
    for encoder, shape, head in halves(config.model).values():
        back |= from_hugging_face(to_hugging_face(ours, encoder, shape, head), encoder, shape, head)
    assert set(back) == set(ours)
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def test_every_name_is_one_of_hugging_face_s() -> None:
    config = tiny_config()
    ours = dict(random_objective(config).named_parameters())
    kinds = (transformers.ElectraForPreTraining, transformers.ElectraForMaskedLM)
    for kind, (encoder, shape, head) in zip(kinds, halves(config.model).values(), strict=True):
        settings = hugging_face_settings(config.model, shape, VOCAB_SIZE, 0)
        theirs = {name: p.shape for name, p in kind(transformers.ElectraConfig(**settings)).named_parameters()}
        exported = {name: w.shape for name, w in to_hugging_face(ours, encoder, shape, head).items()}
        assert exported == theirs


def test_query_key_and_value_are_the_thirds_of_the_fused_matrix() -> None:
    config = tiny_config()
    ours = dict(random_objective(config).named_parameters())
    encoder, shape, head = halves(config.model)["discriminator"]
    theirs = to_hugging_face(ours, encoder, shape, head)
    fused = ours["encoder.layers.1.qkv.weight"]
    for number, part in enumerate(("query", "key", "value")):
        name = f"electra.encoder.layer.1.attention.self.{part}.weight"
        assert torch.equal(theirs[name], fused[64 * number : 64 * (number + 1)])


@pytest.mark.parametrize("objective_name", sorted(OBJECTIVES))
def test_published_weights_arrive_bitwise(tmp_path: Path, objective_name: str) -> None:
    config = tiny_config(tokenizer=str(make_tokenizer(tmp_path / "tokenizer")), objective=objective_name)
    published = random_objective(config)
    publish(tmp_path / "published", config, published)
    fresh = build_objective(config.model, VOCAB_SIZE, seed=7)
    load_published_weights(str(tmp_path / "published"), fresh, config, VOCAB_SIZE)
    ours, theirs = dict(fresh.named_parameters()), dict(published.named_parameters())
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    if objective_name == "electra":
        assert fresh.generator_head.vocabulary.weight is fresh.embeddings.word.weight  # still tied


def test_a_vocab_txt_is_enough_to_compare_vocabularies(published: tuple[Path, Config, nn.Module]) -> None:
    folder, config, _ = published
    for half in ("discriminator", "generator"):
        (folder / half / "tokenizer.json").unlink()
    fresh = build_objective(config.model, VOCAB_SIZE, seed=7)
    load_published_weights(str(folder), fresh, config, VOCAB_SIZE)
    lines = (folder / "generator" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    (folder / "generator" / "vocab.txt").write_text("\n".join([*lines[:-2], lines[-1], lines[-2]]), encoding="utf-8")
    refused(folder, config, "the vocabulary of .*generator is not that of --tokenizer .*index the corpus")
    (folder / "generator" / "vocab.txt").unlink()
    refused(folder, config, "generator has neither tokenizer.json nor vocab.txt")


def test_weights_in_half_precision_are_taken(published: tuple[Path, Config, nn.Module]) -> None:
    folder, config, objective = published
    for half in ("discriminator", "generator"):
        path = folder / half / "model.safetensors"
        weights = {name: weight.half() for name, weight in safetensors.torch.load_file(path).items()}
        safetensors.torch.save_file(weights, path)
    fresh = build_objective(config.model, VOCAB_SIZE, seed=7)
    load_published_weights(str(folder), fresh, config, VOCAB_SIZE)
    for ours, theirs in zip(fresh.parameters(), objective.parameters(), strict=True):
        assert ours.dtype == torch.float32 and torch.equal(ours, theirs.half().float())


def test_another_vocabulary_is_refused(published: tuple[Path, Config, nn.Module], tmp_path: Path) -> None:
    folder, config, _ = published
    config.data.tokenizer = str(make_tokenizer(tmp_path / "other", VOCAB_SIZE - 1))
    refused(folder, config, "the vocabulary of .*discriminator is not that of --tokenizer .*other; index the corpus")
    refused(folder, config, "has vocab_size 500 and this model 499", vocab_size=VOCAB_SIZE - 1)


@pytest.mark.parametrize(
    "setting, name",
    [
        ({"hidden_size": 32}, "hidden_size"),
        ({"num_layers": 3}, "num_hidden_layers"),
        ({"num_attention_heads": 4}, "num_attention_heads"),
        ({"ffn_hidden_size": 128}, "intermediate_size"),
        ({"embedding_size": 64}, "embedding_size"),
        ({"max_position_embeddings": 128}, "max_position_embeddings"),
    ],
)
def test_another_size_is_refused(published: tuple[Path, Config, nn.Module], setting: dict, name: str) -> None:
    folder, config, _ = published
    other = tiny_config(tokenizer=config.data.tokenizer, **setting)
    refused(folder, other, f"discriminator/config.json has {name} .* and this model .*; give the preset and sizes")


def test_a_generator_of_another_fraction_is_refused(published: tuple[Path, Config, nn.Module]) -> None:
    folder, config, _ = published
    other = tiny_config(tokenizer=config.data.tokenizer, generator_size=1.0)
    refused(
        folder, other, "generator/config.json has hidden_size 32 and this model 64; give --generator-size, its width"
    )


def test_a_generator_as_wide_as_its_discriminator_needs_generator_size_1(tmp_path: Path) -> None:
    """As Google's small one, in the sizes of `small` but for the layers, written by transformers itself."""
    tokenizer = str(make_tokenizer(tmp_path / "tokenizer"))
    sizes = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "embedding_size": 128}
    settings = transformers.ElectraConfig(vocab_size=VOCAB_SIZE, num_hidden_layers=2, **sizes)
    discriminator, generator = transformers.ElectraForPreTraining(settings), transformers.ElectraForMaskedLM(settings)
    generator.electra.embeddings.load_state_dict(discriminator.electra.embeddings.state_dict())
    for half, model in (("discriminator", discriminator), ("generator", generator)):
        model.save_pretrained(tmp_path / "published" / half)
        save_tokenizer_files(tokenizer, tmp_path / "published" / half)
    ours = {"num_layers": 2, "hidden_size": 256, "num_attention_heads": 4, "ffn_hidden_size": 1024}
    ours |= {"embedding_size": 128, "tokenizer": tokenizer}
    refused(
        tmp_path / "published", tiny_config(generator_size=0.25, **ours), r"256 and this model 64; .* \(1 where they"
    )
    config = tiny_config(generator_size=1.0, **ours)
    objective = build_objective(config.model, VOCAB_SIZE, seed=0)
    load_published_weights(str(tmp_path / "published"), objective, config, VOCAB_SIZE)
    arrived = dict(objective.named_parameters())["generator.layers.1.ffn_in.weight"]
    assert torch.equal(arrived, generator.electra.encoder.layer[1].intermediate.dense.weight)


@pytest.mark.parametrize("missing", ["electra.encoder.layer.1.output.dense.bias", "generator_lm_head.bias"])
def test_a_missing_weight_is_named(published: tuple[Path, Config, nn.Module], missing: str) -> None:
    folder, config, _ = published
    path = folder / "generator" / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    del weights[missing]
    safetensors.torch.save_file(weights, path)
    ours = {
        "electra.encoder.layer.1.output.dense.bias": "generator.layers.1.ffn_out.bias",
        "generator_lm_head.bias": "generator_head.vocabulary.bias",
    }
    refused(folder, config, f"has no weights for {ours[missing]}")


def test_a_weight_of_another_shape_is_named(published: tuple[Path, Config, nn.Module]) -> None:
    folder, config, _ = published
    path = folder / "discriminator" / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights["discriminator_predictions.dense.bias"] = torch.zeros(63)
    safetensors.torch.save_file(weights, path)
    refused(folder, config, r"discriminator_head.dense.bias has another shape \(\(63,\) there, \(64,\) here\)")


def test_two_networks_of_two_trainings_are_refused(published: tuple[Path, Config, nn.Module], tmp_path: Path) -> None:
    folder, config, _ = published
    publish(tmp_path / "second", config, random_objective(config, seed=2))
    (folder / "generator" / "model.safetensors").write_bytes(
        (tmp_path / "second/generator/model.safetensors").read_bytes()
    )
    refused(folder, config, "generator and discriminator differ in embeddings.*they are not of one training")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(published: tuple[Path, Config, nn.Module], name: str) -> None:
    folder, config, _ = published
    (folder / "generator" / name).unlink()
    refused(folder, config, f"generator/{name} is missing; it needs discriminator/ and generator/")


@pytest.mark.parametrize(
    "name, content", [("config.json", "{"), ("config.json", "[1]"), ("model.safetensors", "cut off")]
)
def test_a_damaged_file_is_named(published: tuple[Path, Config, nn.Module], name: str, content: str) -> None:
    folder, config, _ = published
    (folder / "generator" / name).write_text(content, encoding="utf-8")
    refused(folder, config, f"generator/{name} is damaged")


def test_a_config_without_sizes_is_refused(published: tuple[Path, Config, nn.Module]) -> None:
    folder, config, _ = published
    (folder / "discriminator" / "config.json").write_text(json.dumps({"model_type": "electra"}), encoding="utf-8")
    refused(folder, config, "has vocab_size None and this model 500")
