"""Order, dealing, segments and micro-batches: the same on any number of ranks, and resumed from one integer."""

import itertools
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from pretraining.batch import MaskedBatch
from pretraining.data import Samples, deal, global_batch, permute, rank_share, training_steps
from pretraining.masking import masked_count
from tests.tiny import make_corpus, make_documents, micro_batches, open_samples, tiny_config, write_corpus

BATCH = 24


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    prefix, tokenizer = make_corpus(tmp_path_factory.mktemp("corpus"))
    return open_samples(tiny_config(prefix, tokenizer, split="1,1,1"))


def same(ours: MaskedBatch, theirs: MaskedBatch) -> bool:
    """Whether two micro-batches are bitwise equal in every field."""
    return all(
        torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(ours, theirs, strict=True)
    )


def by_sample(batches: list[MaskedBatch]) -> dict[tuple[int, int], tuple]:
    """{(epoch, sample): (word pieces, masked word pieces, segments, masked positions, noise)}."""
    result = {}
    for batch in batches:
        bounds = batch.cu_seqlens.tolist()
        for key, begin, end in zip(batch.sample_ids, bounds, bounds[1:], strict=False):
            inside = (batch.masked_positions >= begin) & (batch.masked_positions < end)
            assert key not in result
            result[key] = (
                batch.input_ids[begin:end].tolist(),
                batch.generator_ids[begin:end].tolist(),
                batch.token_type_ids[begin:end].tolist(),
                (batch.masked_positions[inside] - begin).tolist(),
                batch.replacement_uniforms[inside].tolist(),
            )
    return result


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 97, 1000, 4097])
def test_every_epoch_is_another_permutation(size: int) -> None:
    def order(seed: int, epoch: int) -> np.ndarray:
        return permute(np.arange(size), size, seed, np.full(size, epoch))

    orders = [order(seed, epoch) for seed in (1, 2) for epoch in (0, 1, 2)]
    for permutation in orders:
        assert np.array_equal(np.sort(permutation), np.arange(size))
    if size >= 16:
        assert len({permutation.tobytes() for permutation in orders}) == len(orders)
        for one, other in itertools.combinations(orders, 2):
            assert (one == other).mean() < 0.5
    if size >= 1000:  # no trace of the corpus order is left
        assert abs(np.corrcoef(np.arange(size), orders[0])[0, 1]) < 0.1


