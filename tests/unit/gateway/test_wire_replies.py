"""What the client library makes of each message that the gateway sends."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, cast

import ib_insync as ib
import pytest
from ib_insync.decoder import Decoder

from momentum_lab.gateway.wire import ServerWire

UNSET = 1.7976931348623157e308
CONTRACT = {
    "con_id": 265598,
    "symbol": "AAPL",
    "sec_type": "STK",
    "exchange": "SMART",
    "primary_exchange": "NASDAQ",
    "currency": "USD",
    "local_symbol": "AAPL",
    "trading_class": "NMS",
}
AAPL = ib.Contract(
    conId=265598,
    symbol="AAPL",
    secType="STK",
    exchange="SMART",
    currency="USD",
    localSymbol="AAPL",
    tradingClass="NMS",
)
LISTED_AAPL = ib.Contract(
    conId=265598,
    symbol="AAPL",
    secType="STK",
    primaryExchange="NASDAQ",
    currency="USD",
    localSymbol="AAPL",
    tradingClass="NMS",
)
BAR = {"open": 1.5, "high": 4.5, "low": 0.5, "close": 2.5, "volume": 1000, "wap": 2.25}

Call = tuple[str, tuple[Any, ...]]
# Message, what is sent, what the client library calls its wrapper with.
CASES: list[tuple[str, dict[str, Any], Call]] = [
    (
        "error",
        {"req_id": 5, "code": 200, "text": "No security definition"},
        ("error", (5, 200, "No security definition", "")),
    ),
    (
        "error",
        {"code": 2104, "text": "farm is OK"},
        ("error", (-1, 2104, "farm is OK", "")),
    ),
    ("nextValidId", {"order_id": 17}, ("nextValidId", (17,))),
    ("managedAccounts", {"accounts": "DU1,DU2"}, ("managedAccounts", ("DU1,DU2",))),
    ("currentTime", {"time": 1795377900}, ("currentTime", (1795377900,))),
    ("userInfo", {"req_id": 5}, ("userInfo", (5, ""))),
    (
        "familyCodes",
        {"family_codes": [{"account": "DU1", "family_code": "F"}]},
        ("familyCodes", ([ib.FamilyCode("DU1", "F")],)),
    ),
    (
        "updateAccountValue",
        {"key": "NetLiquidation", "value": "1000.00", "currency": "USD", "account": "DU1"},
        ("updateAccountValue", ("NetLiquidation", "1000.00", "USD", "DU1")),
    ),
    (
        "updatePortfolio",
        {
            "contract": CONTRACT,
            "position": 10,
            "market_price": 190.5,
            "market_value": 1905,
            "average_cost": 190,
            "unrealized_pnl": 5,
            "realized_pnl": None,
            "account": "DU1",
        },
        ("updatePortfolio", (LISTED_AAPL, 10.0, 190.5, 1905.0, 190.0, 5.0, UNSET, "DU1")),
    ),
    ("updateAccountTime", {"time": "15:25"}, ("updateAccountTime", ("15:25",))),
    ("accountDownloadEnd", {"account": "DU1"}, ("accountDownloadEnd", ("DU1",))),
    (
        "accountUpdateMulti",
        {
            "req_id": 5,
            "account": "DU1",
            "model_code": "",
            "key": "Cushion",
            "value": "1",
            "currency": "",
        },
        ("accountUpdateMulti", (5, "DU1", "", "Cushion", "1", "")),
    ),
    ("accountUpdateMultiEnd", {"req_id": 5}, ("accountUpdateMultiEnd", (5,))),
    (
        "accountSummary",
        {"req_id": 5, "account": "DU1", "tag": "SMA", "value": "1", "currency": "USD"},
        ("accountSummary", (5, "DU1", "SMA", "1", "USD")),
    ),
    ("accountSummaryEnd", {"req_id": 5}, ("accountSummaryEnd", (5,))),
    (
        "position",
        {"account": "DU1", "contract": CONTRACT, "position": -10, "avg_cost": 190.5},
        ("position", ("DU1", AAPL, -10.0, 190.5)),
    ),
    ("positionEnd", {}, ("positionEnd", ())),
    (
        "positionMulti",
        {"req_id": 5, "account": "DU1", "contract": CONTRACT, "position": 1, "avg_cost": 2},
        ("positionMulti", (5, "DU1", "", AAPL, 1.0, 2.0)),
    ),
    ("positionMultiEnd", {"req_id": 5}, ("positionMultiEnd", (5,))),
    (
        "pnl",
        {"req_id": 5, "daily_pnl": 1.5, "unrealized_pnl": -2, "realized_pnl": None},
        ("pnl", (5, 1.5, -2.0, UNSET)),
    ),
    (
        "pnlSingle",
        {
            "req_id": 5,
            "position": 10,
            "daily_pnl": 1,
            "unrealized_pnl": 2,
            "realized_pnl": 3,
            "market_value": 4,
        },
        ("pnlSingle", (5, 10.0, 1.0, 2.0, 3.0, 4.0)),
    ),
    ("contractDetailsEnd", {"req_id": 5}, ("contractDetailsEnd", (5,))),
    (
        "marketRule",
        {"market_rule_id": 26, "increments": [{"low_edge": 0, "increment": 0.01}]},
        ("marketRule", (26, [ib.PriceIncrement(0.0, 0.01)])),
    ),
    (
        "tickPrice",
        {"req_id": 5, "tick_type": 1, "price": 190.03, "size": 100},
        ("priceSizeTick", (5, 1, 190.03, 100.0)),
    ),
    ("tickSize", {"req_id": 5, "tick_type": 0, "size": 300}, ("tickSize", (5, 0, 300.0))),
    ("tickGeneric", {"req_id": 5, "tick_type": 49, "value": 0}, ("tickGeneric", (5, 49, 0.0))),
    (
        "tickString",
        {"req_id": 5, "tick_type": 45, "text": "1795377900"},
        ("tickString", (5, 45, "1795377900")),
    ),
    ("tickSnapshotEnd", {"req_id": 5}, ("tickSnapshotEnd", (5,))),
    ("marketDataType", {"req_id": 5, "market_data_type": 3}, ("marketDataType", (5, 3))),
    (
        "tickReqParams",
        {"req_id": 5, "min_tick": 0.01, "bbo_exchange": "9c0001", "snapshot_permissions": 3},
        ("tickReqParams", (5, 0.01, "9c0001", 3)),
    ),
    (
        "tickByTick",
        {"req_id": 5, "kind": 1, "time": 7, "price": 1.5, "size": 2, "mask": 2, "exchange": "Q"},
        (
            "tickByTickAllLast",
            (5, 1, 7, 1.5, 2.0, ib.TickAttribLast(pastLimit=False, unreported=True), "Q", ""),
        ),
    ),
    (
        "tickByTick",
        {
            "req_id": 5,
            "kind": 3,
            "time": 7,
            "bid_price": 1.5,
            "ask_price": 1.75,
            "bid_size": 2,
            "ask_size": 3,
        },
        (
            "tickByTickBidAsk",
            (5, 7, 1.5, 1.75, 2.0, 3.0, ib.TickAttribBidAsk(bidPastLow=False, askPastHigh=False)),
        ),
    ),
    (
        "tickByTick",
        {"req_id": 5, "kind": 4, "time": 7, "mid_point": 1.625},
        ("tickByTickMidPoint", (5, 7, 1.625)),
    ),
    (
        "realtimeBar",
        {"req_id": 5, "time": 7, "count": 12, **BAR},
        ("realtimeBar", (5, 7, 1.5, 4.5, 0.5, 2.5, 1000.0, 2.25, 12)),
    ),
    (
        "historicalDataUpdate",
        {"req_id": 5, "date": "20261122", "bar_count": 12, **BAR},
        (
            "historicalDataUpdate",
            (
                5,
                ib.BarData(
                    date="20261122",  # type: ignore[arg-type]  # parsed later by the wrapper
                    open=1.5,
                    high=4.5,
                    low=0.5,
                    close=2.5,
                    volume=1000,
                    average=2.25,
                    barCount=12,
                ),
            ),
        ),
    ),
    (
        "headTimestamp",
        {"req_id": 5, "timestamp": "19801212-14:30:00"},
        ("headTimestamp", (5, "19801212-14:30:00")),
    ),
    (
        "newsBulletin",
        {"message_id": 1, "bulletin_type": 2, "text": "NYSE is down", "exchange": "NYSE"},
        ("updateNewsBulletin", (1, 2, "NYSE is down", "NYSE")),
    ),
    (
        "newsArticle",
        {"req_id": 5, "article_type": 0, "text": "Gefäß"},
        ("newsArticle", (5, 0, "Gefäß")),
    ),
    (
        "tickNews",
        {
            "req_id": 5,
            "time_ms": 1795377900123,
            "provider_code": "BRFG",
            "article_id": "BRFG$1",
            "headline": "Straße",
        },
        ("tickNews", (5, 1795377900123, "BRFG", "BRFG$1", "Straße", "")),
    ),
    ("scannerParameters", {"xml": "<a>ü</a>"}, ("scannerParameters", ("<a>ü</a>",))),
    (
        "newsProviders",
        {"providers": [{"code": "BRFG", "name": "Briefing"}]},
        ("newsProviders", ([ib.NewsProvider("BRFG", "Briefing")],)),
    ),
    (
        "historicalNews",
        {
            "req_id": 5,
            "time": "2026-11-20 14:00:00.0",
            "provider_code": "BRFG",
            "article_id": "BRFG$1",
            "headline": "Straße",
        },
        ("historicalNews", (5, "2026-11-20 14:00:00.0", "BRFG", "BRFG$1", "Straße")),
    ),
    ("historicalNewsEnd", {"req_id": 5, "has_more": True}, ("historicalNewsEnd", (5, True))),
    (
        "orderStatus",
        {
            "order_id": 5,
            "status": "Submitted",
            "filled": 40,
            "remaining": 60,
            "avg_fill_price": 190.03,
            "perm_id": 77,
            "last_fill_price": 190.03,
            "client_id": 1,
        },
        ("orderStatus", (5, "Submitted", 40.0, 60.0, 190.03, 77, 0, 190.03, 1, "", 0.0)),
    ),
    ("openOrderEnd", {}, ("openOrderEnd", ())),
    ("completedOrdersEnd", {}, ("completedOrdersEnd", ())),
    ("execDetailsEnd", {"req_id": 5}, ("execDetailsEnd", (5,))),
    (
        "commissionReport",
        {"exec_id": "0000e0d5.00000001.01.01", "commission": 1.25},
        (
            "commissionReport",
            (ib.CommissionReport("0000e0d5.00000001.01.01", 1.25, "USD", UNSET, UNSET, 0),),
        ),
    ),
]


class Recorder:
    """Stands where the client library calls its wrapper."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, args))


def sent(version: int, name: str, **values: Any) -> bytes:
    wire = ServerWire()
    hello = f"v{version}..{version}".encode()
    wire.receive_data(b"API\0" + len(hello).to_bytes(4, "big") + hello)
    wire.hello("now")
    return wire.send(name, **values)


def calls(version: int, name: str, **values: Any) -> list[Call]:
    """Return what the client library calls; it drops what it cannot read."""
    recorder = Recorder()
    texts = sent(version, name, **values)[4:].decode().split("\0")[:-1]
    decoder: Any = Decoder(cast("Any", recorder), version)
    decoder.interpret(texts)
    return recorder.calls


@pytest.mark.parametrize("version", [157, 163, 166, 170, 176])
@pytest.mark.parametrize(("name", "values", "call"), CASES)
def test_message_is_read_as_it_was_meant(
    name: str, values: dict[str, Any], call: Call, version: int
) -> None:
    assert calls(version, name, **values) == [call]


@pytest.mark.parametrize(
    ("name", "values", "n_fields"),
    [
        ("orderStatus", CASES[-5][1], 12),
        ("updatePortfolio", CASES[8][1], 20),
        ("position", CASES[15][1], 16),
        ("tickPrice", {"req_id": 1, "tick_type": 1, "price": 1}, 7),
        ("commissionReport", CASES[-1][1], 8),
    ],
)
def test_message_has_the_known_number_of_fields(
    name: str, values: dict[str, Any], n_fields: int
) -> None:
    assert sent(176, name, **values)[4:].count(b"\0") == n_fields


