"""Run a finetuned model on new text: one JSON line out for each text in.

    python -m finetuning.predict --model OUT/.../model --input FILE --output FILE [--batch-size N]
    ... | python -m finetuning.predict --model OUT/.../model --output - > FILE

1. Open the folder `model` of a finetuning run; its task.json names the family (tagging, classification, ...).
2. Read the input, from standard input without --input: lines of text, or JSON lines such as {"text": ...} where the
   first character of the file is a brace. What the family needs besides stands there too ("text_b" for pairs,
   "question" for questions), and what else a line has comes out again.
3. Hand the lines to the family's `predict_texts`, which yields them back with what was found: entities and answers
   with their character offsets in the text, or labels and scores.
4. Write them under a temporary name, which becomes the output's when all is done.
"""

import argparse
import contextlib
import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from finetuning.result_files import read_json

FAMILIES = ("tagging", "classification", "relations", "span_qa")  # modules here, each with a predict_texts


def family_of(model: Path) -> str:
    """The module that made the finetuned model in this folder; ValueError if it is no such folder."""
    if not (model / "task.json").is_file():
        raise ValueError(f"--model {model} has no task.json: give the `model` folder of a finetuning run")
    family = read_json(model / "task.json").get("family")
    if family not in FAMILIES:
        raise ValueError(f"{model / 'task.json'} has family {family!r}; known are {', '.join(FAMILIES)}")
    return family


def read_records(lines: Iterable[str], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and line, record) of each line, blank ones left out; ValueError if one is no JSON object with a "text".

    All lines are JSON, or all are plain text: the first one that is not blank decides.
    """
    as_json = None
    for number, line in enumerate(lines, start=1):
        line = line.removeprefix("\ufeff").rstrip("\r\n") if number == 1 else line.rstrip("\r\n")
        if not line.strip():
            continue
        as_json = line.lstrip().startswith("{") if as_json is None else as_json
        place = f"{name} line {number}"
        yield place, json_record(line, place) if as_json else {"text": line}


def json_record(line: str, place: str) -> dict[str, Any]:
    """The object of one JSON line."""
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place} is not JSON ({error}), as the first line is") from None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise ValueError(f'{place} is not an object with "text"')
    try:
        json.dumps(record, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise ValueError(
            f"{place} has {half}, half a character (a lone surrogate), which is no text: remove it"
        ) from None
    return record


@contextlib.contextmanager
def opened_input(path: Path | None) -> Iterator[TextIO]:
    """The input file, or standard input."""
    if path is None:
        sys.stdin.reconfigure(encoding="utf-8", newline="\n")
        yield sys.stdin
    else:
        # Lines end at \n alone: other separators, such as U+2028, may be part of a text.
        with path.open(encoding="utf-8", newline="\n") as file:
            yield file


@contextlib.contextmanager
def opened_output(path: Path) -> Iterator[TextIO]:
    """The output file, which appears when all is written; `-` is standard output."""
    if str(path) == "-":
        yield sys.stdout
        return
    if path.is_dir() or not path.parent.is_dir():
        reason = "is a folder" if path.is_dir() else f"is in {path.parent}, which is no folder"
        raise ValueError(f"--output {path} {reason}: name a file in a folder that is there")
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # after an error


def run(options: argparse.Namespace) -> int:
    """Predict as the flags say; the number of texts."""
    if options.batch_size < 1:
        raise ValueError(f"--batch-size {options.batch_size}: at least one input is needed")
    family = importlib.import_module(f"finetuning.{family_of(options.model)}")
    with opened_input(options.input) as lines, opened_output(options.output) as output:
        place, count = "", 0

        def records() -> Iterator[dict[str, Any]]:
            nonlocal place
            for place, record in read_records(lines, str(options.input or "standard input")):  # noqa: B007
                yield record

        found = family.predict_texts(options.model, records(), options.batch_size)
        try:
            for record in tqdm(found, desc="predict", unit=" texts", disable=None):
                output.write(json.dumps(record, ensure_ascii=False) + "\n")
                count += 1
        except UnicodeDecodeError:
            raise
        except ValueError as error:  # the families look at a record when they take it: it is the last one read
            raise ValueError(str(error) if str(error).startswith(place) else f"{place}: {error}") from None
    return count


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, type=Path, help="Folder `model` of a finetuning run.")
    parser.add_argument("--input", type=Path, help="Lines of text or JSON (default: standard input).")
    parser.add_argument("--output", required=True, type=Path, help="File for the JSON lines; - is standard output.")
    parser.add_argument("--batch-size", type=int, default=32, help="Inputs at once (default: 32).")
    options = parser.parse_args(arguments)
    try:
        count = run(options)
    except UnicodeDecodeError as error:
        sys.exit(f"error: {options.input or 'standard input'} is not UTF-8 ({error}): convert it")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if str(options.output) != "-":
        print(f"{count} texts written to {options.output}")


if __name__ == "__main__":
    main()
