"""Windows of texts and pairs, the part around two arguments, word pieces, batches."""

import random

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, RobertaConfig

from finetuning import encoder
from finetuning.classification import with_tokens
from finetuning.text_inputs import (
    Example,
    Layout,
    collate,
    layout_of,
    make_features,
    pair_windows,
    parts_around,
    windows,
    word_piece_span,
)

LAYOUT = Layout(cls=2, sep=3, padding=0, separators=1, types=True, length=16, overlap=4)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return encoder.load_tokenizer(str(tiny_model), encoder.load_config(str(tiny_model)))


def test_windows_by_hand():
    assert windows(5, 5, 2) == [(0, 5)]
    assert windows(8, 5, 2) == [(0, 5), (3, 8)]
    assert windows(9, 5, 2) == [(0, 5), (2, 7), (4, 9)]
    assert windows(12, 4, 0) == [(0, 4), (4, 8), (8, 12)]


def test_windows_are_even_and_cover_everything():
    chance = random.Random(1)
    for _ in range(500):
        capacity = chance.randint(2, 30)
        overlap = chance.randint(0, capacity // 2)
        length = chance.randint(1, 400)
        found = windows(length, capacity, overlap)
        assert {i for start, end in found for i in range(start, end)} == set(range(length))
        assert len({end - start for start, end in found}) == 1 and found[0][1] <= capacity
        assert all(before[1] - after[0] >= overlap for before, after in zip(found, found[1:], strict=False))


def test_pairs_keep_the_short_text_whole():
    assert pair_windows(3, 4, 10, 2) == [((0, 3), (0, 4))]
    question = pair_windows(3, 12, 10, 2)  # 7 are left for the second
    assert question == [((0, 3), (0, 7)), ((0, 3), (5, 12))]
    assert pair_windows(12, 3, 10, 2) == [((0, 7), (0, 3)), ((5, 12), (0, 3))]
    both = pair_windows(8, 9, 10, 1)  # both longer than half: every part with every part
    assert both == [(a, b) for a in windows(8, 5, 1) for b in windows(9, 5, 1)]


def test_pair_windows_show_each_word_piece_with_each_of_a_short_text():
    chance = random.Random(2)
    for _ in range(500):
        capacity = chance.randint(4, 30)
        first, second = chance.randint(1, 80), chance.randint(1, 80)
        found = pair_windows(first, second, capacity, chance.randint(0, capacity // 2))
        assert all(a[1] - a[0] + b[1] - b[0] <= capacity for a, b in found)
        assert {i for a, _ in found for i in range(*a)} == set(range(first))
        assert {i for _, b in found for i in range(*b)} == set(range(second))


def test_part_around_two_arguments():
    assert parts_around([(3, 4), (7, 9)], 12, 20) == [(0, 12)]
    assert parts_around([(30, 31), (36, 38)], 100, 20) == [(24, 44)]
    assert parts_around([(0, 1), (5, 6)], 100, 20) == [(0, 20)]
    assert parts_around([(95, 96), (99, 100)], 100, 20) == [(80, 100)]
    assert parts_around([(70, 72), (10, 11)], 100, 20) == [(6, 16), (66, 76)]  # too far apart
    assert parts_around([(50, 51), (50, 51)], 100, 20) == [(41, 61)]  # the same twice


def test_marks_are_the_word_pieces_of_the_arguments(tokenizer):
    text = "Naloxone reverses lithium and cocaine"
    ids = tokenizer.get_vocab()
    first, second = (0, 8), (18, 25)
    (feature,) = make_features([Example(text, "yes", arguments=(second, first))], tokenizer, LAYOUT)
    assert feature["input_ids"][1:5] == [ids["naloxone"], ids["reverses"], ids["lith"], ids["##ium"]]
    assert feature["marks"] == [[3, 4], [1]] and feature["left_out"] == 0
    long = "patients " * 50
    (feature,) = make_features(
        [Example(f"{long}{text} {long}", "yes", arguments=((450, 458), (468, 475)))], tokenizer, LAYOUT
    )
    assert len(feature["input_ids"]) == 16 and feature["left_out"] == 106 - 14
    assert [feature["input_ids"][i] for i in feature["marks"][1]] == [ids["lith"], ids["##ium"]]
    far = f"{text} {long}{text}"
    (feature,) = make_features([Example(far, "yes", arguments=((0, 8), (len(far) - 7, len(far))))], tokenizer, LAYOUT)
    marked = [feature["input_ids"][i] for positions in feature["marks"] for i in positions]
    assert marked == [ids["naloxone"], ids["cocaine"]]


def test_characters_that_the_tokenizer_drops_mark_the_next_word_piece():
    offsets = [(0, 3), (5, 8)]
    assert word_piece_span(offsets, (4, 7)) == (1, 2)
    assert word_piece_span(offsets, (3, 5)) == (1, 2)
    assert word_piece_span(offsets, (8, 9)) == (1, 2)
    assert word_piece_span(offsets, (0, 8)) == (0, 2)


def test_special_tokens_in_a_text_are_text(tokenizer):
    ids = tokenizer.get_vocab()
    (feature,) = make_features([Example("[MASK] naloxone [SEP]", "yes", " ")], tokenizer, LAYOUT)
    assert feature["input_ids"][:5] == [2, ids["["], ids["mask"], ids["]"], ids["naloxone"]]
    assert feature["input_ids"].count(3) == 2  # ends of the two texts
    assert feature["input_ids"][-2:] == [tokenizer.unk_token_id, 3]  # a text without word pieces is one unknown


def test_a_batch_by_hand():
    features = [
        {"windows": [[2, 7, 3, 8, 3], [2, 9, 3, 3]], "second": [3, 3], "input_ids": []},
        {"windows": [[2, 5, 3]], "second": [3], "input_ids": []},
    ]
    batch = collate(features, LAYOUT, marks=False)
    assert batch["input_ids"].tolist() == [[2, 7, 3, 8, 3], [2, 9, 3, 3, 0], [2, 5, 3, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 1, 0], [0] * 5]
    assert (batch["windows"], batch["items"]) == ([2, 1], 2)
    marked = [
        {"windows": [[2, 7, 8, 3]], "second": [4], "marks": [[1, 2], [2]]},
        {"windows": [[2, 7, 3]], "second": [3], "marks": [[1], [1]]},
    ]
    weights = collate(marked, LAYOUT, marks=True)["marks"].numpy()
    np.testing.assert_array_equal(weights[0], [[0, 0.5, 0.5, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(weights[1], [[0, 1, 0, 0], [0, 1, 0, 0]])


def test_layout_follows_the_model(tokenizer, tiny_model):
    settings = encoder.load_config(str(tiny_model))
    layout = layout_of(tokenizer, settings, 64, 8)
    assert (layout.cls, layout.sep, layout.padding) == (2, 3, 0)
    assert (layout.separators, layout.types, layout.length) == (1, True, 64)
    settings.type_vocab_size = 1
    assert not layout_of(tokenizer, settings, 64, 8).types


def byte_level_tokenizer():
    """RoBERTa's way with no merges: every byte is a piece, a blank belongs to the word after it, two separators."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = {piece: i for i, piece in enumerate(["<pad>", "<unk>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(pieces, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 3), ("<s>", 2), add_prefix_space=True)
    special = dict(pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def test_byte_level_tokenizers_have_two_separators_and_whole_placeholders():
    tokenizer = byte_level_tokenizer()
    layout = layout_of(tokenizer, RobertaConfig(type_vocab_size=1), 64, 8)
    assert (layout.separators, layout.types) == (2, False)
    (feature,) = make_features([Example("ab", "yes", "c")], tokenizer, layout)
    assert tokenizer.convert_ids_to_tokens(feature["input_ids"]) == [
        "<s>",
        "Ġ",
        "a",
        "b",
        "</s>",
        "</s>",
        "Ġ",
        "c",
        "</s>",
    ]
    assert list(with_tokens(tokenizer, ("@GENE$",))) == ["@GENE$"]
    text = "by @GENE$ it"
    (feature,) = make_features([Example(text, "yes", arguments=((3, 9), (10, 12)))], tokenizer, layout)
    pieces = tokenizer.convert_ids_to_tokens(feature["input_ids"])
    assert pieces == ["<s>", "Ġ", "b", "y", "@GENE$", "Ġ", "i", "t", "</s>"]
    assert feature["marks"] == [[4], [6, 7]]
