"""When a request for history may be sent.

Requests for bars of 30 s or less, for the first instant of a history and for single ticks have
three rules at the broker: the same one not within 15 s; fewer than six of one contract, exchange
and tick type within 2 s; 60 at most in any ten minutes. Requests for BID_ASK count double, and no
more than 50 of any kind may be open at once. Larger bars are only slowed down. Our numbers are in
`PacingParameters`, a little smaller; our spans are longer by the jitter of arrivals.

Instants are seconds of transport time and never decrease.

Source: IBKR, TWS API documentation, "Historical Data Limitations".
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from momentum_lab.core.pacing import PacingParameters, first_after_s

SMALL_BAR_S = 30
IDENTICAL_S = 15.0
SAME_KIND_S = 2.0
ALL_HISTORY_S = 600.0
_DOUBLE_WEIGHT = "BID_ASK"


@dataclass(frozen=True, slots=True)
class HistoryKey:
    """What a request for history asks for, as far as the broker's pacing is concerned.

    Attributes:
        con_id: the contract.
        exchange: where, e.g. "SMART".
        tick_type: what to show, e.g. "TRADES", "BID_ASK".
        seconds: length of the bars; 0 for what is no bar (the first instant, single ticks) and
            always counts as a small one.
        details: all the rest that makes one request another one: end, duration, hours.
    """

    con_id: int
    exchange: str
    tick_type: str
    seconds: int
    details: tuple[Hashable, ...] = ()

    @property
    def kind(self) -> tuple[int, str, str]:
        """Equal for requests of the same contract, exchange and tick type."""
        return self.con_id, self.exchange, self.tick_type

    @property
    def weight(self) -> int:
        """How much it counts."""
        return 2 if self.tick_type == _DOUBLE_WEIGHT else 1

    @property
    def is_paced(self) -> bool:
        """Whether the hard rules hold; the broker merely slows down requests for larger bars."""
        return self.seconds <= SMALL_BAR_S


class HistoricalPacing:
    """The histories that were asked for, and when another one may be.

    The broker counts by user, so this outlives connections.

    Attributes:
        n_open: how many have been sent and not been answered.
    """

    def __init__(self, parameters: PacingParameters) -> None:
        """Begin with nothing asked."""
        self._parameters = parameters
        self._sent: deque[tuple[float, HistoryKey]] = deque()
        self.n_open = 0

    def admit_s(self, key: HistoryKey, now_s: float) -> float:
        """Return how long a request has to wait, 0 if it may be sent now.

        Returns:
            Seconds; infinite while too many are open, since only an answer helps.
        """
        if self.n_open >= self._parameters.open_history:
            return math.inf
        if not key.is_paced:
            return 0.0
        self._forget(now_s)
        admitted_s = max(
            now_s,
            self._identical_until_s(key),
            self._full_until_s(key, key.kind),
            self._full_until_s(key, None),
        )
        return admitted_s - now_s

    def note_sent(self, key: HistoryKey, now_s: float) -> None:
        """Count a request that is sent now."""
        self.n_open += 1
        if key.is_paced:
            self._sent.append((now_s, key))

    def note_done(self) -> None:
        """Count an answer, a refusal or the loss of the connection: one request less is open."""
        self.n_open -= 1

    def _forget(self, now_s: float) -> None:
        span_s = ALL_HISTORY_S + self._parameters.jitter_s
        while self._sent and now_s - self._sent[0][0] > span_s:
            self._sent.popleft()

    def _identical_until_s(self, key: HistoryKey) -> float:
        span_s = IDENTICAL_S + self._parameters.jitter_s
        same = [at_s for at_s, sent in self._sent if sent == key]
        return first_after_s(same[-1], span_s) if same else -math.inf

    def _full_until_s(self, key: HistoryKey, kind: Hashable | None) -> float:
        """Return from when on there is room for a request, among its kind or among all."""
        most, span_s = self._parameters.same_kind_history, SAME_KIND_S
        if kind is None:
            most, span_s = self._parameters.all_history, ALL_HISTORY_S
        weight = key.weight
        for at_s, sent in reversed(self._sent):
            if kind is None or sent.kind == kind:
                weight += sent.weight
                if weight > most:
                    return first_after_s(at_s, span_s + self._parameters.jitter_s)
        return -math.inf
