"""The rules of the corpus filter one by one, and what is found in benchmark files."""

import tarfile
from pathlib import Path

import pytest

from pretraining.corpus.benchmark_files import find_pmids, find_texts
from pretraining.corpus.documents import Document
from pretraining.corpus.selection import Rules, Selection, id_hash, read_journal_metrics, read_pmid_list

DATA = Path(__file__).parents[4] / "shared" / "data"
FULL = {
    "pmid": "12345678",
    "date": "2019-06",
    "language": ["eng", "fre"],
    "issn": ["1234-567x"],
    "publication_types": ["Journal Article", "Review"],
    "mesh": ["Humans"],
    "keywords": ["Sepsis"],
}


def reason(rules: Rules, **metadata: object) -> str | None:
    return Selection(rules).reason(Document("12345678", "x" * 100, FULL | metadata))


@pytest.mark.parametrize(
    ("rules", "passing", "failing", "why"),
    [
        (Rules(language=("fre",)), {}, {"language": ["ger"]}, "language"),
        (Rules(date_from="2019"), {}, {"date": "2018-12-31"}, "date"),
        (Rules(date_from="2019-07"), {"date": "2019"}, {}, "date"),
        (Rules(date_to="2019"), {"date": "2019-12-31"}, {"date": "2020"}, "date"),
        (Rules(date_to="2019"), {}, {"date": None}, "date"),
        (Rules(publication_type=("review",)), {}, {"publication_types": ["Letter"]}, "publication_type"),
        (Rules(exclude_publication_type=("Letter",)), {}, {"publication_types": ["Letter"]}, "publication_type"),
        (Rules(drop_retracted=True), {}, {"retracted": True}, "retracted"),
        (Rules(mesh=("HUMANS", "Rats")), {}, {"mesh": ["Mice"]}, "mesh"),
        (Rules(keyword=("sepsis",)), {}, {"keywords": ["sepsis, severe"]}, "keyword"),
    ],
)
def test_a_rule_keeps_and_leaves_out(rules: Rules, passing: dict, failing: dict, why: str) -> None:
    assert reason(Rules(), **failing) is None
    assert reason(rules, **passing) is None
    assert reason(rules, **failing) == why


@pytest.mark.parametrize(("least", "most", "stays"), [(100, 100, True), (101, None, False), (None, 99, False)])
def test_length_is_inclusive(least: int | None, most: int | None, stays: bool) -> None:
    assert (reason(Rules(min_characters=least, max_characters=most)) is None) == stays


def test_lists_of_pmids(tmp_path: Path) -> None:
    listed = tmp_path / "pmids.txt"
    listed.write_text("# ours\n\n12345678\n")
    assert reason(Rules(allow_pmids=str(listed))) is None
    assert reason(Rules(allow_pmids=str(listed)), pmid="1") == "not_allowed"
    assert reason(Rules(deny_pmids=str(listed))) == "denied"
    assert reason(Rules(deny_pmids=str(listed)), pmid="1") is None
    listed.write_text("12345678\nPMC3\n")
    with pytest.raises(ValueError, match=r"pmids.txt, line 2, is no PMID \(PMC3\)"):
        read_pmid_list(str(listed))


def test_journal_metric_by_any_issn(tmp_path: Path) -> None:
    table = tmp_path / "journals.csv"
    table.write_text('title,issn,metric\nA,"0000-0001, 1234567X",3.5\nB,1111-1111;2222-2222,1\n')
    assert read_journal_metrics(str(table)) == {"00000001": 3.5, "1234567X": 3.5, "11111111": 1.0, "22222222": 1.0}
    document = Document("1", "", FULL)
    assert Selection(Rules(journal_metric=str(table), journal_minimum=3.5)).passes_journal(document)
    assert not Selection(Rules(journal_metric=str(table), journal_minimum=3.6)).passes_journal(document)
    assert not Selection(Rules(journal_metric=str(table), journal_minimum=0)).passes_journal(Document("1", ""))
    table.write_text("issn,impact\n")
    with pytest.raises(ValueError, match="no columns named issn and metric"):
        read_journal_metrics(str(table))


