"""Price steps: which prices an order may have.

An instrument's tick is its smallest step anywhere. Below a dollar US stocks may be quoted in
hundredths of a cent, from there on in cents: so a tick that fine is one of the low prices alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from momentum_lab.core.market import Instrument

PENNY_USD, DOLLAR_USD = 0.01, 1.0
# The broker's number for steps of a cent at every price; the others are ours.
PENNY_RULE, _OTHER_RULES = 26, 1_000
_FINEST_OF_ALL_PRICES_USD = 0.001

Steps = tuple[tuple[float, float], ...]


def steps_of(instrument: Instrument) -> Steps:
    """Return (from which price, step) in US dollars, lowest price first."""
    tick_usd = instrument.tick_usd
    if tick_usd < _FINEST_OF_ALL_PRICES_USD:
        return (0.0, tick_usd), (DOLLAR_USD, PENNY_USD)
    return ((0.0, tick_usd),)


def rules_of(instruments: Iterable[Instrument]) -> Mapping[Steps, int]:
    """Return the number of the market rule of each kind of steps."""
    penny: Steps = ((0.0, PENNY_USD),)
    others = sorted({steps_of(item) for item in instruments} - {penny})
    return {penny: PENNY_RULE, **{steps: _OTHER_RULES + n for n, steps in enumerate(others)}}


def is_on_grid(instrument: Instrument, price_usd: float) -> bool:
    """Return whether a price is a whole number of its steps."""
    step_usd = max(step for low_usd, step in steps_of(instrument) if price_usd >= low_usd)
    return abs(round(price_usd / step_usd) * step_usd - price_usd) <= step_usd / 1000
