from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from momentum_lab.core.tunable import Tunable, check_tunables, tunable, tunables_of
from momentum_lab.errors import ParameterError


@dataclass(frozen=True, slots=True)
class _Oven:
    heat_c: float = tunable(180.0, unit="C", low=50, high=250, step=5, meaning="how hot")
    trays: int = tunable(2, unit="trays", low=1, high=4, step=1, meaning="how many")
    name: str = "oven"


def _oven(**values: Any) -> _Oven:
    return _Oven(**values)


def test_the_declaration_is_the_default() -> None:
    assert (_Oven().heat_c, _Oven().trays) == (180.0, 2)


def test_declarations_are_found_in_their_order_and_others_are_left_out() -> None:
    found = tunables_of(_Oven)

    assert list(found) == ["heat_c", "trays"]
    assert found["heat_c"] == Tunable(180.0, "C", 50, 250, 5, "how hot")


@pytest.mark.parametrize("value", [50, 50.0, 250, 180.5])
def test_a_value_in_its_range_passes(value: float) -> None:
    check_tunables(_oven(heat_c=value))


@pytest.mark.parametrize("value", [49.9, 250.1, -180, 1e9])
def test_a_value_out_of_range_names_key_unit_range_and_what_was_found(value: float) -> None:
    with pytest.raises(ParameterError) as caught:
        check_tunables(_oven(heat_c=value), prefix="kitchen.")

    message = str(caught.value)
    assert message.startswith("kitchen.heat_c: ")
    assert "50 to 250 C" in message
    assert f"{value:g}" in message


@pytest.mark.parametrize("value", ["180", None, True, [180], math.nan, math.inf])
def test_what_is_not_a_number_is_refused_with_its_unit(value: object) -> None:
    with pytest.raises(ParameterError, match=r"heat_c: expected a number in C, found"):
        check_tunables(_oven(heat_c=value))


@pytest.mark.parametrize("value", [2.0, 2.5, "2", False])
def test_a_count_must_be_a_whole_number(value: object) -> None:
    with pytest.raises(ParameterError, match=r"trays: expected a whole number in trays"):
        check_tunables(_oven(trays=value))


def test_a_declaration_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        tunables_of(_Oven)["heat_c"].low = 0  # type: ignore[misc]  # that is the point
