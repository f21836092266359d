"""`Patience`: how long something has been so, and how often and when it was asked for, by name."""

from __future__ import annotations

import math
from collections import Counter

from momentum_lab.clock import transport_s

# A fill and what it takes from the others of its group are told in two messages.
_SETTLES_WITHIN_S = 1.0
ASK_AGAIN_S = 2.0


class Patience:
    """Remembers, for each name, since when it is waited for; in seconds of transport time."""

    def __init__(self) -> None:
        """Begin without having waited for anything."""
        self._since_s: dict[str, float] = {}
        self._asked_s: dict[str, float] = {}
        self._n_attempts: Counter[str] = Counter()
        self._n_doubted: Counter[str] = Counter()

    def lasts(self, name: str) -> bool:
        """Whether something has been so for long enough not to be a matter of two messages."""
        now_s = transport_s()
        return now_s - self._since_s.setdefault(name, now_s) >= _SETTLES_WITHIN_S

    def may_ask(self, name: str, *, every_s: float = ASK_AGAIN_S) -> bool:
        """Whether the last time that this was asked for is long enough ago; it is asked for now."""
        now_s = transport_s()
        if now_s - self._asked_s.get(name, -math.inf) < every_s:
            return False
        self._asked_s[name] = now_s
        return True

    def attempt(self, name: str) -> int:
        """Count an attempt; return how many there were before."""
        self._n_attempts[name] += 1
        return self._n_attempts[name] - 1

    def n_attempts(self, name: str) -> int:
        """Return how often something has been attempted since it was last in order."""
        return self._n_attempts[name]

    def runs_out(self, name: str, *, after_s: float) -> bool:
        """Whether something has been so for too long; from then on it is waited for anew."""
        now_s = transport_s()
        if now_s - self._since_s.setdefault(name, now_s) <= after_s:
            return False
        self._since_s[name] = now_s
        self._n_doubted[name] += 1
        return True

    def n_doubted(self, name: str) -> int:
        """Return how often patience has run out since it was last in order."""
        return self._n_doubted[name]

    def begin_anew(self, name: str) -> None:
        """It is not so any more: who waits for it next waits from then on."""
        self._since_s.pop(name, None)

    def forget(self, name: str) -> None:
        """It is in order."""
        for known in (self._since_s, self._asked_s, self._n_attempts, self._n_doubted):
            known.pop(name, None)
