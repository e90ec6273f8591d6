"""Does an environment that somebody else made hold what this repository needs?

    python launch/check_packages.py requirements.txt [tests/requirements.txt]

Run with the Python in question; it needs the standard library alone, and installs nothing.

1. torch must be there, of the pinned minor version or later: it belongs to the cluster's drivers and
   containers, so we only look at it.
2. Packages that are missing are named in one sentence, with the command that installs them. The command
   repeats the torch that is there, so that pip does not replace it.
3. Other versions than the pinned ones are noted, and accepted.
"""

import re
import sys
from importlib import metadata
from pathlib import Path

PIN = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s#;]+)")


def read_pins(paths: list[str]) -> dict[str, str]:
    """Returns {package: pinned version} of requirement files, in their order."""
    pins = {}
    for path in paths:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            if match := PIN.match(line):
                pins[match.group(1)] = match.group(2)
    return pins


def installed_version(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def minor_version(version: str) -> tuple[int, ...]:
    """(2, 13) of "2.13.0a0+git"."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def check(pins: dict[str, str], found: dict[str, str | None], python: str) -> list[str]:
    """Returns notes on versions that differ; raises ValueError where the environment cannot be used."""
    torch = found.get("torch")
    if torch is None:
        raise ValueError(
            f"{python} has no torch; install the build that fits its CUDA (https://pytorch.org), "
            f"version {pins['torch']}."
        )
    if minor_version(torch) < minor_version(pins["torch"]):
        raise ValueError(
            f"{python} has torch {torch}, and {pins['torch']} or later is needed; it was left as it is. Give "
            "another environment in PYTHON=, or leave PYTHON unset to have .venv made."
        )
    if missing := [package for package in pins if found[package] is None]:
        install = " ".join(f"{package}=={pins[package]}" for package in missing)
        raise ValueError(
            f"{python} lacks {', '.join(missing)}; install with: {python} -m pip install torch=={torch} {install}"
        )
    return [
        f"note: {package} is {found[package]}, tested with {pin}"
        for package, pin in pins.items()
        if found[package].split("+")[0] != pin
    ]


def main() -> None:
    """Command line: the requirement files."""
    try:
        pins = read_pins(sys.argv[1:])
        found = {package: installed_version(package) for package in pins}
        for note in check(pins, found, sys.executable):
            print(note, file=sys.stderr)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
