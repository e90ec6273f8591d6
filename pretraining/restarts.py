"""Ends a run that a scheduler starts again and again without a new checkpoint: nobody may be watching it.

A job that queues itself again, or a chain of jobs, is one submission. launch/env.sh names it, and says how many of its
starts may go by at the same step; a run that is started by hand has neither, and is never refused.

Steps: (1) `refuse_endless_restarts` reads what earlier starts of this submission have noted; (2) `note_start` adds this
one, once everything else is in order.
"""

import json
import os
from pathlib import Path

from pretraining.checkpoint import write_atomically

STARTS = "starts.json"


def refuse_endless_restarts(run: Path, step: int) -> None:
    """Raise ValueError where so many starts of this submission as are allowed have begun at this step already."""
    allowed = os.environ.get("STARTS_WITHOUT_PROGRESS", "0")
    if not allowed.isdecimal():
        raise ValueError(f"STARTS_WITHOUT_PROGRESS is '{allowed}'; give a number of starts, 0 for any number")
    starts = _starts(run, step)
    if 0 < int(allowed) <= starts:
        raise ValueError(
            f"{starts} starts of this job in a row ended without a checkpoint beyond step {step:,}, so it is not "
            "started again: see the log for why they ended, give a shorter --save-interval or a longer time limit, "
            "and submit it again (STARTS_WITHOUT_PROGRESS=0 sets no limit)"
        )


def note_start(run: Path, step: int) -> None:
    """Note that a start of this submission begins at this step."""
    if submission := os.environ.get("PRETRAINING_SUBMISSION"):
        row = {"submission": submission, "step": step, "starts": _starts(run, step) + 1}
        write_atomically(run / STARTS, json.dumps(row) + "\n")


def _starts(run: Path, step: int) -> int:
    """How many starts of this submission in a row have begun at this step."""
    submission, path = os.environ.get("PRETRAINING_SUBMISSION"), run / STARTS
    if not submission or not path.exists():
        return 0
    noted = json.loads(path.read_text(encoding="utf-8"))
    return noted["starts"] if (noted["submission"], noted["step"]) == (submission, step) else 0
