"""Documents and stage folders: what is written is read back; what is not whole is refused."""

import json
import os
import signal
import subprocess
import sys
import unicodedata

import pytest

from pretraining.corpus import documents
from pretraining.corpus.code_digest import digest_of_code
from pretraining.corpus.documents import (
    Document,
    find_files,
    list_shards,
    normalise_text,
    read_documents,
    read_manifest,
    summary,
    write_shard,
    write_shards,
    writing_stage,
)
from pretraining.corpus.workers import map_in_order

DOCUMENTS = [
    Document("1", "A title.\nIL-2\u2028receptor", {"pmid": 1}),
    Document("2", 'Greek β, "quotes", back\\slash', {}),
    Document("3", "third", {"n": None}),
]


def write(folder, documents=DOCUMENTS, name="text", per_shard=2):
    with writing_stage(folder, name, options={"flag": 1}, sentences=False, packages=["lxml"]) as stage:
        for number, start in enumerate(range(0, len(documents), per_shard)):
            stage.files.append(write_shard(folder, number, documents[start : start + per_shard]))
        stage.counts["dropped_for_fun"] += 1234
    return folder


def test_round_trip_and_manifest(tmp_path):
    folder = write(tmp_path / "a" / "b")
    assert list(read_documents(folder)) == DOCUMENTS
    assert [p.name for p in list_shards(folder)] == ["documents-00000.jsonl", "documents-00001.jsonl"]
    assert sorted(p.name for p in folder.iterdir()) == [
        "documents-00000.jsonl", "documents-00001.jsonl", "manifest.json"
    ]  # fmt: skip
    manifest = read_manifest(folder)
    assert manifest["documents"] == 3 and manifest["stage"] == "text" and manifest["sentences"] is False
    assert manifest["options"] == {"flag": 1} and set(manifest["versions"]) == {"python", "lxml"}
    assert manifest["code"] == digest_of_code()
    assert "dropped for fun 1,234" in summary(manifest) and "3 documents" in summary(manifest)
    first = (folder / "documents-00000.jsonl").read_bytes()
    assert len(first.split(b"\n")) == 3 and "β".encode() in first  # one line each, not escaped
    assert json.loads(first.split(b"\n")[0]) == {
        "id": "1",
        "text": DOCUMENTS[0].text,
        "metadata": {"pmid": 1},
    }


def test_write_shards_cuts_by_size_and_loses_nothing(tmp_path):
    documents = [Document(str(i), "x" * (i % 7), {}) for i in range(100)]
    with writing_stage(tmp_path / "o", "text", options={}, sentences=True) as stage:
        stage.files = write_shards(tmp_path / "o", iter(documents), 20)
    assert list(read_documents(tmp_path / "o")) == documents
    assert len(stage.files) > 10 and all(entry["documents"] for entry in stage.files)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), "did not finish"),
        (lambda f: (f / "documents-00001.jsonl").unlink(), "documents-00001.jsonl is missing"),
        (lambda f: os.truncate(f / "documents-00000.jsonl", 10), "has 10 bytes"),
        (lambda f: (f / "manifest.json").write_text("{"), "no manifest"),
        (lambda f: (f / "manifest.json").write_text('{"a": 1}'), "no manifest"),
    ],
)
def test_folders_that_are_not_whole_are_refused(tmp_path, damage, message):
    folder = write(tmp_path / "o")
    damage(folder)
    with pytest.raises(ValueError, match=message):
        list_shards(folder)


def test_broken_line_names_file_and_line(tmp_path):
    folder = write(tmp_path / "o")
    shard = folder / "documents-00000.jsonl"
    data = bytearray(shard.read_bytes())
    data[-2] = ord("x")
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="documents-00000.jsonl, line 2"):
        list(read_documents(folder))


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        list(read_documents(tmp_path / "none"))


def test_same_stage_replaces_and_others_are_refused(tmp_path):
    folder = write(tmp_path / "o")
    write(folder, DOCUMENTS[:1])
    assert list(read_documents(folder)) == DOCUMENTS[:1]
    assert not (folder / "documents-00001.jsonl").exists()
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="not made by this stage"):
        write(folder, name="pubmed")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="notes.txt"):
        write(folder)
    assert (folder / "manifest.json").read_bytes() == before  # refusing destroys nothing
    with pytest.raises(ValueError, match="is a file"):
        write(folder / "notes.txt")


