"""Read PubMedQA's expert-labelled questions and their published split. Nothing to run here.

Used by finetuning.pubmedqa. What is read as it is (github.com/pubmedqa/pubmedqa):

- the files that its `preprocess/split_dataset.py` writes: `test_set.json` and `pqal_fold0/train_set.json` and
  `dev_set.json` (BLURB takes fold 0);
- `ori_pqal.json`, all 1,000 questions: the published split is a function of the order of that file and Python's
  random numbers from seed 0, and is made again here. Where `test_ground_truth.json` is beside it, the test questions
  must be those in it.
"""

import math
import random
from argparse import Namespace
from pathlib import Path
from typing import Any

from finetuning.text_files import TextFile, checksum, not_empty, read_object, refuse_train_split
from finetuning.text_inputs import Example

LABELS = ("yes", "no", "maybe")
Records = dict[str, dict[str, Any]]  # PMID -> QUESTION, CONTEXTS, final_decision, ...


def read_records(path: Path) -> Records:
    """PMID -> record; ValueError naming the record that lacks something."""
    records = read_object(path, "ori_pqal.json, PMID -> record")
    for pmid, record in records.items():
        good = isinstance(record, dict) and isinstance(record.get("QUESTION"), str)
        contexts = record.get("CONTEXTS") if good else None
        if not (isinstance(contexts, list) and contexts and all(isinstance(text, str) for text in contexts)):
            raise ValueError(f"{path}: record {pmid} needs QUESTION, a text, and CONTEXTS, a list of texts")
        if record.get("final_decision") not in LABELS:
            raise ValueError(
                f"{path}: record {pmid} has final_decision {record.get('final_decision')!r}, "
                f"expected one of {', '.join(LABELS)}"
            )
    return records


def examples_of(records: Records) -> list[Example]:
    """Question and abstract (its parts joined; without the conclusion, which is the long answer)."""
    return [
        Example(one["QUESTION"], one["final_decision"], " ".join(one["CONTEXTS"]), document=pmid, index=pmid)
        for pmid, one in records.items()
    ]


def parts_by_label(records: Records, count: int, chance: random.Random) -> list[Records]:
    """`count` parts with the same shares of each label, as the authors' script makes them.

    The questions of each label are shuffled and dealt out in runs of equal length; where the last part is short, one
    question of each other part goes over to it.
    """
    by_label: dict[str, list[str]] = {label: [] for label in LABELS}
    for pmid, record in records.items():
        by_label[record["final_decision"]].append(pmid)
    dealt = []
    for pmids in by_label.values():
        chance.shuffle(pmids)
        size = math.ceil(len(pmids) / count)
        dealt.append([pmids[i * size : (i + 1) * size] for i in range(count)])
    parts = [[pmid for label in dealt for pmid in label[i]] for i in range(count)]
    if len(parts[-1]) != len(parts[0]):
        for part in parts[:-1]:
            if part:
                picked = chance.choice(part)
                part.remove(picked)
                parts[-1].append(picked)
    return [{pmid: records[pmid] for pmid in part} for part in parts]


def published_split(records: Records) -> dict[str, Records]:
    """Half of the questions for the test, a tenth of the others (fold 0) for dev, the rest for training."""
    chance = random.Random(0)
    others, test = parts_by_label(records, 2, chance)
    folds = parts_by_label(others, 10, chance)
    train = {pmid: record for fold in folds[1:] for pmid, record in fold.items()}
    return {"train": train, "dev": folds[0], "test": test}


def check_test(test: Records, path: Path) -> None:
    """ValueError if the questions of `test` are not those of the published list with their labels."""
    truth = read_object(path, "PubMedQA's own, PMID -> answer")
    ours = {pmid: record["final_decision"] for pmid, record in test.items()}
    if ours != truth:
        raise ValueError(
            f"the test questions that follow from the order of the records are not those of {path}: the file of "
            "questions is not the published ori_pqal.json, or in another order; get it anew"
        )


def find_questions(data: Path) -> Path:
    """The one file of questions in a folder (or the file itself)."""
    if data.is_file():
        return data
    if (data / "ori_pqal.json").is_file():
        return data / "ori_pqal.json"
    found = sorted(path for path in data.glob("*pqal*.json") if not path.name.startswith("."))
    if len(found) != 1:
        raise ValueError(
            f"{data} has no ori_pqal.json (and {len(found)} other files of that sort), nor test_set.json with "
            "pqal_fold0/: get the files of github.com/pubmedqa/pubmedqa"
        )
    return found[0]


def read_pubmedqa(options: Namespace) -> dict[str, TextFile]:
    """The three splits, from either form."""
    refuse_train_split(options)
    data = options.data
    paths = {
        "train": data / "pqal_fold0" / "train_set.json",
        "dev": data / "pqal_fold0" / "dev_set.json",
        "test": data / "test_set.json",
    }
    if all(path.is_file() for path in paths.values()):
        splits = {split: read_records(path) for split, path in paths.items()}
    else:
        path = find_questions(data)
        splits = published_split(read_records(path))
        paths = dict.fromkeys(splits, path)
        if (path.parent / "test_ground_truth.json").is_file():
            check_test(splits["test"], path.parent / "test_ground_truth.json")
    files = {}
    for split, records in splits.items():
        examples = not_empty(paths[split], examples_of(records), f"questions for {split}")
        files[split] = TextFile(paths[split], checksum([paths[split]]), examples, {"questions": len(examples)})
    return files
