"""BPE and Unigram through the whole chain, as WordPiece elsewhere: documents, vocabulary, index, samples with their
masks, (slow) a training, export, and then transformers alone: AutoTokenizer, finetuning's words, fill-mask."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import transformers

from finetuning import span_inputs, tagging_inputs
from pretraining.corpus.documents import Document, write_shard, writing_stage
from pretraining.corpus.index import build_index
from pretraining.corpus.indexed import IndexedCorpus
from pretraining.corpus.tokenizer import (
    SPECIAL_TOKENS,
    assemble_tokenizer,
    load_tokenizer,
    special_tokens,
    vocabulary_size,
)
from pretraining.corpus.vocab import write_folder
from pretraining.corpus.vocab_train import train_model
from pretraining.corpus.word_counts import Words, count_words
from pretraining.corpus_info import decode_masked
from pretraining.export import export
from pretraining.objectives import build_objective
from tests.tiny import micro_batches, open_samples, tiny_config, write_checkpoint
from tests.training_runs import flags_of, train

VOCAB_SIZES = {"bpe": 320, "unigram": 70}
SENTENCES = ["Patients were [MASK] in the trial.", "β-catenin rose 3.2-fold (p < 0.05)."]


def make_text(documents: int = 40) -> list[str]:
    generator = random.Random(1)
    words = "patients were treated in the trial of β-catenin and 5 µM naïve cells, mice (p < 0.05) or controls".split()
    sentences = [[" ".join(generator.choices(words, k=9)) + "." for _ in range(6)] for _ in range(documents)]
    return ["\n".join(lines) for lines in sentences]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(prefix, tokenizer folder)"""
    folder, kind = tmp_path_factory.mktemp(request.param), request.param
    with writing_stage(folder / "sentences", "sentences", options={}, sentences=True) as stage:
        documents = [Document(str(number), text) for number, text in enumerate(make_text())]
        stage.files.append(write_shard(folder / "sentences", 0, documents))
    counts = count_words(
        [folder / "sentences"], None, Words(kind, True, False), folder / "work", workers=1, max_words=1000
    )
    model = train_model(kind, counts, VOCAB_SIZES[kind])
    write_folder(folder / "tokenizer", assemble_tokenizer(model, kind, True, False), {})
    build_index(folder / "sentences", folder / "tokenizer", str(folder / "c"))
    return folder / "c", folder / "tokenizer"


def test_index_and_masks(corpus: tuple[Path, Path]) -> None:
    prefix, folder = corpus
    tokenizer, manifest = load_tokenizer(folder), json.loads(prefix.with_name("c.json").read_text())
    special, indexed = special_tokens(tokenizer), IndexedCorpus(prefix)
    assert (manifest["lowercase"], manifest["strip_accents"]) == (True, False)
    assert manifest["counts"]["unknown_word_pieces"] == 0
    ids = tokenizer.encode(make_text()[0].split("\n")[0], add_special_tokens=False).ids
    assert indexed.tokens[: len(ids)].tolist() == ids
    assert not np.isin(indexed.tokens, list(vars(special).values())).any()

    samples = open_samples(tiny_config(*corpus, seq_length=48, split="8,1,1"))
    (batch,) = micro_batches(samples, 8, 8)
    masked = batch.masked_positions
    assert len(masked) and (batch.generator_ids[masked] == special.mask).float().mean() > 0.5
    assert set(batch.input_ids[batch.cu_seqlens[:-1].long()].tolist()) == {special.cls}
    segments = decode_masked(samples, 0, 0, tokenizer)
    assert segments[0].startswith("[CLS] ") and "[MASK:" in " ".join(segments)
    plain = " ".join(segments).replace("[MASK:", "").replace("[KEEP:", "")
    assert "▁" not in plain and "Ġ" not in plain and "##" not in plain


def test_finetuning_cuts_words_and_text(corpus: tuple[Path, Path]) -> None:
    ours, theirs = load_tokenizer(corpus[1]), transformers.AutoTokenizer.from_pretrained(corpus[1])
    words = ["patients", "mice,", "β-catenin", "[MASK]"]
    for word, ids in tagging_inputs.word_pieces(theirs, words).items():
        assert ids == ours.encode(word, add_special_tokens=False).ids
    text = "patients, 5 µM of naïve (p < 0.05) cells."
    ids, offsets = span_inputs.word_pieces(theirs, [text])[text]
    assert ids == ours.encode(text, add_special_tokens=False).ids
    covered = {place for start, end in offsets.tolist() for place in range(start, end)}
    assert covered == {place for place, character in enumerate(text) if character != " "}


def check_export(run: Path, output: Path, tokenizer_folder: Path) -> None:
    """Export, and use what comes of it by transformers alone."""
    results = export(str(run), output, ["patients in the trial", "5 µM of β-catenin (p < 0.05)."])
    assert [folder.name for folder, _ in results] == ["discriminator", "generator"]
    ours, theirs = load_tokenizer(tokenizer_folder), transformers.AutoTokenizer.from_pretrained(output / "generator")
    text = SENTENCES[1]
    assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text, add_special_tokens=False).ids
    assert len(theirs) == vocabulary_size(ours) and theirs.mask_token == "[MASK]"
    filled = transformers.pipeline("fill-mask", model=str(output / "generator"), device="cpu")(SENTENCES[0], top_k=3)
    assert len(filled) == 3 and all(0 < one["score"] < 1 and "[MASK]" not in one["sequence"] for one in filled)
    assert all(one["sequence"].startswith("patients were") for one in filled)
    network = transformers.ElectraForPreTraining.from_pretrained(output / "discriminator")
    encoded = theirs(SENTENCES[1], "the mice", return_tensors="pt")
    assert set(encoded) >= {"token_type_ids"} and network(**encoded).logits.shape == encoded["input_ids"].shape
    assert network.config.vocab_size == len(theirs) and network.config.pad_token_id == theirs.pad_token_id
    assert set(SPECIAL_TOKENS) == set(theirs.all_special_tokens)


def test_export_and_fill_mask(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    config = tiny_config(*corpus)
    objective = build_objective(config.model, vocabulary_size(load_tokenizer(corpus[1])), seed=1)
    write_checkpoint(tmp_path / "run", config, objective)
    check_export(tmp_path / "run", tmp_path / "out", corpus[1])


@pytest.mark.slow
def test_the_whole_chain_with_a_training(corpus: tuple[Path, Path], tmp_path: Path) -> None:
    settings = {"train_iters": 3, "split": "8,1,1", "deepspeed_config": "ds_configs/zero1_fp32.json"}
    train(tmp_path / "log", 1, flags_of(corpus, tmp_path / "run", **settings))
    check_export(tmp_path / "run", tmp_path / "out", corpus[1])
