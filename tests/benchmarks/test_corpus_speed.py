"""The reader's speed beside its peers: the measured file, and the table of ratios."""

from collections import Counter

from benchmarks.corpus_speed import OURS, THEIRS, repeat_records, table
from launch.sample_data import write_sample_data
from pretraining.corpus.pubmed import read_pubmed


def test_repeated_records_are_the_same_but_for_their_pmids(tmp_path):
    write_sample_data(tmp_path, abstracts=20, seed=1)
    repeat_records(sorted((tmp_path / "pubmed").glob("*.xml.gz")), tmp_path / "a.xml", 50)
    counts = Counter()
    documents = list(read_pubmed(tmp_path / "a.xml", counts, "keep"))
    assert counts["records"] == len({document.id for document in documents}) == 50
    assert documents[0].text == documents[20].text != documents[1].text


def test_the_table_has_medians_and_ratios_of_both_clocks():
    bare = [(4.0, 5.0), (4.0, 90.0), (3.0, 5.0)]
    lines = table({"lxml iterparse alone": bare, OURS: [(6.0, 8.0)] * 3, THEIRS: [(18.0, 40.0)] * 3}, 300).splitlines()
    assert lines[2] == "| lxml iterparse alone | 4.00 | 75 | 1.00 | 5.00 | 1.00 |"
    assert lines[3] == f"| {OURS} | 6.00 | 50 | 1.50 | 8.00 | 1.60 |"
    assert lines[-1] == "ours is 3.0 times as fast as pubmed_parser (by wall time 5.0)"
