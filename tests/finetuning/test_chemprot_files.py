"""ChemProt from the original files: candidate pairs, both protocols, what is lost, and what is broken."""

import pytest

from finetuning.chemprot_files import build, find_file, is_original, read_corpus
from finetuning.chemprot_reading import PLACEHOLDERS
from finetuning.relation_inputs import MARKERS, render
from tests.finetuning.relation_samples import original_chemprot, write
from tests.finetuning.text_samples import unpack


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "ChemProt_Corpus", original_chemprot())


def shown(file):
    return [(one.index, render(one, "anonymised", PLACEHOLDERS, MARKERS)[0], one.label) for one in file.relations]


def test_pairs_of_a_sentence_by_blurb(folder):
    file = build(folder, "dev", "blurb")
    assert shown(file) == [
        ("101.T1.T2", "@CHEMICAL$ caused @GENE$ failure (37 degrees C. and i.v.).", "CPR:4"),
        ("101.T3.T4", "@CHEMICAL$ and @GENE$ were seen.", "false"),  # CPR:2 is not evaluated
        ("102.T0.T1", "@CHEM-GENE$", "CPR:9"),
        ("102.T2.T3", "@CHEMICAL$ of E. coli inhibits the @GENE$.", "CPR:6"),  # the last of its two classes
    ]
    assert [one.document for one in file.relations] == ["pmid:101", "pmid:101", "pmid:102", "pmid:102"]
    # CPR:3 is across sentences, CPR:5 gives way to CPR:6
    assert file.counts == {"gold relations": 5, "not among the pairs": 2}


def test_blue_has_a_row_for_each_class(folder):
    file = build(folder, "test", "blue")
    assert [(one.index, one.label) for one in file.relations][-2:] == [("102.T2.T3", "CPR:5"), ("102.T2.T3", "CPR:6")]
    assert file.counts == {"gold relations": 5, "not among the pairs": 1}


def test_mentions_that_touch_are_one_only_by_blue(tmp_path):
    lines = (
        "abstracts\t7\tRenin-naloxone\tNone.\n",
        "entities\t7\tT1\tGENE\t0\t6\tRenin-\n7\tT2\tCHEMICAL\t6\t14\tnaloxone\n",
    )
    files = {f"chemprot_training_{line.partition(chr(9))[0]}.tsv": line.partition("\t")[2] for line in lines}
    files["chemprot_training_gold_standard.tsv"] = "7\tCPR:4\tArg1:T2\tArg2:T1\n"  # the form of four columns
    write(tmp_path, files)
    assert shown(build(tmp_path, "train", "blurb"))[0][1:] == ("@GENE$@CHEMICAL$", "CPR:4")
    assert shown(build(tmp_path, "train", "blue"))[0][1:] == ("@CHEM-GENE$", "CPR:4")


def test_where_the_files_may_be(folder, tmp_path):
    assert is_original(folder) and not is_original(tmp_path / "nowhere")
    assert find_file(folder, "test", ("relations",)).name == "chemprot_test_relations_gs.tsv"
    write(folder, {"chemprot_test_abstracts.tsv": "copy"})
    with pytest.raises(ValueError, match="keep only one of them"):
        find_file(folder, "test", ("abstracts",))
    (folder / "chemprot_training" / "chemprot_training_entities.tsv").unlink()
    with pytest.raises(ValueError, match=r"has no chemprot_training_entities.tsv \(or ..._gs.tsv\), nor below it"):
        read_corpus(folder, "train")


