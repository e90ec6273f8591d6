"""What a bag of words does on a benchmark of texts or relations: TF-IDF and logistic regression, by the same scorers.

    python -m benchmarks.text_baseline hoc --data DIR [the benchmark's own flags] [--output FILE]

A finetuned encoder should beat it. Steps: (1) read the benchmark's files as its script in finetuning/ does; (2) count
words and pairs of neighbouring words (lower case, at least twice in train, TF-IDF with logarithmic counts), both texts
of a pair apart; (3) fit a logistic regression, for several labels one each, with each inverse regularisation strength C
of STRENGTHS; (4) score the test split with the C that is best on dev, by the function that scores the models. The
result is one line, and JSON in FILE.
"""

import argparse
import importlib
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from finetuning import texts
from finetuning.results import write_json
from finetuning.splits import Benchmark
from finetuning.text_inputs import Example, Label
from finetuning.text_labels import Settings, score_labels

STRENGTHS = (1.0, 10.0, 100.0)
Splits = dict[str, list[Example]]


def text_examples(benchmark: Benchmark, options: argparse.Namespace, corpus: texts.Corpus) -> tuple[str, Splits, Any]:
    """Name of the variant, examples of each split and Settings of a text benchmark."""
    files, variant = texts.read_variant(benchmark, options, corpus)
    return variant.name, {split: file.examples for split, file in files.items()}, corpus.settings(variant, files)


def read_benchmark(benchmark: Benchmark, options: argparse.Namespace) -> tuple[str, list[Splits], Settings]:
    """Name of the variant, examples of each split of each fold, and Settings; ValueError for another family."""
    keywords = getattr(benchmark.prepare, "keywords", {})
    if "corpus" in keywords:
        name, splits, settings = text_examples(benchmark, options, keywords["corpus"])
        folds = [splits]
    elif getattr(benchmark.prepare, "func", benchmark.prepare).__module__ == "finetuning.relations":
        relations = importlib.import_module("finetuning.relations")
        data, style, folds = relations.read_examples(options, keywords["read"])
        name, settings = data.name, relations.settings_of(benchmark, options, data, style)
    else:
        raise ValueError(f"{benchmark.name} is no benchmark of texts or relations")
    if settings.kind == "regression":
        raise ValueError(f"{benchmark.name} has numbers for labels: logistic regression does not apply")
    return name or benchmark.name, folds, settings


def features(splits: Splits) -> dict[str, csr_matrix]:
    """TF-IDF of the words of each text, those of the second text of a pair in columns of their own."""
    parts: dict[str, list[csr_matrix]] = {split: [] for split in splits}
    for column in ("text_a", "text_b"):
        of_split = {split: [getattr(one, column) or "" for one in part] for split, part in splits.items()}
        if not any(of_split["train"]):
            continue
        counter = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True).fit(of_split["train"])
        for split, column_texts in of_split.items():
            parts[split].append(counter.transform(column_texts))
    return {split: hstack(columns).tocsr() for split, columns in parts.items()}


def predict(x: dict[str, csr_matrix], train: list[Example], settings: Settings, strength: float) -> dict[str, list]:
    """Predicted labels of every split but train."""

    def fitted(gold: list[Any]) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=1000).fit(x["train"], np.array(gold))

    rest = {split: rows for split, rows in x.items() if split != "train"}
    if settings.kind == "single":
        model = fitted([one.label for one in train])
        return {split: [str(label) for label in model.predict(rows)] for split, rows in rest.items()}
    seen = [name for name in settings.labels if len({name in one.label for one in train}) == 2]
    models = {name: fitted([name in one.label for one in train]) for name in seen}
    found = {}
    for split, rows in rest.items():
        holds = {name: model.predict(rows) for name, model in models.items()}
        found[split] = [tuple(name for name in seen if holds[name][i]) for i in range(rows.shape[0])]
    return found


def best_scores(splits: Splits, settings: Settings) -> tuple[float, dict[str, Any]]:
    """The C that is best on dev (the first of STRENGTHS, if there is no dev split), and its test scores."""
    x = features(splits)
    tried = []
    for strength in STRENGTHS if "dev" in splits else STRENGTHS[:1]:
        found: dict[str, list[Label]] = predict(x, splits["train"], settings, strength)
        scores = {split: score_labels(splits[split], labels, settings) for split, labels in found.items()}
        tried.append((scores.get("dev", {}).get(settings.metric, 0.0), strength, scores["test"]))
    _, strength, test = max(tried, key=lambda one: one[0])
    return strength, test


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("benchmark", help="Name of its module in finetuning/, such as hoc or chemprot.")
    name = first.parse_known_args(arguments)[0].benchmark
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, parents=[first]
    )
    parser.add_argument("--data", required=True, type=Path, help="Folder with the benchmark's files as distributed.")
    parser.add_argument("--nonstandard-split", action="store_true", help="Run on files of other sizes.")
    parser.add_argument("--train-split", metavar="NAME", help="Train on the files of this split.")
    parser.add_argument("--output", type=Path, help="File to write all scores to, as JSON.")
    try:
        benchmark = importlib.import_module(f"finetuning.{name}").BENCHMARK
        if benchmark.add_flags:
            benchmark.add_flags(parser)
        options = parser.parse_args(arguments)
        variant, folds, settings = read_benchmark(benchmark, options)
        results = [best_scores(splits, settings) for splits in folds]
        mean = statistics.fmean(test[settings.metric] for _, test in results)
        strengths = ", ".join(f"{strength:g}" for strength in sorted({strength for strength, _ in results}))
        print(f"{variant}: TF-IDF with logistic regression: {settings.metric} {100 * mean:.2f} on test (C {strengths})")
        if options.output:
            record = {"variant": variant, "metric": settings.metric, "mean": mean, "folds": results}
            write_json(options.output, record)
    except (ImportError, AttributeError) as error:
        sys.exit(f"error: {name} is no benchmark of finetuning/ ({error})")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
