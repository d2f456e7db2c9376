"""Plain values out of a file as the types that a dataclass declares, or an error that says which is another."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

_NUMBERS = {float: (int, float), int: (int,), bool: (bool,), str: (str,), NoneType: (NoneType,)}


def restored(value: Any, kind: Any, name: str) -> Any:
    """Return `value`, as JSON gave it, as an instance of a type.

    Parameters
    ----------
    value
        Of dicts, lists, strings, numbers, booleans and None.
    kind
        str, int, float, bool, None, Any, a dataclass, or tuple[X, ...], dict[str, X] and unions of these.
    name
        What the value is called, for errors.

    Raises
    ------
    ValueError
        Naming the first part of another type, or a field that is missing or unknown.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if is_dataclass(kind) and isinstance(value, dict):
        return _instance(value, kind, name)
    if origin in (Union, UnionType):
        return _first_of(value, inner, name)
    if origin is tuple and isinstance(value, list):
        return tuple(restored(each, inner[0], f"{name}[{k}]") for k, each in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {str(key): restored(each, inner[1], f"{name}.{key}") for key, each in value.items()}
    if type(value) in _NUMBERS.get(kind, ()):
        return kind(value) if kind is float else value
    raise ValueError(f"{name} is {type(value).__name__}, not {getattr(kind, '__name__', kind)}")


def _first_of(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    for kind in kinds:
        try:
            return restored(value, kind, name)
        except ValueError as error:
            last = error
    raise last


def _instance(value: dict[str, Any], kind: Any, name: str) -> Any:
    hints, known = get_type_hints(kind), {each.name for each in fields(kind)}
    if value.keys() != known:
        odd = sorted(value.keys() ^ known)[0]
        raise ValueError(f"{name} {'has the unknown field' if odd in value else 'lacks'} {odd}")
    return kind(**{key: restored(each, hints[key], f"{name}.{key}") for key, each in value.items()})
