"""Extractive question answering: the Task that finetunes an encoder to find answers in contexts.

Shared by finetuning.squad and finetuning.bioasq; run one of those. The steps are

1. read the benchmark's files into examples, one question on one context each (the benchmark's own readers);
2. make the model inputs, windows of at most --max-length word pieces (finetuning.span_inputs);
3. a head on the encoder gives the best spans of each window (finetuning.qa_heads), answers of at most
   --max-answer-length word pieces;
4. join the windows and let the benchmark score and write the answers.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from finetuning import encoder, ranks
from finetuning.config import FinetuneConfig
from finetuning.loop import Batch, Task, choose_device, predict
from finetuning.qa_heads import HEADS, SPANS, make_span_model, save_span_model, span_loss, span_outputs
from finetuning.result_files import read_json
from finetuning.results import write_json
from finetuning.span_inputs import Answers, Inputs, Reader, collate, join_windows, make_inputs, make_reader
from finetuning.squad_files import Example


@dataclass(frozen=True)
class Settings:
    """How questions are answered, besides FinetuneConfig."""

    head: str = "joint"
    longest: int = 30  # word pieces of an answer
    unanswerable: bool = False  # some questions have no answer (SQuAD 2.0)

    @property
    def answerability(self) -> bool:
        """Whether the head has an output of its own for "no answer"."""
        return self.unanswerable and self.head == "joint"


def forward(model: nn.Module, batch: Batch, longest: int) -> Tensor:
    """Outputs of finetuning.qa_heads, one row [T or 1 + spans, 3] an input."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = {name: batch[name] for name in names if name in batch}
    return span_outputs(model, inputs, batch["context"], longest, batch["start"].clamp_min(0))


def bare_task(
    reader: Reader, inputs: dict[str, Inputs], model: str, config: FinetuneConfig, settings: Settings
) -> Task:
    """A Task that can train and predict, without what is the benchmark's: score, metric, files."""
    return Task(
        features={split: part.features for split, part in inputs.items()},
        make_model=lambda: make_span_model(
            model, settings.head, settings.answerability, config.dropout, config.encoder_dropout
        ),
        collate=lambda chosen: collate(chosen, reader.tokenizer.pad_token_id, reader.token_types),
        forward=partial(forward, longest=settings.longest),
        rows=lambda feature: 1,
        loss=lambda outputs, batch: span_loss(outputs, batch["start"], batch["end"], settings.answerability),
        score=lambda split, outputs: {},
        metric="",
        save=save_span_model,
        write_predictions=lambda outputs, path: None,
        predictions_suffix="json",
    )


def say_losses(split: str, inputs: Inputs) -> None:
    """Print what the examples of a split lost on the way to the model."""
    if inputs.lost:
        what = "left out of training" if split == "train" else "scored all the same"
        ranks.say(f"{split}: {inputs.lost} gold answers are not in their contexts or too long to be found: {what}")
    if inputs.cut_questions:
        ranks.say(f"{split}: {inputs.cut_questions} questions are longer than half an input: their ends were cut off")


def span_task(
    examples: dict[str, list[Example]],
    model: str,
    config: FinetuneConfig,
    settings: Settings,
    score: Callable[[str, list[Answers]], dict[str, Any]],
    write: Callable[[list[Answers], Path], None],
    record: dict[str, Any],
) -> Task:
    """The Task of answering `examples` with the encoder `model`, a folder or a hub name.

    `score` and `write` are the benchmark's; `record` goes into task.json and names "benchmark" and "metric".
    """
    reader = make_reader(model, config, settings.longest)
    inputs = {split: make_inputs(reader, part, split == "train") for split, part in examples.items()}
    for split, part in inputs.items():
        say_losses(split, part)
    if not inputs["train"].features:
        raise ValueError("the training files have no question with an answer in its context: nothing to learn from")
    lengths = {"max_length": config.max_length, "overlap": config.overlap}
    record = {"family": "span_qa", **record, **asdict(settings), **lengths}

    def save(network: nn.Module, folder: Path) -> None:
        with encoder.quiet_transformers():
            save_span_model(network, folder)
            reader.tokenizer.save_pretrained(folder)
        write_json(folder / "task.json", record)

    return replace(
        bare_task(reader, inputs, model, config, settings),
        score=lambda split, outputs: score(split, join_windows(inputs[split], outputs)),
        metric=record["metric"],
        save=save,
        write_predictions=lambda outputs, path: write(join_windows(inputs["test"], outputs), path),
    )


def add_flags(parser: ArgumentParser) -> None:
    """The flags that all question answering benchmarks have."""
    parser.add_argument(
        "--qa-head", choices=HEADS, default="joint", help="ELECTRA's head, or start and end apart (default: joint)."
    )
    parser.add_argument(
        "--max-answer-length", type=int, default=30, metavar="N", help="Most word pieces of an answer (default: 30)."
    )


def settings_from(options: Namespace, unanswerable: bool) -> Settings:
    """Settings of parsed flags; ValueError for a value out of range."""
    if options.max_answer_length < 1:
        raise ValueError(f"--max-answer-length {options.max_answer_length}: at least one word piece is needed")
    return Settings(options.qa_head, options.max_answer_length, unanswerable)


def record_example(record: dict[str, Any]) -> Example:
    """The Example of a record of `predict_texts`; ValueError if it lacks something."""
    question, text = record.get("question"), record.get("text")
    if not isinstance(question, str) or not isinstance(text, str):
        raise ValueError(f'a record needs a "question" and a "text", both strings: got {str(record)[:80]}')
    return Example("", question, text, None)


def predict_texts(folder: Path, records: Iterable[dict[str, Any]], batch_size: int) -> Iterator[dict[str, Any]]:
    """Answer {"question", "text"} records with the finetuned model in `folder`, in order.

    Each comes back with "answers", [{"text", "start", "end", "probability"}, ...], best first, offsets in
    characters of "text". A model that learned that questions may have no answer adds "no_answer", a score, and
    "answerable", whether it is at most the threshold in task.json.
    """
    record = read_json(folder / "task.json")
    settings = Settings(record["head"], record["longest"], record["unanswerable"])
    config = FinetuneConfig(batch_size=batch_size, max_length=record["max_length"], overlap=record["overlap"])
    reader = make_reader(str(folder), config, settings.longest)
    task = bare_task(reader, {}, str(folder), config, settings)
    model = make_span_model(str(folder), settings.head, settings.answerability, 0.0, whole=True).to(choose_device())
    remaining = iter(records)
    # Each record is looked at before the next is taken, so that finetuning.predict can name the line of a wrong one.
    while chunk := [(one, record_example(one)) for one in islice(remaining, 32 * batch_size)]:
        inputs = make_inputs(reader, [example for _, example in chunk], training=False)
        found = join_windows(inputs, predict(model, task, inputs.features, config, batch_size))
        for (one, _), answers in zip(chunk, found, strict=True):
            result = {**one, "answers": [asdict(answer) for answer in answers.answers[:SPANS]]}
            if settings.unanswerable:
                result |= {"no_answer": answers.no_answer, "answerable": answers.no_answer <= record["threshold"]}
            yield result
