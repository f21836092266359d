"""Sends what the broker's limits allow, the most urgent first.

The client library has one queue for everything, 45 messages a second. A `Limiter` takes its place,
for one connection after the other:

    limiter.attach(ib)                       # before it connects
    with limiter.speaking(Priority.EXIT):
        ib.placeOrder(contract, order)       # leaves in this call, whatever else waits
    limiter.detach()

What may leave at once leaves in the call that sends it; the rest is sent by `run`, one task for the
whole life of the limiter. The rules are in `momentum_lab.core.pacing`.

The queue is not bounded: who asks waits for the answer with a time limit, and to drop the oldest or
the newest request would only make that limit pass. How long it is can be seen.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import ib_insync

from momentum_lab.clock import Alarm, transport_s
from momentum_lab.core.pacing import MessageBudget, PacingParameters, Priority

_log = logging.getLogger(__name__)

# A timer may go off too early by its resolution; then the rest of the wait is this long at least.
_SHORTEST_NAP_S = 1e-6
_END = "\0"
_GLOBAL_CANCEL = "58"

# Ids of the requests, as the first field of each message; what is not listed is a LOOKUP.
# Source: the functions of `ib_insync.client.Client` and `ibapi.message.OUT`.
_PRIORITIES: Mapping[str, Priority] = {
    # The end of the handshake: without it there is no connection.
    "71": Priority.URGENT,  # startApi
    "4": Priority.CANCEL,  # cancelOrder
    _GLOBAL_CANCEL: Priority.CANCEL,
    "49": Priority.PROBE,  # reqCurrentTime
    # Until these are answered no exit may be sent, and an outcome stays unknown.
    "5": Priority.RECONCILE,  # reqOpenOrders
    "6": Priority.RECONCILE,  # reqAccountUpdates
    "7": Priority.RECONCILE,  # reqExecutions
    "8": Priority.RECONCILE,  # reqIds
    "15": Priority.RECONCILE,  # reqAutoOpenOrders
    "16": Priority.RECONCILE,  # reqAllOpenOrders
    "17": Priority.RECONCILE,  # reqManagedAccts
    "61": Priority.RECONCILE,  # reqPositions
    "62": Priority.RECONCILE,  # reqAccountSummary
    "63": Priority.RECONCILE,  # cancelAccountSummary
    "64": Priority.RECONCILE,  # cancelPositions
    "74": Priority.RECONCILE,  # reqPositionsMulti
    "75": Priority.RECONCILE,  # cancelPositionsMulti
    "76": Priority.RECONCILE,  # reqAccountUpdatesMulti
    "77": Priority.RECONCILE,  # cancelAccountUpdatesMulti
    "99": Priority.RECONCILE,  # reqCompletedOrders
    "3": Priority.ENTRY,  # placeOrder
    "21": Priority.ENTRY,  # exerciseOptions
    "1": Priority.QUOTES,  # reqMktData
    "2": Priority.QUOTES,  # cancelMktData
    "10": Priority.QUOTES,  # reqMktDepth
    "11": Priority.QUOTES,  # cancelMktDepth
    "50": Priority.QUOTES,  # reqRealTimeBars
    "51": Priority.QUOTES,  # cancelRealTimeBars
    "59": Priority.QUOTES,  # reqMarketDataType
    "97": Priority.QUOTES,  # reqTickByTickData
    "98": Priority.QUOTES,  # cancelTickByTickData
    "20": Priority.HISTORY,  # reqHistoricalData
    "25": Priority.HISTORY,  # cancelHistoricalData
    "52": Priority.HISTORY,  # reqFundamentalData
    "53": Priority.HISTORY,  # cancelFundamentalData
    "87": Priority.HISTORY,  # reqHeadTimeStamp
    "88": Priority.HISTORY,  # reqHistogramData
    "89": Priority.HISTORY,  # cancelHistogramData
    "90": Priority.HISTORY,  # cancelHeadTimeStamp
    "96": Priority.HISTORY,  # reqHistoricalTicks
    "12": Priority.NEWS,  # reqNewsBulletins
    "13": Priority.NEWS,  # cancelNewsBulletins
    "84": Priority.NEWS,  # reqNewsArticle
    "86": Priority.NEWS,  # reqHistoricalNews
}
# Where the id of an order or of a request stands in messages that come in pairs, as an index of
# fields: a cancel must not overtake what it cancels. Ids of both kinds are from one sequence.
_ID_FIELD: Mapping[str, int] = {
    **dict.fromkeys(("3", "20", "87", "88", "89", "90", "97", "98"), 1),
    **dict.fromkeys(("1", "2", "4", "10", "11", "25", "50", "51"), 2),
}
_raised: ContextVar[Priority | None] = ContextVar("raised", default=None)


@dataclass(frozen=True, slots=True)
class _Message:
    """A message that was put in a class at an instant of transport time, seconds.

    What it is about must not be overtaken by a message about the same.
    """

    text: str
    priority: Priority
    put_s: float
    about: str | None


class Limiter:
    """The throttle of the connections to one broker, one connection at a time.

    Attributes:
        n_sent: messages that have left, on all connections.
        n_dropped: messages that waited when their connection was lost.
        longest_wait_s: class -> longest time that a message of it has waited, seconds.
    """

    def __init__(self, parameters: PacingParameters) -> None:
        """Make a limiter without a connection."""
        self.n_sent = 0
        self.n_dropped = 0
        self.longest_wait_s = dict.fromkeys(Priority, 0.0)
        self._budget: MessageBudget[_Message] = MessageBudget(parameters)
        self._client: Any = None
        self._send: Callable[[str], None] | None = None
        self._alarm = Alarm()
        self._held: list[_Message] | None = None

    @property
    def n_waiting(self) -> int:
        """How many messages wait."""
        return len(self._budget)

    def attach(self, ib: ib_insync.IB) -> None:
        """Take the place of a client's own throttle; to be called before it connects.

        What the connection before left waiting is dropped. The raw opening of the handshake does
        not pass here, and is not counted by the broker either.
        """
        self.detach()
        client: Any = ib.client
        self._client, self._send = client, client.sendMsg
        # Without a limit the library's own function sends at once, and logs what it sends.
        client.MaxRequests = 0
        client.sendMsg = self._hear

    def detach(self) -> None:
        """Let go of a client, which gets its own throttle back, and drop what waits for it."""
        client, self._client, self._send = self._client, None, None
        if client is None:
            return
        for name in ("sendMsg", "MaxRequests"):
            vars(client).pop(name, None)
        self._drop()

    @contextmanager
    def speaking(self, priority: Priority) -> Iterator[None]:
        """Let what is sent inside the block be of this class, where its own is less urgent."""
        token = _raised.set(priority)
        try:
            yield
        finally:
            _raised.reset(token)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let what is sent inside the block leave at its end, in one write where it may leave.

        A failure inside the block sends nothing of it.
        """
        self._held = []
        try:
            yield
            held = self._held
        finally:
            self._held = None
        self._put(held)

    def wait_s(self, priority: Priority, *, n: int = 1) -> float:
        """Return how long `n` more messages of a class would wait; 0: they leave at once."""
        if self.n_waiting:
            self._flush()
        return self._budget.wait_s(priority, transport_s(), n=n)

    async def run(self) -> None:
        """Send what waits as soon as it may leave, until cancelled."""
        while True:
            self._alarm.clear()
            self._flush()
            await self._alarm.rest(self._nap_s())

    def _hear(self, text: str) -> None:
        """Take a message from the library, in place of its `Client.sendMsg`."""
        kind = text.partition(_END)[0]
        priority = _PRIORITIES.get(kind, Priority.LOOKUP)
        raised = _raised.get()
        if raised is not None:
            priority = min(priority, raised)
        if kind == _GLOBAL_CANCEL:
            # It means all orders so far: none of them may follow it.
            self._budget.move_up(Priority.ENTRY, to=Priority.CANCEL)
        message = _Message(text, priority, transport_s(), _about(text, kind))
        if self._held is None:
            self._put([message])
        else:
            self._held.append(message)

    def _put(self, messages: Sequence[_Message]) -> None:
        """Send what may leave now; the rest waits."""
        for message in messages:
            self._budget.put(message.priority, message, about=message.about)
        self._flush()
        if self.n_waiting:
            self._alarm.set()

    def _flush(self) -> None:
        if self._client is None or self._send is None:
            return
        if not self._client.isConnected():
            # It broke by itself; nothing can have been put before it was made.
            self._drop()
            return
        now_s = transport_s()
        with one_write(self._client.conn):
            for message in self._budget.take(now_s):
                waited_s = now_s - message.put_s
                longest_s = self.longest_wait_s[message.priority]
                self.longest_wait_s[message.priority] = max(longest_s, waited_s)
                self.n_sent += 1
                self._send(message.text)

    def _drop(self) -> None:
        dropped = self._budget.clear()
        self.n_dropped += len(dropped)
        if dropped:
            kinds = sorted({message.priority.name for message in dropped})
            _log.warning("limiter: dropped=%d classes=%s", len(dropped), ",".join(kinds))

    def _nap_s(self) -> float:
        now_s = transport_s()
        next_s = self._budget.next_s(now_s)
        return math.inf if next_s is None else max(next_s - now_s, _SHORTEST_NAP_S)


class _Basket:
    """Collects what is written to a transport."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.chunks.append(data)


@contextmanager
def one_write(connection: Any) -> Iterator[None]:
    """Let all messages inside the block leave in one call of the system: each costs its time."""
    transport, basket = connection.transport, _Basket()
    connection.transport = basket
    try:
        yield
    finally:
        connection.transport = transport
        if basket.chunks:
            transport.write(b"".join(basket.chunks))


def _about(text: str, kind: str) -> str | None:
    place = _ID_FIELD.get(kind)
    return None if place is None else text.split(_END, place + 1)[place]
