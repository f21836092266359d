"""Orders of the desk of ib_insync and ib_async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tests.conformance.desk import Listed, moment, number

# What the libraries set themselves, before the gateway has said anything.
_LOCAL = frozenset({"PendingSubmit", "PendingCancel", "ApiPending", "ValidationError"})
# They stand for "no profit" with the zero of a position that was opened.
_TERMS = ("orderType", "tif", "ocaType", "parentId", "orderRef", "lmtPrice", "auxPrice")


class OrderVerbs:
    """Needs `ib`, `library`, `ask`, `time`, `told` and `contract` of the desk."""

    ib: Any
    library: Any
    told: list[tuple[int, int, str, str]]
    statuses: dict[int, list[str]]
    ask: Callable[[Callable[[], Awaitable[Any]]], Any]
    time: Callable[[], int]
    contract: Callable[[Listed], Any]

    def _on_status(self, trade: Any) -> None:
        seen = self.statuses.setdefault(trade.order.orderId, [])
        status = trade.orderStatus.status
        if status not in _LOCAL and seen[-1:] != [status]:
            seen.append(status)

    def place(self, contract: Listed, side: str, shares: int, kind: str, **terms: Any) -> Any:
        order = self.library.Order(action=side, totalQuantity=shares, orderType=kind, **terms)
        trade = self.ib.placeOrder(self.contract(contract), order)
        self.time()
        return trade

    def modify(self, handle: Any, **terms: Any) -> None:
        for name, value in terms.items():
            setattr(handle.order, name, value)
        self.ib.placeOrder(handle.contract, handle.order)
        self.time()

    def cancel(self, handle: Any) -> None:
        self.ib.cancelOrder(handle.order)
        self.time()

    def cancel_id(self, order_id: int) -> None:
        self.ib.client.cancelOrder(order_id, "")
        self.time()

    def global_cancel(self) -> None:
        self.ib.reqGlobalCancel()
        self.time()

    def order_id(self, handle: Any) -> int:
        return int(handle.order.orderId)

    def order(self, handle: Any) -> dict[str, Any]:
        self.time()
        order, status = handle.order, handle.orderStatus
        mine = [[code, text] for n, code, text, _ in self.told if n == order.orderId]
        self.told = [told for told in self.told if told[0] != order.orderId]
        return {
            "status": status.status,
            "statuses": list(self.statuses.get(order.orderId, [])),
            "filled": float(status.filled),
            "remaining": float(status.remaining),
            "average": status.avgFillPrice,
            "why_held": status.whyHeld,
            "has_perm_id": order.permId > 0,
            "fills": [fill_of(fill) for fill in handle.fills],
            "errors": mine,
            "terms": terms_of(order),
        }

    def what_if(self, contract: Listed, side: str, shares: int) -> dict[str, Any]:
        order = self.library.Order(action=side, totalQuantity=shares, orderType="MKT")
        state = self.ask(lambda: self.ib.whatIfOrderAsync(self.contract(contract), order))
        return state_of(state)

    def open_orders(self, *, of_all: bool = False) -> list[list[Any]]:
        ask = self.ib.reqAllOpenOrdersAsync if of_all else self.ib.reqOpenOrdersAsync
        return [
            open_row(i.contract, i.order, i.orderStatus.status, i.order.orderId)
            for i in self.ask(ask)
        ]

    def completed_orders(self) -> list[list[Any]]:
        found = self.ask(lambda: self.ib.reqCompletedOrdersAsync(False))
        return [
            [i.contract.symbol, i.order.action, i.order.orderType, i.orderStatus.status,
             number(i.order.filledQuantity), None]
            for i in found
        ]  # fmt: skip

    def executions(self) -> list[dict[str, Any]]:
        found = self.ask(self.ib.reqExecutionsAsync)
        self.time()
        # The commission of a fill that was known before is kept with the known one.
        return [fill_of(self.ib.wrapper.fills[fill.execution.execId]) for fill in found]


def fill_of(fill: Any) -> dict[str, Any]:
    """One execution with its commission."""
    execution, report = fill.execution, fill.commissionReport
    return {
        "symbol": fill.contract.symbol,
        "at": moment(execution.time),
        "side": execution.side,
        "shares": float(execution.shares),
        "price": execution.price,
        "cumulative": float(execution.cumQty),
        "average": execution.avgPrice,
        "exchange": execution.exchange,
        "order_ref": execution.orderRef,
        "liquidity": execution.lastLiquidity,
        "commission": report.commission,
        "currency": report.currency,
        "realized": number(report.realizedPNL) or 0.0,
    }


def terms_of(order: Any) -> dict[str, Any]:
    """What the gateway shows of an order; prices that were not set are left out."""
    found = {name: getattr(order, name) for name in _TERMS}
    found |= {name: number(found[name]) or 0.0 for name in ("lmtPrice", "auxPrice")}
    found["trailStopPrice"] = number(order.trailStopPrice)
    return found


def state_of(state: Any) -> dict[str, Any]:
    """The margins and costs of an order that was only asked about."""
    commission = getattr(state, "commission", None)
    if commission is None:
        commission = state.commissionAndFees
        currency = state.commissionAndFeesCurrency
    else:
        currency = state.commissionCurrency
    return {
        "margin_before": number(state.initMarginBefore),
        "margin_change": number(state.initMarginChange),
        "margin_after": number(state.initMarginAfter),
        "maintenance_after": number(state.maintMarginAfter),
        "equity_after": number(state.equityWithLoanAfter),
        "commission": number(commission),
        "currency": currency,
    }


def open_row(contract: Any, order: Any, status: str, order_id: int) -> list[Any]:
    """One open order."""
    limit = number(order.lmtPrice) or 0.0
    shares = float(order.totalQuantity)
    who = [order.clientId, order_id]
    return [*who, contract.symbol, order.action, shares, order.orderType, limit, status]
