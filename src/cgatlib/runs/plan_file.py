"""Plan files: YAML that declares crystal tables and the runs on them, checked field by field.

A file holds ``about`` (a sentence), ``tables``, ``defaults`` and ``runs``; `Entry` lists the fields of a run, which
override those of ``defaults``. A table is a file (``{file: hse.parquet, functional: HSE}``) or several tables in one
(``{join: [pbe, hse]}``), whose rows have the labels of both: ``band_gap``, and ``band_gap@HSE`` of the second. With
``space_groups: true`` it has the space groups, too, and another fingerprint. A plan may come from somebody else, so
that the work it can ask for is bounded.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from cgatlib import CgatError
from cgatlib.crystals.crystal import PROPERTIES, functional_name
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.model.cgat import MODELS
from cgatlib.runs import sources
from cgatlib.runs.plan_yaml import load_yaml
from cgatlib.transfer import STEPLESS

MOST_RUNS, MOST_IN_A_ROW = 5_000, 10
"""Runs and trials of a plan, and entries each of which needs the one before."""
_NAME = re.compile(r"\w[\w .+-]{0,99}")  # a table's is part of a file's name
_UNPRINTED = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Start:
    """The entry whose networks are transferred; ``None`` takes its run of the same seed and split, of its only size."""

    run: str
    seed: int | None = None
    split: int | None = None
    size: int | None = None


@dataclass(frozen=True)
class Entry:
    """One entry of a plan, which stands for a run of every seed, size and split.

    Args:
        name: in the plan. table: name of a table. label: property to learn. more_labels: learnt beside it.
        seeds: of the runs. sizes: of the training set; ``None`` takes all. splits: seeds of the split.
        groups: what a split keeps together, as in `SplitConfig`.
        model: name of a model and graph configuration; network, graph: changes to them.
        start: what is transferred (``from`` in the file). transfer: fields of `TransferConfig`.
        rates: learning rates; of several, the best is found by trial. rate_of: the entry whose rate is taken instead.
        training: fields of `TrainingConfig`.
    """

    name: str
    table: str
    label: str
    model: str
    seeds: tuple[int, ...] = (0,)
    sizes: tuple[int | None, ...] = (None,)
    splits: tuple[int, ...] = (0,)
    groups: str = "formula"
    network: Mapping[str, Any] = field(default_factory=dict)
    graph: Mapping[str, Any] = field(default_factory=dict)
    start: Start | None = None
    transfer: Mapping[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    rate_of: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    more_labels: tuple[str, ...] = ()

    @property
    def needs(self) -> set[str]:
        """Names of the entries without which its runs are not known."""
        return {name for name in (self.start.run if self.start else None, self.rate_of) if name is not None}


Fits = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str) and not _UNPRINTED.search(value)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -1e300 < value < 1e300


def _whole(value: Any) -> bool:
    return isinstance(value, int) and _number(value) and 0 <= value < 2**31


def _or_null(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


def _each(fits: Fits) -> Fits:
    return lambda value: isinstance(value, list) and bool(value) and all(map(fits, value))


def _by_name(fits: Fits) -> Fits:
    return lambda value: isinstance(value, dict) and all(map(_text, value)) and all(map(fits, value.values()))


_TEXT = ("a word", _text)
_WHOLE = ("a whole number from 0 to 2147483647", _whole)
_NUMBER = ("a finite number", _number)
_WHOLES = ("a list of whole numbers from 0 to 2147483647", _each(_whole))
_WORDS = ("a list of words", _each(_text))
_TRUTH = ("true or false", lambda value: isinstance(value, bool))
_SETTINGS = ("settings by name", _by_name(lambda value: True))
_COLUMNS = ("names of columns by label", _by_name(_text))
_KINDS = {bool: _TRUTH, int: _WHOLE, float: _NUMBER, str: _TEXT, tuple: _WHOLES}

_TRANSFER = {
    "mode": _TEXT,
    "target_statistics": _TEXT,
    "reinitialise_head": _TRUTH,
    "test_crystals": _TEXT,
    "source_label": _TEXT,
    "head_first": _NUMBER,
    "interpolate": _TRUTH,
}
_TRAINING = {
    "steps": _WHOLE,
    "batch_size": _WHOLE,
    "weight_decay": _NUMBER,
    "cycles": _WHOLE,
    "lowest": _NUMBER,
    "evaluations": _WHOLE,
    "validation_size": ("a whole number or null", _or_null(_whole)),
    "precision": _TEXT,
    "schedule": _TEXT,
    "averaging": _NUMBER,
    "clip": ("a number or null", _or_null(_number)),
    "patience": ("a number or null", _or_null(_number)),
    "trunk_rate": _NUMBER,
    "label_weights": ("a list of numbers", _each(_number)),
}
_RUN = {
    "table": _TEXT,
    "label": _TEXT,
    "model": _TEXT,
    "seeds": _WHOLES,
    "sizes": (
        "a list of whole numbers above 0 or null",
        _each(lambda size: size is None or (_whole(size) and size > 0)),
    ),
    "splits": _WHOLES,
    "more_labels": _WORDS,
    "groups": _TEXT,
    "network": _SETTINGS,
    "graph": _SETTINGS,
    "from": (
        "a run's name or {run: ..., seed: ..., split: ..., size: ...}",
        lambda value: _text(value) or isinstance(value, dict),
    ),
    "learning_rate": (
        "a number, a list of numbers or {of: run}",
        lambda value: _number(value) or isinstance(value, dict) or _each(_number)(value),
    ),
    **_TRANSFER,
    **_TRAINING,
}
_TABLE = {
    "file": _TEXT,
    "functional": _TEXT,
    "labels": _COLUMNS,
    "agree": (
        "[column, share] by label",
        _by_name(lambda value: isinstance(value, list) and len(value) == 2 and _text(value[0]) and _number(value[1])),
    ),
    "space_groups": _TRUTH,
    "pairs": _COLUMNS,
    "fingerprint": ("16 hexadecimal digits", lambda value: _text(value) and bool(re.fullmatch("[0-9a-f]{16}", value))),
    "origin": _TEXT,
}
_JOINED = {"join": _WORDS, **{name: _TABLE[name] for name in ("space_groups", "fingerprint", "origin")}}
_START = {"run": _TEXT, "seed": _WHOLE, "split": _WHOLE, "size": _WHOLE}
_PLAN = {"about": _TEXT, "tables": _SETTINGS, "defaults": _SETTINGS, "runs": _SETTINGS}
assert set(sources.FIELDS) <= set(_TABLE)


def read_plan(path: Path) -> tuple[str, dict[str, dict[str, Any]], dict[str, Entry]]:
    """What a plan file says: its sentence, its tables and its entries by name.

    Raises:
        CgatError: not YAML, beyond the bounds above, a name given twice, unknown, missing or with odd characters, a
            value of the wrong kind, or runs that need each other.
    """
    content = load_yaml(Path(path))
    _check(f"{path}", content, _PLAN, ("about", "tables", "runs"))
    for what in ("tables", "runs"):
        for name in content[what]:
            if not _NAME.fullmatch(name):
                raise CgatError(
                    f"{path}: {what}: {_shown(name)} is no name: up to 100 letters, digits, '_. +-' make one"
                )
    _check_tables(content["tables"])
    defaults = content.get("defaults", {})
    _check("defaults", defaults, _RUN)
    entries = {name: _entry(name, defaults, values) for name, values in content["runs"].items()}
    for entry in entries.values():
        known: list[tuple[str, str | None, Iterable[str]]] = [
            ("table", entry.table, content["tables"]),
            *(("label", label, PROPERTIES) for label in (entry.label, *entry.more_labels)),
            ("model", entry.model, MODELS.keys() & GRAPHS.keys()),
            ("from", entry.start.run if entry.start else None, entries),
            ("learning_rate of", entry.rate_of, entries),
        ]
        for what, value, names in known:
            if value is not None and value not in names:
                raise CgatError(f"run {entry.name}: unknown {what} {value!r}; known: {', '.join(sorted(names))}")
    _refuse_too_much(path, entries)
    return content["about"], content["tables"], entries


def _check_tables(tables: Mapping[str, Any]) -> None:
    """Check the declarations of tables, and give each its functional in our writing; a joined one has its first's."""
    alone = {name: table for name, table in tables.items() if not (isinstance(table, dict) and "join" in table)}
    for name, table in alone.items():
        _check(f"table {name}", table, _TABLE, ("file", "functional"))
        table["functional"] = functional_name(table["functional"])
    for name in tables.keys() - alone.keys():
        _check(f"table {name}", tables[name], _JOINED)
        parts = tables[name]["join"]
        for part in parts:
            if part not in alone:
                raise CgatError(f"table {name}: unknown table {part!r} to join; known: {', '.join(alone)}")
        if len(set(parts)) < max(2, len(parts)):
            raise CgatError(f"table {name}: join must name several tables, each once")
        tables[name]["functional"] = alone[parts[0]]["functional"]


