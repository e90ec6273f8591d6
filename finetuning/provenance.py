"""What made a result: versions, the commit of this repository, the command, the time. Nothing to run here."""

import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "seqeval")
REPOSITORY = Path(__file__).resolve().parents[1]


def versions() -> dict[str, str]:
    """Versions of what the scores depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # imported from a path, without its metadata
            found[package] = "unknown"
    return found


def command() -> str:
    """The command line as it was typed, `python -m` included."""
    module = getattr(sys.modules.get("__main__"), "__spec__", None)
    program = f"python -m {module.name}" if module else f"python {sys.argv[0]}"
    return " ".join([program, shlex.join(sys.argv[1:])])


@cache  # the code that runs is that of the start
def commit(repository: Path = REPOSITORY) -> str | None:
    """The commit of this code, with `-dirty` where tracked files differ from it; None outside a git checkout."""

    def git(*arguments: str) -> str:
        line = ["git", "-C", str(repository), *arguments]
        return subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != repository.resolve():
            return None  # a copy of the files inside some other repository
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def provenance() -> dict[str, Any]:
    """All of it, for a file of results; the time is UTC."""
    return {
        "versions": versions(),
        "commit": commit(),
        "command": command(),
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
