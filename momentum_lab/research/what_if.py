"""What would have been decided and traded, had these parameters been set.

The very rules that trade live are run over the seconds of each episode: the same watch, the same
sizing, the same exits, the same model of fills. Two things differ from a session and are stated
here: no position blocks another, so that each headline shows the trade it would have been, although
the shock of a later headline closes what it contradicts; and an order fills at the quote of the
second in which it was decided, where a session needs some moments more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from momentum_lab.calendars import NEW_YORK
from momentum_lab.core.candle import LiveCandles
from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.risk import flat_by_ns
from momentum_lab.core.shock import Reading, Watch, look, open_watch
from momentum_lab.core.signal import Decision, Outcome, Reason, TradeSignal, passed
from momentum_lab.errors import DataError
from momentum_lab.parameters import Parameters
from momentum_lab.research.episodes import Episode
from momentum_lab.research.hypothetical_trade import enter, follow, refuse_window

_DTYPES = {
    "headline_key": "string",
    "received_ns": "int64",
    "text": "string",
    "symbol": "string",
    "outcome": "string",
    "reason": "string",
    "decision_text": "string",
    "observed": "float64",
    "limit_value": "float64",
    "unit": "string",
    "decided_ns": "int64",
    "move_atr": "float64",
    "volume_sma": "float64",
    "side": "string",
    "shares": "Int64",
    "entry_ns": "Int64",
    "entry_price": "float64",
    "stop": "float64",
    "target": "float64",
    "exit_ns": "Int64",
    "exit_price": "float64",
    "exit_reason": "string",
    "gross_usd": "float64",
    "costs_usd": "float64",
    "net_usd": "float64",
}


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What came of one headline: the decision, and the trade if there was one."""

    decision: Decision
    at_ns: int
    best: Reading | None = None
    trade: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Fired:
    """A watch that ended with a shock: the signal, and the last tick that was heard by then."""

    signal: TradeSignal
    best: Reading | None
    index: int


def what_if(
    episodes: Iterable[Episode], parameters: Parameters, *, equity_usd: float
) -> pd.DataFrame:
    """Return one row per headline: what would have been decided, and the trade it would have been.

    Columns: headline_key, received_ns, text, symbol; outcome, reason, decision_text, observed,
    limit_value, unit, decided_ns; move_atr and volume_sma of the reading that came nearest to a
    shock; side, shares, entry_ns, entry_price, stop, target, exit_ns, exit_price, exit_reason,
    gross_usd, costs_usd, net_usd where it would have been traded. Beside each instant in
    nanoseconds stands the New York time (`*_at`).

    Args:
        episodes: made by `make_episodes`.
        parameters: the set to judge them under.
        equity_usd: of the account at each headline; its buying power is taken to be the same.

    Raises:
        DataError: an episode is shorter than the watch and the time stop ask for.
    """
    seen = [(episode, _see(episode, parameters)) for episode in episodes]
    signals = [one.signal for _, one in seen if isinstance(one, _Fired)]
    verdicts = [
        (episode, _trade(episode, one, parameters, equity_usd, signals)) for episode, one in seen
    ]
    rows = [_row(episode, verdict) for episode, verdict in verdicts]
    frame = pd.DataFrame(
        {
            name: pd.Series([row.get(name) for row in rows], dtype=dtype)
            for name, dtype in _DTYPES.items()
        }
    )
    instants = {
        f"{name.removesuffix('_ns')}_at": pd.to_datetime(frame[name], unit="ns", utc=True)
        .dt.tz_convert(NEW_YORK)
        .astype(f"datetime64[ns, {NEW_YORK}]")
        for name in _DTYPES
        if name.endswith("_ns")
    }
    return frame.assign(**instants)


def _row(episode: Episode, verdict: _Verdict) -> dict[str, Any]:
    decision, best = verdict.decision, verdict.best
    return {
        "headline_key": episode.headline.key,
        "received_ns": episode.headline.received_ns,
        "text": episode.headline.text,
        "symbol": episode.symbol,
        "outcome": decision.outcome.value,
        "reason": decision.reason.value,
        "decision_text": decision.text,
        "observed": decision.observed,
        "limit_value": decision.limit,
        "unit": decision.unit,
        "decided_ns": verdict.at_ns,
        "move_atr": best.move_atr if best else None,
        "volume_sma": best.volume_sma if best else None,
        **(verdict.trade or {}),
    }


