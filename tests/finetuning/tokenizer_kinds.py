"""Tiny random encoders with the kinds of tokenizers that published ones have, trained on a few sentences of ours.

    folder = model_of("modernbert", tmp_path)  # a Hugging Face folder; names in KINDS

Unigram with the mark `▁` as ALBERT (lower case, accents stripped, with and without SentencePiece's compiled rules),
XLM-RoBERTa (these rules alone), DeBERTa-v3 (cased) and a bare tokenizer.json (NFKC, lower case) have it; byte-level BPE
with and without a blank before the text, offsets trimmed or not, as RoBERTa's class and as ModernBERT's bare
tokenizer.json.
"""

import base64
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import (
    AlbertConfig,
    AlbertTokenizer,
    AutoModel,
    DebertaV2Config,
    DebertaV2Tokenizer,
    ElectraConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
    XLMRobertaConfig,
    XLMRobertaTokenizer,
)

from finetuning.encoder import quiet_transformers
from tests.finetuning.questions import CONTEXTS
from tests.finetuning.samples import SENTENCES, pairs

# A text, and what is sought in it: normalisation changes lengths, blanks are not all ASCII, characters take 4 bytes.
ODD = [
    ("ﬁbrosis of the liver", "ﬁbrosis"),
    ("the lung has ﬁbrosis", "ﬁbrosis"),
    ("given 5 µM of it", "5 µM"),
    ("spots like cafe\u0301 au lait", "cafe\u0301"),
    ("the patients had Sjo\u0308gre\u0301", "Sjo\u0308gre\u0301"),
    ("a dose of 5\u2009mg\u00a0daily", "5\u2009mg"),
    ("a\u2003liver was seen", "liver"),
    ("in the 🧬 of 𝛽-catenin, 🧬", "𝛽-catenin"),
    ("seen: 🧬", "🧬"),
    ("\ufeffNaloxone reverses it", "Naloxone"),
    ("  lithium  carbonate  \n", "carbonate"),
    ("liver\u200b failure\u200b", "failure"),
    ("liver failure\t was\r\nseen", "failure"),
    ("½ of ㎎ doses… and more", "㎎ doses"),
    ("with [SEP] and [MASK] </s>", "[SEP] and"),
]
# What SentencePiece 0.2.3 makes of our --normalization_rule_tsv for these characters: ligature, micro sign, composed
# letters, blanks, fraction, square, dots, italic beta. Published models have its nmt_nfkc so, 240,007 bytes.
CHARSMAP = (
    "c-kG)cWg~z9LDkI97HObNF)-8KaAR3TEyOa@4ZJ=N!6%b+^ZL@*40w8N^Rv@rL}q$*G^qU?cEY2_Pnvb$4NeU-Z#JZob#UdeUFMtDlY{DNF|C%"
    "hGfqzX)3U+<e*>L>Ia#M4V22zPOBi5Ba6cxWvU1n(_M1aH|1h{Df-rZ47YnCq@2c5JjrE`3zbr%O?jyEczb4NDaCKfoo`xGP$g7EWdxxrs-QZm"
    "p(bjeHfo^`YzRhO)I$gwVCQS8A$gMbF$Fb3Q#3(yG($_YKx?!@TeLxYv_nU90Mk?_bVV2Nx$1_V=z-qog}&&6{^*B+7=XbTgrOLM;TVRI7=h6k"
    "g|Qd|mPz9fhR6g{;p7BN!bDih8JcV=lAMgGn1bn;h8c*$EX>3l%*H&-#e76#Ar`=4Z4P3v2#evwQY=9nViAvJSdIj&fD1`T#44=BY9wPV)?hu>"
    "Aq5+dijCNeP1u4oY{ORUz;^7i_7UmWjlI}|eQ@Id_Tvx^;xIChi6c0QEF8x%>nz{|Jjg~4PT>qr!;7;xk8`+)3%HC+R?TVX3V9W|xCS4tBM&!m"
    "1GkWmJGhN|xQhq4k4JcjCwPo!c#1+4;02!JCEmLYag_DSswEmK%ro?s_8Y5)cld}8_>52ZiZA$%Z&uB3$WQ*n5B$b2{KX&r|Nm_^n}Q1*&Jc|c"
    "S45b+>GEdDmmy!a{sFkZrX&"
)
TRAINED_ON = [" ".join(word for word, _ in pairs(one)) for one in SENTENCES] + CONTEXTS + [text for text, _ in ODD[:5]]
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.1,
}
SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ALBERT_SPECIAL = SPECIAL | {"pad": "<pad>", "unk": "<unk>"}
BYTE_SPECIAL = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}


def names_of(special: dict[str, str]) -> dict[str, str]:
    """As the classes of transformers take them."""
    return {f"{name}_token": token for name, token in special.items()}


