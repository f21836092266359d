"""Account, positions and profits of the paper gateway, heard by the unmodified library."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest
from ib_insync import IB, Contract, MarketOrder, Stock

from momentum_lab.core.market import NS_PER_S
from tests.gateway_client import (
    LIMIT_S,
    connected,
    errors_of,
    heard,
    play,
    settle,
    spy,
    standing_gateway,
)
from tests.gateway_factories import CLOSE, DAY_NS, NOON, OPEN, second, second_tape, seconds

pytestmark = pytest.mark.anyio

ACCOUNT = "DU1234567"
IBM = Stock("IBM", "SMART", "USD")


async def trade(ib: IB, contract: Contract, side: str, quantity: int) -> None:
    order = ib.placeOrder(contract, MarketOrder(side, quantity, tif="DAY"))
    with anyio.fail_after(LIMIT_S):
        while not order.isDone():
            await order.statusEvent


async def test_profits_of_a_day_are_counted_from_the_last_regular_close(tmp_path: Path) -> None:
    rows = [
        *seconds([100.0] * 5, start_ns=NOON - DAY_NS, volume=4_000),
        *seconds([50.0] * 5, start_ns=NOON - DAY_NS, volume=4_000, symbol="IBM"),
        second(CLOSE - DAY_NS - NS_PER_S, 110.0),
        second(CLOSE - DAY_NS + NS_PER_S, 117.0),
        *seconds([111.0] * 9, start_ns=OPEN, volume=4_000),
        *seconds([48.0] * 9, start_ns=OPEN, volume=4_000, symbol="IBM"),
    ]
    tape = second_tape(rows, start_ns=NOON - DAY_NS)
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        await ib.qualifyContractsAsync(IBM)
        await play(gateway, 2, ib)
        await trade(ib, spy(), "BUY", 100)
        await trade(ib, IBM, "SELL", 40)
        whole = ib.reqPnL(ACCOUNT)
        singles = [ib.reqPnLSingle(ACCOUNT, "", con_id) for con_id in (756733, IBM.conId)]
        await settle(ib)
        midnight_ns = NOON - DAY_NS // 2
        gateway.hub.step_to(midnight_ns - NS_PER_S)
        await play(gateway, 1, ib)
        assert gateway.now_ns == midnight_ns
        # The late trade at 117 counts: the regular session has closed at 110.
        assert [single.dailyPnL for single in singles] == [700.0, 0.0]
        # Of what has not been traded today the broker knows no realized profit.
        assert [single.realizedPnL for single in singles] == [sys.float_info.max] * 2
        assert whole.dailyPnL == 700.0
        gateway.hub.step_to(OPEN - NS_PER_S)

        await play(gateway, 3, ib)
        assert [single.dailyPnL for single in singles] == [100.0, 80.0]
        await trade(ib, spy(), "SELL", 60)
        await trade(ib, IBM, "SELL", 10)
        await play(gateway, 3, ib)
        assert 0 < singles[0].realizedPnL < 60 * 11.0
        assert singles[0].dailyPnL < 100.0
        assert singles[1].dailyPnL < 80.0
        assert whole.dailyPnL == pytest.approx(sum(single.dailyPnL for single in singles))


async def test_positions_under_a_request_id_are_told_until_they_are_cancelled(
    tmp_path: Path,
) -> None:
    tape = second_tape(seconds([100.0] * 30, volume=4_000))
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        told = heard(ib, "positionMulti")
        await play(gateway, 2, ib)
        await trade(ib, spy(), "BUY", 100)
        for req_id in (71, 72):
            ib.client.reqPositionsMulti(req_id, ACCOUNT, "")
        await settle(ib)
        assert [values[3] for values in told] == [100.0, 100.0]
        ib.client.cancelPositionsMulti(72)
        await trade(ib, spy(), "SELL", 40)
        await settle(ib)
        assert [values[3] for values in told[2:]] == [60.0]


async def test_a_ledger_is_told_of_the_currencies_asked_for(tmp_path: Path) -> None:
    tape = second_tape(seconds([100.0] * 30))
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        told = heard(ib, "accountSummary")
        for tags in ("$LEDGER", "$LEDGER:USD", "$LEDGER:ALL", "$LEDGER:EUR"):
            ib.client.reqAccountSummary(ib.client.getReqId(), "All", tags)
        await settle(ib)
    cash = [(value, currency) for _, tag, value, currency in told if tag == "CashBalance"]
    assert cash == [("1000000.00", currency) for currency in ("BASE", "USD", "BASE", "USD")]
    assert ("NetLiquidationByCurrency", "1000000.00") in {values[1:3] for values in told}


async def test_updates_tell_the_ledger_of_each_currency(tmp_path: Path) -> None:
    tape = second_tape(seconds([100.0] * 30, volume=4_000))
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        await play(gateway, 2, ib)
        await trade(ib, spy(), "BUY", 100)
        await play(gateway, 1, ib)
        told = ib.accountValues(ACCOUNT)
        multi = heard(ib, "accountUpdateMulti")
        with anyio.fail_after(LIMIT_S):
            await ib.reqAccountUpdatesMultiAsync(ACCOUNT)
    rows = [(value.tag, value.currency, value.value) for value in told]
    assert {(tag, currency, value) for _, _, tag, value, currency in multi} == set(rows)
    assert len(multi) == len(rows) == len({row[:2] for row in rows})
    by_key = {(tag, currency): value for tag, currency, value in rows}
    cash, equity = (by_key[tag, "USD"] for tag in ("TotalCashValue", "NetLiquidation"))
    assert float(cash) < float(equity) < 1_000_000.0
    for currency in ("BASE", "USD"):
        ledger = {tag: value for (tag, own), value in by_key.items() if own == currency}
        assert ledger["TotalCashBalance"] == ledger["CashBalance"] == cash
        assert ledger["NetLiquidationByCurrency"] == equity
        assert float(ledger["StockMarketValue"]) == 10_000.0
        assert (ledger["ExchangeRate"], ledger["Currency"]) == ("1.00", currency)
        assert float(ledger["UnrealizedPnL"]) < 0.0 == float(ledger["RealizedPnL"])
    # The values of the whole account are told once, in dollars.
    assert ("NetLiquidation", "BASE") not in by_key


async def test_values_of_an_unknown_account_are_refused(tmp_path: Path) -> None:
    tape = second_tape(seconds([100.0] * 30, volume=4_000))
    async with standing_gateway(tape, tmp_path) as gateway, connected(gateway.port) as ib:
        found, told = errors_of(ib), heard(ib, "updateAccountValue")
        for account in ("DU7654321", ACCOUNT):
            ib.client.reqAccountUpdates(False, ACCOUNT)
            ib.client.reqAccountUpdates(True, account)
            await settle(ib)
            assert bool(told) is (account == ACCOUNT)
    assert [code for _, code in found] == [321]
