"""The account's cash against the executions of a session that trades all day."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import anyio
import pytest

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.gateway.orders import AccountChanged
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.voice import Message
from momentum_lab.live import housekeeper
from momentum_lab.live.cash_watch import CashWatch
from momentum_lab.records.ledger import Row
from tests.connection_kit import make_tape
from tests.order_desk import HALF_DAY_NS, NOON_NS, OrderDesk, by_hand, live_one_day, trade_one_day

pytestmark = pytest.mark.timeout(120)
# An account whose values do not change is silent until it is asked, after ten minutes.
SETTLED_S = 900.0


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - HALF_DAY_NS, 2)


def differences(found: OrderDesk) -> list[Row]:
    rows = found.store.table("differences", found.session.run_id)
    return [row for row in rows if row["kind"] == "CASH_DIFFERS"]


def samples(found: OrderDesk) -> list[float | None]:
    return [row["cash_usd"] for row in found.store.table("equity", found.session.run_id)]


def pay_in(found: OrderDesk, usd: float) -> None:
    """Money comes from outside."""
    found.exchange.account.ledger.cash_usd += usd
    found.gateway.hub.publish([AccountChanged()])


def test_what_a_session_trades_explains_its_cash(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        begun = found.exchange.account.ledger.cash_usd
        for symbol, side in (("SPY", Side.BUY), ("IBM", Side.SELL)):
            await found.enter(side, symbol=symbol)
        found.inject("execution_correction")
        await anyio.sleep(SETTLED_S)
        assert found.exchange.account.ledger.cash_usd != begun
        assert samples(found)[-1] == pytest.approx(found.exchange.account.ledger.cash_usd, abs=0.01)
        found.session._manager.flatten()
        await found.until(lambda: not found.store.open_trades())
        await anyio.sleep(SETTLED_S)
        assert samples(found)[-1] == pytest.approx(found.exchange.account.ledger.cash_usd, abs=0.01)
        # While the account may not know of a fill yet, its cash is no base for anything.
        assert None in samples(found)
        assert differences(found) == []

    trade_one_day(tape, tmp_path, scenario)


def test_money_from_outside_is_recorded_and_told_once(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await anyio.sleep(SETTLED_S)
        for usd in (1000.0, -250.5):
            pay_in(found, usd)
            await anyio.sleep(SETTLED_S)
        told = [row["broker_value"] - row["our_value"] for row in differences(found)]
        assert told == pytest.approx([1000.0, -250.5], abs=0.02)
        assert found.incidents().count("cash differs") == 1
        assert await found.close()

    live_one_day(tape, tmp_path, scenario)


def test_money_that_came_while_no_session_ran_is_found(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await anyio.sleep(SETTLED_S)
        # Nobody looks a second time but the one that begins anew.
        monkeypatch.setattr(housekeeper, "_LOOK_EVERY_NS", 86_400 * NS_PER_S)
        pay_in(found, 77.0)
        await anyio.sleep(1)
        # What begins anew knows what was left, and nothing else.
        session = found.session
        begun = CashWatch(
            session._connector,
            found.store,
            run_id=session.run_id,
            clock=session._clock,
            on_doubt=lambda: None,
            on_incident=lambda *_: None,
        )
        assert begun.look(found.gateway.now_ns) is None
        await anyio.sleep(SETTLED_S / 2)
        assert begun.look(found.gateway.now_ns) is not None
        (row,) = differences(found)
        assert row["broker_value"] - row["our_value"] == pytest.approx(77.0, abs=0.05)
        assert await found.close()

    live_one_day(tape, tmp_path, scenario)


def test_a_corrected_price_that_was_not_told_is_asked_for(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = Session.send_all

    def lose_executions(self: Session, messages: Iterable[Message]) -> None:
        tell(self, [one for one in messages if one[0] != "execDetails"])

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        await anyio.sleep(SETTLED_S)
        monkeypatch.setattr(Session, "send_all", lose_executions)
        found.inject("execution_correction", change_usd=-0.5)
        monkeypatch.undo()
        await anyio.sleep(SETTLED_S)
        assert differences(found) == []
        (fill, corrected) = found.fills()
        assert corrected["price"] == pytest.approx(fill["price"] - 0.5)
        assert await found.close()

    trade_one_day(tape, tmp_path, scenario)


def test_a_trade_by_hand_is_money_that_is_not_ours(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await anyio.sleep(SETTLED_S)
        before = found.exchange.account.ledger.cash_usd
        by_hand(found, Side.BUY, 10)
        await anyio.sleep(SETTLED_S)
        (row,) = differences(found)
        paid = found.exchange.account.ledger.cash_usd - before
        assert row["broker_value"] - row["our_value"] == pytest.approx(paid, abs=0.02)

    live_one_day(tape, tmp_path, scenario)
