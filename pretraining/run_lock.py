"""One run at a time in a run folder: two would delete and rename each other's half-written checkpoints.

    SAVE/.lock      held by rank 0 as long as its process lives, however it ends

Steps: `lock_run` takes the lock; while another run has it, waits a little, for that run may be ending (ranks whose
launcher was killed save once more; the lock of a host that died lasts until the file system notices, on NFS 90 s), and
then refuses.
"""

import fcntl
import sys
import time
from pathlib import Path
from typing import BinaryIO

LOCK = ".lock"
WAIT_SECONDS = 180.0
_held: list[BinaryIO] = []  # a lock goes with its open file


def lock_run(folder: Path) -> None:
    """Take the lock of a run folder for this process. Raises ValueError where another run keeps it."""
    file = (folder / LOCK).open("ab")
    deadline, said = time.monotonic() + WAIT_SECONDS, False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                raise ValueError(
                    f"another run writes to --save {folder}: wait for its end, or give another folder; where you know "
                    f"of none, remove {folder / LOCK}"
                ) from None
        except OSError:  # a file system without locks
            break
        if not said:
            print(f"waiting for another run that writes to --save {folder}", file=sys.stderr, flush=True)
            said = True
        time.sleep(0.5)
    _held.append(file)
