"""What each mode lets happen: shadow sends nothing, live and paper know their account."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from momentum_lab.clock import ReplayClock
from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.order import OrderIntent, OrderPurpose
from momentum_lab.errors import BrokerError, ParameterError, RecordError
from momentum_lab.gateway import settings
from momentum_lab.gateway.server import paper_gateway
from momentum_lab.live import session as session_module
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.synchronisation import choose_account
from momentum_lab.live.session import LiveSession
from momentum_lab.parameters import Parameters, RealMoneyParameters, RecordParameters
from momentum_lab.records.lock import exclusive_account
from momentum_lab.records.run_record import check_record
from momentum_lab.records.trade_store import TradeStore
from tests.conftest import StartGateway
from tests.factories import NOON
from tests.record_kit import a_day, break_store
from tests.session_kit import TAPE, demo_parameters, gateway

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def played_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that is no replay takes the time of the gateway all the same."""
    monkeypatch.setattr(session_module, "SystemClock", lambda: ReplayClock(60))


def real(port: int, **changes: object) -> Parameters:
    found = replace(
        demo_parameters(port),
        mode="live",
        account="U1234567",
        real_money=RealMoneyParameters("U1234567"),
    )
    return replace(found, **changes)  # type: ignore[arg-type]  # by name


@pytest.mark.usefixtures("played_clock")
async def test_a_shadow_session_decides_everything_and_sends_nothing(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    wire = tmp_path / "wire.log"
    found = start_gateway("--fast", 20000, "--start", "2013-10-09T13:45", "--wire-log", wire)
    parameters = replace(demo_parameters(found.port), mode="shadow")
    result = await LiveSession(parameters, root=tmp_path).run()
    found.stop()

    store = TradeStore(result.database)
    decisions = store.table("decisions", result.run_id)
    orders = store.table("orders", result.run_id)
    store.close()
    (shock,) = [row for row in decisions if row["outcome"] == "shadow"]
    assert (shock["symbol"], shock["reason"]) == ("SPY", "SHOCK")
    assert re.search(r"would SELL \d+ shares at bid .* stop .* target", shock["text"])
    assert len(decisions) > 1
    assert orders == []
    assert "placeOrder" not in wire.read_text(encoding="utf-8")
    assert not check_record(result.database)


def test_nothing_leaves_by_the_door_of_a_shadow_session() -> None:
    parameters = replace(demo_parameters(4002), mode="shadow")
    order = OrderIntent("ml-1", "SPY", 1, Side.BUY, 1, NOON, OrderPurpose.ENTRY)

    async def send(use: Callable[[IBKRConnector], object]) -> None:
        connector = IBKRConnector(
            parameters,
            clock=ReplayClock(60),
            on_transition=lambda *_: None,
            on_incident=lambda *_: None,
        )
        with pytest.raises(BrokerError, match="ml-1: mode shadow sends nothing"):
            await use(connector)  # type: ignore[misc]  # a coroutine
        connector.close()

    anyio.run(send, lambda connector: connector.place_order(order))
    anyio.run(send, lambda connector: connector.cancel_order("ml-1"))


@pytest.mark.parametrize(
    ("earlier", "mode"),
    [("replay", "shadow"), ("paper", "live"), ("live", "paper"), ("shadow", "live")],
)
async def test_each_kind_of_trade_has_a_store_of_its_own(
    tmp_path: Path, earlier: str, mode: str
) -> None:
    database = a_day(tmp_path)
    break_store(database, f"UPDATE runs SET mode = '{earlier}'")  # noqa: S608 - our own word
    records = RecordParameters(database="trades.db", runs="runs")
    parameters = real(4001, mode=mode, records=records)

    words = f"mode {mode} expects a trade store of its own .* found runs of mode {earlier}"
    with pytest.raises(RecordError, match=words):
        await LiveSession(parameters, root=tmp_path).run()


async def test_a_shadow_session_wants_a_store_without_open_trades(tmp_path: Path) -> None:
    break_store(a_day(tmp_path, closes=False), "UPDATE runs SET mode = 'shadow'")
    records = RecordParameters(database="trades.db", runs="runs")
    parameters = replace(demo_parameters(4002), mode="shadow", records=records)

    with pytest.raises(RecordError, match="could not close the 1 open trades"):
        await LiveSession(parameters, root=tmp_path).run()


@pytest.mark.parametrize(
    ("mode", "account", "sentence"),
    [
        ("paper", "U1234567", "mode paper trades only in a paper account"),
        ("replay", "U1234567", "mode replay trades only in a paper account"),
        ("live", "DU1234567", "mode live trades only in a live account"),
        ("live", "DF1234567", "mode live trades only in a live account"),
        ("paper", "DU1234567", None),
        ("shadow", "DU1234567", None),
        ("shadow", "U1234567", None),
        ("live", "U1234567", None),
    ],
)
def test_the_kind_of_account_fits_the_mode(mode: str, account: str, sentence: str | None) -> None:
    parameters = replace(demo_parameters(4002), mode=mode, account=account)  # type: ignore[arg-type]  # one of the words

    if sentence is None:
        assert choose_account([account], parameters) == account
        return
    with pytest.raises(ParameterError, match=sentence):
        choose_account([account], parameters)


@pytest.mark.usefixtures("played_clock")
async def test_a_live_session_that_is_logged_in_elsewhere_ends_before_anything_is_sent(
    start_gateway: StartGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(start_gateway, tmp_path) as found:
        monkeypatch.setattr("momentum_lab.parameters.LIVE_PORTS", (found.port, 4001))
        with pytest.raises(ParameterError, match="'U1234567' is not one of this login's 1"):
            await LiveSession(real(found.port), root=tmp_path).run()


@asynccontextmanager
async def live_gateway(monkeypatch: pytest.MonkeyPatch, home: Path) -> AsyncIterator[Parameters]:
    """A gateway with an account that is no paper account, at a port of live logins."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(settings, "_PAPER_ACCOUNT", re.compile("U[0-9]{7}"))
    at = settings.GatewaySettings(
        tape=TAPE, account="U1234567", fast=20000, start_ns=1_381_340_700 * NS_PER_S
    )
    async with paper_gateway(at) as found:
        monkeypatch.setattr("momentum_lab.parameters.LIVE_PORTS", (found.port, 4001))
        yield real(found.port)


@pytest.mark.usefixtures("played_clock")
async def test_a_live_session_that_everything_agrees_with_trades(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live_gateway(monkeypatch, tmp_path) as parameters:
        result = await LiveSession(parameters, root=tmp_path).run()

    store = TradeStore(result.database)
    (trade,) = store.table("trades", result.run_id)
    (run,) = store.table("runs", result.run_id)
    store.close()
    assert trade["state"] == "CLOSED"
    assert (run["mode"], run["account"]) == ("live", "U1****67")
    # The id stands nowhere in the record.
    assert "1234567" not in run["params_json"]


@pytest.mark.usefixtures("played_clock")
async def test_the_days_of_two_accounts_are_not_summed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_store(a_day(tmp_path), "UPDATE runs SET mode = 'live', account = 'U9****99'")
    records = RecordParameters(database="trades.db", runs="runs")
    async with live_gateway(monkeypatch, tmp_path) as found:
        with pytest.raises(ParameterError, match=r"account U1\*{4}67 expects a trade store"):
            await LiveSession(replace(found, records=records), root=tmp_path).run()


@pytest.mark.usefixtures("played_clock")
async def test_a_second_session_of_an_account_and_strategy_ends_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live_gateway(monkeypatch, tmp_path) as parameters:
        with (
            exclusive_account("U1234567", parameters.strategy, "first"),
            pytest.raises(ParameterError, match=r"another session trades strategy .*: run first"),
        ):
            await LiveSession(parameters, root=tmp_path).run()
