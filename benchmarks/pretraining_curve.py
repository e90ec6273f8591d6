"""How fast a short pretraining learns: validation losses and discriminator AUC over time, beside a logistic regression.

    python -m benchmarks.pretraining_curve --run RUN --output benchmarks/curves/NAME

RUN is the folder of a finished run of launch/pretrain.sh (its metrics.jsonl and newest checkpoint). Steps: (1) read
the validation rows; (2) generate replaced text for the validation samples with the run's own generator, and fit a
logistic regression on (word piece, left neighbour, right neighbour) to tell replaced pieces: what no context beyond
the neighbours can do; (3) write NAME.md (settings, table, the run's machine and commit), NAME.json, NAME.png.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pretraining import checkpoint
from pretraining.corpus.indexed import IndexedCorpus
from pretraining.corpus.tokenizer import load_tokenizer, special_tokens
from pretraining.data import Samples
from pretraining.export import restore_objective
from pretraining.machine import machine_facts
from pretraining.sample_map import (
    SPECIALS_PER_SAMPLE,
    build_sample_map,
    open_sample_map,
    sample_map_path,
    split_documents,
)
from pretraining.softmax import sample_inverse_cdf

TRAINING_SAMPLES, MICRO_BATCH = 6000, 50  # samples of the training split that the regression is fitted on


def validation_rows(run: Path) -> list[dict]:
    """Validation rows of metrics.jsonl, with `minutes` since the run started (one that was never resumed)."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row | {"minutes": row["seconds"] / 60} for row in rows if row["kind"] == "validation"]


def open_split(config, prefix: str, split: str, tokenizer_folder: Path) -> Samples:
    """The samples of a split exactly as the trainer has them."""
    corpus = IndexedCorpus(prefix)
    documents = split_documents(config.data.split, corpus.num_documents, split)
    cut = (config.data.seq_length - SPECIALS_PER_SAMPLE, config.data.short_seq_prob, config.run.seed)
    digest = json.loads(Path(f"{prefix}.json").read_text())["idx_sha256"]
    path = sample_map_path(prefix, config.data.data_cache_path, digest, documents, cut)
    build_sample_map(corpus, path, documents, cut)
    special = special_tokens(load_tokenizer(tokenizer_folder))
    data = config.data
    return Samples(corpus, open_sample_map(path), special, data.mask_prob, data.one_segment_prob, config.run.seed)


