"""What a peer is given: crystals, values and parts, in one file a target that needs no cgatlib to be read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from pymatgen.core import Structure

PARTS = ("train", "validation", "test")
META = b"peers"


@dataclass(frozen=True)
class Target:
    """A label of a table of `data/plans/converged.yaml`, its number of splits and of training crystals (None: all)."""

    table: str
    label: str
    splits: int = 1
    train_size: int | None = None


TARGETS = {
    "hse-gap": Target("hse", "band_gap"),
    "scan-gap": Target("scan", "band_gap", splits=5),
    "r2scan-e_form": Target("r2scan", "e_form", splits=5),
    "pbesol-volume": Target("pbesol", "volume_per_atom"),
    "r2scan-volume": Target("r2scan", "volume_per_atom", train_size=4000),
}


@dataclass(frozen=True)
class Method:
    """What the stored results say of a peer.

    Attributes:
        name: in words. reference: DOI. licence: of package and weights. packages: whose versions are noted.
        pretraining: what its weights were trained on. seeded: whether it depends on a seed.
    """

    name: str
    reference: str
    licence: str
    packages: tuple[str, ...]
    pretraining: str | None = None
    seeded: bool = False


@dataclass(frozen=True)
class Fitted:
    """Predictions for the test part, (n_test,), what the validation part chose, and among how many settings."""

    predictions: np.ndarray
    choices: Mapping[str, float | str]
    trials: int


@dataclass(frozen=True, eq=False)
class Task:
    """The labelled crystals of a target.

    Attributes:
        name: of the target. about: ``label``, ``unit``, ``functional``, ``fingerprint`` (of the table).
        table: rows of ``formula``, ``numbers``, ``lattice``, ``frac_coords``, ``composition``, ``value`` and a column
            ``split_<seed>`` that names each row's part.
    """

    name: str
    about: Mapping[str, str]
    table: pa.Table

    @classmethod
    def read(cls, folder: Path, name: str) -> "Task":
        """The task that `write` left in a folder."""
        table = pq.read_table(folder / f"{name}.parquet")
        return cls(name, json.loads(table.schema.metadata[META]), table)

    def write(self, folder: Path) -> None:
        """Keep it, in a folder outside the repository."""
        table = self.table.replace_schema_metadata({META: json.dumps(dict(self.about))})
        pq.write_table(table, folder / f"{self.name}.parquet")

    @cached_property
    def formulas(self) -> list[str]:
        """Reduced formulas, one a row."""
        return self.table["formula"].to_pylist()

    @cached_property
    def labels(self) -> np.ndarray:
        """Labels, (n,), in ``about["unit"]``."""
        return self.table["value"].to_numpy()

    @cached_property
    def composition(self) -> np.ndarray:
        """`cgatlib.crystals.composition.composition_features`, (n, 110)."""
        return np.array(self.table["composition"].to_pylist())

    @cached_property
    def structures(self) -> "list[Structure]":
        """The crystals; of a volume target, scaled as `export.scaled` does."""
        from pymatgen.core import Lattice, Structure

        columns = (self.table[name].to_pylist() for name in ("lattice", "numbers", "frac_coords"))
        return [
            Structure(Lattice(np.reshape(lattice, (3, 3))), numbers, np.reshape(places, (-1, 3)))
            for lattice, numbers, places in zip(*columns, strict=True)
        ]

    @property
    def splits(self) -> list[int]:
        """Seeds of the splits."""
        return [int(name.removeprefix("split_")) for name in self.table.column_names if name.startswith("split_")]

    def parts(self, split: int) -> dict[str, np.ndarray]:
        """Rows of each of `PARTS`."""
        named = np.array(self.table[f"split_{split}"].to_pylist())
        return {part: np.flatnonzero(named == part) for part in PARTS}
