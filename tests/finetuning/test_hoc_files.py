"""HoC in its three forms; labels of cells by hand; broken files are named."""

from argparse import Namespace
from pathlib import Path

import pytest

from finetuning.hoc_files import HALLMARKS, cell_labels, read_hoc
from tests.finetuning.text_samples import DATA, unpack, write_hoc


def options(data, unit="abstract", splits=None):
    return Namespace(data=data, unit=unit, splits=splits, train_split=None)


def test_cells_by_hand():
    cell = "  Sustaining proliferative signaling--Receptors ANDInducing angiogenesis--By deregulating angiogenesis--X"
    assert cell_labels(cell, "") == {"sustaining proliferative signaling", "inducing angiogenesis"}
    assert cell_labels(" ", "") == cell_labels("NULL", "") == cell_labels(" NULL AND ", "") == set()
    with pytest.raises(ValueError, match="here: 'resisting cell deaths' is none of the ten hallmarks"):
        cell_labels("Resisting cell deaths--Apoptosis", "here")


def test_original_files_by_abstract_and_by_sentence(tmp_path):
    folder = write_hoc(tmp_path / "HoC")
    files = read_hoc(options(folder))
    assert {split: file.counts for split, file in files.items()} == {
        "train": {"abstracts": 2},
        "dev": {"abstracts": 1},
        "test": {"abstracts": 1},
    }
    first, second = files["train"].examples
    assert first.text_a == "naloxone reverses blood pressure . liver failure was seen ."
    assert first.label == ("resisting cell death",)
    assert second.label == ("cellular energetics", "inducing angiogenesis", "resisting cell death")
    assert files["dev"].examples[0].label == ()
    sentences = read_hoc(options(folder, "sentence"))
    assert read_hoc(options(folder, None)) == sentences
    assert sentences["train"].counts == {"abstracts": 2}
    assert [(one.index, one.label) for one in sentences["train"].examples] == [
        ("101_s0", ()),
        ("101_s1", ("resisting cell death",)),
        ("102_s0", ("cellular energetics", "inducing angiogenesis")),
        ("102_s1", ()),
        ("102_s2", ("resisting cell death",)),
    ]


def test_list_of_splits_is_found_or_asked_for(tmp_path):
    folder = write_hoc(tmp_path / "HoC")
    splits = (folder / "HoC_blurb_splits.tsv").rename(tmp_path / "other.tsv")
    with pytest.raises(ValueError, match="no list of splits: put HoC_blurb_splits.tsv"):
        read_hoc(options(folder))
    given = read_hoc(options(folder, splits=splits))
    splits.rename(tmp_path / "HoC_blurb_splits.tsv")  # beside the folder
    assert read_hoc(options(folder)) == given
    (tmp_path / "HoC_blurb_splits.tsv").unlink()
    for split, ids in (("train", "101\n102\n"), ("dev", "103\n"), ("test", "104\n")):
        (folder / f"{split}_docid.txt").write_text(ids)  # BLUE's
    assert read_hoc(options(folder)) == given
    with pytest.raises(ValueError, match="--splits .*none.tsv is not a file"):
        read_hoc(options(folder, splits=tmp_path / "none.tsv"))


def test_abstracts_in_no_split_are_counted(tmp_path, capsys):
    folder = write_hoc(tmp_path / "HoC")
    (folder / "text" / "105.txt").write_text("more\n")
    read_hoc(options(folder))
    assert "1 abstracts of" in capsys.readouterr().out


