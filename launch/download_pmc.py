"""Mirror full texts of PubMed Central (JATS XML, an article a file) from its bucket `pmc-oa-opendata`, over HTTPS.

    python -m launch.download_pmc DIR oa_comm [oa_noncomm] [oa_other] [manuscripts] [--connections N] [--url URL]

The groups are licences: oa_comm CC0, CC BY, CC BY-SA, CC BY-ND (commercial use allowed); oa_noncomm CC BY-NC and its
like; oa_other the rest of the Open Access Subset; manuscripts those of authors, for text mining (TDM). Steps:

1. Fetch the bucket's inventory of the day (manifest.json and the CSV files in it, by their MD5): name and ETag of the
   metadata of every article, eight million; of each article the highest version counts.
2. Fetch the metadata (JSON, by its ETag) of articles that are new or have changed: licence, and MD5 of the XML.
3. Remove files of articles that were withdrawn, or have a newer version or another licence now.
4. Fetch the XML of the articles of the groups, compare the MD5, and name it DIR/GROUP/PMC0001/PMC12345.1.xml: folders
   of 10,000 numbers, which `python -m pretraining.corpus.pmc --input DIR/GROUP` reads.

What is known stands in DIR/pmc.sqlite: the same command goes on where it was cut, and later fetches what has changed.
The exit status is 1 if anything could not be fetched. The layout is that of the bucket's README.txt of 2026.
"""

import argparse
import csv
import gzip
import hashlib
import http.client
import io
import json
import os
import re
import sqlite3
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

URL = "https://pmc-oa-opendata.s3.amazonaws.com"
INVENTORY = "inventory-reports/pmc-oa-opendata/metadata/"
GROUPS = {
    "oa_comm": ("CC0", "CC BY", "CC BY-SA", "CC BY-ND"),
    "oa_noncomm": ("CC BY-NC", "CC BY-NC-SA", "CC BY-NC-ND"),
    "oa_other": (),  # whatever else the Open Access Subset has
    "manuscripts": ("TDM",),
}
METADATA = re.compile(r"metadata/PMC(\d+)\.(\d+)\.json")
MD5 = re.compile(r"[0-9a-f]{32}")  # an ETag of another form is no MD5
ATTEMPTS, PAUSE_SECONDS, TIMEOUT_SECONDS = 4, 1.0, 60.0
BATCH = 1000  # articles between two commits
TABLES = """
CREATE TABLE IF NOT EXISTS known (pmcid INTEGER PRIMARY KEY, version INTEGER, etag TEXT, category TEXT, md5 TEXT);
CREATE TABLE IF NOT EXISTS fetched (pmcid INTEGER PRIMARY KEY, version INTEGER, category TEXT, md5 TEXT);
CREATE TEMPORARY TABLE listed (pmcid INTEGER PRIMARY KEY, version INTEGER, etag TEXT);
"""
CHANGED = """SELECT pmcid, listed.version, listed.etag FROM listed LEFT JOIN known USING (pmcid, version, etag)
WHERE known.pmcid IS NULL"""
HELD = """SELECT pmcid, fetched.version, fetched.category, listed.pmcid IS NULL OR coalesce(
known.version = listed.version AND known.etag = listed.etag
AND (known.version != fetched.version OR known.category != fetched.category), 0)
FROM fetched LEFT JOIN listed USING (pmcid) LEFT JOIN known USING (pmcid) WHERE fetched.category IN ({groups})"""
WANTED = """SELECT pmcid, known.version, known.category, known.md5 FROM known JOIN listed USING (pmcid, version, etag)
LEFT JOIN fetched USING (pmcid, version, category, md5) WHERE known.category IN ({groups}) AND fetched.pmcid IS NULL"""


class FetchError(Exception):
    """What the server did not give, or not whole."""


class MissingError(FetchError):
    """The server has no such object, or not any more."""


