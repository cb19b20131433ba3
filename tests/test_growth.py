"""Time and memory against the number of crystals: what is measured, and the figure of it."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import growth as benchmark
from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable
from cgatlib.figures.data import growth, read_growth
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.graphs.packing import pack


def cells(table):
    return [(c.lattice, c.numbers, c.frac_coords) for c in table]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("growth") / "table.parquet"
    benchmark.write_crystals(path, 150)
    return path


def test_crystals_are_copies_with_the_graphs_of_their_originals(table):
    copies = CrystalTable.read(table)
    demo = CrystalTable.read(benchmark.DEMO / "pbe.parquet")
    place = {name: row for row, name in enumerate(demo.ids)}
    originals = demo.select([place[name.rsplit("-", 1)[0]] for name in copies.ids])
    assert len(set(copies.ids)) == len(copies) == 150
    np.testing.assert_array_equal(copies.label("e_form"), originals.label("e_form"))
    assert not np.allclose(copies.crystal(0).lattice, originals.crystal(0).lattice)
    ours, theirs = (pack(cells(t), GRAPHS["tiny"])[0] for t in (copies, originals))
    assert np.mean(np.diff(ours.edge_ptr) == np.diff(theirs.edge_ptr)) > 0.95  # a shell may split at another scale


def test_more_crystals_than_the_demo_set_has(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "DEMO", tmp_path)
    CrystalTable.read(benchmark.HERE.parent / "data" / "demo" / "pbe.parquet").select(range(7)).write(
        tmp_path / "pbe.parquet"
    )
    benchmark.write_crystals(tmp_path / "table.parquet", 17)
    written = CrystalTable.read(tmp_path / "table.parquet")
    assert len(set(written.ids)) == len(written) == 17
    assert pq.read_metadata(tmp_path / "table.parquet").num_row_groups == 3


def test_tasks_say_how_much_they_did(table, tmp_path):
    store = tmp_path / "store"
    with benchmark._peak_memory(every=0.001) as peak:
        spent, crystals = benchmark._building(table, store)
    assert spent > 0
    assert crystals == len(CrystalTable.read(table)) == 150
    assert peak["resident"] > peak["own"] > 1e7
    assert benchmark._batches(table, store, batches=2)[1] == 2 * benchmark.BATCH
    assert benchmark._training(table, store, steps=2)[1] == 2 * benchmark.BATCH


@pytest.mark.slow
def test_main_writes_what_the_figure_reads(tmp_path):
    out = tmp_path / "growth.json"
    benchmark.main(["--sizes", "200", "300", "--folder", str(tmp_path), "--out", str(out)])
    data = read_growth(out)
    assert sorted(set(data["crystals"])) == [200, 300]
    assert list(tmp_path.iterdir()) == [out]
    assert len(growth(data).axes) == 2


MEMORY = {"resident": 5e8, "own": 3e8}


@pytest.fixture
def stored(tmp_path):
    rows = [
        {
            "crystals": n,
            "task": task,
            "seconds_per_crystal": 1e-4 * n**0.01,
            "resident": 5e8,
            "own": 3e8,
            "disk": 1e3 * n,
        }
        for n in (1000, 100_000)
        for task in benchmark.TASKS
    ]
    content = {"crystals": "Made up.", "batch": 128, "provenance": {"machine": {"processor": "Abacus"}}, "rows": rows}
    (tmp_path / "growth.json").write_text(json.dumps(content))
    return tmp_path / "growth.json"


def test_units(stored):
    data = read_growth(stored)
    assert data.loc[0, "microseconds"] == pytest.approx(100 * 1000**0.01)
    assert data.loc[0, ["own_mb", "resident_mb"]].tolist() == [300, 500]
    assert data["disk_mb"].tolist() == [1] * 3 + [100] * 3
    assert data.attrs["machine"] == "One core of Abacus; batches of 128."


def test_figure_shows_every_task_in_both_panels(stored):
    data = read_growth(stored)
    times, memory = growth(data).axes
    for ax, column in ((times, "microseconds"), (memory, "own_mb")):
        drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
        for task, rows in data.groupby("task"):
            np.testing.assert_allclose(drawn[task], rows[column])
    assert sum(np.array_equal(line.get_ydata(), [500, 500]) for line in memory.lines) == len(benchmark.TASKS)
    assert [line.get_gid() for line in memory.lines].count("disk") == 1
    assert memory.get_ylim()[0] == 0


def test_other_files_are_refused(stored):
    with pytest.raises(CgatError, match=r"none does not exist; python -m benchmarks\.growth writes it"):
        read_growth(stored.with_name("none"))
    stored.write_text("{}")
    with pytest.raises(CgatError, match=r"is not what python -m benchmarks\.growth writes"):
        read_growth(stored)
