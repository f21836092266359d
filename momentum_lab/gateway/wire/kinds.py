r"""The kinds of field values: how each is spelled on the wire, in both directions.

Clients spell "not set" in half a dozen ways; all of them are read as the kind's `unset` value.
What we write is the narrowest spelling that every client library reads: integers bare, numbers
without exponent, text without NUL. Two kinds of text exist because client libraries disagree:
some fields are un-escaped by them (`\uXXXX`, 7-bit), the others are taken as plain UTF-8.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

UNSET_DOUBLE: Final = 1.7976931348623157e308
UNSET_DOUBLE_TEXT: Final = "1.7976931348623157E308"
_UNSET: Final = frozenset(
    {
        "",
        "2147483647",
        "9223372036854775807",
        "170141183460469231731687303715884105727",
        UNSET_DOUBLE_TEXT,
        "1.7976931348623157E+308",
    }
)
_INFINITY: Final = frozenset({"Infinite", "Infinity", "inf"})
# A quantity of a re-sent order may arrive as "10.0" in an integer's place.
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}(\.0*)?")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
# The smallest float has 324 zeros after the point; longer texts are only slow to read.
_MAX_NUMBER_CHARACTERS: Final = 400
_SHORT_CHARACTERS: Final = 10
_NOT_PLAIN: Final = re.compile(r"[^\x00-\x5b\x5d-\x7f]")
_ESCAPES: Final = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of one kind are read and written.

    Attributes:
        meaning: what a value is, for error messages.
        unset: the value that stands for "not set".
        read: text to value; raises ValueError.
        write: value to text; raises ValueError, TypeError or OverflowError.
        inline: a Python expression of `{value}` and `{write}` that gives what `write` gives, and
            spares the call for the usual type of value; for generated code, which knows `x` as
            a place to keep a value, and `INLINE_NAMES`.
    """

    meaning: str
    unset: Any
    read: Callable[[str], Any]
    write: Callable[[Any], str]
    inline: str = "{write}({value})"


def _is_unset(text: str) -> bool:
    return not text or text in _UNSET or text.upper() in _UNSET


def _read_int(text: str) -> int | None:
    # Nearly all are short; whatever stands for "not set" is longer, or no digits.
    if len(text) < _SHORT_CHARACTERS and text.isascii() and text.isdigit():
        return int(text)
    if _is_unset(text):
        return None
    if not _INTEGER.fullmatch(text):
        raise ValueError
    return int(text.partition(".")[0])


def _write_bare_int(value: Any) -> str:
    whole = int(value)
    if whole != value:
        raise ValueError
    return str(whole)


def _write_int(value: Any) -> str:
    return "" if value is None else _write_bare_int(value)


def _read_int_or_0(text: str) -> int:
    return _read_int(text) or 0


def _read_number(text: str) -> float | None:
    if _is_unset(text):
        return None
    if len(text) > _MAX_NUMBER_CHARACTERS or not _NUMBER.fullmatch(text):
        raise ValueError
    number = float(text)
    if math.isinf(number):
        raise ValueError
    return None if number == UNSET_DOUBLE else number


def _read_number_or_0(text: str) -> float:
    return _read_number(text) or 0.0


def _write_bare_number(value: Any) -> str:
    text = float.__repr__(float(value))
    # Neither an exponent, nor "inf" or "nan": all but a few numbers are done here.
    if "e" not in text and "n" not in text:
        return text.removesuffix(".0")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    if number == UNSET_DOUBLE:
        return UNSET_DOUBLE_TEXT
    return format(Decimal(text), "f").removesuffix(".0")


def _write_number(value: Any) -> str:
    return "" if value is None else _write_bare_number(value)


def _read_bool(text: str) -> bool:
    word = text.lower()
    if word in ("1", "true"):
        return True
    if word in ("0", "false") or _is_unset(text):
        return False
    raise ValueError


def _write_bool(value: Any) -> str:
    if value not in (0, 1, None):
        raise ValueError
    return "1" if value else "0"


