"""Graph stores on disk: what is written is read back, whoever wrote it, and damage is noticed."""

import csv
import multiprocessing
import re
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from cgatlib import CgatError
from cgatlib.crystals.crystal import Crystal
from cgatlib.crystals.table import CrystalTable
from cgatlib.files import PACKAGE
from cgatlib.graphs import store
from cgatlib.graphs.packing import DTYPES, pack
from cgatlib.graphs.store import GraphStore, build_store, store_path
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.store import Runs
from cgatlib.training import TrainingConfig

SPARSE = Crystal("lonely", 30 * np.eye(3), np.array([1]), np.zeros((1, 3)), {"e_form": 0.5})


@pytest.fixture(scope="module")
def built(table, tiny_graph, tmp_path_factory) -> GraphStore:
    return build_store(table, tmp_path_factory.mktemp("stores") / "pbe", tiny_graph)


def same_arrays(first: GraphStore, second: GraphStore) -> bool:
    return all(np.array_equal(getattr(first.graphs, name), getattr(second.graphs, name)) for name in DTYPES)


def test_round_trip(built, table, tiny_graph):
    opened = GraphStore.open(built.path)
    cells = [(c.lattice, c.numbers, c.frac_coords) for c in table]
    direct, _ = pack(cells, tiny_graph)
    for name in DTYPES:
        array = getattr(opened.graphs, name)
        assert isinstance(array.base, np.memmap)
        np.testing.assert_array_equal(array, getattr(direct, name))
    assert len(opened) == len(table)
    assert list(opened.ids) == table.ids
    assert list(opened.formulas) == table.formulas
    assert opened.config == tiny_graph
    assert (opened.functional, opened.table_fingerprint) == ("PBE", table.fingerprint)
    np.testing.assert_array_equal(opened.label("e_form"), table.label("e_form"))
    assert opened.label("e_form").flags.writeable  # PyTorch warns of arrays that are not


