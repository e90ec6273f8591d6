"""A tiny made-up corpus with its tokenizer, and what tests of the trainer build on it.

    prefix, tokenizer_folder = make_corpus(tmp_path, documents=200, seed=0)  # c.bin, c.idx, c.json
    config = tiny_config(prefix, tokenizer_folder, seq_length=32)  # preset `tiny`, dropout off
    samples = open_samples(config)  # without ranks
    batches = micro_batches(samples, batch_size=16, micro_batch_size=4)

Words are "w0", "w1", ...: word piece number i of the vocabulary is "w<i - 5>", after the five special tokens.
"""

import json
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from pretraining import checkpoint
from pretraining.batch import MaskedBatch
from pretraining.config import Config, DataConfig, ModelConfig, OptimizerConfig, RunConfig
from pretraining.corpus.index_manifest import write_manifest
from pretraining.corpus.indexed import CorpusWriter, IndexedCorpus
from pretraining.corpus.tokenizer import (
    SPECIAL_TOKENS,
    build_tokenizer,
    load_tokenizer,
    save_tokenizer_files,
    special_tokens,
    write_tokenizer,
)
from pretraining.data import Samples, global_batch
from pretraining.sample_map import SPECIALS_PER_SAMPLE, build_sample_map, open_sample_map, split_documents

VOCAB_SIZE = 500
FIRST_WORD = len(SPECIAL_TOKENS)

Document = list[list[int]]  # sentences of word pieces


def make_documents(documents: int = 200, seed: int = 0, vocab_size: int = VOCAB_SIZE) -> list[Document]:
    """Made-up documents of 1 to 11 sentences of 3 to 29 word pieces, their frequencies as in text (Zipf)."""
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, vocab_size - FIRST_WORD + 1)
    weights /= weights.sum()
    return [
        [
            (FIRST_WORD + random.choice(len(weights), random.integers(3, 30), p=weights)).tolist()
            for _ in range(random.integers(1, 12))
        ]
        for _ in range(documents)
    ]


def make_tokenizer(folder: Path, vocab_size: int = VOCAB_SIZE) -> Path:
    """A tokenizer folder whose vocabulary is the special tokens and w0, w1, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [f"w{number}" for number in range(vocab_size - FIRST_WORD)]
    write_tokenizer(folder, build_tokenizer([*SPECIAL_TOKENS, *words], lowercase=True, strip_accents=True))
    return folder


def write_corpus(folder: Path, documents: list[Document], vocab_size: int = VOCAB_SIZE) -> tuple[Path, Path]:
    """These documents as folder/c.{bin,idx,json} and folder/tokenizer. Returns (prefix, tokenizer folder)."""
    prefix, tokenizer_folder = folder / "c", make_tokenizer(folder / "tokenizer", vocab_size)
    sentences = [sentence for document in documents for sentence in document]
    with CorpusWriter(prefix, vocab_size) as writer:
        writer.add(
            np.array([piece for sentence in sentences for piece in sentence], np.int64),
            np.array([len(sentence) for sentence in sentences]),
            np.array([len(document) for document in documents]),
        )
        facts = writer.finish()
    write_manifest(prefix, tokenizer_folder, load_tokenizer(tokenizer_folder), facts)
    return prefix, tokenizer_folder


def make_corpus(folder: Path, documents: int = 200, seed: int = 0, vocab_size: int = VOCAB_SIZE) -> tuple[Path, Path]:
    """A made-up corpus, indexed, with its manifest. Returns (prefix, tokenizer folder)."""
    return write_corpus(folder, make_documents(documents, seed, vocab_size), vocab_size)


def tiny_config(prefix: Path | None = None, tokenizer_folder: Path | None = None, **settings) -> Config:
    """The preset `tiny` without dropout; settings are fields of any part of the configuration."""
    settings = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "preset": "tiny"} | settings
    if prefix is not None:
        settings |= {"data_path": str(prefix), "tokenizer": str(tokenizer_folder)}
    config = Config(ModelConfig(), DataConfig(), OptimizerConfig(), RunConfig())
    for name, value in settings.items():
        setattr(
            next(p for p in (config.model, config.data, config.optimizer, config.run) if hasattr(p, name)),
            name,
            value,
        )
    return config.fill_from_preset()


def open_samples(config: Config, split: str = "training") -> Samples:
    """Samples of a split, the map built where it is missing; no ranks needed."""
    data, corpus = config.data, IndexedCorpus(config.data.data_path)
    documents = split_documents(data.split, corpus.num_documents, split)
    cut = (data.seq_length - SPECIALS_PER_SAMPLE, data.short_seq_prob, config.run.seed)
    path = Path(f"{data.data_path}.{split}.{'.'.join(map(str, cut))}.samples")
    build_sample_map(corpus, path, documents, cut)
    special = special_tokens(load_tokenizer(data.tokenizer))
    return Samples(corpus, open_sample_map(path), special, data.mask_prob, data.one_segment_prob, config.run.seed)


def micro_batches(
    samples: Samples, batch_size: int, micro_batch_size: int, consumed_samples: int = 0
) -> list[MaskedBatch]:
    """All micro-batches of one global batch."""
    epochs, indices = global_batch(consumed_samples, batch_size, len(samples), samples.seed)
    return samples.micro_batches(epochs, indices, micro_batch_size, list(range(batch_size // micro_batch_size)))


def write_checkpoint(run: Path, config: Config, objective: torch.nn.Module, step: int = 1) -> Path:
    """What export and --finetune read of a checkpoint, without DeepSpeed's shards. Returns its folder."""
    folder = checkpoint.checkpoint_folder(run, step)
    (folder / checkpoint.TOKENIZER).mkdir(parents=True)
    weights = {name: parameter.detach().clone() for name, parameter in objective.named_parameters()}
    safetensors.torch.save_file(weights, folder / checkpoint.WEIGHTS)
    (folder / checkpoint.CONFIG).write_text(json.dumps(config.to_dict()), encoding="utf-8")
    save_tokenizer_files(config.data.tokenizer, folder / checkpoint.TOKENIZER)
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": checkpoint.sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {"format": checkpoint.FORMAT, "step": step, "files": files}
    (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    (folder.parent / checkpoint.LATEST).write_text(folder.name + "\n", encoding="utf-8")
    return folder