@pytest.mark.parametrize(
    ("kind", "old", "new", "message"),
    [
        ("abstracts", "101\tNaloxone reverses blood pressure.\t", "101\t", "abstracts.tsv line 1 ('101\\tCocaine"),
        ("abstracts", "102\t", "101\t", "abstracts.tsv line 2: PMID 101 stands there a second time"),
        ("abstracts", None, "", "abstracts.tsv is empty: expected a PMID"),
        (
            "entities",
            "\tGENE-Y\t",
            "\tPROTEIN\t",
            "entities.tsv line 3 has the type 'PROTEIN': expected one of CHEMICAL",
        ),
        ("entities", "\t0\t8\t", "\t1\t8\t", "entities.tsv line 1: characters 1-8 of PMID 101 are not 'Naloxone'"),
        ("entities", "\t0\t8\t", "\tx\t8\t", "entities.tsv line 1: characters x-8 of PMID 101 are not"),
        ("entities", "\t0\t8\tNaloxone", "\t0\t8", "entities.tsv line 1 has 5 columns"),
        ("entities", "101\tT0", "103\tT0", "entities.tsv line 1: PMID 103 is in no line of the abstracts file"),
        (
            "relations",
            "Arg1:T3",
            "Arg1:T9",
            "relations.tsv line 2: entity T9 of PMID 101 is in no line of the entities",
        ),
        ("relations", "Arg1:T3", "T3", "relations.tsv line 2 ('101 CPR:2 Y KIND T3 Arg2:T4'): expected PMID, CPR:<n>"),
        ("relations", "\tKIND", "", "relations.tsv line 1 has 5 columns"),
    ],
)
def test_broken_files_name_the_line(folder, kind, old, new, message):
    path = folder / "chemprot_training" / f"chemprot_training_{kind}.tsv"
    text = path.read_text()
    assert old is None or old in text
    path.write_text(text.replace(old, new, 1) if old else new)
    with pytest.raises(ValueError) as refused:
        read_corpus(folder, "train")
    assert message in str(refused.value)


def test_files_as_distributed_are_incomplete_and_say_so(tmp_path):
    """The shared copy has 2,000 lines of entities and relations: refused, not scored in part."""
    folder = unpack("re/chemprot_original_partial.tar.xz", tmp_path)
    with pytest.raises(ValueError, match=r"development_relations.tsv line \d+: entity T\d+ of PMID \d+ is in no line"):
        build(folder, "dev", "blurb")


def test_complete_abstracts_give_the_examples_of_blurb(tmp_path):
    """The 71 dev abstracts that the shared copy has whole: the first 1,456 lines of BLURB's dev file, all the same."""
    folder = unpack("re/chemprot_original_partial.tar.xz", tmp_path / "original")
    paths = {kind: folder / f"chemprot_development_{kind}.tsv" for kind in ("abstracts", "entities", "relations")}
    rows = {kind: path.read_text(encoding="utf-8").splitlines() for kind, path in paths.items()}
    pmids = list(dict.fromkeys(line.partition("\t")[0] for line in rows["entities"]))[:-1]  # the last is cut
    for kind, path in paths.items():
        path.write_text("".join(f"{row}\n" for row in rows[kind] if row.partition("\t")[0] in pmids), encoding="utf-8")
    file = build(folder, "dev", "blurb")
    lines = (unpack("re/chemprot_blurb_scifive.tar.xz", tmp_path / "blurb") / "dev_blurb.tsv").read_text().split("\n")
    names = ["false", "CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9"]
    theirs = [(text, names[int(number)]) for text, _, number in (line.rpartition("\t") for line in lines[:1456])]
    assert len(pmids) == 71
    assert [row[1:] for row in shown(file)] == theirs
    # every gold relation of these abstracts is a pair, and BLUE's file has the same positive ones
    assert file.counts == {"gold relations": 321, "not among the pairs": 0}
    blue = (unpack("re/chemprot_blue_electramed_devonly.tar.xz", tmp_path / "blue") / "dev.csv").read_text("utf-8-sig")
    positive = {
        (index, label)
        for index, _, label in (line.split("\t") for line in blue.split("\n")[1:-1])
        if label != "false" and index.partition(".")[0] in pmids
    }
    assert {(one.index, one.label) for one in file.relations if one.label != "false"} == positive
