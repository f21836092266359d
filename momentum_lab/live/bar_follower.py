"""`BarFollower`: lets the complete one-minute bars of an open trade move its stop, or end it.

The bars are the closed candles of the line. What the line has not heard comes from history: the
bars from before the entry, which the range is measured on, and after an outage or a restart those
since the entry. It is a task of its own, so that no exit waits for bars; what it finds it leaves in
`Held` for the next look.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field

import anyio

from momentum_lab.clock import Clock
from momentum_lab.core.candle import MINUTE_NS, MINUTE_S, volume_unit_shares
from momentum_lab.core.exits import ExitGate, ExitSignal, OpenPosition
from momentum_lab.core.fills import FillModel
from momentum_lab.core.market import EPSILON, NS_PER_S, Bar, Side
from momentum_lab.core.position import ExitReason, Levels
from momentum_lab.core.ratchet import (
    Followed,
    Ratchet,
    complete_bars,
    follow_bars,
    make_ratchet,
    round_trip_usd,
)
from momentum_lab.errors import DataError, MomentumLabError
from momentum_lab.live.decisions import OnIncident
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.ibkr.candles import CandleOutcome
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.line import QuoteStream
from momentum_lab.parameters import Parameters
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)
_COSTS = FillModel()
# True ranges before the entry, as a multiple of those in the ATR: Wilder's forgets slowly.
_WARM_UP = 4
_STEP_S = 1800
# The broker's longest duration in seconds is a day.
_MOST_STEPS = 48


@dataclass(slots=True, eq=False)
class Held:
    """What is known about an open trade beside its record.

    Attributes:
        gate: what holds its exits back.
        followed: what its bars have come to, None before the first look at them.
        opposite: the exit that an opposite signal has asked for.
        net_usd: its profit after costs at the last look, None before the first with a price.
    """

    gate: ExitGate = field(default_factory=ExitGate)
    followed: Followed | None = None
    opposite: ExitSignal | None = None
    net_usd: float | None = None

    @property
    def pending(self) -> ExitSignal | None:
        """The exit that a bar or a signal has asked for."""
        by_bars = self.followed.due if self.followed else None
        return by_bars or self.opposite

    def stop_of(self, trade: Row) -> tuple[float, ExitReason]:
        """Return the tighter of the recorded stop and the followed one, and what it stands for.

        They differ while a new stop is on its way to broker and record.
        """
        recorded = trade["stop"], ExitReason(trade["stop_kind"])
        if self.followed is None or not is_tighter(self.followed.ratchet, trade):
            return recorded
        return self.followed.ratchet.stop_usd, self.followed.ratchet.stop_kind


def is_tighter(ratchet: Ratchet, trade: Row) -> bool:
    """Whether a rule has drawn the stop beyond the recorded one.

    The first stop is the record's: it follows the average of an entry that fills in parts.
    """
    is_moved = ratchet.stop_kind is not ExitReason.STOP_LOSS
    return is_moved and bool(ratchet.side.sign * (ratchet.stop_usd - trade["stop"]) > EPSILON)


@dataclass(slots=True, eq=False)
class _Bars:
    """The bars of one trade: what history said, and what the line has been heard to say.

    Attributes:
        history: complete historical bars, volume in shares.
        heard: closed candles by start, volume in the line's own unit.
        unit_shares: shares per unit of the line's volume, None while it is not known.
        lacks_history: something is missing that history may know.
        may_ask: it was not asked since the last closed candle; an answer that lacks something still
            is no reason to ask at once again.
        is_asking: it is being asked.
        has_news: something is known that has not been looked at.
    """

    history: tuple[Bar, ...] = ()
    heard: dict[int, Bar] = field(default_factory=dict)
    unit_shares: float | None = None
    lacks_history: bool = True
    may_ask: bool = True
    is_asking: bool = False
    has_news: bool = True

    def hear(self, closed: tuple[Bar, ...]) -> None:
        """Take in the closed candles of the line."""
        fresh = [bar for bar in closed if bar.start_ns not in self.heard]
        known = [*self.heard, *(bar.start_ns for bar in self.history[-1:])]
        if fresh and known and fresh[0].start_ns > max(known) + MINUTE_NS:
            # A minute without a trade, or an outage: only history can tell.
            self.lacks_history = True
        self.heard.update((bar.start_ns, bar) for bar in fresh)
        if fresh:
            self.has_news = self.may_ask = True


class BarFollower:
    """Follows the bars of open trades; one call of `follow` per trade."""

    def __init__(
        self,
        connector: IBKRConnector,
        execution: ExecutionService,
        store: TradeStore,
        *,
        clock: Clock,
        parameters: Parameters,
        on_incident: OnIncident,
    ) -> None:
        """Make a follower; it does nothing by itself."""
        self._connector = connector
        self._execution = execution
        self._store = store
        self._clock = clock
        self._parameters = parameters
        self._on_incident = on_incident

    async def follow(self, trade_id: int, held: Held) -> None:
        """Follow the bars of a trade until cancelled; its line is open."""
        symbol, bars = self._store.trade(trade_id)["symbol"], _Bars()
        async with anyio.create_task_group() as group:
            with self._connector.stream_quotes(symbol) as stream:
                while True:
                    bars.hear(stream.candles.closed)
                    if bars.has_news:
                        bars.has_news = False
                        await self._look_safely(trade_id, held, bars, stream)
                        if bars.lacks_history and bars.may_ask and not bars.is_asking:
                            # Not waited for: the broker may hold it back, and bars go on.
                            bars.may_ask, bars.is_asking = False, True
                            group.start_soon(self._ask_history_safely, trade_id, bars, stream)
                    await stream.wait(until_ns=self._clock.now_ns() + MINUTE_NS)

    async def _look_safely(
        self, trade_id: int, held: Held, bars: _Bars, stream: QuoteStream
    ) -> None:
        try:
            await self._look(trade_id, held, bars, stream)
        except MomentumLabError as error:
            # The stop that stands protects; the next bar is the next attempt.
            text = f"trade {trade_id}: {error}"
            self._on_incident("stop not followed", text, stream.line.symbol)

    async def _look(self, trade_id: int, held: Held, bars: _Bars, stream: QuoteStream) -> None:
        trade = self._store.trade(trade_id)
        held.followed = self._judge(trade, bars)
        stream.line.wake()
        ratchet = held.followed.ratchet
        if trade["state"] == "OPEN" and is_tighter(ratchet, trade):
            _log.info(
                "stop: %s %s from %.2f to %.2f",
                trade["symbol"],
                ratchet.stop_kind.value,
                trade["stop"],
                ratchet.stop_usd,
            )
            await self._execution.move_stop(trade_id, ratchet.stop_usd, ratchet.stop_kind)

    async def _ask_history_safely(self, trade_id: int, bars: _Bars, stream: QuoteStream) -> None:
        try:
            await self._ask_history(trade_id, bars, stream)
        except MomentumLabError as error:
            text = f"trade {trade_id}: {error}"
            self._on_incident("stop not followed", text, stream.line.symbol)
        finally:
            bars.is_asking = False

    async def _ask_history(self, trade_id: int, bars: _Bars, stream: QuoteStream) -> None:
        """Fetch the bars that the line has not heard; without an answer the next bar asks again."""
        symbol, opened_ns = stream.line.symbol, self._store.trade(trade_id)["opened_ns"]
        held_s = max(0.0, (self._clock.now_ns() - opened_ns) / NS_PER_S)
        asked_s = held_s + _WARM_UP * self._parameters.shock.atr_bars * MINUTE_S
        # Another duration than the baseline's: the broker holds back what it was just asked for.
        n_steps = min(math.ceil(asked_s / _STEP_S) + 1, _MOST_STEPS)
        answer = await self._connector.fetch_candles(symbol, duration=f"{n_steps * _STEP_S} S")
        if answer.outcome is not CandleOutcome.BARS:
            _log.info("bars: %s none from history: %s", symbol, answer.words)
            return
        now_ns = self._clock.now_ns()
        bars.history = tuple(bar for bar in answer.bars if bar.end_ns <= now_ns)
        unit, _ = volume_unit_shares(
            bars.heard.values(),
            bars.history,
            tolerance_ratio=self._parameters.shock.volume_unit_tolerance,
        )
        bars.unit_shares = unit if unit is not None else bars.unit_shares
        needs_volume = self._parameters.exits.decay_volume_ratio > 0
        bars.lacks_history = needs_volume and bars.unit_shares is None
        bars.has_news = True
        stream.wake()

    def _judge(self, trade: Row, bars: _Bars) -> Followed:
        shock, order = self._parameters.shock, self._entry_order(trade)
        return follow_bars(
            self._start(trade, order),
            complete_bars(
                bars.history,
                bars.heard.values(),
                entry_ns=trade["opened_ns"],
                unit_shares=bars.unit_shares or 1.0,
            ),
            entry_ns=trade["opened_ns"],
            usual_range_usd=order["atr"],
            atr_bars=shock.atr_bars,
            atr_kind=shock.atr_kind,
            with_volume=bars.unit_shares is not None,
        )

    def _start(self, trade: Row, order: Row) -> Ratchet:
        """Return the ratchet at the entry, drawn to where the record has the stop by now."""
        instrument = self._connector.instrument(trade["symbol"])
        if instrument is None:
            raise DataError(f"{trade['symbol']}: no line, so no tick")
        start = make_ratchet(
            Side(trade["side"]),
            entry_usd=trade["entry_price"],
            # R is the distance of the first stop, wherever a rule has drawn it since.
            stop_usd=trade["first_stop"],
            offset_usd=round_trip_usd(
                trade["shares"],
                bid=order["bid"],
                ask=order["ask"],
                instrument=instrument,
                model=_COSTS,
            ),
            instrument=instrument,
            parameters=self._parameters.exits,
        )
        return start.tightened(trade["stop"], ExitReason(trade["stop_kind"]))

    def _entry_order(self, trade: Row) -> Row:
        for row in self._store.table("orders", trade["run_id"]):
            if row["purpose"] == "entry" and row["decision_id"] == trade["decision_id"]:
                if row["atr"] is not None:
                    return row
                break
        raise DataError(f"trade {trade['trade_id']}: its entry has no record of the usual range")


def position_of(trade: Row, held: Held, *, flat_by_ns: int | None) -> OpenPosition:
    """Return an open trade as the rules see it."""
    stop_usd, kind = held.stop_of(trade)
    return OpenPosition(
        symbol=trade["symbol"],
        side=Side(trade["side"]),
        entry_ns=trade["opened_ns"],
        levels=Levels(stop_usd, trade["target"]),
        flat_by_ns=flat_by_ns,
        stop_kind=kind,
    )
