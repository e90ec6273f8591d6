"""Where a corpus came from, read from its manifest PREFIX.json and from PREFIX.sources.json.

Functions only; `python -m pretraining.corpus_info PREFIX` prints what they return.

PREFIX.sources.json is the manifest of the stage before, which holds those of all stages before it. With a mirror of PMC
it has an entry for each of millions of articles: PREFIX.json, which every rank reads, has only its SHA-256.

Steps: (1) `with_sources` puts the manifests together; (2) `describe_stages` goes back through the stages, a paragraph
for each; `files_of_document` follows one document back: index -> shard of the last stage -> the shard that was made
from -> the input file that was read.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pretraining.corpus.indexed import corpus_path

SOURCES = ".sources.json"

FILES_NAMED = 5  # input files that a paragraph names; the manifest has all
ONE_SHARD_A_TASK = ("pubmed", "pmc")  # so as many shards as files are one each; text and records cut by length


def with_sources(prefix: str | Path, manifest: dict) -> dict:
    """The manifest of the corpus PREFIX with those of the stages before it in its "sources".

    Raises ValueError where PREFIX.sources.json is not there or is that of another corpus.
    """
    source = manifest["sources"][0]
    if "sha256" not in source or "manifest" in source:  # adopted; or made when PREFIX.json still held them
        return manifest
    path = corpus_path(prefix, SOURCES)
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != source["sha256"]:
        state = "is that of another corpus" if content else "is missing"
        raise ValueError(
            f"{path}, which says where {prefix} came from, {state}; copy it from where the corpus was made, or run the "
            "index stage again"
        )
    return manifest | {"sources": [source | {"manifest": json.loads(content)}]}


def describe_stages(manifest: dict, depth: int = 0) -> Iterator[str]:
    """Lines about a stage and those before it: counts, flags, versions, code, input files with sizes and checksums."""
    indent, vocabulary = "  " * depth, manifest["stage"] == "vocab"
    made = f"{manifest['vocab_size']:,} entries" if vocabulary else f"{manifest.get('documents', 0):,} documents kept"
    yield f"{indent}stage {manifest['stage']}: {made}"
    counts = {name.replace("_", " "): number for name, number in manifest.get("counts", {}).items()}
    if counts:
        yield f"{indent}  counts: " + ", ".join(f"{name} {number:,}" for name, number in counts.items())
    for title in ("options", "versions"):
        if manifest.get(title):
            yield f"{indent}  {title}: " + ", ".join(f"{name} {value}" for name, value in manifest[title].items())
    if "code" in manifest:
        yield f"{indent}  code: {manifest['code'][:16]}"
    stages = [source for source in manifest["sources"] if "manifest" in source]
    files = [source for source in manifest["sources"] if "sha256" in source and "manifest" not in source]
    for before in [manifest.get("tokenizer_manifest"), *(source["manifest"] for source in stages)]:
        if before:
            yield from describe_stages(before, depth + 1)
    if files:
        yield f"{indent}  {len(files):,} input file(s), {sum(source['bytes'] for source in files):,} bytes"
    for source in files[:FILES_NAMED]:
        yield f"{indent}    {source['name']}  {source['bytes']:,} bytes  sha256 {source['sha256'][:16]}"
    if len(files) > FILES_NAMED:
        yield f"{indent}    ... and {len(files) - FILES_NAMED:,} more"


def files_of_document(manifest: dict, document: int, identity: str = "") -> list[str]:
    """Lines naming the shards and the input file of a document of the index, as far back as the manifests go.

    `identity` is its id, after which a mirror of PMC names the file.
    """
    if "shards" not in manifest:
        return ["source: unknown, the corpus was adopted from other tools"]
    ends = np.cumsum([shard["documents"] for shard in manifest["shards"]])
    number = int(np.searchsorted(ends, document, side="right"))
    lines, stage = [], manifest["sources"][0]["manifest"]
    while True:
        lines.append(f"{stage['stage']}: {_entry(stage['files'][number])}")
        before = [source["manifest"] for source in stage["sources"] if "manifest" in source]
        if not before or sum(len(one["files"]) for one in before) != len(stage["files"]):
            return lines + _input_file(stage, number, identity)
        # A stage writes one shard for each that it reads, in the order of its sources.
        for one in before:
            if number < len(one["files"]):
                stage = one
                break
            number -= len(one["files"])


def _input_file(stage: dict, number: int, identity: str) -> list[str]:
    """The file that shard `number` was read from; all of them where a reader does not keep them apart."""
    files = [source for source in stage["sources"] if "sha256" in source and "manifest" not in source]
    if stage["stage"] in ONE_SHARD_A_TASK and len(files) == len(stage["files"]):
        files = [files[number]]
    if stage["stage"] == "pmc":
        files = [source for source in files if source["name"].partition(".")[0] == identity] or files
    names = [f"input file: {_entry(source)}" for source in files[:FILES_NAMED]]
    if len(files) > 1:
        names.insert(0, f"one of {len(files):,} input files:")
    return names


def _entry(entry: dict) -> str:
    return f"{entry['name']} (sha256 {entry['sha256'][:16]})"
