import bz2
import csv
import gzip
import io
import json
import random
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cgatlib import CgatError
from cgatlib.crystals import importing
from cgatlib.crystals.importing import ImportRequest, import_crystals
from cgatlib.crystals.labels import ReadOptions
from cgatlib.crystals.readers import detect
from cgatlib.crystals.table import CrystalTable


@pytest.fixture
def imported(tmp_path):
    """Import sources; return report, table or None, and the rows of the rejects file."""

    def run(*sources, options=None, **request):
        request = {"functional": "PBE", "out": tmp_path / "out.parquet"} | request
        report = import_crystals(ImportRequest(sources, options=ReadOptions(**(options or {})), **request))
        with Path(report.rejects).open(newline="", encoding="utf-8") as file:
            rejects = list(csv.DictReader(file))
        assert report.read == report.taken + report.rejected
        assert report.rejected == len(rejects)
        table = CrystalTable.read(report.out) if report.out else None
        assert table is None or len(table) == report.taken
        assert not list(tmp_path.glob(".*.part"))
        return report, table, rejects

    return run


@pytest.fixture
def write_json(tmp_path):
    def write(content, name="a.json"):
        path = tmp_path / name
        data = (content if isinstance(content, str) else json.dumps(content)).encode()
        opener = {".bz2": bz2.open, ".gz": gzip.open}.get(path.suffix, open)
        with opener(path, "wb") as file:
            file.write(data)
        return path

    return write


@pytest.fixture
def cif(structure_dict):
    from pymatgen.core import Structure

    return lambda crystal: Structure.from_dict(structure_dict(crystal)).to(fmt="cif")


def jarvis_record(crystal, **labels):
    atoms = {
        "lattice_mat": crystal.lattice.tolist(),
        "coords": crystal.frac_coords.tolist(),
        "elements": ["Na ", "Cl"],
        "cartesian": False,
    }
    return {"jid": crystal.material_id, "atoms": atoms, **labels}


# Formats


@pytest.mark.parametrize("name", ["a.json", "a.json.bz2", "a.json.gz"])
def test_alexandria(imported, write_json, alexandria_entry, make_crystal, name):
    entries = [alexandria_entry("agm1"), alexandria_entry("agm2", make_crystal(numbers=(12, 8), a=4.2), e_form=-3)]
    report, table, rejects = imported(write_json({"entries": entries}, name))
    assert (report.taken, rejects) == (2, [])
    assert table.labels == ("e_form", "e_above_hull", "band_gap", "volume_per_atom")
    assert table.formulas == ["NaCl", "MgO"]
    assert table.crystal(0).labels == {
        "e_form": -1.5,
        "e_above_hull": 0.01,
        "band_gap": 5.0,
        "volume_per_atom": pytest.approx(5.6**3 / 8),
    }
    np.testing.assert_array_equal(table.crystal(0).lattice, make_crystal().lattice)


def test_older_entries_with_other_names(imported, write_json, alexandria_entry):
    old = alexandria_entry(mat_id=None, id="dcgat7", e_form=None, e_above_hull=None, band_gap_ind=None, ef=-2.0)
    path = write_json({"entries": [old]})
    assert imported(path)[2][0]["reason"].startswith("label missing: e_form")
    report, table, _ = imported(path, options={"labels": {"e_form": "ef"}})
    assert table.ids == ["dcgat7"]
    assert report.labels == {"e_form": 1, "volume_per_atom": 1}


def test_an_id_may_stand_outside_the_data(imported, write_json, alexandria_entry):
    path = write_json([alexandria_entry(mat_id=None) | {"entry_id": "mine"}])
    assert imported(path)[2][0]["reason"].startswith("id missing: no text or whole number under material_id or mat_id")
    assert imported(path, options={"id_column": "entry_id"})[1].ids == ["mine"]


def test_oxidation_states_are_no_obstacle(imported, write_json, alexandria_entry):
    entry = alexandria_entry()
    first, second = entry["structure"]["sites"]
    first["species"] = [{"element": "Na", "oxidation_state": 1.0, "occu": 1.0}]
    second["species"] = [{"element": "Cl-", "occu": 1}]
    assert imported(write_json({"entries": [entry]}))[1].formulas == ["NaCl"]


def test_entries_longer_than_a_chunk_and_keys_around_them(imported, write_json, alexandria_entry, monkeypatch):
    monkeypatch.setattr("cgatlib.crystals.streams.CHUNK", 97)
    entries = [alexandria_entry(f"agm{i}") for i in range(20)]
    _, table, _ = imported(write_json({"version": 1.25, "entries": entries, "after": {"x": [1, 2]}}))
    assert table.ids == [f"agm{i}" for i in range(20)]


@pytest.mark.parametrize("kind", ["json", "zip", "json.gz"])
def test_jarvis(imported, write_json, make_crystal, tmp_path, kind):
    records = [
        jarvis_record(make_crystal("JVASP-1"), formation_energy_peratom=-2.0, ehull=0.0, optb88vdw_bandgap=5.0),
        jarvis_record(make_crystal("JVASP-2"), formation_energy_peratom=-2.1, ehull="na", optb88vdw_bandgap="na"),
        jarvis_record(make_crystal("JVASP-3"), formation_energy_peratom="na"),
    ]
    if kind == "zip":
        path = tmp_path / "jdft.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("jdft_3d.json", json.dumps(records))
    else:
        path = write_json(records, f"jdft.{kind}")
    report, table, rejects = imported(path, functional="OptB88vdW")
    assert table.ids == ["JVASP-1", "JVASP-2"]
    assert report.labels == {"e_form": 2, "e_above_hull": 1, "band_gap": 1, "volume_per_atom": 2}
    assert rejects[0]["reason"] == "label missing: none of e_form, e_above_hull, band_gap"


def test_jarvis_cartesian(imported, write_json, make_crystal):
    crystal = make_crystal("j")
    record = jarvis_record(crystal, e_form=-2.0)
    record["atoms"] |= {"cartesian": True, "coords": (crystal.frac_coords @ crystal.lattice).tolist()}
    _, table, _ = imported(write_json([record]))
    np.testing.assert_allclose(table.crystal(0).frac_coords, crystal.frac_coords, atol=1e-12)


@pytest.fixture
def write_csv(tmp_path):
    def write(*rows, name="t.csv"):
        with (tmp_path / name).open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file).writerows(rows)
        return tmp_path / name

    return write


def test_csv_with_cif(imported, cif, make_crystal, write_csv):
    good = cif(make_crystal())
    bad = {
        "mp-2": (["", good], "label missing: none of e_form"),
        "mp-3": ([-1.0, "no cif"], "undecodable CIF"),
        "": ([-1.0], "undecodable line: 3 fields where the header has 4"),
        "mp-5": (["high", good], "label not a number: e_form = 'high'"),
        "mp-6": (["nan", good], "label not a number: e_form = nan"),
        "mp-7\udcff": ([-1.0, good], "undecodable id: not UTF-8"),
    }
    header = ["", "material_id", "formation_energy_per_atom", "cif"]
    path = write_csv(header, [0, "mp-1", -2.0, good], *([1, name, *rest] for name, (rest, _) in bad.items()))
    _, table, rejects = imported(path)
    assert table.ids == ["mp-1"]
    assert table.crystal(0).labels["volume_per_atom"] == pytest.approx(5.6**3 / 8, rel=1e-6)
    for row, (name, (_, reason)) in zip(rejects, bad.items(), strict=True):
        assert row["material_id"] == name.replace("\udcff", "\\udcff")
        assert row["reason"].startswith(reason)


def test_csv_cut_inside_a_quoted_field(imported, cif, make_crystal, tmp_path):
    path = tmp_path / "cut.csv"
    path.write_text(f'material_id,e_form,cif\nmp-1,-2,"{cif(make_crystal())}"\nmp-2,-2,"data_')
    report, table, _ = imported(path)
    assert table is None
    assert report.failures[0].startswith(f"{path} is truncated: it ends inside line")


@pytest.mark.parametrize(("separator", "name"), [(";", "t.csv"), ("\t", "t.tsv")])
def test_csv_as_spreadsheets_write_it(imported, cif, make_crystal, tmp_path, separator, name):
    rows = [["material_id", "e_form", "cif"], *([f"mp-{e}", e, cif(make_crystal())] for e in ("-2.5", "-2,5"))]
    with (tmp_path / name).open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    _, table, rejects = imported(tmp_path / name)
    assert table.label("e_form").tolist() == [-2.5]
    assert rejects[0]["reason"].endswith("'-2,5', whose decimal sign should be a point")


def test_parquet_as_pandas_writes_it(imported, cif, make_crystal, tmp_path):
    crystal, path = make_crystal(), tmp_path / "p.parquet"
    columns = {"id": ["a", "b", None], "relaxed": [cif(crystal), "no cif", cif(crystal)], "bandgap": [1.5, 0.0, 0.0]}
    pd.DataFrame(columns).to_parquet(path)
    _, table, rejects = imported(path, options={"structure_column": "relaxed"})
    assert table.label("band_gap").tolist() == [1.5]
    assert [row["reason"].split(":")[0] for row in rejects] == ["undecodable CIF", "id missing"]
    pd.DataFrame(columns).rename(columns={"relaxed": "structure"}).to_parquet(path)
    assert imported(path)[1].ids == ["a"]
    assert "no column 'cell'; it has: 'id'" in imported(path, options={"structure_column": "cell"})[0].failures[0]


def test_csv_columns_of_other_names(imported, structure_dict, make_crystal, write_csv):
    path = write_csv(["name", "relaxed", "gap"], ["one", json.dumps(structure_dict(make_crystal())), 1.5])
    with pytest.raises(CgatError, match=r"no id column .*--id-column, there are: 'name', 'relaxed', 'gap'"):
        imported(path)
    options = {"id_column": "name", "structure_column": "relaxed", "labels": {"band_gap": "gap"}}
    assert imported(path, options=options)[1].crystal(0).labels["band_gap"] == 1.5
    with pytest.raises(CgatError, match="no column 'gapp' for band_gap; there are: 'name', 'relaxed', 'gap'"):
        imported(path, options=options | {"labels": {"band_gap": "gapp"}})


def test_matbench_split_json(imported, write_json, structure_dict, make_crystal):
    rows = [[structure_dict(make_crystal()), -1.0], [structure_dict(make_crystal()), -2.0], ["x"]]
    content = {"index": ["mb-1", "mb-2", "mb-3"], "columns": ["structure", "e_form"], "data": rows}
    _, table, rejects = imported(write_json(content, "matbench.json.gz"))
    assert table.ids == ["mb-1", "mb-2"]
    np.testing.assert_array_equal(table.label("e_form"), [-1.0, -2.0])
    assert rejects[0]["reason"].startswith("undecodable row")


def test_json_lines(imported, tmp_path, cif, make_crystal):
    good = json.dumps({"material_id": "m", "structure": cif(make_crystal()), "band_gap": 1})
    (tmp_path / "t.jsonl").write_text(f"{good}\n{good[:50]}\n[1]\n")
    _, table, rejects = imported(tmp_path / "t.jsonl")
    assert table.ids == ["m"]
    assert rejects[0]["reason"].startswith("undecodable line: ")
    assert rejects[0]["source"].endswith("t.jsonl#2")
    assert rejects[1]["reason"] == "undecodable row: a list where a record should stand"


@pytest.fixture
def folder(tmp_path, cif, make_crystal, structure_dict):
    from pymatgen.core import Structure

    path = tmp_path / "files"
    path.mkdir()
    structure = Structure.from_dict(structure_dict(make_crystal()))
    (path / "one.cif").write_text(cif(make_crystal()))
    structure.to(str(path / "POSCAR-two.vasp"), fmt="poscar")
    structure.to_ase_atoms().write(path / "three.extxyz", format="extxyz")
    (path / "unlisted.cif").write_text("data_")
    (path / "id_prop.csv").write_text("one,1.5\nPOSCAR-two.vasp,2.5\nthree,3.5\nfour,4.5\n")
    return path


def test_folder(imported, folder):
    _, table, rejects = imported(folder, options={"labels": {"band_gap": "1"}})
    assert table.ids == ["one", "POSCAR-two", "three"]
    np.testing.assert_array_equal(table.label("band_gap"), [1.5, 2.5, 3.5])
    np.testing.assert_allclose(table.label("volume_per_atom"), 5.6**3 / 8, rtol=1e-5)
    assert [(r["material_id"], r["reason"].split(":")[0]) for r in rejects] == [
        ("four", "structure file missing"),
        ("unlisted", "label missing"),
    ]


def test_folder_values_must_be_named(imported, folder):
    with pytest.raises(CgatError, match=r"does not say what its values are; name them, e\.g\. --label e_form=1"):
        imported(folder)
    assert imported(folder, options={"labels": {"band_gap": ""}})[0].taken == 3
    (folder / "id_prop.csv").write_text("id,e_form\none,-1.5\n")
    assert imported(folder)[1].label("e_form").tolist() == [-1.5]


def test_folder_files_that_are_not_one_crystal(imported, folder):
    (folder / "vasp4.vasp").write_text("x\n1.0\n3 0 0\n0 3 0\n0 0 3\n1 1\nDirect\n0 0 0\n.5 .5 .5\n")
    (folder / "molecule.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.74\n")
    (folder / "id_prop.csv").write_text("vasp4,1\nmolecule,1\n")
    _, _, rejects = imported(folder, options={"labels": {"band_gap": ""}})
    reasons = {r["material_id"]: r["reason"] for r in rejects}
    assert reasons["vasp4"].startswith("undecodable POSCAR: BadPoscarWarning")
    assert reasons["molecule"].startswith("not periodic")


def test_folder_with_a_broken_or_a_single_column(imported, folder):
    (folder / "id_prop.csv").write_text('id,e_form\none,"1"x\nthree,-1.5\n')
    _, table, rejects = imported(folder)
    assert (table.ids, rejects[0]["reason"].split(":")[0]) == (["three"], "undecodable line")
    (folder / "id_prop.csv").write_text("one\n")
    assert "has no line of an id and a value at line 1" in imported(folder)[0].failures[0]


def test_parquet_states_its_functional(imported, make_crystal, tmp_path):
    CrystalTable.from_crystals([make_crystal(e_form=-1.0)], "SCAN").write(tmp_path / "scan.parquet")
    assert imported(tmp_path / "scan.parquet", functional=None)[1].functional == "SCAN"
    with pytest.raises(CgatError, match="holds SCAN data, not PBE"):
        imported(tmp_path / "scan.parquet")


