"""Our parameter names and Hugging Face's: ours -> `ElectraForPreTraining` / `ElectraForMaskedLM`, and back
(--init-from).

Steps out: `to_hugging_face` renames, splits the fused QKV into query, key and value, and repeats the shared
embeddings in both networks. Steps in: `load_published_weights` reads discriminator/ and generator/, checks sizes
and vocabulary, and fuses.
"""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from pretraining.checkpoint import fill_module
from pretraining.config import Config, ModelConfig
from pretraining.corpus.tokenizer import load_tokenizer
from pretraining.model import EncoderShape, discriminator_shape, generator_shape

Weights = dict[str, torch.Tensor]
# Folder of each half, and Hugging Face's class for it.
DISCRIMINATOR, GENERATOR, MASKED_LANGUAGE_MODEL = "discriminator", "generator", "masked_language_model"

EMBEDDINGS = {
    "embeddings.word": "electra.embeddings.word_embeddings",
    "embeddings.position": "electra.embeddings.position_embeddings",
    "embeddings.token_type": "electra.embeddings.token_type_embeddings",
    "embeddings.norm": "electra.embeddings.LayerNorm",
}
PROJECT = ("project", "electra.embeddings_project")
LAYER = {
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "ffn_in": "intermediate.dense",
    "ffn_out": "output.dense",
    "ffn_norm": "output.LayerNorm",
}
QKV = tuple(f"attention.self.{part}" for part in ("query", "key", "value"))
DISCRIMINATOR_HEAD = {
    "discriminator_head.dense": "discriminator_predictions.dense",
    "discriminator_head.prediction": "discriminator_predictions.dense_prediction",
}
GENERATOR_HEAD = {
    "generator_head.dense": "generator_predictions.dense",
    "generator_head.norm": "generator_predictions.LayerNorm",
    "generator_head.vocabulary": "generator_lm_head",
}


def name_pairs(encoder: str, shape: EncoderShape, head: dict[str, str]) -> dict[str, str]:
    """{our module name: Hugging Face's} for one network, without the fused QKV."""
    pairs = dict(EMBEDDINGS)
    if shape.embedding_size != shape.hidden_size:
        pairs[f"{encoder}.{PROJECT[0]}"] = PROJECT[1]
    for number in range(shape.num_layers):
        for ours, theirs in LAYER.items():
            pairs[f"{encoder}.layers.{number}.{ours}"] = f"electra.encoder.layer.{number}.{theirs}"
    return pairs | head


def qkv_pairs(encoder: str, shape: EncoderShape) -> list[tuple[str, list[str]]]:
    """(our fused module name, Hugging Face's three) for every layer."""
    return [
        (f"{encoder}.layers.{number}.qkv", [f"electra.encoder.layer.{number}.{part}" for part in QKV])
        for number in range(shape.num_layers)
    ]


def halves(config: ModelConfig) -> dict[str, tuple[str, EncoderShape, dict[str, str]]]:
    """{folder: (our encoder's name, its shape, its head's names)} of what an objective exports."""
    if config.objective == "mlm":
        return {MASKED_LANGUAGE_MODEL: ("encoder", discriminator_shape(config), GENERATOR_HEAD)}
    return {
        DISCRIMINATOR: ("encoder", discriminator_shape(config), DISCRIMINATOR_HEAD),
        GENERATOR: ("generator", generator_shape(config), GENERATOR_HEAD),
    }


def to_hugging_face(ours: Weights, encoder: str, shape: EncoderShape, head: dict[str, str]) -> Weights:
    """One network under Hugging Face's names, without the tied output table."""
    theirs = {}
    for our_name, their_name in name_pairs(encoder, shape, head).items():
        for kind in ("weight", "bias"):
            if f"{our_name}.{kind}" in ours:
                theirs[f"{their_name}.{kind}"] = ours[f"{our_name}.{kind}"]
    for our_name, their_names in qkv_pairs(encoder, shape):
        for kind in ("weight", "bias"):
            parts = ours[f"{our_name}.{kind}"].chunk(3)
            theirs |= {f"{name}.{kind}": part.clone() for name, part in zip(their_names, parts, strict=True)}
    return theirs


