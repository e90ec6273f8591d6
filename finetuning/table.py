"""Make one table of all results below some folders, or compare two models.

    python -m finetuning.table DIR... [--wide] [--format csv] [--output FILE]
    python -m finetuning.table DIR... --compare MODEL_A MODEL_B

1. Find every results.json below the folders (a finetuning run writes it last, so only finished runs have
   one).
2. Put those on published splits into one table, by benchmark and then by score, published scores among them;
   with --wide a row is a model and a column a benchmark (finetuning.wide).
3. Put those on nonstandard splits into a table of their own: they may not be compared with published scores.
4. Below, say the BLURB score of each model that has all its parts, or what is missing if half are there
   (finetuning.blurb).

Scores in percent: mean ± standard deviation over the seeds that did not fail. With --format csv a row is a result,
scores are fractions, and published scores have a source. --compare tests the difference between two models over
their seeds (finetuning.significance).
"""

import argparse
import csv
import io
import sys
from pathlib import Path

from finetuning import blurb
from finetuning.result_files import (
    NOTE,
    Results,
    find_results,
    markdown,
    model_label,
    score_text,
    split_note,
    test_mark,
)
from finetuning.significance import compare
from finetuning.wide import wide_tables

HEADER = ("Benchmark", "Model", "Metric", "Mean ± std", "Seeds", "Failed", "Split")
CSV_HEADER = ("variant", "model", "metric", "mean", "std", "seeds", "failed", "standard", "source")


def own_row(results: Results, note: str) -> tuple[str, ...]:
    """The cells of one results.json, in the order of HEADER; `note` is on its split."""
    return (
        results["variant"],
        model_label(results),
        results["metric"],
        score_text(results["mean"], results["std"]),
        str(len(results["seeds"])),
        str(results["failed"]),
        note,
    )


def rows(found: list[Results], nonstandard: bool) -> list[tuple[str, ...]]:
    """Rows of one of the two tables: by benchmark, best score first, those without a score last."""
    keyed = []
    tests: dict[tuple[str, str], set[str]] = {}  # of nonstandard splits: two of the same sizes may be of other data
    for results in found if nonstandard else ():
        tests.setdefault((results["variant"], split_note(results)), set()).add(test_mark(results))
    for results in found:
        note = split_note(results)
        note += test_mark(results) if len(tests.get((results["variant"], note), ())) > 1 else ""
        if results["nonstandard_split"] != nonstandard:
            continue
        mean = results["mean"]
        keyed.append((results["variant"], -1.0 if mean is None else mean, own_row(results, note)))
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


def long_tables(found: list[Results]) -> list[str]:
    """The table of published splits and that of the others, those of the two that have rows."""
    standard, nonstandard = rows(found, False), rows(found, True)
    parts = [markdown(HEADER, standard)] if standard else []
    if nonstandard:
        parts.append(f"{NOTE}\n\n{markdown(HEADER, nonstandard)}")
    return parts


def make_csv(found: list[Results]) -> str:
    """A line for each result and each published score beside it, in the order of CSV_HEADER; scores are fractions."""
    own, published = [], {}
    for results in found:
        name, metric, standard = results["variant"], results["metric"], not results["nonstandard_split"]
        scores = (results["mean"], results["std"], len(results["seeds"]), results["failed"])
        own.append((name, model_label(results), metric, *scores, str(standard).lower(), None))
        for model, percent, source in results.get("published", ()) if standard else ():
            # Rounded, for 84.52 / 100 would be 0.8451999999999999.
            line = (name, model, metric, round(percent / 100, 6), None, None, None, "true", source)
            published[line] = None  # once, though it comes with each model's results
    lines = sorted([*own, *published], key=lambda line: (line[0], line[-1] is not None, line[1]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    writer.writerows(lines)
    return text.getvalue()


def make_table(folders: list[Path], wide: bool = False) -> str:
    """Everything found below `folders`, as one or two Markdown tables and the lines on BLURB."""
    found = find_results(folders)
    parts = wide_tables(found) if wide else long_tables(found)
    return "\n".join([*parts, *(f"{line}\n" for line in blurb.lines(found))])


def make_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="Folder to look in, at any depth.")
    parser.add_argument("--wide", action="store_true", help="A row for each model, a column for each benchmark.")
    parser.add_argument("--format", choices=("markdown", "csv"), default="markdown", help="(default: markdown)")
    parser.add_argument(
        "--compare", nargs=2, metavar=("MODEL_A", "MODEL_B"), help="Test the difference of two models over their seeds."
    )
    parser.add_argument("--output", type=Path, help="File to write the table to as well.")
    return parser


def make_text(options: argparse.Namespace) -> str:
    """What the flags ask for; ValueError if they do not go together."""
    given = [
        name
        for name, on in (
            ("--wide", options.wide),
            ("--format csv", options.format == "csv"),
            ("--compare", options.compare),
        )
        if on
    ]
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} do not go together: leave one out")
    if options.compare:
        return compare(find_results(options.folders), *options.compare)
    if options.format == "csv":
        return make_csv(find_results(options.folders))
    return make_table(options.folders, options.wide)


def main(arguments: list[str] | None = None) -> None:
    """Command line; `arguments` stands for sys.argv[1:]."""
    options = make_parser().parse_args(arguments)
    try:
        table = make_text(options)
        if options.output:
            temporary = options.output.with_name(options.output.name + ".tmp")
            temporary.write_text(table, encoding="utf-8")
            temporary.replace(options.output)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(table, end="")


if __name__ == "__main__":
    main()
