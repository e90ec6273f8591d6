"""The tagging Task: long sentences, labels, what is saved, predictions on files and on new text."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
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

from finetuning import tagging
from finetuning.config import FinetuneConfig
from finetuning.conll import Sentence, TaggedFile
from finetuning.entity_files import read_splits
from finetuning.entity_scores import ENTITY_F1, TOKEN_F1
from finetuning.loop import fit, predict
from finetuning.tagging import make_network, predict_texts, tagging_task
from tests.finetuning.samples import SENTENCES, pairs
from tests.finetuning.test_entity_files import write_pubtator
from tests.finetuning.tokenizer_kinds import model_of

QUICK = FinetuneConfig(learning_rate=3e-3, layer_decay=1, batch_size=4, epochs=40, patience=40, dropout=0)


def sentences():
    """The samples as Sentence objects, fresh ones."""
    return [Sentence(*map(list, zip(*pairs(sentence), strict=True))) for sentence in SENTENCES]


def task_of(model, test, config=None, **settings):
    splits = {"train": sentences(), "dev": sentences(), "test": test}
    files = {split: TaggedFile(None, part, "", typed=True) for split, part in splits.items()}
    return tagging_task(files, str(model), config or FinetuneConfig(), **settings)


def test_long_sentence_is_scored_whole(tiny_model):
    """10,000 words, entities at the end, a model of 64 positions: every gold entity is in the denominator."""
    words = ["patients"] * 9990 + ["lithium", "carbonate", "and", "cocaine", "seizures"] * 2
    tags = ["O"] * 9990 + ["B-Chemical", "I-Chemical", "O", "B-Chemical", "B-Disease"] * 2
    task = task_of(tiny_model, [Sentence(words, tags)])
    features = task.features["test"]
    assert len(features) > 100
    assert max(len(feature["input_ids"]) for feature in features) <= 64
    labels = [label for feature in features for label in feature["labels"]]
    assert len(labels) == 10_000
    scores = task.score("test", [np.eye(5)[feature["labels"]] for feature in features])  # predictions all right
    assert (scores[ENTITY_F1], scores["entities"]) == (1.0, 6)
    torch.manual_seed(0)
    outputs = predict(task.make_model(), task, features, FinetuneConfig(batch_size=32))
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


@pytest.mark.parametrize("kind", ["electra", "modernbert"])
def test_a_stage_before_hands_on_a_head_of_the_same_labels_only(tiny_model, tmp_path, kind):
    """B-Chemical and I-Chemical are as many as B-Disease and I-Disease, and of another meaning."""
    first = tiny_model if kind == "electra" else model_of(kind, tmp_path / "encoder")
    network = make_network(str(first), ["O", "B-Chemical", "I-Chemical"], FinetuneConfig())
    network.save_pretrained(tmp_path / "stage")
    AutoTokenizer.from_pretrained(first).save_pretrained(tmp_path / "stage")
    head = network.classifier.weight

    def again(labels):
        return make_network(str(tmp_path / "stage"), labels, FinetuneConfig()).classifier.weight

    assert torch.equal(again(["O", "B-Chemical", "I-Chemical"]), head)
    other = again(["O", "B-Disease", "I-Disease"])
    assert other.shape == head.shape and not torch.isclose(other, head).any()


def test_labels_are_those_of_train(tiny_model):
    """A type only in test has no label, and its entities count as missed."""
    test = [Sentence(["Naloxone", "p53"], ["B-Chemical", "B-Gene"])]
    task = task_of(tiny_model, test)
    (feature,) = task.features["test"]
    scores = task.score("test", [np.eye(5)[feature["labels"]]])
    assert (scores["entities"], scores["recall"], scores["precision"]) == (2, 0.5, 1.0)
    assert scores["types"]["Gene"] == {"precision": 0.0, "recall": 0.0, "f1-score": 0.0, "entities": 1}


def test_saved_model_opens_in_transformers_with_its_labels(tiny_model, tmp_path):
    task = task_of(tiny_model, sentences(), benchmark="BC5CDR")
    model = task.make_model()
    task.save(model, tmp_path / "model")
    theirs = AutoModelForTokenClassification.from_pretrained(tmp_path / "model")
    assert theirs.config.id2label[1] == "B-Chemical"
    assert len(AutoTokenizer.from_pretrained(tmp_path / "model").get_vocab()) == theirs.config.vocab_size
    for name, value in model.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name])
    assert json.loads((tmp_path / "model" / "task.json").read_text()) == {
        "family": "tagging",
        "benchmark": "BC5CDR",
        "labels": ["O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease"],
        "metric": ENTITY_F1,
        "max_length": 64,
        "overlap": 31,
    }


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


def test_predictions_of_texts_are_pubtator(tiny_model, tmp_path):
    files = read_splits(write_pubtator(tmp_path / "data"))
    task = tagging_task(files, str(tiny_model), FinetuneConfig())
    assert task.predictions_suffix == "pubtator.txt"
    right = [np.eye(5)[feature["labels"]] for feature in task.features["test"]]
    task.write_predictions(right, tmp_path / "p.txt")
    assert (tmp_path / "p.txt").read_text().splitlines() == [
        "2|t|Lithium in man.",
        "2|a|Lithium carbonate, then more.",
        "2\t0\t7\tLithium\tChemical\t-1",
        "2\t16\t33\tLithium carbonate\tChemical\t-1",
        "",
    ]
    assert task.score("test", right)["recall"] == 0.5  # of the four in the file


def test_stray_inside_tag_is_read_as_conlleval_reads_it():
    features = [{"sentence": 0}, {"sentence": 0}]
    logits = [np.eye(3)[[0, 2]], np.eye(3)[[2]]]  # O I-X | I-X over two windows of one sentence
    labels = ["O", "B-X", "I-X"]
    assert tagging.predicted_tags(features, logits, labels, 2) == [["O", "B-X", "I-X"], []]


def sixteen():
    """Sixteen sentences that differ, with entities of one and two words and two types."""
    chance = random.Random(4)
    words = sorted({word for sentence in SENTENCES for word, _ in pairs(sentence)})
    examples = []
    for _ in range(16):
        chosen = chance.sample(words, 5)
        start = chance.randrange(4)
        tags = ["O"] * 5
        tags[start] = f"B-{chance.choice(('Chemical', 'Disease'))}"
        tags[start + 1] = chance.choice(["O", "I" + tags[start][1:]])
        examples.append(Sentence(chosen, tags))
    return examples


@pytest.mark.parametrize(("token_level", "metric"), [(False, ENTITY_F1), (True, TOKEN_F1)])
def test_the_head_learns_16_examples_by_heart_and_untrained_is_at_chance(tiny_model, token_level, metric):
    files = {split: TaggedFile(None, sixteen(), "", typed=True) for split in ("train", "dev", "test")}
    task = tagging_task(files, str(tiny_model), QUICK, token_level=token_level)
    assert task.metric == metric
    scores = []
    for seed in range(5):
        torch.manual_seed(seed)
        scores.append(task.score("test", predict(task.make_model(), task, task.features["test"], QUICK))[metric])
    # A guess among 5 labels (3 classes) hits one word in 5 (3); an entity needs all its words and no other.
    assert sum(scores) / len(scores) < (0.35 if token_level else 0.2)
    torch.manual_seed(0)
    model = task.make_model()
    fit(model, task, QUICK, seed=0)
    learnt = task.score("test", predict(model, task, task.features["test"], QUICK))
    assert learnt[metric] == 1.0 and learnt[ENTITY_F1] == 1.0 and learnt["entities"] == 16


@pytest.fixture(scope="module")
def tagger(tiny_model, tmp_path_factory):
    """The folder of a model that has learnt the samples by heart."""
    task = task_of(tiny_model, sentences(), QUICK)
    torch.manual_seed(0)
    model = task.make_model()
    fit(model, task, QUICK, seed=0)
    folder = tmp_path_factory.mktemp("tagger") / "model"
    task.save(model, folder)
    return folder


def test_new_text_gets_spans_with_offsets(tagger):
    texts = [
        "Naloxone reverses high blood pressure\nLithium carbonate  caused\nliver failure",
        "",
        "the patients improved",
    ]
    found = list(predict_texts(tagger, [{"text": text, "id": i} for i, text in enumerate(texts)], 2))
    assert [one["id"] for one in found] == [0, 1, 2]
    assert [(one["text"], one["type"]) for one in found[0]["entities"]] == [
        ("Naloxone", "Chemical"),
        ("Lithium carbonate", "Chemical"),
        ("liver failure", "Disease"),
    ]
    assert all(texts[0][one["start"] : one["end"]] == one["text"] for one in found[0]["entities"])
    assert found[1]["entities"] == found[2]["entities"] == []


def test_a_text_of_10000_words_is_read_to_its_end(tagger):
    text = "the patients improved " * 3333 + "with cocaine"
    (found,) = predict_texts(tagger, [{"text": text}], 32)
    last = found["entities"][-1]
    assert (last["text"], last["end"]) == ("cocaine", len(text))


def test_many_texts_stay_in_order(tagger, monkeypatch):
    monkeypatch.setattr(tagging, "TEXTS_AT_ONCE", 3)
    texts = ["the patients " * i + "improved" for i in range(8)]
    found = [one["text"] for one in predict_texts(tagger, ({"text": text} for text in texts), 2)]
    assert found == texts
