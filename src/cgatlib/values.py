"""Dataclasses from the plain values of a json file, each of the type that its field states."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from numbers import Integral, Real
from sys import float_info
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cgatlib import CgatError

T = TypeVar("T")
_types = cache(get_type_hints)


def from_plain(kind: type[T], values: Any, where: str) -> T:
    """A dataclass, those in it included, from a dictionary as `dataclasses.asdict` gives it; lists become tuples.

    Whole numbers pass for floats; nothing else passes for something else, NaN and infinity for nothing.

    Args:
        where: name of the values, for messages.

    Raises:
        CgatError: a field is unknown or missing, or a value has another type; or what the dataclass itself refuses.
    """
    fields = _types(kind)
    if not isinstance(values, Mapping):
        raise CgatError(f"{where} must be values by name, not {_short(values)}")
    for name in (*values, *fields):
        if name not in fields or name not in values:
            raise CgatError(f"{where} {'lacks' if name in fields else 'has an unknown value,'} {_short(name)}")
    return kind(**{name: _typed(field, values[name], f"{where}: {name}") for name, field in fields.items()})


def _typed(kind: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return value if isinstance(value, kind) else from_plain(kind, value, where)
    if origin in (Union, UnionType):  # something or None
        return None if value is None else _typed(next(a for a in args if a is not type(None)), value, where)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) == len(value):
            return tuple(_typed(part, item, where) for part, item in zip(kinds, value, strict=True))
    elif origin is dict and isinstance(value, Mapping):
        return {_typed(args[0], name, where): _typed(args[1], item, f"{where}: {name}") for name, item in value.items()}
    elif kind in (int, float) and isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool):
        if kind is int or abs(value) <= float_info.max:
            return kind(value)
    elif kind is Any or (kind in (str, bool) and isinstance(value, kind)) or (origin is Literal and value in args):
        return value
    name = " or ".join(map(repr, args)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise CgatError(f"{where} must be {name}, not {_short(value)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