def trained_unigram(normalizer: normalizers.Normalizer, special: dict[str, str]) -> Tokenizer:
    """Special pieces first, as in the vocabularies of ALBERT and DeBERTa-v3 (so that text can be taken for one)."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokens = list(special.values())
    tokenizer.train_from_iterator(
        TRAINED_ON,
        UnigramTrainer(vocab_size=140, special_tokens=tokens, unk_token=special["unk"], show_progress=False),
    )
    cls, sep = special["cls"], special["sep"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(cls, tokens.index(cls)), (sep, tokens.index(sep))],
    )
    return tokenizer


def unigram() -> PreTrainedTokenizerFast:
    """No class of its own; the truncation and padding that its tokenizer.json sets are not to cut our texts."""
    tokenizer = trained_unigram(normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), SPECIAL)
    tokenizer.enable_truncation(6)
    tokenizer.enable_padding(length=6)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names_of(SPECIAL))


def albert() -> PreTrainedTokenizerBase:
    """NFKD without accents, lower case."""
    parts = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    model = trained_unigram(normalizers.Sequence(parts), ALBERT_SPECIAL).model
    return AlbertTokenizer(vocab=vocabulary(model), **names_of(ALBERT_SPECIAL))


def deberta() -> PreTrainedTokenizerBase:
    """NFC, cased."""
    return DebertaV2Tokenizer(vocab=vocabulary(trained_unigram(normalizers.NFC(), SPECIAL).model), **names_of(SPECIAL))


def vocabulary(model: models.Unigram) -> list[tuple[str, float]]:
    """Pieces and their scores."""
    return [tuple(pair) for pair in json.loads(Tokenizer(model).to_str())["model"]["vocab"]]


def charsmap() -> bytes:
    """SentencePiece's compiled rules of normalisation, as tokenizer.json has them under "Precompiled"."""
    return zlib.decompress(base64.b85decode(CHARSMAP))


def albert_charsmap() -> PreTrainedTokenizerBase:
    """As albert() and then the compiled rules: the published ALBERT's."""
    parts = [
        normalizers.NFKD(),
        normalizers.StripAccents(),
        normalizers.Lowercase(),
        normalizers.Precompiled(charsmap()),
    ]
    model = trained_unigram(normalizers.Sequence(parts), ALBERT_SPECIAL).model
    return AlbertTokenizer(vocab=vocabulary(model), _spm_precompiled_charsmap=charsmap(), **names_of(ALBERT_SPECIAL))


def xlm_roberta() -> PreTrainedTokenizerBase:
    """The compiled rules alone, cased."""
    model = trained_unigram(normalizers.Precompiled(charsmap()), BYTE_SPECIAL).model
    return XLMRobertaTokenizer(vocab=vocabulary(model), _spm_precompiled_charsmap=charsmap(), **names_of(BYTE_SPECIAL))


def byte_level(prefix: bool, trim: bool, prefix_trimmed: bool | None = None) -> Tokenizer:
    """BPE over bytes with RoBERTa's special tokens; `prefix_trimmed` is what the offsets are trimmed for."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = list(BYTE_SPECIAL.values())
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TRAINED_ON, BpeTrainer(vocab_size=400, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False)
    )
    expected = prefix if prefix_trimmed is None else prefix_trimmed
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokens.index("</s>")), ("<s>", 0), trim_offsets=trim, add_prefix_space=expected
    )
    return tokenizer


def roberta(prefix: bool, trim: bool) -> PreTrainedTokenizerBase:
    """RoBERTa's class builds its tokenizer anew from vocabulary, merges and these two settings."""
    model = json.loads(byte_level(prefix, trim).to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return RobertaTokenizer(
        vocab=model["vocab"], merges=merges, add_prefix_space=prefix, trim_offsets=trim, **names_of(BYTE_SPECIAL)
    )


def modernbert() -> PreTrainedTokenizerFast:
    """A tokenizer.json without a blank before the text, in which transformers changes nothing."""
    tokenizer = byte_level(prefix=False, trim=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names_of(BYTE_SPECIAL))


KINDS: dict[str, tuple[Callable[[], PreTrainedTokenizerBase], type[PretrainedConfig], dict]] = {
    "unigram": (unigram, ElectraConfig, {"embedding_size": 32, "max_position_embeddings": 64}),
    "albert": (albert, AlbertConfig, {"embedding_size": 32, "max_position_embeddings": 64}),
    "deberta": (deberta, DebertaV2Config, {"max_position_embeddings": 64, "type_vocab_size": 0}),
    "albert charsmap": (albert_charsmap, AlbertConfig, {"embedding_size": 32, "max_position_embeddings": 64}),
    "xlm-roberta": (xlm_roberta, XLMRobertaConfig, {"max_position_embeddings": 66, "type_vocab_size": 1}),
    "modernbert": (modernbert, ModernBertConfig, {"max_position_embeddings": 64}),
} | {
    f"roberta prefix={prefix} trim={trim}": (
        lambda prefix=prefix, trim=trim: roberta(prefix, trim),
        RobertaConfig,
        {"max_position_embeddings": 66, "type_vocab_size": 1},
    )
    for prefix in (True, False)
    for trim in (True, False)
}


def model_of(kind: str, parent: Path) -> Path:
    """A folder in `parent` with this kind's tokenizer and a random encoder of 64 positions for it."""
    make, config_class, settings = KINDS[kind]
    folder, tokenizer = parent / kind.replace(" ", "_"), make()
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "cls", "sep")}
    special |= {"bos_token_id": None, "eos_token_id": None}
    config = config_class(vocab_size=len(tokenizer), **SIZES, **settings, **special)
    torch.manual_seed(0)
    with quiet_transformers():
        AutoModel.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder
