"""PubMedQA from its JSON to scores: the published split made again, predictions as the official evaluation has them."""

import json
import random
from argparse import Namespace

import pytest

from finetuning import pubmedqa
from finetuning.pubmedqa_files import published_split, read_pubmedqa, read_records
from tests.finetuning.text_samples import DATA, PUBMEDQA, error_of, run, score


def write(folder, records=PUBMEDQA):
    folder.mkdir(exist_ok=True)
    (folder / "ori_pqal.json").write_text(json.dumps(records))
    return folder


def thousand():
    """As many records of each label as PubMedQA has: 552 yes, 338 no, 110 maybe."""
    labels = ["yes"] * 552 + ["no"] * 338 + ["maybe"] * 110
    random.Random(5).shuffle(labels)
    return {str(i): {"QUESTION": "q", "CONTEXTS": ["c"], "final_decision": label} for i, label in enumerate(labels)}


def official_split(dataset):
    """The authors' procedure (preprocess/split_dataset.py), written apart: ids of fold 0's train and dev, and test."""
    generator = random.Random(0)

    def divide(ids, parts):
        groups = []
        for label in ("yes", "no", "maybe"):
            members = [i for i in ids if dataset[i]["final_decision"] == label]
            generator.shuffle(members)
            step = -(-len(members) // parts)
            cuts = [members[k * step : (k + 1) * step] for k in range(parts - 1)] + [members[(parts - 1) * step :]]
            groups.append(cuts)
        sets = [groups[0][k] + groups[1][k] + groups[2][k] for k in range(parts)]
        if len(sets[-1]) != len(sets[0]):
            for k in range(parts - 1):
                moved = generator.choice(sets[k])
                sets[-1].append(moved)
                sets[k].remove(moved)
        return sets

    others, test = divide(list(dataset), 2)
    folds = divide(others, 10)
    return [i for fold in folds[1:] for i in fold], folds[0], test


def test_published_split():
    records = thousand()
    splits = published_split(records)
    assert {split: len(part) for split, part in splits.items()} == {"train": 450, "dev": 50, "test": 500}
    assert [list(part) for part in splits.values()] == list(official_split(records))
    counts = [sum(one["final_decision"] == "yes" for one in part.values()) for part in splits.values()]
    assert counts[2] == 276 and abs(counts[0] - 248) <= 2


def test_files_to_results(tiny_model, tmp_path):
    data = write(tmp_path / "data")
    results = run(pubmedqa, tiny_model, data, tmp_path / "out")
    assert (results["variant"], results["metric"]) == ("PubMedQA", "accuracy")
    assert sum(part["questions"] for part in results["split"].values()) == 20
    predictions = results["folder"] / "seed_0.predictions.json"
    answers = json.loads(predictions.read_text())
    gold = {pmid: PUBMEDQA[pmid]["final_decision"] for pmid in answers}
    right = sum(answers[pmid] == label for pmid, label in gold.items())
    assert results["seeds"][0]["score"] == pytest.approx(right / len(gold))
    assert score(pubmedqa, data, predictions)["accuracy"] == results["seeds"][0]["score"]


def test_predictions_of_anyone(tmp_path):
    data = write(tmp_path / "data")
    test = read_pubmedqa(Namespace(data=data, train_split=None))["test"].examples
    path = tmp_path / "ours.json"
    right = {one.index: one.label for one in test}
    path.write_text(json.dumps(right))
    assert score(pubmedqa, data, path)["macro-F1"] == 1.0
    first, *rest = right
    path.write_text(json.dumps({pmid: right[pmid] for pmid in rest}))
    with pytest.raises(ValueError, match=rf"differ in 1 questions \(first: {first}\)"):
        score(pubmedqa, data, path)
    path.write_text(json.dumps(right | {first: "perhaps"}))
    with pytest.raises(ValueError, match=f'the answer to {first} is "perhaps", expected one of yes, no, maybe'):
        score(pubmedqa, data, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(":", "=", 1), "ours.json line 1 is not JSON"),
        (lambda text: f"[{text}]", "ours.json holds no JSON object: expected the form of the official"),
        (lambda text: text.replace("{", '{"7": "yes", "7": "no", '), "ours.json has '7' more than once"),
    ],
)
def test_broken_predictions(tmp_path, change, message):
    """A byte order mark is none of it, and of two answers to a question neither is taken unasked."""
    data = write(tmp_path / "data")
    test = read_pubmedqa(Namespace(data=data, train_split=None))["test"].examples
    path, text = tmp_path / "ours.json", json.dumps({one.index: one.label for one in test})
    path.write_text(text, encoding="utf-8-sig")
    assert score(pubmedqa, data, path)["accuracy"] == 1.0
    path.write_text(change(text))
    with pytest.raises(ValueError) as refused:
        score(pubmedqa, data, path)
    assert message in str(refused.value) and "delete" not in str(refused.value)
    (data / "test_ground_truth.json").write_text(change(text))
    with pytest.raises(ValueError, match="test_ground_truth.json"):
        read_pubmedqa(Namespace(data=data, train_split=None))


def test_the_authors_own_files(tmp_path):
    write(tmp_path)
    splits = published_split(PUBMEDQA)
    (tmp_path / "pqal_fold0").mkdir()
    for path, split in (("pqal_fold0/train_set", "train"), ("pqal_fold0/dev_set", "dev"), ("test_set", "test")):
        (tmp_path / f"{path}.json").write_text(json.dumps(splits[split]))
    files = read_pubmedqa(Namespace(data=tmp_path, train_split=None))
    assert {split: [one.index for one in file.examples] for split, file in files.items()} == {
        split: list(part) for split, part in splits.items()
    }
    example = files["test"].examples[0]
    record = PUBMEDQA[example.index]
    assert (example.text_a, example.text_b) == (record["QUESTION"], " ".join(record["CONTEXTS"]))


def test_test_questions_must_be_the_published_ones(tmp_path):
    write(tmp_path)
    test = {pmid: record["final_decision"] for pmid, record in published_split(PUBMEDQA)["test"].items()}
    (tmp_path / "test_ground_truth.json").write_text(json.dumps(test))
    read_pubmedqa(Namespace(data=tmp_path, train_split=None))
    write(tmp_path, dict(reversed(PUBMEDQA.items())))
    with pytest.raises(ValueError, match="the test questions that follow from the order of the records are not those"):
        read_pubmedqa(Namespace(data=tmp_path, train_split=None))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"QUESTION": "q", "CONTEXTS": [], "final_decision": "yes"}, "record 7 needs QUESTION, a text, and CONTEXTS"),
        ({"CONTEXTS": ["c"], "final_decision": "yes"}, "record 7 needs QUESTION"),
        ({"QUESTION": "q", "CONTEXTS": ["c"]}, "record 7 has final_decision None, expected one of yes, no, maybe"),
        ("text", "record 7 needs QUESTION"),
    ],
)
def test_broken_records_are_named(tmp_path, record, message):
    path = write(tmp_path, {"7": record}) / "ori_pqal.json"
    with pytest.raises(ValueError) as refused:
        read_records(path)
    assert message in str(refused.value)
    path.write_text('{"1": {},\n"2": }')
    with pytest.raises(ValueError, match="ori_pqal.json line 2 is not JSON"):
        read_records(path)


def test_other_sizes_and_absent_files_are_refused(tiny_model, tmp_path):
    message = error_of(pubmedqa, tiny_model, write(tmp_path / "data"), tmp_path / "out")
    assert "PubMedQA has 450 / 50 / 500 questions; found" in message
    (tmp_path / "none").mkdir()
    message = error_of(pubmedqa, tiny_model, tmp_path / "none", tmp_path / "out")
    assert "has no ori_pqal.json" in message


def test_sample_as_distributed(tmp_path):
    sample = DATA / "qa" / "pubmedqa_ori_pqal_sample20.json"
    if not sample.is_file():
        pytest.skip(f"{sample} is not there")
    for data in (sample, sample.parent):
        files = read_pubmedqa(Namespace(data=data, train_split=None))
        assert {split: file.counts["questions"] for split, file in files.items()} == {"train": 8, "dev": 2, "test": 10}
    labels = [one.label for file in files.values() for one in file.examples]
    assert (labels.count("yes"), labels.count("no"), labels.count("maybe")) == (10, 6, 4)
