"""Dataclasses from the plain values of a json file, each of the type that its field states."""

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from numbers import Integral, Real
from sys import float_info
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from cgatlib import CgatError

T = TypeVar("T")


@cache
def _types(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def from_plain(kind: type[T], values: Any, where: str) -> T:
    """A dataclass, with those in it, from a dictionary as `dataclasses.asdict` gives it; lists become tuples.

    A whole number is taken for a float; values of any other type, NaN and infinity are refused. ``EARLIER`` of a
    dataclass holds what its later fields are in values that were stored before it had them.

    Args:
        where: name of the values, for messages.

    Raises:
        CgatError: a field is unknown or missing, or a value has another type; or what the dataclass itself refuses.
    """
    types = _types(cast(Hashable, kind))
    if not isinstance(values, Mapping):
        raise CgatError(f"{where} must be values by name, not {_short(values)}")
    values = {**getattr(kind, "EARLIER", {}), **values}
    for name in (*values, *types):
        if name not in types or name not in values:
            raise CgatError(f"{where} {'lacks' if name in types else 'has an unknown value,'} {_short(name)}")
    return kind(**{name: _typed(part, values[name], f"{where}: {name}") for name, part in types.items()})


def refuse_unknown(config: Any, what: str) -> None:
    """Raise `CgatError` where a field of a dataclass has none of the values that its type, a `Literal`, names."""
    for name, kind in _types(cast(Hashable, type(config))).items():
        if get_origin(kind) is Literal and (value := getattr(config, name)) not in (known := get_args(kind)):
            raise CgatError(f"{what}: unknown {name} {value!r}; known: {', '.join(known)}")


def _typed(kind: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else from_plain(kind, value, where)
    if origin in (Union, UnionType):
        return _one_of(args, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) == len(value):
            return tuple(_typed(part, item, where) for part, item in zip(kinds, value, strict=True))
    elif origin is dict and isinstance(value, Mapping):
        return {_typed(args[0], name, where): _typed(args[1], item, f"{where}: {name}") for name, item in value.items()}
    elif kind in (int, float) and isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool):
        if kind is int or abs(cast(float, value)) <= float_info.max:
            return kind(value)
    elif kind is Any or (kind in (str, bool) and isinstance(value, kind)) or (origin is Literal and value in args):
        return value
    name = " or ".join(map(repr, args)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise CgatError(f"{where} must be {name}, not {_short(value)}")


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    refusals = []
    for kind in kinds:
        if kind is not NoneType:
            try:
                return _typed(kind, value, where)
            except CgatError as error:
                refusals.append(str(error))
    raise CgatError(" or ".join(refusals))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
