"""Orders of the desk of the official ibapi."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ibapi.execution import ExecutionFilter
from ibapi.order import Order

from tests.conformance.desk import Listed, moment, number
from tests.conformance.desk_ib_orders import open_row, state_of, terms_of

_LARGEST = 1e300


class OrderVerbs:
    """Needs `client`, `orders`, `next_order_id`, `ask`, `time` and `contract` of the desk."""

    client: Any
    shown_errors: set[int]
    orders: dict[int, tuple[Any, Any]]
    next_order_id: int
    ask: Callable[..., int]
    time: Callable[[], int]
    contract: Callable[[Listed], Any]

    def place(self, contract: Listed, side: str, shares: int, kind: str, **terms: Any) -> Any:
        order_id, self.next_order_id = self.next_order_id, self.next_order_id + 1
        self.orders[order_id] = self.contract(contract), _order(side, shares, kind, terms)
        self.client.placeOrder(order_id, *self.orders[order_id])
        self.time()
        return order_id

    def modify(self, handle: Any, **terms: Any) -> None:
        contract, order = self.orders[handle]
        for name, value in terms.items():
            setattr(order, name, value)
        self.client.placeOrder(handle, contract, order)
        self.time()

    def cancel(self, handle: Any) -> None:
        self.cancel_id(handle)

    def cancel_id(self, order_id: int) -> None:
        self.client.cancelOrder(order_id, *_cancel_terms(self.client.cancelOrder, 1))
        self.time()

    def global_cancel(self) -> None:
        self.client.reqGlobalCancel(*_cancel_terms(self.client.reqGlobalCancel, 0))
        self.time()

    def order_id(self, handle: Any) -> int:
        return int(handle)

    def order(self, handle: Any) -> dict[str, Any]:
        self.time()
        told = [t for t in self.client.of("orderStatus") if t["orderId"] == handle]
        shown = [t["order"] for t in self.client.of("openOrder") if t["orderId"] == handle]
        # Requests have ids of their own, far above those of orders.
        errors = [t for t in self.client.of("error") if t["reqId"] == handle]
        self.shown_errors.update(id(t) for t in errors)
        statuses = [t["status"] for t in told]
        kept = [s for s, before in zip(statuses, ["", *statuses], strict=False) if s != before]
        newest = told[-1] if told else {}
        return {
            "status": newest.get("status", ""),
            "statuses": kept,
            "filled": number(newest.get("filled", 0)),
            "remaining": number(newest.get("remaining", 0)),
            "average": newest.get("avgFillPrice", 0.0),
            "why_held": newest.get("whyHeld", ""),
            "has_perm_id": bool(shown) and shown[-1].permId > 0,
            "fills": self._fills(handle),
            "errors": [[t["errorCode"], t["errorString"]] for t in errors],
            "terms": terms_of(shown[-1]) if shown else {},
        }

    def _fills(self, order_id: int) -> list[dict[str, Any]]:
        # Live executions carry no request id.
        told = [t for t in self.client.of("execDetails") if t["reqId"] == -1]
        return [self._fill(t) for t in told if t["execution"].orderId == order_id]

    def _fill(self, told: dict[str, Any]) -> dict[str, Any]:
        execution, exec_id = told["execution"], told["execution"].execId
        reports = [r["commissionReport"] if "commissionReport" in r else r[
            "commissionAndFeesReport"] for r in self.client.of("commissionReport")]  # fmt: skip
        report = next(r for r in reversed(reports) if r.execId == exec_id)
        realized = report.realizedPNL
        return {
            "symbol": told["contract"].symbol,
            "at": moment(execution.time),
            "side": execution.side,
            "shares": number(execution.shares),
            "price": execution.price,
            "cumulative": number(execution.cumQty),
            "average": execution.avgPrice,
            "exchange": execution.exchange,
            "order_ref": execution.orderRef,
            "liquidity": execution.lastLiquidity,
            "commission": getattr(report, "commission", None) or report.commissionAndFees,
            "currency": report.currency,
            # The largest number says that nothing was realized.
            "realized": 0.0 if realized > _LARGEST else realized,
        }

    def what_if(self, contract: Listed, side: str, shares: int) -> dict[str, Any]:
        order_id, since = self.next_order_id, len(self.client.calls)
        order = _order(side, shares, "MKT", {"whatIf": True})
        self.client.placeOrder(order_id, self.contract(contract), order)
        self.client.until(lambda: self.client.of("openOrder", since=since))
        return state_of(self.client.of("openOrder", since=since)[0]["orderState"])

    def open_orders(self, *, of_all: bool = False) -> list[list[Any]]:
        since = len(self.client.calls)
        send = self.client.reqAllOpenOrders if of_all else self.client.reqOpenOrders
        self.client.answer(send, "openOrderEnd")
        status = {
            (t["clientId"], t["orderId"]): t["status"]
            for t in self.client.of("orderStatus", since=since)
        }
        return [
            open_row(t["contract"], t["order"], status[t["order"].clientId, t["orderId"]],
                     t["orderId"])
            for t in self.client.of("openOrder", since=since)
        ]  # fmt: skip

    def completed_orders(self) -> list[list[Any]]:
        since = len(self.client.calls)
        self.client.answer(lambda: self.client.reqCompletedOrders(False), "completedOrdersEnd")
        return [
            [t["contract"].symbol, t["order"].action, t["order"].orderType,
             t["orderState"].status, number(t["order"].filledQuantity),
             t["orderState"].completedStatus]
            for t in self.client.of("completedOrder", since=since)
        ]  # fmt: skip

    def executions(self) -> list[dict[str, Any]]:
        req_id = self.ask("execDetailsEnd", self.client.reqExecutions, ExecutionFilter())
        self.time()
        return [self._fill(told) for told in self.client.of("execDetails", req_id=req_id)]


def _order(side: str, shares: int, kind: str, terms: dict[str, Any]) -> Any:
    order = Order()
    order.action, order.totalQuantity, order.orderType = side, shares, kind
    for name, value in terms.items():
        setattr(order, name, value)
    # Two flags that 9.81 sets by itself and that the broker refuses today.
    order.eTradeOnly = order.firmQuoteOnly = False
    return order


def _cancel_terms(method: Callable[..., Any], n_before: int) -> list[Any]:
    """Return what the newer library wants beside the order id."""
    if len(inspect.signature(method).parameters) == n_before:
        return []
    from ibapi.order_cancel import OrderCancel  # noqa: PLC0415 - the older one has none

    return [OrderCancel()]
