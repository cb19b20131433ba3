"""LeMat-Bulk and MatPES: made-up files in the documented form, fetched from a server here and imported."""

import gzip
import json
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cgatlib import CgatError
from cgatlib.cli import main
from cgatlib.crystals.importing import ImportRequest, import_crystals
from cgatlib.crystals.labels import ReadOptions
from cgatlib.crystals.readers import detect
from cgatlib.crystals.table import CrystalTable

LATTICE = [[3.0, 0.0, 0.0], [0.5, 3.2, 0.0], [0.0, 0.4, 3.5]]
FRACTIONS = np.array([[0.0, 0.0, 0.0], [0.5, 0.25, 0.5]])


def lemat_row(**changes):
    return {
        "immutable_id": "agm-1",
        "chemical_formula_reduced": "ClNa",
        "nsites": 2,
        "lattice_vectors": LATTICE,
        "cartesian_site_positions": (FRACTIONS @ LATTICE).tolist(),
        "species_at_sites": ["Na", "Cl"],
        "energy": -6.5,
        "functional": "pbe",
        "dos_ef": 0.1,
    } | changes


@pytest.fixture
def lemat(tmp_path):
    def write(*rows, name="train-00000-of-00002.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(list(rows)), tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def imported(tmp_path):
    def run(path, options=None, **request):
        request = {"sources": [path], "out": tmp_path / "out.parquet", "options": options or ReadOptions()} | request
        report = import_crystals(ImportRequest(**request))
        rejects = Path(report.rejects).read_text()
        return report, CrystalTable.read(report.out) if report.out else None, rejects

    return run


def matpes_document(structure, **changes):
    return {
        "builder_meta": {"license": None},
        "nsites": 2,
        "formula_pretty": "NaCl",
        "structure": structure,
        "energy": -6.5,
        "forces": [[0.0, 0.0, 0.1], [0.0, 0.0, -0.1]],
        "matpes_id": "matpes-20240214_1_2",
        "bandgap": 5.0,
        "functional": "r2SCAN",
        "formation_energy_per_atom": -1.5,
        "cohesive_energy_per_atom": -3.0,
        "bader_charges": None,
    } | changes


def test_lemat(lemat, imported):
    path = lemat(lemat_row(), lemat_row(immutable_id="agm-2", species_at_sites=["K", "Br"]))
    assert detect(path) == "lemat"
    report, table, _ = imported(path)
    assert (report.taken, report.functional, report.labels) == (2, "PBE", {"volume_per_atom": 2})
    assert (table.ids, table.formulas) == (["agm-1", "agm-2"], ["NaCl", "KBr"])
    crystal = table.crystal(0)
    np.testing.assert_allclose(crystal.frac_coords, FRACTIONS, atol=1e-12)
    np.testing.assert_array_equal(crystal.lattice, LATTICE)
    assert table.label("volume_per_atom")[0] == pytest.approx(3.0 * 3.2 * 3.5 / 2)


def test_rows_of_lemat_that_are_not_taken(lemat, imported):
    bad = {
        "another functional: 'scan'": {"functional": "scan"},
        "another functional: None": {"functional": None},
        "unknown element: 'X'": {"species_at_sites": ["Na", "X"]},
        "undecodable structure: ValueError": {"cartesian_site_positions": [[0.0, 0.0, 0.0]]},
        "undecodable structure: LinAlgError": {"lattice_vectors": [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]},
        "undecodable structure: TypeError": {"species_at_sites": None},
        "id missing: no text or whole number under immutable_id": {"immutable_id": None},
    }
    rows = [lemat_row(immutable_id=f"bad-{i}") | change for i, change in enumerate(bad.values())]
    report, table, rejects = imported(lemat(lemat_row(), *rows))
    assert (report.read, report.taken, report.rejected, table.ids) == (len(bad) + 1, 1, len(bad), ["agm-1"])
    for reason in bad:
        assert reason in rejects


def test_another_functional_or_column_than_asked_for(lemat, imported):
    with pytest.raises(CgatError, match="holds PBE data, not SCAN"):
        imported(lemat(lemat_row()), functional="SCAN")
    _, table, _ = imported(lemat(lemat_row(gap=1.0)), ReadOptions({"band_gap": "gap"}))
    assert table.label("band_gap").tolist() == [1.0]
    with pytest.raises(CgatError, match="no column 'gaps' for band_gap"):
        imported(lemat(lemat_row()), ReadOptions({"band_gap": "gaps"}))


def test_a_damaged_file_of_lemat(lemat, imported, tmp_path):
    path = lemat(*(lemat_row(immutable_id=f"agm-{i}") for i in range(500)))
    whole = path.read_bytes()
    path.write_bytes(whole[:200] + b"x" * 400 + whole[600:])
    report, table, rejects = imported(path, functional="PBE")
    assert table is None
    assert report.failures
    assert "damaged" in rejects


def test_matpes(imported, make_crystal, structure_dict, tmp_path):
    documents = [
        matpes_document(structure_dict(make_crystal())),
        matpes_document(structure_dict(make_crystal()), matpes_id="m-2", formation_energy_per_atom=None),
        matpes_document({"sites": []}, matpes_id="m-3"),
    ]
    path = tmp_path / "MatPES-R2SCAN-2025.2.json.gz"
    path.write_bytes(gzip.compress(json.dumps(documents).encode()))
    report, table, _ = imported(path, functional="r2SCAN")
    assert (report.read, report.taken) == (3, 2)
    assert table.ids == ["matpes-20240214_1_2", "m-2"]
    np.testing.assert_array_equal(table.label("e_form"), [-1.5, np.nan])
    assert table.label("band_gap").tolist() == [5.0, 5.0]


def test_what_is_fetched_is_imported(lemat, tmp_path, make_crystal, structure_dict):
    for i in (0, 1):
        lemat(lemat_row(immutable_id=f"agm-{i}"), name=f"served/main/compatible_pbe/train-{i:05d}-of-00017.parquet")
    document = matpes_document(structure_dict(make_crystal()))
    (tmp_path / "served/MatPES-PBE-2025.2.json.gz").write_bytes(gzip.compress(json.dumps([document]).encode()))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for name, files, licence in (("lemat-bulk", ["--files", "0:2"], "CC BY 4.0"), ("matpes", [], "BSD-3-Clause")):
            base = ["--functional", "pbe", "--base-url", f"http://127.0.0.1:{server.server_port}"]
            command = ["data", "fetch", name, *base, *files, "--to", str(tmp_path / name), "--json"]
            shown = CliRunner().invoke(main, command)
            assert shown.exit_code == 0, shown.output
            assert f"{name}: licence {licence}; " in shown.stderr
            assert "not tried here" in shown.stderr
            fetched = [file["file"] for file in json.loads(shown.stdout)]
            table = tmp_path / f"{name}.parquet"
            command = ["data", "import", *fetched, "--functional", "PBE", "--out", str(table)]
            assert CliRunner().invoke(main, command).exit_code == 0
            assert len(CrystalTable.read(table)) == len(fetched) == (2 if files else 1)
        server.shutdown()
