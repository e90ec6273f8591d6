"""Runs a command of ours in this process: most of a short command's seconds are its imports.

    result = call(corpus_info.main, prefix, "--sample", 3)
    assert result.returncode == 0 and result.stdout.startswith("30 documents")

One test of each command starts a real process as well.
"""

import contextlib
import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock


def call(main: Callable[[], None], *arguments: Any) -> subprocess.CompletedProcess[str]:
    """What a process would have written and ended with, sys.exit's sentences included; other errors are raised."""
    words, output, errors = [main.__module__, *map(str, arguments)], io.StringIO(), io.StringIO()
    status: Any = 0
    with (
        mock.patch.object(sys, "argv", words),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as stopped:
            status = stopped.code or 0
    if isinstance(status, str):
        print(status, file=errors)
        status = 1
    return subprocess.CompletedProcess(words, status, output.getvalue(), errors.getvalue())
