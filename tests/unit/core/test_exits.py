from __future__ import annotations

from dataclasses import replace

import pytest

from momentum_lab.core.exits import ExitGate, ExitSignal, OpenPosition, decide_exit
from momentum_lab.core.market import NS_PER_S, DataType, Quote, Side
from momentum_lab.core.position import ExitParameters, ExitReason, Levels
from tests.factories import NOON, quote

BUY, SELL = Side.BUY, Side.SELL

# ------------------------------------------------------------------- exits

LONG = OpenPosition("SPY", BUY, NOON, Levels(stop=98.5, target=102.0))
SHORT = OpenPosition("SPY", SELL, NOON, Levels(stop=101.5, target=98.0))
PARAMETERS = ExitParameters(time_stop_s=600)


def _exit(position: OpenPosition, seen: Quote | None, *, after_s: float = 1.0) -> ExitSignal | None:
    return decide_exit(
        position,
        seen,
        now_ns=NOON + int(after_s * NS_PER_S),
        max_quote_age_s=5.0,
        parameters=PARAMETERS,
    )


def _reason(
    position: OpenPosition, seen: Quote | None, *, after_s: float = 1.0
) -> ExitReason | None:
    found = _exit(position, seen, after_s=after_s)
    return None if found is None else found.reason


def _two_sided(bid: float, ask: float) -> Quote:
    return replace(quote(), bid=bid, ask=ask)


@pytest.mark.parametrize("position", [LONG, SHORT])
def test_between_its_levels_a_position_is_kept(position: OpenPosition) -> None:
    assert _exit(position, quote(100.0)) is None


def test_a_long_is_measured_at_the_bid() -> None:
    assert _reason(LONG, _two_sided(98.51, 98.6)) is None
    assert _reason(LONG, _two_sided(98.5, 98.6)) is ExitReason.STOP_LOSS
    assert _reason(LONG, _two_sided(101.99, 102.5)) is None
    assert _reason(LONG, _two_sided(102.0, 102.5)) is ExitReason.TAKE_PROFIT


def test_a_short_is_measured_at_the_ask() -> None:
    assert _reason(SHORT, _two_sided(101.4, 101.49)) is None
    assert _reason(SHORT, _two_sided(101.4, 101.5)) is ExitReason.STOP_LOSS
    assert _reason(SHORT, _two_sided(97.5, 98.01)) is None
    assert _reason(SHORT, _two_sided(97.5, 98.0)) is ExitReason.TAKE_PROFIT


def test_a_price_a_rounding_away_from_the_stop_is_at_the_stop() -> None:
    position = replace(LONG, levels=Levels(stop=0.3, target=1.0))

    assert _reason(position, _two_sided(0.1 + 0.2, 0.4)) is ExitReason.STOP_LOSS


def test_a_price_exit_tells_price_and_level() -> None:
    assert _exit(LONG, _two_sided(98.0, 98.1)) == ExitSignal(
        ExitReason.STOP_LOSS, 98.0, 98.5, "USD"
    )


def test_the_stop_goes_before_the_target() -> None:
    # levels of a position whose stop was drawn beyond its target: both are reached
    both = replace(LONG, levels=Levels(stop=100.0, target=99.0))

    assert _reason(both, _two_sided(99.5, 99.6)) is ExitReason.STOP_LOSS


def test_the_target_goes_before_the_close_and_the_close_before_the_time_stop() -> None:
    late = replace(LONG, flat_by_ns=NOON + 300 * NS_PER_S)
    winning = replace(_two_sided(103.0, 103.1), at_ns=NOON + 700 * NS_PER_S)

    assert _reason(late, winning, after_s=700) is ExitReason.TAKE_PROFIT
    assert _reason(late, None, after_s=700) is ExitReason.FLAT_BY_CLOSE
    assert _reason(LONG, None, after_s=700) is ExitReason.TIME_STOP


@pytest.mark.parametrize(
    ("after_s", "expected"),
    [(599.9, None), (600.0, ExitReason.TIME_STOP), (9000.0, ExitReason.TIME_STOP)],
)
def test_the_time_stop_fires_without_any_quote(after_s: float, expected: ExitReason | None) -> None:
    assert _reason(LONG, None, after_s=after_s) is expected


@pytest.mark.parametrize(
    ("after_s", "expected"), [(299.9, None), (300.0, ExitReason.FLAT_BY_CLOSE)]
)
def test_the_close_comes_without_any_quote(after_s: float, expected: ExitReason | None) -> None:
    late = replace(SHORT, flat_by_ns=NOON + 300 * NS_PER_S)

    assert _reason(late, None, after_s=after_s) is expected


def test_a_time_exit_tells_the_time_held_and_the_limit() -> None:
    assert _exit(LONG, None, after_s=601) == ExitSignal(ExitReason.TIME_STOP, 601.0, 600, "s")


@pytest.mark.parametrize(
    "seen",
    [
        _two_sided(90.0, 89.0),
        _two_sided(90.0, 90.0),
        replace(_two_sided(90.0, 90.1), halted=True),
        replace(_two_sided(90.0, 90.1), data_type=DataType.DELAYED),
        replace(_two_sided(90.0, 90.1), at_ns=NOON - 5 * NS_PER_S),
        replace(_two_sided(90.0, 90.1), ask=None),
        replace(_two_sided(90.0, 90.1), bid=None),
    ],
    ids=["crossed", "locked", "halted", "delayed", "stale", "no ask", "no bid"],
)
def test_a_bad_quote_triggers_no_price_exit(seen: Quote) -> None:
    assert _exit(LONG, seen) is None


