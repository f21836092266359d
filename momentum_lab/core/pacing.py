"""What may be sent to the broker when: the budget of messages.

The broker limits a client three ways. It counts messages (half as many a second as there are
market data lines, 50 for a new account) and ends the connection of who sends more. It counts
requests for history: `momentum_lab.core.history_pacing`. And it counts lines, which are kept
elsewhere. How much of all three is used is declared here, and is less than the broker allows: it
counts what arrives, and what left well apart can arrive closer together, by up to `jitter_s`.

Theory of operation. Messages wait in classes. The most urgent class that has a message speaks
first, and within a class who came first. Of the messages a second some are kept: the classes up
to a given one together may use the window only up to a ceiling, so what is above the ceiling is
there for the more urgent ones, always. An exit therefore does not wait behind lookups, whatever
their number; and exits that stay within what is kept for them take nothing from the others.

Messages about one and the same thing, an order or a request, never overtake each other: when a
more urgent one comes (the cancel of an order that has not left yet), those that wait are moved up
in front of it. A cancel that arrived before its order would be refused, and the order would live.

All instants are seconds of transport time and never decrease.

Source: IBKR, TWS API documentation, "Pacing Limitations".
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from momentum_lab.core.tunable import check_tunables, tunable
from momentum_lab.errors import ParameterError

T = TypeVar("T")

SECOND_S = 1.0
# One message a second is kept for the request that proves the line alive.
RESERVED_PROBES = 1


class Priority(IntEnum):
    """Classes of messages, the most urgent first.

    Cancels and exits are one class. What a caller does to get out of a position is a sequence
    ("cancel the resting stop, then sell"), and its order must not change on the way.
    """

    URGENT = 0
    CANCEL = 0
    EXIT = 0
    # Liveness: a request that waits in our own queue would make a living line look dead.
    PROBE = 1
    # Orders, executions, positions, account: until they are known no exit may be sent at all.
    RECONCILE = 2
    ENTRY = 3
    QUOTES = 4
    LOOKUP = 5
    HISTORY = 6
    NEWS = 7


@dataclass(frozen=True, slots=True)
class PacingParameters:
    """How much of the broker's limits is used, and by whom."""

    messages_per_s: int = tunable(
        45,
        unit="messages",
        low=10,
        high=500,
        step=1,
        meaning="most that is sent in any second; the broker takes half the number of lines",
    )
    jitter_s: float = tunable(
        0.1,
        unit="s",
        low=0,
        high=1,
        step=0.05,
        meaning="how much closer together than they left messages may arrive",
    )
    reserved_exits: int = tunable(
        10, unit="messages", low=1, high=100, step=1, meaning="of these, kept for exits and cancels"
    )
    reserved_entries: int = tunable(
        5,
        unit="messages",
        low=0,
        high=100,
        step=1,
        meaning="of these, kept for entries and reconciliation",
    )
    reserved_quotes: int = tunable(
        5, unit="messages", low=0, high=100, step=1, meaning="of these, kept for quotes"
    )
    same_kind_history: int = tunable(
        4,
        unit="requests",
        low=2,
        high=5,
        step=1,
        meaning="small-bar histories of one contract and tick type in 2 s; BID_ASK counts double",
    )
    all_history: int = tunable(
        55,
        unit="requests",
        low=2,
        high=60,
        step=1,
        meaning="small-bar histories in 10 minutes; BID_ASK counts double",
    )
    open_history: int = tunable(
        45, unit="requests", low=1, high=50, step=1, meaning="histories that are open at once"
    )
    market_data_lines: int = tunable(
        100, unit="lines", low=20, high=2000, step=10, meaning="what the broker allows this user"
    )
    spare_lines: int = tunable(
        5, unit="lines", low=0, high=100, step=1, meaning="of these, left for people at their TWS"
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range, and budgets that leave nothing."""
        check_tunables(self, prefix="pacing.")
        if self.ceilings[Priority.NEWS] < 1:
            raise ParameterError(
                "pacing.messages_per_s: expected more than the reserved_ messages and"
                f" {RESERVED_PROBES} probe together, found {self.messages_per_s}"
            )
        if self.messages_per_s > self.market_data_lines // 2:
            raise ParameterError(
                "pacing.messages_per_s: expected half of market_data_lines at most, found"
                f" {self.messages_per_s} of {self.market_data_lines}"
            )
        if self.spare_lines >= self.market_data_lines:
            raise ParameterError(
                f"pacing.spare_lines: expected less than market_data_lines, found"
                f" {self.spare_lines} of {self.market_data_lines}"
            )

    @property
    def ceilings(self) -> Mapping[Priority, int]:
        """Class -> most messages in any second of this class and all less urgent ones together."""
        probes = self.messages_per_s - self.reserved_exits
        entries = probes - RESERVED_PROBES
        quotes = entries - self.reserved_entries
        others = quotes - self.reserved_quotes
        return {
            Priority.URGENT: self.messages_per_s,
            Priority.PROBE: probes,
            Priority.RECONCILE: entries,
            Priority.ENTRY: entries,
            Priority.QUOTES: quotes,
            Priority.LOOKUP: others,
            Priority.HISTORY: others,
            Priority.NEWS: others,
        }


@dataclass(slots=True, eq=False)
class _Waiting(Generic[T]):
    """A message that waits; it is in the queue of one class, and its ghosts in others."""

    message: T
    priority: Priority
    about: Hashable


class MessageBudget(Generic[T]):
    """Messages that wait, and the sliding window of those that left.

    In any closed window of one second (and of `SECOND_S + jitter_s`) at most `messages_per_s` have
    left. The window is a property of the line to the broker: `clear` does not forget it.
    """

    def __init__(self, parameters: PacingParameters) -> None:
        """Begin with nothing waiting and everything to spend."""
        self._span_s = SECOND_S + parameters.jitter_s
        self._ceilings = parameters.ceilings
        self._least_ceiling = min(self._ceilings.values())
        self._left: deque[tuple[float, Priority]] = deque()
        # How many of them are of each class.
        self._n_left = [0] * len(Priority)
        self._queues: dict[Priority, deque[_Waiting[T]]] = {p: deque() for p in Priority}
        self._n_waiting = Counter[Priority]()
        self._about: dict[Hashable, list[_Waiting[T]]] = {}

    def __len__(self) -> int:
        """Return how many messages wait."""
        return self._n_waiting.total()

    def put(self, priority: Priority, message: T, *, about: Hashable = None) -> None:
        """Let a message wait for its turn.

        Args:
            priority: its class.
            message: anything.
            about: the order or request it is about; messages about the same one keep their order.
                None: about nothing that others could be about.
        """
        waiting = _Waiting(message, priority, about)
        if about is not None:
            others = self._about.setdefault(about, [])
            for other in others:
                self._move_up(other, priority)
            others.append(waiting)
        self._append(waiting)

    def move_up(self, priority: Priority, *, to: Priority) -> None:
        """Let all that waits in one class wait at the end of a more urgent one, in its order."""
        for waiting in tuple(self._queues[priority]):
            if waiting.priority is priority:
                for other in self._about.get(waiting.about, (waiting,)):
                    self._move_up(other, to)

    def take(self, now_s: float) -> list[T]:
        """Return the messages that may leave now, in this order; they count as having left."""
        found: list[T] = []
        while (head := self._head()) is not None and self._room_s(head.priority, now_s) <= now_s:
            self._queues[head.priority].popleft()
            self._n_waiting[head.priority] -= 1
            self._forget(head)
            self._left.append((now_s, head.priority))
            self._n_left[head.priority] += 1
            found.append(head.message)
        return found

    def next_s(self, now_s: float) -> float | None:
        """Return when the next message may leave, `now_s` if it may now; None if none waits."""
        head = self._head()
        return None if head is None else self._room_s(head.priority, now_s)

    def wait_s(self, priority: Priority, now_s: float, *, n: int = 1) -> float:
        """Return how long `n` more messages of a class would wait at least; 0 if not at all."""
        if not any(self._queues.values()):
            return self._room_s(priority, now_s, n=n) - now_s
        # What waits in its class or above goes first, and waits for a reason.
        heads = (h for p in self._queues if p <= priority and (h := self._first(p)) is not None)
        head = next(heads, None)
        waits_for = priority if head is None else head.priority
        return self._room_s(waits_for, now_s, n=n) - now_s

    def clear(self) -> list[T]:
        """Drop what waits and return it, the most urgent first; what left is remembered."""
        dropped = []
        for priority, queue in self._queues.items():
            dropped += [w.message for w in queue if w.priority is priority]
            queue.clear()
        self._n_waiting.clear()
        self._about.clear()
        return dropped

    def _append(self, waiting: _Waiting[T]) -> None:
        self._queues[waiting.priority].append(waiting)
        self._n_waiting[waiting.priority] += 1

    def _move_up(self, waiting: _Waiting[T], priority: Priority) -> None:
        if priority < waiting.priority:
            # Its old place is left behind as a ghost, and skipped later.
            self._n_waiting[waiting.priority] -= 1
            waiting.priority = priority
            self._append(waiting)

    def _head(self) -> _Waiting[T] | None:
        for priority, queue in self._queues.items():
            if queue and (head := self._first(priority)) is not None:
                return head
        return None

    def _first(self, priority: Priority) -> _Waiting[T] | None:
        queue = self._queues[priority]
        while queue and queue[0].priority is not priority:
            queue.popleft()
        return queue[0] if queue else None

    def _forget(self, waiting: _Waiting[T]) -> None:
        if waiting.about is not None:
            others = self._about[waiting.about]
            others.remove(waiting)
            if not others:
                del self._about[waiting.about]

    def _room_s(self, priority: Priority, now_s: float, *, n: int = 1) -> float:
        """Return from when on the window has room for `n` messages of a class, `now_s` at least.

        More than a class may ever send at once never have room.
        """
        while self._left and now_s - self._left[0][0] > self._span_s:
            _, priority_left = self._left.popleft()
            self._n_left[priority_left] -= 1
        if len(self._left) + n <= self._least_ceiling:
            return now_s
        room_s = now_s
        for limiting, ceiling in self._ceilings.items():
            if limiting > priority:
                break
            if n > ceiling:
                return math.inf
            if sum(self._n_left[limiting:]) > ceiling - n:
                counted = [at_s for at_s, left in self._left if left >= limiting]
                room_s = max(room_s, first_after_s(counted[n - 1 - ceiling], self._span_s))
        return room_s


def first_after_s(at_s: float, span_s: float) -> float:
    """Return the first instant that is more than a span after another one.

    "More than" as a subtraction of floats finds it, which is never before the exact one: two
    instants of which `later - earlier > span` do not fit in one closed window of that span.
    """
    found_s = at_s + span_s
    while not found_s - at_s > span_s:
        found_s = math.nextafter(found_s, math.inf)
    return found_s
