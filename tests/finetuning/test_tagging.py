"""Word pieces, windows, rows and labels; the entity-level score against seqeval, conlleval, by hand."""

import random
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from seqeval.metrics import f1_score
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    ModernBertConfig,
    RobertaConfig,
)

from finetuning import encoder, tagging
from finetuning.config import FinetuneConfig
from finetuning.conll import Sentence, iob2_tags, iob_spans
from finetuning.loop import fit, predict
from finetuning.tagging import METRIC, entity_scores, make_features, tagging_task, windows, word_pieces
from tests.finetuning.samples import SENTENCES, pairs


def sentences():
    """The samples as Sentence objects, fresh ones."""
    return [Sentence(*map(list, zip(*pairs(sentence), strict=True))) for sentence in SENTENCES]


def task_of(model, test, config=None):
    return tagging_task(
        {"train": sentences(), "dev": sentences(), "test": test}, str(model), config or FinetuneConfig()
    )


def conlleval_counts(gold, predicted):
    """(correct, predicted, gold) chunks, after the rules of conlleval.pl (startOfChunk, endOfChunk)."""

    def ends(before, tag):
        return before[0] != "O" and (tag[0] in "OB" or before[2:] != tag[2:])

    def starts(before, tag):
        return tag[0] != "O" and (tag[0] == "B" or before[0] == "O" or before[2:] != tag[2:])

    correct = found = there = 0
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        inside, last_gold, last_predicted = False, "O", "O"
        for gold_tag, tag in zip([*gold_tags, "O"], [*predicted_tags, "O"], strict=True):
            if inside:
                gold_ends, ours_ends = ends(last_gold, gold_tag), ends(last_predicted, tag)
                if gold_ends and ours_ends:
                    correct, inside = correct + 1, False
                elif gold_ends != ours_ends:
                    inside = False
            gold_starts, ours_starts = starts(last_gold, gold_tag), starts(last_predicted, tag)
            inside = inside or (gold_starts and ours_starts and gold_tag[2:] == tag[2:])
            there, found = there + gold_starts, found + ours_starts
            last_gold, last_predicted = gold_tag, tag
    return correct, found, there


def test_score_equals_conlleval_and_lenient_seqeval_on_raw_predictions():
    chance = random.Random(1)
    tags = ["O", "O", "B-X", "I-X", "B-Y", "I-Y"]
    for _ in range(30):
        gold, raw = [], []
        for _ in range(12):
            length = chance.randint(1, 9)
            gold.append(iob2_tags(iob_spans([chance.choice(tags) for _ in range(length)]), length))
            raw.append([chance.choice(tags) if chance.random() < 0.4 else tag for tag in gold[-1]])
        ours = entity_scores(gold, [iob2_tags(iob_spans(row), len(row)) for row in raw])
        correct, found, there = conlleval_counts(gold, raw)
        assert ours["entities"] == there
        assert ours[METRIC] == pytest.approx(2 * correct / (found + there))
        assert ours["precision"] == pytest.approx(correct / found)
        assert ours["recall"] == pytest.approx(correct / there)
        assert ours[METRIC] == pytest.approx(f1_score(gold, raw))


def test_scores_by_hand():
    gold = [["B-X", "I-X", "O", "B-Y"], ["B-X", "O"]]
    # one right, one with a wrong border, one missed, one too many: precision 1/3, recall 1/3
    scores = entity_scores(gold, [["B-X", "O", "O", "B-Y"], ["O", "B-X"]])
    assert scores[METRIC] == pytest.approx(1 / 3)
    assert scores["types"]["Y"]["f1-score"] == 1.0
    assert scores["types"]["X"]["f1-score"] == 0.0
    assert scores["types"]["X"]["entities"] == 2
    # a right span with the wrong type is wrong
    assert entity_scores([["B-X", "I-X"]], [["B-Y", "I-Y"]])[METRIC] == 0.0


def test_empty_prediction_scores_zero():
    scores = entity_scores([["B-X", "O"], ["O", "B-Y"]], [["O", "O"], ["O", "O"]])
    assert (scores[METRIC], scores["precision"], scores["recall"], scores["entities"]) == (0.0, 0.0, 0.0, 2)


def test_word_pieces_are_text_and_never_none(tiny_model):
    tokenizer = encoder.load_tokenizer(str(tiny_model), encoder.load_config(str(tiny_model)))
    ids = tokenizer.get_vocab()
    pieces = word_pieces(tokenizer, ["[MASK]", "Lithium", "\u200b", "qqq", "Lithium"])
    assert pieces["[MASK]"] == [ids["["], ids["mask"], ids["]"]]
    assert pieces["Lithium"] == [ids["lith"], ids["##ium"]]
    assert pieces["\u200b"] == pieces["qqq"] == [tokenizer.unk_token_id]


def test_windows_by_hand():
    assert windows([1] * 5, 5, 2) == [(0, 5, 0, 5)]
    assert windows([1] * 8, 5, 2) == [(0, 5, 0, 4), (3, 8, 4, 8)]
    assert windows([1] * 8, 5, 0) == [(0, 5, 0, 5), (5, 8, 5, 8)]


