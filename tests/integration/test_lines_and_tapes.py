"""What the broker says about single lines and news tapes, and what a session makes of it.

Real sockets, the unmodified client library, virtual time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from momentum_lab.core.market import NS_PER_S, Quote
from momentum_lab.gateway.answers import ANSWERS
from momentum_lab.gateway.refusal import invalid
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.gateway.wire import Request
from momentum_lab.live.ibkr.line import LineStatus
from tests.connection_kit import Patient, make_tape, patient
from tests.gateway_factories import IBM, SPY

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


# --- headlines of single stocks --------------------------------------------------------------


def refuse_ticks(
    monkeypatch: pytest.MonkeyPatch, *, is_refused: Callable[[str], bool]
) -> list[tuple[int, str]]:
    """Let the gateway refuse lists of generic ticks of stocks; return what it is asked for."""
    answer, asked = ANSWERS["reqMktData"], list[tuple[int, str]]()

    def refuse(session: Session, request: Request) -> None:
        ticks = request["generic_ticks"]
        if request["contract"]["sec_type"] == "STK":
            asked.append((request["contract"]["con_id"], ticks))
            if is_refused(ticks):
                raise invalid(
                    f"Incorrect generic tick list of {ticks}.  Legal ones for (STK) are:"
                    " 100(Option Volume),233(RTVolume),293(TradeCount)"
                )
        answer(session, request)

    monkeypatch.setitem(ANSWERS, "reqMktData", refuse)
    return asked


def test_a_user_without_headlines_of_stocks_has_quotes(
    monkeypatch: pytest.MonkeyPatch, tape: Path
) -> None:
    asked = refuse_ticks(monkeypatch, is_refused=lambda ticks: "292" in ticks)

    async def scenario(found: Patient) -> None:
        def flow() -> bool:
            return all(line.status is LineStatus.FLOWING for line in found.connector.lines)

        assert flow()
        assert asked == [
            *((con_id, "233,292") for con_id in (IBM.con_id, SPY.con_id)),
            *((con_id, "233") for con_id in (IBM.con_id, SPY.con_id)),
        ]
        assert [kind for kind in found.kinds() if kind != "line silent"] == ["no stock headlines"]
        asked.clear()
        # It is not tried again in this session.
        found.gateway.inject("tcp_reset")
        await anyio.sleep(10)
        await found.until(flow, patience_s=60)
        assert [ticks for _, ticks in asked] == ["233", "233"]
        assert found.kinds().count("no stock headlines") == 1

    live_through(tape, scenario)


def test_a_line_that_is_refused_without_headlines_too_is_refused(
    monkeypatch: pytest.MonkeyPatch, tape: Path
) -> None:
    asked = refuse_ticks(monkeypatch, is_refused=lambda _ticks: True)

    async def scenario(found: Patient) -> None:
        await anyio.sleep(120)
        assert [line.status for line in found.connector.lines] == 2 * [LineStatus.REFUSED]
        assert [ticks for _, ticks in asked] == ["233,292", "233,292", "233", "233"]

    live_through(tape, scenario)
