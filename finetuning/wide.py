"""The wide table: a row a model, a column a benchmark. Nothing to run here; run finetuning.table with --wide.

1. The columns are the variants that we have results of, each with its metric: protocols have columns of their own.
2. Our models, by name; then published ones, a row for each source of a model's scores, so that a row is never of two
   papers' protocols.
3. Nonstandard splits make a table of their own, without published rows.

A cell is mean ± standard deviation in percent over the seeds that did not fail; those that did are counted in it.
"""

from finetuning.result_files import NOTE, NOTHING, Results, column, markdown, one_each, score_text

Cells = dict[str, dict[str, str]]  # row's name -> column -> text


def own_cells(found: list[Results]) -> Cells:
    """Rows of our models; ValueError if a model has two results of one column."""
    cells: Cells = {}
    for (model, place), results in sorted(one_each(found).items()):
        failed = f" ({results['failed']} of {len(results['seeds'])} failed)" if results["failed"] else ""
        cells.setdefault(model, {})[place] = score_text(results["mean"], results["std"]) + failed
    return cells


def published_cells(found: list[Results]) -> Cells:
    """Rows of the published scores that came with our results, `model [source]`."""
    cells: Cells = {}
    for results in found:
        for model, percent, source in results.get("published", ()):
            cells.setdefault(f"{model} [{source}]", {})[column(results)] = f"{percent:.2f}"
    return dict(sorted(cells.items()))


def one_table(own: Cells, published: Cells, columns: list[str]) -> str:
    """Markdown; a dash where there is no score."""
    rows = [
        (name, *(row.get(place, NOTHING) for place in columns))
        for part in (own, published)
        for name, row in part.items()
    ]
    return markdown(("Model", *columns), rows)


def wide_tables(found: list[Results]) -> list[str]:
    """The table of published splits and that of the others, those of the two that have rows."""
    standard = [results for results in found if not results["nonstandard_split"]]
    others = [results for results in found if results["nonstandard_split"]]
    parts = []
    if standard:
        columns = sorted({column(results) for results in standard})
        parts.append(one_table(own_cells(standard), published_cells(standard), columns))
    if others:
        columns = sorted({column(results) for results in others})
        parts.append(f"{NOTE}\n\n{one_table(own_cells(others), {}, columns)}")
    return parts
