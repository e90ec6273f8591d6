"""launch/download_pmc.py, and download_pubmed.sh that calls it, against a local server that imitates PMC's bucket.

python -m pytest -q tests/launch/test_download_pmc.py
"""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch import download_pmc
from launch.download_pmc import INVENTORY, FetchError, group_of, mirror
from pretraining.corpus.documents import read_documents
from pretraining.corpus.pmc import convert
from tests.launch.local_server import QuietHandler, serving

SCRIPT = Path(__file__).parents[2] / "launch" / "download_pubmed.sh"
DAY = "2026-01-18T01-00Z"


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


class Handler(QuietHandler):
    """Serves `server.files` by key; half of those in `server.failing`, HTTP 503 for those in `server.down`."""

    def respond(self):
        key, _, query = self.path.lstrip("/").partition("?")
        self.server.requests.append(self.path)
        if "list-type=2" in query:
            prefixes = "".join(f"<CommonPrefixes><Prefix>{INVENTORY}{day}/</Prefix></CommonPrefixes>" for day in
                               ["data", "hive", *self.server.days])  # fmt: skip
            body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{prefixes}</ListBucketResult>".encode()
        elif key in self.server.down:
            self.send_error(503)
            return
        elif key in self.server.files:
            body = self.server.files[key]
        else:
            self.send_error(404)
            return
        self.answer(200, body, {}, cut=key in self.server.failing)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download_pmc, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(Handler) as server:
        server.files, server.days, server.failing, server.down, server.requests = {}, [DAY], set(), set(), []
        yield server


def publish(server, *articles, day=DAY):
    """Put articles (number, version, licence, text) into the bucket, with an inventory of just these."""
    server.files = {key: content for key, content in server.files.items() if key.startswith(INVENTORY)}
    rows = []
    for number, version, licence, text in articles:
        name = f"PMC{number}.{version}"
        xml = (
            f'<article><front><article-meta><article-id pub-id-type="pmcid">PMC{number}</article-id><title-group>'
            f"<article-title>T.</article-title></title-group></article-meta></front><body><p>{text}</p></body></article>"
        ).encode()
        metadata = json.dumps({
            "pmcid": f"PMC{number}", "version": version, "is_pmc_openaccess": licence != "TDM", "license_code": licence,
            "xml_url": f"s3://pmc-oa-opendata/{name}/{name}.xml?md5={md5(xml)}",
        }).encode()  # fmt: skip
        server.files |= {f"{name}/{name}.xml": xml, f"metadata/{name}.json": metadata}
        rows.append(f'"pmc-oa-opendata","metadata/{name}.json","2026-01-08T11:47:59.000Z","{md5(metadata)}"\n')
    data = gzip.compress("".join(rows).encode(), mtime=0)
    server.files[f"{INVENTORY}data/{day}.csv.gz"] = data
    server.files[f"{INVENTORY}{day}/manifest.json"] = json.dumps({
        "fileFormat": "CSV", "fileSchema": "Bucket, Key, LastModifiedDate, ETag",
        "files": [{"key": f"{INVENTORY}data/{day}.csv.gz", "size": len(data), "MD5checksum": md5(data)}],
    }).encode()  # fmt: skip
    server.requests.clear()


def update(server, folder, *groups):
    server.requests.clear()
    return mirror(folder, list(groups or ("oa_comm",)), server.url, 4)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.xml"))


def fetched(server):
    return sorted(path for path in server.requests if path.endswith((".xml", "json")) and INVENTORY not in path)


FIVE = [
    (12345, 1, "CC BY", "One."), (12346, 1, "CC BY-NC", "Two."), (12000001, 1, "CC0", "Three."),
    (7, 1, "TDM", "Four."), (8, 1, "", "Five."),
]  # fmt: skip


