"""Plan files: YAML that declares crystal tables and the runs on them, checked field by field.

A file holds ``about`` (a sentence), ``tables``, ``defaults`` and ``runs``; `Entry` lists the fields of a run, which
override those of ``defaults``.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cgatlib import CgatError
from cgatlib.crystals.checks import PROPERTIES
from cgatlib.crystals.schema import functional_name
from cgatlib.experiments import sources
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.model.cgat import MODELS


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


def _is(kind: type | tuple[type, ...]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _each(kind: type | tuple[type, ...]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(map(_is(kind), value))


_TEXT = ("a word", _is(str))
_WHOLE = ("a whole number", _is(int))
_NUMBER = ("a number", _is((int, float)))
_NUMBER_OR_NULL = ("a number or null", _is((int, float, type(None))))
_WHOLES = ("a list of whole numbers", _each(int))
_WORDS = ("a list of words", _each(str))
_SETTINGS = ("settings by name", lambda value: isinstance(value, dict) and all(isinstance(n, str) for n in value))

_TRANSFER = {
    "mode": _TEXT,
    "target_statistics": _TEXT,
    "reinitialise_head": ("true or false", _is(bool)),
    "test_crystals": _TEXT,
    "source_label": _TEXT,
}
_TRAINING = {
    "steps": _WHOLE,
    "batch_size": _WHOLE,
    "weight_decay": _NUMBER,
    "cycles": _WHOLE,
    "lowest": _NUMBER,
    "evaluations": _WHOLE,
    "validation_size": ("a whole number or null", _is((int, type(None)))),
    "precision": _TEXT,
    "schedule": _TEXT,
    "averaging": _NUMBER,
    "clip": _NUMBER_OR_NULL,
    "patience": _NUMBER_OR_NULL,
    "trunk_rate": _NUMBER,
    "label_weights": ("a list of numbers", _each((int, float))),
}
_RUN = {
    "table": _TEXT,
    "label": _TEXT,
    "model": _TEXT,
    "seeds": _WHOLES,
    "sizes": ("a list of whole numbers or null", _each((int, type(None)))),
    "splits": _WHOLES,
    "more_labels": _WORDS,
    "groups": _TEXT,
    "network": _SETTINGS,
    "graph": _SETTINGS,
    "from": ("a run's name or {run: ..., seed: ..., split: ..., size: ...}", _is((str, dict))),
    "learning_rate": (
        "a number, a list of numbers or {of: run}",
        lambda value: _NUMBER[1](value) or isinstance(value, dict) or _each((int, float))(value),
    ),
    **_TRANSFER,
    **_TRAINING,
}
_TABLE = {
    "file": _TEXT,
    "functional": _TEXT,
    "labels": _SETTINGS,
    "agree": _SETTINGS,
    "pairs": _SETTINGS,
    "fingerprint": _TEXT,
    "origin": _TEXT,
}
_START = {"run": _TEXT, "seed": _WHOLE, "split": _WHOLE, "size": _WHOLE}
_PLAN = {"about": _TEXT, "tables": _SETTINGS, "defaults": _SETTINGS, "runs": _SETTINGS}
assert set(sources.FIELDS) <= set(_TABLE)


def read_plan(path: Path) -> tuple[str, dict[str, dict[str, Any]], dict[str, Entry]]:
    """What a plan file says: its sentence, its tables and its entries by name.

    Raises:
        CgatError: not YAML, a name given twice, unknown or missing, or a value of the wrong kind.
    """
    content = _load(Path(path))
    _check(f"{path}", content, _PLAN, ("about", "tables", "runs"))
    for name, table in content["tables"].items():
        _check(f"table {name}", table, _TABLE, ("file", "functional"))
        table["functional"] = functional_name(table["functional"])
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
    return content["about"], content["tables"], entries


def _entry(name: str, defaults: Mapping[str, Any], values: Any) -> Entry:
    _check(f"run {name}", values, _RUN)
    merged = {**defaults, **values}
    rate, needed = merged.pop("learning_rate", None), ["table", "label", "model"]
    _check(f"run {name}", merged, _RUN, needed)
    if rate is None and merged.get("mode") != "untouched":
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


def _check(
    where: str, values: Any, known: Mapping[str, tuple[str, Callable[[Any], bool]]], needed: Iterable[str] = ()
) -> None:
    if not isinstance(values, dict):
        raise CgatError(f"{where} must be settings by name, not {values!r}")
    for name, value in values.items():
        if name not in known:
            raise CgatError(f"{where}: unknown field {name!r}; known: {', '.join(known)}")
        what, fits = known[name]
        if not fits(value):
            raise CgatError(f"{where}: {name} must be {what}, not {value!r}")
    for name in needed:
        if name not in values:
            raise CgatError(f"{where} does not state its {name}")


class _Loader(yaml.SafeLoader):
    """YAML in which a name given twice is an error and 1e-3 is a number."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise CgatError(f"{name!r} stands twice in the settings that begin in line {node.start_mark.line + 1}")
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _load(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506  # a SafeLoader
    except CgatError as error:
        raise CgatError(f"{path}: {error}") from error
    except (OSError, yaml.YAMLError) as error:
        raise CgatError(f"{path} cannot be read as a plan: {' '.join(str(error).split())}") from error
