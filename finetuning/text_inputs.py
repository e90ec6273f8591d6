"""Texts and pairs of texts as model inputs: word pieces, windows of long texts, batches. Nothing to run here.

Used by finetuning.classification. Nothing of a text is cut off:

1. what fits is one input: [CLS] text [SEP], or [CLS] text_a [SEP] text_b [SEP];
2. a longer text becomes windows of equal length that overlap; of a pair the text that fills less than half of
   the input stands whole in every window, and only the other is divided (both, if both are longer: then every
   window of the one meets every window of the other). The model's scores of the windows are pooled;
3. a text with two marked arguments longer than the model takes is shown as the part around both (two parts, if
   they are too far apart): windows without them would say nothing of their relation. The word pieces that are
   left out are counted in the feature, and finetuning.classification says how many texts that are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from torch import Tensor, from_numpy, tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from finetuning.loop import Batch, Feature
from finetuning.pieces import Span, encode

Label = str | tuple[str, ...] | float  # one name; several, or none; a number


@dataclass(frozen=True)
class Example:
    """One text, or pair of texts, and its gold label.

    `arguments` are the characters of the two things in `text_a` that the label is about, such as two entities or the
    markers before them; only the "markers" head and the choice of the part shown of a long text look at them.
    """

    text_a: str
    label: Label
    text_b: str | None = None
    document: str = ""  # id of the document, such as a PMID
    arguments: tuple[Span, Span] | None = None
    index: str = ""  # what its file calls it, for the file of predictions


@dataclass(frozen=True)
class Layout:
    """How an input of one model is put together."""

    cls: int
    sep: int
    padding: int
    separators: int  # between the two texts: 2 for RoBERTa, else 1
    types: bool  # whether the model tells the second text from the first by a token type
    length: int  # most word pieces of one input, the special ones included
    overlap: int  # least word pieces that two neighbouring windows share


def layout_of(tokenizer: PreTrainedTokenizerBase, settings: PretrainedConfig, length: int, overlap: int) -> Layout:
    """The Layout of a model with this tokenizer and configuration."""
    return Layout(
        cls=tokenizer.cls_token_id,
        sep=tokenizer.sep_token_id,
        padding=tokenizer.pad_token_id,
        separators=2 if tokenizer.num_special_tokens_to_add(pair=True) == 4 else 1,
        types=(getattr(settings, "type_vocab_size", 0) or 0) >= 2,
        length=length,
        overlap=overlap,
    )


def windows(length: int, capacity: int, overlap: int) -> list[Span]:
    """Windows of one size, at most `capacity`, that cover `length` word pieces; neighbours share `overlap` or more."""
    if length <= capacity:
        return [(0, length)]
    count = math.ceil((length - overlap) / (capacity - overlap))
    size = math.ceil((length + (count - 1) * overlap) / count)
    starts = [round(i * (length - size) / (count - 1)) for i in range(count)]
    return [(start, start + size) for start in starts]


def pair_windows(first: int, second: int, capacity: int, overlap: int) -> list[tuple[Span, Span]]:
    """Windows of two texts of `first` and `second` word pieces that share `capacity`: see point 2 above."""
    if first + second <= capacity:
        return [((0, first), (0, second))]
    half = capacity // 2
    room = half if min(first, second) > half else capacity - min(first, second)

    def parts(length: int, whole: bool) -> list[Span]:
        return [(0, length)] if whole else windows(length, room, min(overlap, room // 2))

    return list(product(parts(first, first <= half), parts(second, first > half >= second)))


def parts_around(arguments: Sequence[Span], length: int, capacity: int) -> list[Span]:
    """The part of a text that holds both arguments, `capacity` word pieces long, or one part around each."""
    if length <= capacity:
        return [(0, length)]

    def centred(start: int, end: int, size: int) -> Span:
        begin = max(0, min(start - max(0, size - (end - start)) // 2, length - size))
        return begin, begin + size

    low, high = min(start for start, _ in arguments), max(end for _, end in arguments)
    if high - low <= capacity:
        return [centred(low, high, capacity)]
    return [centred(*argument, capacity // 2) for argument in sorted(arguments)]


def word_piece_span(offsets: list[Span], characters: Span) -> Span:
    """The word pieces that overlap `characters`; the next one, or the last, if the tokenizer has dropped them all."""
    inside = [i for i, (start, end) in enumerate(offsets) if start < characters[1] and end > characters[0]]
    if inside:
        return inside[0], inside[-1] + 1
    following = [i for i, (_, end) in enumerate(offsets) if end > characters[0]]
    first = following[0] if following else len(offsets) - 1
    return first, first + 1


def word_pieces(tokenizer: PreTrainedTokenizerBase, texts: list[str], offsets: bool) -> tuple[list, list]:
    """Ids of each text, at least one each, and their characters if `offsets`; text such as "[MASK]" is text."""
    ids, spans = encode(tokenizer, texts, offsets)
    return [one or [tokenizer.unk_token_id] for one in ids], [one or [(0, 0)] for one in spans]


def assemble(first: list[int], second: list[int] | None, layout: Layout) -> tuple[list[int], int]:
    """One input and where its second text begins (its length, if there is none)."""
    ids = [layout.cls, *first, layout.sep]
    if second is None:
        return ids, len(ids)
    ids += [layout.sep] * (layout.separators - 1)
    return [*ids, *second, layout.sep], len(ids)


def plain_feature(first: list[int], second: list[int] | None, layout: Layout) -> Feature:
    """A text or pair as one or more windows."""
    capacity = layout.length - 2
    if second is None:
        cut = [(span, None) for span in windows(len(first), capacity, min(layout.overlap, capacity // 2))]
    else:
        cut = pair_windows(len(first), len(second), capacity - layout.separators, layout.overlap)
    inputs = [assemble(first[a[0] : a[1]], second[b[0] : b[1]] if b else None, layout) for a, b in cut]
    return {"windows": [ids for ids, _ in inputs], "second": [begin for _, begin in inputs]}


def argument_feature(ids: list[int], arguments: Sequence[Span], layout: Layout) -> Feature:
    """A text with two marked arguments as one input; "marks" are the positions of their word pieces in it."""
    parts = parts_around(arguments, len(ids), layout.length - 2)
    shown = [i for start, end in parts for i in range(start, end)]
    marks = [[shown.index(i) + 1 for i in range(*argument) if i in shown] for argument in arguments]
    whole, begin = assemble([ids[i] for i in shown], None, layout)
    return {"windows": [whole], "second": [begin], "marks": marks, "left_out": len(set(range(len(ids))) - set(shown))}


def make_features(examples: list[Example], tokenizer: PreTrainedTokenizerBase, layout: Layout) -> list[Feature]:
    """The model inputs of `examples`, one feature each.

    A feature has windows (ids with the special word pieces), second (where the second text begins in each), and
    input_ids (the first window, whose length the batches are sorted by); with marked arguments also marks and
    left_out.
    """
    marked = any(example.arguments for example in examples)
    first, offsets = word_pieces(tokenizer, [example.text_a for example in examples], marked)
    pairs = [i for i, example in enumerate(examples) if example.text_b is not None]
    second = dict(zip(pairs, word_pieces(tokenizer, [examples[i].text_b for i in pairs], False)[0], strict=True))
    features = []
    for i, example in enumerate(examples):
        if example.arguments:
            assert example.text_b is None, "arguments are marked in single texts only"
            spans = [word_piece_span(offsets[i], characters) for characters in example.arguments]
            feature = argument_feature(first[i], spans, layout)
        else:
            feature = plain_feature(first[i], second.get(i), layout)
        features.append({"input_ids": feature["windows"][0], **feature})
    return features


def collate(features: list[Feature], layout: Layout, marks: bool) -> Batch:
    """All windows of the features padded to the longest, [W, T]; "windows" is the number each feature has.

    If `marks`: "marks" [W, 2, T] takes the mean over an argument's word pieces.
    """
    rows = [ids for feature in features for ids in feature["windows"]]
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), layout.padding)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    for i, (row, begin) in enumerate(zip(rows, (k for one in features for k in one["second"]), strict=True)):
        types[i, begin : len(row)] = 1
    batch = {
        "input_ids": from_numpy(ids),
        "attention_mask": from_numpy(mask),
        "windows": [len(feature["windows"]) for feature in features],
        "items": len(features),
    }
    if layout.types:
        batch["token_type_ids"] = from_numpy(types)
    if marks:
        batch["marks"] = mark_weights(features, longest)
    return batch


def mark_weights(features: list[Feature], longest: int) -> Tensor:
    """[features, 2, longest]: 1 / n at the n word pieces of the feature's first and second argument."""
    weights = np.zeros((len(features), 2, longest), dtype=np.float32)
    for i, feature in enumerate(features):
        for k, positions in enumerate(feature["marks"]):
            weights[i, k, positions] = 1 / len(positions)
    return tensor(weights)