def test_missing_labels_are_nan_and_unknown_ones_are_refused(other_table, tiny_graph, tmp_path):
    opened = build_store(other_table, tmp_path / "pbesol", tiny_graph)
    np.testing.assert_array_equal(np.isnan(opened.label("e_form")), np.arange(len(other_table)) % 7 == 0)
    with pytest.raises(CgatError, match="has no label 'band_gap'; known: e_form, volume_per_atom"):
        opened.label("band_gap")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_chunks_and_processes_give_the_same_store(workers, built, table, tiny_graph, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_CHUNK", 31)
    other = build_store(table, tmp_path / "chunked", tiny_graph, workers)
    assert same_arrays(built, other)
    assert other.crystals.equals(built.crystals)


def test_few_chunks_are_held_at_a_time(table, tiny_graph, monkeypatch):
    monkeypatch.setattr(store, "_CHUNK", 10)
    sent, seen = [], 0

    class Counting(ThreadPoolExecutor):  # threads start faster
        def submit(self, *work):
            sent.append(work)
            return super().submit(*work)

    monkeypatch.setattr(store, "Processes", Counting)
    for taken, (rows, (graphs, _)) in enumerate(store.packed_chunks(table, tiny_graph, workers=2)):
        assert len(sent) - taken <= 5
        assert len(graphs) == len(rows)
        seen += len(rows)
    assert seen == len(table)


def test_fingerprint_changes_with_the_content_only(built, table, tiny_graph, tmp_path):
    def fingerprint(table, config=tiny_graph):
        return build_store(table, tmp_path / "again", config).fingerprint

    assert fingerprint(table) == built.fingerprint
    assert fingerprint(table, replace(tiny_graph, neighbours=5)) != built.fingerprint
    assert fingerprint(table.select(range(100))) != built.fingerprint
    crystals = list(table)
    crystals[3].labels["e_form"] += 1e-9
    assert fingerprint(CrystalTable.from_crystals(crystals, "PBE")) != built.fingerprint


def test_crystals_without_a_graph_are_in_the_rejects_file(table, tiny_graph, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_CHUNK", 3)
    crystals = list(table)[:10]
    mixed = CrystalTable.from_crystals([SPARSE, *crystals[:5], SPARSE, *crystals[5:]], "PBE")
    opened = build_store(mixed, tmp_path / "mixed", tiny_graph)
    with (tmp_path / "mixed" / "rejects.csv").open(newline="") as file:
        rejects = list(csv.DictReader(file))
    reason = "atom 0 has 0 neighbours within 18 Å, fewer than 4"
    assert rejects == [{"material_id": "lonely", "reason": reason}] * 2
    assert len(opened) + len(rejects) == len(mixed)
    assert list(opened.ids) == [c.material_id for c in crystals]
    clean = build_store(CrystalTable.from_crystals(crystals, "PBE"), tmp_path / "clean", tiny_graph)
    assert same_arrays(opened, clean)


def test_a_table_without_any_graph_is_refused_and_leaves_nothing(tiny_graph, tmp_path):
    with pytest.raises(CgatError, match="no crystal has a graph: atom 0 has 0 neighbours within 18 Å, fewer than 4"):
        build_store(CrystalTable.from_crystals([SPARSE], "PBE"), tmp_path / "none", tiny_graph)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_leaves_nothing_that_opens(table, tiny_graph, tmp_path, monkeypatch):
    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_fingerprint", killed)
    with pytest.raises(KeyboardInterrupt):
        build_store(table, tmp_path / "store", tiny_graph)
    monkeypatch.undo()
    assert not (tmp_path / "store").exists()
    assert len(build_store(table, tmp_path / "store", tiny_graph)) == len(table)


def flipped(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("edges.bin", flipped, "damaged is damaged: its files are not those that were written; remove it"),
        ("crystals.arrow", flipped, "damaged is damaged: its files are not those that were written; remove it"),
        ("crystals.arrow", None, r"is incomplete: crystals\.arrow missing; remove it"),
        ("edges.bin", lambda content: content[:-1], r"edges\.bin has \d+ bytes where \d+ were"),
        ("store.json", lambda meta: meta[:40], "cannot be read"),
        ("store.json", lambda meta: b"[" * 100_000, "cannot be read"),
        (
            "store.json",
            lambda meta: meta.replace(b'"neighbours": 4', b'"neighbours": "4"'),
            "store.json: config: neighbours must be int",
        ),
        ("store.json", lambda meta: meta.replace(b'"code"', b'"coda"'), "store.json has an unknown value, 'coda'"),
        ("store.json", lambda meta: meta.replace(b'"edges"', b'"hedges"'), "has other arrays"),
        ("store.json", None, r"is not a graph store: it has no store\.json"),
    ],
)
def test_a_damaged_store_is_refused_and_built_again(name, damage, reason, table, tiny_graph, tmp_path):
    path = build_store(table.select(range(20)), tmp_path / "damaged", tiny_graph).path
    if damage is None:
        (path / name).unlink()
    else:
        (path / name).write_bytes(damage((path / name).read_bytes()))
    with pytest.raises(CgatError, match=reason):
        GraphStore.open(path)
    if name != "store.json" or damage is not None:  # it is ours
        assert len(build_store(table.select(range(20)), path, tiny_graph)) == 20


def test_files_of_another_time_are_read_once(table, tiny_graph, tmp_path, monkeypatch):
    """A copied store is compared with its fingerprint, one that lies where it was written is not."""
    read, digest = [], store.hashlib.sha256
    monkeypatch.setattr(store.hashlib, "sha256", lambda *content: read.append(1) or digest(*content))
    opened = build_store(table.select(range(20)), tmp_path / "first", tiny_graph)
    read.clear()
    GraphStore.open(opened.path)
    assert read == []
    shutil.copytree(opened.path, tmp_path / "copy", copy_function=shutil.copyfile)
    for _ in range(2):
        assert GraphStore.open(tmp_path / "copy").fingerprint == opened.fingerprint
    assert read == [1]


def test_folders_of_others_stay(table, tiny_graph, tmp_path):
    """Also a store that somebody put something into."""
    build_store(table.select(range(20)), tmp_path / "store", tiny_graph)
    (tmp_path / "mine").mkdir()
    for name in ("store", "mine"):
        (tmp_path / name / "thesis.tex").write_text("\\title")
        with pytest.raises(CgatError, match=rf"{name} exists and is not a graph store: it is not replaced"):
            build_store(table, tmp_path / name, tiny_graph)
        assert (tmp_path / name / "thesis.tex").exists()


def test_another_store_is_replaced_and_the_same_is_kept(table, tiny_graph, tmp_path, caplog, monkeypatch):
    out = tmp_path / "store"
    build_store(table.select(range(20)), out, tiny_graph)
    build_store(table.select(range(30)), out, tiny_graph)
    assert caplog.messages == [f"{out} (a graph store) exists and is replaced"]
    monkeypatch.setattr(store, "packed_chunks", None)  # would fail if called
    assert len(build_store(table.select(range(30)), out, tiny_graph)) == 30


def test_graphs_of_other_code_are_built_again(table, tiny_graph, tmp_path, monkeypatch):
    place, out = store_path(tmp_path, table.fingerprint, tiny_graph), build_store(table, tmp_path / "out", tiny_graph)
    monkeypatch.setattr(store, "graph_code", lambda: "0" * 16)
    assert store_path(tmp_path, table.fingerprint, tiny_graph) != place
    before = out.path.stat().st_ino
    assert build_store(table, out.path, tiny_graph).path.stat().st_ino != before


def test_graph_code_covers_what_it_imports(imported):
    says_nothing = {"crystals.crystal", "crystals.table", "processes", "files", "values"}
    needed = set().union(*(imported(module) for module in store._GRAPH_CODE))
    assert needed - says_nothing <= set(store._GRAPH_CODE)


def build(table, config, cache, log):
    chunks = store.packed_chunks

    def counted(*arguments):
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.1)
        return chunks(*arguments)

    store.packed_chunks = counted  # in this process alone
    for neighbours in (2, 3):
        assert len(build_store(table, cache / str(neighbours), replace(config, neighbours=neighbours))) == len(table)


