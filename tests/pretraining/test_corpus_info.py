"""corpus_info: the counts of every stage, samples as the training sees them, traced to documents and files."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pretraining import corpus_info
from pretraining.corpus import index, pmc, pubmed, sentences, text, vocab
from pretraining.corpus.engine import LOCAL
from pretraining.corpus.filter import Plan, filter_corpus
from pretraining.corpus.index import build_index
from pretraining.corpus.indexed import IndexedCorpus
from pretraining.corpus.provenance import describe_stages, files_of_document, with_sources
from pretraining.corpus.selection import Rules
from tests.commands import call
from tests.tiny import make_corpus, make_tokenizer, micro_batches, open_samples, tiny_config

FLAGS = ("--seq-length", "16", "--split", "8,1,1")


def record(pmid: int) -> str:
    words = " ".join(f"w{(pmid * 7 + place) % 400}" for place in range(30))
    return (
        f"<PubmedArticle><MedlineCitation><PMID Version='1'>{pmid}</PMID><Article><ArticleTitle>w{pmid % 400}."
        f"</ArticleTitle><Abstract><AbstractText>{words}.</AbstractText></Abstract></Article></MedlineCitation>"
        "</PubmedArticle>"
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three files of PubMed, ten records each, from XML to index."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "xml").mkdir()
    for number in range(3):
        records = "".join(record(1000 * number + place) for place in range(1, 11))
        text = f"<PubmedArticleSet>{records}</PubmedArticleSet>"
        (folder / "xml" / f"pubmed{number}.xml.gz").write_bytes(gzip.compress(text.encode()))
    pubmed.convert([folder / "xml"], folder / "documents")
    sentences.convert([folder / "documents"], folder / "sentences")
    build_index(folder / "sentences", make_tokenizer(folder / "tokenizer"), str(folder / "c"))
    return folder / "c", folder / "tokenizer"


def test_what_the_corpus_is_and_where_it_came_from(corpus: tuple[Path, Path], repository: Path) -> None:
    command = [sys.executable, "-m", "pretraining.corpus_info", corpus[0], *FLAGS]
    result = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("30 documents, ")
    stages = re.findall(r"stage (\w+): 30 documents kept", result.stdout)
    assert stages == ["index", "sentences", "pubmed"]
    assert "records 30" in result.stdout and "3 input file(s)" in result.stdout
    assert all(f"pubmed{number}.xml.gz" in result.stdout for number in range(3))
    assert len(re.findall(r"^sample ", result.stdout, re.MULTILINE)) == 5
    assert result.stdout.count("MASK:") >= 5 and result.stdout.count("A: [CLS]") == 5


def test_every_sample_is_traced_to_its_document_and_masked_as_in_the_training(
    corpus: tuple[Path, Path],
) -> None:
    samples = open_samples(tiny_config(*corpus, seq_length=16, split="8,1,1", mask_prob=0.15))
    batch = next(
        one for one in micro_batches(samples, 32, 1) if one.sample_ids[0][1] > len(samples) // 2
    )  # not of the first file
    (epoch, number), words = batch.sample_ids[0], IndexedCorpus(corpus[0])
    document = np.searchsorted(words.document_starts, samples.sample_map[number]["sentence"], side="right") - 1
    file, place = divmod(int(document), 10)
    result = call(corpus_info.main, corpus[0], "--sample", number, "--epoch", epoch, *FLAGS)
    assert result.returncode == 0, result.stderr
    assert str(1000 * file + place + 1) in re.search(r"document id: (.*)", result.stdout).group(1)
    assert f"input file: pubmed{file}.xml.gz (sha256 " in result.stdout
    shown = re.findall(r"\[(MASK|KEEP):(\S+)\]", result.stdout)
    positions = batch.masked_positions.tolist()
    mask = samples.special.mask
    kinds = ["MASK" if batch.generator_ids[position] == mask else "KEEP" for position in positions]
    assert [kind for kind, _ in shown] == kinds


def test_an_adopted_corpus_says_so(tmp_path: Path) -> None:
    prefix, tokenizer = make_corpus(tmp_path, documents=20)
    (tmp_path / "c.json").unlink()
    assert call(index.main, "--adopt", prefix, "--tokenizer", tokenizer).returncode == 0
    result = call(corpus_info.main, prefix)
    assert result.returncode == 0, result.stderr
    assert "source: unknown, the corpus was adopted" in result.stdout


@pytest.mark.parametrize("flags, complaint", [
    (["--sample", "100000"], "--sample 100000 is not one of the"),
    (["--tokenizer", "nowhere"], "nowhere is not a tokenizer folder"),
    (["--seq-length", "3"], "--seq-length 3 is outside 4 to"),
])  # fmt: skip
def test_mistakes(corpus: tuple[Path, Path], flags: list[str], complaint: str) -> None:
    result = call(corpus_info.main, corpus[0], *flags)
    assert result.returncode == 1 and complaint in result.stderr and result.stderr.count("\n") == 1


def test_a_full_text_is_traced_to_the_file_that_is_named_after_it(tmp_path: Path) -> None:
    """Many files are one shard; another's name begins with PMC1."""
    (tmp_path / "pmc").mkdir()
    for number in (1, 10, 2):
        (tmp_path / "pmc" / f"PMC{number}.nxml").write_text(
            f'<article><front><article-meta><article-id pub-id-type="pmc">{number}</article-id></article-meta></front>'
            "<body><p>w1 w2 w3.</p></body></article>"
        )
    pmc.convert([tmp_path / "pmc"], tmp_path / "documents")
    sentences.convert([tmp_path / "documents"], tmp_path / "sentences")
    prefix = tmp_path / "c"
    manifest = build_index(tmp_path / "sentences", make_tokenizer(tmp_path / "tokenizer"), str(prefix))
    assert files_of_document(with_sources(prefix, manifest), 0)[2] == "one of 3 input files:"
    result = call(corpus_info.main, prefix, "--split", "1,0,0", "--seq-length", "16", "--sample", 0)
    assert result.returncode == 0, result.stderr
    assert "document id: PMC1\n" in result.stdout and result.stdout.count("input file: ") == 1
    assert "  input file: PMC1.nxml (sha256 " in result.stdout


