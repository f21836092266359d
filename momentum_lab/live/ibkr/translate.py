"""Objects of the broker's library <-> our values; sentinels and camelCase end here.

Unset doubles, -1 and NaN become None. Wall-clock stamps that the library makes itself are never
read: an execution has the broker's time, a quote the arrival in market time.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import anyio
import ib_insync

from momentum_lab.core.candle import Trade
from momentum_lab.core.market import NS_PER_S, Bar, DataType, Instrument, Quote, Side
from momentum_lab.core.order import ORDER_REF_PREFIX, OrderEvent, OrderIntent
from momentum_lab.core.position import Fill
from momentum_lab.errors import DataError

_log = logging.getLogger(__name__)

# Above any number that the broker means: it says that a double is not set.
UNSET = 1e300
_LIVE = 1
_HALTED = (1.0, 2.0)
_NO_DATA = 162
_CENT_USD = 0.01
_RT_VOLUME_FIELDS = 6
_NS_PER_MS = 1_000_000

# Copied for each order: to set its hundred and twenty fields anew takes several times as long. The
# lists in it are shared, and nobody fills them.
_PLAIN_ORDER = ib_insync.Order()
# A part-fill takes from the others of the group, and one at a time may be at the exchange.
REDUCE_WITH_BLOCK = 2
_PASSED_ON_STATUSES = frozenset({"PreSubmitted", "Submitted"})
_LIVE_STATUSES = _PASSED_ON_STATUSES | {"PendingSubmit"}

_STATUS_EVENTS = {
    "PreSubmitted": OrderEvent.ACKNOWLEDGE,
    "Submitted": OrderEvent.ACKNOWLEDGE,
    "Cancelled": OrderEvent.CANCEL,
    "ApiCancelled": OrderEvent.CANCEL,
}


@dataclass(frozen=True, slots=True)
class FillReport:
    """An execution."""

    fill: Fill


@dataclass(frozen=True, slots=True)
class CommissionReport:
    """What an execution cost."""

    exec_id: str
    commission_usd: float


@dataclass(frozen=True, slots=True)
class PositionReport:
    """What the account holds of a contract, told because it has changed or was asked for.

    Attributes:
        con_id: the broker's contract id.
        shares: signed; 0 once it is flat.
    """

    con_id: int
    shares: float


@dataclass(frozen=True, slots=True)
class OrderReport:
    """A status or an error of one of our orders.

    Attributes:
        order_ref: our reference.
        event: the step of the life cycle, None where the message moves nothing.
        order_id: the broker's handle in this connection.
        perm_id: the broker's lasting id, 0 while unknown.
        message: the broker's words.
    """

    order_ref: str
    event: OrderEvent | None
    order_id: int
    perm_id: int
    message: str


@dataclass(frozen=True, slots=True)
class WorkingOrder:
    """One of our orders as the broker last described it in this connection.

    Attributes:
        order_id: the broker's handle.
        parent_id: of the order that it belongs to, 0 without.
        status: the broker's word.
        shares: its whole quantity, what has been filled included.
        remaining: what still works.
        limit_price: of a LMT, US dollars.
        stop_price: of a STP, US dollars.
        oca_group: what the broker calls the group that it is in, empty without one.
        oca_type: of that group.
        why_held: why the broker holds it back, as far as it says: "locate", "trigger", "child".
    """

    order_id: int
    parent_id: int
    status: str
    shares: float
    remaining: float
    limit_price: float | None
    stop_price: float | None
    oca_group: str
    oca_type: int
    why_held: str = ""

    @property
    def is_sought(self) -> bool:
        """Whether the broker still looks for the shares that a short sale borrows."""
        return "locate" in self.why_held

    @property
    def is_live(self) -> bool:
        """Whether the broker holds it, so that it can still fill."""
        return self.status in _LIVE_STATUSES

    @property
    def is_passed_on(self) -> bool:
        """Whether the broker has accepted it for the exchange, and does not only hold it."""
        return self.status in _PASSED_ON_STATUSES


@dataclass(frozen=True, slots=True)
class RawHeadline:
    """A headline as the line brought it.

    Attributes:
        provider: provider code.
        article_id: unique per provider.
        stamp: publication, epoch seconds or milliseconds.
        text: raw text.
        extra: metadata string.
        symbol: what the subscription was for; None on a broad tape.
        subscribed_ns: market time of the subscription; what is older is a replay of old news.
    """

    provider: str
    article_id: str
    stamp: float
    text: str
    extra: str
    symbol: str | None
    subscribed_ns: int


@dataclass(frozen=True, slots=True)
class Mark:
    """No word of the broker: whoever reads the reports says here that it has come this far.

    Attributes:
        passed: set by the reader.
    """

    passed: anyio.Event


Report = FillReport | CommissionReport | OrderReport | PositionReport | Mark


def stock(symbol: str, con_id: int = 0) -> ib_insync.Contract:
    """Return the contract of a US stock, smart-routed."""
    contract = ib_insync.Stock(symbol, "SMART", "USD")
    contract.conId = con_id
    return contract


def news_provider(provider: str) -> ib_insync.Contract:
    """Return the contract that stands for every tape of one provider."""
    return ib_insync.Contract(secType="NEWS", exchange=provider)


def news_tape(provider: str, name: str) -> ib_insync.Contract:
    """Return the contract of one tape of a provider, e.g. "BRFG:BRFG_ALL"."""
    return ib_insync.Contract(secType="NEWS", symbol=name, exchange=provider)


def instrument_of(details: ib_insync.ContractDetails) -> Instrument:
    """Return the instrument of a contract's details.

    Raises:
        DataError: no contract, or one without id or tick.
    """
    contract = details.contract
    if contract is None:
        raise DataError("contract details without a contract")
    return Instrument(
        symbol=contract.symbol,
        con_id=contract.conId,
        # It is the smallest anywhere: below a dollar finer than whole cents, which are right too.
        tick_usd=max(details.minTick, _CENT_USD) if details.minTick > 0 else details.minTick,
        primary_exchange=contract.primaryExchange,
        long_name=details.longName,
        stock_type=details.stockType,
        currency=contract.currency,
    )


def quote_of(symbol: str, ticker: ib_insync.Ticker, at_ns: int) -> Quote:
    """Return what a ticker of the library shows, as of its arrival; for a glance only."""
    return Quote(
        symbol=symbol,
        at_ns=at_ns,
        bid=price(ticker.bid),
        ask=price(ticker.ask),
        bid_size=shares(ticker.bidSize),
        ask_size=shares(ticker.askSize),
        last=price(ticker.last),
        halted=ticker.halted in _HALTED,
        data_type=DataType.LIVE if ticker.marketDataType == _LIVE else DataType.DELAYED,
    )


def trade_of(value: str) -> Trade | None:
    """Return the trade of an RTVolume text, None when it tells of none.

    The text is `price;size;epoch ms;day volume;vwap;single`. An empty price reports volume only.
    """
    parts = value.split(";")
    if len(parts) != _RT_VOLUME_FIELDS or not parts[0]:
        return None
    try:
        paid, stamp, volume = float(parts[0]), int(parts[2]), float(parts[3])
    except ValueError:
        _log.warning("trade refused, expected numbers, found text=%r", value)
        return None
    if not (0 < paid < UNSET and 0 <= volume < UNSET):
        return None
    return Trade(stamp * _NS_PER_MS, paid, volume)


def fill_of(fill: ib_insync.Fill) -> Fill:
    """Return our value of an execution and its commission, as far as it is known.

    Raises:
        DataError: no time zone, size or price in it.
    """
    found = fill_of_execution(fill.contract, fill.execution)
    return replace(found, commission_usd=commission_of(fill.commissionReport))


def fill_of_execution(contract: ib_insync.Contract, execution: ib_insync.Execution) -> Fill:
    """Return our value of an execution; its commission comes apart.

    Raises:
        DataError: no time zone, size or price in it.
    """
    if execution.time.tzinfo is None:
        raise DataError(f"execution {execution.execId}: expected a time with a zone")
    return Fill(
        exec_id=execution.execId,
        order_ref=execution.orderRef,
        symbol=contract.symbol,
        side=Side.BUY if execution.side == "BOT" else Side.SELL,
        shares=execution.shares,
        price=execution.price,
        at_ns=epoch_ns(execution.time),
        commission_usd=None,
        con_id=contract.conId,
    )


def is_ours(fill: ib_insync.Fill) -> bool:
    """Whether an execution carries a reference of ours; others may be assignments or combos."""
    return str(fill.execution.orderRef).startswith(ORDER_REF_PREFIX)


def commission_of(report: ib_insync.CommissionReport) -> float | None:
    """Return a commission, None while the broker has not reported it."""
    if not report.execId or not math.isfinite(report.commission) or report.commission > UNSET:
        return None
    return report.commission


def bars_of(bars: Iterable[ib_insync.BarData], *, seconds: int) -> tuple[Bar, ...]:
    """Return historical bars in time order; an impossible one is refused and logged."""
    found = []
    for bar in bars:
        if not isinstance(bar.date, datetime) or bar.date.tzinfo is None:
            raise DataError(f"expected a bar time with a zone, found {bar.date!r}")
        try:
            found.append(
                Bar(epoch_ns(bar.date), seconds, bar.open, bar.high, bar.low, bar.close, bar.volume)
            )
        except DataError as error:
            _log.warning("bar refused, %s", error)
    return tuple(sorted(found, key=lambda item: item.start_ns))


def says_no_data(error: ib_insync.RequestError) -> bool:
    """Whether the broker confirmed that there are no bars; the same code also refuses."""
    return error.code == _NO_DATA and "no data" in error.message


def order_of(
    intent: OrderIntent, *, order_id: int, account: str, parent_id: int = 0, transmit: bool = True
) -> ib_insync.Order:
    """Return the broker's order of an intent; tif and session are always said outright.

    Args:
        intent: what is meant.
        order_id: the broker's handle, new or of the order that is changed.
        account: the account that is traded.
        parent_id: handle of the order at whose fill this one becomes live, 0 without.
        transmit: False holds it back until the last of its family has arrived.
    """
    order = copy(_PLAIN_ORDER)
    order.orderId = order_id
    order.action = intent.side.value
    order.totalQuantity = intent.shares
    order.orderType = intent.order_type.value
    order.tif = intent.tif
    order.outsideRth = False
    order.orderRef = intent.order_ref
    order.account = account
    order.parentId = parent_id
    order.transmit = transmit
    if intent.limit_price is not None:
        order.lmtPrice = intent.limit_price
    if intent.stop_price is not None:
        order.auxPrice = intent.stop_price
    if intent.oca_group is not None:
        order.ocaGroup, order.ocaType = intent.oca_group, REDUCE_WITH_BLOCK
    return order


def follow(ib: ib_insync.IB, contract: ib_insync.Contract, order: ib_insync.Order) -> None:
    """Let the library follow an order that has just left, as its own `IB.placeOrder` would.

    That function writes each order out for its log before the next one may leave; what is sent
    first and followed before the loop turns is as well known when the answer comes.
    """
    wrapper, order_id = ib.wrapper, order.orderId
    order.clientId = wrapper.clientId
    status = ib_insync.OrderStatus(orderId=order_id, status=ib_insync.OrderStatus.PendingSubmit)
    entry = ib_insync.TradeLogEntry(wrapper.lastTime, status.status)
    trade = ib_insync.Trade(contract, order, status, [], [entry])
    wrapper.trades[wrapper.orderKey(order.clientId, order_id, order.permId)] = trade
    ib.newOrderEvent.emit(trade)


def working_of(order_id: int, order: ib_insync.Order, status: str) -> WorkingOrder:
    """Return our value of an open order, before its status says what has been filled."""
    return WorkingOrder(
        order_id=order_id,
        parent_id=order.parentId,
        status=status,
        shares=float(order.totalQuantity),
        remaining=float(order.totalQuantity),
        limit_price=price(order.lmtPrice or 0.0),
        stop_price=price(order.auxPrice or 0.0),
        oca_group=order.ocaGroup,
        oca_type=order.ocaType,
    )


def status_event(status: str) -> OrderEvent | None:
    """Return the step that a status text means, None where it moves nothing.

    Fills are booked from executions, never from a status. `Inactive` may be a rejection or a
    hold: the error beside it, or the look-up after the time limit, decides.
    """
    return _STATUS_EVENTS.get(status)


def epoch_ns(at: datetime) -> int:
    """Return a zone-aware datetime as UTC epoch nanoseconds."""
    delta = at.astimezone(timezone.utc) - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (delta.days * 86_400 + delta.seconds) * NS_PER_S + delta.microseconds * 1_000


def tap(owner: Any, name: str, listener: Callable[..., None], *, instead: bool = False) -> None:
    """Let `listener` hear a callback of the library's wrapper before the wrapper does.

    The library drops what we need: the request id of a headline, an execution of an order that it
    does not know, and whether a cancelled status came over the wire or was made from a code.

    Args:
        owner: the wrapper of one connection.
        name: of its callback.
        listener: takes the callback's arguments.
        instead: the wrapper does not hear it at all; it would keep every headline for ever.
    """
    original = getattr(owner, name)

    def both(*values: Any) -> None:
        listener(*values)
        original(*values)

    setattr(owner, name, listener if instead else both)


def price(value: float) -> float | None:
    """Return a price in US dollars, None for the broker's ways to say that there is none."""
    return value if math.isfinite(value) and 0 < value < UNSET else None


def shares(value: float) -> float | None:
    """Return a size in shares, None for the broker's ways to say that it is not known."""
    return value if math.isfinite(value) and 0 <= value < UNSET else None
