"""A connector that lives through faults in virtual time, a tempter, and a witness at the gateway.

The tempter asks for an entry and for an exit every few seconds, whatever the connection says; the
witness reads the gateway's own record of every frame and knows what must have been asked on a
connection before either may arrive there.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pandas as pd

from momentum_lab.calendars import session_on_day_of
from momentum_lab.clock import LoopClock, transport_s
from momentum_lab.core.connection import ConnectionEvent, ConnectionState
from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.order import OrderIntent, OrderPurpose
from momentum_lab.errors import ConnectionLostError
from momentum_lab.gateway.server import Gateway, GatewaySettings, paper_gateway
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.synchronisation import BrokerSnapshot
from momentum_lab.parameters import Parameters, check_parameters
from momentum_lab.records.tape import BAR_COLUMNS, Tape, TapeHeadline, write_tape
from tests.gateway_factories import IBM, SPY

DAY_S = 86_400
BAR_S = 10
# What has to be asked on a connection, and after each loss of the broker again, before an exit
# may arrive; an entry needs the lines as well.
BEFORE_EXIT = frozenset(
    {
        *("reqCurrentTime", "reqAccountUpdates", "reqPositions", "reqAllOpenOrders"),
        *("reqCompletedOrders", "reqExecutions"),
    }
)
BEFORE_ENTRY = BEFORE_EXIT | {"reqMktData"}
_LOST, _RESTORED = ("1100", "2110"), ("1101", "1102")
_ERROR = "4"
_CODE_FIELD = 3


def weeks_tape(first_ns: int, n_days: int, *, symbols: Sequence[str] = ("SPY", "IBM")) -> Tape:
    """A tape of ten-second bars in every regular session of some days, with a headline an hour."""
    frames, headlines = [], []
    rng = np.random.default_rng(7)
    for day in range(n_days):
        session = session_on_day_of(first_ns + day * DAY_S * NS_PER_S)
        if session is None:
            continue
        n_bars = (session.close_ns - session.open_ns) // (BAR_S * NS_PER_S)
        at_ns = session.open_ns + np.arange(n_bars) * BAR_S * NS_PER_S
        for symbol in symbols:
            close = np.round(100 + np.cumsum(rng.choice((-0.01, 0.0, 0.01), n_bars)), 2)
            frames.append(
                pd.DataFrame(
                    {
                        "symbol": symbol,
                        "at_ns": at_ns,
                        "seconds": BAR_S,
                        "open": close,
                        "high": close + 0.01,
                        "low": close - 0.01,
                        "close": close,
                        "volume": rng.integers(200, 900, n_bars),
                    }
                )
            )
        headlines += [
            TapeHeadline(int(at) + NS_PER_S, "BRFG", f"BRFG${day:04x}{n:04x}", f"News {day}.{n}")
            for n, at in enumerate(at_ns[:: 3600 // BAR_S])
        ]
    known = {"SPY": SPY, "IBM": IBM}
    return Tape(
        name="weeks",
        start_ns=first_ns,
        end_ns=first_ns + n_days * DAY_S * NS_PER_S,
        timezone="America/New_York",
        instruments={name: known[name] for name in symbols},
        spreads={name: SpreadModel(0.01) for name in symbols},
        providers={"BRFG": "Briefing.com General Market Columns"},
        bars=pd.concat(frames)[list(BAR_COLUMNS)],
        headlines=tuple(headlines),
    )


class Witness:
    """Reads the gateway's wire log as it is written, and remembers what should not have been.

    Attributes:
        violations: in words.
        n_entries: entries that arrived.
        n_exits: exits that arrived.
        connects_ns: market time of each start of a connection.
        n_requests: requests that arrived.
        n_said: messages that the gateway said.
        n_in_flight: orders that had left before the gateway said what would have stopped them.
        sent_s: time of the loop at which the tempter sent each order; the gateway's own market time
            moves in steps, and cannot be compared with it.
    """

    def __init__(self, is_writing: Callable[[], bool]) -> None:
        """Begin with a clean record.

        Args:
            is_writing: whether what the gateway says leaves it, or piles up unwritten.
        """
        self._is_writing = is_writing
        self.sent_s: dict[str, float] = {}
        self.n_in_flight = 0
        self._told_s = -math.inf
        self.violations: list[str] = []
        self.n_entries = self.n_exits = 0
        self.connects_ns: list[int] = []
        self.n_requests = self.n_said = 0
        self._asked: set[str] = set()
        self._lost_ns: int | None = None

    def write(self, line: str) -> None:
        """Take in one line of the log."""
        direction, _client, at_ns, content = json.loads(line)
        if direction == "<":
            self._hear(int(at_ns), content[0], content[1] if len(content) > 1 else {})
        else:
            self.n_said += 1
            if content[0] == _ERROR:
                self._hear_told(int(at_ns), content)

    def flush(self) -> None:
        """There is nothing to write."""

    def close(self) -> None:
        """There is nothing to close."""

    def _hear_told(self, at_ns: int, fields: list[str]) -> None:
        # Version, request, code: a request may have the number of a code.
        code = fields[_CODE_FIELD] if len(fields) > _CODE_FIELD else ""
        if code in _LOST:
            if self._lost_ns is None:
                self._lost_ns = at_ns
            self._forget()
        elif code in _RESTORED:
            self._lost_ns = None
            self._forget()

    def _forget(self) -> None:
        """Everything has to be asked again by who has heard of it."""
        self._told_s = transport_s()
        self._asked.clear()

    def _hear(self, at_ns: int, name: str, values: dict[str, Any]) -> None:
        self.n_requests += 1
        if name == "startApi":
            self.connects_ns.append(at_ns)
            # What the lost connection had sent may only be read now.
            self._forget()
            self._lost_ns = None
        elif name == "placeOrder":
            self._judge(at_ns, str(values.get("order_ref", "")))
        else:
            self._asked.add(name)

    def _judge(self, at_ns: int, order_ref: str) -> None:
        sent_s = self.sent_s.pop(order_ref, math.inf)
        # What protects may leave whenever what closes may.
        is_exit = "-t" in order_ref or "-sl" in order_ref or "-tp" in order_ref
        self.n_exits += is_exit
        self.n_entries += not is_exit
        missing = (BEFORE_EXIT if is_exit else BEFORE_ENTRY) - self._asked
        if not missing and self._lost_ns is None:
            return
        if sent_s <= self._told_s or not self._is_writing():
            # It was in the pipe, or what would have stopped it still is.
            self.n_in_flight += 1
        else:
            is_lost = self._lost_ns is not None
            self.violations.append(f"{at_ns} {order_ref}: lost={is_lost} missing={sorted(missing)}")


@dataclass
class Seen:
    """One step of the connection, with the transport time at which it was taken."""

    at_s: float
    state: ConnectionState
    event: ConnectionEvent
    cause: str


@dataclass
class Patient:
    """A connector under test and the gateway it is connected to."""

    gateway: Gateway
    connector: IBKRConnector
    clock: LoopClock
    witness: Witness
    steps: list[Seen] = field(default_factory=list)
    incidents: list[tuple[float, str, str]] = field(default_factory=list)
    n_reconciled: int = 0
    is_over: bool = False
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @property
    def state(self) -> ConnectionState:
        """Where the connection stood last."""
        return self.steps[-1].state

    def kinds(self) -> list[str]:
        return [kind for _, kind, _ in self.incidents]

    def first(self, state: ConnectionState, *, after_s: float) -> float | None:
        """Seconds from an instant until the connection first entered a state."""
        return next(
            (s.at_s - after_s for s in self.steps if s.state is state and s.at_s >= after_s), None
        )

    def states_after(self, at_s: float) -> list[ConnectionState]:
        return [step.state for step in self.steps if step.at_s >= at_s]

    async def until(self, condition: Callable[[], bool], *, patience_s: float) -> float:
        """Wait for something; return how long it took, in virtual seconds."""
        began_s = anyio.current_time()
        with anyio.fail_after(patience_s):
            while not condition():  # noqa: ASYNC110 - what is waited for sets no event
                await anyio.sleep(0.05)
        return anyio.current_time() - began_s

    async def tempt(self, *, every_s: float = 2.0) -> None:
        """Ask for an entry and an exit now and then, whatever the connection says."""
        while True:
            for purpose in ("d", "t"):
                number = next(self._numbers)
                intent = OrderIntent(
                    order_ref=f"ml-x-{purpose}{number}",
                    symbol="SPY",
                    con_id=SPY.con_id,
                    side=Side.BUY if purpose == "d" else Side.SELL,
                    shares=1,
                    created_ns=self.clock.now_ns(),
                    trade_id=None if purpose == "d" else 1,
                    purpose=OrderPurpose.EXIT,
                )
                self.witness.sent_s[intent.order_ref] = transport_s()
                try:
                    await self.connector.place_order(intent)
                except ConnectionLostError:
                    del self.witness.sent_s[intent.order_ref]
            await anyio.sleep(every_s)


def patient_parameters(port: int, **sections: Any) -> Parameters:
    """A paper session's set with the defaults of everything that matters here."""
    return check_parameters(
        {
            "mode": "paper",
            "universe": ["SPY", "IBM"],
            "connection": {"port": port},
            "news": {"providers": ["BRFG"]},
            **sections,
        }
    )