def test_error_leaves_nothing(tmp_path):
    def documents():
        yield DOCUMENTS[0]
        raise ValueError("broken input")

    folder = write(tmp_path / "o")
    with pytest.raises(ValueError, match="broken input"):
        with writing_stage(folder, "text", options={}, sentences=False) as stage:
            stage.files.append(write_shard(folder, 0, DOCUMENTS))
            stage.files.append(write_shard(folder, 1, documents()))
    assert list(folder.iterdir()) == []


def test_killed_run_is_refused_by_the_next_stage_and_can_be_repeated(tmp_path):
    code = f"""
import time
from pathlib import Path
from pretraining.corpus.documents import Document, write_shard, writing_stage
folder = Path({str(tmp_path / "o")!r})
with writing_stage(folder, "text", options={{}}, sentences=False) as stage:
    stage.files.append(write_shard(folder, 0, [Document("1", "x", {{}})]))
    def slow():
        yield Document("2", "y", {{}})
        print("half", flush=True)
        time.sleep(60)
    write_shard(folder, 1, slow())
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "o" / "documents-00000.jsonl").exists()
    assert not (tmp_path / "o" / "documents-00001.jsonl").exists()  # a half shard has no final name
    with pytest.raises(ValueError, match="did not finish"):
        list_shards(tmp_path / "o")
    with pytest.raises(ValueError, match="not made by this stage"):
        write(tmp_path / "o", name="sentences")
    assert list(read_documents(write(tmp_path / "o"))) == DOCUMENTS


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (" a\n\t b\u2009c\u00a0d\u3000e\u2028f\r\n", "a b c d e f"),
        ("a\x00b\x07c\u00add\u200be\ufefff\x1fg", "abcdef g"),
        ("a \x00 b \u200b c", "a b c"),
        ("e\u0301 \u212b", "\u00e9 \u00c5"),
        ("α-β ± 5 µm ≥ 3", "α-β ± 5 µm ≥ 3"),
        ("", ""),
        (" \u200b ", ""),
    ],
)
def test_normalise_text(raw, expected):
    assert normalise_text(raw) == expected
    assert normalise_text(expected) == expected


def test_normalise_text_over_all_of_unicode():
    everything = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    special = {c for c in everything if c.isspace() or unicodedata.category(c) in ("Cc", "Cf")}
    assert len(special) > 150
    for c in [*special, *everything[::11]]:
        text = normalise_text(f"a{c}b")
        assert unicodedata.is_normalized("NFC", text)
        if c.isspace():
            assert text == "a b"
        elif unicodedata.category(c) in ("Cc", "Cf"):
            assert text == "ab"


def test_find_files_sorts_and_skips_what_archives_of_macos_leave(tmp_path):
    for name in ("b.xml", "a.xml.gz", "._a.xml", "c.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in find_files([tmp_path], (".xml", ".xml.gz"))] == ["a.xml.gz", "b.xml"]
    assert [p.name for p in find_files([tmp_path / "c.txt", tmp_path], (".xml",))] == ["c.txt", "b.xml"]
    with pytest.raises(ValueError, match=r"has no file that matches \*\.json"):
        find_files([tmp_path], (".json",))
    with pytest.raises(ValueError, match="does not exist"):
        find_files([tmp_path / "none"], (".xml",))


# built-in functions, because a spawned worker cannot import this file
@pytest.mark.parametrize("workers", [1, 2])
def test_map_in_order(workers):
    assert list(map_in_order(abs, [-3, 2, -1], workers=workers, description="x")) == [3, 2, 1]
    with pytest.raises(ValueError):
        list(map_in_order(int, ["1", "two", "3"], workers=workers, description="x"))


def test_map_in_order_reports_a_killed_worker_and_wrong_numbers():
    with pytest.raises(OSError, match="fewer --workers"):
        list(map_in_order(os._exit, [1, 1], workers=2, description="x"))
    with pytest.raises(ValueError, match="--workers 0"):
        list(map_in_order(abs, [1], workers=0, description="x"))


def test_a_stage_that_was_killed_while_it_removed_an_earlier_result_can_be_repeated(tmp_path, monkeypatch):
    def write(text):
        with writing_stage(tmp_path / "o", "test", options={}, sentences=False) as stage:
            stage.files = [write_shard(stage.output, 0, [Document("1", text)])]

    write("old")
    with monkeypatch.context() as patch:

        def killed(output):
            (output / "manifest.json").unlink()
            raise KeyboardInterrupt

        patch.setattr(documents, "_remove_files", killed)
        with pytest.raises(KeyboardInterrupt):
            write("never")
    write("new")
    assert [document.text for document in read_documents(tmp_path / "o")] == ["new"]