def test_parquet_of_others(imported, make_crystal, tmp_path):
    table = CrystalTable.from_crystals([make_crystal("a", e_form=-1.0), make_crystal("b")], "PBE").table
    table = table.append_column("e_other", pa.array([None, -9.0]))
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(CgatError, match="does not state its functional"):
        imported(tmp_path / "t.parquet", functional=None)
    report, _, rejects = imported(tmp_path / "t.parquet", options={"labels": {"e_form": "e_other"}})
    assert report.labels == {"e_form": 1, "volume_per_atom": 1}
    assert rejects[0]["material_id"] == "a"
    report = imported(tmp_path / "t.parquet", out=tmp_path / "o.parquet")[0]
    assert report.reasons == {"label missing": 1}


# Bad rows


def in_data(**values):
    return lambda entry: entry["data"].update(values)


def in_lattice(*matrix):
    return lambda entry: entry["structure"]["lattice"].update(matrix=matrix)


def in_site(*species, **values):
    return lambda entry: entry["structure"]["sites"][1].update(values or {"species": list(species)})


HALF = {"element": "Cl", "occu": 0.5}
BAD_ENTRIES = [
    (in_data(e_form=float("nan")), "label not a number: e_form = nan"),
    (in_data(e_form="low"), "label not a number: e_form = 'low'"),
    (in_data(e_form=[1]), "label not a number: e_form is a list"),
    (in_data(e_form=None), "label missing: e_form"),
    (in_data(e_form=-37.5), "label looks per cell: e_form = -37.5"),
    (in_data(band_gap_ind=99.0), "label out of range: band_gap = 99"),
    (in_data(volume_per_atom=43.9), "volume does not match the lattice"),
    (in_data(e_form=10**400), "label not a number: e_form = '1000"),
    (in_data(e_form="\ud800"), "label not a number: e_form = "),
    (in_data(mat_id=""), "id missing"),
    (in_data(mat_id=True), "id missing"),
    (in_data(mat_id="a\ud800"), "undecodable id: not UTF-8"),
    (lambda entry: entry.pop("data"), "undecodable entry: no dictionary under 'data'"),
    (lambda entry: entry.pop("structure"), "undecodable row: no structure under structure or cif or atoms"),
    (in_site({"element": "Xx", "occu": 1}), "unknown element: 'Xx'"),
    (in_site({"element": "D", "occu": 1}), "unknown element: 'D'"),
    (in_site({"element": "Rf", "occu": 1}), "unknown element: 'Rf'"),
    (in_site({"element": "X0+", "occu": 1}), "unknown element: 'X0+'"),
    (in_site(HALF), "partial occupancy: site 1 holds Cl0.5"),
    (in_site(HALF, {"element": "Br", "occu": 0.5}), "partial occupancy: site 1 holds Cl0.5 Br0.5"),
    (in_site(HALF | {"occu": float("nan")}), "partial occupancy: site 1"),
    (in_site(), "partial occupancy: site 1 holds nothing"),
    (in_site(abc=[0.01, 0, 0]), "overlapping atoms: 0.0"),
    (in_site(abc=[0.01, 0]), "undecodable structure"),
    (in_site(abc=[0.5]), "undecodable structure"),
    (in_site(abc=[1e308, 0.5, 0.5]), "bad geometry: an atom is 1e+308 cells"),
    (in_lattice([1, 0, 0], [0, 1, 0], [1, 1, 0]), "zero volume"),
    (in_lattice([0, 4, 0], [4, 0, 0], [0, 0, 4]), "negative volume"),
    (in_lattice([1, 0, 0]), "undecodable structure"),
    (in_lattice(4, 0, 0, 0, 4, 0, 0, 0, 4), "undecodable structure: lattice of shape"),
    (in_lattice([4, 0, 0], [4e7, 4, 0], [0, 0, 4]), "bad geometry: needle-like or huge cell"),
    (in_lattice([10**400, 0, 0], [0, 4, 0], [0, 0, 4]), "undecodable structure: Over"),
]


def test_bad_entries_cost_themselves_only_and_add_up(imported, write_json, alexandria_entry):
    entries = []
    for i, (change, _) in enumerate(BAD_ENTRIES):
        change(bad := alexandria_entry(f"bad{i}"))
        entries += [bad, alexandria_entry(f"good{i}"), alexandria_entry(f"good{i}")]
    report, table, rejects = imported(write_json({"entries": entries}))
    assert table.ids == [f"good{i}" for i in range(len(BAD_ENTRIES))]
    assert (report.read, report.reasons["duplicate id"]) == (3 * len(BAD_ENTRIES), len(BAD_ENTRIES))
    for i, (row, (_, reason)) in enumerate(zip(rejects[::2], BAD_ENTRIES, strict=True)):
        assert row["reason"].startswith(reason)
        assert row["source"].endswith(f"a.json#{3 * i}")
        assert row["material_id"] in (f"bad{i}", "", "a\\ud800")


def test_noble_gases_and_neighbours(imported, write_json, alexandria_entry, make_crystal):
    xenon = alexandria_entry("xe", make_crystal(numbers=(54, 9)))
    sparse = alexandria_entry("far", replace(make_crystal(), lattice=12.5 * np.eye(3)))
    path = write_json({"entries": [xenon, alexandria_entry("ok"), sparse]})
    assert imported(path)[0].rejected == 0
    rejects = imported(path, noble_gases=False, neighbours=60)[2]
    assert [r["reason"].split(":")[0] for r in rejects] == ["noble gas", "fewer neighbours than 60"]


