"""Entity-level F1 against conlleval and seqeval, token-level F1 against scikit-learn, and the files of predictions."""

import random

import pytest
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2
from sklearn.metrics import precision_recall_fscore_support

from finetuning.conll import Sentence, TaggedFile
from finetuning.entity_files import tag_texts
from finetuning.entity_scores import (
    ENTITY_F1,
    TOKEN_F1,
    entity_scores,
    read_spans,
    read_tags,
    score_tags,
    span_keys,
    tag_keys,
    token_scores,
    write_spans,
    write_tags,
)
from finetuning.standoff import read_pubtator
from finetuning.tags import iob2_tags, iob_spans
from tests.finetuning.references import conlleval_counts, conlleval_file, f1

TAGS = ["O", "O", "B-X", "I-X", "B-Y", "I-Y"]


def random_tags(chance, count=12):
    """Gold tags (IOB2) and raw predicted ones (any order of B and I)."""
    gold, raw = [], []
    for _ in range(count):
        length = chance.randint(1, 9)
        gold.append(iob2_tags(iob_spans([chance.choice(TAGS) for _ in range(length)]), length))
        raw.append([chance.choice(TAGS) if chance.random() < 0.4 else tag for tag in gold[-1]])
    return gold, raw


def file_of(gold):
    sentences = [Sentence([f"w{i}" for i in range(len(tags))], tags, 1) for tags in gold]
    return TaggedFile(None, sentences, "")


def test_score_equals_conlleval_and_strict_seqeval():
    chance = random.Random(1)
    for _ in range(50):
        gold, raw = random_tags(chance)
        ours = score_tags(file_of(gold), raw)
        correct, found, there = conlleval_counts(gold, raw)
        assert ours["entities"] == there
        assert ours[ENTITY_F1] == pytest.approx(f1(correct, found, there))
        assert ours["precision"] == pytest.approx(correct / found)
        assert ours["recall"] == pytest.approx(correct / there)
        theirs = classification_report(
            gold,
            [iob2_tags(iob_spans(row), len(row)) for row in raw],
            output_dict=True,
            mode="strict",
            scheme=IOB2,
            zero_division=0,
        )
        assert ours[ENTITY_F1] == pytest.approx(theirs["micro avg"]["f1-score"])
        for name in ours["types"]:
            for key in ("precision", "recall", "f1-score"):
                assert ours["types"][name][key] == pytest.approx(theirs[name][key])
            assert ours["types"][name]["entities"] == theirs[name]["support"]


def test_scores_by_hand():
    gold = [["B-X", "I-X", "O", "B-Y"], ["B-X", "O"]]
    # one right, one with a wrong border, one missed, one too many: precision 1/3, recall 1/3
    scores = entity_scores(tag_keys(gold), tag_keys([["B-X", "O", "O", "B-Y"], ["O", "B-X"]]))
    assert scores[ENTITY_F1] == pytest.approx(1 / 3)
    assert scores["types"]["Y"]["f1-score"] == 1.0
    assert scores["types"]["X"]["f1-score"] == 0.0
    assert scores["types"]["X"]["entities"] == 2
    # a right span with the wrong type is wrong
    assert entity_scores(tag_keys([["B-X", "I-X"]]), tag_keys([["B-Y", "I-Y"]]))[ENTITY_F1] == 0.0
    # the same span twice in gold is two entities, and found once it is found once
    twice = entity_scores([(0, 1, "X"), (0, 1, "X")], [(0, 1, "X")])
    assert (twice["recall"], twice["precision"], twice["entities"]) == (0.5, 1.0, 2)


def test_empty_prediction_scores_zero():
    scores = entity_scores(tag_keys([["B-X", "O"], ["O", "B-Y"]]), [])
    assert (scores[ENTITY_F1], scores["precision"], scores["recall"], scores["entities"]) == (0.0, 0.0, 0.0, 2)


def test_token_scores_equal_scikit_learn():
    chance = random.Random(2)
    for _ in range(30):
        gold, raw = random_tags(chance)
        ours = token_scores(gold, raw, ["X", "Y", "Z"])
        flat = [[tag[2:] or "O" for tags in part for tag in tags] for part in (gold, raw)]
        precision, recall, score, support = precision_recall_fscore_support(
            *flat, labels=["X", "Y", "Z"], zero_division=0
        )
        assert ours[TOKEN_F1] == pytest.approx(score.mean())
        assert ours["words"] == support.sum()
        for i, name in enumerate("XYZ"):
            assert ours["classes"][name]["precision"] == pytest.approx(precision[i])
            assert ours["classes"][name]["recall"] == pytest.approx(recall[i])
            assert ours["classes"][name]["words"] == support[i]


def test_token_file_is_read_by_conlleval_and_by_us(tmp_path):
    chance = random.Random(3)
    gold, raw = random_tags(chance, 40)
    file = file_of(gold)
    write_tags(file.sentences, raw, tmp_path / "p.tsv")
    assert conlleval_file(tmp_path / "p.tsv") == conlleval_counts(gold, raw)
    again = read_tags(tmp_path / "p.tsv", file, {})
    assert score_tags(file, again) == score_tags(file, raw)


