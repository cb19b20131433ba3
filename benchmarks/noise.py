"""Rules for neighbour lists compared: test error, cost, and how far predictions move with the description of a crystal.

    python -m benchmarks.noise --data FOLDER    # pbe.parquet of the demo set by default
    python -m benchmarks.noise --data FOLDER --model pbe --out benchmarks/noise_pbe.json

Every rule has networks of the same size and length of training, one for each property and seed. Those of the package
are `GraphConfig`'s; the others are defined here, for comparison alone. With `--model`, a released model of PBE data is
measured instead, on test crystals of the table that it learnt from.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.bench import DEMO, HERE, cells_of, say
from cgatlib.crystals.crystal import Crystal
from cgatlib.crystals.table import CrystalTable
from cgatlib.ensemble import load_model
from cgatlib.graphs.neighbours import GRAPHS, GraphConfig, shell_lists
from cgatlib.graphs.packing import Cell, Lists, PackedGraphs, pack
from cgatlib.inputs import GraphInputs, Inputs, TargetStatistics, predict
from cgatlib.model.cgat import CGAT
from cgatlib.model.config import MODELS
from cgatlib.runs.experiment import Experiment
from cgatlib.runs.provenance import provenance
from cgatlib.splits import SplitConfig, groups_of, split
from cgatlib.training import TrainingConfig, fit

COPIES = (0.005, 0.015, 0.03)  # Å, root mean square displacement of the copies that are trained on
SHARE = 0.6  # of the batches that are made of displaced copies
MOVED = 300  # test crystals whose description is changed
BATCH = 64


def relative_shells(width, centre, neighbour, distance, numbers, config):
    """Whole shells whose members' distances differ by no more than the share `width`: equal shells of the logarithm."""
    shells = replace(config, ties="whole_shells", tolerance=np.log1p(width))
    return shell_lists(centre, neighbour, np.log(distance), numbers, shells)


def gap_shells(gap, centre, neighbour, distance, numbers, config):
    """A shell opens where the distance grows by more than the share `gap`; lists end at the largest gap of k to 2 k."""
    order = np.lexsort((distance, centre))
    centre, neighbour, distance = centre[order], neighbour[order], distance[order]
    start = np.searchsorted(centre, np.arange(len(numbers)))
    column = np.arange(len(centre)) - start[centre]
    growth = np.where(column > 0, distance / np.roll(distance, 1) - 1, 0)
    opened = np.cumsum(growth > gap)
    rank = np.minimum(opened - opened[start][centre] + 1, config.neighbours)
    window = np.full((len(numbers), config.neighbours + 1), -1.0)
    inside = (column >= config.neighbours) & (column <= 2 * config.neighbours)
    window[centre[inside], column[inside] - config.neighbours] = growth[inside]
    kept = column < config.neighbours + window.argmax(axis=1)[centre]
    return centre[kept], neighbour[kept], rank[kept], np.ones(np.count_nonzero(kept), dtype=np.int64)


_WIDE = GraphConfig(12, tolerance=1.0)  # pairs far enough for the rules of this file


@dataclass(frozen=True)
class Rule:
    """A way from crystals to graphs, and whether displaced copies are trained on."""

    graph: GraphConfig
    lists: Lists = shell_lists
    copies: bool = False

    def pack(self, cells: Sequence[Cell]) -> PackedGraphs:
        """The graphs of crystals that all have one."""
        graphs, rejected = pack(cells, self.graph, self.lists)
        if rejected:
            raise SystemExit(f"crystals without a graph: {rejected}")
        return graphs


_SINGLE = {
    "continuous ranks": Rule(GRAPHS["tiny"]),
    "whole shells of 1e-3 Å": Rule(GRAPHS["tiny-shells"]),
    "released code: shells of 1e-8 Å, cut at k": Rule(replace(GRAPHS["released"], neighbours=12)),
    "whole shells, 5 % wide": Rule(_WIDE, partial(relative_shells, 0.05)),
    "shells between gaps of 2 %": Rule(_WIDE, partial(gap_shells, 0.02)),
}
_COPIED = ("continuous ranks", "whole shells, 5 % wide")
RULES = _SINGLE | {f"{name}, displaced copies": replace(_SINGLE[name], copies=True) for name in _COPIED}


