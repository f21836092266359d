"""The trade that an order would have become in an episode: guards, size, fill, exit.

The rules are those that trade live, also those that move the stop with each complete bar. An order
fills at the quote of the second in which it was decided, by the model of fills of
`momentum_lab.core.fills`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from momentum_lab.core import windows
from momentum_lab.core.account_risk import refuse_price, request_of
from momentum_lab.core.candle import LiveCandles
from momentum_lab.core.exits import (
    ExitGate,
    ExitSignal,
    OpenPosition,
    broker_exit,
    decide_exit,
)
from momentum_lab.core.fills import FillModel
from momentum_lab.core.market import Bar, Instrument, Quote, Side
from momentum_lab.core.position import ExitReason, Fill, Levels, exit_levels, summarise
from momentum_lab.core.ratchet import (
    Followed,
    complete_bars,
    follow_bars,
    make_ratchet,
    round_trip_usd,
)
from momentum_lab.core.risk import far_side, flat_by_ns, refuse_quote, refuse_time
from momentum_lab.core.signal import Decision, Reason, TradeSignal, passed
from momentum_lab.core.sizing import SizingInputs, sigma_of_atr, size_position
from momentum_lab.errors import DataError
from momentum_lab.parameters import Parameters
from momentum_lab.research.episodes import Episode, Tick

_FILLS = FillModel()


@dataclass(frozen=True, slots=True)
class Entry:
    """A filled entry.

    Attributes:
        index: the tick at which it was decided.
        fill: the execution.
        levels: stop and target, from the price that was paid.
        signal: what it answers.
    """

    index: int
    fill: Fill
    levels: Levels
    signal: TradeSignal


def enter(
    episode: Episode,
    index: int,
    signal: TradeSignal,
    *,
    parameters: Parameters,
    equity_usd: float,
) -> Entry | Decision:
    """Return the filled entry of a signal, or the guard that refuses it.

    Args:
        episode: what happened.
        index: the tick that gave the signal.
        signal: the shock.
        parameters: guards, sizing, exits.
        equity_usd: of the account; its buying power is taken to be the same.
    """
    instrument = _instrument(episode)
    now_ns, quote = signal.at_ns, episode.ticks[index].quote
    refusal = refuse_window(episode, now_ns, parameters) or refuse_quote(
        quote, now_ns=now_ns, parameters=parameters.guards
    )
    price = far_side(quote, signal.side)
    if refusal is not None or price is None:
        return refusal or passed(Reason.QUOTE_NOT_TRADABLE, "the line is silent")
    try:
        levels = _levels(signal, price, instrument, parameters)
    except DataError as error:
        return passed(Reason.SIZE_ZERO, str(error))
    # Each headline is judged as if it were the only one: of the account's limits, those of the
    # price alone can refuse it.
    request = request_of(signal, at_ns=now_ns, price_usd=price, target_usd=levels.target)
    refusal = refuse_price(request, parameters.risk)
    if refusal is not None:
        return refusal
    size = size_position(
        SizingInputs(
            side=signal.side,
            equity_usd=equity_usd,
            buying_power_usd=equity_usd,
            entry_usd=price,
            stop_usd=levels.stop,
            spread_usd=quote.spread or 0.0,
            tick_usd=instrument.tick_usd,
            # Nothing else is held.
            sector_gross_usd=0.0,
            recent_volume_shares=signal.recent_volume_shares,
            sigma_hold_ratio=sigma_of_atr(
                signal.atr, price_usd=price, hold_s=parameters.exits.time_stop_s
            ),
        ),
        parameters.sizing,
        risk=parameters.risk,
        guards=parameters.guards,
    )
    refusal = size.refusal
    if refusal is not None:
        return refusal
    fill = _fill("entry", signal.side, size.shares, quote, at_ns=now_ns, instrument=instrument)
    # As live: the levels that hold are those of the price that was paid.
    levels = _levels(signal, fill.price, instrument, parameters)
    return Entry(index, fill, levels, signal)


def refuse_window(episode: Episode, at_ns: int, parameters: Parameters) -> Decision | None:
    """Return the decision not to enter at this time of day, None when entries are allowed."""
    bells_ns = episode.session.bells_ns if episode.session else None
    return refuse_time(
        at_ns, session_ns=bells_ns, parameters=parameters.guards
    ) or windows.refuse_window(at_ns, parameters.windows)


def _levels(
    signal: TradeSignal, entry_usd: float, instrument: Instrument, parameters: Parameters
) -> Levels:
    return exit_levels(
        signal.side,
        entry_usd=entry_usd,
        atr_usd=signal.atr,
        instrument=instrument,
        parameters=parameters.exits,
    )


def follow(
    episode: Episode,
    entry: Entry,
    parameters: Parameters,
    *,
    signals: Iterable[TradeSignal] = (),
) -> dict[str, Any]:
    """Follow an entry to its exit; return what the trade was, by column of `what_if`.

    Args:
        episode: what happened.
        entry: what was entered.
        parameters: when it is left.
        signals: those of all headlines; the first that contradicts the position closes it.
    """
    bought = entry.fill
    reason, at_ns, quote = _leave(episode, entry, parameters, _opposite(entry, signals, parameters))
    shares = round(bought.shares)
    sold = _fill(
        "exit", bought.side.opposite, shares, quote, at_ns=at_ns, instrument=_instrument(episode)
    )
    if reason is ExitReason.TAKE_PROFIT:
        # A limit order that rests: it gets its price, and pays no spread.
        sold = replace(sold, price=entry.levels.target)
    total = summarise((bought, sold), entry_side=bought.side)
    return {
        "side": bought.side.value,
        "shares": shares,
        "entry_ns": bought.at_ns,
        "entry_price": bought.price,
        "stop": entry.levels.stop,
        "target": entry.levels.target,
        "exit_ns": at_ns,
        "exit_price": sold.price,
        "exit_reason": reason.value,
        "gross_usd": total.gross_usd,
        "costs_usd": total.costs_usd,
        "net_usd": total.net_usd,
    }


def _position(episode: Episode, entry: Entry, parameters: Parameters) -> OpenPosition:
    session, guards = episode.session, parameters.guards
    return OpenPosition(
        symbol=entry.fill.symbol,
        side=entry.fill.side,
        entry_ns=entry.fill.at_ns,
        levels=entry.levels,
        flat_by_ns=flat_by_ns(session.close_ns, guards) if session else None,
    )


def _opposite(
    entry: Entry, signals: Iterable[TradeSignal], parameters: Parameters
) -> TradeSignal | None:
    """Return the first signal after an entry that contradicts it, None without one."""
    if parameters.exits.on_opposite_signal != "exit":
        return None
    bought = entry.fill
    against = [
        signal
        for signal in signals
        if signal.symbol == bought.symbol
        and signal.side is bought.side.opposite
        and signal.at_ns > bought.at_ns
    ]
    return min(against, key=lambda signal: signal.at_ns, default=None)


def _leave(
    episode: Episode, entry: Entry, parameters: Parameters, opposite: TradeSignal | None
) -> tuple[ExitReason, int, Quote]:
    """Return why, when and at which quote a position is left."""
    opened = _position(episode, entry, parameters)
    # Captured quotes do not say that trading was halted.
    due_ns = opened.time_stop_ns(None, parameters.exits)
    if opened.flat_by_ns is not None:
        due_ns = min(due_ns, opened.flat_by_ns)
    bars = _BarWatch(episode, entry, parameters) if parameters.exits.follow_bars else None
    quote, gate = episode.ticks[entry.index].quote, ExitGate()
    max_quote_age_s = parameters.guards.quote_max_age_s
    for tick in islice(episode.ticks, entry.index, None):
        # Time alone makes an exit due, with no trade in that second; the last quote is paid.
        now_ns = min(tick.at_ns, due_ns)
        position, pending = opened, None
        if tick.at_ns <= due_ns:
            quote = tick.quote
            if bars is not None:
                position, pending = bars.look(opened, tick.candles)
        if pending is None and opposite is not None and now_ns >= opposite.at_ns:
            observed, limit = opposite.observed, opposite.limit
            pending = ExitSignal(ExitReason.OPPOSITE, observed, limit, "x ATR")
        native = _at_broker(entry, tick, position) if tick.at_ns <= due_ns else None
        if native is not None:
            return native.reason, now_ns, quote
        due = decide_exit(
            position,
            quote,
            now_ns=now_ns,
            max_quote_age_s=max_quote_age_s,
            parameters=parameters.exits,
            pending=pending,
        )
        gate = gate.look(quote, due, now_ns=now_ns, max_quote_age_s=max_quote_age_s)
        if due is not None and gate.admits(
            due, now_ns=now_ns, is_protected=True, parameters=parameters.exits
        ):
            return due.reason, now_ns, quote
    return ExitReason.SESSION_END, episode.end_ns, quote


def _at_broker(entry: Entry, tick: Tick, position: OpenPosition) -> ExitSignal | None:
    """Return the exit that stop and target make, which rest at the broker from the fill on."""
    if tick.at_ns <= entry.fill.at_ns:
        return None
    return broker_exit(position, tick.quote, high_usd=tick.high_usd, low_usd=tick.low_usd)


class _BarWatch:
    """What the complete bars of an episode do to one position, as a live session follows them."""

    def __init__(self, episode: Episode, entry: Entry, parameters: Parameters) -> None:
        bought, instrument = entry.fill, _instrument(episode)
        quote = episode.ticks[entry.index].quote
        self._episode, self._entry, self._parameters = episode, entry, parameters
        self._start = make_ratchet(
            bought.side,
            entry_usd=bought.price,
            stop_usd=entry.levels.stop,
            offset_usd=round_trip_usd(
                bought.shares, bid=quote.bid, ask=quote.ask, instrument=instrument, model=_FILLS
            ),
            instrument=instrument,
            parameters=parameters.exits,
        )
        self._heard: dict[int, Bar] = {}
        self._closed: tuple[Bar, ...] = ()
        self._followed = Followed(self._start)

    def look(
        self, opened: OpenPosition, candles: LiveCandles
    ) -> tuple[OpenPosition, ExitSignal | None]:
        """Return the position with its stop as of now, and the exit that a bar has asked for."""
        if candles.closed is not self._closed:
            self._closed = candles.closed
            self._heard.update((bar.start_ns, bar) for bar in candles.closed)
            self._followed = self._follow()
        ratchet = self._followed.ratchet
        levels = Levels(ratchet.stop_usd, opened.levels.target)
        return replace(opened, levels=levels, stop_kind=ratchet.stop_kind), self._followed.due

    def _follow(self) -> Followed:
        shock, entry_ns = self._parameters.shock, self._entry.fill.at_ns
        heard = self._heard.values()
        return follow_bars(
            self._start,
            complete_bars(self._episode.bars, heard, entry_ns=entry_ns, unit_shares=1.0),
            entry_ns=entry_ns,
            usual_range_usd=self._entry.signal.atr,
            atr_bars=shock.atr_bars,
            atr_kind=shock.atr_kind,
        )


def _fill(
    name: str, side: Side, shares: int, quote: Quote, *, at_ns: int, instrument: Instrument
) -> Fill:
    """Return the execution of a market order at a quote, by the model of fills."""
    if quote.bid is None or quote.ask is None:
        raise DataError(f"{quote.symbol}: no order fills without a bid and an ask")
    price = _FILLS.market_price(side, bid=quote.bid, ask=quote.ask, instrument=instrument)
    commission_usd = _FILLS.commission_usd(shares)
    return Fill(name, name, quote.symbol, side, shares, price, at_ns, commission_usd)


def _instrument(episode: Episode) -> Instrument:
    if episode.instrument is None:
        raise DataError(f"episode of {episode.headline.key}: it has no symbol to trade")
    return episode.instrument
