"""Which columns or keys of somebody's file hold the id, the structure and our labels."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from cgatlib import CgatError
from cgatlib.crystals.crystal import PROPERTIES, BadRow, labels_among

VOLUME = "volume_per_atom"
ID_COLUMNS = ("material_id", "mat_id", "jid", "id", "mbid", "matpes_id")
STRUCTURE_COLUMNS = ("structure", "cif", "atoms")
MISSING_WORDS = frozenset({"", "na", "n/a", "none", "null", "-"})
"""Ways in which text sources write that a value is missing; ``nan`` is not among them, it is a bad value."""


@dataclass(frozen=True)
class ReadOptions:
    """What the user asked of a source.

    Attributes:
        labels: our name -> their name; empty means the names known for the format. Our name alone
            (``{"e_form": ""}``) asks for the known names of that label.
        allow_missing: keep rows that lack some, not all, of the labels asked for.
        id_column, structure_column: columns or keys with the id and the structure, where they are none of the known.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    allow_missing: bool = False
    id_column: str | None = None
    structure_column: str | None = None

    def __post_init__(self) -> None:
        for name in self.labels:
            if name not in PROPERTIES:
                raise CgatError(f"unknown label {name!r}; known: {', '.join(PROPERTIES)}")

    @property
    def ids(self) -> tuple[str, ...]:
        """Keys under which an id may stand."""
        return (self.id_column,) if self.id_column else ID_COLUMNS

    @property
    def structures(self) -> tuple[str, ...]:
        """Keys under which a structure may stand."""
        return (self.structure_column,) if self.structure_column else STRUCTURE_COLUMNS


@dataclass(frozen=True)
class LabelPlan:
    """Which of a source's keys hold our labels, and which labels a row must have.

    A row without a required label is refused; so is one that has none of the planned labels. The volume is
    planned always and required never, because the lattice gives it.
    """

    keys: Mapping[str, tuple[str, ...]]
    required: frozenset[str]

    @classmethod
    def make(
        cls,
        options: ReadOptions,
        known: Mapping[str, tuple[str, ...]] | None = None,
        always: Collection[str] = (),
        columns: Sequence[str] | None = None,
    ) -> LabelPlan:
        """Plan from the user's labels, else from the ``known`` names of the format, by default the usual ones.

        Args:
            always: labels which every row of the format carries. columns: all of a table, where it names them;
                `CgatError` where one that is asked for is not among them or twice, or none is a label.
        """
        if known is None:
            known = {name: p.columns for name, p in PROPERTIES.items() if name != VOLUME}
        asked = {ours: (theirs,) if theirs else known.get(ours, (ours,)) for ours, theirs in options.labels.items()}
        keys = {VOLUME: (VOLUME,), **(asked or known)}
        required = frozenset() if options.allow_missing else frozenset(asked or always) - {VOLUME}
        return cls(keys if columns is None else _present(keys, asked, columns), required)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels a table made by this plan carries, the volume included."""
        return tuple(labels_among([*self.keys, VOLUME]))

    def pick(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Labels of one row; `BadRow` where a required or every label is missing, or a value is no number."""
        labels = {}
        for ours, theirs in self.keys.items():
            values = [v for v in map(row.get, theirs) if v is not None and str(v).strip().lower() not in MISSING_WORDS]
            if values:
                labels[ours] = _number(ours, values[0])
            elif ours in self.required:
                raise BadRow(f"label missing: {ours} (no value under {' or '.join(map(repr, theirs))})")
        wanted = [name for name in self.keys if name != VOLUME]
        if wanted and not labels:
            raise BadRow(f"label missing: none of {', '.join(wanted)}")
        return labels


def _present(
    keys: Mapping[str, tuple[str, ...]], asked: Mapping[str, tuple[str, ...]], columns: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Those keys that are columns of a table, each once, and at least those that were asked for."""
    there = ", ".join(map(repr, columns))
    found = {ours: tuple(key for key in theirs if key in columns) for ours, theirs in keys.items()}
    for ours, theirs in asked.items():
        if not found[ours] and ours != VOLUME:
            raise CgatError(f"no column {theirs[0]!r} for {ours}; there are: {there}")
    if not any(found.values()) and not asked:
        names = ", ".join(key for ours, theirs in keys.items() if ours != VOLUME for key in theirs)
        raise CgatError(
            f"no column is a label known here ({names}); name one, e.g. --label e_form=COLUMN, or take the "
            f"volume alone with --label {VOLUME}; there are: {there}"
        )
    for key in chain.from_iterable(found.values()):
        if list(columns).count(key) > 1:
            raise CgatError(f"column {key!r} is there more than once: which one is meant?")
    return {ours: theirs for ours, theirs in found.items() if theirs}


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        raise BadRow(f"label not a number: {name} is a {type(value).__name__}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        hint = ", whose decimal sign should be a point" if "," in str(value) else ""
        raise BadRow(f"label not a number: {name} = {str(value)[:40]!r}{hint}") from None
    if not math.isfinite(number):
        raise BadRow(f"label not a number: {name} = {number}")
    return number
