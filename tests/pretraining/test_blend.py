"""Blends: exact shares, every corpus's samples once in each of its epochs, any number of ranks, resumed exactly."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pretraining import checkpoint
from pretraining.blend import SLOTS, BlendedSamples, blend_positions, parse_data_path, slots_of
from pretraining.data import Samples, training_steps
from pretraining.evaluation import validation_batches
from pretraining.flags import parse_arguments
from tests.pretraining.test_data import by_sample, same
from tests.tiny import make_corpus, open_samples, tiny_config
from tests.training_runs import flags_of, start_training, train

BATCH = 24
Corpora = list[tuple[Path, Path]]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    """A large corpus and a small one, with the same tokenizer."""
    folder = tmp_path_factory.mktemp("corpora")
    return [make_corpus(folder / "large", documents=300), make_corpus(folder / "small", documents=12, seed=1)]


def parts_of(corpora: Corpora, split: str = "training") -> list[Samples]:
    return [open_samples(tiny_config(*corpus, seq_length=32, split="8,2,0"), split) for corpus in corpora]


@pytest.fixture
def blend(corpora: Corpora) -> BlendedSamples:
    return BlendedSamples(parts_of(corpora), [0.75, 0.25])


def drawn(samples: Samples, batches: int, batch_size: int) -> list[tuple[int, int]]:
    pairs = [samples.draw(number * batch_size, batch_size) for number in range(batches)]
    return [pair for epochs, indices in pairs for pair in zip(epochs.tolist(), indices.tolist(), strict=True)]


@pytest.mark.parametrize(
    "data_path, expected",
    [
        ("a/c", (["a/c"], None)),
        ("my corpus/c", (["my corpus/c"], None)),
        (["1.0", "a"], (["a"], None)),
        (["0.7", "a", "0.3", "b"], (["a", "b"], [0.7, 0.3])),
        ("7 a .3 b", (["a", "b"], [7.0, 0.3])),
        (["a", "b", "c"], (["a", "b", "c"], None)),
    ],
)
def test_data_paths(data_path: str | list[str], expected: tuple) -> None:
    assert parse_data_path(data_path) == expected


@pytest.mark.parametrize(
    "words, complaint",
    [
        (["0.7", "a", "b"], "neither paths alone nor a weight before each path"),
        (["a", "0.7", "b", "0.3"], "neither paths alone nor a weight before each path"),
        (["0", "a", "1", "b"], "has a weight of 0"),
        (["0.5", "a", "0.5", "a"], "names a path twice"),
    ],
)
def test_data_paths_without_sense_are_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_data_path(words)


def test_the_flag_takes_one_word_or_several() -> None:
    others = ["--tokenizer", "t", "--save", "s"]
    assert parse_arguments(["--data-path", "a/c", *others]).data.data_path == "a/c"
    assert parse_arguments(["--data-path", "0.7", "a", "0.3", "b", *others]).data.data_path == ["0.7", "a", "0.3", "b"]


def test_slots_follow_the_weights() -> None:
    assert slots_of([1, 1]).tolist() == [SLOTS // 2] * 2
    assert slots_of([0.7, 0.2, 0.1]).tolist() == [45875, 13107, 6554]
    assert sum(slots_of([1, 1, 1])) == SLOTS
    with pytest.raises(ValueError, match="a weight is below 1/65536"):
        slots_of([1, 1e-7])


def test_every_block_has_the_shares_and_each_corpus_goes_through_its_own_order() -> None:
    slots = slots_of([0.7, 0.2, 0.1])
    corpora, positions = blend_positions(np.arange(3 * SLOTS), slots, 5)
    for block in range(3):
        counts = np.bincount(corpora[block * SLOTS : (block + 1) * SLOTS])
        assert np.array_equal(counts, slots)
    for corpus in range(3):
        assert np.array_equal(np.sort(positions[corpora == corpus]), np.arange(3 * slots[corpus]))
    shares = np.bincount(corpora[:2000]) / 2000  # mixed well within a block, too
    assert shares == pytest.approx([0.7, 0.2, 0.1], abs=0.04)
    far = 10**12 + np.arange(100)  # any position costs the same
    assert np.array_equal(blend_positions(far, slots, 5)[1][7:], blend_positions(far[7:], slots, 5)[1])
    assert blend_positions(far, slots, 5)[1].max() > 0.6 * 10**12


def test_a_small_corpus_is_up_sampled_and_all_of_it_comes_before_any_again(blend: BlendedSamples) -> None:
    large, small = blend.sizes.tolist()
    blocks = 2
    pairs = drawn(blend, blocks * SLOTS // 1024, 1024)
    assert len(set(pairs)) == len(pairs)  # (epoch, sample) never twice: masks are never the same
    from_small = [(epoch, index - large) for epoch, index in pairs if index >= large]
    assert len(from_small) == blocks * SLOTS // 4
    epochs = Counter(epoch for epoch, _ in from_small)
    whole_epochs = blocks * SLOTS // 4 // small
    assert [epochs[number] for number in range(whole_epochs)] == [small] * whole_epochs
    assert {index for epoch, index in from_small if epoch == 3} == set(range(small))
    assert max(epoch for epoch, index in pairs if index < large) == (blocks * SLOTS * 3 // 4 - 1) // large


def test_word_pieces_are_those_of_the_corpora(blend: BlendedSamples, corpora: Corpora) -> None:
    alone = parts_of(corpora)
    sources = set()
    for batch in blend.micro_batches(*blend.draw(0, BATCH), 4, list(range(BATCH // 4))):
        bounds = batch.cu_seqlens.tolist()
        for (_, index), begin, end in zip(batch.sample_ids, bounds, bounds[1:], strict=False):
            number = int(index >= len(alone[0]))
            part, local = alone[number], index - number * len(alone[0])
            record = part.sample_map[local]
            start = int(part.corpus.sentence_starts[record["sentence"]]) + int(record["offset"])
            content = part.corpus.tokens[start : start + int(record["length"])].tolist()
            special = (part.special.cls, part.special.sep)
            assert [piece for piece in batch.input_ids[begin:end].tolist() if piece not in special] == content
            sources.add(number)
    assert sources == {0, 1}


def test_ranks_and_resuming_change_nothing(blend: BlendedSamples) -> None:
    pairs = drawn(blend, 10, BATCH)
    assert drawn(blend, 80, BATCH // 8) == pairs
    epochs, indices = blend.draw(3 * BATCH, BATCH)
    assert list(zip(epochs.tolist(), indices.tolist(), strict=True)) == pairs[3 * BATCH : 4 * BATCH]
    whole = blend.micro_batches(epochs, indices, 4, list(range(6)))
    for rank in range(2):
        mine = blend.micro_batches(epochs, indices, 4, [rank, 2 + rank, 4 + rank])
        assert all(same(a, b) for a, b in zip(mine, whole[rank::2], strict=True))
    others = blend.micro_batches(epochs, indices, 2, list(range(12)))
    assert by_sample(others) == by_sample(whole)
    steps = training_steps(blend, 3 * BATCH, BATCH, 4, list(range(6)))
    assert all(same(a, b) for a, b in zip(next(steps), whole, strict=True))
    steps.close()


def test_without_weights_corpora_count_by_their_samples(corpora: Corpora) -> None:
    blend = BlendedSamples(parts_of(corpora), None)
    assert np.allclose(blend.slots / SLOTS, blend.sizes / blend.sizes.sum(), atol=1 / SLOTS)


@pytest.mark.parametrize("count", [1, 2, 3, 8, 1000])
def test_validation_takes_the_first_samples_of_each_corpus(corpora: Corpora, count: int) -> None:
    blend = BlendedSamples(parts_of(corpora, "validation"), [0.5, 0.5])
    large, small = blend.sizes.tolist()
    indices = blend.first(count)
    assert 1 <= len(indices) <= count and len(set(indices.tolist())) == len(indices)
    if count == 8:
        assert indices.tolist() == [*range(4), *range(large, large + 4)]
    if count == 1000:
        assert (indices >= large).sum() == small
    seen = [
        index
        for rank in range(2)
        for batch, counts in validation_batches(blend, count, 3, rank, 2)
        for _, index in batch.sample_ids
        if counts
    ]
    assert sorted(seen) == sorted(indices.tolist())


def test_a_training_on_a_blend_goes_on_exactly_and_refuses_other_weights(corpora: Corpora, tmp_path: Path) -> None:
    (large, tokenizer), (small, _) = corpora
    corpus = (f"0.5 {large} 0.5 {small}", tokenizer)
    settings = {"train_iters": 4, "split": "8,2,0"}
    train(tmp_path / "out0", 1, flags_of(corpus, tmp_path / "whole", save_interval=2, **settings))
    halfway = tmp_path / "whole" / "checkpoints" / "step_00000002"
    assert json.loads((halfway / "manifest.json").read_text())["consumed_samples"] == 16
    other = flags_of((f"0.6 {large} 0.4 {small}", tokenizer), tmp_path / "other", load=halfway, **settings)
    run = start_training(tmp_path / "out1", 1, other)
    train(tmp_path / "out2", 1, flags_of(corpus, tmp_path / "resumed", load=halfway, **settings))
    whole, resumed = (checkpoint.find_checkpoint(tmp_path / name) for name in ("whole", "resumed"))
    assert (whole / checkpoint.WEIGHTS).read_bytes() == (resumed / checkpoint.WEIGHTS).read_bytes()
    assert "blend 32768 32768 there, 39322 26214 here" in run.wait().mistake()
