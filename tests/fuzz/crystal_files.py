"""Targets that read crystals: every format of `cgatlib data import`, tables into graphs, structure files."""

import bz2
import csv
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

from cgatlib.cli import main
from cgatlib.crystals.crystal import SYMBOLS, Crystal, check
from cgatlib.crystals.importing import ImportRequest, import_crystals
from cgatlib.crystals.labels import ReadOptions
from cgatlib.crystals.structures import read_files
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.graphs.packing import pack
from fuzz.harness import Target

ROWS = 34
NOT_WHOLE = (ValueError, EOFError, OSError, zlib.error, zipfile.BadZipFile, RuntimeError, RecursionError, csv.Error)


def crystal_targets() -> list[Target]:
    """One target per format and compression, each with a sound file as its seed."""
    from pymatgen.core import Structure

    rows = [_crystal(i) for i in range(ROWS)]
    dicts = [_dictionary(row) for row in rows]
    cifs = [Structure.from_dict(d).to(fmt="cif") for d in dicts]
    entries = [
        {"data": {"mat_id": row.material_id, "e_form": -1.5, "e_above_hull": 0.0, "band_gap_ind": 1}, "structure": d}
        for row, d in zip(rows, dicts, strict=True)
    ]
    records = [
        {"jid": row.material_id, "atoms": _jarvis(row), "formation_energy_peratom": -1.5, "ehull": "na"} for row in rows
    ]
    split = {
        "columns": ["structure", "e_form"],
        "index": [r.material_id for r in rows],
        "data": [[d, -1] for d in dicts],
    }
    lines = "\n".join(
        json.dumps({"id": row.material_id, "structure": d, "band_gap": 1.5}) for row, d in zip(rows, dicts, strict=True)
    )
    sources = {
        "a.json": _text({"entries": entries}),
        "a.json.bz2": bz2.compress(_text({"entries": entries})),
        "b.json.gz": gzip.compress(_text(records)),
        "b.json": _text(records),
        "b.zip": _zipped(_text(records)),
        "c.json": _text(split),
        "c.json.gz": gzip.compress(_text(split)),
        "d.jsonl": lines.encode(),
        "d.jsonl.gz": gzip.compress(lines.encode()),
        "e.csv": _csv(rows, cifs),
        "e.csv.bz2": bz2.compress(_csv(rows, [json.dumps(d) for d in dicts])),
        "f.parquet": _parquet(rows),
    }
    targets = [Target(f"import {name}", [data], partial(import_file, name)) for name, data in sources.items()]
    one = Structure.from_dict(dicts[0])
    extxyz = io.StringIO()
    one.to_ase_atoms().write(extxyz, format="extxyz")
    files = {"one.cif": cifs[0], "one.vasp": one.to(fmt="poscar"), "one.extxyz": extxyz.getvalue()}
    targets += [Target(f"import {name}", [text.encode()], partial(import_folder, name)) for name, text in files.items()]
    targets += [Target(f"predict {name}", [text.encode()], partial(candidate, name)) for name, text in files.items()]
    index = b"id,e_form\none,-1.5\ntwo,-1.5\n"
    bare = b"one,-1.5,0.1\ntwo,2,0.2\n"
    targets.append(Target("import id_prop.csv", [index, bare], partial(import_folder, "id_prop.csv")))
    targets.append(Target("graphs of a table", [_parquet(rows)], graphs_of_table))
    return targets


def import_file(name: str, data: bytes, folder: Path) -> str:
    """Import one file: rows add up to those it was given, and what is not whole says so."""
    source = folder / name
    source.write_bytes(data)
    return _import(source, folder, _given(name, data), data)


def import_folder(name: str, data: bytes, folder: Path) -> str:
    """Import a folder of structure files with `data` under one of its names."""
    source = folder / "files"
    source.mkdir()
    (source / "id_prop.csv").write_text("id,e_form\none,-1.5\n")
    (source / name).write_bytes(data)
    return _import(source, folder, 1 if name != "id_prop.csv" else None, data)


def candidate(name: str, data: bytes, folder: Path) -> str:
    """Read a structure file as `cgatlib predict` does, and make its graph."""
    (folder / name).write_bytes(data)
    ((_, found),) = read_files([folder / name])
    reason = found if isinstance(found, str) else check(found)
    assert reason is None or "\n" not in reason, reason
    return "refused with a reason" if reason else _graphs([found])


