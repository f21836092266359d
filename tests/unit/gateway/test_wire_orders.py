"""Orders as the client library itself serialises and reads them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import ib_insync as ib
import pytest
from ib_insync.client import Client
from ib_insync.decoder import Decoder

from momentum_lab.gateway.wire import REPLIES, BadRequest, Request, ServerWire

STOCK = ib.Contract(
    secType="STK", conId=265598, symbol="AAPL", exchange="SMART", currency="USD", strike=0.0
)
COMBO = ib.Contract(
    secType="BAG",
    symbol="SPY",
    exchange="SMART",
    currency="USD",
    comboLegs=[
        ib.ComboLeg(conId=1, ratio=1, action="BUY", exchange="SMART"),
        ib.ComboLeg(conId=2, ratio=2, action="SELL", exchange="SMART", openClose=1),
    ],
)
HEDGED_COMBO = dataclasses.replace(
    COMBO, deltaNeutralContract=ib.DeltaNeutralContract(conId=7, delta=0.5, price=190.0)
)
IBKRATS = dataclasses.replace(STOCK, exchange="IBKRATS")
ALL_CONDITIONS = [
    ib.PriceCondition(price=200.5, conId=265598, exch="SMART", triggerMethod=2),
    ib.TimeCondition(conjunction="o", isMore=False, time="20261122 15:00:00 US/Eastern"),
    ib.MarginCondition(percent=30),
    ib.ExecutionCondition(secType="STK", exch="SMART", symbol="MSFT"),
    ib.VolumeCondition(volume=100_000, conId=265598, exch="SMART"),
    ib.PercentChangeCondition(changePercent=2.5, conId=265598, exch="SMART"),
]


def order(order_type: str = "LMT", **others: Any) -> ib.Order:
    return ib.Order(orderType=order_type, action="BUY", totalQuantity=100.0, openClose="", **others)


EXOTIC = {
    "market": (STOCK, order("MKT")),
    "limit": (STOCK, order(lmtPrice=190.03, tif="GTC", orderRef="shock-1", outsideRth=True)),
    "stop limit child": (STOCK, order("STP LMT", lmtPrice=1.1, auxPrice=1.2, parentId=3)),
    "trail": (STOCK, order("TRAIL", trailingPercent=1.5, trailStopPrice=187.0)),
    "trail by amount": (STOCK, order("TRAIL", auxPrice=0.5)),
    "one cancels all": (STOCK, order(lmtPrice=1.0, ocaGroup="g1", ocaType=1)),
    "what if": (STOCK, order("MKT", whatIf=True)),
    "conditions": (
        STOCK,
        order("MKT", conditions=ALL_CONDITIONS, conditionsIgnoreRth=True),
    ),
    "algo": (
        STOCK,
        order(
            "MKT",
            algoStrategy="Adaptive",
            algoParams=[ib.TagValue("adaptivePriority", "Normal"), ib.TagValue("a", "b")],
        ),
    ),
    "algo without parameters": (STOCK, order("MKT", algoStrategy="Twap")),
    "hedge": (STOCK, order("MKT", hedgeType="F", hedgeParam="x", parentId=3)),
    "scale": (
        STOCK,
        order(
            lmtPrice=1.0,
            scaleInitLevelSize=10,
            scaleSubsLevelSize=5,
            scalePriceIncrement=0.05,
            scalePriceAdjustValue=0.01,
            scalePriceAdjustInterval=60,
            scaleProfitOffset=0.1,
            scaleAutoReset=True,
            scaleInitPosition=1,
            scaleInitFillQty=2,
            scaleRandomPercent=True,
        ),
    ),
    "volatility with delta neutral": (
        STOCK,
        order(
            "VOL",
            volatility=20.0,
            volatilityType=2,
            deltaNeutralOrderType="MKT",
            deltaNeutralConId=9,
            deltaNeutralSettlingFirm="f",
            deltaNeutralShortSale=True,
            deltaNeutralShortSaleSlot=1,
            deltaNeutralDesignatedLocation="l",
        ),
    ),
    "pegged to benchmark": (
        STOCK,
        order(
            "PEG BENCH",
            startingPrice=190.0,
            referenceContractId=8,
            isPeggedChangeAmountDecrease=True,
            peggedChangeAmount=0.2,
            referenceChangeAmount=0.1,
            referenceExchangeId="ISLAND",
        ),
    ),
    "pegged to middle": (STOCK, order("PEG MID", midOffsetAtWhole=0.01, midOffsetAtHalf=0.02)),
    "pegged to best": (
        STOCK,
        order("PEG BEST", minCompeteSize=100, competeAgainstBestOffset=0.02),
    ),
    "pegged to best without bound": (
        STOCK,
        order(
            "PEG BEST",
            minCompeteSize=100,
            competeAgainstBestOffset=math.inf,
            midOffsetAtWhole=0.01,
            midOffsetAtHalf=0.02,
        ),
    ),
    "alternative venue": (IBKRATS, order("PEG BEST", minTradeQty=50, minCompeteSize=100)),
    "combo": (
        COMBO,
        order(
            lmtPrice=1.5,
            orderComboLegs=[ib.OrderComboLeg(price=1.0), ib.OrderComboLeg(price=0.5)],
            smartComboRoutingParams=[ib.TagValue("NonGuaranteed", "1")],
        ),
    ),
    "combo with delta neutral": (HEDGED_COMBO, order(lmtPrice=1.5)),
    "adjusted stop": (
        STOCK,
        order(
            "STP",
            auxPrice=180.0,
            adjustedOrderType="TRAIL",
            triggerPrice=200.0,
            adjustedStopPrice=195.0,
            adjustedStopLimitPrice=194.0,
            adjustedTrailingAmount=1.0,
            adjustableTrailingUnit=1,
        ),
    ),
    "text beyond ASCII": (STOCK, order(lmtPrice=1.0, orderRef="Gefäß 株")),
}
UNTYPED_CLIENT: Any = Client
VERSIONS = [157, 163, 164, 166, 169, 170, 174, 176]


class Recorder:
    """Stands where the client library calls its wrapper."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.calls.append((name, args))


