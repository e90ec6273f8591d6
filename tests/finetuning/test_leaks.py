"""The leak guard: duplicates by hand, and test texts found in corpora of every form."""

import json
import random

import pytest

from finetuning import leaks
from finetuning.leaks import duplicates, duplicates_line, key_of, seen_in_corpus, seen_line
from tests.finetuning.test_command import benchmark, error_of, run
from tests.finetuning.toy import toy_task

ABSTRACT = (
    "Naloxone reverses the antihypertensive effect of clonidine. In unanesthetized, spontaneously hypertensive rats "
    "the decrease in blood pressure and heart rate produced by intravenous clonidine was inhibited or reversed."
)
TOKENS = (
    "Naloxone reverses the antihypertensive Effect of clonidine . In unanesthetized , spontaneously hypertensive rats"
)
OTHER = "Lidocaine-induced cardiac asystole was seen after intravenous administration of a single bolus in one patient."


def write_folder(folder, records):
    """Documents as the corpus tools write them, two a file."""
    folder.mkdir()
    for start in range(0, len(records), 2):
        lines = [json.dumps(record) + "\n" for record in records[start : start + 2]]
        (folder / f"documents-{start // 2:05d}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "manifest.json").write_text("{}")
    return folder


def record(text, pmid=None):
    metadata = {"pmid": pmid} if pmid else {}
    return {"id": str(pmid or "file:7"), "text": text, "metadata": metadata}


def test_duplicates_by_hand():
    texts = {
        "train": [("", "A text"), ("", "a  TEXT\n"), ("", "b"), ("", "c")],
        "dev": [("", "b"), ("", "d")],
        "test": [("", "a text"), ("", "A text "), ("", "d"), ("", "e")],
    }
    found = duplicates(texts)
    assert found == {"train": 1, "dev": 0, "test": 1, "train-dev": 1, "train-test": 2, "dev-test": 1}
    assert duplicates_line(found, texts) == (
        "exact duplicates: 1 of dev are in train, 2 of test are in train, 1 of test are in dev, "
        "1 within train (4 texts), 0 within dev (2 texts), 1 within test (4 texts)"
    )
    assert duplicates({"all": [("", "x"), ("", "X")]}) == {"all": 1}


def test_keys():
    assert key_of("Short one, of few letters.") is None
    key, pair = key_of(TOKENS + " the decrease")
    assert key == key_of(ABSTRACT)[0]
    assert (len(key), pair) == (100, ("unanesthetized", "spontaneously"))
    assert key_of("a" * 30 + " " + "b" * 9) is None
    assert key_of("a" * 30 + " " + "b" * 10)[0] == "a" * 30 + "b" * 10
    assert key_of("a" * 60 + " b " + "c" * 60)[1] == ("a" * 60, "b")  # the cut word is not whole in every text


def test_by_pmid(tmp_path):
    corpus = write_folder(tmp_path / "corpus", [record("one", 11), record("two", 12), record(ABSTRACT, 13)])
    texts = [("pmid:12", "sentence one"), ("pmid:12", "sentence two"), ("pmid:13", "x"), ("pmid:99", ABSTRACT)]
    found = seen_in_corpus(texts, corpus)
    assert (found["test_documents"], found["seen_documents"], found["test_texts"]) == (3, 2, 0)
    assert found["corpus_documents"] == 3
    assert seen_line(found).endswith("corpus: 2 of 3 test documents, by PMID")


def test_by_text_where_either_has_no_pmid(tmp_path):
    texts = [("", TOKENS), ("pmid:4", OTHER), ("", "Too short."), ("", OTHER.replace("single", "double"))]
    with_pmid = write_folder(tmp_path / "a", [record("nothing", 4), record(f"A title.\n{ABSTRACT}", 5)])
    found = seen_in_corpus(texts, with_pmid)
    assert (found["test_documents"], found["seen_documents"]) == (1, 1)
    assert (found["test_texts"], found["seen_texts"], found["too_short_texts"]) == (3, 1, 1)
    assert "1 of 3 test texts, by their first 100 letters and digits (1 too short to tell)" in seen_line(found)
    without = write_folder(tmp_path / "b", [record("nothing"), record(OTHER)])
    found = seen_in_corpus(texts, without)
    assert (found["test_documents"], found["test_texts"], found["seen_texts"]) == (0, 4, 1)


def test_by_text_in_those_records_of_a_corpus_that_have_no_pmid(tmp_path):
    """12 by PMID, 13 by the text of its second row; 14 is only quoted by a record that is another document."""
    texts = [("pmid:12", "by its PMID"), ("pmid:13", "a row of few letters"), ("pmid:13", TOKENS), ("pmid:14", OTHER)]
    records = [record("one", 12), record(f"A full text. {ABSTRACT}"), record(f"Cited: {OTHER}", 99)]
    found = seen_in_corpus(texts, write_folder(tmp_path / "mixed", records))
    assert (found["test_documents"], found["seen_documents"], found["test_texts"]) == (3, 2, 0)
    assert "2 of 3 test documents, by PMID (1 of them by text, in records without PMID)" in seen_line(found)
    both = write_folder(tmp_path / "both", [record(ABSTRACT, 13), record(ABSTRACT)])  # counted once
    assert seen_in_corpus(texts, both)["seen_documents"] == 1
    mixed = seen_in_corpus([*texts, ("", OTHER)], tmp_path / "mixed")  # the same with a text that has no PMID
    assert (mixed["seen_documents"], mixed["test_texts"], mixed["seen_texts"]) == (2, 1, 1)


@pytest.mark.parametrize("name", ["corpus.txt", "corpus.jsonl"])
def test_single_files(tmp_path, name):
    path = tmp_path / name
    lines = ["some words", ABSTRACT.replace("In una", "\nIn una") if name.endswith("txt") else ABSTRACT, "more"]
    if name.endswith("jsonl"):
        lines = [json.dumps({"text": line}) for line in lines]
    path.write_text("\n".join(lines), encoding="utf-8")
    assert seen_in_corpus([("", TOKENS), ("", OTHER)], path)["seen_texts"] == 1


def test_a_text_across_two_blocks_of_a_text_file_is_found(tmp_path, monkeypatch):
    path = tmp_path / "corpus.txt"
    path.write_text("filler " * 1000 + ABSTRACT + " filler" * 1000, encoding="utf-8")
    for size in (1500, 7050, 7100, 100_000):
        monkeypatch.setattr(leaks, "BLOCK_CHARACTERS", size)
        assert seen_in_corpus([("", TOKENS), ("", OTHER)], path)["seen_texts"] == 1


def test_equals_a_plain_search_on_random_texts(tmp_path):
    """Against `key in document` for every pair, written out."""
    chance = random.Random(0)
    words = ["".join(chance.choice("abcdefgh") for _ in range(chance.randint(1, 9))) for _ in range(40)]

    def text(length):
        return " ".join(chance.choice(words) for _ in range(length))

    documents = [text(chance.randint(30, 120)) for _ in range(60)]
    tests = [text(30) for _ in range(30)]
    for _ in range(30):
        document = chance.choice(documents).split()
        start = chance.randint(0, len(document) - 20)
        tests.append(" , ".join(document[start : start + 60]).upper())
    corpus = write_folder(tmp_path / "corpus", [record(document) for document in documents])
    found = seen_in_corpus([("", one) for one in tests], corpus)
    plain = ["".join(document.split()) for document in documents]
    keys = ["".join(c for c in one.lower() if c.isalnum()) for one in tests]
    judged = [key[:100] for key in keys if len(key) >= 40]
    expected = sum(any(key in document for document in plain) for key in judged)
    assert found["seen_texts"] == expected > 15
    assert found["too_short_texts"] == len(keys) - len(judged)


def test_broken_corpora(tmp_path):
    with pytest.raises(ValueError, match="nowhere: give a folder with documents"):
        seen_in_corpus([], tmp_path / "nowhere")
    with pytest.raises(ValueError, match="give a folder with documents"):
        seen_in_corpus([], tmp_path)
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n{"title": "x"}\n')
    with pytest.raises(ValueError, match="a.jsonl line 2 is not a JSON object with a text"):
        seen_in_corpus([], tmp_path / "a.jsonl")


def test_a_run_says_and_keeps_it(tiny_model, tmp_path, capsys, monkeypatch):
    bench, _ = benchmark(toy_task())
    corpus = write_folder(tmp_path / "corpus", [record("nothing", 4)])
    more = ["--seeds", "1", "--corpus", str(corpus)]
    run(bench, tiny_model, tmp_path / "out", *more)
    printed = capsys.readouterr().out
    assert "exact duplicates: 0 of dev are in train, 1 of test are in train" in printed
    assert f"in the pretraining corpus {corpus}: 0 of 1 test texts" in printed
    path = tmp_path / "out" / "toy-line" / "m" / "results.json"
    results = json.loads(path.read_text())
    assert results["leaks"]["duplicates"]["train-test"] == 1
    assert results["leaks"]["corpus"]["too_short_texts"] == 1
    looked = []
    original = leaks.read_corpus
    monkeypatch.setattr(leaks, "read_corpus", lambda path: looked.append(path) or original(path))
    run(bench, tiny_model, tmp_path / "out", *more)
    assert looked == []  # known from the run before
    write_folder(tmp_path / "more", [record("nothing", 4), record("b")])
    run(bench, tiny_model, tmp_path / "out", "--seeds", "1", "--corpus", str(tmp_path / "more"))
    assert len(looked) == 1
    run(bench, tiny_model, tmp_path / "out", "--seeds", "1")
    assert json.loads(path.read_text())["leaks"]["corpus"] is None
    assert "--corpus" in error_of(bench, tiny_model, tmp_path / "out", "--corpus", str(tmp_path / "nowhere"))
