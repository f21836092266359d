from __future__ import annotations

import math
from typing import Any

import pytest

from momentum_lab.core.sizing import Size, SizingParameters, size_position
from momentum_lab.errors import ParameterError

DESIGN = SizingParameters(risk_ratio=0.01, max_position_ratio=0.10)


def _size(*, parameters: SizingParameters = DESIGN, **changes: float) -> Size:
    inputs = {
        "equity_usd": 100_000.0,
        "buying_power_usd": 400_000.0,
        "entry_usd": 20.0,
        "stop_usd": 19.4,
    }
    return size_position(**(inputs | changes), parameters=parameters)


def test_risk_binds_where_the_stop_is_far() -> None:
    found = _size(stop_usd=15.0)

    assert (found.shares, found.binding) == (200, "RISK")


def test_position_value_binds_where_the_stop_is_near() -> None:
    found = _size(stop_usd=19.99)

    assert (found.shares, found.binding) == (500, "MAX_POSITION_RATIO")


def test_buying_power_binds_where_there_is_little() -> None:
    found = _size(buying_power_usd=3_000)

    assert (found.shares, found.binding) == (150, "BUYING_POWER")


def test_a_short_is_sized_like_the_long_with_the_same_distance() -> None:
    assert _size(stop_usd=25.0).shares == _size(stop_usd=15.0).shares


def test_shares_are_rounded_down() -> None:
    assert _size(equity_usd=100_999, stop_usd=15.0).shares == 201
    assert _size(equity_usd=100_499, stop_usd=15.0).shares == 200


def test_binary_rounding_does_not_cost_a_share() -> None:
    # as floats 1.1 - 1.0 is a little more than 0.1, so 10 / 0.1 a little less than 100
    wide = SizingParameters(risk_ratio=0.01, max_position_ratio=1.0)

    found = _size(entry_usd=1.1, stop_usd=1.0, equity_usd=1_000.0, parameters=wide)

    assert found.shares == 100


def test_too_little_equity_for_one_share_is_size_zero_with_its_cap_named() -> None:
    found = _size(equity_usd=100, stop_usd=15.0)

    assert (found.shares, found.binding) == (0, "RISK")


def test_every_cap_is_told_in_the_order_of_evaluation() -> None:
    found = _size(stop_usd=15.0)

    assert dict(found.caps) == pytest.approx(
        {"RISK": 200, "MAX_POSITION_RATIO": 500, "BUYING_POWER": 20_000}
    )
    assert [name for name, _ in found.caps] == ["RISK", "MAX_POSITION_RATIO", "BUYING_POWER"]
    assert "200 shares" in found.text


def test_without_a_stop_there_is_no_size() -> None:
    found = _size(stop_usd=20.0)

    assert (found.shares, found.binding) == (0, "INVALID")


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["equity_usd", "buying_power_usd", "entry_usd", "stop_usd"])
def test_an_impossible_number_gives_no_size(name: str, bad: float) -> None:
    changes: dict[str, Any] = {name: bad}

    found = _size(**changes)

    assert (found.shares, found.binding, found.caps) == (0, "INVALID", ())


@pytest.mark.parametrize(
    ("key", "value"),
    [("risk_ratio", 0.06), ("risk_ratio", 0), ("max_position_ratio", 1.1)],
)
def test_a_ratio_outside_its_range_is_refused_by_name(key: str, value: float) -> None:
    changes: dict[str, Any] = {key: value}

    with pytest.raises(ParameterError, match=rf"sizing\.{key}: expected .* ratio of equity"):
        SizingParameters(**changes)
