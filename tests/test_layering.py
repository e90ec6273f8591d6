"""The shape of the repository, checked by reading its source files with `ast`: who may import whom, no work
at import, docstrings, file lengths, top-level folders, and no apex from PyPI in a requirements file.

A new module of pretraining/ is put into ORDER at the place where its imports allow it.
"""

import ast
import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Modules of pretraining/, leftmost first: each may import only what stands before it. Those in one inner
# tuple may not import each other. The stages of corpus/ import nothing of the rest.
ORDER = (
    ("corpus",),
    ("config",),
    ("flags",),
    ("batch",),
    ("ranks",),
    ("machine",),
    ("stopping", "run_lock"),
    ("staging",),
    ("reachability",),
    ("masking",),
    ("sample_map",),
    ("data",),
    ("blend",),
    ("allocator", "dropout"),
    ("attention", "softmax"),
    ("fused",),
    ("model",),
    ("local_attention",),
    ("compiling",),
    ("metrics",),
    ("objectives",),
    ("optim",),
    ("ds_config",),
    ("plan_memory",),
    ("plan_time",),
    ("plan_report",),
    ("plan",),
    ("meter", "profiling"),
    ("doctor_report",),
    ("doctor_machine", "doctor_files", "doctor_hosts"),
    ("doctor",),
    ("engine",),
    ("training_state", "corpora"),
    ("checkpoint",),
    ("run_log",),
    ("hf_weights",),
    ("resume", "restarts"),
    ("evaluation",),
    ("train", "export", "corpus_info"),
)

# Packages that only the named files (or folders, with a closing slash) may import.
FENCES = {
    "deepspeed": ("pretraining/engine.py", "pretraining/training_state.py", "benchmarks/", "tests/"),
    "apex": ("pretraining/fused.py", "benchmarks/", "tests/"),
    "transformers": (
        "pretraining/export.py",
        "pretraining/hf_weights.py",
        "finetuning/",
        "benchmarks/",
        "tests/",
    ),
    "tests": ("tests/",),
}

# What a package may not import at all.
FORBIDDEN = {
    "pretraining/corpus/": ("torch", "transformers", "deepspeed", "finetuning"),
    "pretraining/": ("finetuning",),
    "finetuning/": ("pretraining",),
    "launch/": ("torch", "pretraining", "finetuning"),
}

TOP_LEVEL_FOLDERS = {"pretraining", "finetuning", "ds_configs", "launch", "benchmarks", "tests", ".ci"}
LONGEST_SOURCE_LINES = 300


