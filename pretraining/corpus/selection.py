"""Which documents a corpus is made of, judged one by one by their metadata; there is no command here.

`Rules` are the flags of `pretraining.corpus.filter`; `Selection(rules).reason(document)` says why a document is left
out, or None. A document that lacks what a rule asks for (no date, no journal with a metric) is left out by that rule;
a rule that takes documents out (retracted, --exclude-...) leaves it in. Terms are compared whole, case aside.

Samples are by a hash of the id: of one corpus, the sample of 1 % lies inside that of 10 %, on any machine.
"""

import csv
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pretraining.corpus.benchmark_files import find_pmids
from pretraining.corpus.documents import Document

HASHES = 1 << 64  # number of values of `id_hash`


@dataclass(frozen=True)
class Rules:
    """What is asked of a document; what is empty or None asks nothing."""

    language: tuple[str, ...] = ()
    date_from: str | None = None  # YYYY, YYYY-MM or YYYY-MM-DD, inclusive
    date_to: str | None = None  # inclusive: 2019 ends with December
    min_characters: int | None = None
    max_characters: int | None = None
    publication_type: tuple[str, ...] = ()
    exclude_publication_type: tuple[str, ...] = ()
    drop_retracted: bool = False
    mesh: tuple[str, ...] = ()
    keyword: tuple[str, ...] = ()
    allow_pmids: str | None = None  # path
    deny_pmids: str | None = None  # path
    benchmark: tuple[str, ...] = ()  # paths
    journal_metric: str | None = None  # path
    journal_minimum: float | None = None
    journal_control: bool = False
    sample: float | None = None  # percent


def id_hash(identifier: str) -> int:
    """A number below 2**64 that depends on the id alone."""
    return int.from_bytes(hashlib.sha256(identifier.encode("utf-8")).digest()[:8], "big")


class Selection:
    """Rules with the files that they name read."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.allowed = read_pmid_list(rules.allow_pmids) if rules.allow_pmids else None
        self.denied = read_pmid_list(rules.deny_pmids) if rules.deny_pmids else frozenset()
        self.in_benchmarks = find_pmids(rules.benchmark)
        self.metrics = read_journal_metrics(rules.journal_metric) if rules.journal_metric else {}
        self.below = None if rules.sample is None else int(rules.sample / 100 * HASHES)
        self.tests: list[tuple[str, Callable[[Document], bool]]] = [
            ("language", lambda d: _any_of(rules.language, d.metadata.get("language", ()))),
            ("date", self._in_dates),
            ("length", self._in_length),
            ("publication_type", self._has_type),
            ("retracted", lambda d: not (rules.drop_retracted and d.metadata.get("retracted", False))),
            ("mesh", lambda d: _any_of(rules.mesh, d.metadata.get("mesh", ()))),
            ("keyword", lambda d: _any_of(rules.keyword, d.metadata.get("keywords", ()))),
            ("not_allowed", lambda d: self.allowed is None or d.metadata.get("pmid") in self.allowed),
            ("denied", lambda d: d.metadata.get("pmid") not in self.denied),
            ("benchmark_pmid", lambda d: d.metadata.get("pmid") not in self.in_benchmarks),
            ("sample", lambda d: self.below is None or id_hash(d.id) < self.below),
        ]

    def reason(self, document: Document) -> str | None:
        """The first rule that leaves the document out, the one about journals not among them."""
        return next((name for name, passes in self.tests if not passes(document)), None)

    def passes_journal(self, document: Document) -> bool:
        """Whether the metric of the document's journal reaches the minimum; the highest of its ISSNs counts."""
        found = [self.metrics[issn] for issn in map(_issn, document.metadata.get("issn", ())) if issn in self.metrics]
        return bool(found) and max(found) >= (self.rules.journal_minimum or 0.0)

    def _in_dates(self, document: Document) -> bool:
        first, last = self.rules.date_from, self.rules.date_to
        if first is None and last is None:
            return True
        date = document.metadata.get("date")
        # a date that says less is compared as far as it goes: 2019 is in from 2019-06 on
        return (
            date is not None
            and (first is None or date[: len(first)] >= first[: len(date)])
            and (last is None or date[: len(last)] <= last[: len(date)])
        )

    def _in_length(self, document: Document) -> bool:
        rules, length = self.rules, len(document.text)
        return (rules.min_characters or 0) <= length <= (rules.max_characters or length)

    def _has_type(self, document: Document) -> bool:
        types = document.metadata.get("publication_types", ())
        excluded = self.rules.exclude_publication_type
        return _any_of(self.rules.publication_type, types) and not (excluded and _any_of(excluded, types))


def _any_of(wanted: Iterable[str], found: Iterable[str]) -> bool:
    """Whether nothing is wanted or one of what is wanted is found."""
    wanted = {term.casefold() for term in wanted}
    return not wanted or any(term.casefold() in wanted for term in found)


def read_pmid_list(path: str) -> frozenset[str]:
    """PMIDs of a file, one a line; blank lines and lines that start with # are skipped."""
    found = set()
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if (line := line.strip()) and not line.startswith("#"):
            if not line.isdecimal():
                raise ValueError(f"{path}, line {number}, is no PMID ({line[:40]}); give one number a line")
            found.add(line)
    return frozenset(found)


def read_journal_metrics(path: str) -> dict[str, float]:
    """The metric of each ISSN, of a CSV file with the columns `issn` (several apart by `;` or `,`) and `metric`."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if rows.fieldnames is None or not {"issn", "metric"} <= set(rows.fieldnames):
            raise ValueError(f"{path} has no columns named issn and metric; name them so in its first line")
        metrics: dict[str, float] = {}
        for row in rows:
            try:
                metric = float(row["metric"])
            except (TypeError, ValueError):
                raise ValueError(f"{path}, line {rows.line_num}: the metric is no number ({row['metric']})") from None
            for issn in (row["issn"] or "").replace(",", ";").split(";"):
                if issn := _issn(issn):
                    metrics[issn] = max(metric, metrics.get(issn, metric))
    return metrics


def _issn(text: str) -> str:
    """An ISSN without its hyphen and in capitals, as lists write them in both ways."""
    return text.strip().replace("-", "").upper()
