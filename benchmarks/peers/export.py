"""Our splits, exported once: the one module that knows both cgatlib and the peers' files."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
from pymatgen.core import Lattice, Structure

from benchmarks.peers.tasks import Task
from cgatlib import CgatError
from cgatlib.crystals.composition import composition_features
from cgatlib.crystals.crystal import PROPERTIES
from cgatlib.crystals.declared import load_source
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.store import GraphStore
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.plan import Plan
from cgatlib.runs.trainer import parts_of
from cgatlib.splits import SplitConfig

ROOT = Path(__file__).parents[2]
TARGETS = {  # table of the plan, label
    "hse-gap": ("hse", "band_gap"),
    "scan-gap": ("scan", "band_gap"),
    "r2scan-e_form": ("r2scan", "e_form"),
    "r2scan-volume": ("r2scan", "volume_per_atom"),
    "pbesol-volume": ("pbesol", "volume_per_atom"),
}
_LOOSE = 20.0  # Å³/atom, the volume from which the scaling starts


def export(target: str, data: Path, folder: Path, splits: int, most: int) -> None:
    """Write one target's task.

    Args:
        target: of `TARGETS`. data: folder of the real tables. folder: for tasks. splits: number of splits.
        most: training crystals a split.

    Raises:
        CgatError: the folder is in the repository, or the table is not the plan's.
    """
    if ROOT in (folder := folder.resolve()).parents:
        raise CgatError(f"{folder} lies in the repository, where labels of the tables must not be: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    table, label = TARGETS[target]
    declared = Plan.read(ROOT / "data/plans/real_data.yaml").tables[table]
    crystals = load_source(table, declared, data, folder / "tables").table
    if crystals.fingerprint != declared["fingerprint"]:
        raise CgatError(f"table {table} has the fingerprint {crystals.fingerprint}, not {declared['fingerprint']}")
    task_of(target, crystals, label, range(splits), most).write(folder)


def task_of(target: str, crystals: CrystalTable, label: str, splits: range, most: int | None = None) -> Task:
    """The labelled crystals of a table with the parts of every split, as our own runs have them.

    Args:
        most: training crystals at most, those that a run of this ``train_size`` and seed 0 takes; ``None`` for all.
    """
    values = crystals.label(label)
    rows = np.flatnonzero(~np.isnan(values))
    kept = crystals.table.take(rows).select(["formula", "numbers", "lattice", "frac_coords"])
    columns = {name: kept[name] for name in kept.column_names}
    if label == "volume_per_atom":
        columns["lattice"] = pa.array([scaled(*cell) for cell in _cells(kept)])
    columns["composition"] = pa.array(list(composition_features(kept["formula"].to_pylist())))
    columns["value"] = pa.array(values[rows])
    for seed in splits:
        experiment = Experiment(crystals.fingerprint, crystals.functional, label, split=SplitConfig(seed=seed))
        parts = parts_of(experiment, cast(GraphStore, crystals))  # a table has the same ids, formulas and labels
        if most is not None and len(parts.train) > most:
            parts = parts_of(replace(experiment, train_size=most), cast(GraphStore, crystals))
        named = np.full(len(crystals), "unused", dtype="<U10")
        for part, members in vars(parts).items():
            named[members] = part
        columns[f"split_{seed}"] = pa.array(named[rows])
    about = {"label": label, "unit": PROPERTIES[label].unit, "functional": crystals.functional}
    return Task(target, {**about, "fingerprint": crystals.fingerprint}, pa.table(columns))


def scaled(lattice: list[float], numbers: list[int], places: list[float]) -> list[float]:
    """The lattice of a crystal whose volume is not its own but the one its shape and elements suggest.

    A structure would tell its volume to everyone who measures distances. The one given is that of touching atomic
    spheres: the shortest distance, in units of the two radii (Slater, J. Chem. Phys. 41, 3199 (1964),
    doi:10.1063/1.1725697), is one. Our network is blind to it: it sees which neighbours are nearest.
    """
    cell = Structure(Lattice(np.reshape(lattice, (3, 3))), numbers, np.reshape(places, (-1, 3)))
    cell.scale_lattice(_LOOSE * len(cell))
    radii = np.array([float(site.specie.atomic_radius or 1.5) for site in cell])  # noble gases have none
    reach = 2 * radii.max()
    while True:  # until no pair out of reach can be nearer, in units of its radii
        first, second, _, distances = cell.get_neighbor_list(reach)
        factor = (distances / (radii[first] + radii[second])).min(initial=np.inf)
        if factor * 2 * radii.max() <= reach:
            return (cell.lattice.matrix / factor).ravel().tolist()
        reach *= 1.5


def _cells(rows: pa.Table) -> zip:
    return zip(*(rows[name].to_pylist() for name in ("lattice", "numbers", "frac_coords")), strict=True)
