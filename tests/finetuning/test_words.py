"""Sentences and words of running text: by hand, and that nothing of the text is lost."""

import random

import pytest

from finetuning.words import sentence_places, word_places


def sentences_of(text):
    return [text[start:end] for start, end in sentence_places(text)]


def words_of(text):
    return [text[start:end] for start, end in word_places(text, 0, len(text))]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        (" \n ", []),
        ("One sentence", ["One sentence"]),
        ("Famotidine delirium.\nA series of six.", ["Famotidine delirium.", "A series of six."]),
        ("A title without a dot\nSeveral are known.", ["A title without a dot", "Several are known."]),
        ("a text that is wrapped\nin the middle. Then 5 mg.", ["a text that is wrapped\nin the middle.", "Then 5 mg."]),
        ("It rose (P < .05). (It fell?) Why!", ["It rose (P < .05).", "(It fell?)", "Why!"]),
        ("See Fig. 2 and E. coli, i.e. Gram-negative.", ["See Fig. 2 and E. coli, i.e. Gram-negative."]),
        ("Vitamin C. We gave 0.5 mg. 12 died.", ["Vitamin C.", "We gave 0.5 mg.", "12 died."]),
        ("Smith et al. reported it.", ["Smith et al. reported it."]),
    ],
)
def test_sentences_by_hand(text, sentences):
    assert sentences_of(text) == sentences


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("IL-2 (p53)", ["IL", "-", "2", "(", "p53", ")"]),
        ("beta-2M/CD45RO+", ["beta", "-", "2M", "/", "CD45RO", "+"]),
        ("α1_x 3.5\u00a0mg", ["α1", "_", "x", "3", ".", "5", "mg"]),
        ("Sjo\u0308gren cafe\u0301, \u0301", ["Sjo\u0308gren", "cafe\u0301", ",", "\u0301"]),
        ("❤\ufe0f+x\u0302\u0305y", ["❤\ufe0f", "+", "x\u0302\u0305y"]),
    ],
)
def test_words_by_hand(text, words):
    assert words_of(text) == words


def test_every_character_but_white_space_is_in_one_word():
    chance = random.Random(3)
    for _ in range(300):
        text = "".join(chance.choice('abC1 .?!\n()"é-α\u2009\u200b\u0301') for _ in range(chance.randint(0, 60)))
        places = [word for place in sentence_places(text) for word in word_places(text, *place)]
        assert places == sorted(places)
        assert "".join(text[start:end] for start, end in places) == "".join(text.split())
