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
    peers("export").task_of("r2scan-e_form", crystals, "e_form", range(2), 60).write(folder)
    return folder


def test_parts_are_those_of_our_runs(peers, crystals, folder):
    task = peers("tasks").Task.read(folder, "r2scan-e_form")
    assert task.splits == [0, 1]
    assert task.about["fingerprint"] == crystals.fingerprint
    known = np.flatnonzero(~np.isnan(crystals.label("e_form")))
    for seed in task.splits:
        experiment = Experiment(
            crystals.fingerprint, crystals.functional, "e_form", train_size=60, split=SplitConfig(seed=seed)
        )
        ours, theirs = parts_of(experiment, crystals), task.parts(seed)
        for part, rows in vars(ours).items():
            np.testing.assert_array_equal(known[theirs[part]], rows)
            np.testing.assert_array_equal(task.labels[theirs[part]], crystals.label("e_form")[rows])
    assert task.structures[3].composition.reduced_composition.almost_equals(Composition(task.formulas[3]))
    assert "material_id" not in task.table.column_names


def test_a_scaled_crystal_does_not_tell_its_volume(peers, crystals):
    scaled, crystal = peers("export").scaled, crystals.crystal(5)
    cells = [scaled((s * crystal.lattice).ravel(), crystal.numbers, crystal.frac_coords.ravel()) for s in (0.8, 1, 1.3)]
    np.testing.assert_allclose(cells[0], cells[1], rtol=1e-9)
    np.testing.assert_allclose(cells[2], cells[1], rtol=1e-9)
    kept = crystal.lattice != 0
    ratio = np.reshape(cells[0], (3, 3))[kept] / crystal.lattice[kept]
    assert ratio.max() == pytest.approx(ratio.min())  # the shape stays


def test_labels_are_not_written_into_the_repository(peers):
    with pytest.raises(CgatError, match="lies in the repository"):
        peers("export").export("scan-gap", Path("data"), ROOT / "benchmarks/peers", 1, 10)


def test_results_are_kept_and_printed(peers, folder, tmp_path):
    out = tmp_path / "results.json"
    for _ in range(2):  # the second finds everything done
        peers("results").run("boosting", "r2scan-e_form", folder, out, 1)
    (entry,) = json.loads(out.read_text())["results"]
    assert (entry["n_train"], entry["split"], entry["unit"]) == (60, 0, "eV/atom")
    peers("results").add(out, "unavailable", {"method": "modnet", "reason": "no wheel"}, ("method",))
    peers("report").write(out)
    text = out.with_suffix(".md").read_text()
    assert f"| boosting | – | – | {entry['mae']:.3f} (1) | – | – |" in text
    assert "| MEGNet, four fidelities (published) | 0.308 | 0.452 | – | – | – |" in text
    assert "- modnet: no wheel" in text


def test_the_kernel_learns_from_an_embedding(peers, folder):
    task = peers("tasks").Task.read(folder, "r2scan-e_form")
    parts = task.parts(0)
    embedding = np.column_stack([task.labels, np.ones(len(task.labels))])
    embedding[parts["test"][0]] = np.nan  # a crystal that the network refused
    fitted = peers("kernel").fit(embedding, task, parts)
    errors = np.abs(fitted.predictions - task.labels[parts["test"]])
    assert np.median(errors) < 0.2 * np.std(task.labels)