def test_history_brings_each_bar_and_the_end() -> None:
    bars = [{"date": f"2026112{i}", "bar_count": 12, **BAR} for i in range(3)]

    *each, end = calls(176, "historicalData", req_id=5, start="s", end="e", bars=bars)

    assert [call[1][1].date for call in each] == ["20261120", "20261121", "20261122"]
    assert [(b.open, b.high, b.low, b.close, b.average) for b in (each[0][1][1],)] == [
        (1.5, 4.5, 0.5, 2.5, 2.25)
    ]
    assert end == ("historicalDataEnd", (5, "s", "e"))


def test_history_without_bars_still_ends() -> None:
    assert calls(176, "historicalData", req_id=5, bars=[]) == [("historicalDataEnd", (5, "", ""))]


def test_schedule_brings_its_sessions() -> None:
    session = {"start": "a", "end": "b", "ref_date": "c"}

    ((method, args),) = calls(
        176, "historicalSchedule", req_id=5, start="s", end="e", time_zone="z", sessions=[session]
    )

    assert method == "historicalSchedule"
    assert args == (5, "s", "e", "z", [ib.HistoricalSession("a", "b", "c")])


@pytest.mark.parametrize("version", [157, 162, 163, 164, 176])
def test_contract_details_are_read_in_every_version(version: int) -> None:
    ((method, (req_id, details)),) = calls(
        version,
        "contractDetails",
        req_id=5,
        symbol="SAN",
        exchange="SMART",
        con_id=38708077,
        min_tick=0.01,
        long_name="Bäckerei \\ Söhne",
        primary_exchange="NYSE",
        sec_ids=[{"tag": "ISIN", "value": "US0378331005"}],
        market_rule_ids="26,26",
        stock_type="ADR",
    )

    assert (method, req_id) == ("contractDetails", 5)
    assert details.contract.symbol == "SAN"
    assert details.contract.conId == 38708077
    assert details.contract.primaryExchange == "NYSE"
    assert details.minTick == 0.01
    assert details.longName == "Bäckerei \\ Söhne"
    assert details.secIdList == [ib.TagValue("ISIN", "US0378331005")]
    assert (details.marketRuleIds, details.stockType) == ("26,26", "ADR")
    assert details.timeZoneId == "US/Eastern"


