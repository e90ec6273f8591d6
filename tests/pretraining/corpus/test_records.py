"""JSON lines, Parquet and MEDLINE text: what becomes of their fields, and bad input."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pretraining.corpus.documents import read_documents
from pretraining.corpus.records import BROKEN_LISTED, convert

REPOSITORY = Path(__file__).parents[3]
DATA = REPOSITORY.parent / "shared" / "data" / "pubmed_xml" / "medline_txt"

MEDLINE = """
PMID- 12
DP  - 2002 Sep 3
TI  - [A title over
      two lines].
AB  - BACKGROUND: An abstract
      over two lines.
LA  - fre
LA  - eng
PT  - Journal Article
PT  - Retracted Publication
IS  - 1467-5463 (Print)
IS  - 1477-4054 (Electronic)
JT  - Briefings
MH  - *Software
MH  - Neoplasms/*genetics
OT  - toolkits
TT  - Un titre.

PMID- 13
TI  - Only a title.
"""


def read(tmp_path: Path, **options: str | bool) -> tuple[list, dict]:
    manifest = convert([tmp_path / "in"], tmp_path / "out", **options)
    return list(read_documents(tmp_path / "out")), manifest


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_json_lines(source: Path, tmp_path: Path) -> None:
    rows = [
        {"id": 7, "text": "One.\n\n Two  words.", "date": "2019", "tags": ["a"], "nested": {"x": 1}},
        {"id": "x", "text": "B.", "metadata": {"language": ["eng"], "gone": None}, "other": 1},
        {"text": "C."},
        {"text": " \n"},
    ]
    content = "\n".join(map(json.dumps, rows)) + "\n\n"
    (source / "a.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    documents, manifest = read(tmp_path)
    assert [(one.id, one.text) for one in documents] == [("7", "One.\nTwo words."), ("x", "B."), ("a:3", "C.")]
    assert documents[0].metadata == {"source": "a.jsonl.gz", "date": "2019", "tags": ["a"]}
    assert documents[1].metadata == {"source": "a.jsonl.gz", "language": ["eng"]}
    assert manifest["counts"] == {"records": 4, "dropped_no_text": 1}


def test_broken_records_and_what_follows_a_cut_are_skipped_where_asked(source: Path, tmp_path: Path) -> None:
    lines = [
        rb'{"text": "One."}',
        b"[]",
        b'{"text": 5}',
        b'{"text": "Two."}',
        rb'{"text": "\ud83d"}',
        b"\xff",
        b'{"text": ""}',
    ]
    (source / "a.jsonl").write_bytes(b"\n".join(lines))
    (source / "b.jsonl").write_text("[]\n" * 30 + '{"text": "Three."}\n')
    (source / "c.nbib").write_text(f"{MEDLINE}\nno tag\n\n{MEDLINE}")
    documents, manifest = read(tmp_path, skip_broken=True)
    assert [document.text for document in documents[:3]] == ["One.", "Two.", "Three."] and len(documents) == 4
    assert manifest["counts"]["broken_records"] == 33 and manifest["counts"]["broken_files"] == 2
    broken = [source["broken"] for source in manifest["sources"]]
    wanted = [
        "line 2, is no JSON object",
        "'text' is no text",
        "record 5, cannot be kept",
        "line 6: byte 0xff is not UTF-8",
    ]
    assert all(words in sentence for words, sentence in zip(wanted, broken[0], strict=True))
    assert len(broken[1]) == BROKEN_LISTED and "is no line of a MEDLINE record" in broken[2]


def test_a_string_of_parquet_that_is_not_utf_8_is_one_row(source: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = pyarrow.array([b"One.", b"Tw\xff.", b"Three."]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": texts}), source / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet, row 2, cannot be read"):
        read(tmp_path)
    documents, manifest = read(tmp_path, skip_broken=True)
    assert [(one.id, one.text) for one in documents] == [("a:1", "One."), ("a:3", "Three.")]
    assert manifest["counts"] == {"records": 3, "broken_records": 1}


def test_parquet_is_read_as_the_same_rows_in_json(source: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [{"doi": f"10/{n}", "abstract": f"Text {n}.", "date": "2020"} for n in range(2500)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), source / "a.parquet")
    fields = {"text_field": "abstract", "id_field": "doi"}
    ours, _ = read(tmp_path, **fields)
    (source / "a.parquet").unlink()
    (source / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    theirs, _ = read(tmp_path, **fields)
    assert len(ours) == 2500
    assert [(one.id, one.text, one.metadata["date"]) for one in ours] == [
        (one.id, one.text, one.metadata["date"]) for one in theirs
    ]


def test_a_medline_record_with_the_place_of_its_retraction_is_retracted(source: Path, tmp_path: Path) -> None:
    record = MEDLINE.replace("PT  - Retracted Publication\n", "{}")
    (source / "a.nbib").write_text(record.format("RIN - J Tests. 2020 May;3(1):4. PMID: 33333333\n"))
    (source / "b.nbib").write_text(record.format("ROF - J Tests. 2001 May;3(1):4. PMID: 11111111\n"))
    assert [one.metadata.get("retracted", False) for one in read(tmp_path)[0]] == [True, False]


def test_medline(source: Path, tmp_path: Path) -> None:
    (source / "a.nbib").write_text(MEDLINE)
    (document,), manifest = read(tmp_path)
    assert document.text == "A title over two lines.\nBACKGROUND: An abstract over two lines."
    assert document.metadata == {
        "source": "a.nbib",
        "pmid": "12",
        "date": "2002-09-03",
        "language": ["fre", "eng"],
        "publication_types": ["Journal Article", "Retracted Publication"],
        "keywords": ["toolkits"],
        "mesh": ["Software", "Neoplasms"],
        "journal": "Briefings",
        "issn": ["1467-5463", "1477-4054"],
        "retracted": True,
    }
    assert manifest["counts"] == {"records": 2, "dropped_no_abstract": 1}


@pytest.mark.skipif(not DATA.is_dir(), reason="the real MEDLINE files are not here")
def test_real_medline_files(source: Path, tmp_path: Path) -> None:
    for path in DATA.glob("*.txt"):
        (source / f"{path.stem}.medline").write_bytes(path.read_bytes())
    documents, manifest = read(tmp_path)
    assert documents[0].text.startswith("The Bio* toolkits--a brief overview.\nBioinformatics research is often")
    assert len(documents) + manifest["counts"].get("dropped_no_abstract", 0) == manifest["counts"]["records"]
    assert all(one.metadata["date"][:2] in ("19", "20") for one in documents)


BAD = {
    "a.jsonl": [
        (b'{"text": "x"}\n{"text": ', "line 2, is no JSON object"),
        (b'["x"]\n', "line 1, is no JSON object"),
        (b'{"body": "x"}\n', "has no field 'text' (body); name it by --text-field"),
        (b'{"text": 5}\n', "'text' is no text"),
        (b'{"text": "\xff"}\n', "is not UTF-8"),
        (b'{"text": "x"}\n{"text": "\\ud83d"}\n', "record 2, cannot be kept"),
        (b'{"text": "x", "n": 1180591620717411303424}\n', "record 1, cannot be kept"),
        (b"", "is empty"),
        (b'{"text": " "}\n', "became a document"),
    ],
    "a.parquet": [(b"PAR1 no", "is no Parquet file")],
    "a.nbib": [(b"PMID- 1\nno tag\n", "line 2, is no line of a MEDLINE record")],
    "a.csv": [(b"text\n", "the ending says the format")],
}


@pytest.mark.parametrize(("name", "content", "message"), [(n, *one) for n, several in BAD.items() for one in several])
def test_bad_files_are_one_sentence_and_leave_nothing(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    result = subprocess.run(
        [sys.executable, "-m", "pretraining.corpus.records", "--input", str(path), "--output", str(tmp_path / "out")],
        cwd=REPOSITORY, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 1 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert message in result.stderr and str(path) in result.stderr
    assert not list((tmp_path / "out").glob("*"))
