"""Texts to word pieces and their characters, whatever the tokenizer. Nothing to run here.

Used by finetuning.tagging_inputs, span_inputs and text_inputs. WordPiece, Unigram (pieces with the mark `▁`) and
byte-level BPE (the mark `Ġ`) differ, and so that no family of benchmarks has to know:

- a blank belongs to the piece after it or is a piece of its own, and some tokenizers put one before a text or before
  every word: the characters of a piece never begin or end with a blank, and a blank that was put there has none;
- normalisation merges an accent with its letter, or drops it: the letter's piece has the characters of both;
- tokenizers without a blank before the text would cut a lone word as the rest of one: `blank_before_word`;
- text is text: "[SEP]" in it is never the special token, not even where a Unigram vocabulary has it as a piece.
"""

import unicodedata

from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]  # first character, one after the last

MARKS = ("▁", "Ġ")  # how Unigram and byte-level vocabularies write a blank
SPECIAL = ("bos", "cls", "eos", "mask", "pad", "sep")  # what no text has
ZERO_WIDTH = "\u200b\u2060\ufeff"  # blanks that str.isspace() does not know


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], offsets: bool
) -> tuple[list[list[int]], list[list[Span]]]:
    """The ids of each text, without special tokens, and if `offsets` the characters of each piece."""
    if not texts:
        return [], []
    found = tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=offsets,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # it would warn of long texts, which the families divide
    )
    unknown = tokenizer.unk_token_id
    special = {getattr(tokenizer, f"{name}_token_id") for name in SPECIAL} - {unknown}
    ids = [[unknown if piece in special else piece for piece in one] for one in found["input_ids"]]
    if not offsets:
        return ids, []
    marks = {tokenizer.convert_tokens_to_ids(mark): mark for mark in MARKS}
    marks.pop(unknown, None)
    spans = []
    for text, pieces, pairs in zip(texts, ids, found["offset_mapping"], strict=True):
        blanks = [i for i, piece in enumerate(pieces) if piece in marks and text[slice(*pairs[i])] != marks[piece]]
        spans.append(whole_characters(text, pairs, blanks))
    return ids, spans


def blank_before_word(tokenizer: PreTrainedTokenizerBase) -> str:
    """What a lone word has to be given to be cut as it is within a text: a blank, or nothing.

    Asked of what the tokenizer does: transformers' setting `add_prefix_space` is without effect on a folder that names
    no tokenizer class of its own, as ModernBERT's.
    """
    alone, after_blank, two = encode(tokenizer, ["x", " x", "x x"], offsets=False)[0]
    return " " if alone != after_blank and two == alone + after_blank else ""


def is_blank(character: str) -> bool:
    """White space, or a character of no width that stands for it."""
    return character.isspace() or character in ZERO_WIDTH


def is_visible(character: str) -> bool:
    """Neither a blank nor a control or format character, all of which tokenizers may drop."""
    return unicodedata.category(character)[0] not in "CZ"


def whole_characters(text: str, pairs: list[Span], blanks: list[int]) -> list[Span]:
    """The tokenizer's offsets as said above; `blanks` are the pieces that are nothing but the mark of a blank.

    A piece of blanks gets (where the next piece begins, where the one before ends), so that a span that begins or ends
    with it has no blank at its ends.
    """
    spans = [list(pair) for pair in pairs]
    for i in blanks:  # one that the tokenizer has put there was given the character after it
        spans[i] = [0, 0]
    if spans and 0 not in blanks:
        # Post-processors that trim the blank before a text, where there is none, take the first character with it.
        spans[0][0] = next((i for i in range(spans[0][0]) if is_visible(text[i])), spans[0][0])
    following = len(text)
    for span in reversed(spans):
        start, end = span
        if start == end:
            continue
        while end < len(text) and (
            (text[end] > "\u02ff" and unicodedata.category(text[end])[0] == "M")
            or (end < following and is_visible(text[end]))
        ):
            end += 1
        following = min(following, start)
        while start < end and is_blank(text[start]):
            start += 1
        while start < end and is_blank(text[end - 1]):
            end -= 1
        span[:] = start, end
    empty = [i for i, (start, end) in enumerate(spans) if start == end]
    for i in reversed(empty):
        spans[i][0] = spans[i + 1][0] if i + 1 < len(spans) else len(text)
    for i in empty:
        spans[i][1] = spans[i - 1][1] if i else 0
    return [(start, end) for start, end in spans]