def test_of_three_processes_one_builds_what_all_use(table, tiny_graph, tmp_path):
    context = multiprocessing.get_context("fork")
    arguments = (table, tiny_graph, tmp_path / "cache", tmp_path / "log")
    processes = [context.Process(target=build, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == 2 * "built\n"
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {"2", "3"}  # nothing else


@pytest.mark.parametrize("name", ["../../x", "", "a/b", "."])
def test_a_fingerprint_is_no_path(name, tiny_graph, tmp_path):
    with pytest.raises(CgatError, match="is no fingerprint of a table"):
        store_path(tmp_path, name, tiny_graph)


FOREIGN = ("pymatgen", "ase", "spglib")


def test_training_from_a_store_needs_no_pymatgen(table, tiny_graph, tiny_model, tmp_path, imported, monkeypatch):
    """Neither what is imported at the top of a module that training imports, nor what is imported on the way."""
    reached, more = set(), {"runs.store"}
    while more:
        reached |= more
        more = set().union(*map(imported, more)) - reached
    files = {name: PACKAGE.joinpath(*name.split(".")).with_suffix(".py") for name in reached}
    tops = {name: path.read_text() for name, path in files.items() if path.exists()}
    assert len(tops) > 15
    assert not [
        name for name, text in tops.items() if re.search(rf"^(from|import) ({'|'.join(FOREIGN)})\b", text, re.M)
    ]
    build_store(table, store_path(tmp_path / "graphs", table.fingerprint, tiny_graph), tiny_graph)
    for name in [name for name in sys.modules if name.partition(".")[0] in FOREIGN] + [*FOREIGN]:
        monkeypatch.setitem(sys.modules, name, None)  # an import of it fails
    training = TrainingConfig(steps=2, evaluations=1)
    experiment = Experiment(table.fingerprint, "PBE", "e_form", graph=tiny_graph, model=tiny_model, training=training)
    assert Runs(tmp_path / "runs", cache=tmp_path / "graphs").get(experiment).metrics["n_train"] > 0
