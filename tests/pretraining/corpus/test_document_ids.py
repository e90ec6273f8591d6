"""Ids beside the index: every one in order, for documents that were kept; damage refused; killed runs repeated."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pretraining.corpus import index
from pretraining.corpus.document_ids import DocumentIds, DocumentIdWriter
from pretraining.corpus.documents import Document, write_shard, writing_stage
from pretraining.corpus.index import build_index
from pretraining.corpus.indexed import CorpusWriter, IndexedCorpus, corpus_path
from pretraining.corpus.provenance import with_sources
from pretraining.corpus.sentences import convert
from pretraining.sample_map import sample_records
from tests.tiny import make_tokenizer


def write_ids(prefix: Path, ids: list[str], group: int) -> DocumentIds:
    with DocumentIdWriter(prefix) as writer:
        for start in range(0, len(ids), group):
            lines = [f"{one}\n".encode() for one in ids[start : start + group]]
            writer.add(b"".join(lines), np.array([len(line) for line in lines]))
        writer.finish()
        writer.rename()
    return DocumentIds(prefix)


def make_documents(folder: Path, texts: list[list[str]]) -> Path:
    """One shard for each list; the second document of a shard has nothing to index where it is empty."""
    with writing_stage(folder, "pubmed", options={"flag": "value"}, sentences=False) as stage:
        for number, shard in enumerate(texts):
            documents = [Document(f"pmid-{number}{place}", text) for place, text in enumerate(shard)]
            stage.files.append(write_shard(folder, number, documents))
            stage.sources.append({"name": f"input{number}.xml.gz", "bytes": 1, "sha256": "0" * 64})
        stage.counts["dropped_no_abstract"] = 3
    return folder


@pytest.mark.parametrize("count", [1, 63, 64, 65, 128, 1000])
@pytest.mark.parametrize("group", [1, 5, 64, 1000])
def test_every_id_is_found(tmp_path: Path, count: int, group: int) -> None:
    expected = [f"pubmed:{number * number}" if number % 3 else "é漢" for number in range(count)]
    ids = write_ids(tmp_path / "c", expected, group)
    assert [ids[number] for number in range(len(ids))] == expected
    with pytest.raises(IndexError):
        ids[count]
    assert [path.name for path in tmp_path.iterdir()] == ["c.ids"]


def test_the_file_does_not_depend_on_how_ids_are_grouped(tmp_path: Path) -> None:
    expected = [str(number) for number in range(500)]
    write_ids(tmp_path / "a", expected, 7)
    write_ids(tmp_path / "b", expected, 500)
    assert (tmp_path / "a.ids").read_bytes() == (tmp_path / "b.ids").read_bytes()


@pytest.mark.parametrize("damage", [0, 10, 32, -1, +1])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: int) -> None:
    write_ids(tmp_path / "c", ["1", "2"], 1)
    path = tmp_path / "c.ids"
    os.truncate(path, damage if damage in (0, 10, 32) else path.stat().st_size + damage)
    with pytest.raises(ValueError, match=r"c\.ids is not a whole file"):
        DocumentIds(tmp_path / "c")


def test_ids_and_manifests_of_all_stages_lie_beside_the_index(tmp_path: Path) -> None:
    documents = make_documents(tmp_path / "documents", [["w1 w2.", "\u200b", "w3 w4."], ["w5.", "w6. w7."]])
    convert([documents], tmp_path / "sentences")
    build_index(tmp_path / "sentences", make_tokenizer(tmp_path / "tokenizer"), str(tmp_path / "c"))
    ids = DocumentIds(tmp_path / "c")
    assert [ids[number] for number in range(len(ids))] == ["pmid-00", "pmid-02", "pmid-10", "pmid-11"]
    manifest = with_sources(tmp_path / "c", json.loads((tmp_path / "c.json").read_text()))
    assert [shard["documents"] for shard in manifest["shards"]] == [2, 2]
    before = manifest["sources"][0]["manifest"]["sources"][0]["manifest"]
    assert before["stage"] == "pubmed" and before["options"] == {"flag": "value"}
    assert before["counts"]["dropped_no_abstract"] == 3
    assert [source["name"] for source in before["sources"]] == ["input0.xml.gz", "input1.xml.gz"]
    assert manifest["tokenizer"] == "tokenizer"


def test_a_run_killed_anywhere_is_repeated_to_the_same_bytes(tmp_path: Path, repository: Path) -> None:
    documents = make_documents(tmp_path / "d", [["w1 w2 w3. w4 w5. " * 400 for _ in range(100)] for _ in range(2)])
    convert([documents], tmp_path / "s")
    tokenizer, prefix = make_tokenizer(tmp_path / "tokenizer"), tmp_path / "c"
    command = [sys.executable, "-m", "pretraining.corpus.index", "--input", tmp_path / "s", "--tokenizer", tokenizer,
               "--output-prefix", prefix, "--workers", "2"]  # fmt: skip
    began = time.monotonic()
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    seconds = time.monotonic() - began
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("c.*")}
    assert set(whole) == {"c.bin", "c.idx", "c.ids", "c.sources.json", "c.json"}
    for share in (0.4, 0.7, 0.9):
        process = subprocess.Popen(command, cwd=repository, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(share * seconds)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*c.*")} == whole


def test_a_run_killed_between_two_renames_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert([make_documents(tmp_path / "d", [["w1 w2.", "w3."]])], tmp_path / "s")
    arguments = (tmp_path / "s", make_tokenizer(tmp_path / "tokenizer"), str(tmp_path / "c"))
    build_index(*arguments)
    whole = {path.name: path.read_bytes() for path in tmp_path.glob("*c.*")}
    for name, where in (("rename", DocumentIdWriter), ("write_manifest", index)):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                build_index(*arguments)
        assert not (tmp_path / "c.json").exists()
        build_index(*arguments)
        assert {path.name: path.read_bytes() for path in tmp_path.glob("*c.*")} == whole


def test_offsets_beyond_4_gib_and_2_to_the_32_word_pieces(tmp_path: Path) -> None:
    """A sparse corpus of 5 billion word pieces, 10 GB that take no room: written, read, cut into samples."""
    long, documents = 1_000_000_000, 5
    with CorpusWriter(tmp_path / "c", 65_000) as writer:
        for name, data in (("lengths", struct.pack("<6i", *[long] * documents, 3)),
                           ("documents", struct.pack("<6q", *[1] * (documents + 1)))):  # fmt: skip
            writer._files[name].write(data)
        writer._files["bin"].seek(2 * long * documents)
        writer._files["bin"].write(np.array([7, 8, 9], "<u2").tobytes())
        writer.documents, writer.sentences, writer.tokens = documents + 1, documents + 1, long * documents + 3
        writer.finish()
    corpus = IndexedCorpus(tmp_path / "c")
    corpus.verify()
    assert corpus_path(corpus.prefix, ".bin").stat().st_blocks * 512 < 1 << 20
    assert corpus.num_tokens == long * documents + 3 > 2**32
    assert corpus.sentence_starts[:].tolist() == [long * number for number in range(documents + 1)]
    assert corpus.sentence(documents).tolist() == [7, 8, 9]
    records = sample_records(corpus, documents, documents + 1, (2, 0.0, 1))
    assert records["sentence"].tolist() == [documents, documents] and records["offset"].tolist() == [0, 2]
