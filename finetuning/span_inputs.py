"""From questions on contexts to model inputs, and from their outputs back to answers. Nothing to run here.

Used by finetuning.span_qa.

1. Question and context are cut into word pieces, [CLS] question [SEP] context [SEP]; a context longer than the
   model takes becomes windows that overlap, so that nothing is cut.
2. The gold answer's pieces are found by its characters; an answer that no window holds whole is counted.
3. After the model: the windows of a context are joined; of spans over the same characters the likeliest counts;
   answers are text of the context, by the tokenizer's character offsets, never pieces glued together.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp

import numpy as np
from torch import tensor
from transformers import PreTrainedTokenizerBase

from finetuning import encoder
from finetuning.config import FinetuneConfig
from finetuning.loop import Batch, Feature
from finetuning.pieces import encode
from finetuning.squad_files import Example

Offsets = np.ndarray  # [pieces, 2]: first character of each piece, and one after its last


@dataclass(frozen=True)
class Reader:
    """What turns examples into inputs of one model."""

    tokenizer: PreTrainedTokenizerBase
    special: tuple[list[int], list[int], list[int]]  # ids before the question, after it, after the context
    capacity: int  # word pieces of an input without the special ones
    overlap: int
    token_types: bool  # the model tells question and context apart by segment ids
    longest: int


@dataclass(frozen=True)
class Answer:
    """A span of a context."""

    text: str
    start: int  # characters
    end: int
    probability: float  # of this span, given question and window


@dataclass(frozen=True)
class Answers:
    """The best answers to one example, best first, and how much speaks for there being none."""

    answers: list[Answer]
    no_answer: float  # higher: rather none; of the window where it is lowest


@dataclass
class Inputs:
    """The inputs of one split, and what its examples lose on the way."""

    examples: list[Example]
    offsets: list[Offsets]  # of each example's context
    features: list[Feature]
    lost: int = 0  # gold answers that no window holds whole, or longer than answers may be
    cut_questions: int = 0  # so long that there was no room for a context


def special_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int], list[int]]:
    """The ids around question and context as the tokenizer sets them, else as BERT's does."""
    pair = tokenizer("a", "a", return_special_tokens_mask=True)
    ids, mask = pair["input_ids"], pair["special_tokens_mask"]
    if not any(mask):
        return [tokenizer.cls_token_id], [tokenizer.sep_token_id], [tokenizer.sep_token_id]
    texts = [i for i, special in enumerate(mask) if not special]
    gaps = [i for i in range(texts[0], texts[-1]) if mask[i]]
    if not texts[0] or not gaps:
        raise ValueError("the tokenizer of --model sets no token before or between two texts: no use for questions")
    return ids[: texts[0]], [ids[i] for i in gaps], ids[texts[-1] + 1 :]


def make_reader(model: str, config: FinetuneConfig, longest: int) -> Reader:
    """The Reader for `model`, a folder or a hub name; ValueError if its tokenizer gives no character offsets."""
    encoder_config = encoder.load_config(model)
    tokenizer = encoder.load_tokenizer(model, encoder_config)
    if not tokenizer.is_fast:
        raise ValueError(f"--model {model} has no fast tokenizer (tokenizer.json), which character offsets need")
    special = special_ids(tokenizer)
    capacity = min(config.max_length, encoder.longest_input(encoder_config)) - sum(map(len, special))
    token_types = (getattr(encoder_config, "type_vocab_size", 0) or 0) >= 2
    return Reader(tokenizer, special, capacity, config.overlap, token_types, longest)


def word_pieces(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> dict[str, tuple[list[int], Offsets]]:
    """Ids and character offsets (finetuning.pieces) of each distinct text; text such as "[MASK]" is text."""
    distinct = list(dict.fromkeys(texts))
    ids, spans = encode(tokenizer, distinct, offsets=True)
    offsets = [np.array(pairs, dtype=np.int32).reshape(-1, 2) for pairs in spans]
    return dict(zip(distinct, zip(ids, offsets, strict=True), strict=True))


def windows(length: int, capacity: int, overlap: int) -> list[tuple[int, int]]:
    """(start, end) of windows of at most `capacity` pieces that share `overlap`; one even if there is no piece."""
    step = capacity - overlap
    starts = range(0, max(1, length - overlap), step)
    return [(start, min(start + capacity, length)) for start in starts]


def answer_pieces(example: Example, offsets: Offsets) -> tuple[int, int] | None:
    """First and last piece of the first gold answer with a right offset; None if there is none.

    A piece belongs to the answer if it shares a character with it ("Japan" is the piece "Japanese").
    """
    for start, text in example.answers or ():
        if start >= 0:
            inside = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < start + len(text)))
            if len(inside):
                return int(inside[0]), int(inside[-1])
    return None


