"""Fixtures: a tiny random ELECTRA with its tokenizer, and a benchmark folder of eight sentences."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import ElectraConfig, ElectraForPreTraining, PreTrainedTokenizerFast

from finetuning.encoder import quiet_transformers
from tests.finetuning.samples import SENTENCES, pairs, write_benchmark


@pytest.fixture
def benchmark_folder(tmp_path):
    """Two-type IOB2 files of the eight sentences."""
    return write_benchmark(tmp_path / "data", "iob")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A folder with a random ELECTRA discriminator (2 layers, hidden 32, 64 positions) and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny_electra")
    words = sorted({word.lower() for sentence in SENTENCES for word, _ in pairs(sentence)} - {"lithium"})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "]", "mask", "lith", "##ium", *words]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    torch.manual_seed(0)
    config = ElectraConfig(
        vocab_size=len(pieces),
        embedding_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    with quiet_transformers():
        ElectraForPreTraining(config).save_pretrained(folder)
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            mask_token="[MASK]",
        ).save_pretrained(folder)
    return folder