def gold_file():
    sentences = [Sentence(["a", "b"], ["B-Gene", "I-Gene"], 1), Sentence(["c"], ["O"], 4)]
    return TaggedFile("gold.tsv", sentences, "", typed=True)


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("a\tB\nb\tI\n\nc\tO\n", [["B-Gene", "I-Gene"], ["O"]]),  # bare tags: the only type there is
        ("a O B-GENE\nb O I-GENE\nc O O\n", [["B-Gene", "I-Gene"], ["O"]]),  # blanks, renamed, no blank line
        ("a\tB-Gene\nb\tE-Gene\n\nc\tS-Gene\n", [["B-Gene", "I-Gene"], ["B-Gene"]]),
        ("a\tO\nb\tI-Gene\n\nc\tI-Gene\n", [["O", "B-Gene"], ["B-Gene"]]),  # as conlleval reads it
    ],
)
def test_predictions_of_others(tmp_path, text, tags):
    (tmp_path / "p.tsv").write_text(text)
    assert read_tags(tmp_path / "p.tsv", gold_file(), {"GENE": "Gene"}) == tags


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tO\nx\tO\n\nc\tO\n", "p.tsv line 2 has 'x' where gold.tsv line 2 has 'b'"),
        ("a\tO\nb\tO\n", r"p.tsv line \(its end\) has '' where gold.tsv line 4 has 'c'"),
        ("a\tO\nb\tO\n\nc\tO\nd\tO\n", "p.tsv line 5: gold.tsv has no more tokens"),
        ("a\tO\nb\tGene\n\nc\tO\n", "p.tsv line 2: unknown tag 'Gene'"),
    ],
)
def test_predictions_that_do_not_fit(tmp_path, text, message):
    (tmp_path / "p.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_tags(tmp_path / "p.tsv", gold_file(), {})


PUBTATOR = """\
1|t|IL-2 and p53.
1|a|The IL-2 receptor binds p53a.
1\t0\t4\tIL-2\tGene\t-1
1\t18\t31\tIL-2 receptor\tGene\t-1
1\t18\t22\tIL-2\tGene\t-1
1\t38\t41\tp53\tGene\t-1

1|t|IL-2 and p53.
1|a|
1\t0\t4\tIL-2\tGene\t-1

2|t|nothing
"""


def texts_file(tmp_path):
    (tmp_path / "gold.txt").write_text(PUBTATOR)
    return tag_texts(read_pubtator(tmp_path / "gold.txt"), "PubTator")


def test_all_gold_entities_of_texts_count(tmp_path):
    """Five in the file, three of them in tags: a nested one and one inside a word are missed by everybody."""
    file = texts_file(tmp_path)
    right = [list(one.tags) for one in file.sentences]
    scores = score_tags(file, right)
    assert (scores["entities"], scores["precision"], scores["recall"]) == (5, 1.0, 3 / 5)
    assert scores["types"]["Gene"]["entities"] == 5
    assert score_tags(file, [["O"] * len(tags) for tags in right])["entities"] == 5


def test_span_files_score_as_tags_do(tmp_path):
    file = texts_file(tmp_path)
    right = [list(one.tags) for one in file.sentences]
    wrong = [["B-Gene", *tags[1:]] for tags in right]
    for tags in (right, wrong):
        write_spans(file, tags, tmp_path / "p.txt")
        keys = read_spans(tmp_path / "p.txt", file, {})
        assert entity_scores(span_keys(file), keys) == score_tags(file, tags)
    # who writes the gold file itself has found all, nested ones too
    assert entity_scores(span_keys(file), read_spans(tmp_path / "gold.txt", file, {}))[ENTITY_F1] == 1.0


def test_span_files_of_others(tmp_path):
    file = texts_file(tmp_path)
    (tmp_path / "p.txt").write_text("1|t|IL-2 and p53.\n1\t0\t4\tIL-2\tGENE\t-1\n")
    scores = entity_scores(span_keys(file), read_spans(tmp_path / "p.txt", file, {"GENE": "Gene"}))
    assert (scores["precision"], scores["recall"]) == (1.0, 1 / 5)
    (tmp_path / "p.txt").write_text("3|t|IL-2 and p53.\n")
    with pytest.raises(ValueError, match="p.txt has document 3, which .*gold.txt has not"):
        read_spans(tmp_path / "p.txt", file, {})
    (tmp_path / "brat").mkdir()
    with pytest.raises(ValueError, match="brat has no .ann file: expected brat's"):
        read_spans(tmp_path / "brat", file, {})
    (tmp_path / "brat" / "2.ann").write_text("T1\tGene 0 7\tnothing\n")
    keys = read_spans(tmp_path / "brat", file, {})
    assert keys == [(("2", 0), ((0, 7),), "Gene")]