class ReadsOrRaises(Decoder):
    """The client library's decoder, without its habit of only logging errors."""

    def interpret(self, fields: list[str]) -> None:
        self.handlers[int(fields[0])](fields)


def connected(version: int) -> ServerWire:
    wire = ServerWire()
    hello = f"v{version}..{version}".encode()
    wire.receive_data(b"API\0" + len(hello).to_bytes(4, "big") + hello)
    wire.hello("now")
    return wire


def placed(version: int, contract: ib.Contract, its_order: ib.Order) -> bytes:
    """Return the bytes that the client library sends for an order."""
    client: Any = UNTYPED_CLIENT(Recorder())
    client.connState = Client.CONNECTED
    client._serverVersion = version
    sent: list[str] = []
    client.sendMsg = sent.append
    client.placeOrder(5, contract, its_order)
    return b"".join(client._prefix(text.encode()) for text in sent)


def request_for(version: int, name: str) -> Request:
    (event,) = connected(version).receive_data(placed(version, *EXOTIC[name]))
    assert isinstance(event, Request), event
    return event


def read_by_client(version: int, frame: bytes) -> tuple[str, tuple[Any, ...]]:
    recorder = Recorder()
    decoder: Any = ReadsOrRaises(cast("Any", recorder), version)
    decoder.interpret(frame[4:].decode().split("\0")[:-1])
    (call,) = recorder.calls
    return call


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EXOTIC)
def test_every_field_of_an_order_is_consumed(name: str, version: int) -> None:
    assert request_for(version, name).name == "placeOrder"


