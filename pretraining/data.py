"""Indexed corpus -> global order of samples -> unpadded, masked micro-batches. The whole state is one integer.

Steps of one optimizer step: (1) `global_batch` turns the number of consumed samples into (epoch, sample index)
pairs through a stateless permutation of each epoch; (2) `deal` deals them to micro-batches by length, the same way
whatever the number of ranks; (3) `Samples.read` fetches the word pieces of a rank's micro-batches and puts [CLS]
and [SEP] around the two segments; (4) `masking.mask_samples` masks them; (5) tensors. A thread prepares the next
step while this one is computed.

Order, segments, masks and sampling noise are functions of (seed, epoch, sample index): the same on 1, 2, 6 or 16 ranks.
The loss is divided by global counts, which follow from the lengths alone: no communication.

Shapes: T word pieces of a micro-batch, S its samples, M its masked positions, G samples of the global batch.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pretraining.batch import MaskedBatch
from pretraining.corpus.indexed import IndexedCorpus
from pretraining.machine import uses_gpu
from pretraining.masking import (
    STREAM_ONE_SEGMENT,
    STREAM_ORDER,
    STREAM_STRADDLE,
    hash_bits,
    mask_samples,
    masked_count,
    uniforms,
)
from pretraining.sample_map import SPECIALS_PER_SAMPLE

if TYPE_CHECKING:  # only named: batches are made without the tokenizers library too (benchmarks/gpu.sh)
    from pretraining.corpus.tokenizer import SpecialTokens

FEISTEL_ROUNDS = 4


def permute(index: np.ndarray, size: int, seed: int, epoch: np.ndarray, stream: int = STREAM_ORDER) -> np.ndarray:
    """Pseudo-random permutation of range(size), another one for each epoch, evaluated at these indices only.

    A Feistel network permutes the next power of four; results outside the range are permuted again until they land
    inside (cycle walking: at most four rounds on average). Nothing is stored: any position costs the same.
    """
    half_bits = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    half, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    value, epoch = np.array(index, np.uint64), np.broadcast_to(np.asarray(epoch), np.shape(index))
    walking = np.arange(len(value))
    while len(walking):
        left, right = value[walking] >> half, value[walking] & mask
        for number in range(FEISTEL_ROUNDS):
            left, right = right, left ^ (hash_bits(seed, stream, epoch[walking], number, right) & mask)
        value[walking] = (left << half) | right
        walking = walking[value[walking] >= size]
    return value.astype(np.int64)


def global_batch(consumed_samples: int, batch_size: int, num_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(epochs, sample indices), int64 [G] each, of the global batch that begins after `consumed_samples`."""
    epochs, positions = np.divmod(consumed_samples + np.arange(batch_size), num_samples)
    return epochs, permute(positions, num_samples, seed, epochs)


def deal(lengths: np.ndarray, micro_batch_size: int) -> np.ndarray:
    """Deal the samples of a global batch to micro-batches so that all have nearly the same number of word pieces.

    Longest first, round by round, the longest one left to the micro-batch with the fewest word pieces: with abstracts
    the largest of 64 micro-batches of 4 has 3 % more than the mean (a draft, there and back: 8 %). lengths int64 [G];
    returns indices into it, int64 [G / micro_batch_size, micro_batch_size]. Independent of the number of ranks.
    """
    micro_batches = len(lengths) // micro_batch_size
    rounds = np.argsort(-lengths, kind="stable").reshape(micro_batch_size, micro_batches)
    dealt = np.empty_like(rounds)
    totals = np.zeros(micro_batches, np.int64)
    for number, samples in enumerate(rounds):
        dealt[number, np.argsort(totals, kind="stable")] = samples
        totals += lengths[dealt[number]]
    return dealt.T


