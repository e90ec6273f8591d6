"""Word counts of blends: against a count of whole lines, in pieces as in one go, weighed as by hand."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from pretraining.corpus import word_counts
from pretraining.corpus.documents import Document, read_documents, write_shard, writing_stage
from pretraining.corpus.tokenizer import KINDS, normalizer_of, pre_tokenizer_of
from pretraining.corpus.word_counts import LONGEST_WORD, Words, blend_runs, count_words, factors, select_words

HARD_LINES = [
    "The β-catenin (p<0.05) of E. coli, naïve İstanbul; the THE the.",
    "漢字 in text, 5 µM of α₁\u3000wide blanks\tand tabs, [MASK] p53-[x]",
    "Two  blanks, a\u0085line end and\u2028others, don't; " + "x" * (LONGEST_WORD + 20),
]


def write_documents(folder: Path, *texts: str) -> Path:
    with writing_stage(folder, "sentences", options={}, sentences=True) as stage:
        for number, text in enumerate(texts):
            stage.files.append(write_shard(folder, number, [Document(str(number), text)]))
    return folder


def counted(folder: Path, *inputs: Path, weights: list[float] | None = None, kind: str = "wordpiece", **settings):
    settings = {"workers": 1, "max_words": 10**6} | settings
    return count_words(list(inputs), weights, Words(kind, True, True), folder / "work", **settings)


def reference(folder: Path, words: Words) -> Counter:
    """Whole lines, cleaned and cut at once."""
    normalizer = normalizer_of(words.kind, words.lowercase, words.strip_accents)
    lines = [line for document in read_documents(folder) for line in document.text.split("\n")]
    pre_tokenizer = pre_tokenizer_of(words.kind)
    found = Counter(
        word for line in lines for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(line))
    )
    # A second blank is a word of its own only where blanks begin words: the readers leave none.
    return Counter({word: count for word, count in found.items() if word not in ("Ġ", "▁")})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lowercase", [True, False])
def test_counts_are_those_of_whole_lines(tmp_path: Path, kind: str, lowercase: bool) -> None:
    texts = ["\n".join(HARD_LINES[start:] + ["The end."] * 3) for start in range(3)]
    folder = write_documents(tmp_path / "a", *texts)
    words = Words(kind, lowercase, lowercase)
    found = count_words([folder], None, words, tmp_path / "work", workers=1, max_words=10**6)
    expected = reference(folder, words)
    long = {word for word in expected if len(word) > LONGEST_WORD}
    assert long and found.left_out["too_long"] == sum(expected[word] for word in long)
    assert found.words == {word: count for word, count in expected.items() if word not in long}
    assert list(found.words) == sorted(found.words)
    assert (found.total, found.distinct, found.left_out["rare"]) == (expected.total(), len(expected), 0)
    assert found.characters["e"] == sum(word.count("e") * count for word, count in found.words.items()) > 0
    assert not (tmp_path / "work").exists()


def test_many_small_runs_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(f"w{(7 * place * number) % 61}" for place in range(200)) + "\nend" for number in range(7)]
    folder = write_documents(tmp_path / "a", *texts)
    expected = counted(tmp_path, folder).words
    monkeypatch.setattr(word_counts, "DISTINCT_UNITS", 10)
    monkeypatch.setattr(word_counts, "FAN_IN", 2)
    assert counted(tmp_path, folder).words == expected == reference(folder, Words("wordpiece", True, True))


def test_any_number_of_workers_gives_the_same(tmp_path: Path) -> None:
    folder = write_documents(tmp_path / "a", "one two two", "two three", "")
    assert counted(tmp_path, folder, workers=2).words == {"one": 1, "three": 1, "two": 3}


def test_weights_are_shares_of_the_words(tmp_path: Path) -> None:
    large = write_documents(tmp_path / "large", "a " * 600 + "b " * 299 + "c")  # 900 words
    small = write_documents(tmp_path / "small", "b " * 5 + "d " * 4 + "e")  # 10 words
    assert counted(tmp_path, large, small).words == {"a": 600, "b": 304, "c": 1, "d": 4, "e": 1}
    # 0.7/900 an occurrence against 0.3/10: an occurrence of the small one counts 270/7 times as much
    expected = {"a": 600, "b": round(299 + 5 * 270 / 7), "c": 1, "d": round(4 * 270 / 7), "e": round(270 / 7)}
    found = counted(tmp_path, large, small, weights=[0.7, 0.3])
    assert found.words == expected and found.total == sum(expected.values())
    from_small = 10 * 270 / 7
    assert from_small / (900 + from_small) == pytest.approx(0.3)
    assert counted(tmp_path, large, small, weights=[7.0, 3.0]).words == expected
    equal = counted(tmp_path, large, small, weights=[0.5, 0.5]).words
    assert equal == counted(tmp_path, large, small, weights=[1.0, 1.0]).words != expected
    assert equal["d"] == 4 * 90


def test_factors_are_exact_and_beyond_64_bits(tmp_path: Path) -> None:
    assert factors([0.1, 0.2], [10, 10]) == [1, 2]
    assert factors([0.3, 0.1], [7, 11]) == [Fraction(33, 7), 1]
    for name, count in (("a", 2**63), ("b", 2**63 - 1)):
        (tmp_path / name).write_text(f"{count} cell\n")
    blended = blend_runs([tmp_path / "a", tmp_path / "b"], [Fraction(1), Fraction(4, 3)])
    assert list(blended) == [("cell", 2**63 + round(Fraction(4, 3) * (2**63 - 1)))]


def test_the_most_frequent_words_are_kept_and_the_rest_counted() -> None:
    stream = [("a", 2), ("b", 5), ("c", 2), ("d", 9), ("e", 2)]
    found = select_words(stream, 3)
    assert found.words == {"a": 2, "b": 5, "d": 9}
    assert (found.total, found.distinct, found.left_out["rare"]) == (20, 5, 4)
    assert found.characters == {"a": 2, "b": 5, "c": 2, "d": 9, "e": 2}


def test_a_folder_without_a_word_cannot_be_weighed(tmp_path: Path) -> None:
    full, empty = write_documents(tmp_path / "full", "a"), write_documents(tmp_path / "empty", "")
    assert counted(tmp_path, full, empty).words == {"a": 1}
    with pytest.raises(ValueError, match="empty holds no word"):
        counted(tmp_path, full, empty, weights=[1.0, 1.0])