@pytest.mark.parametrize("version", [157, 176])
def test_symbol_samples_are_read_in_every_version(version: int) -> None:
    names = {"sec_type": "STK", "primary_exchange": "NASDAQ", "currency": "USD"}
    samples = [
        {"con_id": 1, "symbol": "A", **names, "derivative_sec_types": ("CFD", "OPT")},
        {"con_id": 2, "symbol": "B", **names},
    ]

    ((_, (req_id, found)),) = calls(version, "symbolSamples", req_id=5, samples=samples)

    assert req_id == 5
    assert [description.contract.symbol for description in found] == ["A", "B"]
    assert [description.derivativeSecTypes for description in found] == [["CFD", "OPT"], []]


@pytest.mark.parametrize("version", [157, 170, 176])
def test_execution_is_read_in_every_version(version: int) -> None:
    ((method, (req_id, contract, execution)),) = calls(
        version,
        "execDetails",
        order_id=5,
        contract=CONTRACT,
        exec_id="0000e0d5.00000001.01.01",
        time="20261122 15:25:48 US/Eastern",
        account="DU1",
        exec_exchange="ISLAND",
        side="BOT",
        shares=40,
        price=190.03,
        perm_id=77,
        client_id=1,
        cum_qty=40,
        avg_price=190.03,
        order_ref="shock-1",
        last_liquidity=2,
    )

    assert (method, req_id, contract) == ("execDetails", -1, AAPL)
    assert execution.time == datetime(2026, 11, 22, 20, 25, 48, tzinfo=timezone.utc)
    assert (execution.shares, execution.price, execution.side) == (40.0, 190.03, "BOT")
    assert (execution.permId, execution.orderRef, execution.lastLiquidity) == (77, "shock-1", 2)


def test_execution_gets_its_revision_mark_from_178_on() -> None:
    values: dict[str, Any] = {
        "order_id": 5,
        "contract": CONTRACT,
        "exec_id": "1",
        "time": "20261122 15:25:48 US/Eastern",
        "account": "DU1",
        "exec_exchange": "ISLAND",
        "side": "BOT",
        **dict.fromkeys(("shares", "price", "perm_id", "client_id", "cum_qty", "avg_price"), 1),
    }

    assert sent(177, "execDetails", **values)[4:].count(b"\0") == 31
    assert sent(178, "execDetails", **values)[4:].count(b"\0") == 32


ORDER: dict[str, Any] = {
    "contract": CONTRACT,
    "action": "BUY",
    "total_quantity": 100,
    "order_type": "LMT",
    "lmt_price": 190.03,
    "perm_id": 77,
    "status": "Filled",
}


@pytest.mark.parametrize(("version", "n_fields"), [(157, 120), (163, 123), (176, 128), (177, 127)])
def test_plain_open_order_has_the_known_number_of_fields(version: int, n_fields: int) -> None:
    frame = sent(version, "openOrder", order_id=5, client_id=1, **ORDER)

    assert frame[4:].count(b"\0") == n_fields


@pytest.mark.parametrize(("version", "n_fields"), [(169, 92), (176, 97), (177, 96)])
def test_plain_completed_order_has_the_known_number_of_fields(version: int, n_fields: int) -> None:
    assert (
        sent(version, "completedOrder", filled_quantity=100, **ORDER)[4:].count(b"\0") == n_fields
    )


def test_margins_of_an_ordinary_order_are_unset() -> None:
    ((_, (_, _, _, state)),) = calls(176, "openOrder", order_id=5, client_id=1, **ORDER)

    assert float(state.initMarginChange) == UNSET
    assert state.commission == UNSET


@pytest.mark.parametrize("version", [157, 170, 176])
def test_completed_order_is_read_in_every_version(version: int) -> None:
    ((method, (contract, order, state)),) = calls(
        version,
        "completedOrder",
        filled_quantity=100,
        trail_stop_price=187.5,
        completed_time="20261122 15:25:48 US/Eastern",
        completed_status="Filled Size: 100",
        **ORDER,
    )

    assert (method, contract) == ("completedOrder", AAPL)
    assert (order.permId, order.filledQuantity, order.lmtPrice) == (77, 100.0, 190.03)
    assert order.trailStopPrice == 187.5
    assert (state.status, state.completedStatus) == ("Filled", "Filled Size: 100")
