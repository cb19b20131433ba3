"""Our splits, exported once: the one module that knows both cgatlib and the peers' files."""

from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
from pymatgen.core import Lattice, Structure

from benchmarks.peers.tasks import TARGETS, Task
from cgatlib import CgatError
from cgatlib.crystals.composition import composition_features
from cgatlib.crystals.crystal import PROPERTIES
from cgatlib.crystals.sources import load_source
from cgatlib.crystals.table import CrystalTable
from cgatlib.graphs.store import GraphStore
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.plan import Plan
from cgatlib.runs.trainer import parts_of
from cgatlib.splits import SplitConfig

ROOT = Path(__file__).parents[2]
_LOOSE = 20.0  # Å³/atom, the volume from which the scaling starts


def export(name: str, data: Path, folder: Path) -> None:
    """Write one target's task.

    Args:
        name: of `TARGETS`. data: folder of the real tables. folder: for tasks.

    Raises:
        CgatError: the folder is in the repository, or the table is not the plan's.
    """
    if ROOT in (folder := folder.resolve()).parents:
        raise CgatError(f"{folder} lies in the repository, where labels of the tables must not be: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    target = TARGETS[name]
    declared = Plan.read(ROOT / "data/plans/converged.yaml").tables[target.table]
    crystals = load_source(target.table, declared, data, folder / "tables").table
    if crystals.fingerprint != declared["fingerprint"]:
        raise CgatError(
            f"table {target.table} has the fingerprint {crystals.fingerprint}, not {declared['fingerprint']}"
        )
    task_of(name, crystals, target.label, target.splits, target.train_size).write(folder)


def task_of(name: str, crystals: CrystalTable, label: str, splits: int, train_size: int | None = None) -> Task:
    """The crystals of a table that have the label and a part, with the parts of every split as our own runs have them.

    Args:
        train_size: training crystals, those of a run of this size and seed 0; ``None`` for all.
    """
    values, parts = crystals.label(label), np.full((splits, len(crystals)), "", dtype="<U10")
    for seed in range(splits):
        split = SplitConfig(seed=seed)
        e = Experiment(crystals.fingerprint, crystals.functional, label, train_size=train_size, split=split)
        for part, members in vars(parts_of(e, cast(GraphStore, crystals))).items():  # same ids, formulas and labels
            parts[seed, members] = part
    rows = np.flatnonzero((parts != "").any(axis=0))
    kept = crystals.table.take(rows).select(["formula", "numbers", "lattice", "frac_coords"])
    columns = {name: kept[name] for name in kept.column_names}
    if label == "volume_per_atom":
        cells = (kept[name].to_pylist() for name in ("lattice", "numbers", "frac_coords"))
        columns["lattice"] = pa.array([scaled(*cell) for cell in zip(*cells, strict=True)])
    columns["composition"] = pa.array(list(composition_features(kept["formula"].to_pylist())))
    columns["value"] = pa.array(values[rows])
    columns |= {f"split_{seed}": pa.array(parts[seed, rows]) for seed in range(splits)}
    about = {"label": label, "unit": PROPERTIES[label].unit, "functional": crystals.functional}
    return Task(name, {**about, "fingerprint": crystals.fingerprint}, pa.table(columns))


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
