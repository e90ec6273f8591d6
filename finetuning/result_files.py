"""Find the results.json of finished runs, and say in the cells of a table what they hold. Nothing to run here.

Shared by the views of finetuning.table, which need no torch. Scores in the files are fractions; cells show percent.
"""

import json
import os
from pathlib import Path
from typing import Any

from finetuning.splits import SPLITS

Results = dict[str, Any]  # the content of one results.json

NEEDED = {"variant", "model", "metric", "mean", "std", "seeds", "failed", "nonstandard_split", "split"}
NOTE = "Nonstandard splits: not the published data, so not to be compared with published scores."
NOTHING = "–"


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`; ValueError if it is broken."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): delete it") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object: delete it")
    return content


def well_formed(results: Results) -> bool:
    """Whether what the tables read of a results.json is of the kind that a run writes."""
    numbers = all(isinstance(results[name], int | float | None) for name in ("mean", "std"))
    runs = isinstance(results["seeds"], list) and all(isinstance(run, dict) for run in results["seeds"])
    split = results["split"]
    if not (numbers and runs and isinstance(results["failed"], int) and isinstance(split, dict)):
        return False
    counts = [{name for name, value in part.items() if isinstance(value, int)} if isinstance(part, dict) else set()
              for part in split.values()]  # fmt: skip
    return bool(counts) and bool(set.intersection(*counts))


def find_results(folders: list[Path]) -> list[Results]:
    """The content of every results.json below `folders`; ValueError if there is none or one is not ours."""
    for folder in folders:
        if not folder.exists():
            raise ValueError(f"{folder} does not exist: give the folders that --output named")
    # Unlike Path.rglob, os.walk passes over what goes while it looks: runs put their models in place meanwhile.
    places = [Path(place) for folder in folders for place, _, files in os.walk(folder) if "results.json" in files]
    paths = sorted({(place / "results.json").resolve() for place in places})
    if not paths:
        names = ", ".join(str(folder) for folder in folders)
        raise ValueError(f"no results.json below {names}: give the --output folder of a finished finetuning run")
    found = []
    for path in paths:
        content = read_json(path)
        if missing := sorted(NEEDED - set(content)):
            raise ValueError(f"{path} is not a result of a finetuning run: it has no {missing[0]}")
        if not well_formed(content):
            raise ValueError(f"{path} is not as a finetuning run writes it (was it edited?): delete it, or run again")
        found.append(content)
    return found


def model_label(results: Results) -> str:
    """The model's name, marked if it was trained on dev too (--train-on-dev): that is another protocol."""
    return results["model"] + (" (trained on train and dev)" if results.get("train_on_dev") else "")


def split_note(results: Results) -> str:
    """`4,560 / 4,581 / 4,797 sentences` of train, dev and test (of what is counted first), marked if nonstandard."""
    split = {name: results["split"][name] for name in SPLITS if name in results["split"]} | results["split"]
    counts = {key: value for key, value in next(iter(split.values())).items() if isinstance(value, int)}
    unit = next(iter(counts))
    sizes = " / ".join(f"{part[unit]:,}" for part in split.values())
    return f"{'nonstandard' if results['nonstandard_split'] else 'published'}: {sizes} {unit}"


def test_mark(results: Results) -> str:
    """`, test 1938b198`: the beginning of the test file's checksum, by which data of the same sizes are told apart."""
    checksum = results["split"].get("test", {}).get("sha256")
    return f", test {checksum[:8]}" if checksum else ""


def score_text(mean: float | None, std: float | None) -> str:
    """Mean and deviation (fractions) in percent; a dash where every run failed."""
    if mean is None:
        return NOTHING
    return f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")


def column(results: Results) -> str:
    """What a score is of, as `BC2GM (entity-level F1)`: only scores of one such text may be compared.

    A nonstandard split may be of any data, so its sizes and the test file's checksum are part of the text.
    """
    text = f"{results['variant']} ({results['metric']})"
    if not results["nonstandard_split"]:
        return text
    return f"{text}, {split_note(results)}{test_mark(results)}"


def one_each(found: list[Results]) -> dict[tuple[str, str], Results]:
    """By (model, column); ValueError where a model has two, of which none may be dropped silently."""
    chosen: dict[tuple[str, str], Results] = {}
    for results in found:
        place = (model_label(results), column(results))
        if place in chosen:
            raise ValueError(
                f"two results of {place[0]} on {place[1]}: give folders with one of them, or run one with another "
                "--model-name"
            )
        chosen[place] = results
    return chosen


def markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table; a bar in a cell does not end it."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"
