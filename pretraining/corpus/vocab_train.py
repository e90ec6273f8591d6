"""Word counts -> a WordPiece, BPE or Unigram model of exactly as many entries as wanted; there is no command here.

Steps of `train_model`: scale the counts to what the trainers of `tokenizers` can count; hand them the words, each as
often as it counts, in sorted order; train, with [PAD] [UNK] [CLS] [SEP] [MASK] at ids 0 to 4; build the model anew from
what they found, in an order that is ours.

The same counts give the same model. By themselves the trainers do not:
- WordPiece's numbers the pieces of one character in the order of a hash table, and breaks ties between equally
  frequent pairs by those numbers. Here it is given all of them, plain and with "##", in sorted order. It takes them as
  special tokens, which they do not stay.
- Unigram's adds up probabilities in the order of a hash table, so that scores differ in the last digits (seen: up to
  4e-11), and sorts pieces of equal scores by such an order. Here scores are rounded to `SCORE_DECIMALS`, pieces of the
  same score sorted; what the trainer gives the characters that it had dropped follows the order of the characters.
- BPE's does: it numbers the 256 bytes in their order.

The trainers count pairs of pieces in 32 bits. Were all words of a corpus one pair, its count would still be below the
number of characters; so the counts are scaled down until the characters fit, and then those of rare words round down.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE, Model, Unigram, WordPiece
from tokenizers.trainers import BpeTrainer, Trainer, UnigramTrainer, WordPieceTrainer

from pretraining.corpus.tokenizer import CONTINUATION, SPECIAL_TOKENS, normalizer_of, pre_tokenizer_of
from pretraining.corpus.word_counts import WordCounts

ALPHABET_CHARACTERS = 1000  # the most frequent ones; a rarer character is [UNK], in WordPiece with the word around it
MINIMUM_FREQUENCY = 2  # how often a pair of pieces must occur to become a piece of WordPiece or BPE
SCORE_DECIMALS = 4  # of Unigram's scores, natural logarithms of probabilities
TRAINER_CHARACTERS = 2**31 - 1
_WORDS_A_SEQUENCE = 1000  # handed over at a time
_FALLBACK_STEP = 1e-4  # between the scores that Unigram's trainer gives to characters that it had dropped


def train_model(kind: str, counts: WordCounts, vocab_size: int) -> Model:
    """A model of one of KINDS with exactly `vocab_size` entries; what is left out is added to `counts.left_out`.

    Raises ValueError if the words cannot yield so many, or if their characters alone are more.
    """
    alphabet = alphabet_of(kind, counts.characters)
    fixed = [*SPECIAL_TOKENS, *alphabet, *(_continuations(alphabet) if kind == "wordpiece" else [])]
    if len(fixed) >= vocab_size:
        raise ValueError(
            f"--vocab-size {vocab_size} is too small: special tokens and the {len(alphabet)} different "
            f"characters of the text alone take {len(fixed)} entries; give more"
        )
    words = trainable_words(counts, set(alphabet) if kind != "bpe" else None)
    if not words:
        raise ValueError("the text holds no word; give more text")
    tokenizer = Tokenizer({"wordpiece": WordPiece, "bpe": BPE, "unigram": Unigram}[kind]())
    tokenizer.pre_tokenizer = pre_tokenizers.CharDelimiterSplit("\n")
    tokenizer.train_from_iterator(_sequences(words), _trainer(kind, vocab_size, fixed, alphabet))
    model = _rebuilt(json.loads(tokenizer.to_str())["model"], alphabet)
    found = Tokenizer(model).get_vocab_size()
    if found != vocab_size:
        raise ValueError(
            f"the text yields only {found:,} entries; give --vocab-size {found} or less, or more text"
            if found < vocab_size
            else f"Unigram needs {found:,} entries for this text; give --vocab-size {found} or more"
        )
    return model


def alphabet_of(kind: str, characters: Counter) -> list[str]:
    """The characters that are pieces by themselves, sorted: the most frequent ones; for BPE, what stands for bytes."""
    if kind == "bpe":
        return sorted(pre_tokenizers.ByteLevel.alphabet())
    by_frequency = sorted(characters, key=lambda character: (-characters[character], character))
    return sorted(by_frequency[:ALPHABET_CHARACTERS])


def trainable_words(counts: WordCounts, alphabet: set[str] | None) -> dict[str, int]:
    """Counts for the trainers: words of characters of the alphabet, scaled to `TRAINER_CHARACTERS` in all."""
    words = {word: count for word, count in counts.words.items() if alphabet is None or alphabet.issuperset(word)}
    counts.left_out["rare_characters"] = sum(counts.words.values()) - sum(words.values())
    characters = sum(len(word) * count for word, count in words.items())
    if characters > TRAINER_CHARACTERS:
        scaled = {word: count * TRAINER_CHARACTERS // characters for word, count in words.items()}
        words = {word: count for word, count in scaled.items() if count}
    return words


def _sequences(words: dict[str, int]) -> Iterator[str]:
    """Each word as often as it counts, with line feeds between."""
    for word, count in words.items():
        for start in range(0, count, _WORDS_A_SEQUENCE):
            yield "\n".join([word] * min(_WORDS_A_SEQUENCE, count - start))


def _trainer(kind: str, vocab_size: int, fixed: list[str], alphabet: list[str]) -> Trainer:
    common = {"vocab_size": vocab_size, "initial_alphabet": alphabet, "show_progress": sys.stderr.isatty()}
    if kind == "unigram":
        return UnigramTrainer(special_tokens=list(SPECIAL_TOKENS), unk_token="[UNK]", **common)
    if kind == "bpe":
        return BpeTrainer(special_tokens=list(SPECIAL_TOKENS), min_frequency=MINIMUM_FREQUENCY, **common)
    # The pieces of `fixed` have their ids before training begins; the limit keeps it from adding rarer characters.
    return WordPieceTrainer(
        special_tokens=fixed,
        min_frequency=MINIMUM_FREQUENCY,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix=CONTINUATION,
        **common,
    )


def _rebuilt(state: dict, alphabet: list[str]) -> Model:
    """The model that a trainer left, from its JSON, its entries in our order."""
    if state["type"] == "WordPiece":
        return WordPiece(state["vocab"], unk_token="[UNK]", continuing_subword_prefix=CONTINUATION)
    if state["type"] == "BPE":
        return BPE(state["vocab"], [tuple(merge) for merge in state["merges"]])
    scores = dict(map(tuple, state["vocab"]))
    pieces = _ordered_scores({piece: score for piece, score in scores.items() if piece not in SPECIAL_TOKENS}, alphabet)
    return Unigram([(token, 0.0) for token in SPECIAL_TOKENS] + pieces, SPECIAL_TOKENS.index("[UNK]"))


def _ordered_scores(scores: dict[str, float], alphabet: list[str]) -> list[tuple[str, float]]:
    """(piece, rounded score), by score and then by piece, whatever the order in which the trainer found them."""
    smallest = min(scores.values())
    steps = {one: (scores[one] - smallest) / _FALLBACK_STEP for one in alphabet if one in scores}
    dropped = [one for one, step in steps.items() if abs(step - round(step)) < 1e-3 and step < len(alphabet)]
    scores |= dict(zip(dropped, sorted((scores[one] for one in dropped), reverse=True), strict=True))
    rounded = [(piece, round(score, SCORE_DECIMALS)) for piece, score in scores.items()]
    return sorted(rounded, key=lambda entry: (-entry[1], entry[0]))


def _continuations(alphabet: list[str]) -> list[str]:
    """ "##" pieces of the characters that join words; punctuation and CJK characters are words of their own."""
    normalizer, pre_tokenizer = normalizer_of("wordpiece", False, False), pre_tokenizer_of("wordpiece")

    def joins(character: str) -> bool:
        words = pre_tokenizer.pre_tokenize_str(normalizer.normalize_str("a" + character))
        return words[0][0] == "a" + character

    return [CONTINUATION + character for character in alphabet if joins(character)]
