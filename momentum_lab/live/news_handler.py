"""`NewsHandler`: feed -> headline -> queue. The producer; it never waits for a consumer.

A headline may trade only if its article has never been seen (the store remembers over
reconnects and runs), was published after we subscribed (brokers replay old ones on
subscription), and is young. Whatever may not trade gets its decision here, at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable
from dataclasses import dataclass

from momentum_lab.clock import Clock
from momentum_lab.core.market import rounded_up
from momentum_lab.core.news import Headline, clean_text, epoch_ns, tickers_in
from momentum_lab.core.signal import Decision, Reason, passed
from momentum_lab.live.decisions import DecisionBook
from momentum_lab.live.ibkr.translate import RawHeadline
from momentum_lab.parameters import NewsParameters

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A headline on its way to a worker.

    Attributes:
        headline: clean text, tickers, stamps.
        headline_id: its identity in the store.
    """

    headline: Headline
    headline_id: str


class NewsHandler:
    """Reads raw headlines, keeps what is new and young, queues it for the workers."""

    def __init__(
        self,
        source: AsyncIterable[RawHeadline],
        queue: asyncio.Queue[Assignment],
        *,
        book: DecisionBook,
        clock: Clock,
        parameters: NewsParameters,
    ) -> None:
        """Make a handler that does nothing until `run()`."""
        self._source = source
        self._queue = queue
        self._book = book
        self._clock = clock
        self._parameters = parameters

    async def run(self) -> None:
        """Handle headlines until cancelled."""
        async for raw in self._source:
            self.handle(raw)

    def handle(self, raw: RawHeadline) -> None:
        """Store one headline and queue it, or record why it may not trade."""
        headline = self._parse(raw)
        headline_id = self._book.add_headline(headline)
        if headline_id is None:
            return
        _log.info("headline: %s %s", ",".join(headline.symbols) or "-", headline.text)
        refusal = self._refuse(headline, raw.subscribed_ns)
        if refusal is None:
            refusal = self._enqueue(Assignment(headline, headline_id))
        if refusal is not None:
            symbol = headline.symbols[0] if headline.symbols else None
            self._book.decide(headline_id, refusal, symbol=symbol)

    def _parse(self, raw: RawHeadline) -> Headline:
        text = clean_text(raw.text)
        symbols = dict.fromkeys((*((raw.symbol,) if raw.symbol else ()), *tickers_in(text)))
        return Headline(
            provider=raw.provider,
            article_id=raw.article_id,
            published_ns=epoch_ns(raw.stamp),
            received_ns=self._clock.now_ns(),
            text=text,
            symbols=tuple(symbols),
            extra=raw.extra,
        )

    def _refuse(self, headline: Headline, subscribed_ns: int) -> Decision | None:
        limits = self._parameters
        age_s = headline.age_s
        if headline.published_ns < subscribed_ns:
            return passed(Reason.NEWS_REPLAYED, "published before the news was subscribed to")
        if age_s > limits.max_age_s:
            return passed(
                Reason.NEWS_TOO_OLD,
                f"{rounded_up(age_s)} s old on arrival, {limits.max_age_s:g} s are allowed",
                observed=age_s,
                limit=limits.max_age_s,
                unit="s",
            )
        if -age_s > limits.max_future_s:
            return passed(
                Reason.NEWS_FROM_FUTURE,
                f"stamped {rounded_up(-age_s)} s in the future,"
                f" {limits.max_future_s:g} s are allowed",
                observed=-age_s,
                limit=limits.max_future_s,
                unit="s",
            )
        return None

    def _enqueue(self, assignment: Assignment) -> Decision | None:
        try:
            self._queue.put_nowait(assignment)
        except asyncio.QueueFull:
            return passed(
                Reason.QUEUE_FULL,
                f"{self._queue.qsize()} headlines are waiting already",
                observed=self._queue.qsize(),
                limit=self._parameters.queue_size,
                unit="headlines",
            )
        return None
