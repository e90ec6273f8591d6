"""The tokenizer folder: ours against `transformers` and BERT's own Python tokenizer; refusals."""

import json
import lzma
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.normalizers import Sequence
from tokenizers.pre_tokenizers import Metaspace
from transformers import AutoTokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from pretraining.corpus.tokenizer import (
    KINDS,
    SPECIAL_TOKENS,
    SpecialTokens,
    assemble_tokenizer,
    build_tokenizer,
    casing,
    kind_of,
    load_tokenizer,
    piece_text,
    save_tokenizer_files,
    special_tokens,
    tokenizer_sha256,
    vocabulary_size,
    write_tokenizer,
)
from pretraining.corpus.vocab import read_vocabulary
from pretraining.corpus.vocab_train import train_model
from pretraining.corpus.word_counts import Words, cut_units, select_words

HARD_TEXT = [
    "Ünïcödé naïve β-catenin, 5 µM of α₁ (n=12); 漢字 and İstanbul",
    "ΟΔΥΣΣΕΎσ Straße \u00e9 ﬁbre Ⅻ ½ x² H₂O",
    "x" * 100,
    "x" * 101,
    "",
    " \t ",
    "\x00 a\u200db \ufeff c\u00a0d\u2028e\u3000f \ufffd",
    "don't e.g. 3.14 (p<0.05) A/B a_b ~ $5 ^ `q` “quoted” – em—dash… 5′-CpG-3′",
    "## ##s a##b [ MASK ] [mask]",
]

# Where `tokenizers` and BERT's Python tokenizer are known to differ: Python has a second small sigma for the
# ends of words, and that tokenizer composes accents (as our reading stages do) where it keeps them.
DIFFERENT_TEXT = ["ΟΔΥΣΣΕΥΣ", "e\u0301"]

# name of the file: (lowercase, strip_accents, entries, ids of the special tokens)
REAL_VOCABULARIES = {
    "bert-base-cased-vocab.txt": (False, 28_996, SpecialTokens(0, 100, 101, 102, 103)),
    "bert-base-uncased-vocab.txt": (True, 30_522, SpecialTokens(0, 100, 101, 102, 103)),
    "bio_electra-pmc2017-vocab.txt": (False, 31_620, SpecialTokens(0, 1, 2, 3, 4)),
    "exbert-vocab.txt": (True, 48_180, SpecialTokens(0, 100, 101, 102, 103)),
    "pubmedbert-uncased-vocab.txt": (True, 28_895, SpecialTokens(0, 1, 2, 3, 4)),
    "scivocab-uncased-vocab.txt": (True, 31_090, SpecialTokens(0, 101, 102, 103, 104)),
}


def small_vocabulary() -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyzABCéβ0123456789.,-[]#"
    words = ["cell", "##ls", "gene", "##tic", "the", "", "##ing", "mask", "MASK", "beta", "##eta"]
    return ["[PAD]", "alone", *SPECIAL_TOKENS[1:], *letters, *("##" + letter for letter in letters), *words]


def write_folder(folder: Path, vocabulary: list[str], lowercase: bool, strip_accents: bool) -> Path:
    folder.mkdir()
    write_tokenizer(folder, build_tokenizer(vocabulary, lowercase, strip_accents))
    return folder


def reference_ids(text: str, vocabulary: list[str], lowercase: bool, strip_accents: bool) -> list[int]:
    """BERT's tokenizer as its paper's code describes it, for text without CJK and control characters."""
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    if lowercase:
        text = text.lower()
    if strip_accents:
        text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    spaced = "".join(f" {c} " if unicodedata.category(c)[0] == "P" or c in "$+<=>^`|~" else c for c in text)
    found = []
    for word in spaced.split():
        pieces, start = [], 0
        while start < len(word) <= 100:
            candidates = (("##" if start else "") + word[start:end] for end in range(len(word), start, -1))
            piece = next((candidate for candidate in candidates if candidate in ids), None)
            if piece is None:
                break
            pieces.append(ids[piece])
            start += len(piece) - (2 if start else 0)
        found += pieces if start == len(word) else [ids["[UNK]"]]
    return found


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("strip_accents", [True, False])
def test_ids_are_those_of_the_reference(tmp_path, lowercase, strip_accents):
    vocabulary = small_vocabulary()
    ours = load_tokenizer(write_folder(tmp_path / "t", vocabulary, lowercase, strip_accents))
    texts = [
        "The cells, genes and Genetic masking.",
        "Béta béta βeta",
        "Cells-B 3.14 [MASK] [SEP]",
        "x" * 101,
    ]
    for text in texts:
        expected = reference_ids(text, vocabulary, lowercase, strip_accents)
        assert ours.encode(text, add_special_tokens=False).ids == expected, text
    assert casing(ours) == (lowercase, strip_accents)
    assert ours.get_vocab_size() == vocabulary_size(ours) == len(vocabulary)
    assert ours.token_to_id("") == vocabulary.index("")


