"""The manifest PREFIX.json of a corpus: written, read, and compared with a tokenizer. Functions only.

`pretraining.corpus.index` and `adopt` write it last; whoever opens a corpus checks by it whose word pieces it holds.
"""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

from tokenizers import Tokenizer

from pretraining.corpus.code_digest import digest_of_code
from pretraining.corpus.indexed import corpus_path
from pretraining.corpus.tokenizer import casing, tokenizer_sha256, vocabulary_size
from pretraining.corpus.writing import write_whole


def write_manifest(prefix: str | Path, tokenizer_folder: str | Path, tokenizer: Tokenizer, facts: dict) -> dict:
    """Write PREFIX.json, named only when whole: `facts` and what identifies the tokenizer; return it."""
    lowercase, strip_accents = casing(tokenizer)
    manifest = {
        "stage": "index",
        # From here to there, so that whoever moves both keeps it; the hash says whether it is still the same one.
        "tokenizer": os.path.relpath(tokenizer_folder, corpus_path(prefix, "").parent),
        "tokenizer_sha256": tokenizer_sha256(tokenizer_folder),
        "vocab_size": vocabulary_size(tokenizer),
        "lowercase": lowercase,
        "strip_accents": strip_accents,
        **_vocabulary(Path(tokenizer_folder)),
        **facts,
        "versions": {
            "python": platform.python_version(),
            "numpy": version("numpy"),
            "tokenizers": version("tokenizers"),
        },
        "code": digest_of_code(),
    }
    path = corpus_path(prefix, ".json")
    write_whole(path, (json.dumps(manifest, indent=1) + "\n").encode("utf-8"))
    return manifest


def _vocabulary(tokenizer_folder: Path) -> dict:
    """The manifest of the vocab stage, where it made this tokenizer: how it was trained, and on what."""
    try:
        manifest = json.loads((tokenizer_folder / "manifest.json").read_text(encoding="utf-8"))
        made_it = manifest["stage"] == "vocab" and manifest["tokenizer_sha256"] == tokenizer_sha256(tokenizer_folder)
    except (OSError, ValueError, KeyError, TypeError):
        made_it = False
    return {"tokenizer_manifest": manifest} if made_it else {}


def is_index_manifest(path: Path) -> bool:
    """Whether a file is a manifest that `write_manifest` wrote."""
    return _parse(path) is not None


def _parse(path: Path) -> dict | None:
    """The manifest in a file, or None where it is something else."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return manifest if manifest["stage"] == "index" else None
    except (ValueError, KeyError, TypeError):
        return None


def read_index_manifest(prefix: str | Path, tokenizer_folder: str | Path = "DIR") -> dict:
    """Return the manifest of the corpus PREFIX. Raises ValueError if there is none, or it describes another .bin."""
    path = corpus_path(prefix, ".json")
    if not path.is_file():
        raise ValueError(
            f"{path} is missing, so {prefix} is unfinished or not made here; run the index stage again, "
            f"or `python -m pretraining.corpus.index --adopt {prefix} --tokenizer {tokenizer_folder}`"
        )
    manifest = _parse(path)
    if manifest is None:
        raise ValueError(f"{path} is not the manifest of a corpus; run the index stage again")
    bin_path = corpus_path(prefix, ".bin")
    if not bin_path.is_file() or bin_path.stat().st_size != manifest["bin_bytes"]:
        raise ValueError(f"{bin_path} is not the file that {path} describes; make or copy the corpus again")
    return manifest


def check_tokenizer(prefix: str | Path, tokenizer_folder: str | Path) -> dict:
    """Return the manifest of the corpus PREFIX, once it is known that this tokenizer made it.

    Raises ValueError as `read_index_manifest` does, and if another tokenizer made the corpus.
    """
    manifest = read_index_manifest(prefix, tokenizer_folder)
    made_with, given = manifest["tokenizer_sha256"], tokenizer_sha256(tokenizer_folder)
    if made_with != given:
        raise ValueError(
            f"the corpus {prefix} was made with another tokenizer ({manifest['vocab_size']:,} entries, "
            f"sha256 {made_with[:12]}) than {tokenizer_folder} (sha256 {given[:12]}); give that one, "
            "or run the index stage with this one"
        )
    return manifest