@asynccontextmanager
async def patient(
    tape: Path, *, start_ns: int, parameters: Callable[[int], Parameters] = patient_parameters
) -> AsyncIterator[Patient]:
    """A connector that is OPERATIONAL at a gateway in the same loop, at the pace of the market."""
    settings = GatewaySettings(tape=tape, start_ns=start_ns, fast=1, slow=1, hold=False, opened_s=0)
    async with paper_gateway(settings, report=lambda _text: None) as gateway:
        clock = LoopClock(gateway.now_ns)
        witness = Witness(
            lambda: all(fault.name != "stalled_writer" for fault in gateway.hub.faults.active)
        )
        # What a gateway remembers for people must not hide what a connector forgets to forget.
        gateway.hub.journal.records = deque(maxlen=1000)
        gateway.hub._wire_log = witness  # type: ignore[assignment]
        # Without it the gateway writes down what it hears, and not what it says.
        gateway.hub.logs_wire = True
        found: Patient

        def step(state: ConnectionState, event: ConnectionEvent, cause: str) -> None:
            if not found.is_over:
                found.steps.append(Seen(anyio.current_time(), state, event, cause))

        def incident(kind: str, text: str) -> None:
            found.incidents.append((anyio.current_time(), kind, text))

        connector = IBKRConnector(
            parameters(gateway.port), clock=clock, on_transition=step, on_incident=incident
        )
        found = Patient(gateway, connector, clock, witness)
        connector.subscribe_to_news()

        async def agree(_snapshot: BrokerSnapshot) -> None:
            found.n_reconciled += 1

        async def swallow() -> None:
            async for _ in connector.reports:
                pass

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(connector.run, agree)
                group.start_soon(swallow)
                await found.until(connector.is_operational, patience_s=90)
                yield found
                found.is_over = True
                group.cancel_scope.cancel()
        finally:
            connector.close()


def make_tape(folder: Path, first_ns: int, n_days: int) -> Path:
    """Write the tape of some days once; return its folder."""
    if not folder.exists():
        write_tape(weeks_tape(first_ns, n_days), folder)
    return folder
