"""The three trainers: the same model each time, counts as they are given, limits, refusals."""

import json
import math
import random
from collections import Counter

import pytest
from tokenizers import Tokenizer

from pretraining.corpus import vocab_train
from pretraining.corpus.tokenizer import KINDS, SPECIAL_TOKENS, assemble_tokenizer
from pretraining.corpus.vocab_train import train_model, trainable_words
from pretraining.corpus.word_counts import WordCounts, Words, cut_units, select_words


def made_up_counts(kind: str, seed: int = 3) -> WordCounts:
    """Words of syllables; many pairs are equally frequent; some characters stand in frequent words alone."""
    generator = random.Random(seed)
    syllables = [a + b for a in "bcdfglmnprstvz" for b in "aeiou"]
    words = ["".join(generator.choices(syllables, k=generator.randint(1, 4))) for _ in range(300)]
    units = Counter(generator.choices(words, k=6000))
    units += Counter({f"qua{character}tum{ending}": 400 for character in "βµ≤≥öé" for ending in ("", "i")})
    return select_words(sorted(cut_units(units, Words(kind, False, False)).items()), 10**6)


def trained(kind: str, counts: WordCounts, vocab_size: int) -> Tokenizer:
    return assemble_tokenizer(train_model(kind, counts, vocab_size), kind, False, False)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_counts_give_the_same_model(kind: str) -> None:
    """Each training has hash tables of an order of its own, in one process, too."""
    counts = made_up_counts(kind)
    first, *others = (trained(kind, counts, 400) for _ in range(4))
    assert {one.to_str() for one in others} == {first.to_str()}
    assert first.get_vocab_size() == 400
    assert [first.id_to_token(number) for number in range(5)] == list(SPECIAL_TOKENS)


def test_unigram_drops_characters_and_gives_them_scores_in_their_order() -> None:
    counts = made_up_counts("unigram")
    state = json.loads(trained("unigram", counts, 200).to_str())["model"]
    scores = dict(map(tuple, state["vocab"]))
    in_order = [scores[character] for character in sorted("µéö≤≥β")]
    assert in_order[0] < min(scores.values()) + 0.01  # what the test is about did happen
    assert in_order == sorted(in_order, reverse=True) and len(set(in_order)) > 4
    assert state["unk_id"] == 1 and all(math.isclose(score, round(score, 4)) for score in scores.values())


@pytest.mark.parametrize("kind", KINDS)
def test_counts_decide_what_becomes_a_piece(kind: str) -> None:
    counts = made_up_counts(kind)
    # Unigram's trainer begins with what stands in two words at least.
    word, longer = cut_units(Counter(["zizizozo", "zizizozoqu"]), Words(kind, False, False))
    for count, is_piece in ((1, False), (5000, True)):
        counts.words |= {word: count, longer: 1}
        vocabulary = trained(kind, counts, 200 if kind == "unigram" else 400).get_vocab()
        assert (word in vocabulary) == is_piece


def test_counts_are_scaled_to_what_the_trainers_can_count(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = WordCounts(words={"aa": 3 * 10**9, "bbb": 10**9, "c": 1})
    words = trainable_words(counts, set("abc"))
    assert list(words) == ["aa", "bbb"] and words["aa"] / words["bbb"] == pytest.approx(3, rel=1e-8)
    assert 2**31 - 4 < sum(len(word) * count for word, count in words.items()) <= 2**31 - 1
    few = WordCounts(words={"aa": 3, "bbb": 1, "cß": 1})
    assert trainable_words(few, set("abc")) == {"aa": 3, "bbb": 1} and few.left_out["rare_characters"] == 1
    made_up, exact = made_up_counts("wordpiece"), trained("wordpiece", made_up_counts("wordpiece"), 400).to_str()
    assert sum(len(word) * count for word, count in made_up.words.items()) > 20_000
    made_up.words = {word: 1000 * count for word, count in made_up.words.items()}
    monkeypatch.setattr(vocab_train, "TRAINER_CHARACTERS", sum(map(len, made_up.words)) * 1000)
    scaled = trained("wordpiece", made_up, 400)
    assert len(set(scaled.get_vocab()) & set(Tokenizer.from_str(exact).get_vocab())) > 360


def test_rare_characters_are_unknown_but_not_to_bpe(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in KINDS:
        counts = made_up_counts(kind)
        monkeypatch.setattr(vocab_train, "ALPHABET_CHARACTERS", len(counts.characters))
        word = cut_units(Counter(["quaŵtum"]), Words(kind, False, False)).popitem()[0]
        counts.words[word] = 7
        counts.characters.update({"ŵ": 7})
        tokenizer = trained(kind, counts, 400)
        assert counts.left_out["rare_characters"] == (0 if kind == "bpe" else 7)
        ids = tokenizer.encode("bavaŵ bava", add_special_tokens=False).ids
        assert (SPECIAL_TOKENS.index("[UNK]") in ids) == (kind != "bpe") and len(set(ids)) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_other_sizes_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="--vocab-size 20 is too small"):
        train_model(kind, made_up_counts(kind), 20)
    with pytest.raises(ValueError, match=r"yields only [\d,]+ entries; give --vocab-size \d+ or less"):
        train_model(kind, made_up_counts(kind), 30_000)
    empty = WordCounts(characters=Counter("a"))
    with pytest.raises(ValueError, match="holds no word"):
        train_model(kind, empty, 400)
