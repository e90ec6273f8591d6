"""Word pieces, windows, rows and labels, batches."""

import random

import numpy as np

from finetuning import encoder
from finetuning.conll import Sentence
from finetuning.tagging_inputs import Cutting, collate, make_features, windows, word_pieces


def test_word_pieces_are_text_and_never_none(tiny_model):
    tokenizer = encoder.load_tokenizer(str(tiny_model), encoder.load_config(str(tiny_model)))
    ids = tokenizer.get_vocab()
    pieces = word_pieces(tokenizer, ["[MASK]", "Lithium", "\u200b", "qqq", "Lithium"])
    assert pieces["[MASK]"] == [ids["["], ids["mask"], ids["]"]]
    assert pieces["Lithium"] == [ids["lith"], ids["##ium"]]
    assert pieces["\u200b"] == pieces["qqq"] == [tokenizer.unk_token_id]


def test_windows_by_hand():
    assert windows([1] * 5, 5, 2) == [(0, 5, 0, 5)]
    assert windows([1] * 8, 5, 2) == [(0, 5, 0, 4), (3, 8, 4, 8)]
    assert windows([1] * 8, 5, 0) == [(0, 5, 0, 5), (5, 8, 5, 8)]


def test_windows_cover_every_word_once():
    chance = random.Random(2)
    for _ in range(300):
        capacity = chance.randint(6, 20)
        lengths = [chance.randint(1, chance.choice([1, 3, capacity])) for _ in range(chance.randint(1, 60))]
        found = windows(lengths, capacity, chance.randint(0, capacity // 2))
        own = [word for _, _, first, last in found for word in range(first, last)]
        assert own == list(range(len(lengths)))
        for start, end, first, last in found:
            assert start <= first <= last <= end
            assert sum(lengths[start:end]) <= capacity


def test_rows_are_first_word_pieces():
    pieces = {"a": [7], "b": [8, 9], "c": [10, 11, 12]}
    sentence = Sentence(["a", "b", "c"], ["O", "B-X", "I-X"])
    labels = {"O": 0, "B-X": 1, "I-X": 2}
    assert make_features([sentence], pieces, labels, Cutting(1, 2, 10, 2)) == [
        {"input_ids": [1, 7, 8, 9, 10, 11, 12, 2], "rows": [1, 2, 4], "labels": [0, 1, 2], "sentence": 0}
    ]
    short = make_features([sentence], pieces, labels, Cutting(1, 2, 3, 0))
    assert [one["input_ids"] for one in short] == [[1, 7, 8, 9, 2], [1, 10, 11, 12, 2]]
    # a word of more word pieces than fit keeps its label and shows what fits
    long_word = make_features([Sentence(["c"], ["B-X"])], pieces, labels, Cutting(1, 2, 2, 0))
    assert long_word == [{"input_ids": [1, 10, 11, 2], "rows": [1], "labels": [1], "sentence": 0}]


def test_a_batch_is_padded_and_its_rows_are_flat():
    features = [
        {"input_ids": [1, 7, 2], "rows": [1], "labels": [3]},
        {"input_ids": [1, 8, 9, 10, 2], "rows": [1, 3], "labels": [4, 5]},
    ]
    batch = collate(features, padding=99)
    np.testing.assert_array_equal(batch["input_ids"], [[1, 7, 2, 99, 99], [1, 8, 9, 10, 2]])
    np.testing.assert_array_equal(batch["attention_mask"], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert (batch["rows"].tolist(), batch["labels"].tolist(), batch["items"]) == ([1, 6, 8], [3, 4, 5], 3)
