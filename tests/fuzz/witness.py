"""A well-behaved client that must never notice what others do to the gateway."""

from __future__ import annotations

import math
import re
import struct
from typing import Any, Final

import anyio
from anyio.abc import SocketStream

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.server import Gateway
from momentum_lab.gateway.wire import REPLIES, REQUESTS
from momentum_lab.gateway.wire.table import frame

CLIENT_ID: Final = 1
VERSION: Final = 176
LIMIT_S: Final = 30.0
_NOT_A_NUMBER: Final = re.compile(r"[+-]?(nan|inf)", re.IGNORECASE)
_FAR_BELOW_USD: Final = 50.0
_CONTRACT: Final = {"symbol": "SPY", "sec_type": "STK", "exchange": "SMART", "currency": "USD"}
_HISTORY: Final = {
    "contract": _CONTRACT,
    "end_date_time": "20131009 16:00:01 UTC",
    "bar_size": "1 secs",
    "duration": "60 S",
    "use_rth": True,
    "what_to_show": "TRADES",
    "format_date": 2,
}
_END_CODES: Final = frozenset({202, 10147, 10148, 161})

Told = tuple[str, dict[str, Any]]


class WrongAnswerError(AssertionError):
    """The witness was told something that is not so."""


class Witness:
    """One connection with quotes, account updates and orders of its own.

    Attributes:
        n_checks: rounds of questions that were answered rightly.
    """

    def __init__(self, stream: SocketStream, gateway: Gateway) -> None:
        self.n_checks = 0
        self._stream = stream
        self._gateway = gateway
        self._buffer = bytearray()
        self._next_id = 1_000
        self._history: Any = None
        self._details: Any = None

    async def start(self) -> None:
        """Open the API and subscribe to quotes, positions and account values."""
        await self._stream.send(b"API\0" + frame(f"v{VERSION}..{VERSION}".encode()))
        await self._next_fields()
        await self._ask("startApi", client_id=CLIENT_ID)
        await self._ask("reqMktData", req_id=1, contract=_CONTRACT, generic_ticks="233")
        await self._ask("reqAccountUpdates", subscribe=True, account="")
        await self._ask("reqPositions")
        await self._heard_until_now()

    async def check(self) -> None:
        """Ask, and hold what is answered against what is so.

        Raises:
            WrongAnswerError: it is not.
        """
        with anyio.fail_after(LIMIT_S):
            await self._check_time()
            await self._check_history()
            await self._check_details()
            await self._check_order()
        self.n_checks += 1

    async def _check_time(self) -> None:
        before_s = self._gateway.now_ns // NS_PER_S
        await self._ask("reqCurrentTime")
        told = await self._heard_until_now()
        times = [values["time"] for name, values in told if name == "currentTime"]
        after_s = self._gateway.now_ns // NS_PER_S
        self._expect(len(times) == 1 and before_s <= times[0] <= after_s, "currentTime", times)

    async def _check_history(self) -> None:
        req_id = self._new_id()
        await self._ask("reqHistoricalData", req_id=req_id, **_HISTORY)
        told = await self._heard_until_now()
        bars = [v["bars"] for name, v in told if name == "historicalData" and v["req_id"] == req_id]
        self._history = self._history or bars
        self._expect(bars == self._history and len(bars) == 1, "historicalData", bars)

    async def _check_details(self) -> None:
        req_id = self._new_id()
        await self._ask("reqContractDetails", req_id=req_id, contract=_CONTRACT)
        told = await self._heard_until_now()
        hours = ("trading_hours", "liquid_hours")
        found = [
            {key: value for key, value in values.items() if key not in ("req_id", *hours)}
            for name, values in told
            if name == "contractDetails" and values["req_id"] == req_id
        ]
        self._details = self._details or found
        self._expect(found == self._details and len(found) == 1, "contractDetails", found)

    async def _check_order(self) -> None:
        """Place an order far from the market and take it back; it may be refused, not ignored."""
        await self._ask("reqIds", num_ids=1)
        told = await self._heard_until_now()
        (order_id,) = [values["order_id"] for name, values in told if name == "nextValidId"]
        terms = {"action": "BUY", "total_quantity": 1, "order_type": "LMT"}
        await self._ask(
            "placeOrder",
            order_id=order_id,
            contract=_CONTRACT,
            lmt_price=_FAR_BELOW_USD,
            clearing_intent="",
            **terms,
        )
        await self._ask("cancelOrder", order_id=order_id)
        told = await self._heard_until_now()
        codes = {v["code"] for name, v in told if name == "error" and v["req_id"] == order_id}
        states = [v["status"] for name, v in told if name == "orderStatus"]
        self._expect(bool(codes & _END_CODES), "cancelOrder", codes, states)
        self._expect(states[-1:] in (["Cancelled"], ["Inactive"]), "orderStatus", states)

    async def _ask(self, name: str, **values: Any) -> None:
        await self._stream.send(REQUESTS.encode(name, values, VERSION))

    async def _heard_until_now(self) -> list[Told]:
        """Return everything told up to now, every message of it read and looked at."""
        marker = self._new_id()
        await self._ask("reqMatchingSymbols", req_id=marker, pattern="?")
        found: list[Told] = []
        while True:
            name, values = self._read(await self._next_fields())
            if name == "symbolSamples" and values["req_id"] == marker:
                return found
            found.append((name, values))

    def _read(self, fields: list[str]) -> Told:
        message = REPLIES.find(fields[0])
        self._expect(message is not None, "a known message", fields)
        assert message is not None
        for text in fields:
            self._expect(_NOT_A_NUMBER.fullmatch(text) is None, "numbers", fields)
        values = REPLIES.decode(message, fields, VERSION)
        if message.name in ("openOrder", "orderStatus"):
            self._expect(values["client_id"] == CLIENT_ID, "its own orders", fields)
        if message.name == "tickPrice":
            self._expect(0 < values["price"] < math.inf, "a price", fields)
        return message.name, values

    async def _next_fields(self) -> list[str]:
        with anyio.fail_after(LIMIT_S):
            while len(self._buffer) < 4 or len(self._buffer) < 4 + self._length():
                self._buffer += await self._stream.receive()
        end = 4 + self._length()
        payload = bytes(self._buffer[4:end])
        del self._buffer[:end]
        return payload.decode().split("\0")[:-1]

    def _length(self) -> int:
        return int(struct.unpack_from(">I", self._buffer)[0])

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _expect(self, is_so: bool, what: str, *found: object) -> None:
        if not is_so:
            raise WrongAnswerError(f"expected {what}, found {found!r}"[:2_000])