def tracked_files() -> list[str]:
    """Paths of the repository's files, those not yet committed included and those git ignores not."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return [
            path.relative_to(ROOT).as_posix()
            for folder in sorted(TOP_LEVEL_FOLDERS)
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        ]
    return [path for path in listing.splitlines() if (ROOT / path).is_file()]


FILES = tracked_files()
SOURCES = [path for path in FILES if path.endswith(".py")]


@functools.cache
def parse(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=path)


def imported_modules(tree: ast.Module, path: str) -> Iterator[str]:
    """Dotted names of all that a file imports, wherever in the file; relative imports made absolute."""
    package = Path(path).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            # "from pretraining import engine" imports pretraining.engine.
            yield from (f"{base}.{alias.name}" for alias in node.names)


def order_faults(path: str, tree: ast.Module) -> list[str]:
    """Imports of a file of pretraining/ that point to its right in ORDER."""
    rank = {name: place for place, level in enumerate(ORDER) for name in level}
    own = Path(path).with_suffix("").parts[1]
    if own not in rank:
        return [] if own == "__init__" else [f"{path} is not in ORDER; put it there"]
    faults = []
    for module in imported_modules(tree, path):
        parts = module.split(".")
        if parts[0] != "pretraining" or len(parts) < 2:
            continue
        if own == "corpus" and parts[1] == "corpus":
            continue
        if parts[1] not in rank:
            faults.append(f"{path} imports {module}, which is not in ORDER")
        elif rank[parts[1]] >= rank[own]:
            faults.append(f"{path} imports {module}, which does not stand before it in ORDER")
    return faults


def fence_faults(path: str, tree: ast.Module) -> list[str]:
    """Imports that FENCES or FORBIDDEN do not allow to a file."""
    packages = {module.split(".")[0] for module in imported_modules(tree, path)}
    faults = [
        f"{path} imports {package}, which only {', '.join(allowed)} may"
        for package, allowed in FENCES.items()
        if package in packages and not path.startswith(allowed)
    ]
    faults += [
        f"{path} imports {package}, which nothing in {folder} may"
        for folder, forbidden in FORBIDDEN.items()
        for package in forbidden
        if path.startswith(folder) and package in packages
    ]
    return faults


def work_at_import(tree: ast.Module) -> list[int]:
    """Lines of module-level statements that do something: calls, loops, branches but for the usual guards."""
    quiet = (
        ast.Import,
        ast.ImportFrom,
        ast.Assign,
        ast.AnnAssign,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
    )
    lines = []
    for statement in tree.body:
        guard = isinstance(statement, ast.If) and ast.unparse(statement.test) in (
            "__name__ == '__main__'",
            "TYPE_CHECKING",
        )
        docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        optional_import = isinstance(statement, ast.Try) and all(
            isinstance(inner, (ast.Import, ast.ImportFrom)) for inner in statement.body
        )
        if not (isinstance(statement, quiet) or guard or docstring or optional_import):
            lines.append(statement.lineno)
    return lines


def test_imports_point_one_way() -> None:
    faults = [fault for path in SOURCES if path.startswith("pretraining/") for fault in order_faults(path, parse(path))]
    assert not faults, "\n".join(faults)


def test_packages_stay_behind_their_fences() -> None:
    faults = [fault for path in SOURCES for fault in fence_faults(path, parse(path))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("pretraining/corpus/new.py", "import torch"),
        ("pretraining/corpus/new.py", "def f():\n    from pretraining import config"),
        ("pretraining/corpus/new.py", "from ..config import Config"),
        ("pretraining/config.py", "import pretraining.engine"),
        ("pretraining/train.py", "from pretraining.export import main"),
        ("pretraining/unheard_of.py", "import os"),
        ("pretraining/train.py", "import deepspeed.comm"),
        ("pretraining/model.py", "from apex.normalization import FusedLayerNorm"),
        ("pretraining/train.py", "from finetuning import loop"),
        ("finetuning/loop.py", "from pretraining.config import Config"),
        ("finetuning/loop.py", "from tests.distributed import run_distributed"),
    ],
)
def test_a_wrong_import_is_found(path: str, code: str) -> None:
    tree = ast.parse(code)
    order = order_faults(path, tree) if path.startswith("pretraining/") else []
    assert order + fence_faults(path, tree)


def test_no_work_at_import() -> None:
    faults = [
        f"{path}:{line}" for path in SOURCES if not path.startswith("tests/") for line in work_at_import(parse(path))
    ]
    assert not faults, f"module-level statements that do something: {', '.join(faults)}"
    assert work_at_import(ast.parse("import sys\nsys.path.insert(0, '.')\nfor i in range(3):\n    pass")) == [
        2,
        3,
    ]


def test_every_source_file_has_a_docstring() -> None:
    faults = [path for path in SOURCES if not ast.get_docstring(parse(path))]
    assert not faults, f"no docstring at the top: {', '.join(faults)}"


def test_source_files_are_short() -> None:
    lengths = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    faults = [
        f"{path}: {lines}"
        for path, lines in lengths.items()
        if lines > LONGEST_SOURCE_LINES and not path.startswith("tests/")
    ]
    assert not faults, f"longer than {LONGEST_SOURCE_LINES} lines: {', '.join(faults)}"


def test_top_level_folders_are_those_of_the_design() -> None:
    folders = {path.split("/")[0] for path in FILES if "/" in path}
    assert folders <= TOP_LEVEL_FOLDERS


def test_no_requirements_file_installs_the_apex_of_pypi() -> None:
    requirements = [path for path in FILES if re.search(r"requirements[^/]*\.txt$", path)]
    assert requirements
    for path in requirements:
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        assert not [line for line in lines if re.match(r"\s*apex\b", line, re.IGNORECASE)], path
        assert not [line for line in lines if line and not re.match(r"#|[A-Za-z0-9_.-]+==[^ ]+ +# ", line)], path
