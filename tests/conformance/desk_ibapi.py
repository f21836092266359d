"""The desk of the official ibapi, old and new: requests by id, answers from the recorder."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from ibapi.contract import Contract

from tests.conformance.desk import ACCOUNT, FARM_CODES, Listed, RefusedError, number, value_key
from tests.conformance.desk_ibapi_market import MarketVerbs
from tests.conformance.desk_ibapi_orders import OrderVerbs
from tests.conformance.market_clock import MarketClock
from tests.conformance.recorder import Recorder

_FIRST_REQUEST = 10_000
_USER_INFO_SINCE = 167


class IbapiDesk(MarketVerbs, OrderVerbs):
    """Blocking verbs over the library's two threads."""

    def __init__(self, port: int, version: int, *, clock: MarketClock | None = None) -> None:
        self.port, self.version = port, version
        self.clock = clock or MarketClock(port)
        self.client = Recorder()
        self.others: list[IbapiDesk] = []
        self.symbols: dict[int, str] = {}
        self.forgotten = 0
        self.shown_errors: set[int] = set()
        self.orders: dict[int, tuple[Any, Any]] = {}
        self.next_order_id = 0
        self._ids = itertools.count(_FIRST_REQUEST)

    # -- asking -----------------------------------------------------------------------------

    def new_id(self, contract: Listed | None = None) -> int:
        req_id = next(self._ids)
        if contract is not None:
            self.symbols[req_id] = contract.symbol
        return req_id

    def ask(
        self, end: str, send: Callable[..., None], *args: Any, contract: Listed | None = None
    ) -> int:
        """Send a request that begins with its id, wait for its end, return the id."""
        req_id = self.new_id(contract)
        self.client.answer(lambda: send(req_id, *args), end, req_id)
        return req_id

    def answered(self, end: str, send: Callable[..., None], *args: Any) -> dict[str, Any]:
        """Send a request without an id and return the arguments of its answer."""
        since = len(self.client.calls)
        self.client.answer(lambda: send(*args), end)
        answer: dict[str, Any] = self.client.of(end, since=since)[0]
        return answer

    def contract(self, listed: Listed) -> Any:
        """A contract as people write it for this library: without an id."""
        found = Contract()
        found.symbol, found.secType = listed.symbol, listed.sec_type
        found.exchange, found.currency = listed.exchange, listed.currency
        return found

    # -- the session ------------------------------------------------------------------------

    def open(self, client_id: int = 1) -> dict[str, Any]:
        client = self.client
        client.start(self.port, client_id, self.version)
        client.until(lambda: client.of("nextValidId") or client.of("connectionClosed"))
        refused = [error for error in client.of("error") if error["errorCode"] not in FARM_CODES]
        if refused:
            raise RefusedError(refused[0]["errorCode"], refused[0]["errorString"])
        self.time()
        self.next_order_id = client.of("nextValidId")[-1]["orderId"]
        codes = {error["errorCode"] for error in client.of("error")}
        self.forgotten = len(client.calls)
        return {
            "version": client.serverVersion(),
            "accounts": client.of("managedAccounts")[-1]["accountsList"].split(","),
            "notes": sorted(codes & FARM_CODES),
        }

    def close(self) -> None:
        for other in self.others:
            other.close()
        if self.client.isConnected():
            self.client.stop()

    def other(self, client_id: int) -> IbapiDesk:
        desk = self.fresh()
        desk.open(client_id)
        self.others.append(desk)
        return desk

    def fresh(self) -> IbapiDesk:
        return IbapiDesk(self.port, self.version, clock=self.clock)

    def time(self) -> int:
        return int(self.answered("currentTime", self.client.reqCurrentTime)["time"])

    def play(self, seconds: int) -> None:
        for desk in (self, *self.others):
            desk.time()
        self.clock.play(seconds)
        for desk in (self, *self.others):
            desk.time()

    def control(self, **command: Any) -> dict[str, Any]:
        return self.clock.ask(**command)

    def errors(self) -> list[list[Any]]:
        self.time()
        found = self.client.of("error", since=self.forgotten)
        # Those of an order that was looked at have been told with it.
        found = [told for told in found if id(told) not in self.shown_errors]
        self.forgotten = len(self.client.calls)
        return [
            [told["errorCode"], told["errorString"], self.symbols.get(told["reqId"], "")]
            for told in found
        ]

    def accounts(self) -> list[str]:
        told = self.answered("managedAccounts", self.client.reqManagedAccts)
        return list(told["accountsList"].split(","))

    def next_id(self) -> int:
        return int(self.answered("nextValidId", self.client.reqIds, -1)["orderId"])

    def user_info(self) -> Any:
        if self.client.serverVersion() < _USER_INFO_SINCE:
            return None
        req_id = self.ask("userInfo", self.client.reqUserInfo)
        return self.client.of("userInfo", req_id=req_id)[0]["whiteBrandingId"]

    def family_codes(self) -> list[list[str]]:
        told = self.answered("familyCodes", self.client.reqFamilyCodes)
        return [[code.accountID, code.familyCodeStr] for code in told["familyCodes"]]

    def scanner_parameters(self) -> str:
        told = self.answered("scannerParameters", self.client.reqScannerParameters)
        return str(told["xml"])

    def unsupported(self) -> Any:
        return self.answered("receiveFA", self.client.requestFA, 1)

    # -- the account ------------------------------------------------------------------------

    def account_values(self) -> dict[str, str]:
        if not self.client.of("accountDownloadEnd"):
            self.answered("accountDownloadEnd", self.client.reqAccountUpdates, True, ACCOUNT)
        self.time()
        return {
            value_key(told["key"], told["currency"]): told["val"]
            for told in self.client.of("updateAccountValue")
        }

    def account_multi(self) -> dict[str, str]:
        client = self.client
        req_id = self.ask(
            "accountUpdateMultiEnd", client.reqAccountUpdatesMulti, ACCOUNT, "", False
        )
        client.cancelAccountUpdatesMulti(req_id)
        return {
            value_key(told["key"], told["currency"]): told["value"]
            for told in client.of("accountUpdateMulti")
        }

    def account_summary(self) -> dict[str, str]:
        client = self.client
        tags = "NetLiquidation,TotalCashValue,BuyingPower,GrossPositionValue,AccountType"
        req_id = self.ask("accountSummaryEnd", client.reqAccountSummary, "All", tags)
        client.cancelAccountSummary(req_id)
        return {told["tag"]: told["value"] for told in client.of("accountSummary", req_id=req_id)}

    def portfolio(self) -> list[dict[str, Any]]:
        self.account_values()
        newest = {told["contract"].symbol: told for told in self.client.of("updatePortfolio")}
        return [
            {
                "symbol": symbol,
                "listing": told["contract"].primaryExchange,
                "position": float(told["position"]),
                "price": told["marketPrice"],
                "value": told["marketValue"],
                "cost": told["averageCost"],
                "unrealized": told["unrealizedPNL"],
                "realized": told["realizedPNL"],
            }
            for symbol, told in newest.items()
        ]

    def positions(self) -> list[list[Any]]:
        since = len(self.client.calls)
        self.client.answer(self.client.reqPositions, "positionEnd")
        self.client.cancelPositions()
        return [
            [told["account"], told["contract"].symbol, float(told["position"]), told["avgCost"]]
            for told in self.client.of("position", since=since)
            # What has been closed today is told as none held.
            if told["position"]
        ]

    def positions_multi(self) -> list[list[Any]]:
        client = self.client
        req_id = self.ask("positionMultiEnd", client.reqPositionsMulti, ACCOUNT, "")
        client.cancelPositionsMulti(req_id)
        return [
            [told["account"], told["contract"].symbol, float(told["pos"]), told["avgCost"]]
            for told in client.of("positionMulti", req_id=req_id)
        ]

    def pnl(self) -> Any:
        req_id = self.new_id()
        self.client.reqPnL(req_id, ACCOUNT, "")
        return "pnl", req_id

    def pnl_single(self, con_id: int) -> Any:
        req_id = self.new_id()
        self.client.reqPnLSingle(req_id, ACCOUNT, "", con_id)
        return "pnlSingle", req_id

    def pnl_of(self, handle: Any) -> dict[str, Any]:
        self.time()
        kind, req_id = handle
        told = self.client.of(kind, req_id=req_id)[-1]
        found = {
            "daily": told["dailyPnL"],
            "unrealized": told["unrealizedPnL"],
            "realized": told["realizedPnL"],
        }
        if kind == "pnlSingle":
            found |= {"position": number(told["pos"]), "value": told["value"]}
        return found

    def end_pnl(self, handle: Any) -> None:
        kind, req_id = handle
        cancel = self.client.cancelPnL if kind == "pnl" else self.client.cancelPnLSingle
        cancel(req_id)
