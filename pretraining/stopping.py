"""When a run has to stop before its last step: a signal, the end of its time, or a launcher that is gone.

Steps: (1) `StopRequest` notes signals (TERM, USR1, INT) and the deadline; (2) after every step the ranks agree with
one tiny all-reduce (engine.any_rank), so that all of them stop at the same step; (3) the trainer saves a checkpoint
and exits with 75.
"""

import os
import signal
import time

GUESSED_SAVE_SECONDS = 30.0  # of a checkpoint, before the first; at most a twentieth of the time that there is
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopRequest:
    """Whether this process was asked to stop, and why."""

    def __init__(self, limit_minutes: float | None):
        self.reason = ""
        self.started = time.monotonic()
        self.limit_seconds = None if limit_minutes is None else limit_minutes * 60
        self.parent = os.getppid()
        self.slowest_save_seconds: float | None = None
        self.longest_step_seconds = 0.0
        self.asked: float | None = None
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: object) -> None:
        self.reason = f"signal {signal.Signals(number).name}"

    def wanted(self) -> bool:
        """Whether to stop after this step; asked once a step."""
        now = time.monotonic()
        if self.asked is not None:  # not the first step, which may compile for minutes
            self.longest_step_seconds = max(self.longest_step_seconds, now - self.asked)
        self.asked = now
        if not self.reason and os.getppid() != self.parent:
            self.reason = "the launcher is gone"  # a killed launcher reports success and leaves its ranks behind
        if not self.reason and self.limit_seconds is not None:
            # Another step, with its validation, and the last checkpoint have to fit: the longest step so far, and twice
            # the slowest checkpoint, or a guess before the first.
            save_seconds = self.slowest_save_seconds
            if save_seconds is None:
                save_seconds = min(GUESSED_SAVE_SECONDS, 0.05 * self.limit_seconds)
            if now - self.started + self.longest_step_seconds + 2 * save_seconds > self.limit_seconds:
                self.reason = "--exit-duration-in-mins"
        return bool(self.reason)

    def saved_in(self, seconds: float) -> None:
        """Note how long a checkpoint took."""
        self.slowest_save_seconds = max(self.slowest_save_seconds or 0.0, seconds)