def _write_text(value: Any) -> str:
    if value is None:
        return ""
    # Not str(): that would turn a text enumeration into its class and member names.
    text = value if isinstance(value, str) else str(value)
    return text.replace("\0", "")


def _escape(match: re.Match[str]) -> str:
    units = match.group().encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def _unescape(match: re.Match[str]) -> str:
    units = bytes.fromhex(match.group().replace("\\u", ""))
    return units.decode("utf-16-be", "surrogatepass").replace("\0", "")


def _write_escaped(value: Any) -> str:
    # A lone backslash breaks the un-escaping of some clients: it is escaped as well.
    return _NOT_PLAIN.sub(_escape, _write_text(value))


def _read_escaped(text: str) -> str:
    return _ESCAPES.sub(_unescape, text)


def _read_with_infinity(text: str) -> float | None:
    return math.inf if text in _INFINITY else _read_number(text)


def _write_with_infinity(value: Any) -> str:
    return "Infinity" if value == math.inf else _write_number(value)


def _write_or_unset_double(value: Any) -> str:
    return UNSET_DOUBLE_TEXT if value is None else _write_number(value)


# What generated code does by itself for the values that nearly all fields have.
INLINE_NAMES: Final = {
    "NUL": "\0",
    "BACKSLASH": "\\",
    # Integers up to here are floats too, and those floats are spelled like the integers.
    "EXACT": 10**15,
    # Prices recur. Zeros must not get there: 0.0 and -0.0 are one key and two texts.
    "number": lru_cache(4096)(_write_bare_number),
}
_INLINE_INT: Final = "x if (x := {value}).__class__ is int else {write}(x)"
_INLINE_NUMBER: Final = (
    "number(x) if (x := {value}).__class__ is float and x"
    " else x if x.__class__ is int and -EXACT < x < EXACT else {write}(x)"
)
_INLINE_BOOL: Final = "'1' if (x := {value}) is True else '0' if x is False else {write}(x)"
_INLINE_TEXT: Final = "x if (x := {value}).__class__ is str and NUL not in x else {write}(x)"
_INLINE_ESCAPED: Final = (
    "x if (x := {value}).__class__ is str and x.isascii() and NUL not in x and BACKSLASH not in x"
    " else {write}(x)"
)

INT: Final = Kind("an integer", None, _read_int, _write_int, _INLINE_INT)
# Ids, sizes and codes that some clients leave empty and mean 0.
INT_OR_0: Final = Kind("an integer", 0, _read_int_or_0, _write_bare_int, _INLINE_INT)
# Sizes for clients that cannot read fractions: the fraction is cut off.
WHOLE: Final = Kind("a number", 0, _read_int, lambda value: str(int(value)), _INLINE_INT)
NUMBER: Final = Kind("a number", None, _read_number, _write_number, _INLINE_NUMBER)
NUMBER_OR_0: Final = Kind("a number", 0.0, _read_number_or_0, _write_bare_number, _INLINE_NUMBER)
# For offsets where "infinitely far" is a meaning of its own.
NUMBER_OR_INFINITY: Final = Kind("a number", None, _read_with_infinity, _write_with_infinity)
# What is not known is written as the largest double, which clients compare with.
NUMBER_OR_MAX: Final = Kind("a number", None, _read_number, _write_or_unset_double, _INLINE_NUMBER)
BOOL: Final = Kind("0 or 1", False, _read_bool, _write_bool, _INLINE_BOOL)
TEXT: Final = Kind("text", "", str, _write_text, _INLINE_TEXT)
ESCAPED: Final = Kind("text", "", _read_escaped, _write_escaped, _INLINE_ESCAPED)


def one_of(kind: Kind, allowed: frozenset[int]) -> Kind:
    """Return `kind` narrowed to a few allowed values."""

    def read(text: str) -> Any:
        value = kind.read(text)
        if value not in allowed:
            raise ValueError
        return value

    return Kind(f"one of {sorted(allowed)}", kind.unset, read, kind.write)
