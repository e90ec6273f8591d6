"""What a run asks of a cluster: no network but its own ranks', no folder listed by every rank, one writer."""

import functools
import json
import os
import sys
from pathlib import Path

import pytest

from tests.run_folders import read_rows
from tests.tiny import make_corpus
from tests.training_runs import flags_of, train


def watch_audit(folder: Path, shared: Path) -> None:
    """A hook: write down hosts that Python reaches for, folders under `shared` that it lists, files it writes there.

    A host that is not this machine is refused, so that a run that needs one fails. The process group's own sockets are
    torch's, which Python does not see.
    """
    file = (folder / f"audit{os.environ['RANK']}.jsonl").open("a", buffering=1)

    def note(event: str, arguments: tuple) -> None:
        if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
            address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
            host = address[0] if isinstance(address, tuple) else address
            if host not in ("localhost", "127.0.0.1", "::1"):
                file.write(json.dumps({"kind": "network", "what": f"{event} {host}"}) + "\n")
                raise OSError(f"no network here: {event} {host}")
        elif event in ("os.listdir", "os.scandir") and is_shared(arguments[0]):
            file.write(json.dumps({"kind": "list", "what": str(arguments[0])}) + "\n")
        elif event == "open" and is_shared(arguments[0]) and isinstance(arguments[2], int):
            if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                file.write(json.dumps({"kind": "write", "what": str(arguments[0])}) + "\n")

    def is_shared(path: object) -> bool:
        return isinstance(path, str | os.PathLike) and str(path).startswith(str(shared))

    sys.addaudithook(note)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[str]]]:
    """What each of two ranks did in a run with validation and checkpoints and in its resumption, by kind."""
    folder = tmp_path_factory.mktemp("cluster")
    shared, watched = folder / "shared", folder / "watched"
    watched.mkdir()
    corpus = make_corpus(shared, documents=20)
    hook = functools.partial(watch_audit, watched, shared)
    for steps_before, name in ((0, "first"), (2, "second")):
        flags = flags_of(corpus, shared / "run", load=shared / "run", train_iters=4, eval_interval=1, save_interval=2)
        train(folder / name, 2, flags, hook)
        if not steps_before:  # as if it had ended there
            (shared / "run" / "checkpoints" / "latest").write_text("step_00000002\n")
    rows = [read_rows(watched / f"audit{rank}.jsonl") for rank in range(2)]
    kinds = ("network", "list", "write")
    return [{kind: [row["what"] for row in own if row["kind"] == kind] for kind in kinds} for own in rows]


def test_no_rank_reaches_for_a_network(seen: list[dict]) -> None:
    assert [own["network"] for own in seen] == [[], []]


def test_one_rank_lists_folders(seen: list[dict]) -> None:
    assert seen[1]["list"] == []
    assert seen[0]["list"]  # or nothing was watched


def test_one_rank_writes(seen: list[dict]) -> None:
    """But for the checksums of a checkpoint's files, which ranks share and for which they open them to sync."""
    others = [what for what in seen[1]["write"] if ".staging/" not in what]
    assert others == []
    names = {Path(what).name for what in seen[0]["write"]}
    assert {"metrics.jsonl", "run_state.json.tmp", "latest.tmp"} <= names
