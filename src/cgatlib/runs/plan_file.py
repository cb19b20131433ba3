"""Plan files: YAML that declares crystal tables and the runs on them, checked field by field.

A file holds ``about`` (a sentence), ``tables``, ``defaults`` and ``runs``; `Entry` lists the fields of a run, which
override those of ``defaults``. A table is a file (``{file: hse.parquet, functional: HSE}``) or several tables in one
(``{join: [pbe, hse]}``), whose rows have the labels of both: ``band_gap``, and ``band_gap@HSE`` of the second. With
``space_groups: true`` it has the space groups, too, and another fingerprint. A plan may come from somebody else: it is
read in bounded time and memory, and the work it can ask for is bounded.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from cgatlib import CgatError
from cgatlib.crystals.crystal import PROPERTIES, functional_name
from cgatlib.graphs.neighbours import GRAPHS
from cgatlib.model.config import MODELS
from cgatlib.training import TrainingConfig
from cgatlib.transfer import STEPLESS, TransferConfig

MOST_RUNS, MOST_IN_A_ROW = 5_000, 10
"""Runs and trials of a plan, and entries each of which needs the one before."""
LONGEST, MOST_VALUES = 200_000, 50_000
"""Bytes of a file; values in it, those that aliases repeat included. (Reading such a file takes two seconds.)"""

Word = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0e-\x1f\x7f]*$")]
Name = Annotated[str, Field(pattern=r"^\w[\w .+-]{0,99}$")]  # a table's is part of a file's name
Whole = Annotated[int, Field(ge=0, lt=2**31)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Wholes = Annotated[tuple[Whole, ...], Field(min_length=1)]
Sizes = Annotated[tuple[Annotated[Whole, Field(gt=0)] | None, ...], Field(min_length=1)]
M = TypeVar("M", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Start(_Strict):
    """The entry whose networks are transferred; ``None`` takes its run of the same seed and split, of its only size."""

    run: Word
    seed: Whole | None = None
    split: Whole | None = None
    size: Whole | None = None


class _Of(_Strict):
    of: Word


class _AnyTable(_Strict):
    space_groups: bool = False
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] = ""
    origin: Word = ""


class _Table(_AnyTable):
    file: Word
    functional: Word
    labels: dict[Word, Word] = {}
    agree: dict[Word, tuple[Word, Number]] = {}
    pairs: dict[Word, Word] = {}


class _Joined(_AnyTable):
    join: Annotated[tuple[Word, ...], Field(min_length=2)]


class _File(_Strict):
    about: Word
    tables: dict[Name, Any]
    defaults: dict[Word, Any] = {}
    runs: dict[Name, Any]


def _fields_of(config: Any) -> dict[str, Any]:
    """Fields of a dataclass as those of a model, numbers bounded."""
    bounded: dict[Any, Any] = {int: Whole, float: Number, int | None: Whole | None, float | None: Number | None}
    bounded[tuple[float, ...]] = tuple[Number, ...]
    hints = get_type_hints(config)
    return {f.name: (bounded.get(hints[f.name], hints[f.name]), f.default) for f in fields(config)}


_TRANSFER = _fields_of(TransferConfig)
_TRAINING = {name: kind for name, kind in _fields_of(TrainingConfig).items() if name != "learning_rate"}


class Entry(_Strict):
    """One entry of a plan, which stands for a run of every seed, size and split.

    Args:
        name: in the plan. table: name of a table. label: property to learn. more_labels: learnt beside it.
        seeds: of the runs. sizes: of the training set; ``None`` takes all. splits: seeds of the split.
        groups: what a split keeps together, as in `SplitConfig`.
        model: name of a model and graph configuration; network, graph: changes to them.
        start: what is transferred (``from`` in the file).
        rates: learning rates; of several, the best is found by trial. rate_from: the entry whose rate is taken instead.

    In a file, fields of `TransferConfig` and `TrainingConfig` stand beside these.
    """

    name: str
    table: Word
    label: Word
    model: Word
    seeds: Wholes = (0,)
    sizes: Sizes = (None,)
    splits: Wholes = (0,)
    more_labels: tuple[Word, ...] = ()
    groups: Word = "formula"
    network: dict[Word, Any] = {}
    graph: dict[Word, Any] = {}
    start: Start | None = Field(None, alias="from")
    rates: Annotated[tuple[Number, ...], Field(min_length=1)] = Field((), alias="learning_rate")
    rate_from: _Of | None = Field(None, alias="learning_rate of")

    @model_validator(mode="before")
    @classmethod
    def _written_out(cls, values: Any) -> Any:
        """Short forms written out: ``from: run``, one learning rate, ``learning_rate: {of: run}``."""
        values = dict(values)
        if isinstance(values.get("from"), str):
            values["from"] = {"run": values["from"]}
        rate = values.get("learning_rate")
        if isinstance(rate, dict):
            values["learning_rate of"] = values.pop("learning_rate")
        elif isinstance(rate, int | float):
            values["learning_rate"] = (rate,)
        return values

    @property
    def transfer(self) -> dict[str, Any]:
        """Fields of `TransferConfig` that the entry states."""
        return {name: getattr(self, name) for name in _TRANSFER if name in self.model_fields_set}

    @property
    def training(self) -> dict[str, Any]:
        """Fields of `TrainingConfig` that the entry states."""
        return {name: getattr(self, name) for name in _TRAINING if name in self.model_fields_set}

    @property
    def rate_of(self) -> str | None:
        """The entry whose learning rate is taken."""
        return self.rate_from.of if self.rate_from else None

    @property
    def needs(self) -> set[str]:
        """Names of the entries without which its runs are not known."""
        return {name for name in (self.start.run if self.start else None, self.rate_of) if name is not None}


_Entry: type[Entry] = create_model("_Entry", __base__=Entry, **_TRANSFER, **_TRAINING)


def read_plan(path: Path) -> tuple[str, dict[str, dict[str, Any]], dict[str, Entry]]:
    """What a plan file says: its sentence, its tables and its entries by name.

    Raises:
        CgatError: not YAML, beyond the bounds above, a name given twice, unknown, missing or with odd characters, a
            value of the wrong kind, or runs that need each other.
    """
    content = _checked(_File, load_yaml(Path(path)), f"{path}")
    tables = _tables(content.tables)
    _checked(_Entry, content.defaults, "defaults", whole=False)
    entries: dict[str, Entry] = {}
    for name, values in content.runs.items():
        if not isinstance(values, dict):
            raise CgatError(f"run {name} must be settings by name, not {_shown(values)}")
        entry = entries[name] = _checked(_Entry, {**content.defaults, **values, "name": name}, f"run {name}")
        if not entry.rates and entry.rate_from is None and entry.transfer.get("mode") not in STEPLESS:
            raise CgatError(f"run {name} does not state its learning_rate")
    for entry in entries.values():
        known: list[tuple[str, str | None, Iterable[str]]] = [
            ("table", entry.table, tables),
            *(("label", label, PROPERTIES) for label in (entry.label, *entry.more_labels)),
            ("model", entry.model, MODELS.keys() & GRAPHS.keys()),
            ("from", entry.start.run if entry.start else None, entries),
            ("learning_rate of", entry.rate_of, entries),
        ]
        for what, value, names in known:
            if value is not None and value not in names:
                raise CgatError(f"run {entry.name}: unknown {what} {value!r}; known: {', '.join(sorted(names))}")
    _refuse_too_much(path, entries)
    return content.about, tables, entries


def _tables(declared: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The declarations of tables, each with its functional in our writing; a joined one has its first's."""
    found: dict[str, dict[str, Any]] = {}
    for name, table in declared.items():
        kind = _Joined if isinstance(table, dict) and "join" in table else _Table
        found[name] = _checked(kind, table, f"table {name}").model_dump(exclude_unset=True)
    for name, table in found.items():
        for part in (parts := table.get("join", ())):
            if "file" not in found.get(part, ()):
                raise CgatError(f"table {name}: unknown table {part!r} to join; known: {', '.join(found)}")
        if len(set(parts)) < len(parts):
            raise CgatError(f"table {name}: join must name several tables, each once")
        table["functional"] = functional_name(found[parts[0] if parts else name]["functional"])
    return found


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


