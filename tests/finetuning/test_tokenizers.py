"""Tags, questions, texts and pairs with Unigram and byte-level tokenizers: inputs as the tokenizer would make them,
nothing lost between characters and word pieces, gold counts that no tokenizer changes, training, spans in new text.
"""

import json

import numpy as np
import pytest
import torch

from finetuning import biosses, classification, encoder, tagging
from finetuning.config import FinetuneConfig
from finetuning.conll import Sentence, TaggedFile
from finetuning.entity_files import read_splits
from finetuning.entity_scores import ENTITY_F1
from finetuning.loop import fit, predict
from finetuning.predict import main as predict_command
from finetuning.qa_heads import HEADS
from finetuning.span_inputs import collate as collate_spans
from finetuning.span_inputs import join_windows, make_inputs, make_reader
from finetuning.span_qa import Settings as SpanSettings
from finetuning.span_qa import span_task
from finetuning.squad_files import Example as Question
from finetuning.tagging_inputs import word_pieces
from finetuning.text_inputs import Example, collate, layout_of, make_features
from tests.finetuning.questions import CONTEXTS, QUESTIONS
from tests.finetuning.relation_samples import write
from tests.finetuning.samples import SENTENCES, pairs
from tests.finetuning.text_samples import SIMILAR, run
from tests.finetuning.tokenizer_kinds import KINDS, ODD, model_of

LEARN = FinetuneConfig(
    learning_rate=5e-3, layer_decay=1, batch_size=8, epochs=40, patience=40, dropout=0, encoder_dropout=0
)
# Words of which normalisation leaves less, more or nothing; each is an entity in the tests.
WORDS = ["\u200b", "\x07", "\u0301", "\u00ad", "\ufeff", "\u00a0", "\u2009x", "ﬁbrosis", "½", "cafe\u0301", "🧬"] + [
    "🧬\u200d🧬",
    "[SEP]",
    "<s>",
    "▁",
    "Ġ",
    "5µM",
    "p53",
    "a" * 200,
]


