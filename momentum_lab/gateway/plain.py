"""Plain values, as JSON holds them, back into the dataclasses that they were made of.

Each value is checked for the type that its field declares, so that a damaged file is refused where
it is read, with the name of the field, and not where its value is used.
"""

from __future__ import annotations

import types
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from momentum_lab.errors import RecordError

_WORDS: Final = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def from_plain(kind: Any, value: object, where: str) -> Any:
    """Return a plain value as `kind`: a dataclass, list, tuple, mapping, enumeration, or one value.

    Args:
        kind: a type, or a type with its arguments; a mapping's keys are texts.
        value: what was read.
        where: the name of its field, for the error.

    Raises:
        RecordError: names the field, what was expected and what was found.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = next(one for one in arguments if one is not type(None))
        return None if value is None else from_plain(inner, value, where)
    if origin is list:
        rows = _expected(value, list, "a list", where)
        return [from_plain(arguments[0], one, f"{where}[{n}]") for n, one in enumerate(rows)]
    if origin is tuple:
        return tuple(_items(arguments, _expected(value, list, "a list", where), where))
    if origin is dict:
        rows = _expected(value, dict, "a mapping", where)
        return {key: from_plain(arguments[1], one, f"{where}.{key}") for key, one in rows.items()}
    if is_dataclass(kind):
        return _made(kind, _expected(value, dict, "a mapping", where), where)
    return _one(kind, value, where)


def _items(kinds: tuple[Any, ...], row: list[Any], where: str) -> list[Any]:
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(row)
    if len(row) != len(kinds):
        raise RecordError(f"{where}: expected {len(kinds)} values, found {len(row)}")
    pairs = enumerate(zip(kinds, row, strict=True))
    return [from_plain(kind, one, f"{where}[{n}]") for n, (kind, one) in pairs]


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _made(kind: Any, row: dict[str, Any], where: str) -> Any:
    hints = _hints(kind)
    unknown = sorted(row.keys() - hints.keys())
    if unknown:
        raise RecordError(f"{where}: expected no {unknown[0]!r}, found {row[unknown[0]]!r}")
    for field in fields(kind):
        has_default = field.default is not MISSING or field.default_factory is not MISSING
        if field.name not in row and not has_default:
            raise RecordError(f"{where}.{field.name}: expected a value, found none")
    return kind(
        **{key: from_plain(hints[key], value, f"{where}.{key}") for key, value in row.items()}
    )


def _one(kind: Any, value: object, where: str) -> Any:
    if kind is Any:
        return _expected(value, (str, int, float), "a text or a number", where)
    if issubclass(kind, Enum):
        known = [one.value for one in kind]
        if value not in known:
            raise RecordError(f"{where}: expected one of {known}, found {value!r}")
        return kind(value)
    # A number may be spelled with or without a fraction.
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        is_right = is_number and value == value // 1  # type: ignore[operator]
    else:
        is_right = is_number if kind is float else isinstance(value, kind)
    if not is_right:
        raise RecordError(f"{where}: expected {_WORDS[kind]}, found {value!r}")
    return value


def _expected(value: object, kind: type | tuple[type, ...], words: str, where: str) -> Any:
    if not isinstance(value, kind):
        raise RecordError(f"{where}: expected {words}, found {value!r}")
    return value
