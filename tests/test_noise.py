"""How predictions move with the description of a crystal, and the comparison of rules for neighbour lists."""

import json

import numpy as np
import pytest

from benchmarks import noise as benchmark
from benchmarks.noise import MOVES, displaced, moved, rounded
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.packing import pack


def rocksalt(stretch=1.0):
    return 2.8 * (1 - np.eye(3)) * stretch, np.array([11, 17]), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]])


def test_displacements_have_the_stated_length():
    lattice = np.array([[4.0, 0, 0], [1, 5, 0], [-1, 2, 6]])
    cell = (lattice, np.full(20_000, 8), np.random.default_rng(0).random((20_000, 3)))
    step = (displaced(cell, 0.02, np.random.default_rng(1))[2] - cell[2]) @ lattice
    assert np.sqrt((step**2).sum(axis=1).mean()) == pytest.approx(0.02, rel=0.02)
    assert np.abs(step.mean(axis=0)).max() < 1e-3


def test_a_rounded_file_keeps_lengths_angles_and_coordinates_to_three_digits():
    from pymatgen.core import Lattice

    lattice, numbers, coords = rocksalt(1.000123)
    new, same, places = rounded((lattice, numbers, coords + 1 / 3))
    np.testing.assert_allclose(Lattice(new).parameters, np.round(Lattice(lattice).parameters, 3), rtol=0, atol=1e-9)
    assert places.tolist() == [[0.333] * 3, [0.833] * 3]
    assert same is numbers


def test_every_move_is_drawn_for_each_cell_and_can_be_repeated():
    cells = [rocksalt(), rocksalt()]
    for name in MOVES:
        one, other = moved(cells, name), moved(cells, name)
        assert all(np.array_equal(a[2], b[2]) for a, b in zip(one, other, strict=True))
        drawn = not np.array_equal(one[0][2], one[1][2])
        assert drawn == ("Å" in name)


def test_shells_of_relative_width_do_not_depend_on_the_size_of_a_crystal():
    for name in ("whole shells, 5 % wide", "shells between gaps of 2 %"):
        rule = benchmark.RULES[name]
        small, large = (rule.pack([rocksalt(size)]) for size in (1.0, 1.4))
        np.testing.assert_array_equal(small.edges, large.edges)
        assert sorted(set(small.rank.tolist())) == [1, 2]
        noisy = moved([rocksalt()], "0.02 Å")
        np.testing.assert_array_equal(rule.pack(noisy).edges, small.edges)
        assert len(pack(noisy, benchmark.RULES["whole shells of 1e-3 Å"].graph)[0].edges) > len(small.edges)


def test_a_comparison_from_table_to_file(table, tmp_path):
    name = "whole shells, 5 % wide, displaced copies"
    table.write(tmp_path / "pbe.parquet")
    out = tmp_path / "noise.json"
    options = ["--data", str(tmp_path), "--rules", name, "--labels", "e_form", "--seeds", "0", "--steps", "10"]
    benchmark.main([*options, "--out", str(out)])
    content = json.loads(out.read_text())
    assert content["table"] == CrystalTable.read(tmp_path / "pbe.parquet").fingerprint
    (row,) = content["rows"]
    assert (row["rule"], row["label"], row["seed"]) == (name, "e_form", 0)
    assert set(row["change"]) == set(MOVES)
    assert row["test_mae"] > 0
