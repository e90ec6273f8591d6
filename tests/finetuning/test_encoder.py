"""Opening a model: what is wrong with a folder is said in one sentence before any training."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification, BertConfig, RobertaConfig

from finetuning import encoder


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "copy")


def test_folder_without_tokenizer(copy):
    (copy / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="cannot be opened by AutoTokenizer: .*tokenizer"):
        encoder.load_tokenizer(str(copy), encoder.load_config(str(copy)))
    (copy / "tokenizer_config.json").unlink()  # now transformers makes an empty tokenizer and says nothing
    with pytest.raises(ValueError, match="has no tokenizer files"):
        encoder.load_tokenizer(str(copy), encoder.load_config(str(copy)))


def test_tokenizer_of_another_model(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "vocab_size": 12}))
    with pytest.raises(ValueError, match="embeddings only 12: tokenizer and weights are not of the same model"):
        encoder.load_tokenizer(str(copy), encoder.load_config(str(copy)))


def test_encoder_weights_missing(copy):
    weights = load_file(copy / "model.safetensors")
    del weights["electra.encoder.layer.1.output.dense.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights .*layer.1.output.dense.weight"):
        encoder.load_model(AutoModelForTokenClassification, str(copy))


def test_encoder_weights_of_another_shape(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(ValueError, match="or has them in another shape"):
        encoder.load_model(AutoModelForTokenClassification, str(copy))


def test_half_precision_weights_are_trained_in_fp32(copy):
    weights = {name: value.bfloat16() for name, value in load_file(copy / "model.safetensors").items()}
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    model = encoder.load_model(AutoModelForTokenClassification, str(copy))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors"])
def test_missing_or_broken_files(copy, broken):
    (copy / broken).write_bytes(b"{")
    with pytest.raises(ValueError, match="cannot be opened"):
        encoder.load_model(AutoModelForTokenClassification, str(copy))
    (copy / broken).unlink()
    with pytest.raises(ValueError, match="--model"):
        encoder.load_model(AutoModelForTokenClassification, str(copy))


def test_no_such_folder(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        encoder.load_config(str(tmp_path / "nowhere"))


def test_fingerprint_follows_the_weights_not_the_place(tiny_model, copy):
    config = encoder.load_config(str(copy))
    before = encoder.fingerprint(str(tiny_model), config)
    assert encoder.fingerprint(str(copy), config) == before
    weights = load_file(copy / "model.safetensors")
    weights["electra.embeddings.word_embeddings.weight"][0, 0] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert encoder.fingerprint(str(copy), config) != before


def test_longest_input():
    assert encoder.longest_input(BertConfig(max_position_embeddings=512)) == 512
    assert encoder.longest_input(RobertaConfig(max_position_embeddings=514, pad_token_id=1)) == 512


@pytest.mark.parametrize("kind", sorted(encoder.POSITIONS_AFTER_PADDING - {"longformer"} | {"bert", "albert"}))
def test_the_longest_input_is_the_longest(kind):
    """One word piece more has no position; longformer, which pads inputs to its window, is left out."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = AutoConfig.for_model(kind, vocab_size=9, max_position_embeddings=20, pad_token_id=1, **sizes)
    config.languages, config.default_language = ["en_XX"], "en_XX"  # xmod's
    model, longest = AutoModel.from_config(config).eval(), encoder.longest_input(config)
    assert longest == (20 if kind in ("bert", "albert") else 18)
    assert model(input_ids=torch.full((1, longest), 5)).last_hidden_state.shape == (1, longest, 8)
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 5))


def test_nothing_is_printed(tiny_model, capfd):
    encoder.load_model(AutoModelForTokenClassification, str(tiny_model), num_labels=3)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
