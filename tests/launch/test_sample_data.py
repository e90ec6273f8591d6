"""The made-up corpus and benchmark: repeatable, well-formed, and solvable by who has read the corpus only.

The last is shown without our trainer: vectors of the corpus' co-occurrences tell the kind of a name that the
benchmark's train split does not have, and the spelling of that name does not.
"""

import gzip
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from lxml import etree
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from launch import sample_data

ABSTRACTS = 3000  # the default


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("sample") / "data"
    sample_data.write_sample_data(output, ABSTRACTS, seed=1)
    return output


@pytest.fixture(scope="module")
def articles(sample: Path) -> list[etree._Element]:
    """The PubmedArticle elements of all files."""
    return [
        article
        for path in sorted((sample / "pubmed").iterdir())
        for article in etree.fromstring(gzip.decompress(path.read_bytes())).iter("PubmedArticle")
    ]


def all_bytes(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read_benchmark(sample: Path, split: str) -> list[list[list[str]]]:
    text = (sample / "benchmark" / f"{split}.tsv").read_text(encoding="utf-8")
    return [[line.split("\t") for line in block.split("\n")] for block in text.strip().split("\n\n")]


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        sample_data.write_sample_data(tmp_path / name, 30, seed)
    one, two, three = (all_bytes(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert all(one[name] != three[name] for name in one)


def test_records_are_like_those_of_pubmed(articles: list[etree._Element]) -> None:
    pmids = [article.findtext("MedlineCitation/PMID") for article in articles]
    assert len(set(pmids)) == ABSTRACTS
    assert all(article.findtext(".//ArticleTitle") for article in articles)
    without_abstract = [article for article in articles if article.find(".//Abstract") is None]
    assert len(without_abstract) == ABSTRACTS // sample_data.RECORDS_PER_FILE
    found = Counter(element.tag for article in articles for element in article.iter())
    assert min(found[tag] for tag in ("sub", "sup", "i", "CopyrightInformation")) > 10
    labels = {element.get("Label") for article in articles for element in article.iter("AbstractText")}
    assert labels == {None, "BACKGROUND", "METHODS", "RESULTS", "CONCLUSIONS"}
    text = " ".join("".join(article.itertext()) for article in articles)
    assert "{" not in text and " ." not in text


def test_benchmark_has_the_format_of_bc5cdr(sample: Path) -> None:
    for split, expected in sample_data.SENTENCES_PER_SPLIT.items():
        sentences = read_benchmark(sample, split)
        assert len(sentences) == expected
        previous = "O"
        for word, tag in (row for sentence in sentences for row in sentence):
            assert word and " " not in word
            assert tag in {"O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease"}
            assert not tag.startswith("I-") or previous[2:] == tag[2:]
            previous = tag


def entities(sample: Path, split: str) -> list[str]:
    return [word.lower() for sentence in read_benchmark(sample, split) for word, tag in sentence if tag[0] == "B"]


def test_most_entities_of_devel_and_test_are_not_in_train(sample: Path) -> None:
    train = set(entities(sample, "train"))
    for split in ("devel", "test"):
        known = [name in train for name in entities(sample, split)]
        assert 0.05 < np.mean(known) < 0.25


def corpus_sentences(articles: list[etree._Element]) -> list[list[str]]:
    paragraphs = (
        "".join(element.itertext()).lower()
        for article in articles
        for element in article.iter("ArticleTitle", "AbstractText")
    )
    sentences = (sentence for text in paragraphs for sentence in re.split(r"(?<=[a-z%)])\. ?", text))
    return [re.findall(r"\w+|[^\w\s]", sentence) for sentence in sentences]


def neighbour_vectors(sentences: list[list[str]]) -> dict[str, np.ndarray]:
    """Word -> 50 numbers: singular vectors of the PPMI of a word with its left and right neighbours."""
    counts = Counter(word for sentence in sentences for word in sentence)
    place = {word: i for i, (word, count) in enumerate(counts.most_common()) if count >= 10}
    pairs = np.zeros((len(place), 2 * len(place)))
    for sentence in sentences:
        ids = [place.get(word, -1) for word in sentence]
        for left, right in zip(ids, ids[1:], strict=False):
            if left >= 0 and right >= 0:
                pairs[left, right] += 1
                pairs[right, len(place) + left] += 1
    expected = np.outer(pairs.sum(1), pairs.sum(0)) / pairs.sum()
    ppmi = np.log(np.maximum(pairs / np.maximum(expected, 1e-9), 1))
    vectors, sizes, _ = np.linalg.svd(ppmi, full_matrices=False)
    return {word: vectors[i, :50] * sizes[:50] for word, i in place.items()}


def test_the_corpus_tells_the_kind_of_a_name_and_its_spelling_does_not(
    articles: list[etree._Element],
) -> None:
    names = sample_data.make_names(sample_data.read_grammar(), seed=1)
    splits = sample_data.split_names(names, seed=1)
    label = {"chemical": "Chemical", "disease": "Disease"}
    known = [(name, label.get(kind, "O")) for kind, some in splits["train"].items() for name in some]
    unseen = [
        (name, label.get(kind, "O"))
        for split in ("devel", "test")
        for kind, some in splits[split].items()
        for name in some
    ]
    assert not {name for name, _ in known} & {name for name, _ in unseen}
    sentences = corpus_sentences(articles)
    counts = Counter(word for sentence in sentences for word in sentence)
    assert min(counts[name] for name, _ in known + unseen) >= 30

    vectors = neighbour_vectors(sentences)
    spelling = CountVectorizer(analyzer="char_wb", ngram_range=(1, 4)).fit([name for name, _ in known])
    accuracy = {}
    for features, of in (
        ("corpus", lambda pairs: np.stack([vectors[name] for name, _ in pairs])),
        ("spelling", lambda pairs: spelling.transform([name for name, _ in pairs])),
    ):
        classifier = LogisticRegression(max_iter=1000).fit(of(known), [kind for _, kind in known])
        accuracy[features] = classifier.score(of(unseen), [kind for _, kind in unseen])
    assert accuracy["corpus"] > 0.9
    assert accuracy["spelling"] < 0.55  # always "O" would be right in half of all cases


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    command = [sys.executable, sample_data.__file__, "--output", str(tmp_path), "--abstracts", "3"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert re.fullmatch(r"error: --output \S+ holds something else; give a new folder\n", result.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_earlier_output_is_replaced(tmp_path: Path) -> None:
    output = tmp_path / "data"
    sample_data.write_sample_data(output, 600, seed=1)
    manifest = sample_data.write_sample_data(output, 3, seed=1)
    assert sorted(path.name for path in (output / "pubmed").iterdir()) == manifest["pubmed"]
    assert len(manifest["pubmed"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
