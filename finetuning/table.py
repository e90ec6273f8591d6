"""Make one Markdown table of all results below some folders.

    python -m finetuning.table DIR... [--output FILE]

1. Find every results.json below the folders (a finetuning run writes it last, so only finished runs have
   one).
2. Put those on published splits into one table, by benchmark and then by score, published scores among them.
3. Put those on nonstandard splits into a table of their own: they may not be compared with published scores.

Scores in percent: mean ± standard deviation over the seeds that did not fail.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from finetuning.results import read_json

HEADER = ("Benchmark", "Model", "Metric", "Mean ± std", "Seeds", "Failed", "Split")
NEEDED = {"variant", "model", "metric", "mean", "std", "seeds", "failed", "nonstandard_split", "split"}
NOTE = "Nonstandard splits: not the published data, so not to be compared with published scores."


def find_results(folders: list[Path]) -> list[dict[str, Any]]:
    """The content of every results.json below `folders`; ValueError if there is none or one is not ours."""
    for folder in folders:
        if not folder.exists():
            raise ValueError(f"{folder} does not exist: give the folders that --output named")
    paths = sorted({path.resolve() for folder in folders for path in folder.rglob("results.json")})
    if not paths:
        names = ", ".join(str(folder) for folder in folders)
        raise ValueError(f"no results.json below {names}: give the --output folder of a finished finetuning run")
    found = []
    for path in paths:
        content = read_json(path)
        if missing := sorted(NEEDED - set(content)):
            raise ValueError(f"{path} is not a result of a finetuning run: it has no {missing[0]}")
        found.append(content)
    return found


def split_note(results: dict[str, Any]) -> str:
    """`4,560 / 4,581 / 4,797 sentences` of train, dev and test (of what is counted first), marked if nonstandard."""
    counts = {key: value for key, value in next(iter(results["split"].values())).items() if isinstance(value, int)}
    unit = next(iter(counts))
    sizes = " / ".join(f"{part[unit]:,}" for part in results["split"].values())
    return f"{'nonstandard' if results['nonstandard_split'] else 'published'}: {sizes} {unit}"


def score_text(mean: float | None, std: float | None) -> str:
    """Mean and deviation (fractions) in percent; a dash where every run failed."""
    if mean is None:
        return "–"
    return f"{100 * mean:.2f}" + ("" if std is None else f" ± {100 * std:.2f}")


def own_row(results: dict[str, Any]) -> tuple[str, ...]:
    """The cells of one results.json, in the order of HEADER."""
    return (
        results["variant"],
        results["model"],
        results["metric"],
        score_text(results["mean"], results["std"]),
        str(len(results["seeds"])),
        str(results["failed"]),
        split_note(results),
    )


def rows(found: list[dict[str, Any]], nonstandard: bool) -> list[tuple[str, ...]]:
    """Rows of one of the two tables: by benchmark, best score first, those without a score last."""
    keyed = []
    for results in found:
        if results["nonstandard_split"] != nonstandard:
            continue
        mean = results["mean"]
        keyed.append((results["variant"], -1.0 if mean is None else mean, own_row(results)))
        for model, percent, source in () if nonstandard else results.get("published", ()):
            row = (
                results["variant"],
                model,
                results["metric"],
                f"{percent:.2f}",
                "–",
                "–",
                f"published score, {source}",
            )
            keyed.append((results["variant"], percent / 100, row))
    keyed.sort(key=lambda item: (item[0], -item[1], item[2]))
    return list(dict.fromkeys(row for *_, row in keyed))  # a published score comes with each model's results


def markdown(table: list[tuple[str, ...]]) -> str:
    """A Markdown table under HEADER; a bar in a cell does not end it."""
    lines = [HEADER, tuple("---" for _ in HEADER), *table]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def make_table(folders: list[Path]) -> str:
    """Everything found below `folders`, as one or two Markdown tables."""
    found = find_results(folders)
    standard, nonstandard = rows(found, False), rows(found, True)
    parts = [markdown(standard)] if standard else []
    if nonstandard:
        parts.append(f"{NOTE}\n\n{markdown(nonstandard)}")
    return "\n".join(parts)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="Folder to look in, at any depth.")
    parser.add_argument("--output", type=Path, help="File to write the table to as well.")
    options = parser.parse_args(arguments)
    try:
        table = make_table(options.folders)
        if options.output:
            temporary = options.output.with_name(options.output.name + ".tmp")
            temporary.write_text(table, encoding="utf-8")
            temporary.replace(options.output)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(table, end="")


if __name__ == "__main__":
    main()
