"""A day whose prices rise, rest and fall, for the edges of the families.

SPY is told in bars of one second from 11:58:00 New York time on; the gateway stands at noon. The
price is 100.00 until noon, then with the seconds

    1..10  up a cent each, to 100.10      21..40  down a cent each, to 99.90
    11..20 100.10                          41..60  up again, to 100.10; then 100.10

so after n seconds of play the last price is `price_usd(n)`. Its quote is a cent on either side, a
market order pays one cent more.
"""

from __future__ import annotations

from dataclasses import replace

from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S
from momentum_lab.records.tape import Tape
from tests.gateway_factories import CLOSE, DAY_NS, NOON, second, second_tape, seconds

NOON_S = NOON // NS_PER_S
N_BEFORE, N_AFTER = 120, 1_000
VOLUME_SHARES = 4_000


def price_usd(n_seconds: int) -> float:
    """Return the last price of SPY after so many seconds of play from noon on, US dollars."""
    up, down = min(max(n_seconds, 0), 10), min(max(n_seconds - 20, 0), 20)
    return round(100 + (up - down + min(max(n_seconds - 40, 0), 20)) / 100, 2)


def falling_tape() -> Tape:
    """Return the tape."""
    prices = [price_usd(n) for n in range(1 - N_BEFORE, N_AFTER + 1)]
    rows = seconds(prices, start_ns=NOON - N_BEFORE * NS_PER_S, volume=VOLUME_SHARES)
    yesterday = [
        second(CLOSE - DAY_NS - 2 * NS_PER_S, 99.4, high=99.9, low=98.9, volume=1_000),
        second(CLOSE - DAY_NS - NS_PER_S, 99.5, volume=3_000),
    ]
    tape = second_tape([*yesterday, *rows])
    return replace(tape, spreads={**tape.spreads, "SPY": SpreadModel(0.02)})
