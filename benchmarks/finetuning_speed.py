"""Speed of tagging entities here, beside Hugging Face's run_ner way: training and prediction, sentences a second.

    python -m benchmarks.finetuning_speed --data BC2GM [--model DIR] [--output FILE.json]

1. Take the same sentences of the train split for both; without --model, random weights of ELECTRA `small` (12 layers,
   hidden 256) and a WordPiece vocabulary trained on the words of the train split.
2. Ours: finetuning.loop.fit and predict, as the entity benchmarks call them, without a dev split.
3. Theirs: what transformers' examples/pytorch/token-classification/run_ner.py does with --pad_to_max_length: inputs
   padded to 128, DataCollatorForTokenClassification, the real Trainer (needs accelerate), one epoch, then predict.
   What is longer than 128 word pieces is cut there and not here.
4. Alternate the two, --rounds times; print the medians and their ratio as a table, and write every measurement as JSON.

Both run on the same number of threads, with the same batch size and optimizer steps, in fp32 (or both in bf16).
"""

import argparse
import contextlib
import io
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    ElectraConfig,
    ElectraForPreTraining,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from finetuning import encoder
from finetuning.config import FinetuneConfig
from finetuning.conll import Sentence, TaggedFile
from finetuning.entity_files import read_splits
from finetuning.loop import fit, predict
from finetuning.tagging import tagging_task

PADDED_TO = 128
VOCABULARY = 30522  # of a random model; BERT's


def write_random_model(folder: Path, sentences: list[Sentence]) -> None:
    """ELECTRA `small` with random weights, and a vocabulary of the sentences' words."""
    trained = BertWordPieceTokenizer(lowercase=True)
    with contextlib.redirect_stdout(io.StringIO()):
        trained.train_from_iterator((" ".join(one.words) for one in sentences), VOCABULARY, show_progress=False)
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, **special).save_pretrained(folder)
    torch.manual_seed(0)
    with encoder.quiet_transformers():
        ElectraForPreTraining(ElectraConfig(vocab_size=VOCABULARY)).save_pretrained(folder)


def our_way(sentences: list[Sentence], model: str, config: FinetuneConfig) -> tuple[Callable, Callable]:
    """(train, predict): train gives a trained network; predict takes it."""
    files = {split: TaggedFile(Path("-"), sentences, "", typed=True) for split in ("train", "test")}
    task = tagging_task(files, model, config)

    def train() -> Any:
        torch.manual_seed(0)
        network = task.make_model()
        with contextlib.redirect_stdout(io.StringIO()):
            fit(network, task, config, seed=0)
        return network

    return train, lambda network: predict(network, task, task.features["test"], config)


def run_ner_way(
    sentences: list[Sentence], model: str, config: FinetuneConfig, folder: str
) -> tuple[Callable, Callable]:
    """(train, predict) as run_ner.py: padded to 128, the Trainer, labels on the first word piece of each word."""
    tokenizer = AutoTokenizer.from_pretrained(model, add_prefix_space=True)  # run_ner's way with byte-level tokenizers
    labels = sorted({tag for one in sentences for tag in one.tags})
    encoded = tokenizer(
        [one.words for one in sentences],
        padding="max_length",
        truncation=True,
        max_length=PADDED_TO,
        is_split_into_words=True,
    )
    examples = []
    for i, one in enumerate(sentences):
        words = encoded.word_ids(i)
        first = [word is not None and word != before for word, before in zip(words, [None, *words], strict=False)]
        targets = [labels.index(one.tags[word]) if new else -100 for word, new in zip(words, first, strict=True)]
        examples.append({**{name: values[i] for name, values in encoded.items()}, "labels": targets})
    settings = TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        num_train_epochs=1,
        learning_rate=config.learning_rate,
        bf16=config.bf16,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=not torch.cuda.is_available(),
    )

    def make_trainer(network: Any) -> Trainer:
        collator = DataCollatorForTokenClassification(tokenizer)
        return Trainer(model=network, args=settings, train_dataset=examples, data_collator=collator)

    def train() -> Any:
        torch.manual_seed(0)
        network = encoder.load_model(AutoModelForTokenClassification, model, num_labels=len(labels))
        with contextlib.redirect_stdout(io.StringIO()):
            make_trainer(network).train()
        return network

    return train, lambda network: make_trainer(network).predict(examples)


def measure(ways: dict[str, tuple[Callable, Callable]], rounds: int, count: int) -> dict[str, dict[str, list[float]]]:
    """Sentences a second of training and prediction of each way, once a round, the ways taking turns."""
    rates: dict[str, dict[str, list[float]]] = {name: {"train": [], "predict": []} for name in ways}
    for round_number in range(rounds):
        for name, (train, run) in ways.items():
            started = time.perf_counter()
            network = train()
            trained = time.perf_counter()
            run(network)
            rates[name]["train"].append(count / (trained - started))
            rates[name]["predict"].append(count / (time.perf_counter() - trained))
            print(
                f"round {round_number + 1} {name}: {rates[name]['train'][-1]:.1f} and {rates[name]['predict'][-1]:.1f}"
            )
    return rates


def table(rates: dict[str, dict[str, list[float]]]) -> str:
    """Medians and the ratio of ours to theirs, as Markdown."""
    rows = ["| sentences/s | finetuning | run_ner way | ratio |", "| --- | --- | --- | --- |"]
    for part in ("train", "predict"):
        ours, theirs = (statistics.median(rates[name][part]) for name in ("finetuning", "run_ner"))
        rows.append(f"| {part} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |")
    return "\n".join(rows)


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure as the flags say; everything that is written."""
    everything = read_splits(options.data)["train"].sentences
    model = options.model
    if model is None:
        model = str(folder / "small")
        write_random_model(folder / "small", everything)
    sentences = random.Random(0).sample(everything, min(options.sentences, len(everything)))
    settings = encoder.load_config(model)
    config = FinetuneConfig(batch_size=options.batch_size, epochs=1, bf16=options.bf16)
    config = config.for_hidden_size(settings.hidden_size)
    ways = {
        "finetuning": our_way(sentences, model, config),
        "run_ner": run_ner_way(sentences, model, config, str(folder)),
    }
    return {
        "data": str(options.data),
        "model": options.model or "random ELECTRA small",
        "sentences": len(sentences),
        "words": sum(len(one.words) for one in sentences),
        "batch_size": options.batch_size,
        "bf16": options.bf16,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})",
        "torch": torch.__version__,
        "sentences_per_second": measure(ways, options.rounds, len(sentences)),
    }


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--data", required=True, type=Path, help="Folder of an entity benchmark, such as BC2GM.")
    parser.add_argument("--model", help="Encoder folder (default: random weights of `small`).")
    parser.add_argument("--sentences", type=int, default=640, help="How many, drawn at random (default: 640).")
    parser.add_argument("--rounds", type=int, default=3, help="Measurements of each way (default: 3).")
    parser.add_argument("--batch-size", type=int, default=32, help="Inputs in one optimizer step (default: 32).")
    parser.add_argument("--bf16", action="store_true", help="Both ways in bfloat16 (autocast).")
    parser.add_argument("--output", type=Path, help="JSON file for all measurements.")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = run(options, Path(folder))
    except (ValueError, OSError, ImportError) as error:  # the Trainer says by ImportError that accelerate is missing
        sys.exit(f"error: {error}")
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results["sentences_per_second"]))


if __name__ == "__main__":
    main()
