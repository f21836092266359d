"""The broker's limits on its clients, as budgets that are told the time.

Messages, market data lines and historical requests are limited per second of *transport* time
(the event loop's clock), not of market time: they protect the broker's computers, and a client
library throttles itself by the same clock. A tape played at 1800x therefore needs no other limits
than a real day, and in virtual time they hold in virtual seconds.

Messages. A connection may send half as many messages a second as there are market data lines.
What comes on top is refused (the broker's setting "reject"), or waits in the order in which it
came ("pace", also with the connect option `+PACEAPI`). All that is refused within one second is
one violation, told by one error 100; the third violation of a connection ends it. The broker
measures what arrives, and so do we, but a jitter of the network or of this process is not the
client's doing: `SLACK_S` of it is forgiven, once and not again for each second.

Historical requests for bars of 30 s or less, for the first instant of a history and for ticks
have three rules, all clients together since the broker counts by user. What is refused, for
whatever reason, has not reached the broker's data service and does not count. Larger bars are
only slowed down by the broker, by amounts that are not published: here they are not limited.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

from momentum_lab.errors import ParameterError

OverRate = Literal["reject", "pace"]

SECOND_S = 1.0
SLACK_S = 0.2
MAX_VIOLATIONS = 3
SMALL_BAR_S = 30
IDENTICAL_S = 15.0
SAME_KIND_S, MAX_SAME_KIND = 2.0, 5
ALL_S, MAX_ALL = 600.0, 60
MAX_OPEN_HISTORY = 50


@dataclass(frozen=True, slots=True)
class Limits:
    """What the clients of a gateway are allowed; the defaults are those of a new account.

    Attributes:
        max_lines: market data lines of all clients together.
        max_messages_per_s: messages a second of each client; None for half the lines, 0 for any.
        over_rate: what becomes of a message over that rate, "reject" or "pace".
        paces_history: historical requests obey the pacing rules.
        news_answer_s: transport seconds until a request for past headlines or an article is
            answered; while one is in flight, the next waits.
    """

    max_lines: int = 100
    max_messages_per_s: int | None = None
    over_rate: OverRate = "reject"
    paces_history: bool = True
    news_answer_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be counted.

        Raises:
            ParameterError: a value is out of range.
        """
        if self.max_lines < 1:
            raise ParameterError(f"gateway: expected max_lines >= 1, found {self.max_lines}")
        if self.max_messages_per_s is not None and self.max_messages_per_s < 0:
            raise ParameterError(
                f"gateway: expected max_messages_per_s >= 0, found {self.max_messages_per_s}"
            )
        if self.over_rate not in ("reject", "pace"):
            raise ParameterError(
                f"gateway: expected over_rate reject or pace, found {self.over_rate!r}"
            )
        if not (math.isfinite(self.news_answer_s) and self.news_answer_s >= 0):
            raise ParameterError(
                f"gateway: expected news_answer_s >= 0, found {self.news_answer_s}"
            )

    @property
    def messages_per_s(self) -> int:
        """The number itself, 0 where there is no limit."""
        if self.max_messages_per_s is None:
            return max(1, self.max_lines // 2)
        return self.max_messages_per_s


class MessageBudget:
    """How many messages one connection may still send.

    A message is booked at its arrival, or a second after the message `per_s` places before it,
    whichever is later. It is refused where that would be more than `SLACK_S` ahead of time. So
    no more than `per_s` are taken within any `SECOND_S - SLACK_S`, and in the long run no more
    than `per_s` a second.

    Attributes:
        per_s: messages a second, 0 for any number.
        n_violations: in how many seconds there were too many.
    """

    def __init__(self, per_s: int) -> None:
        """Begin with everything to spend."""
        self.per_s = per_s
        self.n_violations = 0
        self._booked_s: deque[float] = deque(maxlen=per_s)
        self._violated_s = -math.inf

    def wait_s(self, now_s: float) -> float:
        """Return how long the next message has to wait, 0 where it may come now."""
        return max(0.0, self._booking_s(now_s) - SLACK_S - now_s)

    def take(self, now_s: float) -> bool:
        """Book one message; False, and nothing booked, where it is one too many."""
        if not self.per_s:
            return True
        booking_s = self._booking_s(now_s)
        if booking_s - SLACK_S > now_s:
            return False
        self._booked_s.append(booking_s)
        return True

    def violate(self, now_s: float) -> bool:
        """Note that a message was refused; True where that begins another violation."""
        if now_s - self._violated_s < SECOND_S:
            return False
        self._violated_s = now_s
        self.n_violations += 1
        return True

    def _booking_s(self, now_s: float) -> float:
        if not self.per_s or len(self._booked_s) < self.per_s:
            return now_s
        return max(now_s, self._booked_s[0] + SECOND_S)


@dataclass(frozen=True, slots=True)
class HistoryAsk:
    """One historical request, as far as the pacing rules are concerned.

    Attributes:
        all_of_it: equal for requests that ask for the very same.
        kind: equal for requests for the same contract, exchange and tick type.
        weight: how much it counts, 2 for BID_ASK.
    """

    all_of_it: Hashable
    kind: Hashable
    weight: int = 1


class HistoryBudget:
    """The historical requests that were let through, and whether another one may follow."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self._asked: deque[tuple[float, HistoryAsk]] = deque()

    def take(self, ask: HistoryAsk, now_s: float) -> bool:
        """Count a request; False, and nothing counted, where it breaks a rule."""
        while self._asked and now_s - self._asked[0][0] >= ALL_S:
            self._asked.popleft()
        if self._breaks_a_rule(ask, now_s):
            return False
        self._asked.append((now_s, ask))
        return True

    def _breaks_a_rule(self, ask: HistoryAsk, now_s: float) -> bool:
        n_all = n_same_kind = ask.weight
        for at_s, earlier in self._asked:
            n_all += earlier.weight
            if earlier.all_of_it == ask.all_of_it and now_s - at_s < IDENTICAL_S:
                return True
            if earlier.kind == ask.kind and now_s - at_s < SAME_KIND_S:
                n_same_kind += earlier.weight
        return n_all > MAX_ALL or n_same_kind > MAX_SAME_KIND
