"""The vocabulary stage: the same bytes from every process, exactly N entries, existing files, refusals."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from pretraining.corpus.documents import Document, write_shard, writing_stage
from pretraining.corpus.tokenizer import KINDS, SPECIAL_TOKENS, load_tokenizer
from pretraining.corpus.vocab import looks_cased, read_vocabulary

FILES = ["manifest.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]


def made_up_texts(number: int = 300, seed: int = 3) -> list[str]:
    """Documents of made-up words; many pairs of letters are equally frequent: ties break the order."""
    generator = random.Random(seed)
    syllables = [a + b for a in "bcdfglmnprstvzéβ" for b in "aeiouü"]
    words = ["".join(generator.choices(syllables, k=generator.randint(1, 4))) for _ in range(800)]
    words += [word.capitalize() for word in words[:200]]
    lines = [[" ".join(generator.choices(words, k=12)) + "." for _ in range(4)] for _ in range(number)]
    return ["\n".join(sentences) for sentences in lines]


def write_documents(folder: Path, texts: list[str], shards: int = 2) -> Path:
    with writing_stage(folder, "sentences", options={}, sentences=True) as stage:
        for shard in range(shards):
            documents = (Document(str(i), text) for i, text in enumerate(texts) if i % shards == shard)
            stage.files.append(write_shard(folder, shard, documents))
    return folder


def run(repository: Path, *flags: str | Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "pretraining.corpus.vocab", "--workers", "1", *map(str, flags)],
        cwd=repository,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def documents(tmp_path_factory) -> Path:
    return write_documents(tmp_path_factory.mktemp("vocab") / "documents", made_up_texts())


@pytest.mark.parametrize("kind", KINDS)
def test_trainings_in_different_processes_give_the_same_bytes(repository, documents, tmp_path, kind):
    found = []
    for seed, threads, parallel in (("1", "1", "false"), ("2", "4", "true")):
        output = tmp_path / seed
        result = run(
            repository, "--input", documents, "--output", output, "--vocab-size", "900", "--type", kind,
            "--workers", seed,
            PYTHONHASHSEED=seed, RAYON_NUM_THREADS=threads, TOKENIZERS_PARALLELISM=parallel,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert result.stdout == f"vocab: {kind}, 900 entries, lower-cased, accents stripped, in {output}\n"
        found.append(hashes(output))
    assert list(found[0]) == (FILES if kind == "wordpiece" else FILES[:-1])
    assert found[0] == found[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_a_blend_is_weighed(repository, tmp_path):
    """Words of the folder that is weighed more become pieces; the ratio is what counts, and the manifest says it."""
    texts = made_up_texts(60, seed=5)
    one = write_documents(tmp_path / "one", [text.translate(str.maketrans("bcdf", "ghjk")) for text in texts])
    other = write_documents(tmp_path / "other", [text.translate(str.maketrans("glmn", "pqrs")) for text in texts[:20]])
    pieces = {}
    for weights in ("0.9 0.1", "9 1", "0.1 0.9"):
        first, second = weights.split()
        output = tmp_path / first
        result = run(repository, "--input", first, one, second, other, "--output", output, "--vocab-size", "500")
        assert result.returncode == 0, result.stderr
        pieces[weights] = (output / "vocab.txt").read_bytes()
        manifest = json.loads((output / "manifest.json").read_text(encoding="utf-8"))
        assert [source["weight"] for source in manifest["sources"]] == [float(first), float(second)]
    assert pieces["0.9 0.1"] == pieces["9 1"] != pieces["0.1 0.9"]
    own = [sum("j" in piece for piece in text.decode().split("\n")) for text in pieces.values()]
    assert own[0] > 1.5 * own[2]


def test_the_folder_is_what_was_asked_for(repository, documents, tmp_path):
    flags = ("--vocab-size", "700", "--cased", "--keep-accents")
    assert run(repository, "--input", documents, "--output", tmp_path / "t", *flags).returncode == 0
    vocabulary = read_vocabulary(tmp_path / "t" / "vocab.txt")
    assert len(vocabulary) == len(set(vocabulary)) == 700
    assert vocabulary[:5] == list(SPECIAL_TOKENS)
    assert vocabulary[5] == "." and "##." not in vocabulary  # punctuation is never inside a word
    assert {"é", "##é", "B", "##b"} <= set(vocabulary)
    assert any(len(piece.removeprefix("##")) > 3 for piece in vocabulary[-50:])
    ours, theirs = load_tokenizer(tmp_path / "t"), AutoTokenizer.from_pretrained(tmp_path / "t")
    added = json.loads((tmp_path / "t" / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    assert [(entry["id"], entry["content"]) for entry in added] == list(enumerate(SPECIAL_TOKENS))
    assert len(theirs) == 700 and set(theirs.all_special_tokens) == set(SPECIAL_TOKENS)
    for text in made_up_texts(20, seed=9):
        ids = ours.encode(text, add_special_tokens=False).ids
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids
        assert ours.token_to_id("[UNK]") not in ids
    manifest = json.loads((tmp_path / "t" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["stage"] == "vocab" and manifest["vocab_size"] == 700
    assert manifest["options"]["lowercase"] is False and manifest["options"]["strip_accents"] is False
    assert manifest["sources"][0]["documents"] == 300
    for entry in manifest["files"]:
        assert entry["sha256"] == hashes(tmp_path / "t")[entry["name"]]


@pytest.mark.parametrize(
    "flags,lowercase,strip_accents",
    [
        ((), True, True),
        (("--uncased", "--keep-accents"), True, False),
        (("--cased",), False, False),
        (("--cased", "--strip-accents"), False, True),
    ],
)
def test_case_and_accents_are_two_flags(repository, tmp_path, flags, lowercase, strip_accents):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, "e", "é", "E", "É"]), encoding="utf-8")
    result = run(
        repository,
        "--from-vocab",
        tmp_path / "vocab.txt",
        "--output",
        tmp_path / "t",
        *(flags or ["--uncased"]),
    )
    assert result.returncode == 0, result.stderr
    expected = "É"
    expected = expected.lower() if lowercase else expected
    expected = {"é": "e", "É": "E"}[expected] if strip_accents else expected
    assert load_tokenizer(tmp_path / "t").encode("É", add_special_tokens=False).tokens == [expected]
    assert AutoTokenizer.from_pretrained(tmp_path / "t").tokenize("É") == [expected]


def test_an_earlier_output_is_replaced(repository, documents, tmp_path):
    for size in ("800", "600"):
        assert run(repository, "--input", documents, "--output", tmp_path / "t", "--vocab-size", size).returncode == 0
    assert len(read_vocabulary(tmp_path / "t" / "vocab.txt")) == 600
    assert [path.name for path in tmp_path.iterdir()] == ["t"]


@pytest.mark.parametrize("ending", ["\n", "", "\r\n"])
def test_entries_keep_their_line_numbers(repository, tmp_path, ending):
    entries = ["a", "[PAD]", "", "\u2028", "##a", *SPECIAL_TOKENS[1:], "\u3000", "z"]
    separator = ending or "\n"
    path = tmp_path / "vocab.txt"
    path.write_bytes((separator.join(entries) + ending).encode())
    assert read_vocabulary(path) == entries
    result = run(repository, "--from-vocab", path, "--output", tmp_path / "t")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "t" / "vocab.txt").read_bytes() == ("\n".join(entries) + "\n").encode()
    tokenizer = load_tokenizer(tmp_path / "t")
    assert [tokenizer.token_to_id(entry) for entry in entries] == list(range(len(entries)))
    assert tokenizer.encode("aa z", add_special_tokens=False).ids == [0, 4, len(entries) - 1]


def refusals(documents: Path, folder: Path) -> dict[str, tuple[list, str]]:
    """Flags that must be refused, and a part of the sentence that does it."""
    special = "\n".join(SPECIAL_TOKENS)
    files = {
        "no_mask.txt": special.replace("[MASK]", "mask").encode(),
        "double.txt": f"{special}\ncell\ngene\ncell\n".encode(),
        "two_empty.txt": f"{special}\n\ncell\n\n".encode(),
        "latin1.txt": f"{special}\né\n".encode("latin-1"),
        "cased.txt": f"{special}\nAlpha\nBeta\ngamma\n".encode(),
        "empty.txt": b"",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "foreign").mkdir()
    (folder / "foreign" / "notes.txt").write_text("mine")
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "documents-00000.jsonl").write_text("{}\n")
    train = ["--input", documents, "--vocab-size"]
    return {
        "no [MASK]": (["--from-vocab", folder / "no_mask.txt"], "no_mask.txt: the vocabulary has no [MASK]"),
        "double entry": (
            ["--from-vocab", folder / "double.txt"],
            "has the entry 'cell' twice, as ids 5 and 7",
        ),
        "two empty entries": (["--from-vocab", folder / "two_empty.txt"], "has the entry '' twice"),
        "not UTF-8": (["--from-vocab", folder / "latin1.txt"], "is not UTF-8 at byte"),
        "case not said": (["--from-vocab", folder / "cased.txt"], "say --cased or --uncased"),
        "empty file": (["--from-vocab", folder / "empty.txt"], "has no [PAD], [UNK], [CLS], [SEP], [MASK]"),
        "missing file": (["--from-vocab", folder / "nowhere.txt"], "nowhere.txt"),
        "other size": (["--from-vocab", folder / "cased.txt", "--vocab-size", "9"], "has 8 entries, not"),
        "too few words": ([*train, "50000"], "or less, or more text"),
        "too small": ([*train, "30"], "--vocab-size 30 is too small"),
        "no such input": (["--input", folder / "nowhere", "--vocab-size", "99"], "nowhere is not a folder"),
        "unfinished input": (
            ["--input", folder / "unfinished", "--vocab-size", "99"],
            "has no manifest.json",
        ),
        "weight without folder": (
            ["--input", "0.5", documents, "0.5", "--vocab-size", "99"],
            "is neither paths alone nor a weight before each path",
        ),
        "a folder twice": (["--input", documents, documents, "--vocab-size", "99"], "names a path twice"),
        "no words": ([*train, "700", "--max-words", "0"], "--max-words 0"),
        "foreign output": ([*train, "700", "--output", folder / "foreign"], "holds notes.txt"),
    }


@pytest.mark.parametrize("kind", [
    "no [MASK]", "double entry", "two empty entries", "not UTF-8", "case not said", "empty file",
    "missing file", "other size", "too few words", "too small", "no such input", "unfinished input",
    "foreign output", "weight without folder", "a folder twice", "no words",
])  # fmt: skip
def test_bad_input_is_refused_in_one_sentence(repository, documents, tmp_path, kind):
    flags, words = refusals(documents, tmp_path)[kind]
    result = run(repository, "--output", tmp_path / "out", *flags)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert words in result.stderr
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["notes.txt"]


def test_which_real_vocabularies_look_cased(shared_data):
    found = {path.name: looks_cased(read_vocabulary(path)) for path in (shared_data / "vocab").iterdir()}
    assert {name for name, cased in found.items() if cased} == {
        "bert-base-cased-vocab.txt",
        "bio_electra-pmc2017-vocab.txt",
    }
    assert len(found) == 6
