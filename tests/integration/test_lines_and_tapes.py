"""What the broker says about single lines and news tapes, and what a session makes of it.

Real sockets, the unmodified client library, virtual time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from momentum_lab.core.market import NS_PER_S, Quote
from momentum_lab.gateway.virtual import run_virtual
from tests.connection_kit import Patient, make_tape, patient

NOON_NS = 1_381_334_400 * NS_PER_S
HALF_DAY_NS = 12 * 3600 * NS_PER_S
_HALTED = 49


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wednesday 2013-10-09 and the day after."""
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - HALF_DAY_NS, 2)


def live_through(tape: Path, scenario: Callable[[Patient], Awaitable[None]]) -> Patient:
    """Run a scenario in virtual time; return what was seen."""

    async def main() -> Patient:
        async with patient(tape, start_ns=NOON_NS) as found:
            await scenario(found)
        return found

    return run_virtual(main)


def quote_of(found: Patient, symbol: str = "SPY") -> Quote:
    """The line as last heard."""
    line = next(line for line in found.connector.lines if line.symbol == symbol)
    assert line.quote is not None
    return line.quote


# --- halts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", [-1.0, 3.0])
def test_a_halt_of_which_the_broker_knows_nothing_more_goes_on(unknown: float, tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        (session,) = found.gateway.hub.sessions.values()
        (request,) = [line.request for line in found.connector.lines if line.symbol == "SPY"]

        async def told(value: float) -> Quote:
            # Before the next trade, which would be a sign that the halt is over.
            session.send("tickGeneric", req_id=request, tick_type=_HALTED, value=value)
            await anyio.sleep(0.01)
            return quote_of(found)

        assert not (await told(unknown)).halted
        assert (await told(1.0)).halted
        later = await told(unknown)
        assert later.halted
        assert later.resumed_ns is None
        over = await told(0.0)
        assert not over.halted
        assert over.resumed_ns is not None

    live_through(tape, scenario)