def test_a_time_exit_fires_although_the_quote_is_stale() -> None:
    assert _reason(LONG, quote(at_ns=NOON), after_s=600) is ExitReason.TIME_STOP


def test_the_instant_of_the_time_stop_is_known_in_advance() -> None:
    assert LONG.time_stop_ns(None, PARAMETERS) == NOON + 600 * NS_PER_S


def test_the_time_stop_begins_anew_after_a_halt() -> None:
    def resumed(after_s: float) -> Quote:
        seen = _two_sided(100.0, 100.1)
        return replace(seen, resumed_ns=NOON + int(after_s * NS_PER_S), at_ns=NOON)

    assert _reason(LONG, resumed(300), after_s=899) is None
    found = _exit(LONG, resumed(300), after_s=901)
    assert found is not None
    assert (found.reason, found.observed) == (ExitReason.TIME_STOP, 601.0)
    assert LONG.time_stop_ns(resumed(300), PARAMETERS) == NOON + 900 * NS_PER_S
    # What was over before the entry is no reason to stay longer.
    assert _reason(LONG, resumed(-300), after_s=600) is ExitReason.TIME_STOP


def test_a_stop_that_was_moved_tells_what_moved_it() -> None:
    trailed = replace(LONG, stop_kind=ExitReason.TRAIL)

    assert _reason(trailed, _two_sided(98.0, 98.1)) is ExitReason.TRAIL


def test_what_is_pending_comes_last() -> None:
    asked = ExitSignal(ExitReason.OPPOSITE, 3.0, 2.5, "x ATR")

    def reason(seen: Quote | None, after_s: float) -> ExitReason | None:
        found = decide_exit(
            LONG,
            seen,
            now_ns=NOON + int(after_s * NS_PER_S),
            max_quote_age_s=5.0,
            parameters=PARAMETERS,
            pending=asked,
        )
        return found.reason if found else None

    assert reason(None, 1) is ExitReason.OPPOSITE
    assert reason(_two_sided(98.0, 98.1), 1) is ExitReason.STOP_LOSS
    assert reason(None, 600) is ExitReason.TIME_STOP


def test_nothing_is_due_in_a_halt_not_even_by_time() -> None:
    assert _exit(LONG, replace(_two_sided(90.0, 90.1), halted=True), after_s=9000) is None


# -------------------------------------------------------------------- gate

STOP = ExitSignal(ExitReason.STOP_LOSS, 98.0, 98.5, "USD")
LATE = ExitSignal(ExitReason.TIME_STOP, 601.0, 600.0, "s")
GRACE = ExitParameters(native_grace_s=2)


def _looked(
    gate: ExitGate, due: ExitSignal | None, seen: Quote | None, *, after_s: float
) -> ExitGate:
    return gate.look(seen, due, now_ns=NOON + int(after_s * NS_PER_S), max_quote_age_s=5.0)


def _admits(gate: ExitGate, due: ExitSignal, *, after_s: float, is_protected: bool = True) -> bool:
    now_ns = NOON + int(after_s * NS_PER_S)
    return gate.admits(due, now_ns=now_ns, is_protected=is_protected, parameters=GRACE)


def test_a_price_exit_is_left_to_the_broker_for_a_while() -> None:
    gate = _looked(ExitGate(), STOP, quote(), after_s=0)

    assert not _admits(gate, STOP, after_s=0)
    assert not _admits(gate, STOP, after_s=1.9)
    assert _admits(gate, STOP, after_s=2)
    assert gate.opens_ns(max_quote_age_s=5, parameters=GRACE) == NOON + 2 * NS_PER_S


def test_an_interruption_begins_the_grace_anew() -> None:
    gate = _looked(ExitGate(), STOP, quote(), after_s=0)
    gate = _looked(gate, None, quote(), after_s=1)
    gate = _looked(gate, STOP, quote(), after_s=1.5)

    assert not _admits(gate, STOP, after_s=2)
    assert _admits(gate, STOP, after_s=3.5)


def test_without_protection_a_price_exit_leaves_at_once() -> None:
    gate = _looked(ExitGate(), STOP, quote(), after_s=0)

    assert _admits(gate, STOP, after_s=0, is_protected=False)


def test_no_other_exit_is_left_to_the_broker() -> None:
    assert _admits(_looked(ExitGate(), LATE, quote(), after_s=0), LATE, after_s=0)


def test_after_a_halt_the_first_quote_that_may_be_traded_on_decides() -> None:
    gate = _looked(ExitGate(), None, quote(halted=True), after_s=0)
    assert not _admits(gate, LATE, after_s=0)
    gate = _looked(gate, LATE, quote(), after_s=3)
    assert not _admits(gate, LATE, after_s=3)
    assert gate.opens_ns(max_quote_age_s=5, parameters=GRACE) == NOON + 8 * NS_PER_S

    gate = _looked(gate, LATE, quote(at_ns=NOON + 4 * NS_PER_S), after_s=4)

    assert _admits(gate, LATE, after_s=4)


def test_after_a_halt_a_time_exit_waits_no_longer_than_a_quote_may_be_old() -> None:
    gate = _looked(ExitGate(), None, quote(halted=True), after_s=0)
    gate = _looked(gate, LATE, None, after_s=3)

    assert not _admits(_looked(gate, LATE, None, after_s=7.9), LATE, after_s=7.9)
    assert _admits(_looked(gate, LATE, None, after_s=8), LATE, after_s=8)