def test_articles_by_licence_that_the_reader_reads(server, tmp_path):
    publish(server, *FIVE)
    assert update(server, tmp_path, "oa_comm") == []
    assert names(tmp_path) == ["oa_comm/PMC0001/PMC12345.1.xml", "oa_comm/PMC1200/PMC12000001.1.xml"]
    assert update(server, tmp_path, "oa_noncomm", "oa_other", "manuscripts") == []
    assert {name.split("/")[0] for name in names(tmp_path)} == {"oa_comm", "oa_noncomm", "oa_other", "manuscripts"}
    assert [path for path in fetched(server) if path.startswith("/metadata")] == []  # known from the first run
    convert([tmp_path / "oa_comm", tmp_path / "oa_other"], tmp_path / "documents")
    assert [(d.id, d.text) for d in read_documents(tmp_path / "documents")] == [
        ("PMC12345", "T.\nOne."), ("PMC12000001", "T.\nThree."), ("PMC8", "T.\nFive.")
    ]  # fmt: skip


def test_a_second_run_fetches_what_is_new_changed_or_lost_and_removes_what_is_gone(server, tmp_path):
    publish(server, *((number, 1, "CC BY", text) for number, text in enumerate("abcde", 1)))
    update(server, tmp_path)
    assert update(server, tmp_path) == [] and fetched(server) == []
    (tmp_path / "oa_comm/PMC0000/PMC5.1.xml").unlink()
    # 1 changed, 2 has a newer version, 3 another licence, 4 was withdrawn, 5 was lost here, 6 is new
    publish(server, (1, 1, "CC BY", "A"), (2, 2, "CC BY", "B"), (2, 1, "CC BY", "b"), (3, 1, "CC BY-NC", "c"),
            (5, 1, "CC BY", "e"), (6, 1, "CC BY", "f"))  # fmt: skip
    assert update(server, tmp_path) == []
    assert names(tmp_path) == [f"oa_comm/PMC0000/PMC{name}.xml" for name in ("1.1", "2.2", "5.1", "6.1")]
    assert "<p>A</p>" in (tmp_path / "oa_comm/PMC0000/PMC1.1.xml").read_text()
    assert [path for path in fetched(server) if path.endswith(".xml")] == [
        f"/PMC{name}/PMC{name}.xml" for name in ("1.1", "2.2", "5.1", "6.1")
    ]


def test_what_is_cut_damaged_or_not_given_is_said_and_fetched_by_the_next_run(server, tmp_path):
    publish(server, *((number, 1, "CC BY", "text") for number in range(1, 6)))
    server.failing, server.down = {"PMC1.1/PMC1.1.xml"}, {"PMC2.1/PMC2.1.xml", "metadata/PMC3.1.json"}
    server.files["PMC4.1/PMC4.1.xml"] += b" "
    failures = update(server, tmp_path)
    assert len(failures) == 4 and names(tmp_path) == ["oa_comm/PMC0000/PMC5.1.xml"]
    assert any("PMC4.1.xml has not the MD5" in one for one in failures)
    assert any("PMC2.1.xml cannot be fetched (HTTP Error 503" in one for one in failures)
    server.failing, server.down = set(), set()
    server.files["PMC4.1/PMC4.1.xml"] = server.files["PMC4.1/PMC4.1.xml"][:-1]
    assert update(server, tmp_path) == [] and len(names(tmp_path)) == 5
    assert "/PMC5.1/PMC5.1.xml" not in server.requests


def test_a_run_that_dies_goes_on(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download_pmc, "BATCH", 3)
    publish(server, *((number, 1, "CC BY", "text") for number in range(1, 11)))
    real, calls = download_pmc.fetch_article, []

    def dies(url, folder, row):
        calls.append(row)
        if row[0] == 8:
            raise KeyboardInterrupt
        return real(url, folder, row)

    monkeypatch.setattr(download_pmc, "fetch_article", dies)
    with pytest.raises(KeyboardInterrupt):
        update(server, tmp_path)
    monkeypatch.setattr(download_pmc, "fetch_article", real)
    assert update(server, tmp_path) == [] and len(names(tmp_path)) == 10
    assert [
        path for path in fetched(server) if "metadata" in path
    ] == [] and "/PMC1.1/PMC1.1.xml" not in server.requests


