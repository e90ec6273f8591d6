"""PubTator files and brat folders: entities with offsets, what is counted, what is refused, and writing."""

import pytest

from finetuning.entity_files import tag_texts
from finetuning.entity_scores import entity_scores, read_spans, span_keys
from finetuning.standoff import Entity, is_pubtator, read_annotations, read_brat, read_pubtator, write_pubtator

PUBTATOR = """\
227508|t|Naloxone reverses clonidine.
227508|a|It causes ocular and auditory toxicity.
227508\t0\t8\tNaloxone\tChemical\tD009270
227508\t39\t67\tocular and auditory toxicity\tDisease\tD014786|D006311\tocular toxicity|auditory toxicity
227508\t18\t27\tclonidine\tChemical\t-1
227508\tCID\tD009270\tD014786
227508\tAssociation\t348\tD014786\tNovel\tSubject:348

7|t|No abstract here
"""


def test_pubtator(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(PUBTATOR)
    assert is_pubtator(path)
    read = read_pubtator(path)
    first, second = read.documents
    assert first.text == "Naloxone reverses clonidine.\nIt causes ocular and auditory toxicity."
    assert first.entities == [
        Entity(((0, 8),), "Chemical", 3),
        Entity(((39, 67),), "Disease", 4),
        Entity(((18, 27),), "Chemical", 5),
    ]
    assert (second.id, second.text, second.entities) == ("7", "No abstract here", [])
    assert read.notes == ["2 lines without offsets (relations) are no entities"]


def test_what_is_odd_is_counted_and_kept(tmp_path):
    """A document twice, and an offset that does not fit among many that do."""
    path = tmp_path / "a.txt"
    lines = [f"1\t{3 * i}\t{3 * i + 2}\tab\tX\t-1" for i in range(20)]
    document = "\n".join(["1|t|" + "ab " * 20, "1|a|", *lines])
    path.write_text(f"{document}\n\n{document.replace(lines[5], lines[5].replace('ab', 'cd'))}\n")
    read = read_pubtator(path)
    assert [len(one.entities) for one in read.documents] == [20, 20]
    assert read.notes == [
        "1 of 40 entities differ from the text at their offsets (the first: line 31); the offsets are kept",
        "1 documents are there twice; both are kept",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n", "has no document"),
        ("5\t0\t8\tNaloxone\tChemical\n", "line 1 is of document '5', whose title .* is not above it"),
        ("5|t|Naloxone\n6\t0\t8\tNaloxone\tChemical\n", "line 2 is of document '6'"),
        ("5|t|Naloxone\n5\t0\t8\tNaloxone\n", "line 2 has 4 columns: expected id, start, end"),
        ("5|t|Naloxone\n5\t0\tx\tNaloxone\tChemical\n", "line 2 has 5 columns"),
        ("5|t|Naloxone\n5\t-1\t8\tNaloxone\tChemical\n", "line 2 has 5 columns, of them '-1' and '8' for the offsets"),
        ("5|t|Naloxone\n5\t\t8\tNaloxone\tChemical\n", "line 2 has 5 columns, of them '' and '8' for"),
        ("5|t|Naloxone\n5\tO\t8\tNaloxone\tChemical\tD1\n", "line 2 has 6 columns, of them 'O' and '8' for"),
        ("5|t|Naloxone\n5\tO\t8\tNaloxone\tChemical\n", "line 2 has 5 columns, of them 'O' and '8' for"),
        ("5|t|Naloxone\n5\t²\t8\tNaloxone\tChemical\n", "line 2 has 5 columns, of them '²' and '8' for"),
        ("5|t|Naloxone\n5|a|x\n5|a|y\n", "line 3: document 5 has a second abstract"),
        ("5|t|ab cd ef\n5\t1\t3\tab\tX\n5\t4\t6\tcd\tX\n", "a.txt: 2 of 2 entities differ .*line 2.*get text and"),
        ("5|t|ab\n5\t0\t2\tab\tX\n5\t90\t92\tcd\tX\n5\t91\t93\tcd\tX\n", "2 of 3 entities differ"),
    ],
)
def test_pubtator_faults_name_file_line_and_cure(tmp_path, text, message):
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pubtator(path)


