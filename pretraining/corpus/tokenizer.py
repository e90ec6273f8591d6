"""The tokenizer: WordPiece, BPE or Unigram around one vocabulary, saved as and loaded from a Hugging Face folder.

Functions only, no command: `pretraining.corpus.vocab` writes such a folder, `index` and the trainer read it.

    kind        words that are cut                              what marks a piece         unknown
    wordpiece   BERT's: punctuation and CJK characters apart    ## before one that goes on words with a rare character
    bpe         GPT-2's, as UTF-8 bytes                         a blank (Ġ) begins a word  nothing
    unigram     SentencePiece's: what blanks separate           a blank (▁) begins a word  rare characters

The clean-up before that is BERT's for all: no control characters, and lower case and accents as two flags say.

A tokenizer folder holds
  tokenizer.json          what decides the ids; the only file that the corpus stages and the trainer read
  tokenizer_config.json   which class `transformers.AutoTokenizer` makes of it, and its casing
  vocab.txt               WordPiece only: one piece a line, the line number is the id (BERT's own form)
and `AutoTokenizer.from_pretrained` of that folder gives the same ids as `load_tokenizer` for all text but one
kind: where a text spells a special token, such as "[MASK]", `transformers` takes it for that token and we for
a word between brackets. Raw text is never trusted to contain special tokens. A Unigram model would find one among
its pieces; therefore its words are cut after each "[", too.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Model, WordPiece

KINDS = ("wordpiece", "bpe", "unigram")
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


def normalizer_of(kind: str, lowercase: bool, strip_accents: bool) -> normalizers.Normalizer:
    """BERT's clean-up: no control characters, white space as blanks; for WordPiece, blanks around CJK characters."""
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=kind == "wordpiece",
        strip_accents=strip_accents,
        lowercase=lowercase,
    )


def pre_tokenizer_of(kind: str) -> pre_tokenizers.PreTokenizer:
    """What cuts clean text into the words of a kind; those of a text are those of its parts between blanks."""
    if kind == "wordpiece":
        return pre_tokenizers.BertPreTokenizer()
    if kind == "bpe":
        return pre_tokenizers.ByteLevel(add_prefix_space=True)
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Split("[", behavior="merged_with_previous")]
    )


def build_tokenizer(vocabulary: list[str], lowercase: bool, strip_accents: bool) -> Tokenizer:
    """The WordPiece tokenizer in which `vocabulary[i]` has id i.

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
    model = WordPiece(ids, unk_token="[UNK]", continuing_subword_prefix=CONTINUATION)
    return assemble_tokenizer(model, "wordpiece", lowercase, strip_accents)


def assemble_tokenizer(model: Model, kind: str, lowercase: bool, strip_accents: bool) -> Tokenizer:
    """The tokenizer around a model of one of KINDS that has all special tokens."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer_of(kind, lowercase, strip_accents)
    tokenizer.pre_tokenizer = pre_tokenizer_of(kind)
    ids = {token: model.token_to_id(token) for token in SPECIAL_TOKENS}
    template = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    if kind == "bpe":  # its blanks are no part of the text that a piece stands for
        template = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    tokenizer.post_processor = template
    tokenizer.decoder = {
        "wordpiece": decoders.WordPiece(prefix=CONTINUATION),
        "bpe": decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", left=1)]),  # no blank before a text
        "unigram": decoders.Metaspace(),
    }[kind]
    # In the order of their ids, as `tokenizers` itself saves them. The blank before a mask would be a piece by itself
    # where blanks begin words.
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False, lstrip=token == "[MASK]" and kind != "wordpiece")
            for token in sorted(SPECIAL_TOKENS, key=ids.__getitem__)
        ]
    )
    return tokenizer


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """Write the files of a tokenizer into `folder`, which exists; the caller makes that atomic."""
    # not `save`, whose error on a full disk is no OSError
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8", newline="\n")
    (folder / "tokenizer_config.json").write_text(_tokenizer_config(tokenizer), encoding="utf-8")
    if kind_of(tokenizer) != "wordpiece":
        return
    pieces = tokenizer.get_vocab(with_added_tokens=True)
    lines = [piece + "\n" for piece in sorted(pieces, key=pieces.__getitem__)]
    (folder / "vocab.txt").write_text("".join(lines), encoding="utf-8", newline="\n")


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a folder: truncation and padding off, special tokens in raw text taken as plain text.

    Raises ValueError if the folder has no tokenizer.json, or one that is unreadable, that lacks a special token or
    that finds one in plain text.
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
    for token in SPECIAL_TOKENS:
        if token != "[UNK]" and tokenizer.token_to_id(token) in tokenizer.encode(token, add_special_tokens=False).ids:
            raise ValueError(
                f"{path} takes the text {token} for the special token, so that a corpus could contain it; "
                "train a vocabulary with `python -m pretraining.corpus.vocab`"
            )
    return tokenizer


def special_tokens(tokenizer: Tokenizer) -> SpecialTokens:
    """The ids of the special tokens of a tokenizer from `load_tokenizer`."""
    return SpecialTokens(*(tokenizer.token_to_id(token) for token in SPECIAL_TOKENS))


def vocabulary_size(tokenizer: Tokenizer) -> int:
    """One more than the largest id: the number of rows that an embedding table needs."""
    return max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1


def kind_of(tokenizer: Tokenizer) -> str:
    """Which of KINDS a tokenizer is; the name of its model in small letters if none of them."""
    return type(tokenizer.model).__name__.lower()


def piece_text(tokenizer: Tokenizer, piece: int) -> str:
    """The text that a word piece adds to what stands before it, with a blank in front if it begins a word."""
    token = tokenizer.id_to_token(piece)
    if kind_of(tokenizer) == "wordpiece" or token in SPECIAL_TOKENS:
        return token.removeprefix(CONTINUATION) if token.startswith(CONTINUATION) else f" {token}"
    # Between two others, where no decoder takes a blank away.
    return tokenizer.decoder.decode(["a", token, "a"])[1:-1]


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
    and the rest from these fields, so they must say the same as tokenizer.json. PreTrainedTokenizerFast takes all
    from tokenizer.json.
    """
    lowercase, strip_accents = casing(tokenizer)
    is_bert = kind_of(tokenizer) == "wordpiece" and lowercase is not None
    config = {
        "tokenizer_class": "BertTokenizer" if is_bert else "PreTrainedTokenizerFast",
        "do_lower_case": lowercase,
        "strip_accents": strip_accents,
        "tokenize_chinese_chars": is_bert or None,
        "model_max_length": MODEL_MAX_LENGTH,
        # BertTokenizer names them itself; without them `transformers` gives no segments.
        "model_input_names": None if is_bert else ["input_ids", "token_type_ids", "attention_mask"],
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    return json.dumps({key: value for key, value in config.items() if value is not None}, indent=2) + "\n"