def test_samples_are_nested_fixed_and_of_their_size() -> None:
    documents = [Document(str(number), "") for number in range(20_000)]
    selections = {percent: Selection(Rules(sample=percent)) for percent in (1, 10, 100)}
    samples = {percent: {d.id for d in documents if one.reason(d) is None} for percent, one in selections.items()}
    assert samples[1] < samples[10] < samples[100] and len(samples[100]) == 20_000
    assert 160 < len(samples[1]) < 240 and 1850 < len(samples[10]) < 2150
    assert id_hash("12345678") == 0xEF797C8118F02DFB  # what sha256sum says, on any machine


def test_pmids_and_texts_of_benchmark_files(tmp_path: Path) -> None:
    files = {
        "cdr.PubTator.txt": "10000001|t|A title of it\n10000001|a|An abstract of it.\n10000001\t0\t5\tnames\tDisease\n",
        "rct/train.txt": "###10000002\nOBJECTIVE\tTo see whether it works .\n",
        "bioasq.json": '{"documents": ["http://www.ncbi.nlm.nih.gov/pubmed/10000003"], "body": "Is it so?"}',
        "pubmedqa.json": '{"10000004": {"QUESTION": "Does it?", "YEAR": "2011"}}',
        "bioc.xml": "<collection><id>10000005</id><text>Text of BioC.</text></collection>",
        "chemprot.tsv": "10000006\tTitle of six\tAbstract of six\n",
        "10000007.ann": "T1\tDrug 0 3\tabc\n",
        "blue.tsv": "index\tsentence\n10000008.T49.T56\tOne.\n10000009_s0\tTwo.\nx.10000099\tNot.\n",
        "blurb.jsonl": '{"id": "10000010.T1"}\n{"id": "10000011"}\n{"id": 10000099, "number": "10000099"}\n',
        "scibert.txt": "-DOCSTART- (10000012)\n\nBlood NN O O\n",
        "links.json": '["https://pubmed.ncbi.nlm.nih.gov/10000013/", "https://example.org/10000099/"]',
        "ner.tsv": "Blood\tO\ncancer\tB\n\nRat\tO\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert find_pmids([str(tmp_path)]) == {str(10_000_000 + number) for number in range(1, 14)}
    texts = set(find_texts([str(tmp_path)]))
    assert {"A title of it", "An abstract of it.", "To see whether it works .", "Is it so?", "Does it?"} <= texts
    assert {"Text of BioC.", "Abstract of six", "Blood cancer", "Rat"} <= texts
    assert reason(Rules(benchmark=(str(tmp_path),)), pmid="10000003") == "benchmark_pmid"


@pytest.mark.skipif(not DATA.is_dir(), reason="the real benchmark files are not here")
@pytest.mark.parametrize(
    ("archive", "pmids"), [("ner/scibert_bc5cdr_iob1_4col.tar.xz", 1500), ("pico/ebmnlp_scibert_dev_test.tar.xz", 1151)]
)
def test_pmids_of_real_files_with_a_token_a_line(tmp_path: Path, archive: str, pmids: int) -> None:
    with tarfile.open(DATA / archive) as packed:
        packed.extractall(tmp_path, filter="data")
    heads = [line for path in tmp_path.rglob("*.txt") for line in path.read_text().splitlines() if "DOCSTART" in line]
    wanted = {head.split()[1].strip("()") for head in heads}
    assert len(wanted) == pmids and wanted <= find_pmids([str(tmp_path)])


def test_benchmark_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere does not exist"):
        find_pmids([str(tmp_path / "nowhere")])
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(ValueError, match="b.json is not JSON"):
        list(find_texts([str(tmp_path)]))
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="b.json is no UTF-8"):
        find_pmids([str(tmp_path)])
