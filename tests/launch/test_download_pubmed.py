"""launch/download_pubmed.sh against a local HTTP server that damages, cuts, lacks and changes files.

python -m pytest -q tests/launch/test_download_pubmed.py
"""

import gzip
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.launch.local_server import QuietHandler, serving

SCRIPT = Path(__file__).parents[2] / "launch" / "download_pubmed.sh"
NAME = "pubmed24n0001.xml.gz"
OLD, NEW = "Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"


class Handler(QuietHandler):
    """Serves `server.files`, ranges too; the paths in `server.cut` end after half of what was asked for."""

    def respond(self):
        files, path = self.server.files, self.path
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.server.requests.append((path, start))
        if self.headers.get("If-Modified-Since") == self.server.modified:
            self.send_response(304)
            self.end_headers()
            return
        if path.endswith("/"):
            links = (name.removeprefix(path) for name in files if name.startswith(path))
            body = "".join(f'<a href="{link}">{link}</a>\n' for link in links).encode()
        elif path in files and start < max(1, len(files[path])):
            body = files[path][start:]
        else:
            self.send_error(404 if path not in files else 416)
            return
        headers = {"Last-Modified": self.server.modified}
        if start:
            headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{start + len(body)}"
        self.answer(206 if start else 200, body, headers, cut=path in self.server.cut)


@pytest.fixture
def server():
    with serving(Handler) as server:
        server.files, server.cut, server.requests = {}, set(), []
        server.modified = OLD
        yield server


def publish(server, content: bytes, name: str = NAME) -> bytes:
    data = gzip.compress(content, mtime=0)
    server.files[f"/baseline/{name}"] = data
    server.files[f"/baseline/{name}.md5"] = f"MD5({name})= {hashlib.md5(data).hexdigest()}\n".encode()
    return data


def download(server, folder: Path, part: str = "baseline"):
    environment = {**os.environ, "PUBMED_URL": server.url, "PMC_URL": server.url, "no_proxy": "127.0.0.1"}
    server.requests.clear()
    command = ["bash", SCRIPT, folder, part]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_second_run_fetches_no_data(server, tmp_path):
    data = publish(server, b"one")
    assert download(server, tmp_path).returncode == 0
    assert (tmp_path / "baseline" / NAME).read_bytes() == data
    assert download(server, tmp_path).returncode == 0
    assert (f"/baseline/{NAME}", 0) not in server.requests


def test_cut_connection_goes_on_where_it_was_cut(server, tmp_path):
    data = publish(server, os.urandom(50_000))
    server.cut.add(f"/baseline/{NAME}")
    result = download(server, tmp_path)
    assert result.returncode == 1 and "was cut; run again" in result.stderr
    assert not (tmp_path / "baseline" / NAME).exists()
    server.cut.clear()
    assert download(server, tmp_path).returncode == 0
    assert (f"/baseline/{NAME}", len(data) // 2) in server.requests
    assert (tmp_path / "baseline" / NAME).read_bytes() == data


def test_damaged_file_is_refused(server, tmp_path):
    data = publish(server, b"one")
    server.files[f"/baseline/{NAME}"] = b"x" + data[1:]
    result = download(server, tmp_path)
    assert result.returncode == 1 and "does not agree with its .md5" in result.stderr
    assert list((tmp_path / "baseline").iterdir()) == []


def test_missing_md5_is_refused(server, tmp_path):
    publish(server, b"one")
    del server.files[f"/baseline/{NAME}.md5"]
    result = download(server, tmp_path)
    assert result.returncode == 1 and ".md5 cannot be fetched" in result.stderr
    assert list((tmp_path / "baseline").iterdir()) == []


def test_file_changed_at_the_source_is_fetched_anew(server, tmp_path):
    publish(server, b"one")
    assert download(server, tmp_path).returncode == 0
    data = publish(server, b"two, longer")
    (tmp_path / "baseline" / f"{NAME}.partial").write_bytes(b"of an earlier version")
    assert download(server, tmp_path).returncode == 0
    assert (tmp_path / "baseline" / NAME).read_bytes() == data
    assert not (tmp_path / "baseline" / f"{NAME}.partial").exists()


def test_a_new_years_files_replace_the_old_years_once_all_are_there(server, tmp_path):
    publish(server, b"last year")
    assert download(server, tmp_path).returncode == 0
    for name in ("notes.xml.gz", f"{NAME}.partial"):
        (tmp_path / "baseline" / name).write_bytes(b"not listed")
    server.files.clear()
    new = publish(server, b"this year", "pubmed25n0001.xml.gz")
    server.cut.add("/baseline/pubmed25n0001.xml.gz")
    assert download(server, tmp_path).returncode == 1
    assert (tmp_path / "baseline" / NAME).exists()  # the only whole year there is
    server.cut.clear()
    result = download(server, tmp_path)
    assert result.returncode == 0 and f"{NAME} removed, the server does not list it" in result.stdout
    assert {path.name for path in (tmp_path / "baseline").iterdir()} == {"notes.xml.gz", "pubmed25n0001.xml.gz"}
    assert (tmp_path / "baseline" / "pubmed25n0001.xml.gz").read_bytes() == new
    server.files.clear()
    assert download(server, tmp_path).returncode == 1
    assert (tmp_path / "baseline" / "pubmed25n0001.xml.gz").exists()


def test_pmc_package_that_is_no_gzip_is_refused(server, tmp_path):
    server.files["/oa_comm/xml/a.tar.gz"] = b"not gzip"
    result = download(server, tmp_path, "oa_comm")
    assert result.returncode == 1 and "not a whole gzip file" in result.stderr
    server.files["/oa_comm/xml/a.tar.gz"] = gzip.compress(b"package", mtime=0)
    assert download(server, tmp_path, "oa_comm").returncode == 0
    assert gzip.decompress((tmp_path / "oa_comm" / "a.tar.gz").read_bytes()) == b"package"


def test_pmc_package_is_fetched_again_only_when_newer(server, tmp_path):
    server.files["/oa_comm/xml/a.tar.gz"] = gzip.compress(b"package", mtime=0)
    assert download(server, tmp_path, "oa_comm").returncode == 0
    server.files["/oa_comm/xml/a.tar.gz"] = gzip.compress(b"another", mtime=0)
    same_date = download(server, tmp_path, "oa_comm")
    assert (same_date.returncode, same_date.stdout) == (0, "")
    server.modified = NEW
    assert download(server, tmp_path, "oa_comm").returncode == 0
    assert gzip.decompress((tmp_path / "oa_comm" / "a.tar.gz").read_bytes()) == b"another"


def test_unknown_part_is_refused(server, tmp_path):
    result = download(server, tmp_path, "nonsense")
    assert result.returncode == 1 and "nonsense is no part of the mirror" in result.stderr
