"""The bars of an open trade, on a real record and a real line; the broker is made up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from momentum_lab.clock import Alarm, SystemClock
from momentum_lab.core.candle import MINUTE_NS, Trade
from momentum_lab.core.exits import ExitSignal
from momentum_lab.core.market import Bar, Instrument, Side
from momentum_lab.core.order import OrderIntent, OrderPurpose
from momentum_lab.core.position import ExitReason, Fill, Levels
from momentum_lab.core.ratchet import Followed, make_ratchet
from momentum_lab.core.signal import Decision, Outcome, Reason
from momentum_lab.errors import ConnectionLostError
from momentum_lab.live.bar_follower import BarFollower, Held, position_of
from momentum_lab.live.ibkr.candles import CandleOutcome, Candles
from momentum_lab.live.ibkr.line import Line, QuoteStream
from momentum_lab.parameters import Parameters, check_parameters
from momentum_lab.records.trade_store import TradeStore
from tests.factories import NOON, bar, headline, instrument, quiet_bars

pytestmark = pytest.mark.anyio
RUN = "20131009T160000Z-replay"
QUIET = quiet_bars(30)


class Standing(SystemClock):
    """It is ten past noon, whatever happens."""

    def now_ns(self) -> int:
        return NOON + 10 * MINUTE_NS


@dataclass
class Broker:
    """A connector of one line, and an execution service that notes what it is asked for."""

    store: TradeStore
    line: Line = field(default_factory=lambda: Line(instrument(), Alarm(), Alarm()))
    history: list[Candles] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    moves: list[tuple[float, ExitReason]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    incidents: list[str] = field(default_factory=list)
    day_volume: float = 0.0

    def instrument(self, _symbol: str) -> Instrument:
        return self.line.instrument

    def stream_quotes(self, _symbol: str) -> QuoteStream:
        return QuoteStream(self.line, Standing())

    async def fetch_candles(self, _symbol: str, *, duration: str) -> Candles:
        self.asked.append(duration)
        return self.history.pop(0) if self.history else Candles(CandleOutcome.UNKNOWN, words="down")

    async def move_stop(self, trade_id: int, stop_usd: float, kind: ExitReason) -> None:
        if self.failures:
            raise self.failures.pop()
        self.moves.append((stop_usd, kind))
        self.store.set_stop(trade_id, stop_usd, kind)

    def trade(self, minute: int, *prices: float) -> None:
        """Let trades of 100 shares each be heard in a minute after noon."""
        for number, price in enumerate(prices):
            self.day_volume += 100
            at_ns = NOON + minute * MINUTE_NS + number + 1
            self.line.hear_trade(Trade(at_ns, price, self.day_volume))
        self.line.wake()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    store = TradeStore(tmp_path / "trades.db")
    store.start_run(
        RUN, mode="replay", account="", strategy="s", params_hash="h", params={}, revision="r"
    )
    item = headline()
    store.add_headline(item.key, RUN, item)

    def intent(decision_id: int) -> OrderIntent:
        return OrderIntent(
            f"ml-{decision_id}",
            "SPY",
            756733,
            Side.BUY,
            1000,
            NOON,
            decision_id=decision_id,
            levels=Levels(99.0, 105.0),
            atr=0.1,
            bid=99.99,
            ask=100.0,
            purpose=OrderPurpose.ENTRY,
        )

    decision = Decision(Outcome.ENTER, Reason.SHOCK, "a shock", 2.6, 2.5, "x ATR")
    (order,) = store.add_entry(item.key, RUN, decision, at_ns=NOON, symbol="SPY", intent=intent)
    store.book_fill(Fill("e1", order.order_ref, "SPY", Side.BUY, 1000, 100.0, NOON, None, 756733))
    yield Broker(store)
    store.close()


def _parameters(**exits: Any) -> Parameters:
    exits = {"stop_kind": "ratio", "stop_loss_ratio": 0.01, "take_profit_ratio": 0.05, **exits}
    return check_parameters({"universe": ["SPY"], "exits": exits})


@asynccontextmanager
async def following(broker: Broker, **exits: Any) -> AsyncIterator[Held]:
    held = Held()
    follower = BarFollower(
        cast("Any", broker),
        cast("Any", broker),
        broker.store,
        clock=Standing(),
        parameters=_parameters(**exits),
        on_incident=lambda kind, *_: broker.incidents.append(kind),
    )
    async with anyio.create_task_group() as group:
        group.start_soon(follower.follow, 1, held)
        await until(lambda: held.followed is not None)
        yield held
        group.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def settle() -> None:
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


def bars(*, after: tuple[Bar, ...] = ()) -> Candles:
    return Candles(CandleOutcome.BARS, (*QUIET, *after))


async def test_each_complete_bar_may_move_the_stop(broker: Broker) -> None:
    broker.history = [bars()]
    async with following(broker, trail_atr_multiple=3):
        broker.trade(-1, 100.0)
        broker.trade(0, 100.0, 101.0)
        await settle()
        assert broker.moves == []

        broker.trade(1, 101.0)
        await until(lambda: broker.moves != [])

    # Nine ranges of 0.10 before the entry and one of 1.00 make 0.19.
    assert broker.moves == [(100.43, ExitReason.TRAIL)]
    assert (broker.asked, broker.incidents) == (["5400 S"], [])


async def test_the_minute_of_the_entry_moves_nothing(broker: Broker) -> None:
    broker.store.db.execute("UPDATE trades SET opened_ns = opened_ns + 1")
    async with following(broker, trail_atr_multiple=3):
        for minute in (-1, 0, 1):
            broker.trade(minute, 100.0, 101.0)
        await settle()

    assert broker.moves == []


async def test_a_stop_that_could_not_be_moved_is_moved_with_the_next_bar(broker: Broker) -> None:
    broker.history, broker.failures = [bars()], [ConnectionLostError("down")]
    async with following(broker, break_even_r=0.5) as held:
        for minute in (-1, 0, 1):
            broker.trade(minute, 100.0, 101.0)
        await until(lambda: broker.incidents != [])
        assert broker.incidents == ["stop not followed"]
        # The client itself goes by the new stop from now on.
        position = position_of(broker.store.trade(1), held, flat_by_ns=None)
        assert (position.levels.stop, position.stop_kind) == (100.04, ExitReason.BREAK_EVEN)

        broker.trade(2, 101.0)
        await until(lambda: broker.moves != [])

    assert broker.moves == [(100.04, ExitReason.BREAK_EVEN)]


async def test_after_a_restart_the_bars_since_the_entry_come_from_history(broker: Broker) -> None:
    missed = bar(100.0, 101.0, high=102.0, low=100.0, start_ns=NOON)
    broker.history = [bars(after=(missed,))]
    async with following(broker, break_even_r=1.5):
        await until(lambda: broker.moves != [])

    assert broker.moves == [(100.04, ExitReason.BREAK_EVEN)]


async def test_a_stop_that_had_been_moved_is_never_taken_back(broker: Broker) -> None:
    broker.store.set_stop(1, 100.5, ExitReason.TRAIL)
    broker.history = [bars()]
    async with following(broker, break_even_r=1.0, trail_atr_multiple=3) as held:
        for minute in (-1, 0, 1):
            broker.trade(minute, 100.6, 101.2)
        await settle()
        assert held.followed is not None
        ratchet = held.followed.ratchet

    # R is that of the first stop, one dollar, and break-even lies below what is held.
    assert ratchet.risk_usd == 1.0
    assert (ratchet.stop_usd, ratchet.stop_kind) == (100.57, ExitReason.TRAIL)
    assert broker.moves == [(100.57, ExitReason.TRAIL)]


@pytest.mark.parametrize("is_moved", [False, True])
async def test_break_even_does_not_depend_on_whether_the_stop_was_trailed_before(
    broker: Broker, is_moved: bool
) -> None:
    # By two hundredths of the entry it would be 98; it left for an earlier quote, and stays at 99.
    if is_moved:
        broker.store.set_stop(1, 99.5, ExitReason.TRAIL)
    broker.history = [bars()]
    async with following(broker, stop_loss_ratio=0.02, break_even_r=1.0) as held:
        for minute in (-1, 0, 1):
            broker.trade(minute, 100.6, 101.2)
        await settle()
        assert held.followed is not None
        assert held.followed.ratchet.risk_usd == 1.0

    assert broker.moves == [(100.04, ExitReason.BREAK_EVEN)]


async def test_history_is_asked_again_for_a_minute_that_was_not_heard(broker: Broker) -> None:
    missed = bar(100.0, 100.0, high=102.0, low=100.0, start_ns=NOON + 2 * MINUTE_NS)
    broker.history = [bars(), bars(after=(missed,))]
    async with following(broker, break_even_r=1.5):
        for minute in (-1, 0, 1):
            broker.trade(minute, 100.0)
        await settle()
        assert len(broker.asked) == 1
        for minute in (3, 4, 5):
            broker.trade(minute, 100.0)
            await settle()
        await until(lambda: broker.moves != [])

    assert len(broker.asked) == 2


async def test_volume_is_compared_only_once_its_unit_is_known(broker: Broker) -> None:
    heard = tuple(replace(QUIET[-1], start_ns=NOON + n * MINUTE_NS) for n in range(6))
    # Historical volume of a minute is that of three trades, in shares as the line has it.
    known = tuple(replace(one, volume=3000.0) for one in heard)
    broker.history = [bars(), bars(after=known)]
    async with following(broker, decay_volume_ratio=0.5) as held:
        for minute in range(-1, 6):
            prices = [100.0] * (30 if minute < 3 else 1)
            broker.trade(minute, *prices)
            await settle()
        broker.trade(6, 100.0)
        await until(lambda: held.pending is not None)

        assert held.pending is not None
        assert held.pending.reason is ExitReason.VOL_DECAY


def test_of_two_stops_the_tighter_one_counts() -> None:
    row = {"stop": 99.0, "stop_kind": "STOP_LOSS"}
    ratchet = make_ratchet(
        Side.BUY,
        entry_usd=100.0,
        stop_usd=98.0,
        offset_usd=0.0,
        instrument=instrument(),
        parameters=_parameters().exits,
    )
    asked = ExitSignal(ExitReason.VOL_DECAY, 0.1, 0.25, "ratio of peak")

    assert Held().stop_of(row) == (99.0, ExitReason.STOP_LOSS)
    # The first stop is the record's: it follows the average of the entry's fills.
    assert Held(followed=Followed(ratchet)).stop_of({**row, "stop": 97.0})[0] == 97.0
    moved = ratchet.tightened(99.5, ExitReason.TRAIL)
    assert Held(followed=Followed(moved)).stop_of(row) == (99.5, ExitReason.TRAIL)
    assert Held(followed=Followed(moved, asked)).pending is asked
