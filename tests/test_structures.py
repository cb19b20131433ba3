"""Structures of pymatgen, ASE and files: in the order given, with a reason where there is no crystal."""

import os
from pathlib import Path

import numpy as np
import pytest

from cgatlib import CgatError
from cgatlib.crystals import structures
from cgatlib.crystals.crystal import Crystal
from cgatlib.crystals.structures import candidates, read_files
from cgatlib.crystals.table import CrystalTable

PLACES = [[0, 0, 0], [0.5, 0.5, 0.5]]


def salt(species=("Na", "Cl"), a=5.0):
    from pymatgen.core import Lattice, Structure

    return Structure(Lattice.cubic(a), list(species), PLACES)


@pytest.fixture
def crystal(make_crystal) -> Crystal:
    return make_crystal("mine", e_form=-1.0)


def atoms(pbc=True):
    from ase import Atoms

    return Atoms("NaCl", scaled_positions=PLACES, cell=np.diag([5.0, 5.0, 5.0]), pbc=pbc)


def test_objects_of_every_kind_become_crystals(crystal):
    ids, found = candidates([salt(), atoms(), crystal])
    assert ids == ["0", "1", "mine"]
    for one in found[:2]:
        assert isinstance(one, Crystal)
        np.testing.assert_allclose(one.lattice, 5 * np.eye(3))
        np.testing.assert_allclose(one.frac_coords, PLACES)
        assert one.numbers.tolist() == [11, 17]
    assert isinstance(found[2], Crystal)
    assert found[2].labels == {}  # what is to be predicted does not decide whether it can be


@pytest.mark.parametrize("make", [salt, atoms])
def test_a_single_structure_need_not_be_in_a_list(make):
    ids, found = candidates(make())
    assert (ids, len(found)) == (["0"], 1)


def test_given_ids_are_used(crystal):
    assert candidates([salt(), crystal], ids=[7, "b"])[0] == ["7", "b"]
    with pytest.raises(CgatError, match="3 ids were given for 1 structures"):
        candidates(crystal, ids=[1, 2, 3])


def test_structures_that_cannot_be_taken_say_why():
    disordered = salt([{"Na": 0.5, "K": 0.5}, "Cl"])
    ids, found = candidates([disordered, atoms(pbc=[True, True, False]), salt()])
    assert ids == ["0", "1", "2"]
    assert found[0] == "partial occupancy: site 0 holds Na0.5 K0.5"
    assert found[1] == "not periodic: the atoms have no lattice along all three axes"
    assert isinstance(found[2], Crystal)


@pytest.mark.parametrize("thing", [{"a": 1}, b"file.cif", 3])
def test_what_is_no_structure_is_refused_by_place(thing):
    with pytest.raises(CgatError, match=f"structure 1 is a {type(thing).__name__}, neither a pymatgen Structure"):
        candidates([salt(), thing])


def write(path: Path, a: float = 5.0) -> Path:
    path.parent.mkdir(exist_ok=True)
    salt(a=a).to(filename=str(path), fmt="poscar" if path.suffix == ".vasp" else "cif")
    return path


def test_files_and_tables_keep_their_order(tmp_path, crystal):
    CrystalTable.from_crystals([crystal], "PBE").write(tmp_path / "t.parquet")
    paths = [write(tmp_path / "b.cif"), tmp_path / "t.parquet", write(tmp_path / "a.vasp"), tmp_path / "absent.cif"]
    found = list(read_files(paths))
    assert [name for name, _ in found] == ["b", "mine", "a", "absent"]
    assert "No such file" in found[3][1]
    table_row = found[1][1]
    assert isinstance(table_row, Crystal)
    assert table_row.labels == {}


def test_files_of_one_stem_are_told_apart_by_their_path(tmp_path):
    paths = [write(tmp_path / "x" / "same.cif"), write(tmp_path / "y" / "same.cif"), write(tmp_path / "other.cif")]
    assert [name for name, _ in read_files(paths)] == [str(paths[0]), str(paths[1]), "other"]