def from_hugging_face(theirs: Weights, encoder: str, shape: EncoderShape, head: dict[str, str]) -> Weights:
    """The inverse of `to_hugging_face`; what is not there is left out."""
    ours = {}
    for our_name, their_name in name_pairs(encoder, shape, head).items():
        for kind in ("weight", "bias"):
            tied = our_name == "generator_head.vocabulary" and kind == "weight"
            if f"{their_name}.{kind}" in theirs and not tied:
                ours[f"{our_name}.{kind}"] = theirs[f"{their_name}.{kind}"]
    for our_name, their_names in qkv_pairs(encoder, shape):
        for kind in ("weight", "bias"):
            parts = [theirs[f"{name}.{kind}"] for name in their_names if f"{name}.{kind}" in theirs]
            if len(parts) == 3:
                ours[f"{our_name}.{kind}"] = torch.cat(parts)
    return ours


def hugging_face_settings(config: ModelConfig, shape: EncoderShape, vocab_size: int, pad_id: int) -> dict[str, Any]:
    """The fields of transformers' ElectraConfig for one network."""
    return {
        "vocab_size": vocab_size,
        "embedding_size": shape.embedding_size,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_attention_heads,
        "intermediate_size": shape.ffn_hidden_size,
        "hidden_act": "gelu",
        "hidden_dropout_prob": shape.hidden_dropout,
        "attention_probs_dropout_prob": shape.attention_dropout,
        "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": 2,
        "initializer_range": config.init_method_std,
        "layer_norm_eps": shape.layernorm_epsilon,
        "pad_token_id": pad_id,
    }


def read_half(folder: Path, settings: dict[str, Any]) -> Weights:
    """Weights of one Hugging Face folder whose sizes are these. Raises ValueError naming what is missing or differs."""
    config_path, weights_path = folder / "config.json", folder / "model.safetensors"
    for path in (config_path, weights_path):
        if not path.is_file():
            raise ValueError(
                f"--init-from: {path} is missing; it needs {DISCRIMINATOR}/ and {GENERATOR}/, each with config.json "
                "and model.safetensors (pickled weights are not read; save them with transformers' save_pretrained)"
            )
    try:
        theirs = dict(json.loads(config_path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise ValueError(f"--init-from: {config_path} is damaged: it holds no JSON object; copy it again") from None
    for name in ("vocab_size", "embedding_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                 "intermediate_size", "max_position_embeddings"):  # fmt: skip
        if theirs.get(name) != settings[name]:
            cure = "give the preset and sizes of the published model"
            if folder.name == GENERATOR and name == "hidden_size":  # the discriminator's, read before, is right
                cure = "give --generator-size, its width as a fraction of the discriminator's (1 where they are equal)"
            raise ValueError(
                f"--init-from: {config_path} has {name} {theirs.get(name)} and this model {settings[name]}; {cure}"
            )
    try:
        return safetensors.torch.load_file(weights_path)
    except safetensors.SafetensorError as error:
        raise ValueError(f"--init-from: {weights_path} is damaged ({error}); copy it again") from None


def refuse_other_vocabulary(folder: Path, tokenizer_folder: str) -> None:
    """Raise ValueError where the published model's vocab.txt or tokenizer.json gives other ids than ours."""
    ours = load_tokenizer(tokenizer_folder).get_vocab()
    if (folder / "tokenizer.json").is_file():
        theirs = load_tokenizer(folder).get_vocab()
    elif (folder / "vocab.txt").is_file():
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        theirs = {line.rstrip("\r"): number for number, line in enumerate(lines[:-1] if not lines[-1] else lines)}
    else:
        raise ValueError(
            f"--init-from: {folder} has neither tokenizer.json nor vocab.txt, so its ids cannot be checked"
        )
    if ours != theirs:
        raise ValueError(
            f"--init-from: the vocabulary of {folder} is not that of --tokenizer {tokenizer_folder}; index the corpus "
            "with the published one"
        )


def load_published_weights(source: str, objective: nn.Module, config: Config, vocab_size: int) -> None:
    """Fill an objective from Hugging Face folders. Raises ValueError where the vocabulary, a size or a weight
    differs.
    """
    weights: Weights = {}
    for half, (encoder, shape, head) in halves(config.model).items():
        folder = Path(source) / half
        theirs = read_half(folder, hugging_face_settings(config.model, shape, vocab_size, 0))
        refuse_other_vocabulary(folder, config.data.tokenizer)
        ours = from_hugging_face(theirs, encoder, shape, head)
        for name in sorted(set(weights) & set(ours)):
            if not torch.equal(weights[name], ours[name]):
                raise ValueError(
                    f"--init-from {source}: generator and discriminator differ in {name}, which this model shares; "
                    "they are not of one training"
                )
        weights |= ours
    fill_module(objective, weights, f"--init-from {source}")
