"""The desk of ib_insync and of its successor ib_async, which have one interface."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.conformance.desk import (
    ACCOUNT,
    FARM_CODES,
    LIMIT_S,
    NEW_YORK,
    Listed,
    RefusedError,
    value_key,
)
from tests.conformance.desk_ib_market import MarketVerbs
from tests.conformance.desk_ib_orders import OrderVerbs
from tests.conformance.market_clock import MarketClock

_NOTES = range(2100, 2200)
_CLIENT_ID_IN_USE = 326
# ib_async takes this error for a warning, and so waits on for an answer.
_VALIDATION = 321


class IbDesk(MarketVerbs, OrderVerbs):
    """Blocking verbs over an asynchronous library: its loop runs only inside a verb."""

    def __init__(self, port: int, version: int, library: Any, *, shared: IbDesk | None = None):
        self.library = library
        self.port, self.version = port, version
        self.loop: asyncio.AbstractEventLoop = shared.loop if shared else asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.clock: MarketClock = shared.clock if shared else MarketClock(port)
        self.ib = library.IB()
        # Before version 174 times carry no zone, and a client has to be told that of the gateway.
        self.ib.TimezoneTWS = NEW_YORK.key
        self.told: list[tuple[int, int, str, str]] = []
        self.heard: list[list[Any]] = []
        self.bulletins_heard: list[list[Any]] = []
        self.statuses: dict[int, list[str]] = {}
        self.others: list[IbDesk] = []
        if version:
            self.ib.client.MaxClientVersion = version
        # Its own throttle would make a suite wait by the wall clock.
        self.ib.client.MaxRequests = 0
        self._listen()

    def _listen(self) -> None:
        self.ib.errorEvent += self._on_error
        self.ib.orderStatusEvent += self._on_status
        self.ib.openOrderEvent += self._on_status
        self.ib.tickNewsEvent += lambda tick: self.heard.append(
            [tick.providerCode, tick.articleId, tick.timeStamp, tick.headline, tick.extraData]
        )
        self.ib.newsBulletinEvent += lambda item: self.bulletins_heard.append(
            [item.msgType, item.message, item.origExchange]
        )

    def _on_error(self, req_id: int, code: int, text: str, contract: Any) -> None:
        symbol = contract.symbol if contract else ""
        self.told.append((req_id, code, text, symbol))

    # -- running the library ----------------------------------------------------------------

    def run(self, verb: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(asyncio.wait_for(verb, LIMIT_S))

    def ask(self, request: Callable[[], Awaitable[Any]]) -> Any:
        """Run one request to its answer; an error with its id is the answer too."""
        first = self.ib.client._reqIdSeq  # what is asked takes the next ids
        return self.run(self._asked(request, first))

    async def _asked(self, request: Callable[[], Awaitable[Any]], first: int) -> Any:
        refused: asyncio.Future[tuple[int, str]] = self.loop.create_future()

        def on_error(req_id: int, code: int, text: str, _contract: Any) -> None:
            if req_id >= first and code not in _NOTES and not refused.done():
                refused.set_result((code, text))

        self.ib.errorEvent += on_error
        answer = asyncio.ensure_future(request())  # noqa: TID251 - the libraries hand out futures
        try:
            await asyncio.wait({answer, refused}, return_when=asyncio.FIRST_COMPLETED)
            if not refused.done():
                return answer.result()
            self.told = [told for told in self.told if told[0] < first]
            code, text = refused.result()
            if code != _VALIDATION or self.library.__name__ == "ib_insync":
                await answer
            answer.cancel()
            raise RefusedError(code, text)
        finally:
            self.ib.errorEvent -= on_error

    def until(self, name: str, send: Callable[[], None]) -> list[Any]:
        """Send a request that the library has no method for; return its callback's arguments."""
        heard: asyncio.Future[list[Any]] = self.loop.create_future()

        def callback(*args: Any) -> None:
            heard.set_result(list(args))

        setattr(self.ib.wrapper, name, callback)
        send()
        try:
            return list(self.run(heard))
        finally:
            delattr(self.ib.wrapper, name)

    # -- the session ------------------------------------------------------------------------

    def open(self, client_id: int = 1) -> dict[str, Any]:
        try:
            limit_s = LIMIT_S / 2
            self.run(self.ib.connectAsync("127.0.0.1", self.port, client_id, timeout=limit_s))
        except (ConnectionError, TimeoutError, asyncio.TimeoutError):
            raise self._turned_away() from None
        self.time()
        told = {
            "version": self.ib.client.serverVersion(),
            "accounts": self.ib.managedAccounts(),
            "notes": sorted({code for _, code, *_ in self.told if code in FARM_CODES}),
        }
        self.told = [item for item in self.told if item[1] not in FARM_CODES]
        return told

    def _turned_away(self) -> RefusedError:
        code, text = next((c, t) for _, c, t, _ in self.told if c == _CLIENT_ID_IN_USE)
        return RefusedError(code, text)

    def close(self) -> None:
        for other in self.others:
            other.close()
        self.ib.disconnect()
        self.loop.run_until_complete(asyncio.sleep(0))

    def other(self, client_id: int) -> IbDesk:
        desk = IbDesk(self.port, self.version, self.library, shared=self)
        desk.open(client_id)
        self.others.append(desk)
        return desk

    def fresh(self) -> IbDesk:
        return IbDesk(self.port, self.version, self.library, shared=self)

    def time(self) -> int:
        return int(self.run(self.ib.reqCurrentTimeAsync()).timestamp())

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
        told, self.told = self.told, []
        return [[code, text, symbol] for _, code, text, symbol in told]

    def accounts(self) -> list[str]:
        (accounts,) = self.until("managedAccounts", self.ib.client.reqManagedAccts)
        return list(accounts if isinstance(accounts, list) else accounts.split(","))

    def next_id(self) -> int:
        (found,) = self.until("nextValidId", lambda: self.ib.client.reqIds(1))
        return int(found)

    def user_info(self) -> Any:
        self.ask(self.ib.reqUserInfoAsync)
        return ""

    def family_codes(self) -> list[list[str]]:
        (codes,) = self.until("familyCodes", self.ib.client.reqFamilyCodes)
        return [[code.accountID, code.familyCodeStr] for code in codes]

    def scanner_parameters(self) -> str:
        return str(self.ask(self.ib.reqScannerParametersAsync))

    def unsupported(self) -> Any:
        # Its refusal belongs to no request: the library's own method would wait for ever.
        self.ib.client.requestFA(1)
        self.time()
        _, code, text, _ = self.told.pop()
        raise RefusedError(code, text)

    # -- the account ------------------------------------------------------------------------

    def account_values(self) -> dict[str, str]:
        found = self.ib.accountValues(ACCOUNT)
        return {value_key(item.tag, item.currency): item.value for item in found}

    def account_multi(self) -> dict[str, str]:
        heard: dict[str, str] = {}
        self.ib.accountValueEvent += lambda item: heard.update(
            {value_key(item.tag, item.currency): item.value}
        )
        self.ask(lambda: self.ib.reqAccountUpdatesMultiAsync(ACCOUNT))
        return heard

    def account_summary(self) -> dict[str, str]:
        found = self.ask(lambda: self.ib.accountSummaryAsync(ACCOUNT))
        return {item.tag: item.value for item in found}

    def portfolio(self) -> list[dict[str, Any]]:
        return [
            {
                "symbol": item.contract.symbol,
                "listing": item.contract.primaryExchange,
                "position": float(item.position),
                "price": item.marketPrice,
                "value": item.marketValue,
                "cost": item.averageCost,
                "unrealized": item.unrealizedPNL,
                "realized": item.realizedPNL,
            }
            for item in self.ib.portfolio(ACCOUNT)
        ]

    def positions(self) -> list[list[Any]]:
        found = self.ask(self.ib.reqPositionsAsync)
        return [[i.account, i.contract.symbol, float(i.position), i.avgCost] for i in found]

    def positions_multi(self) -> list[list[Any]]:
        found: list[list[Any]] = []
        req_id = self.ib.client.getReqId()

        def heard(_id: int, account: str, _model: str, contract: Any, n: Any, cost: float) -> None:
            found.append([account, contract.symbol, float(n), cost])

        self.ib.wrapper.positionMulti = heard
        self.until(
            "positionMultiEnd", lambda: self.ib.client.reqPositionsMulti(req_id, ACCOUNT, "")
        )
        return found

    def pnl(self) -> Any:
        return self.ib.reqPnL(ACCOUNT)

    def pnl_single(self, con_id: int) -> Any:
        return self.ib.reqPnLSingle(ACCOUNT, "", con_id)

    def pnl_of(self, handle: Any) -> dict[str, Any]:
        self.time()
        found = {
            "daily": handle.dailyPnL,
            "unrealized": handle.unrealizedPnL,
            "realized": handle.realizedPnL,
        }
        if hasattr(handle, "position"):
            found |= {"position": float(handle.position), "value": handle.value}
        return found

    def end_pnl(self, handle: Any) -> None:
        if hasattr(handle, "position"):
            self.ib.cancelPnLSingle(ACCOUNT, "", handle.conId)
        else:
            self.ib.cancelPnL(ACCOUNT)

    # -- contracts --------------------------------------------------------------------------

    def contract(self, listed: Listed) -> Any:
        return self.library.Contract(
            conId=listed.con_id,
            symbol=listed.symbol,
            secType=listed.sec_type,
            exchange=listed.exchange,
            currency=listed.currency,
        )
