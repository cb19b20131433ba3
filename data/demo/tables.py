"""From raw energies to the two tables: formation energies, convex hulls, the r2SCAN subset, parquet."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
from decoration import Candidate
from labelling import Cache
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element
from references import Reference
from tqdm import tqdm

from cgatlib.crystals.crystal import Crystal, check
from cgatlib.crystals.table import CrystalTable

SOURCE = {
    "PBE": "CHGNet 0.3.0 surrogate labels (PBE/PBE+U level, Materials Project 2020 corrections), not DFT",
    "r2SCAN": "CHGNet r2SCAN surrogate labels (chgnet 0.4.2), not DFT",
}
KEPT_ELEMENTAL = 4  # elemental prototypes of each element in the set: the lowest ones
E_FORM_RANGE = (-6.0, 6.0)  # eV/atom; beyond it the potential is out of its depth
MAX_SWELLING = 2.5  # volume over that of the elements; beyond it the prototype's shape makes no sense for the compound
NEIGHBOURS = 24


@dataclass(frozen=True)
class Row:
    """A labelled crystal before the hull is known."""

    material_id: str
    candidate: Candidate
    volume: float  # Å³/atom
    e_form: float  # eV/atom

    @property
    def amounts(self) -> dict[str, int]:
        """Atoms of each element in the cell."""
        return dict(Counter(Element.from_Z(int(z)).symbol for z in self.candidate.numbers))


def formation_rows(
    numbered: Sequence[tuple[str, Candidate]], cache: Cache, references: Mapping[str, Reference]
) -> tuple[list[Row], Counter[str]]:
    """Rows of all candidates with a minimum, and how many were dropped for which reason."""
    rows, dropped = [], Counter[str]()
    for material_id, candidate in numbered:
        result = cache.rows[candidate.key]
        if "reason" in result:
            dropped[result["reason"]] += 1
            continue
        symbols = [Element.from_Z(int(z)).symbol for z in candidate.numbers]
        e_form = result["energy"] - float(np.mean([references[symbol].energy for symbol in symbols]))
        swelling = result["volume"] / float(np.mean([references[symbol].volume for symbol in symbols]))
        row = Row(material_id, candidate, result["volume"], round(e_form, 6))
        if not E_FORM_RANGE[0] < e_form < E_FORM_RANGE[1]:
            dropped["formation energy beyond 6 eV/atom"] += 1
        elif len(candidate.elements) > 1 and swelling > MAX_SWELLING:
            dropped[f"more than {MAX_SWELLING} times the volume of the elements"] += 1
        elif reason := check(to_crystal(row, 0.0), noble_gases=False, neighbours=NEIGHBOURS):
            dropped[reason.split(":")[0]] += 1
        else:
            rows.append(row)
    return rows, dropped


def lowest_elemental(rows: Iterable[Row]) -> list[Row]:
    """The KEPT_ELEMENTAL lowest prototypes of each element."""
    groups = defaultdict(list)
    for row in rows:
        groups[row.candidate.elements[0]].append(row)
    return [row for group in groups.values() for row in sorted(group, key=lambda r: r.e_form)[:KEPT_ELEMENTAL]]


@dataclass(frozen=True)
class HullDistance:
    """Energy above the hull (eV/atom) and the ids of the compounds on the hull into which the crystal decomposes."""

    energy: float
    products: tuple[str, ...]


def hull_distances(rows: Sequence[Row]) -> dict[str, HullDistance]:
    """Distance of each row to the hull of the rows and the elemental references (zero)."""
    systems: dict[frozenset[str], list[Row]] = defaultdict(list)
    for row in rows:
        systems[frozenset(row.candidate.elements)].append(row)
    distances = {}
    for system, members in tqdm(systems.items(), desc="hulls", unit="system", mininterval=10):
        entries = {row.material_id: _entry(row) for row in members}
        others = [
            _entry(row)
            for size in range(2, len(system))
            for part in combinations(sorted(system), size)
            for row in systems.get(frozenset(part), [])
        ]
        elements = [PDEntry(Composition(symbol), 0.0) for symbol in sorted(system)]
        diagram = PhaseDiagram([*elements, *others, *entries.values()])
        for material_id, entry in entries.items():
            products, energy = diagram.get_decomp_and_e_above_hull(entry)
            names = tuple(sorted(str(product.name) for product in products if len(product.composition) > 1))
            distances[material_id] = HullDistance(max(0.0, round(float(energy), 6)), names)
    return distances


def _entry(row: Row) -> PDEntry:
    return PDEntry(Composition(row.amounts), row.e_form * sum(row.amounts.values()), name=row.material_id)


def to_crystal(row: Row, e_above_hull: float) -> Crystal:
    """The crystal at its equilibrium volume, with its labels."""
    cell = row.candidate.prototype.structure
    scale = (row.volume * len(cell) / cell.volume) ** (1 / 3)
    lattice = cell.lattice.matrix * scale
    labels = {
        "e_form": row.e_form,
        "e_above_hull": e_above_hull,
        "volume_per_atom": round(abs(float(np.linalg.det(lattice))) / len(cell), 6),
    }
    return Crystal(row.material_id, lattice, row.candidate.numbers, cell.frac_coords % 1.0, labels)


def write_table(
    rows: Sequence[Row], distances: Mapping[str, HullDistance], functional: str, path: Path
) -> CrystalTable:
    """Write one level's table; every row must pass the package's own check of imported crystals."""
    crystals = [to_crystal(row, distances[row.material_id].energy) for row in rows]
    for crystal in crystals:
        if reason := check(crystal, noble_gases=False, neighbours=NEIGHBOURS):
            raise ValueError(f"{crystal.material_id} ({crystal.formula}): {reason}")
    table = CrystalTable.from_crystals(crystals, functional, SOURCE[functional])
    prototypes = pa.array([row.candidate.prototype.label for row in rows], pa.string())
    table = CrystalTable(table.table.append_column("prototype", prototypes), functional, SOURCE[functional])
    table.write(path)
    return table


@dataclass(frozen=True)
class SubsetRule:
    """Which rows get labels at the second level."""

    size: int
    tail: int  # random rows further than `near` from the hull and nearer than `limit`
    near: float = 0.1  # eV/atom
    limit: float = 0.8  # eV/atom, as the paper's random part


def choose_subset(rows: Sequence[Row], distances: Mapping[str, HullDistance], rule: SubsetRule, seed: int) -> list[Row]:
    """Elements and known compounds, a random tail, then all near the hull, then random ones on it until it is full.

    Every row brings the compounds it decomposes into, so that distances to the hull of the subset mean something.
    """
    random = np.random.default_rng(seed)
    shuffled = [rows[i] for i in random.permutation(len(rows))]
    energy = {row.material_id: distances[row.material_id].energy for row in rows}
    tail = [r for r in shuffled if rule.near <= energy[r.material_id] < rule.limit][: rule.tail]
    near = [r for r in shuffled if 0 < energy[r.material_id] < rule.near]
    stable = [r for r in shuffled if energy[r.material_id] == 0]
    always = [r for r in shuffled if r.candidate.rule in ("known", "element")]
    chosen: set[str] = set()
    for row in [*always, *tail, *near, *stable]:
        new = {row.material_id, *distances[row.material_id].products} - chosen
        if len(chosen) + len(new) <= rule.size:
            chosen |= new
    return [row for row in rows if row.material_id in chosen]