def _refuse_too_much(path: Path, entries: Mapping[str, Entry]) -> None:
    try:
        order = list(TopologicalSorter({name: entry.needs for name, entry in entries.items()}).static_order())
    except CycleError as error:
        raise CgatError(f"runs that need each other: {' -> '.join(error.args[1][::-1])}") from error
    depth: dict[str, int] = {}
    for name in order:
        depth[name] = 1 + max((depth[other] for other in entries[name].needs), default=0)
        if depth[name] > MOST_IN_A_ROW:
            raise CgatError(f"run {name} is the last of more than {MOST_IN_A_ROW} runs that need each other in a row")
    runs = sum(math.prod(map(len, (e.seeds, e.sizes, e.splits))) + len(e.rates) for e in entries.values())
    if runs > MOST_RUNS:
        raise CgatError(f"{path}: a plan has at most {MOST_RUNS} runs and trials, not {runs}")


def _entry(name: str, defaults: Mapping[str, Any], values: Any) -> Entry:
    _check(f"run {name}", values, _RUN)
    merged = {**defaults, **values}
    rate, needed = merged.pop("learning_rate", None), ["table", "label", "model"]
    _check(f"run {name}", merged, _RUN, needed)
    if rate is None and merged.get("mode") not in STEPLESS:
        raise CgatError(f"run {name} does not state its learning_rate")
    if isinstance(rate, dict):
        _check(f"run {name}: learning_rate", rate, {"of": _TEXT}, ["of"])
    start = merged.pop("from", None)
    if isinstance(start, dict):
        _check(f"run {name}: from", start, _START, ["run"])
    fields: dict[str, Any] = {
        "start": Start(**(start if isinstance(start, dict) else {"run": start})) if start is not None else None,
        "transfer": {key: merged.pop(key) for key in _TRANSFER if key in merged},
        "training": {key: merged.pop(key) for key in _TRAINING if key in merged},
        "rate_of": rate["of"] if isinstance(rate, dict) else None,
        "rates": () if rate is None or isinstance(rate, dict) else tuple(rate if isinstance(rate, list) else [rate]),
        **{key: tuple(merged.pop(key)) for key in ("seeds", "sizes", "splits", "more_labels") if key in merged},
    }
    return Entry(name=name, **merged, **fields)


def refuse_misfits(where: str, values: Mapping[str, Any], config: Any) -> None:
    """Raise `CgatError` unless `values` are fields of the dataclass `config` and of the kinds of its own values."""
    own = {item.name: getattr(config, item.name) for item in fields(config)}
    _check(where, values, {name: _KINDS.get(type(value), ("", lambda _: True)) for name, value in own.items()})


def _check(where: str, values: Any, known: Mapping[str, tuple[str, Fits]], needed: Iterable[str] = ()) -> None:
    if not isinstance(values, dict):
        raise CgatError(f"{where} must be settings by name, not {_shown(values)}")
    for name, value in values.items():
        if name not in known:
            raise CgatError(f"{where}: unknown field {_shown(name)}; known: {', '.join(known)}")
        what, fits = known[name]
        if not fits(value):
            raise CgatError(f"{where}: {name} must be {what}, not {_shown(value)}")
    for name in needed:
        if name not in values:
            raise CgatError(f"{where} does not state its {name}")


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # more digits than Python writes out
        text = f"a number of more than {2**12} digits"
    return text if len(text) <= 100 else f"{text[:100]}..."
