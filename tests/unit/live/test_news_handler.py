"""Which headlines reach the workers, and what is recorded about the others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from momentum_lab.clock import ReplayClock
from momentum_lab.core.market import NS_PER_S
from momentum_lab.live.decisions import DecisionBook
from momentum_lab.live.ibkr.translate import RawHeadline
from momentum_lab.live.news_handler import Assignment, NewsHandler
from momentum_lab.parameters import NewsParameters
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore
from tests.factories import NOON

RUN = "20131009T160000Z-replay"
NOON_MS = NOON // 1_000_000


class Desk:
    """A handler with a real store behind it."""

    def __init__(self, path: Path, *, run_id: str = RUN, queue_size: int = 10) -> None:
        self.clock = ReplayClock(60)
        self.clock.observe(NOON)
        self.store = TradeStore(path)
        if run_id not in self.store.unfinished_runs():
            self.store.start_run(
                run_id,
                mode="replay",
                account="",
                strategy="s",
                params_hash="h",
                params={},
                revision="r",
            )
        self.run_id = run_id
        self.queue: asyncio.Queue[Assignment] = asyncio.Queue(queue_size)
        self.book = DecisionBook(self.store, self.clock, run_id=run_id)
        self.handler = NewsHandler(
            nothing(),
            self.queue,
            book=self.book,
            clock=self.clock,
            parameters=replace(NewsParameters(), queue_size=queue_size),
        )

    def rows(self, table: str) -> list[Row]:
        return self.store.table(table, self.run_id)

    def reasons(self) -> list[str]:
        return [row["reason"] for row in self.rows("decisions")]


async def nothing() -> AsyncIterator[RawHeadline]:
    for item in list[RawHeadline]():
        yield item


def raw(
    article_id: str = "a1",
    *,
    age_s: float = 0.5,
    text: str = "Broad market (SPY) in focus",
    symbol: str | None = None,
    subscribed_ns: int = NOON - 3600 * NS_PER_S,
) -> RawHeadline:
    return RawHeadline(
        "BRFG", article_id, NOON_MS - int(age_s * 1000), text, "", symbol, subscribed_ns
    )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path / "trades.db")
    yield found
    found.store.close()


def test_a_young_new_headline_is_queued_with_its_ticker(desk: Desk) -> None:
    desk.handler.handle(raw(text="{A:800015:L:en}! Market View: (SPY) &amp; friends"))

    queued = desk.queue.get_nowait().headline
    assert (queued.text, queued.symbols) == ("Market View: (SPY) & friends", ("SPY",))
    assert desk.reasons() == []


def test_the_symbol_of_the_subscription_comes_first(desk: Desk) -> None:
    desk.handler.handle(raw(text="Rivals react (IBM)", symbol="BAC"))
    assert desk.queue.get_nowait().headline.symbols == ("BAC", "IBM")


def test_the_same_article_on_several_lines_is_one_headline(desk: Desk) -> None:
    for symbol in (None, "SPY", "IBM"):
        desk.handler.handle(raw(symbol=symbol))

    assert desk.queue.qsize() == 1
    (row,) = desk.rows("headlines")
    assert (row["repeats"], json.loads(row["symbols"])) == (2, ["SPY"])


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (raw(age_s=61), "NEWS_TOO_OLD"),
        (raw(age_s=-10), "NEWS_FROM_FUTURE"),
        (raw(age_s=5, subscribed_ns=NOON - 2 * NS_PER_S), "NEWS_REPLAYED"),
    ],
)
def test_what_may_not_trade_gets_its_decision_at_once(
    desk: Desk, item: RawHeadline, reason: str
) -> None:
    desk.handler.handle(item)
    assert desk.queue.empty()
    assert desk.reasons() == [reason]


def test_both_sides_of_the_comparison_are_recorded(desk: Desk) -> None:
    desk.handler.handle(raw(age_s=90))
    (row,) = desk.rows("decisions")
    assert row["observed"] == pytest.approx(90, abs=1.1)
    assert (row["limit_value"], row["unit"]) == (60, "s")


def test_a_copy_with_a_ticker_names_a_headline_that_came_without(desk: Desk) -> None:
    desk.handler.handle(raw(text="A story without a ticker"))
    headline_id = desk.queue.get_nowait().headline_id
    assert desk.book.late_symbols(headline_id) == ()

    desk.handler.handle(raw(text="A story without a ticker", symbol="IBM"))

    assert desk.book.late_symbols(headline_id) == ("IBM",)


def test_a_full_queue_is_a_decision_and_never_a_wait(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "trades.db", queue_size=1)
    desk.handler.handle(raw("a1"))
    desk.handler.handle(raw("a2"))
    assert desk.reasons() == ["QUEUE_FULL"]
    desk.store.close()


def test_a_restart_of_the_same_run_remembers_what_was_seen(tmp_path: Path) -> None:
    first = Desk(tmp_path / "trades.db")
    first.handler.handle(raw())
    first.store.close()

    again = Desk(tmp_path / "trades.db")
    again.handler.handle(raw())

    assert again.queue.empty()
    again.store.close()


def test_a_replayed_day_is_a_new_history_in_each_run(tmp_path: Path) -> None:
    first = Desk(tmp_path / "trades.db")
    first.handler.handle(raw())
    first.store.close()

    other = Desk(tmp_path / "trades.db", run_id="20991231T000000Z-replay")
    other.handler.handle(raw())

    assert other.queue.qsize() == 1
    other.store.close()
