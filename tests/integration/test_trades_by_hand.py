"""A person trades what a session holds, between two audits, and nobody calls an audit by hand.

The broker tells a new position in the moment. From then on no order of ours may make a position
beyond zero or add to one that is not ours, whatever wants it: a time stop, `flatten`, the
session's end, a shock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from momentum_lab.core.market import Side
from momentum_lab.core.signal import Reason
from momentum_lab.gateway.answers import ANSWERS
from momentum_lab.live.auditor import Auditor
from momentum_lab.live.control_watch import Obeyed
from momentum_lab.records.control import Command, CommandKind
from tests.connection_kit import make_tape
from tests.order_desk import HALF_DAY_NS, NOON_NS, OrderDesk, by_hand, live_one_day, own_violations

pytestmark = pytest.mark.timeout(60)
# The message of the position is on its way for a moment.
TOLD_S = 0.3
KNOWN_WITHIN_S = 15.0
EXPLAINED_S = 3.0
AGAIN_WITHIN_S = 60.0
Leave = Callable[[OrderDesk], Awaitable[None]]


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - HALF_DAY_NS, 2)


async def time_stop(found: OrderDesk) -> None:
    with anyio.move_on_after(KNOWN_WITHIN_S):
        while found.store.open_trades():
            await found.close()
            await anyio.sleep(0.1)


async def flatten(found: OrderDesk) -> None:
    obeyed = found.session._desk.obey(Command(1, 1, CommandKind.FLATTEN, "a person", ""))
    await found.until(lambda: done(obeyed) is not None, patience_s=KNOWN_WITHIN_S)


def done(obeyed: Obeyed) -> str | None:
    """Return what came of a command, None while it goes on."""
    assert obeyed.when_done is not None
    return obeyed.when_done()


async def session_end(found: OrderDesk) -> None:
    found.session.stop("the evening")
    await found.until(lambda: found.result is not None)


@pytest.mark.parametrize("leave", [time_stop, flatten, session_end])
@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
@pytest.mark.parametrize("part", [1.0, 0.5], ids=["all of it", "half of it"])
def test_no_exit_goes_beyond_what_a_person_has_left(
    tape: Path, tmp_path: Path, leave: Leave, side: Side, part: float
) -> None:
    lowest: list[int] = []

    async def scenario(found: OrderDesk) -> None:
        await found.enter(side)
        await anyio.sleep(5)
        by_hand(found, side.opposite, round(part * abs(found.held())))
        await anyio.sleep(TOLD_S)
        await leave(found)
        await found.until(lambda: not found.held(), patience_s=KNOWN_WITHIN_S)
        await found.until(lambda: not found.exchange.live_orders(), patience_s=KNOWN_WITHIN_S)
        held = 0
        for execution in found.executions():
            held += execution.side.sign * execution.shares
            lowest.append(held * side.sign)

    found = live_one_day(tape, tmp_path, scenario)

    assert min(lowest) == 0
    told = [w for w in own_violations(found) if not w.startswith("fill of no")]
    assert told == []
    (trade,) = found.final["trades"]
    assert trade["state"] == "CLOSED"
    assert "closed elsewhere" in {row["kind"] for row in found.final["incidents"]}


def test_flatten_names_what_is_not_ours(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter(symbol="IBM")
        by_hand(found, Side.BUY, 10)
        await anyio.sleep(KNOWN_WITHIN_S)
        obeyed = found.session._desk.obey(Command(1, 1, CommandKind.FLATTEN, "a person", ""))
        await found.until(lambda: done(obeyed) is not None)
        answer = done(obeyed)
        assert answer is not None
        assert "not ours: SPY: the broker holds 10 shares" in answer
        assert found.held() == 10

    live_one_day(tape, tmp_path, scenario)


@pytest.mark.parametrize("wait_s", [TOLD_S, 60.0])
def test_a_shock_adds_nothing_to_what_a_person_has_bought(
    tape: Path, tmp_path: Path, wait_s: float
) -> None:
    async def scenario(found: OrderDesk) -> None:
        by_hand(found, Side.BUY, 10)
        await anyio.sleep(wait_s)
        decision = await found.enter()
        assert decision.reason is Reason.SYMBOL_BLOCKED
        assert "10 shares" in decision.text
        assert found.held() == 10
        by_hand(found, Side.SELL, 10, order_id=2)
        await anyio.sleep(KNOWN_WITHIN_S)
        # As soon as the person has left, the symbol is free again.
        assert (await found.enter()).reason is Reason.SHOCK

    live_one_day(tape, tmp_path, scenario)


async def sell_half_by_hand(found: OrderDesk) -> None:
    by_hand(found, Side.SELL, found.held() // 2)
    await anyio.sleep(TOLD_S)


def knows_the_sale(found: OrderDesk) -> bool:
    return "closed elsewhere" in found.incidents()


def check_books(found: OrderDesk) -> None:
    # The stop cannot shrink before the sale is known, which takes longer here than the judge likes.
    expected = ("fill of no", "stop too large")
    assert [w for w in own_violations(found) if not w.startswith(expected)] == []


def test_a_sale_by_hand_while_the_clocks_differ_is_asked_for_when_they_agree(
    tape: Path, tmp_path: Path
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        found.inject("clock_skew", skew_s=30)
        await found.until(lambda: not found.is_operational())
        assert found.session._connector.may_exit()
        await sell_half_by_hand(found)
        await anyio.sleep(KNOWN_WITHIN_S)
        assert not knows_the_sale(found)
        found.end("clock_skew")
        await found.until(found.is_operational)
        await found.until(lambda: knows_the_sale(found), patience_s=KNOWN_WITHIN_S)
        assert await found.close()

    check_books(live_one_day(tape, tmp_path, scenario))


def test_a_sale_by_hand_is_asked_for_again_where_the_broker_did_not_answer(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        answer_s = found.session.parameters.connection.request_timeout_s
        with monkeypatch.context() as patch:
            patch.setitem(ANSWERS, "reqPositions", lambda *_: None)
            await sell_half_by_hand(found)
            await anyio.sleep(EXPLAINED_S + 2 * answer_s)
        assert not knows_the_sale(found)
        # Long before the next audit in the row.
        await found.until(lambda: knows_the_sale(found), patience_s=AGAIN_WITHIN_S)
        assert await found.close()

    check_books(live_one_day(tape, tmp_path, scenario))


def test_our_own_fills_need_no_audit(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audits: list[Auditor] = []
    audit = Auditor.audit

    async def counted(self: Auditor) -> None:
        audits.append(self)
        await audit(self)

    async def scenario(found: OrderDesk) -> None:
        monkeypatch.setattr(Auditor, "audit", counted)
        for symbol in ("SPY", "IBM"):
            await found.enter(symbol=symbol)
        await anyio.sleep(30)
        for trade in found.store.open_trades():
            assert found.session._execution.holdings.told(trade["con_id"])
        found.session._manager.flatten()
        await found.until(lambda: not found.store.open_trades())
        await anyio.sleep(30)
        assert audits == []

    live_one_day(tape, tmp_path, scenario)
