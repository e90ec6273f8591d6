"""Files of predictions: what is written is read again with the same numbers; what is wrong is named by its line."""

import random
from pathlib import Path

import pytest

from finetuning.text_files import TextFile
from finetuning.text_inputs import Example
from finetuning.text_labels import Settings
from finetuning.text_scores import accuracy_scores
from finetuning.texts import document_texts, read_column, sizes, split_record, write_column

KINDS = {
    "single": Settings("single", "accuracy", accuracy_scores, write_column, ("yes", "no")),
    "multi": Settings("multi", "micro-F1", accuracy_scores, write_column, ("a", "b", "c")),
    "regression": Settings("regression", "Pearson", accuracy_scores, write_column),
}


def draw(kind, count):
    """Random predicted labels of a kind."""
    chance = random.Random(3)
    if kind == "regression":
        return [chance.uniform(-1, 5) for _ in range(count)]
    names = KINDS[kind].labels
    if kind == "single":
        return [chance.choice(names) for _ in range(count)]
    return [tuple(name for name in names if chance.random() < 0.4) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_written_predictions_are_read_again_in_any_order(tmp_path, kind):
    examples = [Example("text", "", index=f"d{i}") for i in range(20)]
    labels, path = draw(kind, 20), tmp_path / "p.tsv"
    write_column(examples, labels, path)
    assert not list(tmp_path.glob("*.tmp"))
    assert read_column(path, examples, KINDS[kind]) == labels
    header, *rows = path.read_text().splitlines()
    assert header == "index\tlabel" and len(rows) == 20
    random.Random(1).shuffle(rows)
    path.write_text("\r\n".join(rows) + "\r\n\r\n")  # no header, other order, Windows' line ends
    assert read_column(path, examples, KINDS[kind]) == labels


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("single", "1\tyes\n2\tmaybe\n", "line 2: 'maybe' is none of the labels yes, no"),
        ("single", "1 yes\n", "line 1 ('1 yes') is not `index<TAB>label`"),
        ("single", "1\tyes\n3\tno\n", "line 2: '3' is not an index of this split"),
        ("single", "1\tyes\n1\tno\n", "line 2: '1' has a prediction already"),
        ("single", "1\tyes\n", "no prediction for 1 of 2 examples (first: 2)"),
        ("multi", "1\ta,d\n2\t\n", "line 1: 'd' is none of the labels a, b, c"),
        ("regression", "1\t0.5\n2\thigh\n", "line 2: could not convert string to float: 'high'"),
        ("regression", "1\t0.5\n2\tnan\n", "line 2: 'nan' is not a finite number"),
    ],
)
def test_broken_predictions_are_named(tmp_path, kind, text, message):
    path = tmp_path / "p.tsv"
    path.write_text(text)
    with pytest.raises(ValueError) as refused:
        read_column(path, [Example("", "", index="1"), Example("", "", index="2")], KINDS[kind])
    assert message in str(refused.value)


def test_records_of_splits():
    files = {
        split: TextFile(
            Path(f"/data/{split}.txt"), "abc", [Example("a", "x", "b", "7"), Example("c", "x")], {"pairs": n}
        )
        for split, n in (("train", 5), ("dev", 2), ("test", 3))
    }
    assert sizes(files) == {"pairs": (5, 2, 3)}
    assert split_record(files["dev"]) == {"file": "dev.txt", "sha256": "abc", "pairs": 2, "inputs": 2}
    assert document_texts(files["dev"], "pmid:") == [("pmid:7", "a\nb"), ("", "c")]
    assert document_texts(files["dev"], "") == [("", "a\nb"), ("", "c")]