def _checked(kind: type[M], values: Any, where: str, whole: bool = True) -> M:
    """The values as a model; `CgatError` names the first that is wrong. Unless `whole`, fields may be missing."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            if whole or problem["type"] != "missing":
                raise CgatError(_sentence(kind, problem, where)) from error
    return kind.model_construct()


_KINDS = {
    **dict.fromkeys(("dict_type", "model_type"), "settings by name"),
    "tuple_type": "a list",
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
}
"""What pydantic calls otherwise, in a reader's words."""


def _sentence(kind: type[BaseModel], problem: Mapping[str, Any], where: str) -> str:
    *place, name = [str(part) for part in problem["loc"]] or [""]
    if problem["type"] == "missing":
        return f"{': '.join([where, *place])} does not state its {name}"
    if problem["type"] == "extra_forbidden":
        models: dict[str, type[BaseModel]] = {"from": Start, "learning_rate of": _Of}
        known = (models[place[0]] if place else kind).model_fields
        names = ", ".join(found.alias or field for field, found in known.items() if field not in ("name", "rate_from"))
        return f"{': '.join([where, *place])}: unknown field {_shown(name)}; known: {names}"
    where = ": ".join(filter(None, [where, *place, name]))
    if problem["type"] in _KINDS:
        return f"{where} must be {_KINDS[problem['type']]}, not {_shown(problem['input'])}"
    return f"{where}: {problem['msg'][:1].lower()}{problem['msg'][1:]}, not {_shown(problem['input'])}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # more digits than Python writes out
        text = f"a number of more than {2**12} digits"
    return text if len(text) <= 100 else f"{text[:100]}..."


class _Loader(yaml.SafeLoader):
    """YAML of bounded size in which a name given twice is an error, lists are tuples and 1e-3 is a number."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.values, self.sizes = 0, dict[int, int]()  # what was composed; of each node, what lies in it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        before, alias = self.values, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self.values += self.sizes.get(id(node), MOST_VALUES) if alias else 1  # in itself it would be without an end
        if self.values > MOST_VALUES:
            raise CgatError(f"a plan holds at most {MOST_VALUES} values, those that aliases repeat included")
        self.sizes[id(node)] = self.values - before
        return node

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for name, times in names.items():
            if times > 1:
                raise CgatError(f"{name!r} stands twice in the settings that begin in line {node.start_mark.line + 1}")
        return node

    def construct_tuple(self, node: yaml.SequenceNode) -> tuple[Any, ...]:
        return tuple(self.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:seq", _Loader.construct_tuple)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_yaml(path: Path) -> Any:
    """What the file says, in plain Python values.

    Raises:
        CgatError: it cannot be read, is not YAML, or beyond the bounds.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise CgatError(f"a plan has at most {LONGEST} bytes")
        return yaml.load(content.decode(), Loader=_Loader)  # noqa: S506  # a SafeLoader
    except CgatError as error:
        raise CgatError(f"{path}: {error}") from error
    except RecursionError as error:
        raise CgatError(f"{path} cannot be read as a plan: it is nested too deeply") from error
    except (OSError, yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise CgatError(f"{path} cannot be read as a plan: {' '.join(str(error).split())}") from error
