"""What the readers share: which labels to take from a row, and what makes a row or a file unreadable."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cgatlib import CgatError
from cgatlib.crystals.crystal import PROPERTIES, BadRow, Crystal, Geometry, Reject, labels_among

MISSING_WORDS = frozenset({"", "na", "n/a", "none", "null", "-"})
"""Ways in which text sources write that a value is missing; ``nan`` is not among them, it is a bad value."""

VOLUME = "volume_per_atom"


@dataclass(frozen=True)
class ReadOptions:
    """What the user asked of a source.

    Attributes:
        labels: our name -> their name; empty means the names known for the format. Our name alone
            (``{"e_form": ""}``) asks for the known names of that label.
        allow_missing: keep rows that lack some, not all, of the labels asked for.
        id_column: column or key with the id, where it is none of the known ones.
        structure_column: column or key with the structure, likewise.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    allow_missing: bool = False
    id_column: str | None = None
    structure_column: str | None = None

    def __post_init__(self) -> None:
        for name in self.labels:
            if name not in PROPERTIES:
                raise CgatError(f"unknown label {name!r}; known: {', '.join(PROPERTIES)}")


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
        known: Mapping[str, tuple[str, ...]],
        always: Collection[str] = (),
        columns: Sequence[str] | None = None,
    ) -> LabelPlan:
        """Plan from the user's labels, else from the ``known`` names of the format.

        ``always`` are the labels which every row of the format carries. With ``columns``, the complete list of a
        table's columns, known names that are not among them are left out.

        Raises:
            CgatError: a column asked for is not in ``columns`` or in it twice, or none of them is a label.
        """
        asked = {ours: (theirs,) if theirs else known.get(ours, (ours,)) for ours, theirs in options.labels.items()}
        keys = {VOLUME: (VOLUME,), **(asked or known)}
        required = frozenset() if options.allow_missing else frozenset(asked or always) - {VOLUME}
        if columns is not None:
            keys = {ours: tuple(k for k in theirs if k in columns) for ours, theirs in keys.items()}
            for ours in asked:
                if not keys[ours] and ours != VOLUME:
                    there = ", ".join(map(repr, columns))
                    raise CgatError(f"no column {asked[ours][0]!r} for {ours}; there are: {there}")
            keys = {ours: theirs for ours, theirs in keys.items() if theirs}
            if not keys and not asked:
                names = ", ".join(name for theirs in known.values() for name in theirs)
                raise CgatError(
                    f"no column is a label known here ({names}); name one, e.g. --label e_form=COLUMN, or take the "
                    f"volume alone with --label {VOLUME}; there are: {', '.join(map(repr, columns))}"
                )
            twice = [k for theirs in keys.values() for k in theirs if list(columns).count(k) > 1]
            if twice:
                raise CgatError(f"column {twice[0]!r} is there more than once: which one is meant?")
        return cls(keys, required)

    @property
    def names(self) -> tuple[str, ...]:
        """The labels a table made by this plan carries, the volume included."""
        return tuple(labels_among([*self.keys, VOLUME]))

    def pick(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Return the labels of one row.

        Raises:
            BadRow: a required label or every label is missing, or a value is not a number.
        """
        labels = {}
        for ours, theirs in self.keys.items():
            values = [v for v in (row.get(key) for key in theirs) if not _is_missing(v)]
            if values:
                labels[ours] = _number(ours, values[0])
            elif ours in self.required:
                raise BadRow(f"label missing: {ours} (no value under {' or '.join(map(repr, theirs))})")
        wanted = [name for name in self.keys if name != VOLUME]
        if wanted and not labels:
            raise BadRow(f"label missing: none of {', '.join(wanted)}")
        return labels


def usual_columns() -> dict[str, tuple[str, ...]]:
    """Names under which tables of others carry each property; the volume is taken from the lattice."""
    return {name: p.columns for name, p in PROPERTIES.items() if name != VOLUME}


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in MISSING_WORDS)


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        raise BadRow(f"label not a number: {name} is a {type(value).__name__}")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise BadRow(f"label not a number: {name} = {str(value)[:40]!r}") from None
    if not math.isfinite(number):
        raise BadRow(f"label not a number: {name} = {number}")
    return number


def row_id(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return the first id found under ``keys`` as text, empty where there is none."""
    for key in keys:
        value = row.get(key)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value).strip()
    return ""


def place(path: Path, index: int | str) -> str:
    """Name a row of a file: ``file#index``."""
    return f"{path}#{index}"


def is_text(text: str) -> bool:
    """Whether a text can be written: JSON and files may hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def crystal_or_reject(
    where: str, material_id: str, make: Callable[[], tuple[Geometry, dict[str, float]]]
) -> Crystal | Reject:
    """Return the crystal that ``make`` builds, or the reject that its ``BadRow`` explains."""
    if not material_id:
        return Reject("", "id missing", where)
    if not is_text(material_id):
        return Reject(material_id, "undecodable id: not UTF-8", where)
    try:
        geometry, labels = make()
    except BadRow as error:
        return Reject(material_id, str(error), where)
    return Crystal(material_id, geometry.lattice, geometry.numbers, geometry.frac_coords, labels, where)