def displaced(cell: Cell, rms: float, rng: np.random.Generator) -> Cell:
    """The cell with its atoms moved at random, `rms` Å in the root mean square of the length."""
    lattice, numbers, frac_coords = cell
    step = rng.normal(scale=rms / np.sqrt(3), size=frac_coords.shape)
    return lattice, numbers, frac_coords + step @ np.linalg.inv(lattice)


def rounded(cell: Cell) -> Cell:
    """The cell as a CIF of three decimal digits gives it back: of its lengths, its angles and its coordinates."""
    from pymatgen.core import Lattice

    lattice, numbers, frac_coords = cell
    parameters = np.round(Lattice(lattice).parameters, 3)
    return Lattice.from_parameters(*parameters).matrix, numbers, np.round(frac_coords, 3)


MOVES: Mapping[str, Callable[[Cell, np.random.Generator], Cell]] = {
    "0.002 Å": lambda cell, rng: displaced(cell, 0.002, rng),
    "0.02 Å": lambda cell, rng: displaced(cell, 0.02, rng),
    "three digits": lambda cell, rng: rounded(cell),
}
"""Changes of a crystal's description that leave it what it is for its user."""


def moved(cells: Sequence[Cell], name: str) -> list[Cell]:
    """Cells after the change `name` of `MOVES`; what is drawn for a cell follows from its place in the list."""
    return [MOVES[name](cell, np.random.default_rng([0, place])) for place, cell in enumerate(cells)]


@dataclass(frozen=True)
class WithCopies:
    """Training crystals, of which some batches are made of displaced copies."""

    plain: GraphInputs
    copies: Sequence[PackedGraphs]
    places: np.ndarray  # (n,) of the rows in `copies`

    @property
    def targets(self) -> torch.Tensor:
        """(n,) in the label's unit."""
        return self.plain.targets

    def __len__(self) -> int:
        return len(self.plain)

    def inputs(self, rows: np.ndarray) -> Any:
        """PyG batch of `rows`; which copy is taken follows from the rows."""
        rng = np.random.default_rng(rows)
        if rng.random() >= SHARE:
            return self.plain.inputs(rows)
        return self.copies[rng.integers(len(self.copies))].batch(self.places[rows])


class Bench:
    """A rule's graphs of one table: as they are, displaced copies, other descriptions of test crystals."""

    def __init__(self, table: CrystalTable, rule: Rule) -> None:
        cells, self.table, self.parts = cells_of(table), table, split(table.formulas, SplitConfig())
        self.rule, self.graphs = rule, rule.pack(cells)
        self.tested = np.random.default_rng(0).permutation(self.parts.test)[:MOVED]
        self.moved = {name: rule.pack(moved([cells[i] for i in self.tested], name)) for name in MOVES}
        self.copies = [
            rule.pack([displaced(cells[i], rms, np.random.default_rng([7, i])) for i in self.parts.train])
            for rms in (COPIES if rule.copies else ())
        ]

    def inputs(self, part: str, label: str, n: int | None = None) -> GraphInputs:
        """The first `n` crystals of a part that carry the label."""
        labels, rows = self.table.label(label), getattr(self.parts, part)
        rows = rows[~np.isnan(labels[rows])][:n]
        return GraphInputs(self.graphs, rows, torch.from_numpy(labels[rows]))

    def measure(self, label: str, seed: int, steps: int) -> dict[str, Any]:
        """Train one network; its test error, the time of a step, and how far its predictions move."""
        plain, test = self.inputs("train", label), self.inputs("test", label)
        validation = self.inputs("validation", label, 1000)
        train: Inputs = plain
        if self.copies:
            train = WithCopies(plain, self.copies, np.searchsorted(self.parts.train, plain.indices))
        config = TrainingConfig(steps, BATCH, learning_rate=3e-3, cycles=1, lowest=0.02, evaluations=10)
        continuous = self.rule.graph.ties == "continuous"
        torch.manual_seed(seed)
        network, statistics = CGAT(MODELS["tiny" if continuous else "tiny-shells"]), TargetStatistics.of(train.targets)
        start = time.process_time()
        with TemporaryDirectory() as folder:
            fit(network, train, validation, statistics, config, seed, Path(folder) / "checkpoint.pt")
        spent = (time.process_time() - start) / steps

        def predicted(graphs: PackedGraphs, rows: np.ndarray) -> np.ndarray:
            return predict(network, GraphInputs(graphs, rows, torch.empty(len(rows))), statistics).numpy()

        mae = float((predict(network, test, statistics) - test.targets).abs().mean())
        before, rows = predicted(self.graphs, self.tested), np.arange(len(self.tested))
        change = {
            name: float(np.abs(predicted(graphs, rows) - before).mean() / mae) for name, graphs in self.moved.items()
        }
        return {"test_mae": mae, "change": change, "milliseconds_per_step": 1e3 * spent}