def test_an_inventory_that_is_empty_broken_or_missing_changes_nothing(server, tmp_path):
    publish(server, (1, 1, "CC BY", "a"))
    update(server, tmp_path)
    good = dict(server.files)
    publish(server)
    with pytest.raises(FetchError, match="lists no article; nothing was changed"):
        update(server, tmp_path)
    server.files = good | {f"{INVENTORY}data/{DAY}.csv.gz": b"damaged"}
    with pytest.raises(FetchError, match="has not the MD5"):
        update(server, tmp_path)
    server.files = good | {f"{INVENTORY}{DAY}/manifest.json": b"{}"}
    with pytest.raises(FetchError, match="no manifest of an inventory"):
        update(server, tmp_path)
    server.files, server.days = good, ["2026-01-19T01-00Z", DAY]  # the newest is in the making
    assert update(server, tmp_path) == []
    server.days = []
    with pytest.raises(FetchError, match="has no inventory"):
        update(server, tmp_path)
    server.days, files = [DAY], json.loads(good[f"{INVENTORY}{DAY}/manifest.json"])
    del files["files"][0]["MD5checksum"]
    server.files = good | {f"{INVENTORY}{DAY}/manifest.json": json.dumps(files).encode()}
    whole = good[f"{INVENTORY}data/{DAY}.csv.gz"]
    for damaged in (whole[:-12], b"damaged", gzip.compress(b"one column\n")):
        server.files[f"{INVENTORY}data/{DAY}.csv.gz"] = damaged
        with pytest.raises(FetchError, match="no inventory, or is damaged"):
            update(server, tmp_path)
    assert names(tmp_path) == ["oa_comm/PMC0000/PMC1.1.xml"]


def test_a_folder_whose_last_article_was_withdrawn_goes_so_that_the_reader_reads_on(server, tmp_path):
    publish(server, (1, 1, "CC BY", "a"), (10_001, 1, "CC BY", "b"))
    update(server, tmp_path)
    publish(server, (1, 1, "CC BY", "a"))
    assert update(server, tmp_path) == []
    assert convert([tmp_path / "oa_comm"], tmp_path / "documents")["documents"] == 1


@pytest.mark.parametrize(("flag", "value"), [("--connections", "0"), ("--url", "pmc-oa-opendata")])
def test_wrong_flags_are_one_sentence(monkeypatch, capsys, tmp_path, flag, value):
    monkeypatch.setattr(sys, "argv", ["download_pmc", str(tmp_path), "oa_comm", flag, value])
    with pytest.raises(SystemExit) as ended:
        download_pmc.main()
    assert ended.value.code == 2 and f"error: {flag} {value} is n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("licence", "more", "group"),
    [
        ("cc by-sa", {}, "oa_comm"),
        ("CC BY-NC-ND", {}, "oa_noncomm"),
        ("CC BY", {"is_pmc_openaccess": False}, ""),
        ("TDM", {"is_pmc_openaccess": False}, "manuscripts"),
        (None, {}, "oa_other"),
        ("CC BY", {"xml_url": None}, ""),
    ],
)
def test_groups(licence, more, group):
    assert group_of({"license_code": licence, "is_pmc_openaccess": True, "xml_url": "s3://x"} | more) == group


def test_the_shell_command(server, tmp_path):
    publish(server, *FIVE)
    environment = {**os.environ, "PMC_BUCKET_URL": server.url, "PMC_URL": "", "PYTHON": sys.executable}
    command = ["bash", SCRIPT, tmp_path, "oa_comm", "manuscripts"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("oa_comm manuscripts: 3 articles fetched, 0 removed, metadata of 5 read;")
    assert len(names(tmp_path)) == 3
    server.files[f"{INVENTORY}{DAY}/manifest.json"] = b"[]"
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