def test_accents_are_a_flag_of_their_own(tmp_path):
    vocabulary = small_vocabulary()
    ids = {}
    for strip_accents in (True, False):
        folder = write_folder(tmp_path / str(strip_accents), vocabulary, True, strip_accents)
        ids[strip_accents] = load_tokenizer(folder).encode("É", add_special_tokens=False).tokens
    assert ids == {True: ["e"], False: ["é"]}


@pytest.mark.parametrize("lowercase,strip_accents", [(True, True), (True, False), (False, False), (False, True)])
def test_transformers_loads_the_folder_with_the_same_ids(tmp_path, lowercase, strip_accents):
    vocabulary = small_vocabulary()
    folder = write_folder(tmp_path / "t", vocabulary, lowercase, strip_accents)
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert len(theirs) == theirs.vocab_size == len(vocabulary)
    assert (theirs.do_lower_case, theirs.strip_accents) == (lowercase, strip_accents)
    assert theirs.model_max_length == 512
    special = special_tokens(ours)
    assert theirs.convert_tokens_to_ids(vocabulary) == list(range(len(vocabulary)))
    assert theirs.mask_token_id == special.mask and theirs.pad_token_id == special.pad
    for text in HARD_TEXT + DIFFERENT_TEXT:
        expected = ours.encode(text, add_special_tokens=False).ids
        assert theirs(text, add_special_tokens=False)["input_ids"] == expected, text
    pair = theirs("a", "b")
    a, b = (vocabulary.index(letter) for letter in "ab")
    assert pair["input_ids"] == [special.cls, a, special.sep, b, special.sep]
    assert pair["token_type_ids"] == [0, 0, 0, 1, 1]
    assert theirs("a [MASK]", add_special_tokens=False)["input_ids"] == [a, special.mask]


def test_raw_text_never_gives_special_tokens(tmp_path):
    ours = load_tokenizer(write_folder(tmp_path / "t", small_vocabulary(), False, False))
    for token in SPECIAL_TOKENS:
        encoded = ours.encode_batch_fast([f"the {token} cell"], add_special_tokens=False)[0]
        assert ours.token_to_id(token) not in encoded.ids or token == "[UNK]"
        assert encoded.ids[1] == ours.token_to_id("[")


def test_a_length_limit_in_the_file_is_not_obeyed(tmp_path):
    tokenizer = build_tokenizer(small_vocabulary(), True, True)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    write_tokenizer(tmp_path, tokenizer)
    ids = load_tokenizer(tmp_path).encode_batch_fast(["the cell the gene the", "the"], add_special_tokens=False)
    assert [len(one.ids) for one in ids] == [5, 1]


