import json
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from click.testing import CliRunner

from cgatlib.cli.data import data


@pytest.fixture
def run():
    def invoke(*arguments, code=0):
        result = CliRunner().invoke(data, [str(a) for a in arguments])
        assert result.exit_code == code, result.output
        return result

    return invoke


@pytest.fixture
def source(tmp_path, alexandria_entry):
    path = tmp_path / "a.json"
    entries = [alexandria_entry("a"), alexandria_entry("b", e_form=-40.0), alexandria_entry("c")]
    path.write_text(json.dumps({"entries": entries}))
    return path


@pytest.fixture
def table(run, source, tmp_path):
    run("import", source, "--out", tmp_path / "t.parquet", "--functional", "pbe")
    return tmp_path / "t.parquet"


def test_import_says_what_it_did(run, source, tmp_path):
    rejects = tmp_path / "bad.csv"
    out = run("import", source, "--out", tmp_path / "t.parquet", "--functional", "pbe", "--rejects", rejects).stdout
    assert "3 rows read from 1 source(s) = 2 taken + 1 rejected" in out
    assert "1  label looks per cell" in out
    assert "warning: 1 labels look like values per cell" in out
    assert "functional PBE; labels: e_form 2, e_above_hull 2, band_gap 2, volume_per_atom 2" in out
    assert rejects.read_text().splitlines()[1].startswith('b,"label looks per cell: e_form = -40')


def test_import_for_machines(run, source, tmp_path):
    result = run(
        "import", source, "--out", tmp_path / "t.parquet", "--functional", "pbe", "--label", "e_form", "--json"
    )
    report = json.loads(result.stdout)
    assert (report["read"], report["taken"], report["rejected"]) == (3, 2, 1)
    assert report["labels"] == {"e_form": 2, "volume_per_atom": 2}
    assert report["rejects"] == str(tmp_path / "t.rejects.csv")


def test_a_broken_source_has_its_own_exit_code(run, source, tmp_path):
    source.write_text(source.read_text()[:-30])
    command = ("import", source, "--out", tmp_path / "t.parquet", "--functional", "pbe")
    result = run(*command, code=3)
    assert f"Error: {source} breaks off inside entry 2 (after 2 entries, at byte" in result.stderr
    assert "no table was written, a source is damaged" in result.stderr
    assert not (tmp_path / "t.parquet").exists()
    assert "1 taken + 2 rejected" in result.stdout
    assert "2 taken" not in run(*command, "--partial", code=3).stdout
    assert (tmp_path / "t.parquet").exists()


def test_nothing_taken_is_a_failure(run, source, tmp_path):
    command = ("import", source, "--out", tmp_path / "t.parquet", "--functional", "pbe", "--label", "e_form=typo")
    assert "no table was written, no row could be taken" in run(*command, code=3).stderr


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([], "does not state its functional"),
        (["--functional", "pbe", "--format", "x"], "unknown format 'x'"),
        (["--functional", "pbe", "--label", "x=y"], "unknown label 'x'"),
        (["--functional", "pbe", "--label", "e_form=y", "--label", "e_form=z"], "the label 'e_form' is given twice"),
    ],
)
def test_import_requests_that_cannot_be_met(run, source, tmp_path, extra, message):
    result = run("import", source, "--out", tmp_path / "t.parquet", *extra, code=1)
    assert message in str(result.exception)


def test_describe(run, table):
    out = run("describe", table).stdout
    assert "2 crystals of 1 formulas, functional PBE" in out
    assert "e_form           eV/atom          2        0    -1.5000" in out
    assert "Cl 2, Na 2" in out or "Na 2, Cl 2" in out
    assert "duplicates: 0 ids more than once, 1 rows like another" in out
    content = json.loads(run("describe", table, "--json").stdout)
    assert content["labels"]["band_gap"]["mean"] == 5.0


def test_fetch(run, tmp_path):
    (tmp_path / "served/scan").mkdir(parents=True)
    for i in range(2):
        (tmp_path / f"served/scan/alexandria_scan_00{i}.json.bz2").write_bytes(b"content %d" % i)
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        base = ("--base-url", f"http://127.0.0.1:{server.server_port}", "--to", tmp_path / "got")
        command = ("fetch", "alexandria", "--functional", "scan", *base)
        assert run(*command, "--files", "0:2").stdout.count("fetched") == 2
        kept = json.loads(run(*command, "--files", "1", "--json").stdout)
        assert [f["how"] for f in kept] == ["kept"]
        assert "404" in str(run(*command, "--files", "2", code=1).exception)
        for bad in ("x", "1:", "2:2"):
            assert "--files" in str(run(*command, "--files", bad, code=1).exception)
        server.shutdown()
    assert (tmp_path / "got/alexandria_scan_001.json.bz2").read_bytes() == b"content 1"


@pytest.mark.parametrize("command", ["import", "fetch", "describe"])
def test_help_shows_an_example(run, command):
    assert f"cgatlib data {command}" in run(command, "--help").stdout
