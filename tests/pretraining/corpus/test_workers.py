"""The pool of the corpus stages: order, errors, and a worker that is killed.

python -m pytest -q tests/pretraining/corpus/test_workers.py
"""

import os
import signal
import time
from pathlib import Path

import pytest

from pretraining.corpus.workers import map_in_order


def work(job):
    number, path = job
    if path.name == "killed":
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    if path.name == "broken":
        raise ValueError(f"{path} is broken")
    time.sleep(0.6 if path.name == "slow" else 0)
    return number


def run(names):
    return list(
        map_in_order(work, [(n, Path("in") / name) for n, name in enumerate(names)], workers=2, description="t")
    )


def test_results_come_in_order_and_errors_as_they_are():
    assert run(["slow", *"abcdefghijklmnopqrst"]) == list(range(21))
    with pytest.raises(ValueError, match="in/broken is broken"):
        run(["a", "broken", "c"])


def test_a_killed_worker_names_the_file_it_was_at_work_on():
    with pytest.raises(OSError, match=r"was killed \(out of memory\?\) at work on in/killed; use fewer --workers"):
        run(["a", "slow", "killed", "slow", "b"])