@pytest.fixture(scope="module", params=KINDS)
def model(request, tmp_path_factory):
    return model_of(request.param, tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module", params=["deberta", "modernbert"])
def learner(request, tmp_path_factory):
    """Two of them, which learn by heart."""
    return model_of(request.param, tmp_path_factory.mktemp("learner"))


def opened(model):
    return encoder.load_tokenizer(str(model), encoder.load_config(str(model)))


def write_odd_benchmark(folder, separator):
    """train = test: each of WORDS as an entity of one word, and with the one before it as one of two."""
    folder.mkdir()
    lines = []
    for before, word in zip(["the", *WORDS], WORDS, strict=False):
        lines += [("seen", "O"), (word, "B-Chemical"), ("and", "O"), (before, "B-Disease"), (word, "I-Disease"), None]
    text = "".join(f"{separator.join(line)}\n" if line else "\n" for line in lines)
    for name in ("train.tsv", "test.tsv"):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("separator", ["\t", " "])
def test_every_gold_entity_is_scored(model, tmp_path, separator):
    """Words without a word piece, too, and those of more than an input has room for."""
    files = read_splits(write_odd_benchmark(tmp_path / "data", separator))
    task = tagging.tagging_task(files, str(model), FinetuneConfig(max_length=24, overlap=4))
    features = task.features["test"]
    assert max(len(feature["input_ids"]) for feature in features) <= 24
    right = [np.eye(5)[feature["labels"]] for feature in features]
    scores = task.score("test", right)
    assert (scores[ENTITY_F1], scores["entities"]) == (1.0, 2 * len(WORDS))
    outputs = predict(task.make_model(), task, features, FinetuneConfig())
    assert [len(part) for part in outputs] == [len(feature["rows"]) for feature in features]
    assert task.score("test", outputs)["entities"] == 2 * len(WORDS)
    task.write_predictions(right, tmp_path / "predictions.tsv")
    files["test"].path = tmp_path / "data" / "test.tsv"
    theirs = tagging.entity_scores.read_tags(tmp_path / "predictions.tsv", files["test"], {})
    assert theirs == [sentence.tags for sentence in files["test"].sentences]


def test_every_gold_entity_of_a_text_is_scored(model, tmp_path):
    """PubTator: the same, with offsets; those with a blank at an end cannot be tagged and count as missed."""
    text, lines = "", []
    for word in WORDS:
        text += "seen "
        lines.append(f"1\t{len(text)}\t{len(text) + len(word)}\t{word}\tChemical\t-1")
        text += f"{word} "
    (tmp_path / "data").mkdir()
    for name in ("train", "test"):
        (tmp_path / "data" / f"{name}.pubtator.txt").write_text("\n".join([f"1|t|{text}", *lines, "", ""]), "utf-8")
    files = read_splits(tmp_path / "data")
    taggable = [line for line, word in zip(lines, WORDS, strict=True) if word == word.strip()]
    assert len(files["test"].missed) == len(WORDS) - len(taggable) == 2
    task = tagging.tagging_task(files, str(model), FinetuneConfig(max_length=24, overlap=4))
    right = [np.eye(3)[feature["labels"]] for feature in task.features["test"]]
    scores = task.score("test", right)
    assert scores["entities"] == len(WORDS)
    assert scores["recall"] == len(taggable) / len(WORDS)
    task.write_predictions(right, tmp_path / "predictions.txt")
    found = (tmp_path / "predictions.txt").read_text(encoding="utf-8").split("\n")[2:]
    assert [line for line in found if line] == taggable


def test_words_have_pieces_and_no_special_ones(model):
    tokenizer = opened(model)
    pieces = word_pieces(tokenizer, WORDS)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    assert set(pieces) == set(WORDS)
    assert all(ids and not special & set(ids) for ids in pieces.values())


def test_spans_of_new_text_are_of_its_characters(learner, tmp_path):
    """Trained on the samples; then finetuning.predict on text with other blanks, an accent, an astral character."""
    sentences = [Sentence(*map(list, zip(*pairs(sentence), strict=True))) for sentence in SENTENCES]
    files = {split: TaggedFile(None, sentences, "", typed=True) for split in ("train", "dev", "test")}
    task = tagging.tagging_task(files, str(learner), LEARN)
    torch.manual_seed(0)
    network = task.make_model()
    fit(network, task, LEARN, seed=0)
    assert task.score("test", predict(network, task, task.features["test"], LEARN))[ENTITY_F1] == 1.0
    task.save(network, tmp_path / "model")
    texts = [
        "🧬 and \U0001d6fd? \u2009Naloxone\u00a0reverses high blood pressure \t",
        "  lithium\u2003carbonate  caused liver\u2009failure ",
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    flags = {"model": tmp_path / "model", "input": tmp_path / "in.jsonl", "output": tmp_path / "out.jsonl"}
    predict_command([str(part) for name, value in flags.items() for part in (f"--{name}", value)])
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [one["text"] for one in rows[0]["entities"] if one["start"] > 8] == ["Naloxone"]
    assert [one["text"] for one in rows[1]["entities"]] == ["lithium\u2003carbonate", "liver\u2009failure"]
    for row, text in zip(rows, texts, strict=True):
        assert row["text"] == text
        assert all(text[one["start"] : one["end"]] == one["text"] for one in row["entities"])


def questions():
    """ODD and the sixteen of tests/finetuning/questions.py."""
    rows = [*ODD, *((CONTEXTS[where], answer) for where, _, answer in QUESTIONS)]
    return [Question("q", "seen ﬁbrosis ?", text, ((text.index(answer), answer),)) for text, answer in rows]


def test_answers_come_back_as_they_are_in_the_context(model):
    """Gold pieces through the evaluation's output to an answer: the same characters, in windows too."""
    for length in (64, 24):
        reader = make_reader(str(model), FinetuneConfig(max_length=length, overlap=6), 30)
        examples = questions()
        inputs = make_inputs(reader, examples, training=False)
        outputs = []
        for feature in inputs.features:
            assert len(feature["input_ids"]) <= length
            score = 0.0 if feature["start"] > 0 else -np.inf
            outputs.append(np.array([[[0, 0, 0], [feature["start"], feature["end"], score]]]))
        found = join_windows(inputs, outputs)
        lost = sum(not one.answers for one in found)
        assert lost == inputs.lost and (length == 24 or not lost)
        for example, answers in zip(examples, found, strict=True):
            for answer in answers.answers:
                assert (answer.start, answer.text) == example.answers[0]
                assert example.context[answer.start : answer.end] == answer.text


def test_inputs_are_those_of_the_tokenizer(model):
    """A question on a context, a text, a pair: ids and segments as transformers puts them together."""
    tokenizer, settings = opened(model), encoder.load_config(str(model))
    reader = make_reader(str(model), FinetuneConfig(), 30)
    rows = [(question, CONTEXTS[where][:30]) for where, question, _ in QUESTIONS]
    rows += [("is it ﬁbrosis ?", text) for text, _ in ODD if "[SEP]" not in text]
    layout = layout_of(tokenizer, settings, 200, 8)
    features = make_features([Example(one, "", two) for one, two in rows], tokenizer, layout)
    features += make_features([Example(two, "") for _, two in rows], tokenizer, layout)
    batch = collate(features, layout, marks=False)
    for i, (one, two) in enumerate(rows):
        theirs = tokenizer(one, two, truncation=False, padding=False)
        (feature,) = make_inputs(reader, [Question("", one, two, None)], training=False).features
        assert features[i]["input_ids"] == feature["input_ids"] == theirs["input_ids"]
        alone = tokenizer(two, truncation=False, padding=False)["input_ids"]
        assert features[len(rows) + i]["input_ids"] == alone
        if layout.types:
            length = len(theirs["input_ids"])
            spans = collate_spans([feature], tokenizer.pad_token_id, reader.token_types)
            ours = batch["token_type_ids"][i, :length].tolist()
            assert ours == spans["token_type_ids"][0].tolist() == theirs.encodings[0].type_ids
    assert ("token_type_ids" in batch) == (settings.model_type in ("electra", "albert"))
    assert set(batch["input_ids"][batch["attention_mask"] == 0].tolist()) == {tokenizer.pad_token_id}


def test_the_longest_inputs_run(model):
    """Windows of as many word pieces as the encoder has positions for; no text or pair is cut."""
    task = classification.classification_task(
        {split: [Example("ﬁbrosis 🧬 " * 60, one, two) for one, two in (("a", None), ("b", "5 µM " * 90))]
         for split in ("train", "test")},
        str(model),
        LEARN,
        classification.Settings("single", "accuracy", lambda *_: {}, lambda *_: None, ("a", "b")),
    )  # fmt: skip
    lengths = [len(ids) for feature in task.features["test"] for ids in feature["windows"]]
    assert len(lengths) > 4 and max(lengths) in (63, 64)
    assert all(np.isfinite(output).all() for output in predict(task.make_model(), task, task.features["test"], LEARN))


@pytest.mark.parametrize("head", HEADS)
def test_questions_are_learnt_and_answered(learner, tmp_path, head):
    examples = [Question(f"q{i}", question, CONTEXTS[where], ((CONTEXTS[where].index(answer), answer),))
                for i, (where, question, answer) in enumerate(QUESTIONS)]  # fmt: skip
    record = {"benchmark": "", "metric": "F1"}
    splits = {"train": examples, "test": examples}
    task = span_task(splits, str(learner), LEARN, SpanSettings(head), lambda *_: {}, lambda *_: None, record)
    torch.manual_seed(0)
    network = task.make_model()
    fit(network, task, LEARN, seed=0)
    task.save(network, tmp_path / "model")
    lines = [json.dumps({"question": one.question, "text": one.context}) for one in examples]
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    predict_command(["--model", str(tmp_path / "model"), "--input", str(tmp_path / "in.jsonl"),
                     "--output", str(tmp_path / "out.jsonl")])  # fmt: skip
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    right = [one["answers"][0]["text"] == answer for one, (_, _, answer) in zip(found, QUESTIONS, strict=True)]
    assert sum(right) >= 14
    for one in found:
        for answer in one["answers"]:
            assert one["text"][answer["start"] : answer["end"]] == answer["text"] == answer["text"].strip() != ""


def test_similarity_pairs(learner, tmp_path):
    text = "index\tsentence1\tsentence2\tscore\n"
    text += "".join(f"{i}\t{one}\tﬁbrosis 5 µM {two}\t{value}\n" for i, (one, two, value) in enumerate(SIMILAR))
    data = write(tmp_path / "data", {f"{split}.tsv": text for split in ("train", "dev", "test")})
    results = run(biosses, learner, data, tmp_path / "out", "--epochs", "30")
    assert results["seeds"][0]["score"] > 0.9
    rows = (results["folder"] / "seed_0.predictions.tsv").read_text().splitlines()[1:]
    model = next((tmp_path / "out").rglob("task.json")).parent
    records = [{"text": one, "text_b": f"ﬁbrosis 5 µM {two}"} for one, two, _ in SIMILAR]
    found = [one["score"] for one in classification.predict_texts(model, records, 4)]
    assert found == pytest.approx([float(row.split("\t")[1]) for row in rows], abs=1e-4)
