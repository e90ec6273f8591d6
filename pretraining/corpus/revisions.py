"""Which of the records of a PMID counts, over PubMed's baseline and update files; there is no command here.

PubMed publishes a baseline once a year and a file of updates every day. An update file repeats a citation that was
revised, whole, and ends with the citations that are deleted. So, in the order of the files:

1. a deletion removes what came before it, in whatever version; a record that comes later stands again;
2. of the records that are left, the highest version stands, and of equals the last;
3. a revision that has no text any more replaces one that had: the older text is what was withdrawn.

`standing` does this with numpy for all records at once, in parts by PMID, so that 38 million records need
16 bytes each and what one part needs.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy

from pretraining.corpus.documents import open_whole

VERSIONS = 256  # versions above 255 count as 255; PubMed has seen 15
PART = 4_000_000  # PMIDs that are looked at together


@dataclass
class FileRecords:
    """The records of one file in their order, documents or not, and the deletions in it."""

    keys: numpy.ndarray  # int64 [records]: PMID * VERSIONS + version
    written: numpy.ndarray  # bool [records]: whether the record became a document
    deletions: dict[int, int] = field(default_factory=dict)  # PMID: number of records that came before it, in this file

    def write(self, path: Path) -> None:
        """Write the records to a file."""
        with open_whole(path) as file:
            before = numpy.array([*self.deletions.items()], numpy.int64).reshape(-1, 2)
            numpy.savez(file, keys=self.keys, written=self.written, deletions=before)

    @classmethod
    def read(cls, path: Path) -> "FileRecords":
        """Read what `write` wrote."""
        with numpy.load(path, allow_pickle=False) as arrays:
            return cls(arrays["keys"], arrays["written"], dict(arrays["deletions"].tolist()))


def record_key(pmid: int, version: int) -> int:
    """PMID and version as one number that sorts by PMID and then by version."""
    return pmid * VERSIONS + min(version, VERSIONS - 1)


def standing(files: list[FileRecords]) -> tuple[list[numpy.ndarray], list[numpy.ndarray]]:
    """For each file, which of its records were deleted later and which were replaced: two lists of bool [records]."""
    starts = numpy.cumsum([0, *(len(one.keys) for one in files)])
    deleted = numpy.zeros(starts[-1], dtype=bool)
    replaced = numpy.zeros(starts[-1], dtype=bool)
    keys = numpy.concatenate([one.keys for one in files]) if files else numpy.zeros(0, numpy.int64)
    last_deletion: dict[int, int] = {}
    for start, one in zip(starts[:-1], files, strict=True):
        last_deletion |= {pmid: int(start) + before for pmid, before in one.deletions.items()}
    gone_pmids = numpy.array(sorted(last_deletion), dtype=numpy.int64)
    gone_before = numpy.array([last_deletion[pmid] for pmid in gone_pmids.tolist()], dtype=numpy.int64)
    highest = int(keys.max()) // VERSIONS if len(keys) else 0
    for first in range(0, highest + 1, PART):
        places = numpy.flatnonzero((keys >= first * VERSIONS) & (keys < (first + PART) * VERSIONS))
        if len(gone_pmids):
            pmids = keys[places] // VERSIONS
            found = numpy.searchsorted(gone_pmids, pmids).clip(max=len(gone_pmids) - 1)
            deleted[places] = (gone_pmids[found] == pmids) & (places < gone_before[found])
            places = places[~deleted[places]]
        order = places[numpy.argsort(keys[places], kind="stable")]
        pmids = keys[order] // VERSIONS
        replaced[order[:-1]] = pmids[:-1] == pmids[1:]
    return numpy.split(deleted, starts[1:-1]), numpy.split(replaced, starts[1:-1])