def small_tokenizer(kind: str) -> Tokenizer:
    """A tokenizer of any kind in which letters are pieces."""
    if kind == "wordpiece":
        return build_tokenizer(small_vocabulary(), True, True)
    words = Words(kind, True, True)
    units = Counter({word: 5 for line in [*HARD_TEXT[:2], "masks mask of cells ] x]"] for word in line.split()})
    counts = select_words(sorted(cut_units(units, words).items()), 1000)
    return assemble_tokenizer(train_model(kind, counts, 275 if kind == "bpe" else 58), kind, True, True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_loads_with_the_same_ids_and_masks(tmp_path, kind):
    write_tokenizer(tmp_path, small_tokenizer(kind))
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert kind_of(ours) == kind and casing(ours) == (True, True)
    assert len(theirs) == vocabulary_size(ours) and theirs.model_max_length == 512
    assert [theirs.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS] == list(
        vars(special_tokens(ours)).values()
    )
    for text in HARD_TEXT + DIFFERENT_TEXT:
        ids = ours.encode(text, add_special_tokens=False).ids
        assert theirs(text, add_special_tokens=False)["input_ids"] == ids, text
    for token in SPECIAL_TOKENS:
        ids = ours.encode_batch_fast([f"cells{token} {token} mask"], add_special_tokens=False)[0].ids
        assert ours.token_to_id(token) not in ids or token == "[UNK]"
    pair, one, mask = (
        theirs("cells", "mask"),
        theirs("cells", add_special_tokens=False)["input_ids"],
        theirs.mask_token_id,
    )
    other = theirs("mask", add_special_tokens=False)["input_ids"]
    special = special_tokens(ours)
    assert pair["input_ids"] == [special.cls, *one, special.sep, *other, special.sep]
    assert pair["token_type_ids"] == [0] * (len(one) + 2) + [1] * (len(other) + 1)
    assert theirs("cells [MASK] mask", add_special_tokens=False)["input_ids"] == [*one, mask, *other]
    assert theirs(["cells", "mask"], is_split_into_words=True, add_special_tokens=False)["input_ids"] == one + other


@pytest.mark.parametrize("kind", KINDS)
def test_text_of_pieces(kind):
    tokenizer = small_tokenizer(kind)
    ids = tokenizer.encode("masks of cells", add_special_tokens=False).ids
    assert "".join(piece_text(tokenizer, piece) for piece in ids) == " masks of cells"
    assert piece_text(tokenizer, tokenizer.token_to_id("[CLS]")) == " [CLS]"
    assert tokenizer.decode(ids) == "masks of cells"


def test_a_tokenizer_that_takes_text_for_special_tokens_is_refused(tmp_path):
    """As SentencePiece's models do where the special tokens are among their pieces."""
    pieces = [(token, 0.0) for token in SPECIAL_TOKENS] + [("▁", -1.0), ("a", -2.0)]
    tokenizer = assemble_tokenizer(Unigram(pieces, 1), "unigram", True, True)
    tokenizer.normalizer, tokenizer.pre_tokenizer = Sequence([]), Metaspace()
    write_tokenizer(tmp_path, tokenizer)
    with pytest.raises(ValueError, match=r"takes the text \[PAD\] for the special token"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_a_missing_special_token_is_refused(tmp_path, token):
    vocabulary = [piece for piece in small_vocabulary() if piece != token]
    with pytest.raises(ValueError, match=rf"no \{token[:-1]}\]"):
        build_tokenizer(vocabulary, True, True)
    folder = write_folder(tmp_path / "t", small_vocabulary(), True, True)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["added_tokens"] = [entry for entry in content["added_tokens"] if entry["content"] != token]
    index = content["model"]["vocab"].pop(token)
    content["model"]["vocab"]["other"] = index
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"tokenizer\.json has no \{token[:-1]}\]"):
        load_tokenizer(folder)


def test_a_double_entry_is_refused():
    with pytest.raises(ValueError, match="'cell' twice"):
        build_tokenizer([*small_vocabulary(), "cell"], True, True)


def test_a_folder_without_a_usable_tokenizer_is_refused(tmp_path):
    for call in (load_tokenizer, tokenizer_sha256):
        with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
            call(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="not a tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("with_config", [True, False])
@pytest.mark.parametrize("in_model_folder", [True, False])
def test_saved_files_load_alone(tmp_path, with_config, in_model_folder):
    source, target = write_folder(tmp_path / "source", small_vocabulary(), False, True), tmp_path / "target"
    target.mkdir()
    if not with_config:
        (source / "tokenizer_config.json").unlink()
    save_tokenizer_files(source, target)
    if in_model_folder:
        (target / "config.json").write_text('{"model_type": "electra"}', encoding="utf-8")
    theirs = AutoTokenizer.from_pretrained(target)
    assert tokenizer_sha256(source) == tokenizer_sha256(target)
    assert (theirs.do_lower_case, theirs.strip_accents) == (False, True)
    assert theirs.tokenize("BA é") == ["B", "##A", "e"]


@pytest.mark.parametrize("name", REAL_VOCABULARIES)
def test_real_vocabularies(tmp_path, shared_data, name):
    lowercase, entries, special = REAL_VOCABULARIES[name]
    path = shared_data / "vocab" / name
    vocabulary = read_vocabulary(path)
    assert len(vocabulary) == entries
    folder = write_folder(tmp_path / "t", vocabulary, lowercase, lowercase)
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert special_tokens(ours) == special
    assert vocabulary_size(ours) == len(theirs) == entries
    assert theirs.convert_tokens_to_ids([p for p in vocabulary if p]) == [i for i, p in enumerate(vocabulary) if p]
    if name.startswith("scivocab"):
        assert ours.token_to_id("") == 30_106 and ours.id_to_token(30_106) == ""
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    assert (folder / "vocab.txt").read_bytes() == (tmp_path / "vocab.txt").read_bytes()

    with lzma.open(shared_data / "pretrain" / "PubMedAbstract_1MB.txt.xz", "rt", encoding="utf-8") as file:
        texts = [line for line, _ in zip(file, range(60), strict=False)] + HARD_TEXT
    original = BertTokenizerLegacy(str(path), do_lower_case=lowercase, strip_accents=lowercase)
    for text in texts:
        expected = original.convert_tokens_to_ids(original.tokenize(text))
        assert ours.encode(text, add_special_tokens=False).ids == expected, text
        assert theirs(text, add_special_tokens=False)["input_ids"] == expected, text
