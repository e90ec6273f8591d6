"""Open a Hugging Face encoder: its folder or hub name, tokenizer, weights, and a checksum of all that.

Shared by the benchmark families; nothing to run here. Nothing is fetched from the network for a local folder;
a hub name is fetched by transformers unless HF_HUB_OFFLINE is set or it is in the cache.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer

# Their positions start after the padding id, so that fewer are left than the configuration says.
POSITIONS_AFTER_PADDING = {
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "longformer", "roberta-prelayernorm", "data2vec-text"),
    *("mpnet", "xmod", "luke", "ibert"),
}
# Names of dropout inside the encoder: the BERT family's, ModernBERT's, DistilBERT's, Funnel's.
ENCODER_DROPOUTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "embedding_dropout",
    "mlp_dropout",
    "attention_dropout",
    "activation_dropout",
    "hidden_dropout",
    "dropout",
)
FOLDER_FILES = {".json", ".safetensors", ".bin", ".txt", ".model"}  # what decides how a model behaves


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No loading bar and no table of new and unused weights: `load_model` checks those itself."""
    verbosity, bars = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()


def open_pretrained(auto_class: Any, model: str, **settings: Any) -> Any:
    """`auto_class.from_pretrained(model)`, its errors as a ValueError of one sentence."""
    folder = Path(model)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ValueError(f"--model {model} has no config.json: give a Hugging Face folder, such as an exported one")
    if not folder.is_dir() and (folder.is_absolute() or model.startswith(".") or model.count("/") > 1):
        raise ValueError(f"--model {model} is not a folder")
    try:
        with quiet_transformers():
            return auto_class.from_pretrained(
                model, local_files_only=folder.is_dir(), trust_remote_code=False, **settings
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"--model {model} cannot be opened by {auto_class.__name__}: {reason}") from error


def load_config(model: str) -> transformers.PretrainedConfig:
    """The configuration of `model`, a folder or a hub name."""
    return open_pretrained(AutoConfig, model)


def load_tokenizer(model: str, config: transformers.PretrainedConfig) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of `model`; ValueError if special tokens are absent or ids do not fit the model."""
    tokenizer = open_pretrained(AutoTokenizer, model)
    vocabulary = tokenizer.get_vocab()
    if set(vocabulary) <= set(tokenizer.all_special_tokens):  # what transformers makes of a folder without the files
        raise ValueError(f"--model {model} has no tokenizer files (tokenizer.json or vocab.txt): copy them there")
    absent = [name for name in ("cls", "sep", "pad", "unk") if getattr(tokenizer, f"{name}_token_id") is None]
    if absent:
        raise ValueError(f"the tokenizer of --model {model} has no {', '.join(absent)} token: an encoder needs them")
    if max(vocabulary.values()) >= config.vocab_size:
        raise ValueError(
            f"the tokenizer of --model {model} has ids up to {max(vocabulary.values())}, its embeddings only "
            f"{config.vocab_size}: tokenizer and weights are not of the same model"
        )
    return tokenizer


def dropout_settings(config: transformers.PretrainedConfig) -> dict[str, float]:
    """The settings of dropout inside the encoder that this kind of model has; ValueError if it has none."""
    # Asked of the class: a config.json may hold names that the model does not read.
    found = {name: getattr(config, name) for name in ENCODER_DROPOUTS if hasattr(type(config), name)}
    if not found:
        raise ValueError(
            f"--encoder-dropout: a model of type {config.model_type} has no setting of dropout inside the encoder: "
            "leave the flag out"
        )
    return found


def encoder_dropout(config: transformers.PretrainedConfig, given: float | None) -> float | None:
    """What --encoder-dropout comes to: as `given`, which `dropout_settings` may refuse; if left out the model's own,
    None where it has none or its settings differ from each other.
    """
    if given is not None:
        dropout_settings(config)
        return given
    own = {getattr(config, name) for name in ENCODER_DROPOUTS if hasattr(type(config), name)}
    return float(own.pop()) if len(own) == 1 else None


def load_model(
    auto_class: Any, model: str, dropout: float | None = None, whole: bool = False, **settings: Any
) -> transformers.PreTrainedModel:
    """The encoder of `model` in fp32 under a new head of `auto_class` (AutoModelForTokenClassification, ...).

    `dropout` is that inside the encoder, by whatever names its configuration has for it; None leaves the model's own.
    Other heads in the folder (ELECTRA's discriminator, BERT's masked LM) are left out. ValueError if weights
    of the encoder itself, or if `whole` any, are absent or have other shapes: transformers would make them up and only
    warn.
    """
    if dropout is not None:
        settings |= dict.fromkeys(dropout_settings(load_config(model)), dropout)
    network, report = open_pretrained(
        auto_class,
        model,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # the head of an earlier task, with other labels
        dtype=torch.float32,  # transformers 5 would otherwise train in the precision of the file
        **settings,
    )
    mismatched = {key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]}
    bad = sorted(
        name
        for name in set(report["missing_keys"]) | mismatched
        if whole or (name.startswith(network.base_model_prefix + ".") and ".pooler." not in name)
    )
    if bad:
        part = "" if whole else " of its encoder"
        raise ValueError(
            f"--model {model} lacks {len(bad)} weights{part} or has them in another shape "
            f"(first: {bad[0]}): its weights and its config.json do not belong together"
        )
    return network


def longest_input(config: transformers.PretrainedConfig) -> int:
    """Most word pieces of one input, special tokens included, that the model has positions for."""
    positions = getattr(config, "max_position_embeddings", None) or 1_000_000
    if config.model_type in POSITIONS_AFTER_PADDING:
        positions -= config.pad_token_id + 1
    return positions


def fingerprint(model: str, config: transformers.PretrainedConfig) -> str:
    """SHA-256 over weights, configuration and tokenizer files of a folder; the commit of a hub model."""
    folder = Path(model)
    if not folder.is_dir():
        return f"hub commit {getattr(config, '_commit_hash', None)}"
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in FOLDER_FILES and path.is_file():
            with path.open("rb") as file:
                digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
