"""DDI 2013: each distribution is known by its files, runs to a score, and its predictions score the same again."""

import zipfile

import pytest

from finetuning import ddi
from finetuning.ddi_reading import PLACEHOLDERS, read
from finetuning.relation_inputs import MARKERS, render
from tests.finetuning.relation_samples import (
    DDI,
    FLAGS,
    SPLITS,
    blue,
    ddi_corpus,
    options_of,
    variant_of,
    write,
)
from tests.finetuning.text_samples import DATA, error_of, run, score, unpack

BLUE = {f"{split}.csv": blue(DDI, "DDI-MedLine.d0.s0.p", "DDI-false", "\r\n") for split in SPLITS}
CLASSES = {"DDI-mechanism": "1", "DDI-int": "2", "DDI-advise": "3", "DDI-effect": "4"}
BLURB = {f"{split}_blurb.tsv": "\n".join(f"{text}\t{CLASSES.get('DDI-' + label, '0')}" for text, label in DDI)
         for split in SPLITS} | {"label2id.tsv": "0\t0\n" + "\n".join(map("\t".join, CLASSES.items()))}  # fmt: skip


@pytest.fixture
def real_corpus(tmp_path):
    path = DATA / "re" / "DDICorpus-2013.zip"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with zipfile.ZipFile(path) as file:
        file.extractall(tmp_path / "corpus")
    return tmp_path / "corpus"


@pytest.mark.parametrize(("name", "files"), [("DDI (BLUE)", BLUE), ("DDI (BLURB)", BLURB)])
def test_ready_made_files_to_results(tiny_model, tmp_path, name, files):
    data = write(tmp_path / "data", files)
    results = run(ddi, tiny_model, data, tmp_path / "out", "--epochs", "1", "--input", "marker", "--head", "mention")
    assert (results["variant"], results["metric"], results["nonstandard_split"]) == (name, "micro-F1", True)
    assert results["split"]["test"]["labels"] == {"advise": 1, "effect": 1, "false": 1, "int": 1, "mechanism": 1}
    predictions = results["folder"] / "seed_0.predictions.tsv"
    assert score(ddi, data, predictions, **FLAGS)["micro-F1"] == results["seeds"][0]["score"]


@pytest.mark.parametrize(("protocol", "name"), [("blurb", "DDI (BLURB)"), ("original", "DDI 2013")])
def test_xml_to_results(tiny_model, tmp_path, capsys, protocol, name):
    data = write(tmp_path / "data", ddi_corpus())
    results = run(ddi, tiny_model, data, tmp_path / "out", "--epochs", "2", "--protocol", protocol)
    assert results["variant"] == name
    assert ("dev" in results["split"]) == (protocol == "blurb")
    assert results["split"]["train"]["examples"] == {"blurb": 5, "original": 6}[protocol]
    assert "1 pair(s) left out of training (interaction without type)" in capsys.readouterr().out
    predictions = results["folder"] / "seed_0.predictions.tsv"
    first = predictions.read_text().split("\n")[0].split("|")
    assert first[:3] == ["DDI-DrugBank.d7.s0", "DDI-DrugBank.d7.s0.e0", "DDI-DrugBank.d7.s0.e1"]
    assert first[3:] in (["0", "null"], ["1", "effect"], ["1", "mechanism"], ["1", "advise"], ["1", "int"])
    scored = score(ddi, data, predictions, **FLAGS | {"protocol": protocol})
    assert scored["micro-F1"] == results["seeds"][0]["score"]
    assert sum(row["examples"] for row in scored["classes"].values()) == 5  # the one without type counts, too


def test_official_lines_of_anyone(tmp_path):
    data = write(tmp_path / "data", ddi_corpus({"MedLine.d3": [("a b", [("e0", "0-0", "a"), ("e1", "2-2", "b")],
                                                                [("e0", "e1", "int")])]}))  # fmt: skip
    sentence = "DDI-MedLine.d3.s0"
    path = tmp_path / "ours.txt"
    for line, f1 in (
        (f"{sentence}|{sentence}.e1|{sentence}.e0|1|int", 1.0),
        (f"{sentence}|{sentence}.e0|{sentence}.e1|0|null", 0),
    ):
        path.write_text(line)
        assert score(ddi, data, path, **FLAGS)["micro-F1"] == f1


def test_original_protocol_has_no_dev(tiny_model, tmp_path):
    data = write(tmp_path / "data", ddi_corpus())
    more = ["--nonstandard-split", "--protocol", "original", "--train-split", "dev"]
    message = error_of(ddi, tiny_model, data, tmp_path / "out", *more)
    assert "--protocol original has no dev split" in message
    write(data, {"train.tsv": "a\t0\n"})
    assert "holds both ready-made files and the corpus' XML" in error_of(ddi, tiny_model, data, tmp_path / "out")


def test_corpus_as_distributed(real_corpus):
    name, standard, distribution = variant_of(ddi, real_corpus, protocol="original")
    assert (name, standard) == ("DDI 2013", True)
    files = distribution.folds[0]
    assert files["train"].label_counts() == {
        "advise": 826, "effect": 1687, "false": 23771, "int": 188, "interaction without type": 1, "mechanism": 1319,
    }  # fmt: skip
    assert files["test"].label_counts() == {"advise": 221, "effect": 360, "false": 4737, "int": 96, "mechanism": 302}
    assert (files["train"].counts["documents"], files["test"].counts["documents"]) == (714, 191)


def test_corpus_gives_the_examples_of_blurb(real_corpus, tmp_path):
    """Test: all 5,716, the same. Dev: the same numbers of each class, 21 texts of two documents differ."""
    name, standard, distribution = variant_of(ddi, real_corpus)
    assert (name, standard) == ("DDI (BLURB)", True)
    data = unpack("re/ddi2013_blurb_scifive_dev_test.tar.xz", tmp_path / "blurb")
    for split, different in (("test", 0), ("dev", 21)):
        ours = distribution.folds[0][split]
        theirs = read(options_of(data), {"train": split}).folds[0]["train"]
        assert ours.label_counts() == theirs.label_counts()
        left = [(one.text, one.label) for one in theirs.relations]
        absent = set()
        for one in ours.relations:
            row = (render(one, "anonymised", PLACEHOLDERS, MARKERS)[0], one.label)
            if row in left:
                left.remove(row)
            else:
                absent.add(one.document)
        assert len(left) == different
        assert absent == (set() if split == "test" else {"DDI-MedLine.d68", "DDI-MedLine.d134"})


def test_blue_files_as_distributed(tmp_path):
    """Train is not shared. The test file has 45 pairs of a document that the corpus has not."""
    data = unpack("re/ddi2013_blue_electramed_dev_test.tar.xz", tmp_path)
    dev = read(options_of(data), {"train": "dev"}).folds[0]["train"]
    assert dev.label_counts() == {"advise": 193, "effect": 396, "false": 6240, "int": 42, "mechanism": 373}
    test = read(options_of(data), {"train": "test"}).folds[0]["train"]
    assert test.label_counts() == {"advise": 221, "effect": 360, "false": 4782, "int": 96, "mechanism": 302}
    assert sum(one.index.startswith("DrugDDI.d21928724.") for one in test.relations) == 45
    assert all(one.arguments for one in dev.relations + test.relations)
    name, standard, _ = variant_of(ddi, data, train_split="dev", nonstandard_split=True)
    assert (name, standard) == ("DDI (BLUE)", False)
