"""The check by which a corpus that other tools made gets a manifest.

Functions only; the command is `python -m pretraining.corpus.index --adopt PREFIX --tokenizer TOKENIZER_DIR`.

Steps of `adopt`: open PREFIX.bin and PREFIX.idx; compare the whole .idx with itself; look at every id in the
.bin, which must be a word piece of the tokenizer; write PREFIX.json, which says whose word pieces they are.
"""

import hashlib
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm

from pretraining.corpus.index_manifest import is_index_manifest, write_manifest
from pretraining.corpus.indexed import IndexedCorpus, corpus_path
from pretraining.corpus.tokenizer import load_tokenizer, special_tokens, vocabulary_size

_SCAN_TOKENS = 1 << 22  # word pieces looked at in one go


def adopt(prefix: str | Path, tokenizer_folder: str | Path) -> dict:
    """Read all of a corpus that Megatron's own tools made, write its manifest, and return that.

    Raises ValueError for a damaged corpus, and for one with ids that are not this tokenizer's word pieces.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    corpus = IndexedCorpus(prefix)
    manifest_path = corpus_path(prefix, ".json")
    if manifest_path.exists() and not is_index_manifest(manifest_path):
        raise ValueError(f"{manifest_path} exists and is not the manifest of a corpus; move it away")
    corpus.verify()
    unknown_word_pieces = _check_tokens(corpus, tokenizer, tokenizer_folder)
    bin_path, idx_path = corpus_path(prefix, ".bin"), corpus_path(prefix, ".idx")
    found = {
        "documents": corpus.num_documents,
        "sentences": corpus.num_sentences,
        "tokens": corpus.num_tokens,
        "bin_bytes": bin_path.stat().st_size,
        "bin_sha256": _file_sha256(bin_path),
        "idx_sha256": _file_sha256(idx_path),
        "sources": [{"stage": "adopted"}],
        "counts": {
            "documents": corpus.num_documents,
            "empty_documents": int((np.diff(corpus.document_starts) == 0).sum()),
            "empty_sentences": int((corpus.sentence_lengths == 0).sum()),
            "unknown_word_pieces": unknown_word_pieces,
        },
    }
    return write_manifest(prefix, tokenizer_folder, tokenizer, found)


def _check_tokens(corpus: IndexedCorpus, tokenizer: Tokenizer, tokenizer_folder: str | Path) -> int:
    """Look at every id; raise ValueError for one that is no word piece; return how many are [UNK]."""
    vocab_size, special, unknown = vocabulary_size(tokenizer), special_tokens(tokenizer), 0
    name_of = {getattr(special, name): f"[{name.upper()}]" for name in ("pad", "cls", "sep", "mask")}
    steps = range(0, corpus.num_tokens, _SCAN_TOKENS)
    for start in tqdm(steps, desc="adopt", unit="block", disable=None):
        tokens = corpus.tokens[start : start + _SCAN_TOKENS]
        smallest, largest = int(tokens.min()), int(tokens.max())
        if smallest < 0 or largest >= vocab_size:
            raise ValueError(
                f"{corpus.prefix}.bin holds the id {largest if smallest >= 0 else smallest}, and "
                f"{tokenizer_folder} has {vocab_size:,} entries; give the tokenizer that made it, and "
                "if Megatron added end-of-document tokens, make it without --append-eod"
            )
        places = np.flatnonzero(np.isin(tokens, list(name_of)))
        if len(places):
            raise ValueError(
                f"{corpus.prefix}.bin holds {name_of[int(tokens[places[0]])]} as word piece "
                f"{start + places[0]:,}, but a corpus is text alone; make it without --append-eod, "
                "or give the tokenizer that made it"
            )
        unknown += int((tokens == special.unk).sum())
    return unknown


def _file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
