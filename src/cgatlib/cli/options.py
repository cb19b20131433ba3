"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cgatlib import CgatError

PATH = click.Path(path_type=Path)
TABLE = click.argument("table", type=click.Path(path_type=Path, exists=True, dir_okay=False))
FUNCTIONAL = click.option("--functional", help="Functional of the table, if the file does not state it.")
WORKERS = click.option("--workers", type=click.IntRange(1), default=1, help="Processes.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def several(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator, in the order given."""

    def apply(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


def whole_numbers(context: click.Context, option: click.Parameter, text: str | None) -> list[int]:
    """Read ``0,1,2``; nothing is an empty list."""
    words = text.split(",") if text else []
    if not all(word.strip().isdecimal() for word in words):
        raise CgatError(f"--{option.name} takes whole numbers such as 0,1,2, not {text!r}")
    return [int(word) for word in words]


def known_column(text: str) -> tuple[str, str]:
    """Read ``band_gap=gap_pbe``: a label and the column of its known values."""
    label, _, column = text.partition("=")
    if not label or not column:
        raise CgatError(f"--known takes a label and a column, such as band_gap=gap_pbe, not {text!r}")
    return label, column


def unit_of(label: str) -> str:
    """Unit of a property."""
    from cgatlib.crystals.crystal import PROPERTIES

    return PROPERTIES[label].unit
