"""Relations from examples to scores: the scorer, every head on 16 examples, placeholders as tokens, new texts."""

import json
import random
import shutil

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_recall_fscore_support
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from finetuning import chemprot, relations
from finetuning.chemprot_reading import PLACEHOLDERS
from finetuning.command import make_parser
from finetuning.config import FinetuneConfig, config_from
from finetuning.loop import fit, predict
from finetuning.relations import predict_texts, relation_scores
from tests.finetuning.relation_samples import FLAGS, blurb_files, options_of, original_chemprot, write
from tests.finetuning.text_samples import error_of, run, score

# 16 sentences that differ in two words, four classes; dev and test are the same
CHEMICALS, ENDS = ("naloxone", "lithium", "cocaine", "carbonate"), ("failure", "pressure", "change", "seizures")
SIXTEEN = [
    (f"@CHEMICAL$ with {word} caused @GENE$ {end}", ("false", "CPR:3", "CPR:4", "CPR:9")[(i + k) % 4])
    for i, word in enumerate(CHEMICALS)
    for k, end in enumerate(ENDS)
]
LEARN = FinetuneConfig(
    learning_rate=5e-3, layer_decay=1.0, batch_size=4, epochs=60, patience=60, dropout=0.0, warmup_fraction=0.05
)


@pytest.fixture(scope="module")
def still_model(tiny_model, tmp_path_factory):
    """The tiny model without dropout, so that it can learn 16 examples by heart in seconds."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("still") / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def prepared(module, model, data, *more):
    """What a command line of the benchmark prepares."""
    arguments = ["--model", str(model), "--data", str(data), "--output", "unused", "--nonstandard-split", *more]
    options = make_parser(module.BENCHMARK, "").parse_args(arguments)
    return module.BENCHMARK.prepare(module.BENCHMARK, options, config_from(options))


def test_micro_f1_is_that_of_scikit_learn_over_the_relations():
    chance = random.Random(3)
    classes = ["false", "CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9"]
    for _ in range(40):
        gold = [chance.choice(classes) for _ in range(chance.randint(1, 50))]
        ours = [label if chance.random() < 0.5 else chance.choice(classes) for label in gold]
        scores = relation_scores(gold, ours, classes[1:], "micro-F1")
        theirs = precision_recall_fscore_support(gold, ours, labels=classes[1:], average="micro", zero_division=0)
        assert [scores[name] for name in ("precision", "recall", "micro-F1")] == pytest.approx(theirs[:3])
        each = f1_score(gold, ours, labels=classes[1:], average=None, zero_division=0)
        assert [scores["classes"][name]["f1-score"] for name in classes[1:]] == pytest.approx(each)
        assert sum(row["examples"] for row in scores["classes"].values()) == len(gold) - gold.count("false")


def test_f1_of_one_class_is_the_binary_one():
    chance = random.Random(4)
    for _ in range(20):
        gold, ours = ([chance.choice("01") for _ in range(30)] for _ in range(2))
        assert relation_scores(gold, ours, ["1"], "F1")["F1"] == pytest.approx(f1_score(gold, ours, pos_label="1"))


def test_score_by_hand():
    # one right, one of a wrong class (counts against precision and recall), one missed, one too many
    scores = relation_scores(["A", "A", "B", "false"], ["A", "B", "false", "B"], ["A", "B"], "micro-F1")
    assert (scores["precision"], scores["recall"], scores["micro-F1"]) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


@pytest.mark.parametrize(("head", "style"), [("cls", "anonymised"), ("marker", "marker"), ("mention", "anonymised")])
def test_every_head_learns_sixteen_examples(still_model, tmp_path, head, style):
    data = write(tmp_path, blurb_files(SIXTEEN))
    (task,) = prepared(chemprot, still_model, data, "--head", head, "--input", style).tasks
    torch.manual_seed(1)
    model = task.make_model()
    fit(model, task, LEARN, seed=1)
    scores = task.score("test", predict(model, task, task.features["test"], LEARN))
    assert scores["micro-F1"] == 1.0


def test_placeholders_are_one_token_whatever_the_vocabulary(tiny_model, tmp_path, capsys):
    data = write(tmp_path, blurb_files())
    (task,) = prepared(chemprot, tiny_model, data).tasks
    assert "kept whole, not cut by the vocabulary: @CHEMICAL$ (" in capsys.readouterr().out
    (split,) = prepared(chemprot, tiny_model, data, "--split-placeholders").tasks
    assert "cut by the vocabulary: @CHEMICAL$ (" in capsys.readouterr().out
    task.save(task.make_model(), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    shown = tokenizer.convert_ids_to_tokens(task.features["test"][2]["input_ids"])
    assert shown == "[CLS] no change was seen with @CHEMICAL$ and @GENE$ [SEP]".split()
    assert len(split.features["test"][2]["input_ids"]) > len(shown)
    assert tokenizer.tokenize("@CHEMICAL$and@GENE$") == ["@CHEMICAL$", "and", "@GENE$"]
    # saved for transformers alone, with room for the new tokens
    network = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    assert network.get_input_embeddings().num_embeddings == len(tokenizer)
    assert network.config.id2label[0] == "false"


def test_a_long_sentence_is_shown_around_its_arguments(tiny_model, tmp_path, capsys):
    """300 words, a model of 64 positions: one input, with both arguments in it, and a count of what is left out."""
    rows = [
        (f"{'patients ' * 150}@CHEMICAL$ reverses @GENE$ {'improved ' * 150}", "CPR:4"),
        ("@GENE$ @CHEMICAL$", "false"),
    ]
    (task,) = prepared(chemprot, tiny_model, write(tmp_path, blurb_files(rows)), "--head", "marker").tasks
    assert "test: 1 of 2 texts are longer than 64 word pieces" in capsys.readouterr().out
    feature = task.features["test"][0]
    task.save(task.make_model(), tmp_path / "model")
    tokens = AutoTokenizer.from_pretrained(tmp_path / "model").convert_ids_to_tokens(feature["input_ids"])
    assert len(tokens) <= 64
    assert [tokens[position] for mark in feature["marks"] for position in mark] == ["@CHEMICAL$", "@GENE$"]


def test_new_texts(tiny_model, tmp_path):
    """Mentions by their characters are shown as in training; a text that shows them already is taken as it is."""
    data = write(tmp_path, blurb_files(SIXTEEN))
    for head, style in (("cls", "anonymised"), ("marker", "marker")):
        (task,) = prepared(chemprot, tiny_model, data, "--head", head, "--input", style).tasks
        model, folder = task.make_model(), tmp_path / f"model_{head}"
        task.save(model, folder)
        assert json.loads((folder / "task.json").read_text())["family"] == "relations"
        logits = np.concatenate(predict(model, task, task.features["test"], LEARN))
        expected = torch.from_numpy(logits).double().softmax(-1).numpy()
        records = [{"text": text} for text, _ in SIXTEEN]
        if style == "anonymised":  # with markers the mention itself is seen, and was a placeholder in training
            raw = [text.replace("@CHEMICAL$", "aspirin").replace("@GENE$", "renin") for text, _ in SIXTEEN]
            spans = [[[0, 7], [text.index("renin"), text.index("renin") + 5]] for text in raw]
            records += [{"text": text, "arguments": span} for text, span in zip(raw, spans, strict=True)]
            expected = np.concatenate([expected, expected])
        found = list(predict_texts(folder, records, batch_size=8))
        ours = np.array([list(one["probabilities"].values()) for one in found])
        np.testing.assert_allclose(ours, expected, atol=1e-4)
        names = list(found[0]["probabilities"])
        assert [one["label"] for one in found] == [names[k] for k in expected.argmax(-1)]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": 7}, 'a record needs a string "text"'),
        ({"text": "naloxone"}, "'naloxone': expected \"arguments\": [[start, end], [start, end]]"),
        ({"text": "naloxone", "arguments": [[0, 4], [5, 90]]}, "are not two spans [start, end] within the text"),
        ({"text": "naloxone", "arguments": [[0, 4]]}, "are not two spans [start, end] within the text"),
    ],
)
def test_records_that_cannot_be_shown(record, message):
    with pytest.raises(ValueError) as refused:
        relations.record_of(record, {"input": "anonymised", "relation_head": "cls", "markers": []}, PLACEHOLDERS)
    assert message in str(refused.value)


def test_overlapping_mentions_of_a_record_are_one_placeholder():
    task = {"input": "anonymised", "relation_head": "cls", "markers": ["a", "b", "c", "d", "e", "f"]}
    record = relations.record_of({"text": "the renin inhibitor", "arguments": [[4, 19], [4, 9]]}, task, PLACEHOLDERS)
    assert record == {"text": "the @CHEM-GENE$", "arguments": ((4, 15), (4, 15))}


def test_another_head_or_input_is_another_run(tiny_model, tmp_path):
    data = write(tmp_path / "data", blurb_files())
    results = run(chemprot, tiny_model, data, tmp_path / "out", "--epochs", "1")
    assert results["split"]["train"]["head"] == "cls"
    with pytest.raises(SystemExit) as stopped:
        run(chemprot, tiny_model, data, tmp_path / "out", "--epochs", "1", "--head", "marker")
    assert "head (cls, now marker)" in stopped.value.code


def test_files_without_a_relation_are_refused(tiny_model, tmp_path):
    data = write(tmp_path / "data", blurb_files() | {"test_blurb.tsv": "@GENE$ and @CHEMICAL$\t0"})
    message = error_of(chemprot, tiny_model, data, tmp_path / "out", "--nonstandard-split")
    assert "test_blurb.tsv has no example of a relation: there is nothing to learn or to score" in message


def test_raw_and_marker_inputs_of_the_original_files(tiny_model, tmp_path):
    data = write(tmp_path, original_chemprot())
    for style, head, first in (
        ("raw", "mention", "Cocaine caused renin failure (37 degrees C. and i.v.)."),
        ("marker", "marker", "[E1] Cocaine [/E1] caused [E2] renin [/E2] failure (37 degrees C. and i.v.)."),
    ):
        options = options_of(data, input=style, head=head)
        _, shown, (fold,) = relations.read_examples(options, chemprot.BENCHMARK.prepare.keywords["read"])
        assert (shown, fold["test"][0].text_a) == (style, first)
    (task,) = prepared(chemprot, tiny_model, data, "--input", "raw", "--head", "mention").tasks
    assert all(len(feature["marks"]) == 2 for feature in task.features["train"])


def test_scores_of_a_file_are_those_of_the_run(tiny_model, tmp_path):
    data = write(tmp_path / "data", blurb_files())
    results = run(chemprot, tiny_model, data, tmp_path / "out", "--epochs", "1")
    scored = score(chemprot, data, results["folder"] / "seed_0.predictions.tsv", **FLAGS)
    assert scored["micro-F1"] == results["seeds"][0]["score"]
    with pytest.raises(ValueError, match="--split devel: expected train, dev, test"):
        score(chemprot, data, results["folder"] / "seed_0.predictions.tsv", **FLAGS | {"split": "devel"})
