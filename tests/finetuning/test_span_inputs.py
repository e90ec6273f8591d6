"""Windows, gold pieces, character offsets: nothing of a context is lost, and answers are its text."""

import random
import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import AutoModel, DebertaV2Config, ModernBertConfig, PreTrainedTokenizerFast, RobertaConfig

from finetuning.config import FinetuneConfig
from finetuning.span_inputs import (
    Inputs,
    answer_pieces,
    collate,
    join_windows,
    make_inputs,
    make_reader,
    special_ids,
    windows,
    word_pieces,
)
from finetuning.squad_files import Example
from tests.finetuning.questions import CONTEXTS, QUESTIONS


def reader_of(model, max_length=512, overlap=16, longest=30):
    return make_reader(str(model), FinetuneConfig(max_length=max_length, overlap=overlap), longest)


def example(context, answer=None, question="was seen", at=None):
    answers = None if answer is None else ((context.index(answer) if at is None else at, answer),) if answer else ()
    return Example("q", question, context, answers)


def test_windows_cover_every_piece_and_share_the_overlap():
    chance = random.Random(1)
    for _ in range(300):
        capacity = chance.randint(2, 30)
        overlap = chance.randint(0, capacity // 2)
        length = chance.randint(0, 100)
        found = windows(length, capacity, overlap)
        assert found[0][0] == 0 and found[-1][1] == length
        assert all(end - start <= capacity for start, end in found)
        for (_, end), (start, last) in zip(found, found[1:], strict=False):
            assert end - start == overlap and last > end  # each window brings something new
    assert windows(5, 5, 2) == [(0, 5)] and windows(6, 5, 2) == [(0, 5), (3, 6)]


def test_every_short_answer_is_whole_in_a_window(tiny_model):
    """A context of 400 pieces, a model of 64 positions: answers no longer than the overlap are never lost."""
    reader = reader_of(tiny_model, overlap=16)
    words = [random.Random(2).choice(["patients", "lithium", "cocaine", "liver"]) for _ in range(400)]
    context = " ".join(words)
    for first in range(0, 390, 7):
        start = len(" ".join(words[:first])) + (first > 0)
        answer = " ".join(words[first : first + 8])
        inputs = make_inputs(reader, [example(context, answer, at=start)], training=True)
        assert inputs.lost == 0
        assert all(len(feature["input_ids"]) <= 64 for feature in inputs.features)
        held = [feature for feature in inputs.features if feature["start"] > 0]
        assert held and len(held) < len(inputs.features)
        for feature in held:
            shift = feature["first"] - feature["context"][0]
            offsets = inputs.offsets[0]
            found = context[offsets[feature["start"] + shift, 0] : offsets[feature["end"] + shift, 1]]
            assert found == answer


def test_an_input_by_hand(tiny_model):
    reader = reader_of(tiny_model)
    ids = reader.tokenizer.get_vocab()
    (feature,) = make_inputs(reader, [example("No lithium change!", "lithium")], training=True).features
    words = ["[CLS]", "was", "seen", "[SEP]", "no", "lith", "##ium", "change", "[UNK]", "[SEP]"]
    assert feature["input_ids"] == [ids[word] for word in words]
    assert (feature["context"], feature["start"], feature["end"]) == ((4, 5), 5, 6)
    batch = collate([feature, {**feature, "input_ids": feature["input_ids"] + [7]}], 0, token_types=True)
    assert batch["token_type_ids"][0].tolist() == [0] * 4 + [1] * 6 + [0]
    assert batch["attention_mask"][0].tolist() == [1] * 10 + [0]
    assert batch["context"][0].tolist() == [False] * 4 + [True] * 5 + [False] * 2
    assert batch["items"] == 2


def test_gold_pieces_share_a_character_with_the_answer(tiny_model):
    reader = reader_of(tiny_model)
    context = "Lithium was seen"
    offsets = word_pieces(reader.tokenizer, [context])[context][1]
    assert offsets.tolist() == [[0, 4], [4, 7], [8, 11], [12, 16]]
    assert answer_pieces(example(context, "Lith"), offsets) == (0, 0)
    assert answer_pieces(example(context, "ium was "), offsets) == (1, 2)
    assert answer_pieces(example(context, "hiu"), offsets) == (0, 1)
    assert answer_pieces(example(context, "absent", at=-1), offsets) is None
    both = Example("q", "?", context, ((-1, "absent"), (12, "seen")))  # the first with a right offset
    assert answer_pieces(both, offsets) == (3, 3)


def test_what_is_lost_is_counted_and_not_trained_on(tiny_model):
    reader = reader_of(tiny_model, longest=3)
    context = "patients with liver failure improved"
    part = [
        example(context, "liver failure"),
        example(context, "with liver failure improved"),  # four pieces
        example(context, "absent", at=-1),
        example(context, ""),  # no answer
        example(context),  # not known
    ]
    inputs = make_inputs(reader, part, training=True)
    assert inputs.lost == 2
    assert [(one["example"], one["start"]) for one in inputs.features] == [(0, 6), (3, 0)]
    inputs = make_inputs(reader, part, training=False)
    assert inputs.lost == 2
    assert [(one["example"], one["start"]) for one in inputs.features] == [(0, 6), (1, -1), (2, -1), (3, 0), (4, -1)]
    assert collate(inputs.features, 0, True)["items"] == 2


def test_an_answer_cut_by_every_window_is_in_no_window_and_nothing_is_said_to_lack_it(tiny_model):
    """Windows of 8 pieces without overlap: the answer begins in one and ends in the next."""
    reader = reader_of(tiny_model, max_length=13, overlap=0)  # [CLS] was seen [SEP] 8 pieces [SEP]
    context = " ".join(["patients"] * 7 + ["liver", "failure"] + ["improved"] * 7)
    inputs = make_inputs(reader, [example(context, "liver failure")], training=False)
    assert [(one["start"], one["end"]) for one in inputs.features] == [(-1, -1), (-1, -1)]
    assert inputs.lost == 1
    whole = make_inputs(reader, [example(context, "liver")], training=False)
    assert [(one["start"], one["end"]) for one in whole.features] == [(11, 11), (0, 0)]


def test_a_long_question_is_cut_and_counted(tiny_model):
    reader = reader_of(tiny_model)
    inputs = make_inputs(reader, [example("no change", question="was seen " * 50)], training=False)
    assert inputs.cut_questions == 1
    assert len(inputs.features[0]["input_ids"]) <= 64
    assert inputs.features[0]["context"][1] == 2
    assert make_inputs(reader, [example("no change")], training=False).cut_questions == 0


def test_ten_thousand_words(tiny_model):
    context = "patients improved " * 5000 + "lithium"
    inputs = make_inputs(reader_of(tiny_model), [example(context, "lithium")], training=False)
    covered = set()
    for feature in inputs.features:
        covered |= set(range(feature["first"], feature["first"] + feature["context"][1]))
    assert covered == set(range(10002)) and inputs.lost == 0


def test_special_tokens_in_texts_are_text(tiny_model):
    reader = reader_of(tiny_model)
    (feature,) = make_inputs(reader, [example("no [MASK] seen", "[MASK]")], training=True).features
    assert reader.tokenizer.mask_token_id not in feature["input_ids"]
    assert feature["end"] - feature["start"] == 2  # [ mask ]


def test_joined_windows_by_hand(tiny_model):
    context = "no change was seen with lithium"
    reader = reader_of(tiny_model)
    offsets = word_pieces(reader.tokenizer, [context])[context][1]
    features = [
        {"example": 0, "context": (2, 5), "first": 0},  # pieces 0 to 4 at positions 2 to 6
        {"example": 0, "context": (2, 4), "first": 3},  # pieces 3 to 6
        {"example": 1, "context": (2, 0), "first": 0},
    ]
    outputs = [
        np.array([[[1.5, 0, 0], [2, 3, -1.0], [5, 6, -3.0], [3, 3, -np.inf]]]),
        np.array([[[0.5, 0, 0], [2, 3, -2.0], [4, 5, -2.5]]]),
        np.array([[[9.0, 0, 0], [2, 2, -np.inf]]]),
    ]
    first, second = join_windows(Inputs([example(context), example("?")], [offsets, offsets[:0]], features), outputs)
    assert [answer.text for answer in first.answers] == ["no change", "seen with", "lithium"]
    # "seen with" is in both windows: the likelier counts
    assert [answer.probability for answer in first.answers] == pytest.approx(np.exp([-1.0, -2.0, -2.5]))
    assert all(context[answer.start : answer.end] == answer.text for answer in first.answers)
    assert first.no_answer == 0.5  # of the window where it is lowest
    assert (second.answers, second.no_answer) == ([], 9.0)


def byte_level(folder, **settings):
    """A byte-level tokenizer as RoBERTa's, trained on the contexts, in a folder with a random encoder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, **settings)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        CONTEXTS,
        BpeTrainer(vocab_size=350, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), **settings)
    names = {"cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>", "bos": "<s>", "eos": "</s>"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in names.items()}
    ).save_pretrained(folder)
    config = RobertaConfig(
        vocab_size=350,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=70,
        type_vocab_size=1,
        pad_token_id=1,
    )
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("trimmed", [True, False])
def test_byte_level_offsets_have_no_blank_and_two_separators(tmp_path, trimmed):
    reader = reader_of(byte_level(tmp_path / "roberta", trim_offsets=trimmed))
    assert reader.special == ([0], [2, 2], [2])
    assert (reader.token_types, reader.capacity) == (False, 64)
    for where, question, answer in QUESTIONS:
        one = example(CONTEXTS[where], answer, question)
        (feature,) = make_inputs(reader, [one], training=True).features
        offsets = word_pieces(reader.tokenizer, [one.context])[one.context][1]
        shift = feature["first"] - feature["context"][0]
        found = one.context[offsets[feature["start"] + shift, 0] : offsets[feature["end"] + shift, 1]]
        assert found == answer


@pytest.mark.parametrize(("kind", "types"), [(ModernBertConfig, False), (DebertaV2Config, False)])
def test_architectures_without_segments(tiny_model, tmp_path, kind, types):
    folder = shutil.copytree(tiny_model, tmp_path / "other")
    AutoModel.from_config(
        kind(
            vocab_size=40,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=80,
            pad_token_id=0,
        )
    ).save_pretrained(folder)
    assert reader_of(folder).token_types is types


def test_tokenizers_of_no_use_are_refused(tiny_model):
    reader = reader_of(tiny_model)
    template = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B [SEP]", special_tokens=[("[SEP]", reader.tokenizer.sep_token_id)]
    )
    reader.tokenizer.backend_tokenizer.post_processor = template
    with pytest.raises(ValueError, match="sets no token before"):
        special_ids(reader.tokenizer)
