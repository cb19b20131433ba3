"""What crystal tables hold, in numbers: kept as files, summaries stand in for tables that are not here.

A summary holds counts, moments and histograms, and no label of a single crystal.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from cgatlib import CgatError
from cgatlib.crystals.crystal import GAP_THRESHOLD
from cgatlib.crystals.sources import Source
from cgatlib.crystals.summary import element_counts
from cgatlib.crystals.table import CrystalTable
from cgatlib.evaluation.statistics import Estimate, histogram_edges, redraw_formulas

FOLDER = "tables"
"""Summaries are kept in the folder of this name among the stored runs, one JSON file per fingerprint."""


@dataclass(frozen=True)
class Shift:
    """How a quantity changes from the table `TableSummary.reference` to this one, over the crystals of both.

    Args:
        crystals: their number. means: in the reference, and here.
        excess: first over second mean, minus 1, with its 95 % interval (value, low, high), formulas being redrawn.
    """

    crystals: int
    means: tuple[float, float]
    excess: tuple[float, float, float]

    @classmethod
    def of(cls, pairs: pd.DataFrame) -> Shift:
        """Of a table ``formula``, ``first``, ``second``."""
        sums = pairs.groupby("formula")[["first", "second"]].sum().to_numpy()
        means = float(pairs["first"].mean()), float(pairs["second"].mean())
        if not sums.any():
            return cls(len(pairs), means, (0.0, -math.inf, math.inf))
        drawn = redraw_formulas(lambda weights: weights @ sums, np.arange(len(sums)))
        with np.errstate(divide="ignore", invalid="ignore"):
            value, resampled = (np.divide(some[..., 0], some[..., 1]) - 1 for some in (sums.sum(axis=0), drawn))
        found = Estimate.of(float(value), resampled)
        return cls(len(pairs), means, (found.value, found.low, found.high))


@dataclass(frozen=True)
class LabelSummary:
    """Distribution of one label of a table, in the label's unit.

    Args:
        count: crystals that carry it. median, mean, deviation: of their values (standard deviation with n - 1).
        edges: ends of the bins, common to all tables that were summarised together.
        crystals: number in each bin; the tails outside are in no bin.
        difference: mean difference to the value of the same crystal in the table `reference`.
        pairs: number of those crystals; without any, `difference` and what follows is None.
        shift: of the label. metals: of a band gap, of being a metal (1) or not (0).
    """

    count: int
    median: float
    mean: float
    deviation: float
    edges: tuple[float, ...]
    crystals: tuple[int, ...]
    difference: float | None = None
    pairs: int = 0
    shift: Shift | None = None
    metals: Shift | None = None


@dataclass(frozen=True)
class TableSummary:
    """A crystal table in numbers.

    Args:
        fingerprint, functional: of the table. origin: of its labels, as its source states it.
        kept: number of crystals. formulas: number of different reduced formulas.
        refused: number of crystals refused at the import, by reason.
        labels: by name, in the order of the table. elements: crystals that contain each element, by symbol.
        reference: fingerprint of the table that `LabelSummary.difference` refers to.
    """

    fingerprint: str
    functional: str
    origin: str
    kept: int
    formulas: int
    refused: Mapping[str, int]
    labels: Mapping[str, LabelSummary]
    elements: Mapping[str, int]
    reference: str

    def __len__(self) -> int:
        return self.kept

    def without(self, labels: Collection[str]) -> TableSummary:
        """The same without some of its labels."""
        return replace(self, labels={name: part for name, part in self.labels.items() if name not in labels})

    def write(self, stored: Path) -> Path:
        """Write the summary among the stored results in the folder `stored`, and return its file."""
        path = stored / FOLDER / f"{self.fingerprint}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path

    @classmethod
    def read(cls, stored: Path, fingerprint: str) -> TableSummary:
        """The summary of a table among the stored results; `CgatError` where there is none, or its file is damaged."""
        try:
            text = (Path(stored) / FOLDER / f"{fingerprint}.json").read_bytes()
            found = TypeAdapter(cls).validate_json(text, strict=True)
            if found.fingerprint != fingerprint:
                raise ValueError(f"it is of table {found.fingerprint}")
            for name, label in found.labels.items():
                if not (binned := sum(label.crystals)) <= label.count <= len(found):
                    raise ValueError(f"{name} has {binned} crystals in its bins, {label.count} values of {len(found)}")
        except (OSError, ValueError) as error:
            why = " ".join(str(error).split())
            raise CgatError(f"the summary of table {fingerprint} cannot be read: {why}") from error
        return found


def summary_problems(stored: Path) -> Iterator[tuple[Path, str]]:
    """Summaries among the stored results of a folder that cannot be read or whose counts contradict each other."""
    for path in sorted((stored / FOLDER).glob("*.json")):
        try:
            TableSummary.read(stored, path.stem)
        except CgatError as error:
            yield path, str(error)


def summarise(sources: Mapping[str, Source], reference: str) -> dict[str, TableSummary]:
    """Summaries of imported tables by name, with common bins; `reference` is the one that labels are compared with."""
    tables = [source.table for source in sources.values()]
    edges = {}
    for label in dict.fromkeys(label for table in tables for label in table.labels):
        known = np.concatenate([table.label(label) for table in tables if label in table.labels])
        edges[label] = histogram_edges(known[~np.isnan(known)])
    return {name: _summary(source, edges, sources[reference].table) for name, source in sources.items()}


def _summary(source: Source, edges: Mapping[str, list[float]], reference: CrystalTable) -> TableSummary:
    table = source.table
    reasons = source.rejects["reason"].str.split(":").str[0]  # behind the colon stands the row's own value
    return TableSummary(
        fingerprint=table.fingerprint,
        functional=table.functional,
        origin=source.origin,
        kept=len(table),
        formulas=len(set(table.formulas)),
        refused=dict(sorted(Counter(reasons).items())),
        labels={label: _label(table, label, edges[label], reference) for label in table.labels},
        elements=element_counts(table),
        reference=reference.fingerprint,
    )


def _label(table: CrystalTable, label: str, edges: list[float], reference: CrystalTable) -> LabelSummary:
    values = pd.Series(table.label(label), index=table.ids).dropna()
    summary = LabelSummary(
        count=len(values),
        median=float(values.median()),
        mean=float(values.mean()),
        deviation=float(values.std()),
        edges=tuple(edges),
        crystals=tuple(np.histogram(values, edges)[0].tolist()),
    )
    if table is reference or label not in reference.labels:
        return summary
    other = pd.Series(reference.label(label), index=reference.ids)
    formulas = pd.Series(table.formulas, index=table.ids)
    pairs = pd.DataFrame({"formula": formulas, "first": other.reindex(table.ids), "second": values}).dropna()
    if pairs.empty:
        return summary
    metals = pairs.assign(**{name: (pairs[name] <= GAP_THRESHOLD).astype(float) for name in ("first", "second")})
    return replace(
        summary,
        difference=float((pairs["second"] - pairs["first"]).mean()),
        pairs=len(pairs),
        shift=Shift.of(pairs),
        metals=Shift.of(metals) if label == "band_gap" else None,
    )


def distributions(tables: Iterable[TableSummary]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Histograms and numbers of all labels, as `cgatlib.figures.data.label_histograms` draws them."""
    bins, numbers = [], []
    for table in tables:
        for name, label in table.labels.items():
            place = {"label": name, "functional": table.functional}
            rows = {"low": label.edges[:-1], "high": label.edges[1:], "crystals": label.crystals}
            bins.append(pd.DataFrame({**place, **rows}))
            numbers.append({**place, "count": label.count, "median": label.median, "mean": label.mean})
    return pd.concat(bins, ignore_index=True), pd.DataFrame(numbers)
