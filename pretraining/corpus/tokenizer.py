"""The tokenizer: BERT's WordPiece, built from a vocabulary, saved as and loaded from a Hugging Face folder.

Functions only, no command: `pretraining.corpus.vocab` writes such a folder, `index` and the trainer read it.

A tokenizer folder holds
  tokenizer.json          what decides the ids; the only file that the corpus stages and the trainer read
  tokenizer_config.json   which class `transformers.AutoTokenizer` makes of it, and its casing
  vocab.txt               one piece a line, the line number is the id (BERT's own form)
and `AutoTokenizer.from_pretrained` of that folder gives the same ids as `load_tokenizer` for all text but one
kind: where a text spells a special token, such as "[MASK]", `transformers` takes it for that token and we for
a word between brackets. Raw text is never trusted to contain special tokens.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

CONTINUATION = "##"  # marks a piece that goes on inside a word
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MODEL_MAX_LENGTH = 512  # word pieces; what the exported models have positions for
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


@dataclass(frozen=True)
class SpecialTokens:
    """The ids of the five special tokens, wherever the vocabulary has them."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


def bert_normalizer(lowercase: bool, strip_accents: bool) -> normalizers.Normalizer:
    """BERT's clean-up: no control characters, white space as blanks, blanks around each CJK character."""
    return normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=strip_accents, lowercase=lowercase
    )


def bert_pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    """BERT's words: split at white space, each punctuation character a word of its own."""
    return pre_tokenizers.BertPreTokenizer()


def build_tokenizer(vocabulary: list[str], lowercase: bool, strip_accents: bool) -> Tokenizer:
    """The tokenizer in which `vocabulary[i]` has id i.

    Raises ValueError if a special token is missing or an entry stands twice; an empty entry keeps its id.
    """
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    if len(ids) != len(vocabulary):
        second = next(index for index, piece in enumerate(vocabulary) if ids[piece] != index)
        raise ValueError(
            f"the vocabulary has the entry {vocabulary[second]!r} twice, "
            f"as ids {second} and {ids[vocabulary[second]]}; each entry must stand once"
        )
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
        raise ValueError(f"the vocabulary has no {', '.join(missing)}; all of {' '.join(SPECIAL_TOKENS)} are needed")
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]", continuing_subword_prefix=CONTINUATION))
    tokenizer.normalizer = bert_normalizer(lowercase, strip_accents)
    tokenizer.pre_tokenizer = bert_pre_tokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    # In the order of their ids, as `tokenizers` itself saves them.
    tokens = sorted(SPECIAL_TOKENS, key=ids.__getitem__)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write the three files of a tokenizer into `folder`, which exists; the caller makes that atomic."""
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(_tokenizer_config(tokenizer), encoding="utf-8")
    pieces = tokenizer.get_vocab(with_added_tokens=True)
    lines = [piece + "\n" for piece in sorted(pieces, key=pieces.__getitem__)]
    (folder / "vocab.txt").write_text("".join(lines), encoding="utf-8", newline="\n")


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a folder: truncation and padding off, special tokens in raw text taken as plain text.

    Raises ValueError if the folder has no tokenizer.json, or one that is unreadable or lacks a special token.
    """
    path = _tokenizer_json(folder)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # `tokenizers` raises nothing narrower
        raise ValueError(f"{path} is not a tokenizer that `tokenizers` can read ({error})") from None
    missing = [token for token in SPECIAL_TOKENS if tokenizer.token_to_id(token) is None]
    if missing:
        raise ValueError(f"{path} has no {', '.join(missing)}; pretraining needs all of {' '.join(SPECIAL_TOKENS)}")
    # Folders saved by `transformers` often carry a length limit, which would silently cut every sentence.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """The ids of the special tokens of a tokenizer from `load_tokenizer`."""
    return SpecialTokens(*(tokenizer.token_to_id(token) for token in SPECIAL_TOKENS))


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id: the number of rows that an embedding table needs."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def casing(tokenizer: Tokenizer) -> tuple[bool | None, bool | None]:
    """(lowercase, strip_accents) of a tokenizer with BERT's normalisation, (None, None) of another."""
    state = json.loads(tokenizer.to_str())["normalizer"]
    if not state or state.get("type") != "BertNormalizer":
        return None, None
    lowercase, strip_accents = state["lowercase"], state["strip_accents"]
    return lowercase, lowercase if strip_accents is None else strip_accents


def tokenizer_sha256(folder: str | Path) -> str:
    """SHA-256 of tokenizer.json, hexadecimal: two folders with the same one give the same ids."""
    return hashlib.sha256(_tokenizer_json(folder).read_bytes()).hexdigest()


def save_tokenizer_files(source: str | Path, target: str | Path) -> None:
    """Copy the files of the tokenizer folder `source` into the folder `target`, for an exported model.

    A source without tokenizer_config.json gets one, because `transformers` would otherwise guess the casing.
    """
    source, target = Path(source), Path(target)
    tokenizer = load_tokenizer(source)
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if not (source / "tokenizer_config.json").is_file():
        (target / "tokenizer_config.json").write_text(_tokenizer_config(tokenizer), encoding="utf-8")


def _tokenizer_json(folder: str | Path) -> Path:
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        raise ValueError(
            f"{os.fspath(folder)} is not a tokenizer folder, it has no tokenizer.json; "
            "make one with `python -m pretraining.corpus.vocab`"
        )
    return path


def _tokenizer_config(tokenizer: Tokenizer) -> str:
    """tokenizer_config.json as text.

    BertTokenizer is what `transformers` itself takes for ELECTRA. It reads the vocabulary from tokenizer.json
    and the rest from these fields, so they must say the same as tokenizer.json.
    """
    lowercase, strip_accents = casing(tokenizer)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast" if lowercase is None else "BertTokenizer",
        "do_lower_case": lowercase,
        "strip_accents": strip_accents,
        "tokenize_chinese_chars": True,
        "model_max_length": MODEL_MAX_LENGTH,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return json.dumps({key: value for key, value in config.items() if value is not None}, indent=2) + "\n"
