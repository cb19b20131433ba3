"""Make the demo set again: `python data/demo/make_demo.py` (needs the extra `[demo]`; about an hour on one core).

Every energy found is kept in `_build/demo_cache`: an interrupted run goes on from there, and `--tables` writes the
tables from what is there without computing any more.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from decoration import ELEMENTS, Candidate, compound_candidates, elemental_candidates
from labelling import Cache, Potential, Task, label_all
from prototypes import load_prototypes
from references import find_references, lowest_relaxed, relax_all, relaxation_starts
from report import comparison, shown_compounds, table_statistics, write_datasheet_tables, write_statistics
from start_volumes import REFITS, StartVolumes
from tables import Row, SubsetRule, choose_subset, formation_rows, hull_distances, lowest_elemental, write_table

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "_build" / "demo_cache"
SEED = 0
N_CANDIDATES = 13_000
REFERENCE_PROTOTYPES = 8  # elemental prototypes per element, the lowest at PBE level, that are tried at r2SCAN level
REFERENCE_RELAXATIONS = 2  # the same for the relaxed crystals of the non-metals
SUBSET = SubsetRule(size=3_850, tail=850)


@dataclass
class DemoSet:
    """Candidates and caches of one run."""

    compute: bool  # False: take what the caches hold
    caches: dict[str, Cache] = field(default_factory=lambda: {x: Cache(CACHE / f"{x.lower()}.jsonl") for x in _LEVELS})
    relaxed: dict[str, Cache] = field(
        default_factory=lambda: {x: Cache(CACHE / f"{x.lower()}_relaxed.jsonl") for x in _LEVELS}
    )

    def __post_init__(self) -> None:
        self.prototypes, self.dropped_prototypes = load_prototypes()
        self.elements = elemental_candidates(self.prototypes)
        self.compounds = list(islice(compound_candidates(self.prototypes, SEED), N_CANDIDATES))

    @cached_property
    def numbered(self) -> list[tuple[str, Candidate]]:
        """All candidates with their ids: elements first."""
        return [(f"demo-{i:05d}", candidate) for i, candidate in enumerate([*self.elements, *self.compounds])]

    def label_pbe(self) -> None:
        """Elements first, then the compounds in stages, each starting from the volumes found in the stages before."""
        potential, cache = Potential("PBE"), self.caches["PBE"]
        start, done = StartVolumes([p.label for p in self.prototypes]), list(self.elements)
        label_all(potential, (Task(c, start(c)) for c in done), cache)
        bounds = [*(n for n in REFITS if n < len(self.compounds)), len(self.compounds)]
        for first, last in pairwise(bounds):
            known = [(c, cache.rows[c.key]["volume"]) for c in done if "volume" in cache.rows[c.key]]
            start.fit([c for c, _ in known], [volume for _, volume in known])
            label_all(potential, (Task(c, start(c)) for c in self.compounds[first:last]), cache)
            done += self.compounds[first:last]
        relax_all(potential, relaxation_starts(), self.relaxed["PBE"])

    def label_r2scan(self, subset: Sequence[Row]) -> None:
        """Elemental references and the chosen crystals, each search starting at the PBE volume."""
        potential, cache, pbe = Potential("r2SCAN"), self.caches["r2SCAN"], self.caches["PBE"].rows
        chosen = [row.candidate for row in subset if len(row.candidate.elements) > 1]
        for candidates in (self.reference_candidates(), chosen):
            label_all(potential, [Task(c, pbe[c.key]["volume"]) for c in candidates], cache)
        starts = lowest_relaxed(self.relaxed["PBE"], REFERENCE_RELAXATIONS)
        relax_all(potential, starts, self.relaxed["r2SCAN"])

    def reference_candidates(self) -> list[Candidate]:
        """The lowest elemental prototypes at PBE level, REFERENCE_PROTOTYPES of each element."""
        energies = {key: row["energy"] for key, row in self.caches["PBE"].rows.items() if "energy" in row}
        found = [c for c in self.elements if c.key in energies]
        found.sort(key=lambda c: energies[c.key])
        lowest = {e: [c.key for c in found if c.elements[0] == e][:REFERENCE_PROTOTYPES] for e in ELEMENTS}
        chosen = {key for keys in lowest.values() for key in keys}
        return [c for c in self.elements if c.key in chosen]

    def rows(self, level: str, among: set[str] | None = None) -> tuple[list[Row], Counter[str]]:
        """Rows of a level (of the ids `among`), and the numbers of compounds dropped for each reason."""
        cache = self.caches[level]
        references = find_references(self.elements, cache, self.relaxed[level])
        there = [x for x in self.numbered if x[1].key in cache.rows and (among is None or x[0] in among)]
        elements, _ = formation_rows([x for x in there if len(x[1].elements) == 1], cache, references)
        compounds, dropped = formation_rows([x for x in there if len(x[1].elements) > 1], cache, references)
        return [*(elements if among else lowest_elemental(elements)), *compounds], dropped

    def statistics(self) -> dict[str, Any]:
        """Where the set comes from: prototypes, candidates, references."""
        references = {x: find_references(self.elements, self.caches[x], self.relaxed[x]) for x in _LEVELS}
        return {
            "seed": SEED,
            "candidates": len(self.compounds),
            "prototypes_dropped": self.dropped_prototypes,
            "references": {
                level: {e: {"energy": round(r.energy, 6), "found_in": r.found_in} for e, r in values.items()}
                for level, values in references.items()
            },
            "energies_per_crystal": {level: _mean_energies(self.caches[level]) for level in _LEVELS},
        }


_LEVELS = ("PBE", "r2SCAN")


def _mean_energies(cache: Cache) -> float:
    counts = [row["n_energies"] for row in cache.rows.values() if "n_energies" in row]
    return round(sum(counts) / len(counts), 2)


def build(demo: DemoSet) -> None:
    """Label (unless told not to) and write the two tables, the statistics and the datasheet's numbers."""
    if demo.compute:
        demo.label_pbe()
    rows, dropped = {}, {}
    rows["PBE"], dropped["PBE"] = demo.rows("PBE")
    distances = {"PBE": hull_distances(rows["PBE"])}
    subset = choose_subset(rows["PBE"], distances["PBE"], SUBSET, SEED)
    if demo.compute:
        demo.label_r2scan(subset)
    rows["r2SCAN"], dropped["r2SCAN"] = demo.rows("r2SCAN", {row.material_id for row in subset})
    distances["r2SCAN"] = hull_distances(rows["r2SCAN"])
    paths = {level: HERE / f"{level.lower()}.parquet" for level in _LEVELS}
    tables = {level: write_table(rows[level], distances[level], level, paths[level]) for level in _LEVELS}
    rules = Counter(c.rule for _, c in demo.numbered if c.key in demo.caches["PBE"].rows)
    kept = Counter(row.candidate.rule for row in rows["PBE"])
    statistics = demo.statistics() | {
        "levels": {level: table_statistics(tables[level], paths[level]) for level in _LEVELS},
        "dropped": {level: dict(dropped[level].most_common()) for level in _LEVELS},
        "rules": [[rule, rules.get(rule, 0), count] for rule, count in kept.most_common()],
        "known_compounds": shown_compounds(tables),
        "comparison": comparison(tables["PBE"], tables["r2SCAN"]),
    }
    write_statistics(statistics, HERE / "statistics.json")
    write_datasheet_tables(statistics, HERE / "DATASHEET.md")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--tables", action="store_true", help="compute nothing, write the tables from the cache")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", module="pymatgen")
    build(DemoSet(compute=not arguments.tables))


if __name__ == "__main__":
    main()