def test_duplicates_are_found_across_files(imported, write_json, alexandria_entry):
    paths = [write_json({"entries": [alexandria_entry("same"), alexandria_entry(n)]}, f"{n}.json") for n in "ab"]
    _, table, rejects = imported(*paths)
    assert table.ids == ["same", "a", "b"]
    assert rejects[0]["source"].endswith("b.json#0")


def test_missing_labels_are_a_choice(imported, write_json, alexandria_entry):
    entries = [alexandria_entry("a"), alexandria_entry("b", e_form=None)]
    path = write_json({"entries": entries})
    assert imported(path)[0].taken == 1
    report, table, _ = imported(path, options={"allow_missing": True})
    assert report.labels["e_form"] == 1
    assert np.isnan(table.label("e_form")[1])
    assert imported(path, options={"labels": {"band_gap": ""}})[0].taken == 2


def test_undecodable_entries_are_skipped_by_their_brackets(imported, write_json, alexandria_entry):
    good = [json.dumps(alexandria_entry(n)) for n in "ab"]
    text = f'{{"entries": [{good[0]}, {{"data": oops, "s": "}}]"}}, {good[1]}]}}'
    _, table, rejects = imported(write_json(text))
    assert table.ids == ["a", "b"]
    assert rejects[0]["reason"].startswith("undecodable entry: Expecting value in the entry at byte")


@pytest.mark.parametrize(
    "damage",
    [
        ('"e_form"', '"e_form'),
        ('"e_form"', 'e_form"'),
        ('"e_form": -1.5', '"e_form": "'),
        ('"data": {', '"data": '),
        ('"data": {', '"data": {{'),
        ('"data": {', '"data": {]'),
        ("5.0}", "5.0"),
        ("5.0}", "5.0}}"),
        ('"sites": [', '"sites": '),
        ('"e_form": -1.5', '"e_form": ' + "9" * 5000),
        ('"e_form": -1.5', '"e_form": ' + "[" * 1200),
        ('"e_form": -1.5', '"e_form": ' + '{"a":' * 1200),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("chunk", [97, 1 << 20])
def test_a_damaged_entry_costs_itself_only(imported, write_json, alexandria_entry, monkeypatch, damage, chunk):
    monkeypatch.setattr("cgatlib.crystals.streams.CHUNK", chunk)
    texts = [json.dumps(alexandria_entry(f"agm{i}")) for i in range(9)]
    texts[4] = texts[4].replace(*damage, 1)
    report, table, rejects = imported(write_json(f'{{"entries": [{", ".join(texts)}]}}'))
    assert table.ids == [f"agm{i}" for i in range(9) if i != 4]
    assert (report.read, report.failures) == (9, ())
    assert rejects[0]["reason"].startswith("undecodable entry: ")


@pytest.mark.parametrize(
    "damage", [('"# gen', "# gen"), ('"# gen', '"# "gen'), ('1"\r\n', "1\r\n"), ("Na  Na0", 'Na " Na0')], ids=range(4)
)
def test_a_damaged_row_of_csv_costs_itself_only(imported, cif, make_crystal, tmp_path, damage):
    text = cif(make_crystal()).strip().replace("\n", "\r\n")
    rows = [f'mp-{i},-2,"{text}"\r\n' for i in range(9)]
    assert damage[0] in rows[4]
    rows[4] = rows[4].replace(*damage, 1)
    path = tmp_path / "t.csv"
    path.write_bytes(("material_id,e_form,cif\r\n" + "".join(rows)).encode())
    report, table, rejects = imported(path)
    assert table.ids == [f"mp-{i}" for i in range(9) if i != 4]
    assert report.failures == ()
    assert {r["reason"].split(":")[0] for r in rejects} <= {"undecodable line", "undecodable CIF"}


def test_a_byte_order_mark_is_no_part_of_the_text(imported, write_json, alexandria_entry, cif, make_crystal, tmp_path):
    (tmp_path / "t.csv").write_text(f'material_id,e_form,cif\nmp-1,-2,"{cif(make_crystal())}"\n', encoding="utf-8-sig")
    (tmp_path / "t.jsonl").write_text(
        json.dumps({"id": "l", "structure": cif(make_crystal()), "band_gap": 1}) + "\n", encoding="utf-8-sig"
    )
    entries = write_json("\ufeff" + json.dumps({"entries": [alexandria_entry("agm1")]}))
    assert imported(tmp_path / "t.csv", tmp_path / "t.jsonl", entries)[1].ids == ["mp-1", "l", "agm1"]


def test_shapes_that_only_count_right_are_refused(imported, write_json, make_crystal):
    record = jarvis_record(make_crystal("j"), e_form=-2.0)
    record["atoms"]["coords"] = [[0, 0], [0, 0.5], [0.5, 0.5]]
    reason = imported(write_json([record]))[2][0]["reason"]
    assert reason == "undecodable structure: coordinates of shape (3, 2), not (2, 3)"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("material_id,energy,cif", "no column is a label known here .*; name one, e.g. --label e_form=COLUMN"),
        ("material_id,e_form,e_form,cif", "column 'e_form' is there more than once"),
        ('material_id,"e_form"x,cif', "cannot be read at line 1"),
    ],
)
def test_headers_that_do_not_tell_the_labels(imported, cif, make_crystal, tmp_path, header, message):
    (tmp_path / "t.csv").write_text(f'{header}\nmp-1,-2,"{cif(make_crystal())}"\n')
    if "cannot be read" in message:
        assert message in imported(tmp_path / "t.csv")[0].failures[0]
        return
    with pytest.raises(CgatError, match=message):
        imported(tmp_path / "t.csv")