def test_the_vocabulary_is_described_where_it_is_the_one_that_made_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"the dose {number} of the drug .\n\n" for number in range(20)))
    text.convert([tmp_path / "a.txt"], tmp_path / "text")
    flags = ["--vocab-size", "50", "--workers", "1"]
    made = call(vocab.main, "--input", tmp_path / "text", "--output", tmp_path / "tokenizer", *flags)
    assert made.returncode == 0, made.stderr
    manifest = build_index(tmp_path / "text", tmp_path / "tokenizer", str(tmp_path / "c"))
    assert manifest["tokenizer_manifest"]["sources"][0]["documents"] == 20
    described = "\n".join(describe_stages(with_sources(tmp_path / "c", manifest)))
    assert re.search(r"stage vocab: \d+ entries\n    counts: words 1\d\d,", described)
    assert described.count("code: ") == 3
    (tmp_path / "tokenizer" / "manifest.json").write_text('{"stage": "vocab", "tokenizer_sha256": "of another"}')
    assert "tokenizer_manifest" not in build_index(tmp_path / "text", tmp_path / "tokenizer", str(tmp_path / "d"))


def test_sources_lie_beside_the_manifest_that_every_rank_reads(tmp_path: Path) -> None:
    """A mirror of PMC is millions of files; corpora of before have them in PREFIX.json."""
    for number in range(50):
        (tmp_path / f"{number}.txt").write_text(f"w{number % 10} w2 w3 .\n")
    text.convert(sorted(tmp_path.glob("*.txt")), tmp_path / "text")
    prefix = tmp_path / "c"
    manifest = build_index(tmp_path / "text", make_tokenizer(tmp_path / "tokenizer"), str(prefix))
    assert "49.txt" not in (tmp_path / "c.json").read_text() and len(manifest["sources"]) == 1
    whole = with_sources(prefix, manifest)
    assert [source["name"] for source in whole["sources"][0]["manifest"]["sources"]][-1] == "9.txt"
    shown = call(corpus_info.main, prefix, "--split", "1,0,0", "--seq-length", "16")
    assert shown.returncode == 0 and "50 input file(s)" in shown.stdout
    other = tmp_path / "c.sources.json"
    other.rename(tmp_path / "elsewhere")
    for content, words in ((None, "c.sources.json, which says where"), ("{}", "is that of another corpus; copy it")):
        if content:
            other.write_text(content)
        result = call(corpus_info.main, prefix)
        assert result.returncode == 1 and words in result.stderr and result.stderr.count("\n") == 1
    (tmp_path / "c.json").write_text(json.dumps(whole))
    assert call(corpus_info.main, prefix, "--split", "1,0,0", "--seq-length", "16").stdout == shown.stdout


def test_a_corpus_that_is_not_there(tmp_path: Path) -> None:
    result = call(corpus_info.main, tmp_path / "c")
    assert result.returncode == 1 and "c.json is missing" in result.stderr


def test_a_document_is_traced_through_the_filter_and_not_to_a_file_that_is_a_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two text files of two shards: the first file alone has both."""
    monkeypatch.setattr(text, "SHARD_CHARACTERS", 30)
    (tmp_path / "a.txt").write_text("w1 w2 w3 w4 w5 w6 w7 w8 w9 w10\n\n" * 2)
    (tmp_path / "b.txt").write_text("\n")
    made = text.convert([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "text")
    assert len(made["files"]) == len(made["sources"]) == 2
    filter_corpus(Plan((tmp_path / "text",), Rules()), tmp_path / "kept", LOCAL)
    sentences.convert([tmp_path / "kept"], tmp_path / "sentences")
    manifest = build_index(tmp_path / "sentences", make_tokenizer(tmp_path / "tokenizer"), str(tmp_path / "c"))
    lines = files_of_document(with_sources(tmp_path / "c", manifest), 1)
    assert [line.split(" (")[0] for line in lines] == [
        *(f"{stage}: documents-00001.jsonl" for stage in ("sentences", "filter", "text")),
        "one of 2 input files:", "input file: a.txt", "input file: b.txt",
    ]  # fmt: skip
