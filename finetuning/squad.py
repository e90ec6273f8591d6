"""SQuAD 1.1 and 2.0: answers as spans of Wikipedia paragraphs. F1 over words, and exact match, as SQuAD's scripts.

    python -m finetuning.squad --model DIR_OR_NAME --data DIR --output DIR --seeds 5

Its `model/` is the first stage of two for BioASQ: python -m finetuning.bioasq --model THAT_FOLDER ...

Citations: Rajpurkar et al., "SQuAD: 100,000+ questions for machine comprehension of text", EMNLP 2016, D16-1264;
Rajpurkar et al., "Know what you don't know: unanswerable questions for SQuAD", ACL 2018, P18-2124 (2.0).

Files (rajpurkar.github.io/SQuAD-explorer), one version in a folder: train-v1.1.json and dev-v1.1.json, or
train-v2.0.json and dev-v2.0.json. The real test set is not public: as everyone does, we report the dev file as
test, so there is no early stopping; the last epoch counts. Files in the same form, train*.json, dev*.json and
test*.json, run with --nonstandard-split; one file alone (XQuAD, COVID-QA) by cross-validation over its articles,
--folds 5.

| variant   | questions train / dev | of which without an answer |
| --------- | --------------------- | -------------------------- |
| SQuAD 1.1 | 87,599 / 10,570       | none                       |
| SQuAD 2.0 | 130,319 / 11,873      | some: answered with ""     |

Published scores (F1 on dev) are in BENCHMARK below, each with its source.
"""

from finetuning import command, squad_task
from finetuning.config import FinetuneConfig
from finetuning.splits import Benchmark, Variant

BIOMEGATRON = "arXiv:2010.06060"
BIOM = "github.com/salrowili/BioM-Transformers"
NVIDIA = "github.com/NVIDIA/DeepLearningExamples, TensorFlow2/LanguageModeling/ELECTRA"

BENCHMARK = Benchmark(
    name="SQuAD",
    variants=(
        Variant(
            "SQuAD 1.1",
            {"questions": (87599, 10570)},
            published=(("BioMegatron (best)", 91.8, BIOMEGATRON), ("ELECTRA-base (NVIDIA)", 90.96, NVIDIA)),
        ),
        Variant(
            "SQuAD 2.0",
            {"questions": (130319, 11873)},
            published=(
                ("BioM-ELECTRA-base", 84.20, BIOM),
                ("BioM-ELECTRA-large", 88.27, BIOM),
                ("BioMegatron (best)", 86.4, BIOMEGATRON),
                ("ELECTRA-base (NVIDIA)", 83.43, NVIDIA),
            ),
        ),
    ),
    # google-research/electra's for SQuAD: 2 epochs, batches of 32, length 512, no dropout before the head.
    defaults=FinetuneConfig(epochs=2, batch_size=32, max_length=512, overlap=128, dropout=0.0),
    prepare=squad_task.prepare,
    score_file=squad_task.score_file,
    add_flags=squad_task.add_flags,
)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    command.main(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    main()
