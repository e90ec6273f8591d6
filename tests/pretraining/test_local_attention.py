"""--attention-init local: sinusoids that rotate, heads that look at their neighbours, and a language learned sooner."""

import itertools
import math

import numpy as np
import pytest
import torch

from pretraining.local_attention import NEIGHBOURS, POSITION_COLUMNS, rotation
from pretraining.objectives import build_objective
from tests.tiny import FIRST_WORD, VOCAB_SIZE, make_corpus, micro_batches, open_samples, tiny_config, write_corpus

SMALL = {"preset": "small", "seq_length": 64}
BASE_LIKE = {"preset": "base", "seq_length": 64, "num_layers": 2}  # embeddings as wide as the network: no projection


def attention_weights(encoder, embedded, batch) -> list[torch.Tensor]:
    """Per layer, the weights [H, L, L] of the batch's first sample."""
    hidden = embedded if encoder.project is None else encoder.project(embedded)
    weights = []
    for layer in encoder.layers:
        length, width = batch.lengths[0], hidden.shape[1]
        query, key, _ = layer.qkv(hidden[:length]).view(length, 3, layer.heads, width // layer.heads).unbind(1)
        scores = torch.einsum("ihd,jhd->hij", query, key) / math.sqrt(width // layer.heads)
        weights.append(scores.softmax(-1))
        hidden = layer(hidden, batch)
    return weights


@pytest.mark.parametrize("offset", [-2, -1, 1, 5])
def test_a_rotation_moves_every_position_by_the_offset(offset):
    frequencies = (torch.arange(16, dtype=torch.float64) + 0.5) * math.pi / 16
    angles = torch.arange(-5, 200, dtype=torch.float64)[:, None] * frequencies
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)
    moved = waves @ rotation(frequencies, offset).T
    torch.testing.assert_close(moved[5:-5], waves[5 + offset : len(waves) - 5 + offset], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [{}, SMALL, BASE_LIKE], ids=["tiny", "small", "no projection"])
@pytest.mark.parametrize("objective", ["electra", "mlm"])
@torch.no_grad()
def test_half_of_the_heads_look_at_their_neighbours(objective, shape, tmp_path):
    prefix, tokenizer = make_corpus(tmp_path, documents=30)
    config = tiny_config(prefix, tokenizer, objective=objective, attention_init="local", **shape)
    module = build_objective(config.model, VOCAB_SIZE, seed=1).eval()
    batch = micro_batches(open_samples(config), 4, 4)[0]
    embedded = module.embeddings(batch.generator_ids, batch)
    encoders = [module.generator, module.encoder] if objective == "electra" else [module.encoder]
    for encoder in encoders:
        local_heads = max(1, encoder.layers[0].heads // 2)
        turns = itertools.cycle(NEIGHBOURS)
        for number, weights in enumerate(attention_weights(encoder, embedded, batch)[:2]):
            for head in range(encoder.layers[0].heads):
                beside = [torch.diagonal(weights[head], offset).mean().item() for offset in NEIGHBOURS]
                if head < local_heads:  # evenly spread attention would be below 0.05
                    assert beside[NEIGHBOURS.index(next(turns))] > (0.45 if number == 0 else 0.2), (
                        number,
                        head,
                        beside,
                    )
                else:
                    assert max(beside) < 0.1, (number, head, beside)


def test_everything_else_starts_as_it_does_without():
    weights = {
        start: build_objective(tiny_config(attention_init=start).model, VOCAB_SIZE, seed=1).state_dict()
        for start in ("random", "local")
    }
    changed = {name for name in weights["random"] if not torch.equal(weights["random"][name], weights["local"][name])}
    queries_and_keys = {
        f"{network}.layers.{layer}.qkv.weight" for network in ("generator", "encoder") for layer in (0, 1)
    }
    assert changed == {"embeddings.position.weight"} | queries_and_keys
    for name in queries_and_keys:
        width = weights["local"][name].shape[1]
        assert torch.equal(weights["random"][name][2 * width :], weights["local"][name][2 * width :]), "values"
    positions = weights["local"]["embeddings.position.weight"]
    half = positions.shape[1] // 2  # of tiny's columns, which are fewer than POSITION_COLUMNS
    assert half < POSITION_COLUMNS and positions[:, :half].any() and not positions[:, half:].any()


def chained_documents(documents: int, seed: int) -> list[list[list[int]]]:
    """Sentences in which a word is followed by one of two others: what fills a gap is to be seen beside it only."""
    random = np.random.default_rng(seed)
    words = 60
    followers = np.random.default_rng(0).integers(0, words, (words, 2))
    result = []
    for _ in range(documents):
        sentence = [int(random.integers(words))]
        while len(sentence) < 28:
            sentence.append(int(followers[sentence[-1], random.integers(2)]))
        result.append([[FIRST_WORD + word for word in sentence]])
    return result


def accuracy_after(steps: int, attention_init: str, corpus) -> float:
    """Share of masked words that `tiny` with objective mlm gets right over the last ten steps."""
    config = tiny_config(*corpus, objective="mlm", attention_init=attention_init, seq_length=32, init_method_std=0.05)
    samples = open_samples(config)
    module = build_objective(config.model, VOCAB_SIZE, seed=1)
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    correct = masked = 0.0
    for step in range(steps):
        batch = micro_batches(samples, 32, 32, consumed_samples=32 * step)[0]
        loss, sums = module(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step >= steps - 10:
            correct += sums["generator_correct"].item()
            masked += sums["masked"].item()
    return correct / masked


@pytest.mark.slow
def test_what_only_neighbours_tell_is_learned_sooner(tmp_path):
    corpus = write_corpus(tmp_path, chained_documents(600, seed=1))
    assert accuracy_after(200, "local", corpus) > 2 * accuracy_after(200, "random", corpus)