def test_windows_cover_every_word_once():
    chance = random.Random(2)
    for _ in range(300):
        capacity = chance.randint(6, 20)
        lengths = [chance.randint(1, chance.choice([1, 3, capacity])) for _ in range(chance.randint(1, 60))]
        found = windows(lengths, capacity, chance.randint(0, capacity // 2))
        own = [word for _, _, first, last in found for word in range(first, last)]
        assert own == list(range(len(lengths)))
        for start, end, first, last in found:
            assert start <= first <= last <= end
            assert sum(lengths[start:end]) <= capacity


def test_rows_are_first_word_pieces():
    pieces = {"a": [7], "b": [8, 9], "c": [10, 11, 12]}
    sentence = Sentence(["a", "b", "c"], ["O", "B-X", "I-X"])
    labels = {"O": 0, "B-X": 1, "I-X": 2}
    assert make_features([sentence], pieces, labels, (1, 2), capacity=10, overlap=2) == [
        {"input_ids": [1, 7, 8, 9, 10, 11, 12, 2], "rows": [1, 2, 4], "labels": [0, 1, 2], "sentence": 0}
    ]
    short = make_features([sentence], pieces, labels, (1, 2), capacity=3, overlap=0)
    assert [one["input_ids"] for one in short] == [[1, 7, 8, 9, 2], [1, 10, 11, 12, 2]]
    # a word of more word pieces than fit keeps its label and shows what fits
    long_word = make_features([Sentence(["c"], ["B-X"])], pieces, labels, (1, 2), capacity=2, overlap=0)
    assert long_word == [{"input_ids": [1, 10, 11, 2], "rows": [1], "labels": [1], "sentence": 0}]


def test_long_sentence_is_scored_whole(tiny_model):
    """350 words, entities at the end, a model of 64 positions: every gold entity is in the denominator."""
    words = ["patients"] * 340 + ["lithium", "carbonate", "and", "cocaine", "seizures"] * 2
    tags = ["O"] * 340 + ["B-Chemical", "I-Chemical", "O", "B-Chemical", "B-Disease"] * 2
    task = task_of(tiny_model, [Sentence(words, tags)])
    features = task.features["test"]
    assert len(features) > 5
    assert max(len(feature["input_ids"]) for feature in features) <= 64
    labels = [label for feature in features for label in feature["labels"]]
    assert len(labels) == 350
    scores = task.score("test", [np.eye(5)[feature["labels"]] for feature in features])  # predictions all right
    assert (scores[METRIC], scores["entities"]) == (1.0, 6)
    torch.manual_seed(0)
    outputs = predict(task.make_model(), task, features, FinetuneConfig(batch_size=2))
    assert [len(part) for part in outputs] == [len(feature["rows"]) for feature in features]
    assert task.score("test", outputs)["entities"] == 6
    nothing = [np.eye(5)[[0] * len(feature["rows"])] for feature in features]
    assert task.score("test", nothing)["recall"] == 0.0


def test_batched_outputs_equal_one_by_one(tiny_model):
    """Padding and batching by length change nothing, and outputs come back in the order of the inputs."""
    task = task_of(tiny_model, sentences())
    torch.manual_seed(0)
    model = task.make_model()
    features = task.features["test"]
    together = predict(model, task, features, FinetuneConfig(batch_size=8))
    for feature, ours in zip(features, together, strict=True):
        with torch.inference_mode():
            theirs = model(input_ids=torch.tensor([feature["input_ids"]])).logits[0, feature["rows"]]
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_encoder_weights_are_the_folders_and_only_the_head_is_new(tiny_model):
    theirs = load_file(tiny_model / "model.safetensors")
    task = task_of(tiny_model, sentences())
    ours = task.make_model().state_dict()
    shared = [name for name in theirs if name.startswith("electra.")]
    assert len(shared) > 20
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)
    assert set(ours) - set(shared) == {"classifier.weight", "classifier.bias"}
    assert ours["classifier.weight"].shape == (5, 32)


def test_saved_model_opens_in_transformers_with_its_labels(tiny_model, tmp_path):
    task = task_of(tiny_model, sentences())
    model = task.make_model()
    task.save(model, tmp_path / "model")
    theirs = AutoModelForTokenClassification.from_pretrained(tmp_path / "model")
    assert theirs.config.id2label[1] == "B-Chemical"
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab()) == theirs.config.vocab_size
    for name, value in model.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name])


@pytest.mark.parametrize("kind", [BertConfig, AlbertConfig, RobertaConfig, ModernBertConfig, DebertaV2Config])
def test_other_encoders_take_the_same_head(tiny_model, tmp_path, kind):
    """A random encoder of another architecture, saved without a head, with the tiny tokenizer beside it."""
    folder = shutil.copytree(tiny_model, tmp_path / "other")
    config = kind(
        vocab_size=40,
        embedding_size=8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=80,
        pad_token_id=0,
    )
    AutoModel.from_config(config).save_pretrained(folder)
    config = FinetuneConfig(dropout=0.25, learning_rate=1e-3, layer_decay=0.9, epochs=1)
    task = task_of(folder, sentences(), config)
    model = task.make_model()
    assert [child.p for child in model.children() if isinstance(child, torch.nn.Dropout)] == [0.25]
    assert fit(model, task, config, seed=0).history[0]["loss"] > 0


def test_predictions_file_is_conll_text(tiny_model, tmp_path):
    task = task_of(tiny_model, sentences())
    right = [np.eye(5)[feature["labels"]] for feature in task.features["test"]]
    task.write_predictions(right, tmp_path / "p.tsv")
    blocks = (tmp_path / "p.tsv").read_text().strip().split("\n\n")
    assert len(blocks) == len(SENTENCES)
    assert blocks[5].split("\n")[1] == "seizures\tB-Disease\tB-Disease"


def test_stray_inside_tag_is_read_as_conlleval_reads_it():
    features = [{"sentence": 0}, {"sentence": 0}]
    logits = [np.eye(3)[[0, 2]], np.eye(3)[[2]]]  # O I-X | I-X over two windows of one sentence
    assert tagging.predicted_tags(features, logits, ["O", "B-X", "I-X"]) == [["O", "B-X", "I-X"]]
