"""The rows of the preflight's table: what was looked at, how it is, what to do.

Steps: (1) each check returns rows; (2) `merge_ranks` joins those of all ranks, equal ones once; (3) `report` writes the
table.
"""

from collections.abc import Callable
from typing import NamedTuple

OK, NOTE, PROBLEM = "ok", "note", "PROBLEM"


class Row(NamedTuple):
    """One line of the table. `cure` says what to do where the state is not ok."""

    check: str
    state: str
    seen: str
    cure: str = ""


def ok(check: str, seen: str) -> Row:
    return Row(check, OK, seen)


def note(check: str, seen: str, cure: str) -> Row:
    return Row(check, NOTE, seen, cure)


def problem(check: str, seen: str, cure: str) -> Row:
    return Row(check, PROBLEM, seen, cure)


def guarded(check: str, cure: str, look: Callable[[], list[Row]]) -> list[Row]:
    """The rows of a check; its ValueError or OSError is a problem with the sentence it was raised with."""
    try:
        return look()
    except (ValueError, OSError) as error:
        return [problem(check, " ".join(str(error).split()), cure)]


def merge_ranks(by_rank: dict[int, tuple[str, list[Row]]]) -> list[Row]:
    """Rows of all ranks, (host, rows) by rank, those that are equal once; where ranks differ the hosts are named."""
    hosts_of: dict[Row, list[str]] = {}
    for _, (host, rows) in sorted(by_rank.items()):
        for row in rows:
            hosts_of.setdefault(row, []).append(host)
    checks = list(dict.fromkeys(row.check for row in hosts_of))
    merged = []
    for check in checks:
        rows = [row for row in hosts_of if row.check == check]
        for row in rows:
            where = f"{', '.join(dict.fromkeys(hosts_of[row]))}: " if len(rows) > 1 else ""
            merged.append(row._replace(seen=where + row.seen))
    return merged


def report(rows: list[Row]) -> str:
    """The table as Markdown, and a last line that counts the problems."""
    lines = ["| check | state | seen | cure |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows]
    count = sum(row.state == PROBLEM for row in rows)
    lines.append("\nno problem found" if not count else f"\n{count} problem{'s' if count > 1 else ''} found")
    return "\n".join(lines)
