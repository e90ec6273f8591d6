"""Which record of a PMID stands, against the rules followed one record after another."""

import numpy

from pretraining.corpus import revisions
from pretraining.corpus.revisions import FileRecords, record_key, standing


def one_after_another(files):
    """The rules of the module, with a dictionary: {(file, record)} deleted, {(file, record)} replaced."""
    stands, deleted, replaced = {}, set(), set()
    for number, one in enumerate(files):
        for place in range(len(one.keys) + 1):
            for pmid, before in one.deletions.items():
                if before == place:
                    deleted |= {seen for _, seen in stands.pop(pmid, [])}
            if place < len(one.keys):
                pmid, version = divmod(int(one.keys[place]), revisions.VERSIONS)
                stands.setdefault(pmid, []).append((version, (number, place)))
    for seen in stands.values():
        winner = max(seen, key=lambda item: item)
        replaced |= {item[1] for item in seen if item is not winner}
    return deleted, replaced


def test_against_the_rules_one_after_another(monkeypatch):
    chance = numpy.random.default_rng(0)
    for part in (7, 1000):
        monkeypatch.setattr(revisions, "PART", part)
        for _ in range(200):
            files = []
            for _ in range(chance.integers(1, 5)):
                count = int(chance.integers(0, 12))
                keys = [record_key(int(chance.integers(1, 15)), int(chance.integers(1, 4))) for _ in range(count)]
                deletions = {int(chance.integers(1, 18)): int(chance.integers(0, count + 1)) for _ in range(3)}
                files.append(FileRecords(numpy.array(keys, numpy.int64), numpy.ones(count, bool), deletions))
            deleted, replaced = standing(files)
            expected = one_after_another(files)
            for flags, wanted in zip((deleted, replaced), expected, strict=True):
                assert {(n, p) for n, row in enumerate(flags) for p in numpy.flatnonzero(row).tolist()} == wanted


def test_versions_beyond_the_highest_number_do_not_spill_into_the_next_pmid():
    assert record_key(5, 10_000) // revisions.VERSIONS == 5