def spoil(folder: Path, kind: str) -> str:
    """Break the corpus in one way; what the message says of it."""
    labels, splits = folder / "labels" / "102.txt", folder / "HoC_blurb_splits.tsv"
    if kind == "cells":
        labels.write_text("< <Cellular energetics")
        return "labels of 2 sentences, 102.txt has 3 sentences"
    if kind == "label":
        labels.write_text("< <Celular energetics<")
        return "102.txt sentence 2: 'celular energetics' is none"
    if kind == "missing":
        labels.unlink()
        return "102.txt is not there, but 102 is in the list of splits"
    if kind == "split":
        splits.write_text("pmid\tsplit\n101\tvalidation\n")
        return "HoC_blurb_splits.tsv line 2: split 'validation' is none of train, dev, test"
    if kind == "both":
        splits.write_text("pmid\tsplit\n101\ttrain\n102\tdev\n103\tdev\n101\ttest\n")
        return "HoC_blurb_splits.tsv has PMID 101 in train and in test"
    splits.write_text("pmid\tsplit\n101\ttrain\n101\ttrain\n103\tdev\n104\ttest\n")
    return "has a PMID twice in train"


@pytest.mark.parametrize("kind", ["cells", "label", "missing", "split", "both", "twice"])
def test_broken_files_are_named(tmp_path, kind):
    folder = write_hoc(tmp_path / "HoC")
    message = spoil(folder, kind)
    with pytest.raises(ValueError) as refused:
        read_hoc(options(folder))
    assert message in str(refused.value)


def test_scifive_form(tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}_blurb.tsv").write_text("an abstract .\t0|8\nanother .\t10\n")
    files = read_hoc(options(tmp_path))
    assert [one.label for one in files["dev"].examples] == [(HALLMARKS[0], HALLMARKS[8]), ()]
    assert [one.index for one in files["dev"].examples] == ["1_s0", "2_s0"]
    with pytest.raises(ValueError, match="--unit sentence: .* has no labels of sentences"):
        read_hoc(options(tmp_path, "sentence"))
    assert read_hoc(options(tmp_path, None)) == files
    (tmp_path / "dev_blurb.tsv").write_text("an abstract .\t11\n")
    with pytest.raises(ValueError, match="dev_blurb.tsv line 1: labels '11' are not numbers from 0 to 10"):
        read_hoc(options(tmp_path))


def test_blue_form(tmp_path):
    text = "labels\tsentence\tindex\n{}\tfirst .\t1_s0\n\tsecond .\t1_s1\nevading growth suppressors\tthird .\t2_s0\n"
    numbers = ",".join(f"{i}_{int(i in (2, 9))}" for i in range(10))
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text(text.format(numbers))
    files = read_hoc(options(tmp_path, "sentence"))
    assert files["test"].counts == {"abstracts": 2}
    assert [(one.document, one.label) for one in files["test"].examples] == [
        ("1", ("cellular energetics", "tumor promoting inflammation")),
        ("1", ()),
        ("2", ("evading growth suppressors",)),
    ]
    assert [one.text_a for one in read_hoc(options(tmp_path))["test"].examples] == ["first . second .", "third ."]
    (tmp_path / "train.tsv").unlink()
    given = options(tmp_path)
    with pytest.raises(ValueError, match="has no train file: expected one of train.tsv; or name another with --train"):
        read_hoc(given)
    given.train_split = "dev"
    assert set(read_hoc(given)) == {"train", "test"}


def test_both_distributions_agree(tmp_path):
    """The original files with BLURB's split, and SciFive's of it: the same 1,852 abstracts and labels."""
    folder = unpack("cls/HoC.tar.xz", tmp_path)
    original = read_hoc(options(folder, splits=DATA / "cls" / "HoC_blurb_splits.tsv"))
    scifive = read_hoc(options(folder / "blurb_scifive"))
    assert [file.counts["abstracts"] for file in original.values()] == [1295, 186, 371]
    for split, file in original.items():
        ours, theirs = ({one.text_a: one.label for one in part[split].examples} for part in (original, scifive))
        assert ours == theirs
        assert len(ours) == file.counts["abstracts"]
    assert sum(not one.label for file in original.values() for one in file.examples) == 272
    inside = read_hoc(options(folder))  # no list of splits, but BLURB's examples in it
    assert {split: {one.index for one in file.examples} for split, file in inside.items()} == {
        split: {one.index for one in file.examples} for split, file in original.items()
    }