def test_order_values_arrive_under_their_names() -> None:
    request = request_for(176, "limit")

    assert request["order_id"] == 5
    assert request["contract"]["con_id"] == 265598
    assert request["contract"]["exchange"] == "SMART"
    assert (request["action"], request["order_type"]) == ("BUY", "LMT")
    assert request["total_quantity"] == 100
    assert request["lmt_price"] == 190.03
    assert request["aux_price"] is None
    assert request["transmit"] is True
    assert request["outside_rth"] is True
    assert request["tif"] == "GTC"
    assert request["order_ref"] == "shock-1"
    assert request["conditions"] == ()


def test_conditions_arrive_each_in_its_own_shape() -> None:
    request = request_for(176, "conditions")

    assert [condition["type"] for condition in request["conditions"]] == [1, 3, 4, 5, 6, 7]
    price, time, margin, execution, volume, change = request["conditions"]
    assert (price["price"], price["con_id"], price["trigger_method"]) == (200.5, 265598, 2)
    assert (time["conjunction"], time["is_more"]) == ("o", False)
    assert margin["percent"] == 30
    assert (execution["sec_type"], execution["symbol"]) == ("STK", "MSFT")
    assert volume["volume"] == 100_000
    assert change["change_percent"] == 2.5
    assert request["conditions_ignore_rth"] is True


def test_unbounded_offset_is_infinity() -> None:
    request = request_for(176, "pegged to best without bound")

    assert request["compete_against_best_offset"] == math.inf
    assert request["mid_offset_at_half"] == 0.02


def test_left_over_field_is_reported() -> None:
    payload = placed(176, *EXOTIC["limit"])[4:] + b"surplus\0"

    (event,) = connected(176).receive_data(len(payload).to_bytes(4, "big") + payload)

    assert isinstance(event, BadRequest)
    assert (event.code, event.req_id) == (320, 5)


def test_condition_of_unknown_type_is_reported() -> None:
    payload = placed(176, *EXOTIC["conditions"])[4:].replace(
        b"\x006\x001\0a\x001", b"\x006\x002\0a\x001"
    )
    assert payload != placed(176, *EXOTIC["conditions"])[4:]

    (event,) = connected(176).receive_data(len(payload).to_bytes(4, "big") + payload)

    assert isinstance(event, BadRequest)
    assert "type" in event.reason


@pytest.mark.parametrize(
    ("version", "n_fields"), [(157, 110), (163, 113), (166, 114), (169, 115), (176, 115)]
)
def test_plain_order_has_the_known_number_of_fields(version: int, n_fields: int) -> None:
    assert placed(version, *EXOTIC["limit"])[4:].count(b"\0") == n_fields


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", EXOTIC)
def test_order_sent_back_is_the_order_that_was_placed(name: str, version: int) -> None:
    request = request_for(version, name)

    echo = REPLIES.select("openOrder", request.values)
    frame = connected(version).send(
        "openOrder", **echo, client_id=1, perm_id=77, status="Submitted"
    )
    method, (order_id, contract, echoed, state) = read_by_client(version, frame)

    assert (method, order_id, state.status) == ("openOrder", 5, "Submitted")
    assert_same_contract(contract, EXOTIC[name][0])
    assert_same_order(echoed, EXOTIC[name][1], version)


def assert_same_contract(found: ib.Contract, expected: ib.Contract) -> None:
    for field in dataclasses.fields(ib.Contract):
        wanted = getattr(expected, field.name)
        assert getattr(found, field.name) == wanted or not wanted, field.name


def assert_same_order(found: ib.Order, expected: ib.Order, version: int) -> None:
    pegged = {"midOffsetAtWhole", "midOffsetAtHalf", "minCompeteSize", "minTradeQty"}
    unheard = pegged | {"competeAgainstBestOffset"} if version < 170 else set()
    differences = {
        field.name: (getattr(found, field.name), getattr(expected, field.name))
        for field in dataclasses.fields(ib.Order)
        if field.name not in {"orderId", "clientId", "permId"} | unheard
        and getattr(found, field.name) != getattr(expected, field.name)
    }
    assert differences == {}
