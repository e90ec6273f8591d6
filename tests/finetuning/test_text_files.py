"""Files of texts: blocks, class folders, tables; what is wrong in them is said with file and line."""

from argparse import Namespace

import pytest

from finetuning.text_files import (
    find_splits,
    hold_out,
    numbered_lines,
    read_blocks,
    read_class_folders,
    read_table,
)
from tests.finetuning.text_samples import RCT

NAMES = {"train": ("train.txt", "train_clean.txt"), "dev": ("dev.txt",), "test": ("test.txt",)}


def test_blocks(tmp_path):
    path = tmp_path / "train.txt"
    for text in (RCT, RCT.replace("\n", "\r\n"), "\ufeff" + RCT, RCT.rstrip("\n"), RCT + "\n\n"):
        path.write_bytes(text.encode())
        file = read_blocks(path)
        assert file.counts == {"sentences": 5, "abstracts": 2}
        assert [one.label for one in file.examples] == "BACKGROUND METHODS RESULTS OBJECTIVE CONCLUSIONS".split()
        assert file.examples[3].text_a == "lithium caused liver failure ."
        assert [one.index for one in file.examples] == ["227508_0", "227508_1", "227508_2", "227509_0", "227509_1"]
        assert file.examples[4].document == "227509"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("BACKGROUND\tno id\n", "line 1 ('BACKGROUND\\tno id') comes before a line `###id`"),
        ("###1\nBACKGROUND no tab\n", "line 2 ('BACKGROUND no tab') is not `LABEL<TAB>sentence`"),
        ("###1\nBACKGROUND\t\n", "line 2 ('BACKGROUND\\t') is not"),
        ("###1\nBACKGROUND\ta\nMETHODZ\tb\n", "line 3: label 'METHODZ' is none of BACKGROUND, METHODS"),
        ("", "has nothing in it"),
        ("###1\n###2\n", "has nothing in it"),
    ],
)
def test_broken_blocks_are_named(tmp_path, text, message):
    path = tmp_path / "test.txt"
    path.write_text(text)
    with pytest.raises(ValueError) as refused:
        read_blocks(path, ("BACKGROUND", "METHODS"))
    assert str(path) in str(refused.value) and message in str(refused.value)


def test_not_utf8_is_named(tmp_path):
    path = tmp_path / "test.txt"
    path.write_bytes(b"###1\nBACKGROUND\tcaf\xe9\n")
    with pytest.raises(ValueError, match="test.txt line 2 is not UTF-8"):
        read_blocks(path)


def test_lines_end_at_line_feeds_only(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("a\u0085b\u2028c\r\n\nd".encode())
    assert numbered_lines(path) == [(1, "a\u0085b\u2028c"), (2, ""), (3, "d")]


def test_class_folders(tmp_path):
    for name in ("C01", "C02"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "._0001").write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "C01" / "0001").write_text("A title.\n A sentence.\n Another.\n")
    (tmp_path / "C02" / "0002").write_text("Title.")
    file = read_class_folders(tmp_path)
    assert [(one.text_a, one.label, one.index) for one in file.examples] == [
        ("A title. A sentence. Another.", "C01", "0001"),
        ("Title.", "C02", "0002"),
    ]
    before = file.sha256
    (tmp_path / "C02" / "0002").write_text("Title!")
    assert read_class_folders(tmp_path).sha256 != before
    (tmp_path / "C02" / "0001").write_text("the same in another class")
    with pytest.raises(ValueError, match="0001 is in C01 too: this is the collection with several classes"):
        read_class_folders(tmp_path)
    (tmp_path / "C02" / "0001").unlink()
    (tmp_path / "C02" / "0003").write_text(" \n")
    with pytest.raises(ValueError, match="0003 is empty"):
        read_class_folders(tmp_path)


def test_tables(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('index\tsentence1\tx\tscore\n7\t"open quote\t\t1.5\n\n8\tb\t-\t2\n')
    assert read_table(path, ("sentence1", "score")) == [
        (2, {"index": "7", "sentence1": '"open quote', "x": "", "score": "1.5"}),
        (4, {"index": "8", "sentence1": "b", "x": "-", "score": "2"}),
    ]
    with pytest.raises(ValueError, match="line 1 has no column label: expected a header"):
        read_table(path, ("sentence1", "label"))
    path.write_text("a\tb\nc\n")
    with pytest.raises(ValueError, match=r"a.tsv line 2 has 1 columns \('c'\): expected 2 \(one, two\)"):
        read_table(path, ("one", "two"), header=False)


def test_splits_are_found_or_named(tmp_path):
    options = Namespace(data=tmp_path, train_split=None)
    with pytest.raises(ValueError, match="has no train file: expected one of train.txt, train_clean.txt; or name"):
        find_splits(options, NAMES)
    for name in ("dev.txt", "test.txt"):
        (tmp_path / name).touch()
    options.train_split = "dev"
    assert {split: path.name for split, path in find_splits(options, NAMES).items()} == {
        "train": "dev.txt",
        "test": "test.txt",
    }
    options.train_split = "validation"
    with pytest.raises(ValueError, match="--train-split validation: .* has only dev, test"):
        find_splits(options, NAMES)
    options.train_split = None
    for name in ("train.txt", "train_clean.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"has train.txt and train_clean.txt: keep only the one"):
        find_splits(options, NAMES)
    (tmp_path / "train.txt").unlink()
    (tmp_path / "test.txt").unlink()
    with pytest.raises(ValueError, match="has no test file: expected one of test.txt$"):
        find_splits(options, NAMES)


def test_a_tenth_of_each_label_is_held_out(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text("###1\n" + "".join(f"{'A' if i % 3 else 'B'}\tsentence {i}\n" for i in range(60)))
    train, dev = hold_out(read_blocks(path))
    assert [one.label for one in dev.examples].count("A") == 4 and [one.label for one in dev.examples].count("B") == 2
    assert len(train.examples) == 54
    assert not {one.text_a for one in train.examples} & {one.text_a for one in dev.examples}
    assert (train.counts, dev.counts) == ({"sentences": 54}, {"sentences": 6})
    path.write_text("###1\nA\tone\n")
    with pytest.raises(ValueError, match="too few examples to hold out a dev split"):
        hold_out(read_blocks(path))
