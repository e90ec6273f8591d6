"""PubMedQA, reasoning required: does an abstract say yes, no or maybe to the question of its title? Accuracy.

    python -m finetuning.pubmedqa --model DIR_OR_NAME --data DIR --output DIR --seeds 10

Citation: Jin et al., "PubMedQA: a dataset for biomedical research question answering", EMNLP 2019, arXiv:1909.06146.

Files, read as they are distributed by github.com/pubmedqa/pubmedqa (finetuning.pubmedqa_files): data/ori_pqal.json,
with test_ground_truth.json beside it if you have it; or test_set.json and pqal_fold0/ as its script makes them.

| variant  | questions train / dev / test |
| -------- | ---------------------------- |
| PubMedQA | 450 / 50 / 500               |

The 450 and 50 are fold 0 of the published ten, as in BLURB. The input is the question and the abstract without its
conclusion; an abstract longer than the model takes becomes windows, each with the question. Macro-F1 is reported
beside the accuracy. Predictions are written as the official evaluation reads them: JSON, PMID -> answer.

Published scores that may stand beside ours are in BENCHMARK below, each with its source.
BioELECTRA (BioNLP 2021) was finetuned with 20 epochs and batches of 32; the rate is known of a large model only (5e-5),
so it is by the model's size here. More epochs may be run, for the dev score says when to stop.
"""

import json
from functools import partial
from pathlib import Path

from finetuning import command, texts
from finetuning.config import FinetuneConfig
from finetuning.pubmedqa_files import LABELS, read_pubmedqa
from finetuning.results import write_json
from finetuning.splits import Benchmark, Variant
from finetuning.text_files import read_object
from finetuning.text_inputs import Example, Label
from finetuning.text_labels import Settings
from finetuning.text_scores import ACCURACY, accuracy_scores


def settings(variant: Variant, files: texts.Files) -> Settings:
    """Three answers."""
    return Settings("single", ACCURACY, accuracy_scores, write_predictions, LABELS, benchmark="PubMedQA", suffix="json")


def write_predictions(examples: list[Example], predicted: list[Label], path: Path) -> None:
    """PMID -> answer."""
    write_json(path, {example.index: label for example, label in zip(examples, predicted, strict=True)})


def read_predictions(path: Path, examples: list[Example], settings: Settings) -> list[Label]:
    """Answers of the file; ValueError unless it has exactly the questions of the split."""
    found = read_object(path, "the official evaluation's, PMID -> answer")
    expected = {example.index for example in examples}
    if set(found) != expected:
        other = sorted(set(found) ^ expected)
        raise ValueError(f"{path} and the split differ in {len(other)} questions (first: {other[0]})")
    for pmid, label in found.items():
        if label not in LABELS:
            raise ValueError(
                f"{path}: the answer to {pmid} is {json.dumps(label)}, expected one of {', '.join(LABELS)}"
            )
    return [found[example.index] for example in examples]


CORPUS = texts.Corpus(read_pubmedqa, settings, read_predictions, documents="pmid:")
BENCHMARK = Benchmark(
    name="PubMedQA",
    variants=(
        Variant(
            "PubMedQA",
            {"questions": (450, 50, 500)},
            published=(
                ("BioBERT", 60.24, "BLURB, arXiv:2007.15779"),
                ("PubMedBERT", 55.84, "BLURB, arXiv:2007.15779"),
                ("BioELECTRA", 64.0, "BLURB, BioNLP 2021"),
                ("BioLinkBERT-base", 70.20, "BLURB, arXiv:2203.15827"),
                ("BioLinkBERT-large", 72.18, "BLURB, arXiv:2203.15827"),
                ("BioM-ELECTRA-base", 69.60, "BLURB, github.com/salrowili/BioM-Transformers, one run"),
            ),
        ),
    ),
    defaults=FinetuneConfig(epochs=30, patience=10, batch_size=32),
    prepare=partial(texts.prepare, corpus=CORPUS),
    score_file=partial(texts.score_file, corpus=CORPUS),
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