def write_brat(folder):
    folder.mkdir(parents=True)
    (folder / "1.txt").write_bytes(b"left and right lung cancer\r\nof mice")
    (folder / "1.ann").write_text(
        "T1\tOrgan 0 4;15 19\tleft lung\nR1\tPart-of Arg1:T1 Arg2:T2\t\nT2\tOrganism 31 35\tmice\n#1\tNote T1\tsure?\n"
    )
    (folder / "0.txt").write_text("nothing")
    (folder / "0.ann").write_text("")
    (folder / "._1.ann").write_bytes(b"\x00\x05\x16\x07")  # what macOS leaves
    (folder / "._1.txt").write_bytes(b"\x00\x05\x16\x07")
    (folder / ".DS_Store").write_bytes(b"\x00")
    return folder


def test_brat(tmp_path):
    read = read_brat(write_brat(tmp_path / "train"))
    assert [one.id for one in read.documents] == ["0", "1"]
    assert read.documents[1].entities == [
        Entity(((0, 4), (15, 19)), "Organ", 1),
        Entity(((31, 35),), "Organism", 3),
    ]
    assert read.notes == ["2 lines that are no text spans (relations, events, notes) are no entities"]


def test_a_mention_that_brat_cut_at_a_line_break_is_one_piece(tmp_path):
    (tmp_path / "1.txt").write_text("high blood\n  pressure and lung or liver cancer")
    (tmp_path / "1.ann").write_text("T1\tD 0 4;5 10;13 21\thigh blood pressure\nT2\tD 26 30;40 46\tlung cancer\n")
    read = read_brat(tmp_path)
    assert [one.pieces for one in read.documents[0].entities] == [((0, 21),), ((26, 30), (40, 46))]
    assert read.notes == []
    file = tag_texts(read, "brat")
    assert [one.tags for one in file.sentences] == [["B-D", "I-D", "I-D", *["O"] * 5]]
    scores = entity_scores(span_keys(file), read_spans(tmp_path, file, {}))
    assert (scores["entities"], scores["precision"], scores["recall"]) == (2, 1.0, 1.0)


def test_shared_task_files_are_read_and_events_left_out(tmp_path):
    (tmp_path / "1.txt").write_text("p53 binds")
    (tmp_path / "1.a1").write_text("T1\tGene 0 3\tp53\n")
    (tmp_path / "1.a2").write_text("T2\tBinding 4 9\tbinds\nE1\tBinding:T2 Theme:T1\n")
    assert read_brat(tmp_path).documents[0].entities == [Entity(((0, 3),), "Gene", 1)]


def test_brat_faults_name_file_line_and_cure(tmp_path):
    folder = write_brat(tmp_path / "train")
    (folder / "2.txt").write_text("alone")
    with pytest.raises(ValueError, match=r"1 documents have only one of .txt and .ann \(first: \['2'\]\)"):
        read_brat(folder)
    (folder / "2.ann").write_text("T1\tOrgan 0,4\talon\n")
    with pytest.raises(ValueError, match="2.ann line 1 is not `T1<TAB>type start end<TAB>mention`"):
        read_brat(folder)
    with pytest.raises(ValueError, match="0 documents have only one"):
        read_brat(tmp_path)


def test_what_is_written_is_read_again(tmp_path):
    """Line breaks and tabs in a text become blanks, the offsets stay."""
    text = "A\ttitle\nof p53\nand\u2028IL2\r\nhere"
    spans = [(11, 14, "Gene"), (19, 22, "Gene")]
    assert [text[start:end] for start, end, _ in spans] == ["p53", "IL2"]
    write_pubtator([("a", text, spans), ("b", "only a title", [])], tmp_path / "p.txt")
    read = read_pubtator(tmp_path / "p.txt")
    assert read.notes == []
    assert [one.id for one in read.documents] == ["a", "b"]
    assert [(*one.pieces[0], one.type) for one in read.documents[0].entities] == spans
    assert read.documents[0].text == "A title\nof p53 and IL2  here"
    assert (tmp_path / "p.txt").read_text().splitlines()[2] == "a\t11\t14\tp53\tGene\t-1"


def test_annotations_alone(tmp_path):
    (tmp_path / "1.ann").write_text("T1\tGene 0 3\n*\tEquiv T1 T2\n")
    assert read_annotations(tmp_path / "1.ann") == ([Entity(((0, 3),), "Gene", 1)], [""], 1)
