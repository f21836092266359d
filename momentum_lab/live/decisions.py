"""The book of decisions: each headline enters once and leaves with exactly one verdict."""

from __future__ import annotations

import logging
from collections.abc import Callable

from momentum_lab.clock import Clock
from momentum_lab.core.news import Headline
from momentum_lab.core.signal import Decision, Reason, passed
from momentum_lab.errors import RecordError
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)

# Hears kind, text and symbol of what a person should look at.
OnIncident = Callable[[str, str, str | None], None]


class DecisionBook:
    """Writes headlines and the decisions about them."""

    def __init__(self, store: TradeStore, clock: Clock, *, run_id: str) -> None:
        """Make a book for one run."""
        self.store = store
        self.run_id = run_id
        self._clock = clock
        # A replayed day is a new history each time: its articles were not seen in another run.
        self._scope = f"{run_id}/" if clock.is_replay else ""
        self._late_symbols: dict[str, tuple[str, ...]] = {}

    def add_headline(self, headline: Headline) -> str | None:
        """Store a headline; return its identity, None when it has been seen before.

        A headline that cannot be stored is not traded: it is logged and None is returned.
        """
        headline_id = f"{self._scope}{headline.key}"
        try:
            is_new = self.store.add_headline(headline_id, self.run_id, headline)
        except RecordError:
            _log.exception("headline not recorded, so it cannot trade: id=%s", headline_id)
            return None
        if not is_new and headline.symbols:
            # A broad tape may bring a story first, without the ticker of a stock's own line.
            self._late_symbols[headline_id] = headline.symbols
        return headline_id if is_new else None

    def late_symbols(self, headline_id: str) -> tuple[str, ...]:
        """Return the tickers that later copies of a headline had; empty without any."""
        return self._late_symbols.get(headline_id, ())

    def decide(self, headline_id: str, decision: Decision, *, symbol: str | None) -> None:
        """Record the verdict of a headline that is not traded."""
        _log.info(
            "decision: %s %s %s: %s",
            symbol or "-",
            decision.outcome.value,
            decision.reason.value,
            decision.text,
        )
        try:
            self.store.add_decision(
                headline_id, decision, at_ns=self._clock.now_ns(), symbol=symbol
            )
        except RecordError:
            _log.exception("decision not recorded: headline=%s", headline_id)

    def close(self) -> None:
        """Give every headline that is still open the verdict that the session ended."""
        self._close_run(self.run_id, "the session ended while it was open")

    def bury_dead_runs(self) -> None:
        """Close the books of earlier runs that died without doing it themselves."""
        for run_id in self.store.unfinished_runs():
            if run_id != self.run_id:
                _log.warning("run found dead: run=%s", run_id)
                self._close_run(run_id, "its run died while it was open")
                self.store.end_run(run_id, reason=f"died; found by {self.run_id}")

    def _close_run(self, run_id: str, why: str) -> None:
        for headline_id in self.store.undecided(run_id):
            self.decide(headline_id, passed(Reason.SESSION_ENDING, why), symbol=None)