def example_features(
    reader: Reader, index: int, example: Example, question: list[int], context: tuple[list[int], Offsets]
) -> tuple[list[Feature], bool]:
    """All windows of one example, and whether its gold answer is in one of them.

    start and end of a feature are positions in its input_ids: 0, 0 where the window holds no answer; -1, -1
    where that is not known, or the answer is cut by every window's ends.
    """
    ids, offsets = context
    before, between, after = reader.special
    room = reader.capacity - len(question)
    gold = answer_pieces(example, offsets)
    if gold is not None and gold[1] - gold[0] >= reader.longest:
        gold = None
    default = 0 if gold is not None or example.answers == () else -1
    features, found = [], False
    at = len(before) + len(question) + len(between)
    for start, end in windows(len(ids), room, min(reader.overlap, room // 2)):
        input_ids = [*before, *question, *between, *ids[start:end], *after]
        feature = {"input_ids": input_ids, "example": index, "context": (at, end - start), "first": start}
        feature |= {"start": default, "end": default}
        if gold is not None and start <= gold[0] and gold[1] < end:
            feature |= {"start": at + gold[0] - start, "end": at + gold[1] - start}
            found = True
        features.append(feature)
    if gold is not None and not found:  # no window holds it whole: none may be said to be without an answer
        features = [{**feature, "start": -1, "end": -1} for feature in features]
    return features, found


def make_inputs(reader: Reader, examples: list[Example], training: bool) -> Inputs:
    """The inputs of `examples`, in order; for training only those whose answer is in a window, or have none."""
    pieces = word_pieces(reader.tokenizer, [text for one in examples for text in (one.question, one.context)])
    inputs = Inputs(examples, [pieces[one.context][1] for one in examples], [])
    for index, example in enumerate(examples):
        question = pieces[example.question][0]
        if len(question) > reader.capacity // 2:
            question = question[: reader.capacity // 2]
            inputs.cut_questions += 1
        features, found = example_features(reader, index, example, question, pieces[example.context])
        known = found or example.answers == ()
        if example.answers is not None and not known:
            inputs.lost += 1
        if known or not training:
            inputs.features += features
    return inputs


def collate(features: list[Feature], padding: int, token_types: bool) -> Batch:
    """Inputs padded to the longest [B, T]; context [B, T] is true on pieces that may be in an answer."""
    shape = len(features), max(len(feature["input_ids"]) for feature in features)
    ids, mask, types = np.full(shape, padding), np.zeros(shape, dtype=int), np.zeros(shape, dtype=int)
    context = np.zeros(shape, dtype=bool)
    for i, feature in enumerate(features):
        length, (at, count) = len(feature["input_ids"]), feature["context"]
        ids[i, :length], mask[i, :length] = feature["input_ids"], 1
        types[i, at:length] = 1
        context[i, at : at + count] = True
    batch = {"input_ids": tensor(ids), "attention_mask": tensor(mask), "context": tensor(context)}
    if token_types:
        batch["token_type_ids"] = tensor(types)
    counted = sum(feature["start"] >= 0 for feature in features)
    labels = {name: tensor([feature[name] for feature in features]) for name in ("start", "end")}
    return {**batch, **labels, "items": max(1, counted)}


def join_windows(inputs: Inputs, outputs: list[np.ndarray]) -> list[Answers]:
    """The answers to each example from the evaluation outputs [1, 1 + spans, 3] of its windows."""
    best: list[dict[tuple[int, int], float]] = [{} for _ in inputs.examples]
    no_answer = [float("inf")] * len(inputs.examples)
    for feature, output in zip(inputs.features, outputs, strict=True):
        index, offsets = feature["example"], inputs.offsets[feature["example"]]
        no_answer[index] = min(no_answer[index], float(output[0, 0, 0]))
        shift = feature["first"] - feature["context"][0]
        for first, last, score in output[0, 1:].tolist():
            if score == -float("inf"):
                break  # fewer pieces than spans asked for
            span = int(offsets[int(first) + shift, 0]), int(offsets[int(last) + shift, 1])
            if span[0] < span[1]:
                best[index][span] = max(score, best[index].get(span, score))
    found = []
    for example, spans, none in zip(inputs.examples, best, no_answer, strict=True):
        ranked = sorted(spans.items(), key=lambda item: (-item[1], item[0]))
        answers = [Answer(example.context[i:j], i, j, exp(score)) for (i, j), score in ranked]
        found.append(Answers(answers, none))
    return found