def fetch(url: str, md5: str = "") -> bytes:
    """The content at an address, with this MD5 if one is given. Raises FetchError, mostly after some attempts."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS * 2**attempt)
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise MissingError(f"{url} does not exist") from None
            problem = f"cannot be fetched ({error})"
        except (OSError, http.client.HTTPException) as error:
            problem = f"cannot be fetched ({error})"
        else:
            if not md5 or hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
                return content
            problem = f"has not the MD5 {md5}"
    raise FetchError(f"{url} {problem}")


def fetch_json(url: str, md5: str = "") -> dict:
    """A JSON object."""
    try:
        found = json.loads(fetch(url, md5))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise FetchError(f"{url} is no JSON object")
    return found


# ---- what there is ----


def read_inventory(url: str) -> Iterator[tuple[int, int, str]]:
    """Yield number, version and ETag of every article's metadata, of the newest inventory that is whole."""
    listing = fetch(f"{url}/?list-type=2&delimiter=/&prefix={urllib.parse.quote(INVENTORY)}").decode()
    days = re.findall(rf"<Prefix>{re.escape(INVENTORY)}(\d{{4}}-\d\d-\d\dT[\d-]+Z)/</Prefix>", listing)
    for day in sorted(days, reverse=True):
        try:
            manifest = fetch_json(f"{url}/{INVENTORY}{day}/manifest.json")
            break
        except MissingError:  # the newest may be in the making
            continue
    else:
        raise FetchError(f"{url} has no inventory under {INVENTORY}; check --url")
    try:
        columns = [name.strip() for name in manifest["fileSchema"].split(",")]
        key, etag = columns.index("Key"), columns.index("ETag")
        files = [(urllib.parse.quote(file["key"]), file.get("MD5checksum", "")) for file in manifest["files"]]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise FetchError(f"{url}/{INVENTORY}{day}/manifest.json is no manifest of an inventory") from None
    for name, md5 in files:
        try:
            with gzip.open(io.BytesIO(fetch(f"{url}/{name}", md5)), "rt", encoding="utf-8", newline="") as lines:
                for row in csv.reader(lines):
                    if match := METADATA.fullmatch(urllib.parse.unquote(row[key])):
                        yield int(match[1]), int(match[2]), row[etag]
        except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError, csv.Error, IndexError) as error:
            raise FetchError(f"{url}/{name} is no inventory, or is damaged ({error})") from None


def group_of(metadata: dict) -> str:
    """The group of an article by its licence, or nothing where none may be had."""
    code = str(metadata.get("license_code") or "").upper()
    if not metadata.get("xml_url"):
        return ""
    if code in GROUPS["manuscripts"]:
        return "manuscripts"
    if metadata.get("is_pmc_openaccess") is not True:
        return ""
    return next((group for group, codes in GROUPS.items() if code in codes), "oa_other")


def fetch_metadata(url: str, row: tuple[int, int, str]) -> tuple:
    """A row of the table `known`."""
    pmcid, version, etag = row
    metadata = fetch_json(f"{url}/metadata/PMC{pmcid}.{version}.json", etag if MD5.fullmatch(etag) else "")
    query = urllib.parse.urlsplit(str(metadata.get("xml_url"))).query
    return pmcid, version, etag, group_of(metadata), urllib.parse.parse_qs(query).get("md5", [""])[0]


# ---- what is kept ----


def article_path(folder: Path, pmcid: int, version: int, group: str) -> Path:
    """Where the XML of an article is."""
    return folder / group / f"PMC{pmcid // 10_000:04d}" / f"PMC{pmcid}.{version}.xml"


