"""BioASQ's yes/no questions: does what was found say yes? Nothing to run here; run finetuning.bioasq.

The input is a pair, the question and its snippets one after another; snippets longer than the model takes become
windows, each with the question, whose scores are averaged. Besides BioASQ's own JSON (finetuning.bioasq_files), which
`yesno_task` is for, two ready-made forms are read as they are:

- SciFive's of BLURB's examples (github.com/justinphan3110/SciFive): train_blurb.tsv, dev_blurb.tsv, test_blurb.tsv with
  `question: ... context: ...<TAB>yes`;
- Bio-ELECTRA's (github.com/SciCrunch/bio_electra): yesno_train.tsv, yesno_dev.tsv, yesno_test.tsv with a header and
  label (1 is yes), question and ideal answer, which says more than snippets do. Its dev file is its test file: then
  dev is left out, every tenth training question is held out for it, and it is said.

| variant                       | questions train / dev / test |
| ----------------------------- | ---------------------------- |
| BioASQ 7b yes/no (BLURB)      | 670 / 75 / 140               |
| BioASQ yes/no, ideal answers  | 728 / - / 128                |
"""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetuning import texts
from finetuning.classification import classification_task
from finetuning.config import FinetuneConfig
from finetuning.loop import Task
from finetuning.ranks import say
from finetuning.splits import Variant
from finetuning.text_files import TextFile, checksum, find_splits, not_empty, read_table
from finetuning.text_inputs import Example
from finetuning.text_labels import Settings, decode
from finetuning.text_scores import ACCURACY, accuracy_scores

LABELS = ("yes", "no")
SCIFIVE = {split: (f"{split}_blurb.tsv",) for split in ("train", "dev", "test")}
BIO_ELECTRA = {split: (f"yesno_{split}.tsv",) for split in ("train", "dev", "test")}
BLURB = "BLURB, arXiv:2007.15779"
LINKBERT = "BLURB, arXiv:2203.15827"
VARIANTS = (  # of the ready-made forms, for the Benchmark of finetuning.bioasq
    Variant(
        "BioASQ 7b yes/no (BLURB)",
        {"questions": (670, 75, 140)},
        published=(
            ("BioBERT", 84.14, BLURB),
            ("PubMedBERT", 87.56, BLURB),
            ("BioLinkBERT-base", 91.43, LINKBERT),
            ("BioLinkBERT-large", 94.82, LINKBERT),
            ("BioM-ELECTRA-base", 87.14, "BLURB, github.com/salrowili/BioM-Transformers, one run"),
        ),
    ),
    Variant("BioASQ yes/no, ideal answers", {"questions": (728, 128)}),
)


def is_ready_made(folder: Path) -> bool:
    """Whether `folder` has one of the two forms above."""
    return any((folder / names["test"][0]).is_file() for names in (SCIFIVE, BIO_ELECTRA))


def read_scifive(path: Path) -> TextFile:
    """`question: ... context: ...<TAB>yes`; ValueError naming the line that is not so."""
    examples = []
    for number, row in read_table(path, ("text", "label"), header=False):
        question, found, context = row["text"].removeprefix("question:").partition(" context:")
        good = row["text"].startswith("question:") and found and question.strip() and context.strip()
        if not good or row["label"] not in LABELS:
            raise ValueError(f"{path} line {number} is not `question: ... context: ...<TAB>yes` or no: correct it")
        examples.append(Example(question.strip(), row["label"], context.strip(), index=str(number)))
    not_empty(path, examples, "lines `question: ... context: ...<TAB>yes`")
    return TextFile(path, checksum([path]), examples, {"questions": len(examples)})


def read_bio_electra(path: Path) -> TextFile:
    """Label (1 or 0), question and ideal answer; ValueError naming the line with another label."""
    examples = []
    for number, row in read_table(path, ("yesno_label", "question", "ideal_answer")):
        if row["yesno_label"] not in ("0", "1"):
            raise ValueError(f"{path} line {number}: yesno_label is {row['yesno_label']!r}, expected 0 or 1")
        label = LABELS[0] if row["yesno_label"] == "1" else LABELS[1]
        examples.append(Example(row["question"], label, row["ideal_answer"], index=str(number)))
    not_empty(path, examples, "lines of label, question and ideal answer")
    return TextFile(path, checksum([path]), examples, {"questions": len(examples)})


def read_ready_made(options: Namespace) -> texts.Files:
    """The splits of one of the two forms; a dev file that is the test file is left out."""
    scifive = (options.data / SCIFIVE["test"][0]).is_file()
    names, read = (SCIFIVE, read_scifive) if scifive else (BIO_ELECTRA, read_bio_electra)
    files = {split: read(path) for split, path in find_splits(options, names).items()}
    if "dev" in files and files["dev"].sha256 == files["test"].sha256:
        say(
            f"warning: {files['dev'].path} is the test file: it is left out, since no epoch may be chosen on the "
            "test; every tenth training question is held out instead"
        )
        del files["dev"]
    return files


def ready_made_settings(variant: Variant, files: texts.Files) -> Settings:
    """Two answers, scored by accuracy as in BLURB."""
    return Settings("single", ACCURACY, accuracy_scores, texts.write_column, LABELS, benchmark="BioASQ yes/no")


# texts.prepare(benchmark, options, config, CORPUS) and texts.score_file(benchmark, options, CORPUS) run these forms.
CORPUS = texts.Corpus(read_ready_made, ready_made_settings)


def yesno_task(
    examples: dict[str, list[Example]],
    model: str,
    config: FinetuneConfig,
    metric: str,
    score: Callable[[str, dict[str, str]], dict[str, Any]],
    write: Callable[[dict[str, str], Path], None],
) -> Task:
    """The Task of yes/no questions given as Examples (question, label, snippets as text_b, index its id).

    `score` is given the split and question id -> "yes" or "no", and returns scores with `metric` among them; `write`
    is given the answers of the test split and writes a submission (JSON).
    """

    def write_answers(part: list[Example], predicted: list[str], path: Path) -> None:
        write({example.index: label for example, label in zip(part, predicted, strict=True)}, path)

    settings = Settings(
        "single", metric, accuracy_scores, write_answers, LABELS, benchmark="BioASQ yes/no", suffix="json"
    )
    for split, part in examples.items():
        assert len({example.index for example in part}) == len(part), f"{split}: a question twice"
    task = classification_task(examples, model, config, settings)

    def answers_scores(split: str, outputs: list) -> dict[str, Any]:
        labels = decode(outputs, settings, (0.0, 1.0))
        return score(split, {one.index: label for one, label in zip(examples[split], labels, strict=True)})

    return replace(task, score=answers_scores)
