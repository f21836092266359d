"""A random trading day from a seed: two symbols, headlines with and without a shock, and trouble.

The tape has a bar and a quote of each symbol every five seconds. What goes wrong are faults of the
paper gateway by their own names, at market times and after events; what the exchange refuses comes
from its own rules and from a ratio of orders that it rejects.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Instrument
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.faults.scenario import Entry, Scenario
from momentum_lab.records.tape import BAR_COLUMNS, Tape, TapeHeadline

Floats = npt.NDArray[np.float64]

# Wednesday 2013-10-09 in New York; the end of the day before is the baseline of the first minutes.
OPEN = datetime(2013, 10, 9, 9, 30, tzinfo=ZoneInfo("America/New_York"))
OPEN_NS = int(OPEN.timestamp()) * NS_PER_S
SESSION_S = 23_400
CLOSE_NS = OPEN_NS + SESSION_S * NS_PER_S
DAY_NS = 86_400 * NS_PER_S
BAR_S = 5
SYMBOLS = ("AAA", "BBB")
_BASELINE_S = 1800
# Everything that goes wrong is over by then, but on the days that are to end in trouble.
CALM_BEFORE_CLOSE_S = 900
_LASTING: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("half_open", {}),
    ("stalled_reader", {}),
    ("stalled_writer", {}),
    ("slow_answers", {"delay_s": 2.0}),
    ("slow_answers", {"delay_s": 15.0}),
    ("lost_answer", {"request": "reqPositions"}),
    ("lost_answer", {"request": "reqExecutions"}),
    ("lost_answer", {"request": "reqAllOpenOrders"}),
    ("lost_answer", {"request": "placeOrder"}),
    ("1100", {"restored": 1102}),
    ("1100", {"restored": 1101}),
    ("2103", {}),
    ("2105", {}),
    ("nightly_reset", {"cuts_sockets": 1}),
    ("restart", {"vanish_s": 1.0}),
    ("restart", {"vanish_s": 8.0, "ids_back": 3}),
    ("client_id_busy", {}),
    ("frozen_quotes", {}),
    ("competing_session", {}),
    ("delayed_data", {}),
)
_ORDERS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("late_status", {"delay_s": 3.0}),
    ("late_status", {"delay_s": 25.0}),
    ("duplicate_status", {"times": 3}),
    ("reordered_status", {}),
    ("commission_first", {}),
    ("lost_acknowledgement", {}),
    ("partial_then_silence", {}),
    ("forgotten_parent", {}),
    ("renamed_groups", {}),
    ("utc_execution_times", {}),
    ("lost_answer", {"request": "reqCompletedOrders"}),
)
_HALTS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("halt", {"symbol": "AAA", "kind": 1}),
    ("halt", {"symbol": "BBB", "kind": 2, "limit_s": 15}),
    ("halt", {}),
)
_NEWS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("duplicate_headlines", {"times": 2}),
    ("backdated_headlines", {"age_s": 3600}),
    ("late_headlines", {"delay_s": 30}),
)
_INSTANT: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("tcp_reset", {}),
    ("truncated_frame", {}),
    ("malformed_frame", {}),
    ("1101", {}),
    ("1102", {}),
    ("error_flood", {"count": 200}),
    ("execution_correction", {"change_usd": -0.05}),
    ("execution_correction", {"change_usd": 0.03}),
)
_KINDS = (*((_LASTING, 35), (_ORDERS, 35), (_HALTS, 8), (_NEWS, 5), (_INSTANT, 17)),)
# In which nothing can be closed any more.
_TO_THE_END = ("half_open", "1100", "restart", "halt", "lost_answer", "stalled_reader")
_LAST_SHOCKS_S = (SESSION_S - 3000, SESSION_S - 1900)
_HELD_TO_THE_END: Mapping[str, dict[str, Any]] = {
    "exits": {
        "stop_kind": "ratio",
        "stop_loss_ratio": 0.05,
        "take_profit_ratio": 0.05,
        "time_stop_s": 7200,
    }
}
OUTAGES = frozenset(
    {
        *("half_open", "stalled_reader", "stalled_writer", "1100", "1101", "1102", "restart"),
        *("nightly_reset", "client_id_busy", "tcp_reset", "truncated_frame", "malformed_frame"),
        *("lost_answer", "slow_answers"),
    }
)


@dataclass(frozen=True)
class Day:
    """What a seed stands for.

    Attributes:
        seed: the seed.
        tape: market and headlines.
        start_ns: market time at which the session begins.
        scenario: what goes wrong, by name.
        rules: what the exchange takes, and how fast.
        rejected_ratio: of the orders that arrive so many are rejected.
        sections: parameters of the session that differ from the defaults.
        dies_ns: market times at which the program dies and is started again.
        ends_in_trouble: a fault lasts beyond the close.
    """

    seed: int
    tape: Tape
    start_ns: int
    scenario: Scenario
    rules: Rules
    rejected_ratio: float
    sections: Mapping[str, Mapping[str, Any]]
    dies_ns: tuple[int, ...]
    ends_in_trouble: bool


@dataclass
class _Plan:
    """The market of one symbol while it is made."""

    price_usd: float
    returns: Floats
    volume: Floats
    headlines: list[tuple[int, str]] = field(default_factory=list)


def make_day(seed: int) -> Day:
    """Return the day of a seed."""
    rng = random.Random(f"day {seed}")  # noqa: S311 - draws days, guards no secret
    start_s = -30 if rng.random() < 0.7 else rng.randrange(1800, 14_400)
    ends_in_trouble = rng.random() < 0.12
    entries = tuple(_faults(rng, max(start_s, 0)))
    if ends_in_trouble:
        entries = (*entries, _last_fault(rng))
    return Day(
        seed=seed,
        tape=_tape(rng, seed, ends_in_trouble=ends_in_trouble),
        start_ns=OPEN_NS + start_s * NS_PER_S,
        scenario=Scenario(entries, seed=seed),
        rules=_rules(rng),
        rejected_ratio=rng.choice((0.0, 0.0, 0.0, 0.1, 0.3)),
        sections={**_sections(rng), **(_HELD_TO_THE_END if ends_in_trouble else {})},
        dies_ns=_deaths(rng, max(start_s, 0)),
        ends_in_trouble=ends_in_trouble,
    )


def _sections(rng: random.Random) -> dict[str, dict[str, Any]]:
    stop = rng.choice((0.0008, 0.0015, 0.004))
    return {
        # A quote each five seconds is as old as that when the next one comes.
        "guards": {"quote_max_age_s": 12},
        "exits": {
            "stop_kind": "ratio",
            "stop_loss_ratio": stop,
            "take_profit_ratio": stop * rng.choice((1, 2, 4)),
            "time_stop_s": rng.choice((45, 120, 300, 900)),
        },
        "sizing": {"risk_ratio": 0.01, "max_position_ratio": rng.choice((0.02, 0.1, 0.3))},
    }


def _rules(rng: random.Random) -> Rules:
    return Rules(
        latency_s=rng.choice((0.0, 0.2, 1.0, 4.0)),
        is_cash_account=rng.random() < 0.08,
        hard_to_borrow=frozenset(SYMBOLS[:1]) if rng.random() < 0.1 else frozenset(),
        max_shares=rng.choice((None,) * 9 + (600,)),
        tells_preset_tif=rng.random() < 0.2,
    )


def _deaths(rng: random.Random, start_s: int) -> tuple[int, ...]:
    n_deaths = rng.choice((0,) * 8 + (1, 2))
    at_s = sorted(rng.uniform(start_s + 600, SESSION_S - 1200) for _ in range(n_deaths))
    return tuple(OPEN_NS + round(at * NS_PER_S) for at in at_s)


def _faults(rng: random.Random, start_s: int) -> list[Entry]:
    n_faults = rng.choice((0, 3, 6, 9, 12, 16))
    return [_fault(rng, start_s) for _ in range(n_faults)]


def _fault(rng: random.Random, start_s: int) -> Entry:
    (kinds,) = rng.choices([kinds for kinds, _ in _KINDS], [weight for _, weight in _KINDS])
    name, parameters = rng.choice(kinds)
    lasts_s = min(max(0.5, rng.expovariate(1 / 90)), 900)
    if rng.random() < 0.5:
        latest_s = SESSION_S - CALM_BEFORE_CLOSE_S - lasts_s
        return Entry(name, parameters, at=_at(rng.uniform(start_s + 30, latest_s)), for_s=lasts_s)
    # What waits for an event may begin at any time, so it has to be short.
    lasts_s = min(lasts_s, 300)
    event = rng.choice(("headline", "headline", "order", "fill"))
    # A shock, and perhaps an order, comes up to two minutes after its headline.
    latest_s = 120 if event == "headline" else 5
    return Entry(
        name,
        parameters,
        event=event,
        count=rng.randint(1, 12),
        delay_s=rng.choice((0.0, rng.uniform(0, latest_s))),
        for_s=lasts_s,
    )


def _last_fault(rng: random.Random) -> Entry:
    name = rng.choice(_TO_THE_END)
    at_s = SESSION_S - rng.uniform(200, 2 * CALM_BEFORE_CLOSE_S)
    return Entry(name, {}, at=_at(at_s), for_s=math.inf)


def _at(seconds: float) -> datetime:
    return OPEN + timedelta(seconds=round(seconds, 3))


# --- the market ---------------------------------------------------------------------------


def _tape(rng: random.Random, seed: int, *, ends_in_trouble: bool) -> Tape:
    numbers = np.random.default_rng(seed)
    plans = {name: _quiet(rng, numbers) for name in SYMBOLS}
    for _ in range(rng.randint(6, 20)):
        _happen(rng, plans)
    if ends_in_trouble:
        _happen_late(random.Random(f"late {seed}"), plans)  # noqa: S311 - as above
    told = sorted((at_s, text) for plan in plans.values() for at_s, text in plan.headlines)
    return Tape(
        name=f"day {seed}",
        start_ns=OPEN_NS - 60 * NS_PER_S,
        end_ns=CLOSE_NS,
        timezone="America/New_York",
        instruments={
            name: Instrument(name, 1000 + number, primary_exchange="NYSE")
            for number, name in enumerate(SYMBOLS)
        },
        spreads={
            name: SpreadModel(0.01, size_shares=rng.choice((100, 300, 500, 5000)))
            for name in SYMBOLS
        },
        providers={"BRFG": "Briefing.com General Market Columns"},
        bars=pd.concat(
            [_bars(name, plan, numbers) for name, plan in plans.items()], ignore_index=True
        )[list(BAR_COLUMNS)],
        headlines=tuple(
            TapeHeadline(OPEN_NS + at_s * NS_PER_S, "BRFG", f"BRFG${number:08x}", text)
            for number, (at_s, text) in enumerate(told)
        ),
    )


def _quiet(rng: random.Random, numbers: np.random.Generator) -> _Plan:
    n_bars = (SESSION_S + _BASELINE_S) // BAR_S
    noise = rng.choice((3e-5, 6e-5, 1.2e-4))
    return _Plan(
        price_usd=rng.choice((25.0, 60.0, 100.0, 240.0)),
        returns=numbers.normal(0, noise, n_bars),
        volume=numbers.integers(400, 1600, n_bars).astype("float64"),
    )


def _happen(rng: random.Random, plans: Mapping[str, _Plan]) -> None:
    """Let something be said, or happen, or both."""
    symbol = rng.choice(SYMBOLS)
    plan, at_s = plans[symbol], rng.randrange(300, SESSION_S - 600)
    kind = rng.choices(("shock", "no shock", "unsaid", "nobody", "other"), (60, 14, 10, 8, 8))[0]
    subject = {"nobody": "The market", "other": "Other (ZZZ)"}.get(kind, f"Company ({symbol})")
    if kind != "unsaid":
        plan.headlines.append((at_s, f"{subject} says something at {at_s}"))
    if kind not in ("shock", "unsaid"):
        return
    first = (at_s + _BASELINE_S) // BAR_S + rng.randint(1, 20)
    sign, size = rng.choice((-1, 1)), rng.choice((0.003, 0.006, 0.012))
    plan.returns[first : first + 3] += sign * size / 3
    plan.volume[first : first + 12] *= rng.choice((8, 12, 20))
    # It goes on, or comes back.
    after = plan.returns[first + 6 : first + 60]
    after += rng.choice((-1.5, -0.7, 0.0, 0.8)) * sign * size / max(1, len(after))


def _happen_late(rng: random.Random, plans: Mapping[str, _Plan]) -> None:
    """Shock both shortly before entries end, so that something is held at the end of the day."""
    for symbol, plan in plans.items():
        at_s = rng.randrange(*_LAST_SHOCKS_S)
        plan.headlines.append((at_s, f"Company ({symbol}) says something late at {at_s}"))
        first = (at_s + _BASELINE_S) // BAR_S + 2
        plan.returns[first : first + 3] += rng.choice((-1, 1)) * 0.004
        plan.volume[first : first + 12] *= 20


def _bars(name: str, plan: _Plan, numbers: np.random.Generator) -> pd.DataFrame:
    close = np.round(plan.price_usd * np.exp(np.cumsum(plan.returns)), 2)
    opened = np.concatenate(([close[0]], close[:-1]))
    reach = numbers.choice((0.0, 0.01), (2, len(close)), p=(0.7, 0.3))
    n_before = _BASELINE_S // BAR_S
    first_ns = np.where(
        np.arange(len(close)) < n_before,
        CLOSE_NS - DAY_NS - _BASELINE_S * NS_PER_S,
        OPEN_NS - _BASELINE_S * NS_PER_S,
    )
    return pd.DataFrame(
        {
            "symbol": name,
            "at_ns": first_ns + np.arange(len(close)) * BAR_S * NS_PER_S,
            "seconds": BAR_S,
            "open": opened,
            "high": np.round(np.maximum(opened, close) + reach[0], 2),
            "low": np.round(np.minimum(opened, close) - reach[1], 2),
            "close": close,
            "volume": plan.volume.astype("int64"),
        }
    )
