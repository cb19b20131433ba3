"""Training, validation and test parts that never share a composition.

A reduced formula is assigned to a part by a hash of its text and the split's seed, not by its place in a table.
Polymorphs of one formula, and the same material under another functional, therefore always fall on the same side, in
every table and on every machine, so a pre-trained network has not seen the compositions it is tested on later.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cgatlib import CgatError
from cgatlib.values import refuse_unknown

if TYPE_CHECKING:
    from cgatlib.crystals.table import CrystalTable
    from cgatlib.graphs.store import GraphStore

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class SplitConfig:
    """Shares of the groups that fall into each part; the paper uses 80/10/10.

    Args:
        seed: another seed gives another split. train, validation, test: shares that add up to 1.
        groups: what stays together: all crystals of a reduced ``"formula"``; only those of one ``"material_id"``, which
            lets polymorphs of a test crystal be trained on; all of a ``"chemical_system"``, a set of elements; or all
            of a ``"space_group"``, of which there are so few that the shares of the parts scatter.
    """

    seed: int = 0
    train: float = 0.8
    validation: float = 0.1
    test: float = 0.1
    groups: Literal["formula", "material_id", "chemical_system", "space_group"] = "formula"

    def __post_init__(self) -> None:
        refuse_unknown(self, "split")
        shares = (self.train, self.validation, self.test)
        if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
            raise CgatError(f"train, validation and test must be positive and add up to 1, not {shares}")


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, ascending."""

    train: Indices
    validation: Indices
    test: Indices


def groups_of(crystals: "CrystalTable | GraphStore", config: SplitConfig) -> Sequence[str]:
    """What a split keeps together, one text per row; `CgatError` where the space groups are not known."""
    if config.groups == "space_group":
        return [str(number) for number in crystals.space_groups]
    if config.groups == "chemical_system":
        return ["-".join(sorted(set(re.findall("[A-Z][a-z]?", formula)))) for formula in crystals.formulas]
    return crystals.formulas if config.groups == "formula" else crystals.ids


def _uniform(texts: Sequence[str], salt: str) -> NDArray[np.float64]:
    """A number in [0, 1) for each text, (len(texts),), the same on every machine."""
    key = salt.encode()
    digests = (hashlib.blake2b(text.encode(), digest_size=8, key=key).digest() for text in texts)
    return np.fromiter((int.from_bytes(d, "little") for d in digests), dtype=np.uint64, count=len(texts)) / 2.0**64


def split(groups: Sequence[str], config: SplitConfig) -> Split:
    """Rows of each part.

    Args:
        groups: what ``config.groups`` names, one per row.

    Raises:
        CgatError: a part is empty (too few groups).
    """
    place = _uniform(groups, f"split-{config.seed}")
    bounds = (config.train, config.train + config.validation)
    part = np.searchsorted(bounds, place, side="right")
    rows = [np.flatnonzero(part == i) for i in range(3)]
    for name, found in zip(("training", "validation", "test"), rows, strict=True):
        if len(found) == 0:
            raise CgatError(f"the {name} part is empty: {len(set(groups))} groups are too few for {config}")
    return Split(*rows)


def training_subset(rows: Indices, ids: Sequence[str], size: int | None, seed: int) -> Indices:
    """The first `size` of `rows` in an order that depends on material id and seed alone, ascending.

    A smaller subset is contained in a larger one of the same seed. ``None`` takes all rows.

    Raises:
        CgatError: `size` is not between 1 and the number of rows.
    """
    if size is None:
        return rows
    if not 1 <= size <= len(rows):
        raise CgatError(f"a training subset of {size} crystals was asked for; the training part has {len(rows)}")
    order = np.argsort(_uniform([ids[row] for row in rows], f"subset-{seed}"), kind="stable")
    return np.sort(rows[order[:size]])
