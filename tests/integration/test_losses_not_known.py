"""What an account is worth cannot be made out while a position is open: its exits go on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import anyio
import pytest

from momentum_lab.core.signal import Reason
from momentum_lab.gateway.orders import AccountChanged
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.voice import Message
from tests.connection_kit import make_tape
from tests.order_desk import HALF_DAY_NS, NOON_NS, OrderDesk, trade_one_day

pytestmark = pytest.mark.timeout(60)
# Past a bar of the tape, so that the position is looked at; and past the housekeeper's minute.
LOOKED_AT_S = 90.0


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - HALF_DAY_NS, 2)


def tell_account(found: OrderDesk) -> None:
    found.gateway.hub.publish([AccountChanged()])


async def close_by_flatten(found: OrderDesk) -> None:
    found.session._manager.flatten()
    await found.until(lambda: not found.store.open_trades())
    found.session._manager.keep()


def incidents(found: OrderDesk, kind: str) -> int:
    return [row["kind"] for row in found.final["incidents"]].count(kind)


@pytest.mark.parametrize("key", ["NetLiquidation", "BuyingPower", "TotalCashValue"])
def test_an_account_value_that_is_no_number_is_not_known_and_stops_no_exit(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    tell = Session.send_all

    def grouped(message: Message) -> Message:
        name, values = message
        if name != "updateAccountValue" or values["key"] != key:
            return message
        return name, {**values, "value": "1,000,000.00"}

    def group_digits(self: Session, messages: Iterable[Message]) -> None:
        tell(self, [grouped(one) for one in messages])

    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        with monkeypatch.context() as patch:
            patch.setattr(Session, "send_all", group_digits)
            for _ in range(2):
                tell_account(found)
                await anyio.sleep(LOOKED_AT_S)
            reason = (await found.enter(symbol="IBM")).reason
            # Cash is only compared, no size hangs on it.
            assert reason is (Reason.SHOCK if key == "TotalCashValue" else Reason.NO_EQUITY)
            await close_by_flatten(found)
        tell_account(found)
        await anyio.sleep(LOOKED_AT_S)
        assert found.session._connector.account().equity_usd is not None
        assert not found.session._stop.is_set()

    found = trade_one_day(tape, tmp_path, scenario)

    assert incidents(found, "bad datum") == 1


def test_a_loss_that_cannot_be_looked_at_stops_no_exit(tape: Path, tmp_path: Path) -> None:
    async def scenario(found: OrderDesk) -> None:
        await found.enter()
        # The day's first equity has to be read once more, and cannot be.
        found.session._execution._planner._desk._start_equity = None
        found.session._manager._looks_at_usd = math.inf
        found.store.db.execute("UPDATE equity SET equity_usd = equity_usd")
        found.store.db.execute("ALTER TABLE equity RENAME TO away")
        await anyio.sleep(LOOKED_AT_S)
        await close_by_flatten(found)
        found.store.db.execute("ALTER TABLE away RENAME TO equity")
        assert not found.session._stop.is_set()

    found = trade_one_day(tape, tmp_path, scenario)

    assert incidents(found, "losses not looked at") == 1
    assert incidents(found, "watch interrupted") == 0