def test_paths_stand_among_other_structures(tmp_path, crystal):
    good, absent = write(tmp_path / "a.cif"), tmp_path / "absent.cif"
    ids, found = candidates([good, crystal, str(absent), atoms()])
    assert ids == [str(good), "mine", str(absent), "3"]
    assert isinstance(found[0], Crystal)
    assert "No such file" in str(found[2])
    assert candidates(str(good))[0] == [str(good)]


@pytest.mark.slow
def test_processes_change_nothing(tmp_path, monkeypatch):
    paths = [write(tmp_path / f"{i}.cif", 4 + 0.1 * i) for i in range(12)]
    (tmp_path / "5.cif").write_text("data_broken\n_cell_length_a ?\n")
    monkeypatch.setattr(structures, "_FILES_PER_PROCESS", 4)
    alone, together = list(read_files(paths)), list(read_files(paths, workers=2))
    assert [name for name, _ in alone] == [name for name, _ in together]
    for (_, first), (_, second) in zip(alone, together, strict=True):
        assert first == second if isinstance(first, str) else np.array_equal(first.lattice, second.lattice)


def test_few_files_start_no_process(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("a process was started")

    monkeypatch.setattr(structures, "Processes", refuse)
    assert len(list(read_files([write(tmp_path / "a.cif")], workers=8))) == 1


@pytest.mark.parametrize("name", ["bad.parquet", "absent.parquet"])
def test_a_file_that_is_no_table_is_refused_by_name(name, tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    with pytest.raises(CgatError, match=rf"cannot read .*{name} as a parquet table"):
        list(read_files([tmp_path / name]))


def test_a_table_without_functional_or_with_odd_labels_is_enough(tmp_path, crystal):
    import pyarrow as pa
    import pyarrow.parquet as pq

    core = CrystalTable.from_crystals([crystal], "PBE").table.replace_schema_metadata(None)
    pq.write_table(core.set_column(6, "e_form", pa.array([1e6])), tmp_path / "odd.parquet")
    assert [name for name, _ in read_files([tmp_path / "odd.parquet"])] == ["mine"]


POSCAR = "x\n1.0\n3 0 0\n0 3 0\n0 0 3\nNa Cl\n{} 1\nDirect\n0 0 0\n.5 .5 .5\n"
EXTXYZ = '{}\nLattice="3 0 0 0 3 0 0 0 3" Properties=species:S:{}:pos:R:3\nNa 0 0 0\nCl 1.5 1.5 1.5\n'


@pytest.mark.parametrize("count", ["2147483648", "9" * 5000])
def test_files_that_state_more_atoms_than_they_hold_take_no_memory(tmp_path, count):
    (tmp_path / "a.vasp").write_text(POSCAR.format(count))
    (tmp_path / "b.extxyz").write_text(EXTXYZ.format(count, 1))
    (tmp_path / "c.extxyz").write_text(EXTXYZ.format(2, count))
    for _, reason in read_files(sorted(tmp_path.iterdir())):
        assert f"it states {count[:12]} atoms or columns, more than it can hold" in reason


def test_structures_that_pymatgen_refuses_in_its_own_way(tmp_path):
    (tmp_path / "a.vasp").write_text("x\n1.0\n3 0 0\n0 3 0\n0 0 3\nNa\n-1\nDirect\n")
    ((_, reason),) = read_files([tmp_path / "a.vasp"])
    assert reason.startswith("undecodable POSCAR: ")


def test_what_is_no_file_or_too_long_says_so(tmp_path, monkeypatch):
    (tmp_path / "a.cif").mkdir()
    (tmp_path / "b.cif").write_text("x" * 101)
    (tmp_path / "c.cif").write_bytes(b"data_x # G\xf6del")
    monkeypatch.setattr("cgatlib.crystals.structures.LARGEST_ENTRY", 100)
    reasons = [reason for _, reason in read_files(sorted(tmp_path.iterdir()))]
    assert reasons[:2] == [
        "undecodable file: it is a folder or a device",
        "undecodable file: it has more than 100 characters",
    ]
    assert reasons[2].startswith("undecodable CIF: ")


def test_names_that_are_not_utf_8_can_be_printed(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.cif"))
    path.write_text("data_")
    assert [name for name, _ in read_files([path])] == ["a\\xff"]
