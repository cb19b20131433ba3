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


class Server(ThreadingHTTPServer):
    """A server of one content that understands ranges, and misbehaves as a test asks it to."""

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

    def handle_error(self, *_):
        """A client that hangs up is no error here."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


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
        thread = threading.Thread(target=running.serve_forever, daemon=True)
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
    """A fetch that was cut off after 300,000 bytes."""
    server.stop_after = 300_000
    with pytest.raises(
        CgatError, match=r"was cut off .*alexandria_scan_000.json.bz2.part is kept, run the command again"
    ):
        get()
    server.stop_after = None
    assert not (tmp_path / NAME).exists()
    part = tmp_path / (NAME + ".part")
    assert 0 < part.stat().st_size <= 300_000
    return part


def test_a_whole_file_with_its_checksum(server, get, tmp_path):
    bar = Bar()
    got = get(bar)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert (got.how, got.bytes, got.sha256) == ("fetched", len(CONTENT), sha256)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    record = json.loads((tmp_path / "checksums.json").read_text())[NAME]
    assert record == {
        "url": f"{server.url}/scan/{NAME}", "bytes": len(CONTENT), "sha256": sha256, "etag": '"v1"',
        "last_modified": None,
    }  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == [NAME, "checksums.json"]
    assert (bar.made, bar.bytes) == ([(NAME, 0, len(CONTENT))], len(CONTENT))


def test_resumed_where_it_stopped(server, get, cut, tmp_path):
    there = cut.stat().st_size
    bar = Bar()
    got = get(bar)
    assert got.how == "resumed"
    assert server.seen[-1] == ("GET", f"bytes={there}-", '"v1"')
    assert bar.made == [(NAME, there, len(CONTENT))]
    assert bar.bytes == len(CONTENT) - there
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert got.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_changed_between_the_parts_starts_again(server, get, cut, tmp_path):
    server.content, server.etag = CONTENT[::-1], '"v2"'
    assert get().how == "restarted"
    assert (tmp_path / NAME).read_bytes() == CONTENT[::-1]


def test_shrunk_between_the_parts_starts_again(server, get, cut, tmp_path):
    server.content = CONTENT[:100]
    assert get().bytes == 100
    assert (tmp_path / NAME).read_bytes() == CONTENT[:100]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_validator_nothing_is_resumed(server, get, tmp_path, etag):
    server.etag, server.stop_after = etag, 1000
    with pytest.raises(CgatError, match="cut off"):
        get()
    server.stop_after = None
    assert get().how == "restarted"
    assert server.seen[-1] == ("GET", None, None)


def test_the_date_serves_where_there_is_no_etag(server, get, tmp_path):
    server.etag, server.modified, server.stop_after = None, "Sun, 15 Dec 2024 00:00:00 GMT", 300_000
    with pytest.raises(CgatError, match="cut off"):
        get()
    server.stop_after = None
    assert get().how == "resumed"


def test_another_range_than_asked_for_is_refused(server, get, cut):
    server.wrong_range = True
    with pytest.raises(CgatError, match="answered with another range"):
        get()


def test_not_found_is_one_sentence(server, get, tmp_path):
    server.status = 404
    with pytest.raises(CgatError, match=f"{server.url}/scan/{NAME} cannot be fetched: the server says 404 Not Found"):
        get()
    assert list(tmp_path.iterdir()) == []


def test_no_server_is_one_sentence(tmp_path):
    with pytest.raises(CgatError, match=r"http://127.0.0.1:9/x.json gives no answer \(ConnectionError\)"):
        fetch("http://127.0.0.1:9/x.json", tmp_path, Bar())


def test_a_whole_file_is_kept_while_the_server_has_the_same(server, get):
    get()
    assert get().how == "kept"
    assert server.seen[-1][0] == "HEAD"


def test_a_whole_file_that_changed_on_the_server(server, get, tmp_path):
    get()
    server.content, server.etag = CONTENT[::-1], '"v2"'
    with pytest.raises(CgatError, match=r'has changed on the server since .* was fetched .ETag was "v1", is "v2"'):
        get()
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert get(replace_changed=True).how == "fetched"
    assert (tmp_path / NAME).read_bytes() == CONTENT[::-1]


def test_a_file_that_changed_here(get, tmp_path):
    get()
    (tmp_path / NAME).write_bytes(b"x")
    with pytest.raises(CgatError, match="is not what was fetched"):
        get()
    (tmp_path / "checksums.json").unlink()
    with pytest.raises(CgatError, match=r"is there but not in checksums.json"):
        get()


def test_a_damaged_record_is_one_sentence(get, tmp_path):
    get()
    (tmp_path / "checksums.json").write_text("{")
    with pytest.raises(CgatError, match=r"checksums.json is no JSON"):
        get()


@pytest.mark.parametrize("text", ["[]", '{"x": 1}', '{"x": {"url": "u"}}', "\udcff", "[" * 100_000], ids=len)
def test_records_of_another_kind_are_one_sentence(get, tmp_path, text):
    get()
    (tmp_path / "checksums.json").write_text(text, errors="surrogateescape")
    with pytest.raises(CgatError, match=r"checksums.json"):
        get()


@pytest.mark.parametrize("length", ["abc", "-5", "9" * 5000])
def test_a_length_that_is_no_number_is_one_sentence(server, get, tmp_path, length):
    server.length = length
    with pytest.raises(CgatError, match=rf"a Content-Length of '{length[:40]}', which is no number of bytes"):
        get()
    assert list(tmp_path.iterdir()) == []


def test_a_body_longer_or_shorter_than_stated(server, get, tmp_path):
    server.length = str(len(CONTENT) + 5)
    server.stop_after = len(CONTENT)
    with pytest.raises(CgatError, match=r"(was cut off|ended after) .*part is kept, run the command again to go on"):
        get()
    server.length = server.stop_after = None
    assert get().sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"url": 5}', '{"url": "u", "total": "a", "etag": 1, "last_modified": 2}']
)
def test_a_damaged_note_of_a_part_starts_again_and_says_so(server, get, cut, tmp_path, text, caplog):
    cut.with_name(cut.name + ".json").write_text(text)
    assert get().how == "restarted"
    assert f"{cut.name}.json is damaged" in caplog.text
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert sorted(p.name for p in tmp_path.iterdir()) == [NAME, "checksums.json"]


def test_what_a_killed_process_left_is_written_over(get, tmp_path):
    (tmp_path / ".checksums.json.part").write_text("{")
    (tmp_path / ".checksums.json.cgatlib.lock").write_text("")
    get()
    assert sorted(p.name for p in tmp_path.iterdir()) == [NAME, "checksums.json"]


def test_a_folder_that_cannot_be_written_to_is_one_sentence(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CgatError, match=r"cannot be written"):
        fetch(f"{server.url}/{NAME}", tmp_path / "file", Bar())
    (tmp_path / NAME).mkdir()
    (tmp_path / "checksums.json").write_text(
        json.dumps({NAME: {"url": "u", "bytes": 1, "sha256": "0", "etag": None, "last_modified": None}})
    )
    with pytest.raises(CgatError, match=rf"{NAME} cannot be written: Is a directory"):
        fetch(f"{server.url}/{NAME}", tmp_path, Bar())


def test_three_processes_with_one_folder_wait_for_each_other(server, tmp_path):
    found = []

    def run():
        found.append(fetch(f"{server.url}/{NAME}", tmp_path, Bar()).how)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["fetched", "kept", "kept"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [NAME, "checksums.json"]


def test_addresses():
    alexandria, lemat, matpes = (COLLECTIONS[name] for name in ("alexandria", "lemat-bulk", "matpes"))
    assert alexandria.urls("PBE", range(2), "http://x/", "2024.12.15") == [
        "http://x/pbe/2024.12.15/alexandria_000.json.bz2",
        "http://x/pbe/2024.12.15/alexandria_001.json.bz2",
    ]
    assert alexandria.urls("scan", range(12, 13), "http://x") == ["http://x/scan/alexandria_scan_012.json.bz2"]
    hub = "https://huggingface.co/datasets/LeMaterial/LeMat-Bulk/resolve/main"
    assert lemat.urls("pbesol", None) == [f"{hub}/compatible_pbesol/train-0000{i}-of-00002.parquet" for i in (0, 1)]
    assert lemat.urls("pbe", range(16, 17)) == [f"{hub}/compatible_pbe/train-00016-of-00017.parquet"]
    assert [url.rsplit("/", 1)[1] for url in matpes.urls("r2scan", None)] == ["MatPES-R2SCAN-2025.2.json.gz"]
    with pytest.raises(CgatError, match="no functional 'hse' here; known: pbe, pbesol, scan"):
        alexandria.urls("hse", range(1))
    with pytest.raises(CgatError, match="there are 2 scan files, numbered from 0, and no number 2"):
        lemat.urls("scan", range(3))
    with pytest.raises(CgatError, match="the number of pbe files is not fixed; say which"):
        alexandria.urls("pbe", None)
    assert all(found.licence for found in COLLECTIONS.values())
