"""Other methods get exactly our splits, and nothing that tells them a label."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition

from cgatlib import CgatError
from cgatlib.crystals.table import CrystalTable
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.plan import Plan
from cgatlib.runs.trainer import parts_of
from cgatlib.splits import SplitConfig

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def peers():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        yield lambda name: importlib.import_module(f"benchmarks.peers.{name}")


@pytest.fixture(scope="module")
def crystals() -> CrystalTable:
    table = CrystalTable.read(ROOT / "data/demo/r2scan.parquet")
    return table.select(np.arange(0, len(table), 40))


@pytest.fixture(scope="module")
def folder(peers, crystals, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    peers("export").task_of("r2scan-e_form", crystals, "e_form", 2, 60).write(folder)
    return folder


def test_parts_are_those_of_our_runs(peers, crystals, folder):
    task = peers("tasks").Task.read(folder, "r2scan-e_form")
    assert task.splits == [0, 1]
    for seed in task.splits:
        split = SplitConfig(seed=seed)
        ours = parts_of(
            Experiment(crystals.fingerprint, crystals.functional, "e_form", train_size=60, split=split), crystals
        )
        for part, rows in task.parts(seed).items():
            np.testing.assert_array_equal(task.labels[rows], crystals.label("e_form")[getattr(ours, part)])
            assert [task.formulas[row] for row in rows] == [crystals.formulas[row] for row in getattr(ours, part)]
    assert task.structures[3].composition.reduced_composition.almost_equals(Composition(task.formulas[3]))
    assert "material_id" not in task.table.column_names


def test_a_scaled_crystal_does_not_tell_its_volume(peers, crystals):
    scaled, crystal = peers("export").scaled, crystals.crystal(5)
    cells = [scaled((s * crystal.lattice).ravel(), crystal.numbers, crystal.frac_coords.ravel()) for s in (0.8, 1, 1.3)]
    np.testing.assert_allclose([cells[0], cells[2]], [cells[1]] * 2, rtol=1e-9)
    kept = crystal.lattice != 0
    ratio = np.reshape(cells[0], (3, 3))[kept] / crystal.lattice[kept]
    assert ratio.max() == pytest.approx(ratio.min())  # the shape stays


def test_labels_are_not_written_into_the_repository(peers):
    with pytest.raises(CgatError, match="lies in the repository"):
        peers("export").export("scan-gap", Path("data"), ROOT / "benchmarks/peers")


def test_results_are_taken_up_where_they_were_left(peers, folder, tmp_path):
    path = tmp_path / "r2scan-e_form/boosting.json"
    peers("results").run("boosting", "r2scan-e_form", folder, tmp_path)
    record = json.loads(path.read_text())
    assert [(fit["split"], fit["seed"], fit["n_train"]) for fit in record["fits"]] == [(0, 0, 60), (1, 0, 60)]
    path.write_text(json.dumps({**record, "fits": record["fits"][1:]}))
    peers("results").run("boosting", "r2scan-e_form", folder, tmp_path)
    again = json.loads(path.read_text())["fits"]
    assert again[0]["mae"] == record["fits"][0]["mae"]
    assert again[1] == record["fits"][1]  # not computed again


def test_the_kernel_learns_from_an_embedding(peers, folder):
    task = peers("tasks").Task.read(folder, "r2scan-e_form")
    parts = task.parts(0)
    embedding = np.column_stack([task.labels, np.ones(len(task.labels))])
    embedding[parts["test"][0]] = np.nan  # a crystal that the network refused
    fitted = peers("kernel").fit(embedding, task, parts)
    errors = np.abs(fitted.predictions - task.labels[parts["test"]])
    assert np.median(errors) < 0.2 * np.std(task.labels)


def test_stored_results_are_of_the_tables_and_parts_of_our_runs(peers):
    tables = Plan.read(ROOT / "data/plans/converged.yaml").tables
    described = (ROOT / "data/peers/README.md").read_text()
    for path in (ROOT / "data/peers").glob("*/*.json"):
        record, target = json.loads(path.read_text()), peers("tasks").TARGETS[path.parent.name]
        assert (record["fingerprint"], record["label"]) == (tables[target.table]["fingerprint"], target.label)
        assert (ROOT / record["pins"]).is_file()
        assert all(f"`{name}`" in described for name in record)
        assert all(f".{name}`" in described or f"[].{name}" in described for fit in record["fits"] for name in fit)
        assert all(fit["n_train"] == (target.train_size or fit["n_train"]) for fit in record["fits"])
