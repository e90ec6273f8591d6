"""What every test shares: one thread, no network, the `gpu` marker, what may run at the same time, real files.

Settings are environment variables, put in place before any test module imports torch, so that programs
started by tests inherit them.
"""

import functools
import os
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips tests marked `gpu` where torch sees no GPU."""
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    if not gpu_items:
        return
    import torch

    if not torch.cuda.is_available():
        for item in gpu_items:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files go to workers as a whole, for their fixtures; those whose tests start ranks all go to the same one.

    Such a test keeps two cores busy: two of them at the same time would wait for each other, and for their ports.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "ranks" if starts_ranks(file) else file

    return Scheduling(config, log)


@functools.cache
def starts_ranks(file: str) -> bool:
    """Whether the tests of a file, named from the root of the repository, start ranks."""
    text = (REPOSITORY / file).read_text(encoding="utf-8")
    return any(f"from tests.{module} import" in text for module in ("distributed", "training_runs"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real files in the formats in which they are distributed; they are no part of this repository."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real files are not here ({folder})")
    return folder