def model_rows(name: str, table: CrystalTable) -> list[dict[str, Any]]:
    """How far the predictions of a released model move, by property, on test crystals of its own table."""
    model = load_model(name)
    if model.card is None or model.card.data["fingerprint"] != table.fingerprint:
        raise SystemExit(f"the model {name} did not learn from a table of fingerprint {table.fingerprint}")
    config = Experiment.from_dict(model.card.members[0].experiment).split
    test = split(groups_of(table, config), config).test
    crystals = [table.crystal(row) for row in np.random.default_rng(0).permutation(test)[:MOVED]]

    def predicted(crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
        frame = model.predict(crystals)
        one = len(model.labels) == 1
        return {label: frame["prediction" if one else f"prediction_{label}"].to_numpy() for label in model.labels}

    before, cells = predicted(crystals), [(c.lattice, c.numbers, c.frac_coords) for c in crystals]
    rows = {label: {"label": label, "test_mae": a.errors.mae, "change": {}} for label, a in model.card.accuracy.items()}
    for move in MOVES:
        new = zip(crystals, moved(cells, move), strict=True)
        after = predicted([replace(c, lattice=cell[0], frac_coords=cell[2]) for c, cell in new])
        for label, row in rows.items():
            row["change"][move] = float(np.abs(after[label] - before[label]).mean() / row["test_mae"])
    return list(rows.values())


def main(given: list[str] | None = None) -> None:
    """Measure, and store row by row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=DEMO, help="folder with a pbe.parquet")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--labels", nargs="+", default=["e_form", "volume_per_atom"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--model", help="a released model of PBE data instead")
    parser.add_argument("--out", type=Path, default=HERE / "noise.json")
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    table, rows = CrystalTable.read(options.data / "pbe.parquet", "PBE"), []
    if options.model:
        content = {"model": options.model, "table": table.fingerprint, "crystals": MOVED, "provenance": provenance()}
        content |= {"rows": model_rows(options.model, table)}
        options.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return
    about = {"table": table.fingerprint, "source": table.source, "steps": options.steps, "batch": BATCH, "moved": MOVED}
    for name in options.rules:
        bench = Bench(table, RULES[name])
        sizes = {"edges": len(bench.graphs.edges), "nodes": len(bench.graphs.nodes)}
        for label, seed in product(options.labels, options.seeds):
            measured = bench.measure(label, seed, options.steps)
            rows.append({"rule": name, "label": label, "seed": seed, **measured, **sizes})
            say(json.dumps(rows[-1], ensure_ascii=False))
            content = {**about, "provenance": provenance(), "rows": rows}
            options.out.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