def test_a_position_of_the_order_costs_no_table() -> None:
    size = 10**12
    positions = np.array([0, 1, size // 2, size - 1])
    there = permute(positions, size, 1, np.zeros(4, np.int64))
    assert len(set(there.tolist())) == 4 and there.min() >= 0 and there.max() < size
    assert np.array_equal(permute(positions[2:3], size, 1, np.zeros(1, np.int64)), there[2:3])


def test_first_positions_are_spread_evenly() -> None:
    """Where the first sample of 4,000 epochs lies in a corpus of 97 samples: each place equally often."""
    first = permute(np.zeros(4000, np.int64), 97, 5, np.arange(4000))
    counts = np.bincount(first, minlength=97)
    assert ((counts - 4000 / 97) ** 2 / (4000 / 97)).sum() < 96 + 5 * np.sqrt(192)


def test_a_global_batch_goes_on_across_the_end_of_an_epoch() -> None:
    size, seed = 10, 3
    drawn = [global_batch(consumed, 4, size, seed) for consumed in range(0, 40, 4)]
    epochs, indices = (np.concatenate(part) for part in zip(*drawn, strict=True))
    assert epochs.tolist() == np.repeat(range(4), 10).tolist()
    assert drawn[2][0].tolist() == [0, 0, 1, 1]
    for epoch in range(4):
        assert sorted(indices[epochs == epoch]) == list(range(10))
    larger_than_an_epoch = global_batch(5, 25, size, seed)
    assert np.array_equal(larger_than_an_epoch[1], indices[5:30])


@pytest.mark.parametrize("micro_batch_size, count", [(1, 7), (4, 1), (4, 16), (8, 32), (32, 8)])
def test_deal_gives_every_sample_once_and_balances_word_pieces(micro_batch_size: int, count: int) -> None:
    random = np.random.default_rng(0)
    lengths = np.where(
        random.random(micro_batch_size * count) < 0.6, 128, random.integers(3, 128, micro_batch_size * count)
    )
    dealt = deal(lengths, micro_batch_size)
    assert dealt.shape == (count, micro_batch_size)
    assert sorted(dealt.ravel()) == list(range(len(lengths)))
    sums = lengths[dealt].sum(axis=1)
    if micro_batch_size >= 4 and count > 1:
        as_they_come = lengths.reshape(count, micro_batch_size).sum(axis=1)
        assert np.ptp(sums) < 0.5 * np.ptp(as_they_come)
    if micro_batch_size >= 8:
        assert np.ptp(sums) < 0.05 * sums.mean()


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4])
def test_any_number_of_ranks_computes_the_same_micro_batches(samples: Samples, micro_batch_size: int) -> None:
    whole = micro_batches(samples, BATCH, micro_batch_size)
    assert [batch.index for batch in whole] == list(range(BATCH // micro_batch_size))
    epochs, indices = global_batch(0, BATCH, len(samples), samples.seed)
    for world_size in (1, 2, 4, 6):
        accumulation = BATCH // (micro_batch_size * world_size)
        if accumulation * micro_batch_size * world_size != BATCH:
            continue
        by_rank = [
            samples.micro_batches(epochs, indices, micro_batch_size, rank_share(rank, world_size, accumulation))
            for rank in range(world_size)
        ]
        assert {len(batches) for batches in by_rank} == {accumulation}
        union = sorted((batch for batches in by_rank for batch in batches), key=lambda batch: batch.index)
        assert len(union) == len(whole) and all(map(same, union, whole))


def test_ranks_share_all_micro_batches_in_turns() -> None:
    assert [rank_share(rank, 3, 2) for rank in range(3)] == [[0, 3], [1, 4], [2, 5]]


def test_a_sample_is_the_same_in_micro_batches_of_any_size(samples: Samples) -> None:
    reference = by_sample(micro_batches(samples, BATCH, BATCH))
    assert len(reference) == BATCH
    for micro_batch_size in (1, 3, 8):
        assert by_sample(micro_batches(samples, BATCH, micro_batch_size)) == reference
    other_company = by_sample(micro_batches(samples, 2 * BATCH, 4))
    assert {key: other_company[key] for key in reference} == reference


def test_epochs_differ_in_masks_and_not_in_boundaries(samples: Samples) -> None:
    indices = np.arange(40)
    first, second = (by_sample(samples.micro_batches(np.full(40, epoch), indices, 40, [0])) for epoch in (0, 1))
    special = [samples.special.cls, samples.special.sep]
    same_masks = same_segments = 0
    for index in range(40):
        one, other = first[0, index], second[1, index]
        assert [t for t in one[0] if t not in special] == [t for t in other[0] if t not in special]
        same_masks += one[3] == other[3]
        same_segments += one[2] == other[2]
    assert same_masks < 10 and same_segments < 40


def test_word_pieces_come_from_the_corpus_in_order(samples: Samples) -> None:
    """[CLS] first [SEP] second [SEP], positions from 0, segment 1 from behind the first [SEP] on."""
    special, records = samples.special, samples.sample_map
    batches = micro_batches(samples, len(samples), 1)
    assert len(batches) == len(samples)
    for batch in batches:
        record = records[batch.sample_ids[0][1]]
        start = int(samples.corpus.sentence_starts[record["sentence"]]) + int(record["offset"])
        content = samples.corpus.tokens[start : start + record["length"]].tolist()
        ids, types = batch.input_ids.tolist(), batch.token_type_ids.tolist()
        assert ids[0] == special.cls and ids[-1] == special.sep
        middle = ids.index(special.sep)
        assert [*ids[1:middle], *ids[middle + 1 : -1]] == content
        assert types == [0] * (middle + 1) + [1] * (len(ids) - middle - 1)
        assert batch.position_ids.tolist() == list(range(len(ids)))
        assert batch.lengths == (len(ids),) and batch.cu_seqlens.tolist() == [0, len(ids)]
        assert len(ids) <= 64
        assert middle != len(ids) - 2  # the second segment is never empty
        assert middle > 1


def test_tensors_have_the_types_that_the_batch_promises(samples: Samples) -> None:
    (batch,) = micro_batches(samples, 8, 8)
    for name in ("input_ids", "generator_ids", "token_type_ids", "position_ids", "masked_positions"):
        assert getattr(batch, name).dtype == torch.int64
    assert batch.cu_seqlens.dtype == torch.int32 and batch.replacement_uniforms.dtype == torch.float64
    assert batch.cu_seqlens.tolist() == np.cumsum([0, *batch.lengths]).tolist()
    assert batch.position_ids.tolist() == [p for length in batch.lengths for p in range(length)]
    assert same(batch.to(torch.device("cpu")), batch)


@pytest.mark.parametrize("mask_prob", [0.15, 0.25, 0.8])
def test_global_counts_are_what_the_micro_batches_hold(samples: Samples, mask_prob: float) -> None:
    samples = Samples(samples.corpus, samples.sample_map, samples.special, mask_prob, 0.1, samples.seed)
    for consumed in (0, len(samples) - 10):
        batches = micro_batches(samples, BATCH, 4, consumed)
        assert {batch.global_tokens for batch in batches} == {float(sum(len(b.input_ids) for b in batches))}
        assert {batch.global_masked for batch in batches} == {float(sum(len(b.masked_positions) for b in batches))}


def test_lengths_are_known_without_reading(samples: Samples) -> None:
    epochs, indices = global_batch(0, 100, len(samples), samples.seed)
    lengths, first = samples.lengths(epochs, indices)
    for row in range(100):
        token_ids, types = samples.read(indices[row : row + 1], lengths[row : row + 1], first[row : row + 1])
        assert len(token_ids) == len(types) == lengths[row]
        assert (token_ids == samples.special.sep).sum() == 1 + (first[row] < lengths[row] - 2)
    assert masked_count(lengths, samples.mask_prob).min() >= 1


@pytest.fixture(scope="module")
def short_sentences(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Many samples, each of ten sentences of six or seven word pieces."""
    random = np.random.default_rng(0)
    documents = [
        [[5 + int(piece) for piece in random.integers(0, 400, length)] for length in random.integers(6, 8, 10)]
        for _ in range(4000)
    ]
    prefix, tokenizer = write_corpus(tmp_path_factory.mktemp("short"), documents)
    return open_samples(tiny_config(prefix, tokenizer, split="1,0,0", short_seq_prob=0.0, seq_length=53))


def test_segments_end_with_sentences_and_one_sample_in_ten_has_one(short_sentences: Samples) -> None:
    samples, records = short_sentences, short_sentences.sample_map
    indices = np.flatnonzero(records["length"] == 50)
    first = samples.first_segment_lengths(np.zeros_like(indices), indices)
    undivided = first == 50
    assert undivided.mean() == pytest.approx(0.1, abs=0.02)

    sides = Counter()
    for index, length in zip(indices[~undivided], first[~undivided], strict=True):
        record = records[index]
        ends = (
            np.cumsum(samples.corpus.sentence_lengths[record["sentence"] : record["sentence"] + 12]) - record["offset"]
        )
        assert 0 < length < 50 and length in ends  # the middle is between two sentences
        straddler = int(np.flatnonzero(ends >= 25)[0])  # the sentence that reaches the middle
        assert length in (ends[straddler - 1], ends[straddler])
        sides[length == ends[straddler]] += 1
    assert sides[True] / sides.total() == pytest.approx(0.5, abs=0.03)


def test_segments_differ_from_epoch_to_epoch(short_sentences: Samples) -> None:
    indices = np.flatnonzero(short_sentences.sample_map["length"] == 50)
    one, other = (short_sentences.first_segment_lengths(indices * 0 + epoch, indices) for epoch in (0, 1))
    assert (one != other).mean() == pytest.approx(0.9 * 0.9 / 2 + 2 * 0.1 * 0.9, abs=0.03)
    assert ((one == 50) & (other == 50)).mean() == pytest.approx(0.01, abs=0.006)


def test_a_sample_inside_one_sentence_has_one_segment(tmp_path: Path) -> None:
    prefix, tokenizer = write_corpus(tmp_path, [[[7] * 1000]])
    samples = open_samples(tiny_config(prefix, tokenizer, split="1,0,0"))
    indices = np.arange(len(samples))
    lengths, first = samples.lengths(np.zeros_like(indices), indices)
    assert np.array_equal(first, samples.sample_map["length"])
    assert np.array_equal(lengths, first + 2)


def test_gaps_of_other_tools_corpora_do_no_harm(tmp_path: Path) -> None:
    """Empty sentences and documents, which our index stage drops: still whole samples with two segments."""
    documents = make_documents(30, seed=5)
    holes = [[sentence for part in document for sentence in (part, [], [])] for document in documents]
    holes = [entry for document in holes for entry in (document, [[]])]
    prefix, tokenizer = write_corpus(tmp_path, holes)
    samples = open_samples(tiny_config(prefix, tokenizer, split="1,0,0"))
    batches = micro_batches(samples, len(samples), 1)
    everything = by_sample(batches)
    special = {samples.special.cls, samples.special.sep}
    pieces = [t for key in sorted(everything) for t in everything[key][0] if t not in special]
    assert pieces == [piece for document in documents for sentence in document for piece in sentence]
    assert all(batch.lengths[0] >= 3 and len(batch.masked_positions) for batch in batches)
    assert max(batch.token_type_ids.max() for batch in batches) == 1


@pytest.mark.parametrize("first_step", [1, 3, 17])
def test_a_run_resumed_at_a_step_sees_what_an_uninterrupted_one_sees(samples: Samples, first_step: int) -> None:
    """All of it follows from the number of consumed samples; step 17 lies beyond the end of the first epoch."""
    assert 17 * BATCH > len(samples)
    share = rank_share(1, 2, 3)
    uninterrupted = itertools.islice(training_steps(samples, 0, BATCH, 4, share), first_step, first_step + 3)
    resumed = itertools.islice(training_steps(samples, first_step * BATCH, BATCH, 4, share), 3)
    for ours, theirs in zip(resumed, uninterrupted, strict=True):
        assert [batch.index for batch in ours] == [1, 3, 5]
        assert all(map(same, ours, theirs))


def test_the_next_step_is_prepared_before_it_is_asked_for(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    made, second, original = itertools.count(1), threading.Event(), samples.micro_batches

    def micro_batches(*given) -> list[MaskedBatch]:
        if next(made) == 2:
            second.set()
        return original(*given)

    monkeypatch.setattr(samples, "micro_batches", micro_batches)
    next(training_steps(samples, 0, BATCH, BATCH, [0]))
    assert second.wait(10)


def test_an_epoch_of_training_sees_every_sample_once(samples: Samples) -> None:
    size = len(samples)
    steps = itertools.islice(training_steps(samples, 0, BATCH, BATCH, [0]), 2 * size // BATCH + 1)
    seen = Counter(key for batches in steps for batch in batches for key in batch.sample_ids)
    assert set(seen.values()) == {1}
    assert {index for epoch, index in seen if epoch == 0} == set(range(size))
    assert {index for epoch, index in seen if epoch == 1} == set(range(size))