def test_the_volume_alone_can_be_asked_for(imported, cif, make_crystal, tmp_path):
    (tmp_path / "t.csv").write_text(f'id,energy,cif\nmp-1,-2,"{cif(make_crystal())}"\n')
    assert imported(tmp_path / "t.csv", options={"labels": {"volume_per_atom": ""}})[1].labels == ("volume_per_atom",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"index": ["a"]}, "holds 2 rows and an index of 1"),
        ({"index": ["a", "b", "c"]}, "holds 2 rows and an index of 3"),
        ({"index": {"0": "a"}}, "its index is a dict, not a list"),
        ({"columns": "structure"}, "its columns are not a list of different names"),
        ({"columns": ["structure", "structure"]}, "its columns are not a list of different names"),
    ],
)
def test_split_tables_whose_ids_are_not_sure(imported, write_json, structure_dict, make_crystal, content, message):
    rows = [[structure_dict(make_crystal()), -1.0], [structure_dict(make_crystal()), -2.0]]
    whole = {"index": ["a", "b"], "columns": ["structure", "e_form"]} | content | {"data": rows}
    report, table, _ = imported(write_json(whole))
    assert table is None
    assert message in report.failures[0]


def test_split_tables_with_their_ids_behind_or_a_row_that_is_broken(imported, write_json, structure_dict, make_crystal):
    rows = [[structure_dict(make_crystal()), -1.0], [structure_dict(make_crystal()), -2.0]]
    late = {"columns": ["structure", "e_form"], "data": rows, "index": ["a", "b"]}
    assert "its ids stand behind its rows" in imported(write_json(late))[0].failures[0]
    text = json.dumps({"columns": ["structure", "e_form"], "index": ["a", "b"], "data": rows})
    report, _, _ = imported(write_json(text.replace("-1.0", "-1.0x")))
    assert "is damaged: row 0: undecodable entry" in report.failures[0]
    assert "the ids of the rows behind it are not known" in report.failures[0]


def test_parquet_of_others_in_other_types(imported, make_crystal, tmp_path):
    table = CrystalTable.from_crystals([make_crystal("a", e_form=-1.0), make_crystal("b", e_form=-1.0)], "PBE").table
    numbers = [[11.9, 17.0], [11.0, 17.0]]
    odd = table.set_column(4, "numbers", pa.array(numbers)).set_column(
        3, "lattice", pa.array(table["lattice"].to_pylist(), pa.list_(pa.float64(), 9))
    )
    pq.write_table(odd, tmp_path / "t.parquet")
    _, found, rejects = imported(tmp_path / "t.parquet")
    assert found.ids == ["b"]
    assert rejects[0]["reason"] == "unknown element: atomic number 11.9 is not whole"
    pq.write_table(table.set_column(4, "numbers", pa.array(["x", "y"])), tmp_path / "u.parquet")
    assert imported(tmp_path / "u.parquet")[0].reasons == {"undecodable structure": 2}
    pq.write_table(table.append_column("lattice", table["lattice"]), tmp_path / "v.parquet")
    assert "has more than one column 'lattice'" in imported(tmp_path / "v.parquet")[0].failures[0]
    pq.write_table(table.replace_schema_metadata({b"cgatlib": b"{"}), tmp_path / "w.parquet")
    with pytest.raises(CgatError, match=r"w\.parquet has damaged metadata"):
        imported(tmp_path / "w.parquet")


# Files that cannot be read


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.csv.gz", "t.json.gz", "t.json.bz2"])
def test_what_ends_early_says_so_and_keeps_the_rows_before(imported, structure_dict, make_crystal, tmp_path, name):
    noise, structure = random.Random(0), json.dumps(structure_dict(make_crystal()))
    rows = [{"id": f"m{i}", "structure": structure, "band_gap": 1, "x": noise.randbytes(999).hex()} for i in range(40)]
    if ".csv" in name:
        quoted = structure.replace('"', '""')
        text = "id,structure,band_gap,x\n" + "".join(f'{r["id"]},"{quoted}",1,{r["x"]}\n' for r in rows)
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows) if ".jsonl" in name else json.dumps(rows)
    compress = {"gz": gzip.compress, "bz2": bz2.compress}.get(name.split(".")[-1], bytes)
    (tmp_path / name).write_bytes(compress(text.encode())[: -2000 if ".bz2" not in name else -4])
    report, table, rejects = imported(tmp_path / name, partial=True)
    assert len(report.failures) == 1
    assert "truncated" in report.failures[0] or "breaks off" in report.failures[0]
    assert rejects[-1]["reason"].startswith("file not read to its end")
    assert table.ids == [f"m{i}" for i in range(len(table))]
    assert 20 < len(table) <= 40