@torch.no_grad()
def replaced_text(objective: torch.nn.Module, samples: Samples, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(corrupted ids, replaced or not), [all word pieces], of the first `count` samples, by the run's generator."""
    objective.eval()
    indices = samples.first(count)
    ids, labels = [], []
    for first in range(0, len(indices), MICRO_BATCH):
        part = indices[first : first + MICRO_BATCH]
        batch = samples.micro_batches(np.zeros_like(part), part, len(part), [0])[0]
        hidden = objective.generator(objective.embeddings(batch.generator_ids, batch), batch)
        logits = objective.generator_head(hidden[batch.masked_positions])
        sampled = sample_inverse_cdf(logits, batch.replacement_uniforms)
        corrupted = batch.input_ids.index_copy(0, batch.masked_positions, sampled)
        ids.append(corrupted.numpy())
        labels.append((corrupted != batch.input_ids).numpy())
    return np.concatenate(ids), np.concatenate(labels)


def neighbour_features(ids: np.ndarray, vocabulary: int) -> sparse.csr_matrix:
    """One-hot features of each word piece, its left and its right neighbour: [word pieces, 3 x vocabulary]."""
    columns = np.stack([ids, np.roll(ids, 1) + vocabulary, np.roll(ids, -1) + 2 * vocabulary], axis=1).ravel()
    rows = np.repeat(np.arange(len(ids)), 3)
    return sparse.csr_matrix((np.ones(len(columns), np.float32), (rows, columns)), shape=(len(ids), 3 * vocabulary))


def regression_auc(run: Path, corpus: str) -> float:
    """AUC on the validation samples of a logistic regression fitted on training samples of the same generator."""
    config, objective, tokenizer_folder = restore_objective(checkpoint.find_checkpoint(run))
    vocabulary = objective.embeddings.word.num_embeddings
    sets = [
        replaced_text(objective, open_split(config, corpus, split, tokenizer_folder), count)
        for split, count in (
            ("training", TRAINING_SAMPLES),
            ("validation", config.run.eval_iters * config.optimizer.global_batch_size),
        )
    ]
    (train_ids, train_labels), (test_ids, test_labels) = sets
    model = LogisticRegression(solver="liblinear", C=0.1).fit(neighbour_features(train_ids, vocabulary), train_labels)
    return float(roc_auc_score(test_labels, model.decision_function(neighbour_features(test_ids, vocabulary))))


def plot(rows: list[dict], baseline: float, path: Path) -> None:
    """Losses and AUC over minutes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    minutes = [row["minutes"] for row in rows]
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for axis, name in zip(axes, ("generator_loss", "discriminator_loss", "discriminator_auc"), strict=True):
        axis.plot(minutes, [row[name] for row in rows], marker="o")
        axis.set(title=name.replace("_", " "), xlabel="minutes")
        axis.grid(alpha=0.3)
    axes[2].axhline(baseline, linestyle="--", color="gray", label="logistic regression on neighbours")
    axes[2].legend(loc="lower right")
    figure.savefig(path, dpi=110)


def without_folders(command: str) -> str:
    """A command with the last parts alone of absolute paths, --flag /path/name and --flag=/path/name."""
    return re.sub(r"(?<=[\s=])/\S*/", "", " " + command.strip()).strip()


def describe_origin(run: Path) -> str:
    """What the run says that it ran on (machine.json); of one that says nothing, what this machine and code are."""
    file = run / "machine.json"
    facts = json.loads(file.read_text()) if file.exists() else machine_facts(torch.device("cpu"))
    what = "Run" if file.exists() else "Analysed"
    return f"{what} at commit {facts['commit']}; {facts['device']}, {facts['cores']} cores, torch {facts['torch']}."


def report(run: Path, rows: list[dict], baseline: float) -> str:
    """The Markdown page."""
    config = json.loads((run / "config.json").read_text())
    command = without_folders((run / "command.txt").read_text())
    settings = config["optimizer"] | {name: config["data"][name] for name in ("seq_length", "mask_prob", "split")}
    thirds = [np.mean([row["discriminator_auc"] for row in part]) for part in np.array_split(np.array(rows), 3)]
    lines = [
        f"# {config['model']['preset']}, {rows[-1]['minutes']:.0f} minutes",
        "",
        describe_origin(run),
        "",
        "```",
        command,
        "```",
        "",
        "Settings: " + ", ".join(f"{name} {value}" for name, value in settings.items()) + ".",
        "",
        f"AUC of the three thirds of the run: {', '.join(f'{value:.4f}' for value in thirds)}; at the end "
        f"{rows[-1]['discriminator_auc']:.4f}. A logistic regression on (word piece, left, right): {baseline:.4f}.",
        "",
        "| minutes | step | generator loss | discriminator loss | AUC | generator accuracy |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row['minutes']:.1f} | {row['step']:,} | {row['generator_loss']:.3f} | {row['discriminator_loss']:.4f} | "
        f"{row['discriminator_auc']:.4f} | {row['generator_accuracy']:.3f} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretraining_curve", description=__doc__.split("\n")[0])
    parser.add_argument("--run", required=True, type=Path, metavar="PATH", help="Folder of a finished run.")
    parser.add_argument("--output", required=True, type=Path, metavar="PATH", help="Where to write, without ending.")
    arguments = parser.parse_args()
    try:
        corpus = json.loads((arguments.run / "config.json").read_text())["data"]["data_path"]
        rows, baseline = validation_rows(arguments.run), regression_auc(arguments.run, corpus)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.with_suffix(".md").write_text(report(arguments.run, rows, baseline), encoding="utf-8")
        numbers = {"regression_auc": baseline, "validation": rows}
        arguments.output.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
        plot(rows, baseline, arguments.output.with_suffix(".png"))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"AUC {rows[-1]['discriminator_auc']:.4f}, logistic regression {baseline:.4f}; {arguments.output}.md")


if __name__ == "__main__":
    main()