def _see(episode: Episode, parameters: Parameters) -> _Verdict | _Fired:
    """Watch a headline: a shock, or the reason why there is none."""
    headline, instrument = episode.headline, episode.instrument
    refusal = _refuse(episode, parameters)
    if refusal is not None or instrument is None:
        return _Verdict(refusal or passed(Reason.NO_TICKER, "no ticker"), headline.received_ns)
    _check_length(episode, parameters)
    watch = open_watch(
        headline.key,
        instrument.symbol,
        received_ns=headline.received_ns,
        bars=episode.bars,
        candles=_candles_on_receipt(episode),
        tick_usd=instrument.tick_usd,
        parameters=parameters.shock,
    )
    if isinstance(watch, Decision):
        return _Verdict(watch, headline.received_ns)
    return _look_until_decided(episode, watch, parameters)


def _trade(
    episode: Episode,
    seen: _Verdict | _Fired,
    parameters: Parameters,
    equity_usd: float,
    signals: Sequence[TradeSignal],
) -> _Verdict:
    """Trade a shock, unless a guard refuses it."""
    if isinstance(seen, _Verdict):
        return seen
    signal = seen.signal
    entry = enter(episode, seen.index, signal, parameters=parameters, equity_usd=equity_usd)
    if isinstance(entry, Decision):
        return _Verdict(entry, signal.at_ns, seen.best)
    decision = Decision(
        Outcome.ENTER, Reason.SHOCK, signal.text, signal.observed, signal.limit, "x ATR"
    )
    trade = follow(episode, entry, parameters, signals=signals)
    return _Verdict(decision, signal.at_ns, seen.best, trade)


def _refuse(episode: Episode, parameters: Parameters) -> Decision | None:
    """Return why the headline would not even have been watched."""
    if not episode.headline.symbols:
        return passed(Reason.NO_TICKER, "no ticker in the text, none from the subscription")
    if episode.symbol not in parameters.universe:
        found = ", ".join(episode.headline.symbols)
        return passed(Reason.NOT_IN_UNIVERSE, f"{found} is not in the universe")
    return refuse_window(episode, episode.headline.received_ns, parameters)


def _check_length(episode: Episode, parameters: Parameters) -> None:
    asked_s = parameters.shock.watch_s + parameters.exits.time_stop_s
    held_s = (episode.end_ns - episode.headline.received_ns) / NS_PER_S
    reaches_close = episode.session is not None and (
        episode.end_ns >= flat_by_ns(episode.session.close_ns, parameters.guards)
    )
    if asked_s > held_s and not reaches_close:
        raise DataError(
            f"episode of {episode.headline.key}: the watch and the time stop ask for"
            f" {asked_s:g} s, it holds {held_s:g} s; make it with a longer horizon"
        )


def _candles_on_receipt(episode: Episode) -> LiveCandles:
    return episode.ticks[episode.n_before - 1].candles if episode.n_before else LiveCandles()


def _look_until_decided(
    episode: Episode, watch: Watch, parameters: Parameters
) -> _Verdict | _Fired:
    """Look at every tick of the watch, and once more at its end."""
    expires_ns = watch.expires_ns(parameters.shock)
    until = bisect_right(episode.ticks, expires_ns, key=lambda tick: tick.at_ns)
    for index in range(episode.n_before, until):
        tick = episode.ticks[index]
        watch, found = look(watch, tick.candles, now_ns=tick.at_ns, parameters=parameters.shock)
        if isinstance(found, TradeSignal):
            return _Fired(found, watch.best, index)
        if found is not None:
            return _Verdict(found, tick.at_ns, watch.best)
    candles = episode.ticks[until - 1].candles if until else LiveCandles()
    watch, found = look(watch, candles, now_ns=expires_ns, parameters=parameters.shock)
    if not isinstance(found, Decision):
        raise DataError(f"episode of {episode.headline.key}: the watch did not end")
    return _Verdict(found, expires_ns, watch.best)
