"""Declare one tunable number once: default, unit, range, step and meaning.

The declaration is the single source for the YAML check, the sliders of the tuning
notebook and the page `docs/parameters.md`.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any, cast

from momentum_lab.errors import ParameterError

_KEY = "tunable"


@dataclass(frozen=True, slots=True)
class Tunable:
    """What a person may know and change about one number."""

    default: float
    unit: str
    low: float
    high: float
    step: float
    meaning: str


def tunable(
    default: float, *, unit: str, low: float, high: float, step: float, meaning: str
) -> Any:
    """Return a dataclass field that carries the declaration of a tunable number.

    Args:
        default: value used when a parameter file does not name the key.
        unit: printed after every value, e.g. "x ATR", "s", "ratio".
        low: smallest legal value, inclusive.
        high: largest legal value, inclusive.
        step: granularity of a slider.
        meaning: one line for people.

    The return type is ``Any`` because a dataclass field stands where a number is declared.
    """
    declared = Tunable(default, unit, low, high, step, meaning)
    return field(default=default, metadata={_KEY: declared})


def described(default: Any, *, meaning: str) -> Any:
    """Return a dataclass field of words, not of a number, that carries its meaning.

    Args:
        default: value used when a parameter file does not name the key.
        meaning: one line for people; of a choice: what may be chosen.
    """
    return field(default=default, metadata={"meaning": meaning})


def tunables_of(cls: type[Any]) -> dict[str, Tunable]:
    """Return the tunables declared by a parameter dataclass, in order of declaration."""
    found = {f.name: _declared(f) for f in fields(cls)}
    return {name: declared for name, declared in found.items() if declared is not None}


def check_tunables(values: Any, *, prefix: str = "") -> None:
    """Refuse a parameter object that holds a value outside its declared range.

    Args:
        values: an instance of a dataclass whose fields were declared with `tunable`.
        prefix: put before the key in the message, e.g. "shock.".

    Raises:
        ParameterError: names the key, the value found, the unit and the legal range.
    """
    for name, declared in tunables_of(type(values)).items():
        value = getattr(values, name)
        if not _is_number_like(value, declared.default):
            kind = "a whole number" if isinstance(declared.default, int) else "a number"
            raise ParameterError(
                f"{prefix}{name}: expected {kind} in {declared.unit}, found {value!r}"
            )
        if not declared.low <= value <= declared.high:
            raise ParameterError(
                f"{prefix}{name}: expected {declared.low:g} to {declared.high:g} "
                f"{declared.unit}, found {value:g}"
            )


def _declared(found: Field[Any]) -> Tunable | None:
    return cast("Tunable | None", found.metadata.get(_KEY))


def _is_number_like(value: object, default: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if isinstance(default, int) and not isinstance(value, int):
        return False
    return math.isfinite(value)
