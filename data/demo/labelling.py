"""Energies from the two CHGNet potentials, and the resumable labelling of candidates.

Potentials: B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3, and X. Huang et al., npj
Comput. Mater. 11 (2025), doi:10.1038/s41524-025-01796-y; weights from the chgnet package.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from chgnet.model import CHGNet
from decoration import Candidate
from eos import Dropped, Minimum, find_minimum, run_searches
from numpy.typing import NDArray
from pymatgen.core import Element, Lattice, Structure
from tqdm import tqdm

LEVELS = {"PBE": "0.3.0", "r2SCAN": "r2scan"}
CHUNK = 128  # crystals whose equations of state run side by side
BATCH = 16  # graphs per forward pass
MAX_ANGLES = 6000  # bond angles below 3 Å in a cell; the cost of an energy is proportional to them


def decorate(candidate: Candidate, volume_per_atom: float | None = None) -> Structure:
    """The candidate's crystal, at the library's volume or scaled to the given one (Å³/atom)."""
    cell = candidate.prototype.structure
    matrix = cell.lattice.matrix
    if volume_per_atom is not None:
        matrix = matrix * (volume_per_atom * len(cell) / cell.volume) ** (1 / 3)
    species = [Element.from_Z(int(z)) for z in candidate.numbers]
    return Structure(Lattice(matrix), species, cell.frac_coords)


class Potential:
    """One level of theory."""

    def __init__(self, level: str) -> None:
        self.level = level
        self.model = CHGNet.load(model_name=LEVELS[level], use_device="cpu", verbose=False)
        self.n_energies, self.seconds = 0, 0.0

    def energies(self, structures: Sequence[Structure]) -> NDArray[np.float64]:
        """Energies (n,) in eV/atom; NaN where an atom has no neighbour within the potential's cutoff."""
        start = time.perf_counter()
        energies = np.full(len(structures), np.nan)
        graphs, places = [], []
        for i, structure in enumerate(structures):
            if _n_angles(structure) > MAX_ANGLES:
                energies[i] = np.inf
                continue
            try:
                graphs.append(self.model.graph_converter(structure))
                places.append(i)
            except ValueError as error:  # the converter's word for isolated atoms
                if "isolated" not in str(error):
                    raise
        order = sorted(range(len(graphs)), key=lambda i: len(graphs[i].atom_graph))
        with torch.no_grad():
            for first in range(0, len(order), BATCH):
                batch = order[first : first + BATCH]
                predicted = self.model([graphs[i] for i in batch], task="e")["e"]
                energies[[places[i] for i in batch]] = predicted.numpy()
        self.n_energies += len(structures)
        self.seconds += time.perf_counter() - start
        return energies


def _n_angles(structure: Structure) -> int:
    """Ordered pairs of bonds shorter than 3 Å, the potential's bond cutoff, that share an atom."""
    centre = structure.get_neighbor_list(3.0)[0]
    bonds = np.bincount(centre, minlength=len(structure))
    return int((bonds * (bonds - 1)).sum())


@dataclass(frozen=True)
class Task:
    """One crystal to label and the volume (Å³/atom) at which its search starts."""

    candidate: Candidate
    start: float


def label(potential: Potential, tasks: Sequence[Task]) -> list[Minimum | Dropped]:
    """Equations of state of some crystals, side by side."""

    def evaluate(wanted: list[tuple[int, float]]) -> NDArray[np.float64]:
        return potential.energies([decorate(tasks[i].candidate, volume) for i, volume in wanted])

    return run_searches([find_minimum(task.start) for task in tasks], evaluate)


class Cache:
    """Raw results of one level, one JSON line per crystal, appended as they come: an interrupted run goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            for line in path.read_text().splitlines():
                if line.endswith("}"):  # the last line of a killed run may be cut
                    row = json.loads(line)
                    self.rows[row.pop("key")] = row

    def add(self, keys: Iterable[str], results: Iterable[Minimum | Dropped]) -> None:
        """Append results and remember them."""
        with self.path.open("a") as file:
            for key, result in zip(keys, results, strict=True):
                row = {"reason": str(result)} if isinstance(result, Dropped) else asdict(result)
                self.rows[key] = row
                file.write(json.dumps({"key": key, **row}) + "\n")


def label_all(potential: Potential, tasks: Iterable[Task], cache: Cache) -> None:
    """Label what the cache does not hold yet, in order, with a progress bar."""
    todo = [task for task in tasks if task.candidate.key not in cache.rows]
    with tqdm(total=len(todo), desc=potential.level, unit="crystal", mininterval=10) as bar:
        for first in range(0, len(todo), CHUNK):
            chunk = todo[first : first + CHUNK]
            cache.add([task.candidate.key for task in chunk], label(potential, chunk))
            bar.update(len(chunk))
            bar.set_postfix(ms_per_energy=f"{1000 * potential.seconds / potential.n_energies:.1f}")