@dataclass
class Samples:
    """The samples of one split of a corpus, and how they are drawn, cut into segments and masked."""

    corpus: IndexedCorpus
    sample_map: np.ndarray  # RECORD [number of samples]
    special: "SpecialTokens"
    mask_prob: float
    one_segment_prob: float
    seed: int
    first_index: int = 0  # number of the first sample among those of a blend (blend.py)

    def __len__(self) -> int:
        return len(self.sample_map)

    def draw(self, consumed_samples: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """(epochs, sample indices), int64 [G] each, of the global batch that begins after `consumed_samples`."""
        return global_batch(consumed_samples, batch_size, len(self), self.seed)

    def first(self, count: int) -> np.ndarray:
        """Indices of the first samples, at most `count`: what validation uses."""
        return np.arange(min(count, len(self)))

    def first_segment_lengths(self, epochs: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Word pieces of the first segment of each sample; the whole sample where it has one segment only.

        ELECTRA's rule: whole sentences up to half the target length; the sentence that straddles the middle goes to
        either side with equal chance; one sample in ten is not divided.
        """
        records = self.sample_map[indices]
        keys = (epochs, indices + self.first_index)
        undivided = uniforms(self.seed, STREAM_ONE_SEGMENT, *keys) < self.one_segment_prob
        straddler_first = uniforms(self.seed, STREAM_STRADDLE, *keys) < 0.5
        length = records["length"].astype(np.int64)
        # Places in the corpus, in word pieces: where a sample begins, and the middle that its first segment reaches.
        begins = self.corpus.sentence_starts[records["sentence"]] + records["offset"]
        straddlers, limits = self._straddlers(records, begins + records["target"] // 2)
        before = (straddlers > records["sentence"]) & ((straddlers == limits) | ~straddler_first)
        ends = self._sentence_ends(straddlers - before)
        return np.where(undivided, length, np.minimum(ends - begins, length))

    def _sentence_ends(self, sentences: np.ndarray) -> np.ndarray:
        return self.corpus.sentence_starts[sentences] + self.corpus.sentence_lengths[sentences]

    def _straddlers(self, records: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(first sentence of each sample that reaches the place, the sentence behind its last one), int64 each.

        A binary search in all samples at once that reads no further than their own sentences, which on disk lie
        together. A sentence has at least one word piece, so `length` sentences always cover the sample.
        """
        last = self.corpus.num_sentences
        low = records["sentence"].astype(np.int64)
        limits = np.minimum(low + records["length"], last)
        high = limits.copy()
        while (searching := low < high).any():
            middle = (low + high) // 2
            reached = self._sentence_ends(np.minimum(middle, last - 1)) >= places
            high = np.where(searching & reached, middle, high)
            low = np.where(searching & ~reached, middle + 1, low)
        return low, limits

    def lengths(self, epochs: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(word pieces with special tokens, word pieces of the first segment without), int64 each."""
        content = self.sample_map["length"][indices].astype(np.int64)
        first = self.first_segment_lengths(epochs, indices)
        return content + SPECIALS_PER_SAMPLE - (first == content), first

    def read(
        self, indices: np.ndarray, lengths: np.ndarray, first_lengths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Word pieces with [CLS] and [SEP], and their segment ids, int64 [T] each."""
        token_ids = np.full(int(lengths.sum()), self.special.sep, np.int64)
        token_types = np.zeros_like(token_ids)
        records, ends = self.sample_map[indices], np.cumsum(lengths)
        begins, counts = ends - lengths, records["length"].astype(np.int64)
        # One gather for all samples: a loop over them took a fifth of the loader's time, and Python's lock with it.
        numbers = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)  # within the sample
        second = numbers >= np.repeat(first_lengths, counts)
        places = np.repeat(begins + 1, counts) + numbers + second
        starts = self.corpus.sentence_starts[records["sentence"]] + records["offset"].astype(np.int64)
        token_ids[begins] = self.special.cls
        token_ids[places] = self.corpus.tokens[np.repeat(starts, counts) + numbers]
        token_types[places[second]] = 1
        token_types[ends[first_lengths < counts] - 1] = 1
        return token_ids, token_types

    def micro_batches(
        self, epochs: np.ndarray, indices: np.ndarray, micro_batch_size: int, wanted: list[int]
    ) -> list[MaskedBatch]:
        """The wanted micro-batches of a global batch given as (epochs, indices), int64 [G] each."""
        lengths, first_lengths = self.lengths(epochs, indices)
        dealt = deal(lengths, micro_batch_size)
        counts = (float(masked_count(lengths, self.mask_prob).sum()), float(lengths.sum()))
        batches = []
        for number in wanted:
            rows = dealt[number]
            content = self.read(indices[rows], lengths[rows], first_lengths[rows])
            batches.append(self._mask(content, lengths[rows], (epochs[rows], indices[rows]), counts, number))
        return batches

    def _mask(
        self,
        content: tuple[np.ndarray, np.ndarray],
        lengths: np.ndarray,
        keys: tuple[np.ndarray, np.ndarray],
        counts: tuple[float, float],
        number: int,
    ) -> MaskedBatch:
        token_ids, token_types = content
        special = self.special
        never_masked = np.array([special.cls, special.sep, special.mask, special.pad])
        positions, generator_ids, noise = mask_samples(
            token_ids, lengths, keys, never_masked, special.mask, self.mask_prob, self.seed
        )
        ends = np.cumsum(lengths)
        return MaskedBatch(
            input_ids=torch.from_numpy(token_ids),
            generator_ids=torch.from_numpy(generator_ids),
            token_type_ids=torch.from_numpy(token_types),
            position_ids=torch.from_numpy(np.arange(len(token_ids)) - np.repeat(ends - lengths, lengths)),
            cu_seqlens=torch.from_numpy(np.concatenate([[0], ends]).astype(np.int32)),
            masked_positions=torch.from_numpy(positions),
            replacement_uniforms=torch.from_numpy(noise),
            lengths=tuple(lengths.tolist()),
            global_masked=counts[0],
            global_tokens=counts[1],
            index=number,
            sample_ids=tuple(zip(keys[0].tolist(), keys[1].tolist(), strict=True)),
        )


def rank_share(rank: int, world_size: int, accumulation: int) -> list[int]:
    """Micro-batches of the global batch that a rank computes, in order."""
    return [turn * world_size + rank for turn in range(accumulation)]


def training_steps(
    samples: Samples, consumed_samples: int, batch_size: int, micro_batch_size: int, share: list[int]
) -> Iterator[list[MaskedBatch]]:
    """A rank's micro-batches, step after step without end, prepared one step ahead by a thread."""

    def prepare(consumed: int) -> list[MaskedBatch]:
        epochs, indices = samples.draw(consumed, batch_size)
        batches = samples.micro_batches(epochs, indices, micro_batch_size, share)
        if uses_gpu():
            batches = [MaskedBatch(*(v.pin_memory() if isinstance(v, torch.Tensor) else v for v in b)) for b in batches]
        return batches

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        upcoming = thread.submit(prepare, consumed_samples)
        while True:
            batches = upcoming.result()
            consumed_samples += batch_size
            upcoming = thread.submit(prepare, consumed_samples)
            yield batches
