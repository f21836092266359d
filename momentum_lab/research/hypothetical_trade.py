"""The trade that an order would have become in an episode: guards, size, fill, exit.

The rules are those that trade live. An order fills at the quote of the second in which it was
decided, by the model of fills of `momentum_lab.core.fills`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from momentum_lab.core import windows
from momentum_lab.core.fills import FillModel
from momentum_lab.core.market import Instrument, Quote, Side
from momentum_lab.core.position import (
    ExitReason,
    Fill,
    Levels,
    OpenPosition,
    decide_exit,
    exit_levels,
    summarise,
)
from momentum_lab.core.risk import far_side, flat_by_ns, refuse_quote, refuse_time
from momentum_lab.core.signal import Decision, Reason, TradeSignal, passed
from momentum_lab.core.sizing import SizingInputs, sigma_of_atr, size_position
from momentum_lab.errors import DataError
from momentum_lab.parameters import Parameters
from momentum_lab.research.episodes import Episode

_FILLS = FillModel()


@dataclass(frozen=True, slots=True)
class Entry:
    """A filled entry.

    Attributes:
        index: the tick at which it was decided.
        fill: the execution.
        levels: stop and target, from the price that was paid.
    """

    index: int
    fill: Fill
    levels: Levels


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
    size = size_position(
        SizingInputs(
            side=signal.side,
            equity_usd=equity_usd,
            buying_power_usd=equity_usd,
            entry_usd=price,
            stop_usd=levels.stop,
            spread_usd=quote.spread or 0.0,
            tick_usd=instrument.tick_usd,
            # Each headline is judged as if it were the only one: nothing else is held.
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
    if size.shares < 1:
        return passed(Reason.SIZE_ZERO, size.text, observed=0, limit=1, unit="shares")
    fill = _fill("entry", signal.side, size.shares, quote, at_ns=now_ns, instrument=instrument)
    # As live: the levels that hold are those of the price that was paid.
    return Entry(index, fill, _levels(signal, fill.price, instrument, parameters))


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


def follow(episode: Episode, entry: Entry, parameters: Parameters) -> dict[str, Any]:
    """Follow an entry to its exit; return what the trade was, by column of `what_if`."""
    bought = entry.fill
    position = _position(episode, entry, parameters)
    reason, at_ns, quote = _leave(episode, entry.index, position, parameters)
    shares = round(bought.shares)
    sold = _fill(
        "exit", bought.side.opposite, shares, quote, at_ns=at_ns, instrument=_instrument(episode)
    )
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


def _leave(
    episode: Episode, index: int, position: OpenPosition, parameters: Parameters
) -> tuple[ExitReason, int, Quote]:
    """Return why, when and at which quote a position is left."""
    due_ns = position.time_stop_ns(parameters.exits)
    if position.flat_by_ns is not None:
        due_ns = min(due_ns, position.flat_by_ns)
    quote = episode.ticks[index].quote
    for tick in islice(episode.ticks, index, None):
        # Time alone makes an exit due, with no trade in that second; the last quote is paid.
        now_ns = min(tick.at_ns, due_ns)
        quote = tick.quote if tick.at_ns <= due_ns else quote
        due = decide_exit(
            position,
            quote,
            now_ns=now_ns,
            max_quote_age_s=parameters.guards.quote_max_age_s,
            parameters=parameters.exits,
        )
        if due is not None:
            return due.reason, now_ns, quote
    return ExitReason.SESSION_END, episode.end_ns, quote


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
