"""Tagged sentences to model inputs: word pieces, windows of long sentences, batches. Nothing to run here.

1. Cut each word into word pieces.
2. A sentence longer than the model takes becomes windows that overlap, and each word belongs to the window that
   shows most text on both sides of it, so that nothing is cut and nothing counts twice.
3. Pad a batch of such inputs to its longest; with all of one length there is no padding, and no mask.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from torch import tensor
from transformers import PreTrainedTokenizerBase

from finetuning.conll import Sentence
from finetuning.loop import Batch, Feature
from finetuning.pieces import blank_before_word, encode


@dataclass(frozen=True)
class Cutting:
    """How sentences become inputs."""

    start: int  # id before the word pieces of an input ([CLS])
    end: int  # and after them ([SEP])
    capacity: int  # most word pieces between the two
    overlap: int  # word pieces that neighbouring windows share


def word_pieces(tokenizer: PreTrainedTokenizerBase, words: Iterable[str]) -> dict[str, list[int]]:
    """The word-piece ids of each distinct word as after a blank, at least one each; text such as "[MASK]" is text."""
    distinct = sorted(set(words))
    blank = blank_before_word(tokenizer)
    pieces, _ = encode(tokenizer, [blank + word for word in distinct], offsets=False)
    return {word: ids or [tokenizer.unk_token_id] for word, ids in zip(distinct, pieces, strict=True)}


def windows(lengths: list[int], capacity: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Cut a sentence into windows of at most `capacity` word pieces.

    Each is (start, end, own start, own end), counted in words. `lengths` are the word pieces of each word, none above
    `capacity`. Neighbouring windows share up to `overlap` word pieces; the words they share belong half to the one
    and half to the other. The own parts are the whole sentence.
    """
    found = []
    start, own_start = 0, 0
    while True:
        end, used = start, 0
        while end < len(lengths) and used + lengths[end] <= capacity:
            used += lengths[end]
            end += 1
        if end == len(lengths):
            return [*found, (start, end, own_start, end)]
        following, shared = end, 0
        while following - 1 > start and shared + lengths[following - 1] <= overlap:
            following -= 1
            shared += lengths[following]
        own_end = (following + end) // 2
        found.append((start, end, own_start, own_end))
        start, own_start = following, own_end


def make_features(
    sentences: list[Sentence], pieces: dict[str, list[int]], labels: dict[str, int], cutting: Cutting
) -> list[Feature]:
    """The model inputs of `sentences`, in order.

    Each has input_ids, rows (positions of the first word piece of its own words), labels (ids of their tags, O for
    tags that `labels` lacks) and sentence (its index). A single word longer than the capacity shows its first word
    pieces; it is scored.
    """
    features = []
    for index, sentence in enumerate(sentences):
        ids = [pieces[word][: cutting.capacity] for word in sentence.words]
        for start, end, own_start, own_end in windows([len(word) for word in ids], cutting.capacity, cutting.overlap):
            if own_start == own_end:
                continue
            input_ids, rows = [cutting.start], []
            for word in range(start, end):
                if own_start <= word < own_end:
                    rows.append(len(input_ids))
                input_ids += ids[word]
            tags = [labels.get(tag, 0) for tag in sentence.tags[own_start:own_end]]
            features.append({"input_ids": [*input_ids, cutting.end], "rows": rows, "labels": tags, "sentence": index})
    return features


def collate(features: list[Feature], padding: int) -> Batch:
    """Inputs padded to the longest [B, T]; rows are positions in the flat [B * T] axis, one an own word."""
    longest = max(len(feature["input_ids"]) for feature in features)
    ids = np.full((len(features), longest), padding)
    mask = np.zeros_like(ids)
    for i, feature in enumerate(features):
        ids[i, : len(feature["input_ids"])] = feature["input_ids"]
        mask[i, : len(feature["input_ids"])] = 1
    rows = [i * longest + row for i, feature in enumerate(features) for row in feature["rows"]]
    labels = [label for feature in features for label in feature["labels"]]
    return {
        "input_ids": tensor(ids),
        "attention_mask": tensor(mask),
        "rows": tensor(rows),
        "labels": tensor(labels),
        "items": len(labels),
    }
