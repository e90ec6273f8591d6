"""Sequence classification: every head learns 16 examples, long texts are pooled, saved models open and predict."""

import json
import shutil

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    ModernBertConfig,
    RobertaConfig,
)

from finetuning.classification import Settings, classification_task, predict_texts
from finetuning.config import FinetuneConfig
from finetuning.loop import fit, predict
from finetuning.text_inputs import Example

# 16 texts that differ in their first two words; with a tiny model all can be told apart.
WORDS = "naloxone lithium cocaine patients".split()
TEXTS = [f"{first} {second} was seen with liver failure" for first in WORDS for second in WORDS]
LEARN = FinetuneConfig(
    learning_rate=5e-3, layer_decay=1.0, batch_size=4, epochs=60, patience=60, dropout=0.0, warmup_fraction=0.05
)
ONE_EPOCH = FinetuneConfig(epochs=1, learning_rate=1e-3)


@pytest.fixture(scope="module")
def still_model(tiny_model, tmp_path_factory):
    """The tiny model without dropout, so that it can learn 16 examples by heart in seconds."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("still") / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def exact(gold, predicted):
    return {"exact": float(np.mean([one == other for one, other in zip(gold, predicted, strict=True)]))}


def pearson(gold, predicted):
    return {"pearson": float(pearsonr(gold, predicted)[0])}


def write(examples, predicted, path):
    path.write_text("".join(f"{one.document}\t{label}\n" for one, label in zip(examples, predicted, strict=True)))


def settings(kind="single", labels=("yes", "no"), **more):
    if kind == "regression":
        return Settings(kind, "pearson", pearson, write, **more)
    return Settings(kind, "exact", exact, write, labels, **more)


def singles(labels=("yes", "no")):
    """The texts, each label in turn: nothing but the words decides."""
    return [Example(text, labels[(5 * i // 3) % len(labels)], document=f"d{i}") for i, text in enumerate(TEXTS)]


def everywhere(examples, test=None):
    return {"train": examples, "dev": examples, "test": test or examples}


def learn(examples, model, chosen, config=LEARN):
    task = classification_task(everywhere(examples), str(model), config, chosen)
    torch.manual_seed(1)
    network = task.make_model()
    result = fit(network, task, config, seed=0)
    return task, network, result.dev[chosen.metric]


def test_single_label_is_learned(still_model):
    assert learn(singles(("yes", "no", "maybe")), still_model, settings(labels=("yes", "no", "maybe")))[2] == 1.0


def test_pairs_are_learned(still_model):
    """Whether both texts are of the same word: only the two together say so."""
    examples = [
        Example(first, "yes" if first == second else "no", second, f"p{i}")
        for i, (first, second) in enumerate((a, b) for a in WORDS for b in WORDS)
    ]
    assert learn(examples, still_model, settings())[2] == 1.0


def test_several_labels_are_learned(still_model):
    names = ("a", "b", "c")
    examples = [
        Example(text, tuple(name for k, name in enumerate(names) if i >> k & 1)) for i, text in enumerate(TEXTS)
    ]
    assert () in [one.label for one in examples] and names in [one.label for one in examples]
    assert learn(examples, still_model, settings("multi", names))[2] == 1.0


def test_numbers_are_learned(still_model):
    examples = [Example(text, i // 4 + i % 4 / 4, "seizures were treated") for i, text in enumerate(TEXTS)]
    task, network, score = learn(examples, still_model, settings("regression", both_orders=True))
    assert score > 0.99
    outputs = predict(network, task, task.features["test"], LEARN)
    assert len(task.features["train"]) == 32  # both orders
    assert len(task.features["test"]) == 16
    gold = [one.label for one in examples]
    task.write_predictions(outputs, record_path := still_model.parent / "numbers.tsv")
    record = [float(line.split("\t")[1]) for line in record_path.read_text().splitlines()]
    assert np.abs(np.subtract(record, gold)).mean() < 0.1  # on the scale of the gold numbers


def test_marked_arguments_are_learned(still_model):
    """The same text, other arguments, other label: [CLS] alone could not tell."""
    text = "naloxone reverses lithium and cocaine treated patients"
    spans = [(0, 8), (18, 25), (30, 37), (46, 54)]
    examples = [
        Example(text, "yes" if i < j else "no", arguments=(spans[i], spans[j])) for i in range(4) for j in range(4)
    ]
    assert learn(examples, still_model, settings(head="markers"))[2] == 1.0
    same = classification_task(everywhere(examples), str(still_model), LEARN, settings())
    ids = [feature["input_ids"] for feature in same.features["train"]]
    assert all(one == ids[0] for one in ids)


def test_arguments_of_a_long_text_choose_the_part_that_the_cls_head_sees(tiny_model, capsys):
    text = "patients " * 100 + "naloxone reverses cocaine" + " patients" * 100
    examples = [Example(text, label, arguments=((900, 908), (918, 925))) for label in ("yes", "no")]
    task = classification_task(everywhere(examples), str(tiny_model), LEARN, settings())
    assert "test: 2 of 2 texts are longer than 64 word pieces: the part around the two" in capsys.readouterr().out
    assert len(task.features["test"][0]["windows"]) == 1
    batch = task.collate(task.features["test"])
    assert task.forward(task.make_model(), batch).shape == (2, 2)


def test_untrained_head_is_at_chance(tiny_model):
    examples = singles() * 8
    chosen = settings()
    task = classification_task(everywhere(examples), str(tiny_model), LEARN, chosen)
    scores = []
    for seed in range(20):
        torch.manual_seed(seed)
        scores.append(task.score("test", predict(task.make_model(), task, task.features["test"], LEARN))["exact"])
    assert abs(np.mean(scores) - 0.5) < 0.1


def test_prediction_is_the_highest_score_and_from_one_half(tiny_model):
    names = ("a", "b", "c")
    task = classification_task(everywhere(singles(names)), str(tiny_model), LEARN, settings(labels=names))
    gold = [one.label for one in singles(names)]
    outputs = [np.eye(3, dtype=np.float32)[[names.index(label)]] for label in gold]
    assert task.score("test", outputs)["exact"] == accuracy_score(gold, gold) == 1.0
    examples = [Example("naloxone", ("a", "c"))] * 2
    task = classification_task(everywhere(examples), str(tiny_model), LEARN, settings("multi", names))
    on, off = np.float32([[1e-6, -0.1, 3]]), np.float32([[-1e-6, -0.1, 3]])
    assert task.score("test", [on, on])["exact"] == 1.0
    assert task.score("test", [on, off])["exact"] == 0.5


@pytest.mark.parametrize(("kind", "pool"), [("single", "mean"), ("multi", "amax")])
def test_long_text_is_seen_whole(tiny_model, capsys, kind, pool):
    """10,000 words in a model of 64 positions: every word is in a window, their scores are pooled."""
    words = ["patients"] * 9_998 + ["cocaine", "seizures"]
    label = "yes" if kind == "single" else ("yes",)
    long, short = Example(" ".join(words), label), Example("naloxone", label)
    task = classification_task(
        everywhere([short, Example("x", "no" if kind == "single" else ("no",))], [long, short]),
        str(tiny_model),
        LEARN,
        settings(kind),
    )
    said = capsys.readouterr().out
    feature = task.features["test"][0]
    assert (
        f"test: 1 of 2 texts are longer than 64 word pieces: each is divided into 2 to {len(feature['windows'])}"
        in said
    )
    assert max(map(len, feature["windows"])) <= 64 and len(feature["windows"]) > 200
    assert sum(len(ids) - 2 for ids in feature["windows"]) >= 10_000
    torch.manual_seed(0)
    network = task.make_model().eval()
    outputs = predict(network, task, task.features["test"], LEARN)
    with torch.inference_mode():
        rows = torch.cat([network(input_ids=torch.tensor([ids])).logits for ids in feature["windows"]])
        alone = network(input_ids=torch.tensor([task.features["test"][1]["input_ids"]])).logits
    theirs = rows.amax(dim=0) if pool == "amax" else rows.mean(dim=0)
    np.testing.assert_allclose(outputs[0][0], theirs.numpy(), atol=1e-5)
    np.testing.assert_allclose(outputs[1], alone.numpy(), atol=1e-5)


def test_training_on_long_texts_goes_in_parts_with_the_same_gradient(tiny_model, monkeypatch):
    """More windows than go at once: recomputed part by part, to the same gradient."""
    examples = [Example(" ".join([word] * 500), label) for word, label in zip(WORDS, ["yes", "no"] * 2, strict=True)]
    task = classification_task(everywhere(examples), str(tiny_model), LEARN, settings())
    gradients = []
    for at_once in (64, 7):
        monkeypatch.setattr("finetuning.text_heads.WINDOWS_AT_ONCE", at_once)
        torch.manual_seed(0)
        network = task.make_model().train()
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        batch = task.collate(task.features["train"])
        task.loss(task.forward(network, batch), batch).backward()
        gradients.append({name: value.grad for name, value in network.named_parameters()})
    assert sum(batch["windows"]) > 40
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, atol=1e-5, rtol=1e-4)


def test_batched_scores_equal_one_by_one(tiny_model):
    examples = [
        Example(" ".join(WORDS[: i % 4 + 1]), "yes", text_b=" ".join(["patients"] * (i + 1))) for i in range(12)
    ]
    task = classification_task(everywhere(examples), str(tiny_model), LEARN, settings())
    torch.manual_seed(0)
    network = task.make_model()
    together = predict(network, task, task.features["test"], FinetuneConfig(batch_size=8))
    for feature, ours in zip(task.features["test"], together, strict=True):
        one = task.collate([feature])
        with torch.inference_mode():
            theirs = network(**{key: one[key] for key in ("input_ids", "attention_mask", "token_type_ids")}).logits
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_label_only_in_test_is_said_and_counted_as_wrong(tiny_model, capsys):
    examples = [Example("naloxone", "yes"), Example("cocaine", "no")]
    test = [Example("naloxone", "maybe"), *examples]
    task = classification_task(
        everywhere(examples, test), str(tiny_model), LEARN, settings(labels=("yes", "no", "maybe"))
    )
    assert "warning: label 'maybe' of 1 test example(s) is in no training example" in capsys.readouterr().out
    outputs = predict(task.make_model(), task, task.features["test"], LEARN)
    assert len(outputs) == 3


@pytest.mark.parametrize("kind", [BertConfig, AlbertConfig, RobertaConfig, ModernBertConfig, DebertaV2Config])
@pytest.mark.parametrize("head", ["cls", "markers"])
def test_other_encoders_take_the_same_heads(tiny_model, tmp_path, kind, head):
    """A random encoder of another architecture, saved without a head: trained, saved, opened, the same answers."""
    folder = shutil.copytree(tiny_model, tmp_path / "other")
    shape = dict(embedding_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    more = dict(vocab_size=40, max_position_embeddings=80, pad_token_id=0)
    AutoModel.from_config(kind(**shape, **more)).save_pretrained(folder)
    config = FinetuneConfig(dropout=0.25, learning_rate=1e-3, layer_decay=0.9, epochs=1)
    examples = [Example(one.text_a + " @DRUG$", one.label, arguments=((0, 5), (6, 12))) for one in singles()]
    task = classification_task(everywhere(examples), str(folder), config, settings(head=head, added_tokens=("@DRUG$",)))
    network = task.make_model()
    dropouts = {name: part.p for name, part in network.named_modules() if isinstance(part, torch.nn.Dropout)}
    heads = [p for name, p in dropouts.items() if not name.startswith(network.base_model_prefix + ".")]
    assert heads and set(heads) == {0.25}
    assert fit(network, task, config, seed=0).history[0]["loss"] > 0
    task.save(network, tmp_path / "saved")
    records = [{"text": one.text_a, "arguments": one.arguments} for one in examples]
    ours = predict(network, task, task.features["test"], config)
    theirs = list(predict_texts(tmp_path / "saved", records, 4))
    chances = torch.tensor(np.concatenate(ours)).softmax(-1).tolist()
    for row, answer in zip(chances, theirs, strict=True):
        assert answer["label"] == ("yes", "no")[int(np.argmax(row))]
        np.testing.assert_allclose(list(answer["probabilities"].values()), row, atol=2e-4)


def test_saved_model_opens_in_transformers_alone(tiny_model, tmp_path):
    task, network, _ = learn(
        singles(), tiny_model, settings(benchmark="HoC"), FinetuneConfig(epochs=1, learning_rate=1e-3)
    )
    task.save(network, tmp_path / "model")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert theirs.config.id2label == {0: "yes", 1: "no"}
    assert theirs.config.problem_type == "single_label_classification"
    for name, value in network.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name])
    record = json.loads((tmp_path / "model" / "task.json").read_text())
    assert (record["family"], record["benchmark"], record["labels"]) == ("classification", "HoC", ["yes", "no"])


@pytest.mark.parametrize(("kind", "answer"), [("single", "label"), ("multi", "labels"), ("regression", "score")])
def test_predictions_on_new_text_equal_the_test_split(tiny_model, tmp_path, kind, answer):
    """Pairs, one of them long: predict_texts gives what was scored."""
    gold = {"single": "yes", "multi": ("yes",), "regression": 2.5}[kind]
    other = {"single": "no", "multi": (), "regression": 4.0}[kind]
    examples = [Example(text, gold if i % 2 else other, "liver failure") for i, text in enumerate(TEXTS)]
    examples.append(Example("naloxone", gold, " ".join(TEXTS)))
    task, network, _ = learn(examples, tiny_model, settings(kind), FinetuneConfig(epochs=3, learning_rate=1e-3))
    task.save(network, tmp_path / "model")
    seen = []
    outputs = predict(network, task, task.features["test"], LEARN)
    task.write_predictions(outputs, tmp_path / "p.tsv")
    seen = [line.split("\t")[1] for line in (tmp_path / "p.tsv").read_text().splitlines()]
    records = ({"text": one.text_a, "text_b": one.text_b} for one in examples)
    ours = [one[answer] for one in predict_texts(tmp_path / "model", records, 2)]
    if kind == "regression":
        np.testing.assert_allclose(ours, [float(value) for value in seen], atol=1e-4)
    else:
        assert [str(tuple(value) if kind == "multi" else value) for value in ours] == seen


def test_records_that_lack_something_are_refused(tiny_model, tmp_path):
    task = classification_task(everywhere(singles()), str(tiny_model), LEARN, settings())
    task.save(task.make_model(), tmp_path / "model")
    with pytest.raises(ValueError, match='a record needs a string "text"'):
        list(predict_texts(tmp_path / "model", [{"abstract": "x"}], 2))
    marked = [Example("naloxone", "yes", arguments=((0, 3), (3, 8)))]
    task = classification_task(everywhere(marked), str(tiny_model), LEARN, settings(head="markers"))
    task.save(task.make_model(), tmp_path / "markers")
    with pytest.raises(ValueError, match='this model needs "arguments"'):
        list(predict_texts(tmp_path / "markers", [{"text": "x"}], 2))
    (tmp_path / "markers" / "head.safetensors").unlink()
    with pytest.raises(ValueError, match="has no head.safetensors"):
        list(predict_texts(tmp_path / "markers", [{"text": "x"}], 2))


@pytest.mark.parametrize("head", ["cls", "markers"])
def test_a_stage_before_hands_on_its_encoder_and_a_head_of_the_same_labels(tiny_model, tmp_path, head):
    examples = [Example(one.text_a, one.label, arguments=((0, 5), (5, 9))) for one in singles()]
    first, network, _ = learn(examples, tiny_model, settings(head=head), ONE_EPOCH)
    first.save(network, tmp_path / "first")
    before = network.state_dict()

    def parts_taken(labels):
        renamed = {"yes": labels[0], "no": labels[1]}
        again = [Example(one.text_a, renamed[one.label], arguments=one.arguments) for one in examples]
        task = classification_task(
            everywhere(again), str(tmp_path / "first"), LEARN, settings(labels=labels, head=head)
        )
        torch.manual_seed(5)
        after = task.make_model().state_dict()
        return {
            name
            for name, value in before.items()
            if after[name].shape == value.shape and torch.equal(after[name], value)
        }

    assert parts_taken(("yes", "no")) == set(before)
    last = {name for name, value in before.items() if name.startswith("classifier") and value.shape[0] == 2}
    # two labels again, but of another meaning: all is taken over but the last layer (whose bias is zero anew)
    assert set(before) - parts_taken(("entailment", "neutral")) == last
    assert set(before) - parts_taken(("entailment", "neutral", "contradiction")) == last


def test_added_tokens_stay_whole_and_begin_as_the_mean_of_their_pieces(tiny_model, tmp_path):
    examples = [Example("Naloxone reverses @DRUG$ with lithium", "yes"), Example("@drug$ [MASK]", "no")]
    chosen = settings(added_tokens=("@DRUG$", "patients"))
    task = classification_task(everywhere(examples), str(tiny_model), LEARN, chosen)
    network = task.make_model()
    table = network.get_input_embeddings().weight
    before = AutoModel.from_pretrained(tiny_model).get_input_embeddings().weight
    ids = task.features["train"][0]["input_ids"]
    token = before.shape[0]
    assert table.shape[0] == token + 1  # "patients" is whole already
    assert ids.count(token) == 1
    assert token not in task.features["train"][1]["input_ids"]  # case matters
    assert torch.equal(table[:token], before)
    assert torch.allclose(table[token], before[1])  # @, drug and $ are all unknown to the tiny vocabulary
    task.save(network, tmp_path / "model")
    again = classification_task(everywhere(examples), str(tmp_path / "model"), LEARN, chosen)
    assert again.features["train"][0]["input_ids"] == ids
    assert again.make_model().get_input_embeddings().weight.shape[0] == token + 1
