"""DDI 2013 from its XML: inclusive offsets, pieces, order, types; the other task's test set; what is broken."""

import pytest

from finetuning.ddi_files import dev_documents, is_original, read_split
from finetuning.ddi_reading import PLACEHOLDERS
from finetuning.relation_inputs import MARKERS, render
from tests.finetuning.relation_samples import DOCUMENTS, ddi_corpus, ddi_xml, write


@pytest.fixture
def corpus(tmp_path):
    return write(tmp_path, ddi_corpus())


def shown(file):
    return [(one.index, render(one, "anonymised", PLACEHOLDERS, MARKERS)[0], one.label) for one in file.relations]


def test_pairs_of_all_documents(corpus):
    file = read_split(corpus, "train", "original")
    assert shown(file) == [
        ("DDI-DrugBank.d7.s0|DDI-DrugBank.d7.s0.e0|DDI-DrugBank.d7.s0.e1", "@DRUG$ reverses @DRUG$.", "effect"),
        ("DDI-DrugBank.d9.s0|DDI-DrugBank.d9.s0.e0|DDI-DrugBank.d9.s0.e1",
         "@DRUG$ or @DRUG$ with cocaine was seen & improved", "false"),
        ("DDI-DrugBank.d9.s0|DDI-DrugBank.d9.s0.e2|DDI-DrugBank.d9.s0.e0",
         "@DRUG$ or high carbonate with @DRUG$ was seen & improved", "mechanism"),
        ("DDI-DrugBank.d9.s0|DDI-DrugBank.d9.s0.e1|DDI-DrugBank.d9.s0.e2",
         "lithium or @DRUG$ with @DRUG$ was seen & improved", "int"),
        ("DDI-DrugBank.d9.s1|DDI-DrugBank.d9.s1.e0|DDI-DrugBank.d9.s1.e1", "@DRUG$ @DRUG$", "interaction without type"),
        ("DDI-MedLine.d3.s0|DDI-MedLine.d3.s0.e0|DDI-MedLine.d3.s0.e1", "no @DRUG-DRUG$", "advise"),
    ]  # fmt: skip
    assert file.counts == {"documents": 3, "interaction without type": 1}
    reverse = file.relations[2]
    assert [reverse.text[start:end] for start, end in reverse.arguments] == ["lithium", "cocaine"]  # first comes first


def test_dev_documents_are_apart_by_blurb(corpus):
    sizes = {split: len(read_split(corpus, split, "blurb").relations) for split in ("train", "dev", "test")}
    assert sizes == {"train": 5, "dev": 1, "test": 6}  # DrugBank 7 is one of BLURB's dev documents
    assert len(dev_documents()) == 63 + 16


def test_the_other_tasks_test_set_is_not_read(corpus):
    documents = {one.document for one in read_split(corpus, "test", "original").relations}
    assert documents == {f"DDI-{name}" for name in DOCUMENTS}


def test_what_is_no_corpus(tmp_path, corpus):
    assert is_original(corpus) and is_original(corpus / "DDICorpus")
    assert not is_original(write(tmp_path / "other", {"train.tsv": "a\t1\n"}))
    with pytest.raises(ValueError, match="has no folder 'test for ddi extraction task' of XML files"):
        read_split(write(tmp_path / "half", {"Train/a.xml": ddi_xml("x", [])}), "test", "blurb")
    with pytest.raises(ValueError, match="Train has no XML file, nor below it"):
        read_split(write(tmp_path / "empty", {"Train/a.txt": ""}), "train", "blurb")
    write(tmp_path / "half", {"copy/train/a.xml": ddi_xml("x", [])})
    with pytest.raises(ValueError, match="keep only one of them"):
        read_split(tmp_path / "half", "train", "blurb")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('charOffset="0-6"', 'charOffset="0-7"', "line 4: characters 0-7 of the sentence are not 'cocaine'"),
        ('charOffset="0-6"', 'charOffset="60-66"', "line 4: characters 60-66 of the sentence are not"),
        ('charOffset="0-6"', 'charOffset="6"', "line 4: characters 6 of the sentence are not"),
        (' charOffset="0-6"', "", "line 4: <entity> has no charOffset"),
        ('e2="DDI-DrugBank.d7.s0.e1"', 'e2="e7"', "line 6: entity e7 is not in the sentence"),
        ('type="effect"', 'type="affect"', "line 6 has the type 'affect': expected one of mechanism, effect"),
        ('ddi="true"', "", "line 6: <pair> has no ddi"),
        ('ddi="true"', 'ddi="no"', "line 6 has the ddi 'no': expected true or false"),
        ("</document>", "", "is not well-formed XML"),
        ("document", "article", "line 1: expected <document id=...>, found <article>"),
        ("<document", '<!DOCTYPE document [<!ENTITY a "b">]>\n<document', "declares a document type or entities"),
    ],
)
def test_broken_documents_name_file_and_line(corpus, old, new, message):
    path = corpus / "DDICorpus" / "Train" / "DrugBank" / "DrugBank.d7.xml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new) if old == "document" else text.replace(old, new, 1))
    with pytest.raises(ValueError) as refused:
        read_split(corpus, "dev", "blurb")
    assert message in str(refused.value) and "DrugBank.d7.xml" in str(refused.value)