def fetch_article(url: str, folder: Path, row: tuple[int, int, str, str]) -> tuple:
    """Write the XML of an article under its name when it is whole; return its row of the table `fetched`."""
    pmcid, version, group, md5 = row
    name = f"PMC{pmcid}.{version}"
    content = fetch(f"{url}/{name}/{name}.xml", md5)
    path = article_path(folder, pmcid, version, group)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.rename(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written: {error.strerror}") from None
    return row


class Mirror:
    """A folder, the database in it, and what went wrong."""

    def __init__(self, folder: Path, groups: list[str], connections: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.groups, self.connections = folder, groups, connections
        self.database = sqlite3.connect(folder / "pmc.sqlite")
        self.database.executescript(TABLES)
        self.failures: list[str] = []

    def rows(self, query: str) -> Iterator[list[tuple]]:
        """Yield what a query gives, a batch at a time, by number; what was read may be written meanwhile."""
        places = ",".join("?" * len(self.groups))
        values = self.groups if "{groups}" in query else []
        query, last = f"SELECT * FROM ({query.format(groups=places)}) WHERE pmcid > ? ORDER BY pmcid LIMIT {BATCH}", -1
        while found := self.database.execute(query, (*values, last)).fetchall():
            yield found
            last = found[-1][0]

    def fetch_all(self, query: str, function: Callable[[tuple], tuple], table: str) -> int:
        """Put what a function returns for the rows of a query, several at once, into a table; return how many."""

        def attempt(row: tuple) -> tuple | str:
            try:
                return function(row)
            except FetchError as error:
                return str(error)

        count = 0
        with ThreadPoolExecutor(self.connections) as pool, tqdm(desc=table, unit="article", disable=None) as bar:
            for batch in self.rows(query):
                results = list(pool.map(attempt, batch))
                self.failures += [one for one in results if isinstance(one, str)]
                rows = [one for one in results if not isinstance(one, str)]
                if len(batch) == BATCH and not rows:
                    raise FetchError(results[0])  # the server or the network is gone: the rest would wait in vain
                os.sync()  # what the database knows to be there is on disk
                if rows:
                    places = ",".join("?" * len(rows[0]))
                    self.database.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", rows)
                    self.database.commit()
                count += len(rows)
                bar.update(len(batch))
        return count

    def remove_old(self) -> int:
        """Remove files that shall not be there any more, forget those that are not; return how many were removed."""
        removed = 0
        for batch in self.rows(HELD):
            for pmcid, version, group, old in batch:
                path = article_path(self.folder, pmcid, version, group)
                if old:
                    path.unlink(missing_ok=True)
                    if path.parent.is_dir() and not any(path.parent.iterdir()):
                        path.parent.rmdir()  # the reader refuses a folder without articles
                    removed += 1
                if old or not path.exists():
                    self.database.execute("DELETE FROM fetched WHERE pmcid = ?", (pmcid,))
            self.database.commit()
        return removed


def mirror(folder: Path, groups: list[str], url: str, connections: int) -> list[str]:
    """Bring the groups in `folder` up to date; return what could not be fetched, a sentence each."""
    one = Mirror(folder, groups, connections)
    highest = """INSERT INTO listed VALUES (?, ?, ?) ON CONFLICT (pmcid) DO UPDATE
    SET version = excluded.version, etag = excluded.etag WHERE excluded.version > version"""
    articles = tqdm(read_inventory(url), "inventory", unit="article", disable=None)
    if one.database.executemany(highest, articles).rowcount < 1:
        raise FetchError(f"the inventory of {url} lists no article; nothing was changed")
    known = one.fetch_all(CHANGED, lambda row: fetch_metadata(url, row), "known")
    removed = one.remove_old()
    fetched = one.fetch_all(WANTED, lambda row: fetch_article(url, folder, row), "fetched")
    counts = f"{fetched:,} articles fetched, {removed:,} removed, metadata of {known:,} read"
    print(f"{' '.join(groups)}: {counts}; in {folder}")
    return one.failures


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.download_pmc", description="Mirror full texts of PubMed Central, by licence."
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="the folder to write; what is there is brought up to date"
    )
    parser.add_argument("groups", nargs="+", choices=list(GROUPS), metavar="GROUP", help=f"{', '.join(GROUPS)}")
    parser.add_argument("--connections", type=int, default=16, metavar="N", help="requests at a time (default: 16)")
    parser.add_argument("--url", default=URL, help="the bucket, or a copy of it (default: %(default)s)")
    args = parser.parse_args()
    if args.connections < 1:
        parser.error(f"--connections {args.connections} is not a number of requests; give 1 or more")
    if not args.url.startswith(("https://", "http://")):
        parser.error(f"--url {args.url} is no address of a bucket; write it as {URL}")
    try:
        failures = mirror(args.folder, args.groups, args.url.rstrip("/"), args.connections)
    except (OSError, FetchError, sqlite3.Error) as error:
        sys.exit(f"error: {error}; run the same command again")
    for failure in failures[:10]:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        sys.exit(f"error: {len(failures):,} objects could not be fetched; run the same command again")


if __name__ == "__main__":
    main()
