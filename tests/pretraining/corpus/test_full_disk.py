"""A disk that fills up while a corpus stage writes: one sentence that names the file, and nothing half-written.

A disk of 100 kB (tmpfs) where it may be mounted; everywhere a limit on the size of files, an error of the same kind.

python -m pytest -q tests/pretraining/corpus/test_full_disk.py
"""

import gzip
import random
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pretraining.corpus.documents import Document, write_shard, writing_stage
from pretraining.corpus.pubmed import convert
from pretraining.corpus.sentences import convert as split_sentences
from pretraining.corpus.tokenizer import SPECIAL_TOKENS, build_tokenizer, write_tokenizer

REPOSITORY = Path(__file__).parents[3]
ROOM = 100_000  # bytes


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> dict:
    """The command of each stage, without what it writes, and input of the vocabulary; all write 300 kB and more."""
    folder = tmp_path_factory.mktemp("stages")
    words = random.Random(1)
    article = (
        "<PubmedArticle><MedlineCitation><PMID>{}</PMID><Article><ArticleTitle>T.</ArticleTitle><Abstract>"
        "<AbstractText>{}</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>"
    )
    texts = [" ".join(words.choice("abcdefgh") + "." for _ in range(500)) for _ in range(400)]
    records = "".join(article.format(pmid, text) for pmid, text in enumerate(texts, 1))
    xml = folder / "a.xml.gz"
    xml.write_bytes(gzip.compress(f"<PubmedArticleSet>{records}</PubmedArticleSet>".encode()))
    convert([xml], folder / "documents")
    split_sentences([folder / "documents"], folder / "sentences")
    (folder / "tokenizer").mkdir()
    vocabulary = [*SPECIAL_TOKENS, *"abcdefgh."]
    write_tokenizer(folder / "tokenizer", build_tokenizer(vocabulary, lowercase=True, strip_accents=True))
    published = folder / "vocab.txt"
    published.write_text("".join(f"{entry}\n" for entry in [*SPECIAL_TOKENS, *map(str, range(20_000))]))
    with writing_stage(folder / "words", "text", options={}, sentences=True) as stage:
        many = (Document(str(number), f"word{number}") for number in range(20_000))
        stage.files.append(write_shard(folder / "words", 0, many))
    return {
        "pubmed": ["--input", xml],
        "sentences": ["--input", folder / "documents"],
        "index": ["--input", folder / "sentences", "--tokenizer", folder / "tokenizer"],
        "filter": ["--input", folder / "documents"],
        "published": published,
        "words": folder / "words",
    }


@pytest.fixture(params=["small disk", "limit on files"])
def folder_without_room(request, tmp_path):
    """A folder that takes ROOM bytes, and what a process has to do before it writes there."""
    if request.param == "limit on files":
        yield tmp_path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small disk")
    try:
        yield tmp_path, lambda: None
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("stage", ["pubmed", "sentences", "index"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(stages, folder_without_room, stage):
    folder, before = folder_without_room
    output = ["--output-prefix", folder / "c"] if stage == "index" else ["--output", folder / "o"]
    result = subprocess.run(
        [sys.executable, "-m", f"pretraining.corpus.{stage}", *stages[stage], *output],
        cwd=REPOSITORY, capture_output=True, text=True, preexec_fn=before,
    )  # fmt: skip
    work = folder / ("c.work" if stage == "index" else "o.work")
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    name = "00000.[a-z_]+" if stage == "index" else "documents-00000.jsonl"  # the index writes five files at a time
    assert re.match(f"error: {work}/read/{name} cannot be written: ", result.stderr)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["--duplicates", "exact"], "o.work/selected/documents-00000.jsonl"),
        (["--min-characters", "99999", "--removed", "removed"], "o.work/removed/rules/00000.jsonl"),
    ],
)
def test_a_full_disk_ends_the_filter_likewise(stages, folder_without_room, flags, name):
    folder, before = folder_without_room
    output = ["--output", folder / "o", *(folder / flag if flag == "removed" else flag for flag in flags)]
    result = subprocess.run(
        [sys.executable, "-m", "pretraining.corpus.filter", *stages["filter"], *output],
        cwd=REPOSITORY, capture_output=True, text=True, preexec_fn=before,
    )  # fmt: skip
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith(f"error: {folder}/{name} cannot be written: ")
    assert not list((folder / "o").iterdir())


def test_a_full_disk_ends_the_vocabulary_likewise(stages, folder_without_room):
    folder, before = folder_without_room
    for flags, name in (
        (["--input", stages["words"], "--vocab-size", "50"], r"\.o\.counts/0/runs-00000\.0"),
        (["--from-vocab", stages["published"], "--uncased"], "o"),
    ):
        result = subprocess.run(
            [sys.executable, "-m", "pretraining.corpus.vocab", *flags, "--output", folder / "o"],
            cwd=REPOSITORY, capture_output=True, text=True, preexec_fn=before,
        )  # fmt: skip
        assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
        assert re.match(f"error: {folder}/{name} cannot be written: ", result.stderr)
        assert [path.name for path in folder.rglob("*") if path.is_file()] == []
