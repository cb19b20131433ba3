"""Files of public collections, fetched from a server here that understands ranges and misbehaves as it is asked to."""

import hashlib
import json
import threading
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cgatlib import CgatError
from cgatlib.crystals.download import COLLECTIONS, fetch

CONTENT = bytes(range(256)) * 4000
NAME = "alexandria_scan_000.json.bz2"
DATE = "Sun, 15 Dec 2024 00:00:00 GMT"


class Server(ThreadingHTTPServer):
    """A server of one content."""

    content = CONTENT
    etag: str | None = '"v1"'
    modified: str | None = None
    stop_after: int | None = None
    status: int | None = None
    wrong_range = False
    length: str | None = None

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """A client that hangs up is no error here."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        server = self.server
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        server.seen.append((self.command, asked, condition))
        content, start, status = server.content, 0, server.status or 200
        if asked and condition in (None, server.etag, server.modified):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(content) else 416
        part = b"" if status == 416 or server.status else content[start:]
        self.send_response(status)
        self.send_header("Content-Length", server.length or str(len(part)))
        for name, value in (("ETag", server.etag), ("Last-Modified", server.modified)):
            if value:
                self.send_header(name, value)
        if status == 206:
            first = start + server.wrong_range
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            self.wfile.write(part[: server.stop_after])
            if server.stop_after is not None:
                self.close_connection = True


class Bar:
    def __init__(self):
        self.made, self.bytes = [], 0

    def __call__(self, name, start, total):
        self.made.append((name, start, total))
        return nullcontext(self)

    def update(self, n=1):
        self.bytes += n


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def get(server, tmp_path):
    def run(bar=None, **options):
        return fetch(f"{server.url}/scan/{NAME}", tmp_path, bar or Bar(), **options)

    return run


@pytest.fixture
def cut(server, get, tmp_path):
    """Cuts a fetch off after some bytes, and returns the part."""

    def run(after=300_000):
        server.stop_after = after
        with pytest.raises(CgatError, match=rf"was cut off .*{NAME}.part is kept, run the command again to go on"):
            get()
        server.stop_after = None
        assert not (tmp_path / NAME).exists()
        return tmp_path / f"{NAME}.part"

    return run


def test_a_whole_file_with_its_checksum(server, get, tmp_path):
    (tmp_path / ".checksums.json.part").write_text("{")  # of a process that was killed
    (tmp_path / ".checksums.json.cgatlib.lock").write_text("")
    bar, sha256 = Bar(), hashlib.sha256(CONTENT).hexdigest()
    got = get(bar)
    assert (got.how, got.bytes, got.sha256) == ("fetched", len(CONTENT), sha256)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    record = {"url": f"{server.url}/scan/{NAME}", "bytes": len(CONTENT), "sha256": sha256, "etag": '"v1"'}
    assert json.loads((tmp_path / "checksums.json").read_text()) == {NAME: record | {"last_modified": None}}
    assert sorted(p.name for p in tmp_path.iterdir()) == [NAME, "checksums.json"]
    assert (bar.made, bar.bytes) == ([(NAME, 0, len(CONTENT))], len(CONTENT))
    assert get().how == "kept"
    assert server.seen[-1][0] == "HEAD"


@pytest.mark.parametrize(("etag", "date"), [('"v1"', None), (None, DATE)])
def test_resumed_where_it_stopped(server, get, cut, tmp_path, etag, date):
    server.etag, server.modified = etag, date
    there, bar = cut().stat().st_size, Bar()
    assert 0 < there <= 300_000
    got = get(bar)
    assert got.how == "resumed"
    assert server.seen[-1] == ("GET", f"bytes={there}-", etag or date)
    assert (bar.made, bar.bytes) == ([(NAME, there, len(CONTENT))], len(CONTENT) - there)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert got.sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(("content", "etag"), [(CONTENT[::-1], '"v2"'), (CONTENT[:100], '"v1"')])
def test_changed_or_shrunk_between_the_parts_starts_again(server, get, cut, tmp_path, content, etag):
    cut()
    server.content, server.etag = content, etag
    assert get().how in ("restarted", "fetched")
    assert (tmp_path / NAME).read_bytes() == content


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_validator_nothing_is_resumed(server, get, cut, etag):
    server.etag = etag
    cut()
    assert get().how == "restarted"
    assert server.seen[-1] == ("GET", None, None)


def test_another_range_than_asked_for_is_refused(server, get, cut):
    cut()
    server.wrong_range = True
    with pytest.raises(CgatError, match="answered with another range"):
        get()


def test_no_server_and_no_file_are_one_sentence(server, get, tmp_path):
    server.status = 404
    with pytest.raises(CgatError, match=f"{server.url}/scan/{NAME} cannot be fetched: the server says 404 Not Found"):
        get()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CgatError, match=r"http://127.0.0.1:9/x.json gives no answer \(ConnectionError\)"):
        fetch("http://127.0.0.1:9/x.json", tmp_path, Bar())


def test_a_whole_file_that_changed_on_the_server(server, get, tmp_path):
    get()
    server.content, server.etag = CONTENT[::-1], '"v2"'
    with pytest.raises(CgatError, match=r'has changed on the server since .* was fetched .ETag was "v1", is "v2"'):
        get()
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert get(replace_changed=True).how == "fetched"
    assert (tmp_path / NAME).read_bytes() == CONTENT[::-1]


def test_a_file_that_changed_here_or_is_not_known(get, tmp_path):
    get()
    (tmp_path / NAME).write_bytes(b"x")
    with pytest.raises(CgatError, match="is not what was fetched"):
        get()
    (tmp_path / "checksums.json").unlink()
    with pytest.raises(CgatError, match=r"is there but not as a whole file in checksums.json"):
        get()


@pytest.mark.parametrize("text", ["{", "[]", '{"x": 1}', '{"x": {"url": "u"}}', "\udcff", "[" * 100_000], ids=len)
def test_a_damaged_record_is_one_sentence(get, tmp_path, text):
    (tmp_path / "checksums.json").write_text(text, errors="surrogateescape")
    with pytest.raises(CgatError, match=r"checksums.json holds no records by file name [^\n]*; repair or remove it"):
        get()


@pytest.mark.parametrize("length", ["abc", "-5", "9" * 5000])
def test_a_length_that_is_no_number_is_one_sentence(server, get, tmp_path, length):
    server.length = length
    with pytest.raises(CgatError, match=rf"a Content-Length of '{length[:40]}', which is no number of bytes"):
        get()
    assert list(tmp_path.iterdir()) == []


def test_a_body_shorter_than_stated(server, get, cut):
    server.length = str(len(CONTENT) + 5)
    cut(len(CONTENT))
    server.length = None
    assert get().sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_folder_that_cannot_be_written_to_is_one_sentence(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CgatError, match=r"cannot be written"):
        fetch(f"{server.url}/{NAME}", tmp_path / "file", Bar())
    (tmp_path / NAME).mkdir()
    record = {"url": "u", "bytes": 1, "sha256": "0", "etag": None, "last_modified": None}
    (tmp_path / "checksums.json").write_text(json.dumps({NAME: record}))
    with pytest.raises(CgatError, match=rf"{NAME} cannot be written: Is a directory"):
        fetch(f"{server.url}/{NAME}", tmp_path, Bar())


def test_three_with_one_folder_wait_for_each_other(get, tmp_path):
    found = []
    threads = [threading.Thread(target=lambda: found.append(get().how)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["fetched", "kept", "kept"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [NAME, "checksums.json"]


def test_addresses():
    alexandria, lemat, matpes = (COLLECTIONS[name] for name in ("alexandria", "lemat-bulk", "matpes"))
    assert alexandria.urls("PBE", range(2), "http://x/", "2024.12.15") == [
        f"http://x/pbe/2024.12.15/alexandria_00{i}.json.bz2" for i in (0, 1)
    ]
    assert alexandria.urls("scan", range(12, 13), "http://x") == ["http://x/scan/alexandria_scan_012.json.bz2"]
    hub = "https://huggingface.co/datasets/LeMaterial/LeMat-Bulk/resolve/main"
    assert lemat.urls("pbesol", None) == [f"{hub}/compatible_pbesol/train-0000{i}-of-00002.parquet" for i in (0, 1)]
    assert lemat.urls("pbe", range(16, 17)) == [f"{hub}/compatible_pbe/train-00016-of-00017.parquet"]
    assert [url.rsplit("/", 1)[1] for url in matpes.urls("r2scan", None)] == ["MatPES-R2SCAN-2025.2.json.gz"]
    for collection, functional, files, message in (
        (alexandria, "hse", range(1), "no functional 'hse' here; known: pbe, pbesol, scan"),
        (lemat, "scan", range(3), "there are 2 scan files, numbered from 0, and no number 2"),
        (alexandria, "pbe", None, "the number of pbe files is not fixed; say which"),
    ):
        with pytest.raises(CgatError, match=message):
            collection.urls(functional, files)
    assert all(found.licence for found in COLLECTIONS.values())
