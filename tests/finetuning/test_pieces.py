"""Word pieces and their characters: blanks, normalised and merged characters, special tokens in texts."""

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from finetuning import encoder
from finetuning.pieces import blank_before_word, encode, is_blank, is_visible, whole_characters
from tests.finetuning.tokenizer_kinds import BYTE_SPECIAL, KINDS, ODD, byte_level, model_of, names_of


def opened(folder):
    return encoder.load_tokenizer(str(folder), encoder.load_config(str(folder)))


@pytest.fixture(scope="module", params=["wordpiece", *KINDS, "trimmed for a blank that is not there"])
def tokenizer(request, tiny_model, tmp_path_factory):
    if request.param == "wordpiece":
        return opened(tiny_model)
    if request.param in KINDS:
        return opened(model_of(request.param, tmp_path_factory.mktemp("pieces")))
    backend = byte_level(prefix=True, trim=True, prefix_trimmed=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names_of(BYTE_SPECIAL))


@pytest.mark.parametrize("kind", ["albert charsmap", "xlm-roberta"])
def test_compiled_rules_of_sentencepiece_are_those_of_the_folder(tmp_path, kind):
    """Without them these kinds would say nothing of the published models."""
    with_rules, without = encode(opened(model_of(kind, tmp_path)), ["a\u200ba", "a a"], offsets=False)[0]
    assert with_rules == without


def test_characters_by_hand():
    assert whole_characters("a b", [(0, 1), (1, 3)], []) == [(0, 1), (2, 3)]  # `Ġb`
    # a blank of its own, twice: a span that begins with it begins with `b`, one that ends with it ends with `a`
    assert whole_characters("a  b", [(0, 1), (1, 2), (2, 3), (3, 4)], []) == [(0, 1), (3, 1), (3, 1), (3, 4)]
    assert whole_characters(" a ", [(0, 1), (1, 2), (2, 3)], []) == [(1, 0), (1, 2), (3, 2)]
    # a mark that the tokenizer has put before a text is of no character, however its offset was trimmed
    assert whole_characters("ab", [(0, 1), (0, 2)], [0]) == [(0, 0), (0, 2)]
    assert whole_characters("ab", [(1, 1), (0, 2)], [0]) == [(0, 0), (0, 2)]
    assert whole_characters("a bc", [(0, 1), (2, 3), (2, 4)], [1]) == [(0, 1), (2, 1), (2, 4)]  # before each word
    assert whole_characters("ab", [(1, 2)], []) == [(0, 2)]  # trimmed of a blank that was not there
    assert whole_characters("\x07ab", [(1, 3)], []) == [(1, 3)]  # dropped before, not trimmed
    # an accent that was merged or dropped belongs to its letter, and so does a jamo; a control character does not
    assert whole_characters("e\u0301 e\u0301", [(0, 1), (2, 4)], []) == [(0, 2), (3, 5)]
    assert whole_characters("e\u0301", [(0, 1), (1, 2), (1, 2)], []) == [(0, 2), (1, 2), (1, 2)]  # bytes
    assert whole_characters("\u1112\u1161\u11ab", [(0, 1)], []) == [(0, 3)]
    assert whole_characters("a\u200b\x07b", [(0, 1), (3, 4)], []) == [(0, 1), (3, 4)]
    assert whole_characters("", [], []) == []


@pytest.mark.parametrize("text", [text for text, _ in ODD])
def test_spans_are_whole_and_have_no_blank_at_their_ends(tokenizer, text):
    """Of all spans of pieces: none begins or ends with a blank or tears an accent off, none is lost to a shift."""
    (ids,), (pairs,) = encode(tokenizer, [text], offsets=True)
    assert len(ids) == len(pairs)
    spans = {(first[0], last[1]) for i, first in enumerate(pairs) for last in pairs[i:] if first[0] < last[1]}
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert not [text[start:end] for start, end in spans if is_blank(text[start]) or is_blank(text[end - 1])]
    assert not [text[start:end] for start, end in spans if text[end : end + 1] in ("\u0301", "\u0308")]
    covered = {place for start, end in pairs for place in range(start, end)}
    assert {place for place, character in enumerate(text) if is_visible(character)} <= covered
    for i, token in enumerate(tokenizer.convert_ids_to_tokens(ids)):
        assert token not in ("▁", "Ġ") or pairs[i][0] >= pairs[i][1]
    bare = text.strip(" \n\ufeff\u200b")
    assert (text.index(bare), text.index(bare) + len(bare)) in spans


def test_no_text_is_a_special_token(tokenizer):
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    texts = [f"it {token} is {token}" for token in tokenizer.all_special_tokens]
    ids, _ = encode(tokenizer, texts, offsets=False)
    assert not special & {piece for one in ids for piece in one}


def test_ids_are_those_of_the_tokenizer(tokenizer):
    texts = [text for text, _ in ODD if "[SEP]" not in text]
    theirs = [tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"] for text in texts]
    assert encode(tokenizer, texts, offsets=False)[0] == theirs
    assert encode(tokenizer, [], offsets=True) == ([], [])


def test_a_lone_word_is_cut_as_in_a_text(tokenizer):
    """Also where transformers' add_prefix_space would change nothing (ModernBERT's tokenizer.json)."""
    blank = blank_before_word(tokenizer)
    for word in ("liver", "patients", "ﬁbrosis", "µM", "-", "🧬", "p53", "cafe\u0301"):
        ids, _ = encode(tokenizer, ["was", f"was {word}", blank + word], offsets=False)
        np.testing.assert_array_equal(ids[1][len(ids[0]) :], ids[2])