def zipped(flags: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive with one member whose headers say something else."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", "[]")
    whole = bytearray(packed.getvalue())
    for start, shift in ((0, 0), (whole.index(b"PK\x01\x02"), 2)):
        whole[start + 6 + shift], whole[start + 8 + shift] = flags, method
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(flags=1), "has a member 'a.json' that cannot be opened: .*encrypted"),
        (zipped(method=99), "has a member 'a.json' that cannot be opened: That compression method is not supported"),
    ],
)
def test_archives_that_cannot_be_opened(imported, tmp_path, content, message):
    (tmp_path / "a.zip").write_bytes(content)
    assert re.search(message, imported(tmp_path / "a.zip")[0].failures[0])


@pytest.mark.parametrize(
    ("name", "head", "unit", "message"),
    [
        ("a.json", "", " ", "has more than 100,000 characters of space"),
        ("a.json", "[", " ", "has more than 100,000 characters of space"),
        ("a.json", "[", "[", "has no whole entry in 100,000 characters from entry 0 on"),
        ("a.json", "[", "[],", "has 1,000 rows one after the other without a crystal"),
        ("a.json", '{"entries": [{"data": "', "x", "has no whole entry in 100,000 characters from entry 0 on"),
        ("a.json", '{"entries": [{"data": [', "1,", "has no whole entry in 100,000 characters from entry 0 on"),
        ("a.json", "{", '"k": 1,', "has more than 1000 values outside its entries"),
        ("a.jsonl", "", "x", "has more than 100,000 characters in one line at line 1"),
        ("a.jsonl", "", "\n", "has more than 1,000 blank lines at line 1001"),
        ("a.jsonl", "", "1\n", "has 1,000 rows one after the other without a crystal"),
        ("a.csv", "id,e_form,cif\n", ",", "has more than 100,000 characters in one line at line 2"),
        ("a.csv", 'id,e_form,cif\na,1,"', "x\n", "has no whole row in 100,000 characters at line"),
    ],
)
def test_what_has_no_end_is_not_read_to_it(imported, tmp_path, monkeypatch, name, head, unit, message):
    monkeypatch.setattr("cgatlib.crystals.streams.LARGEST_ENTRY", 100_000)
    monkeypatch.setattr("cgatlib.crystals.streams.BLANK_LINES", 1000)
    monkeypatch.setattr(importing, "MOST_NOISE", 1000)
    monkeypatch.setattr("cgatlib.crystals.streams.CHUNK", 1 << 16)
    path = tmp_path / f"{name}.gz"
    path.write_bytes(gzip.compress((head + unit * (300_000 // len(unit))).encode(), 1))
    report, _, _ = imported(path)
    assert f"{path} {message}" in report.failures[0]
    assert report.read <= 1_001


def test_truncated_archive(imported, tmp_path, write_json, alexandria_entry):
    noise = random.Random(0)
    entries = [alexandria_entry(f"agm{i}", noise=noise.randbytes(5000).hex()) for i in range(40)]
    whole = bz2.compress(json.dumps({"entries": entries}).encode(), 1)  # in blocks of 100 kB
    cut = tmp_path / "cut.json.bz2"
    cut.write_bytes(whole[: int(len(whole) * 0.8)])
    report, table, rejects = imported(cut, write_json({"entries": [alexandria_entry("later")]}, "b.json"))
    assert table is None
    assert report.out is None
    assert not (tmp_path / "out.parquet").exists()
    assert 10 < report.taken < 40
    assert len(report.failures) == 1
    assert f"{cut} " in report.failures[0]
    assert (
        f"breaks off inside entry {report.taken - 1} (after {report.taken - 1} entries, at byte " in report.failures[0]
    )
    assert "Compressed file ended before the end-of-stream marker" in report.failures[0]
    assert rejects[-1]["reason"].startswith("file not read to its end")
    report, table, _ = imported(cut, partial=True)
    assert len(table) == report.taken


def test_an_earlier_table_survives_a_failed_import(imported, write_json, alexandria_entry, tmp_path):
    good = write_json({"entries": [alexandria_entry("a")]})
    imported(good)
    text = good.read_text()
    assert imported(write_json(text[:-20], "cut.json"))[1] is None
    assert CrystalTable.read(tmp_path / "out.parquet").ids == ["a"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"", "is empty (after 0 entries, at byte 0 of the text)"),
        ("a.json", b"hello", "is not JSON: it begins with 'h' (after 0 entries"),
        ("a.json", b'{"entries": [', "breaks off inside entry 0 (after 0 entries, at byte 13 of the text)"),
        ("a.json", b'{"entries": [{"data": {', "breaks off inside entry 0 (after 0 entries, at byte 13"),
        ("a.json", b'{"other": 1}', "has no list under 'data'"),
        ("a.json", b'{"entries": [] ] ', "has ']' where ',' should stand"),
        ("a.json", b'{"entries": []} x', "goes on behind the end of its JSON value"),
        ("a.json.bz2", b"hello", "is truncated or damaged (after 0 entries, at byte 0"),
        ("a.json.gz", b"\x1f\x8b\x08", "is truncated or damaged (after 0 entries, at byte 0"),
        ("a.zip", b"PK\x03\x04 cut", "is truncated or no zip archive (8 bytes)"),
        ("a.parquet", b"PAR1 cut", "is truncated or no parquet (8 bytes)"),
        ("a.csv", b"", "has no id column"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(imported, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    try:
        report, table, rejects = imported(path)
    except CgatError as error:
        sentence = str(error)
    else:
        sentence = report.failures[0]
        assert table is None
        assert len(rejects) == report.read == 1
    assert str(path) in sentence
    assert message in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "does not state its functional; name it"),
        ({"sources": [Path("no.json")]}, "there is no file or folder"),
        ({"sources": []}, "nothing to import"),
        ({"format": "x"}, "unknown format 'x'; known: alexandria"),
        ({"neighbours": 0}, "the number of neighbours must be positive, not 0"),
        ({"out": "a.json"}, "is an input: it is not replaced"),
        ({"rejects": "a.json"}, "is an input: it is not replaced"),
        ({"rejects": "out.parquet"}, "is an input: it is not replaced"),
        ({"out": ".."}, "is a folder, not a name for a table"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path, write_json, alexandria_entry, asked, message):
    path = write_json({"entries": [alexandria_entry()]})
    paths = {name: tmp_path / value for name, value in asked.items() if name in ("out", "rejects")}
    with pytest.raises(CgatError, match=message):
        import_crystals(ImportRequest(**{"sources": [path], "out": tmp_path / "out.parquet"} | asked | paths))


def test_sources_of_an_unknown_kind(tmp_path):
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(CgatError, match="not known by its name; give --format: alexandria"):
        detect(tmp_path / "x.txt")
    with pytest.raises(CgatError, match=r"folder without id_prop.csv"):
        detect(tmp_path)
    with pytest.raises(CgatError, match=r"x\.cif is a single structure without labels; name its folder"):
        detect(tmp_path / "x.cif")
    with pytest.raises(CgatError, match="unknown label 'ef'; known: e_form"):
        ReadOptions({"ef": "x"})


def test_outputs_never_replace_what_is_not_theirs(imported, write_json, alexandria_entry, tmp_path):
    source = write_json({"entries": [alexandria_entry()]})
    mine = tmp_path / "mine.csv"
    mine.write_text("my,data\n")
    for outputs, why in (
        ({"rejects": mine}, "exists and is not a rejects file"),
        ({"out": mine}, "exists and is not a crystal table"),
        ({"out": tmp_path / "files"}, "exists and is not a crystal table"),
        ({"out": mine / "x.parquet"}, "cannot be written"),
    ):
        (tmp_path / "files").mkdir(exist_ok=True)
        with pytest.raises(CgatError, match=why):
            imported(source, **outputs)
    assert mine.read_text() == "my,data\n"
    assert "agm1" in source.read_text()
    for _ in range(2):  # its own outputs are replaced
        assert imported(source)[0].taken == 1


# Memory and real data

PEAK = """
import sys
from pathlib import Path
from cgatlib.crystals import importing
from cgatlib.crystals.importing import ImportRequest, import_crystals
importing.ROW_GROUP = 512
*sources, out = map(Path, sys.argv[1:])
report = import_crystals(ImportRequest(sources, out, functional="PBE"))
print(report.taken, report.peak_memory_mb)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files(tmp_path, write_json, alexandria_entry):
    entry = json.dumps(alexandria_entry("ID", noise="x" * 4000))
    paths = []
    for f in range(8):
        text = ", ".join(entry.replace("ID", f"agm{f}-{i}") for i in range(2000))
        paths.append(write_json(f'{{"entries": [{text}]}}', f"{f}.json"))
    peaks = {}
    for n in (1, 8):
        command = [sys.executable, "-c", PEAK, *map(str, paths[:n]), str(tmp_path / f"{n}.parquet")]
        taken, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        assert int(taken) == n * 2000
        peaks[n] = float(peak)
    # The seven files more hold 70 MB of text, and 17 MB as crystals.
    assert peaks[8] < peaks[1] + 8


@pytest.mark.slow
def test_real_table_is_taken_whole(imported, real_data):
    report, table, _ = imported(real_data / "pbesol.parquet", functional="PBEsol")
    assert (report.taken, report.rejected) == (6371, 0)
    assert table.fingerprint == CrystalTable.read(real_data / "pbesol.parquet", "PBEsol").fingerprint