def graphs_of_table(data: bytes, folder: Path) -> str:
    """Open a table and make its graphs."""
    (folder / "t.parquet").write_bytes(data)
    return _graphs(list(CrystalTable.read(folder / "t.parquet", "PBE")))


def _graphs(crystals: list[Crystal]) -> str:
    graphs, rejected = pack([(c.lattice, c.numbers, c.frac_coords) for c in crystals], GRAPHS["small"])
    assert len(graphs) + len(rejected) == len(crystals)
    return "graphs" if not rejected else "graphs, and rejects"


def _import(source: Path, folder: Path, given: int | None, data: bytes) -> str:
    out = folder / "out.parquet"
    if len(data) % 16 == 0:
        return _import_by_command(source, out)
    labels = {"labels": {"e_form": ""}} if source.is_dir() else {}
    report = import_crystals(ImportRequest([source], out, options=ReadOptions(**labels), functional="PBE"))
    with Path(report.rejects).open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == report.rejected, "rejects that are not in their file"
    if report.out:
        assert len(CrystalTable.read(out)) == report.taken, "rows that are not in the table"
    if report.failures:
        assert report.out is None
        return "not read to its end, and says so"
    if given is None:
        assert report.rejected or source.is_dir(), "not whole, and nothing says so"
    else:
        assert report.read == given, f"{given} given, {report.taken} taken, {report.rejected} rejected"
    return "all taken" if not report.rejected else "some rejected"


def _import_by_command(source: Path, out: Path) -> str:
    arguments = ["data", "import", str(source), "--out", str(out), "--functional", "PBE", "--json"]
    result = CliRunner().invoke(main, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 2, 3), result.exit_code
    assert out.exists() == (result.exit_code == 0), f"exit code {result.exit_code}, table: {out.exists()}"
    return f"exit code {result.exit_code}"


def _given(name: str, data: bytes) -> int | None:
    """Rows of a file by the standard library; None if it is not whole."""
    try:
        return _rows(name, data)
    except (*NOT_WHOLE, pa.ArrowException):
        return None


def _rows(name: str, data: bytes) -> int | None:
    if name.endswith(".parquet"):
        return int(pq.read_metadata(io.BytesIO(data)).num_rows)
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [n for n in archive.namelist() if n.endswith(".json")]
            return sum(_rows(n, archive.read(n)) or 0 for n in names)
    unpack: Callable[[bytes], bytes] = {"gz": gzip.decompress, "bz2": bz2.decompress}.get(name.split(".")[-1], bytes)
    data = unpack(data)
    if ".jsonl" in name:
        return sum(bool(line.strip()) for line in data.split(b"\n"))
    text = data.decode("utf-8", "replace" if ".csv" in name else "strict")  # a remark may hold any byte
    if ".csv" in name:
        return sum(bool(row) for row in csv.reader(io.StringIO(text, newline=""), strict=True)) - 1
    value = json.loads(text)
    items = value if isinstance(value, list) else value.get("entries", value.get("data"))
    return len(items) if isinstance(items, list) else None


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


def _zipped(data: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("records.json", data)
    return packed.getvalue()


def _csv(rows: list[Crystal], cells: list[str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["material_id", "formation_energy_per_atom", "cif", "band_gap"])
    writer.writerows([row.material_id, -1.5, cell, 0.1] for row, cell in zip(rows, cells, strict=True))
    return text.getvalue().encode()


def _parquet(rows: list[Crystal]) -> bytes:
    table = CrystalTable.from_crystals(rows, "PBE").table
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"cgatlib": b'{"functional": "PBE", "source": "x"}'}), out)
    return out.getvalue()


def _crystal(i: int) -> Crystal:
    lattice = (2.6 + 0.01 * i) * np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    coords = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    return Crystal(f"x-{i}", lattice, np.array([11, 17]), coords, {"e_form": -1.5})


def _dictionary(crystal: Crystal) -> dict[str, Any]:
    sites = [
        {"species": [{"element": SYMBOLS[z - 1], "occu": 1}], "abc": abc}
        for z, abc in zip(crystal.numbers, crystal.frac_coords.tolist(), strict=True)
    ]
    return {"@class": "Structure", "lattice": {"matrix": crystal.lattice.tolist()}, "sites": sites}


def _jarvis(crystal: Crystal) -> dict[str, Any]:
    elements = [SYMBOLS[z - 1] for z in crystal.numbers]
    geometry = {"lattice_mat": crystal.lattice.tolist(), "coords": crystal.frac_coords.tolist()}
    return geometry | {"elements": elements, "cartesian": False}
