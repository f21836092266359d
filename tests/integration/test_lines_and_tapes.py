"""What the broker says about single lines and news tapes, and what a session makes of it.

Real sockets, the unmodified client library, virtual time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
import pytest

from momentum_lab.core.market import NS_PER_S, Quote
from momentum_lab.gateway.answers import ANSWERS
from momentum_lab.gateway.refusal import invalid, no_definition
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.gateway.wire import Request
from momentum_lab.live.ibkr.line import LineStatus
from momentum_lab.parameters import Parameters
from momentum_lab.records.tape import write_tape
from tests.connection_kit import Patient, patient, patient_parameters, weeks_tape
from tests.gateway_factories import IBM, SPY

NOON_NS = 1_381_334_400 * NS_PER_S
HALF_DAY_NS = 12 * 3600 * NS_PER_S
_HALTED = 49


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wednesday 2013-10-09 and the day after, with headlines of two providers."""
    folder = tmp_path_factory.mktemp("days") / "tape"
    found = weeks_tape(NOON_NS - HALF_DAY_NS, 2)
    providers = {**found.providers, "DJNL": "Dow Jones Newsletters"}
    others = tuple(replace(item, provider="DJNL") for item in found.headlines)
    write_tape(replace(found, providers=providers, headlines=found.headlines + others), folder)
    return folder


def two_providers(port: int) -> Parameters:
    return patient_parameters(port, news={"providers": ["BRFG", "DJNL"]})


def live_through(
    tape: Path,
    scenario: Callable[[Patient], Awaitable[None]],
    *,
    parameters: Callable[[int], Parameters] = patient_parameters,
) -> Patient:
    """Run a scenario in virtual time; return what was seen."""

    async def main() -> Patient:
        async with patient(tape, start_ns=NOON_NS, parameters=parameters) as found:
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


# --- news tapes ------------------------------------------------------------------------------


@dataclass
class Unknown:
    """A provider that the gateway does not know for a while.

    Attributes:
        is_unknown: whether it is so now.
        n_asked: how often it was asked for.
    """

    is_unknown: bool = True
    n_asked: int = 0


@pytest.fixture
def unknown(monkeypatch: pytest.MonkeyPatch) -> Unknown:
    """The provider DJNL, which is not known at first."""
    answer, state = ANSWERS["reqContractDetails"], Unknown()

    def refuse(session: Session, request: Request) -> None:
        if request["contract"]["exchange"] == "DJNL":
            state.n_asked += 1
            if state.is_unknown:
                raise no_definition()
        answer(session, request)

    monkeypatch.setitem(ANSWERS, "reqContractDetails", refuse)
    return state


def session_of(found: Patient) -> Session:
    (session,) = found.gateway.hub.sessions.values()
    return session


def tapes_of(found: Patient) -> dict[str, int]:
    """Provider -> request of each broad tape that the gateway serves."""
    lines = session_of(found).subscriptions.news.items()
    return {name: request for request, line in lines if not line.symbol for name in line.providers}


def test_a_provider_that_is_known_later_is_subscribed_to(unknown: Unknown, tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        assert tapes_of(found).keys() == {"BRFG"}
        flowing = tapes_of(found)["BRFG"]
        began_s = anyio.current_time()
        await anyio.sleep(1800)
        # It is asked for now and then, and told once.
        assert 5 <= unknown.n_asked <= 15
        assert found.kinds() == ["news tape"]
        unknown.is_unknown = False
        await anyio.sleep(300)
        assert tapes_of(found).keys() == {"BRFG", "DJNL"}
        assert tapes_of(found)["BRFG"] == flowing
        assert found.states_after(began_s) == []
        n_asked = unknown.n_asked
        await anyio.sleep(1800)
        assert unknown.n_asked == n_asked

    live_through(tape, scenario, parameters=two_providers)


def test_a_provider_without_a_tape_is_asked_again_on_reconnect(
    unknown: Unknown, tape: Path
) -> None:
    async def scenario(found: Patient) -> None:
        unknown.is_unknown = False
        found.gateway.inject("tcp_reset")
        await anyio.sleep(5)
        assert found.connector.is_operational()
        assert tapes_of(found).keys() == {"BRFG", "DJNL"}
        assert unknown.n_asked == 2

    live_through(tape, scenario, parameters=two_providers)


def test_a_provider_that_does_not_answer_does_not_end_the_connection(
    unknown: Unknown, tape: Path
) -> None:
    async def scenario(found: Patient) -> None:
        began_s = anyio.current_time()
        found.gateway.inject("lost_answer", {"request": "reqContractDetails"}, for_s=400)
        await anyio.sleep(410)
        unknown.is_unknown = False
        await anyio.sleep(300)
        assert tapes_of(found).keys() == {"BRFG", "DJNL"}
        assert found.states_after(began_s) == []

    live_through(tape, scenario, parameters=two_providers)


def end_tape(found: Patient, provider: str, code: int = 0, text: str = "") -> int:
    """Let the gateway serve a tape no more, with or without a word; return its request."""
    request = tapes_of(found)[provider]
    session = session_of(found)
    session.subscriptions.news.pop(request)
    if code:
        session.error(request, code, text)
    return request


def test_a_tape_that_another_login_took_is_asked_for_a_minute_later(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        # It goes on for a while: each attempt is refused in the same words.
        for _ in range(5):
            end_tape(found, "BRFG", 10197, "No market data during competing live session")
            await anyio.sleep(50)
            assert tapes_of(found) == {}
            await anyio.sleep(20)
            assert tapes_of(found).keys() == {"BRFG"}
        assert found.kinds() == ["news tape"]
        # Nothing ails it any more.
        request = tapes_of(found)["BRFG"]
        await anyio.sleep(300)
        assert tapes_of(found)["BRFG"] == request

    live_through(tape, scenario)


@pytest.mark.parametrize("refusal", [(), (354, "Requested market data is not subscribed")])
def test_a_tape_is_asked_for_anew_after_its_farm_was_away(
    refusal: tuple[int, str] | tuple[()], tape: Path
) -> None:
    async def scenario(found: Patient) -> None:
        ended = end_tape(found, "BRFG", *refusal)
        await anyio.sleep(90)
        assert tapes_of(found) == {}
        session_of(found).error(-1, 2103, "Market data farm connection is broken:usfarm")
        await anyio.sleep(1)
        session_of(found).error(-1, 2104, "Market data farm connection is OK:usfarm")
        await anyio.sleep(11)
        assert tapes_of(found)["BRFG"] > ended

    live_through(tape, scenario)


def test_a_tape_that_speaks_after_its_farm_came_back_goes_on(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        request = tapes_of(found)["BRFG"]
        session = session_of(found)
        session.error(-1, 2104, "Market data farm connection is OK:usfarm")
        await anyio.sleep(1)
        found.gateway.inject("headline_storm", {"count": 1})
        await anyio.sleep(60)
        assert tapes_of(found)["BRFG"] == request

    live_through(tape, scenario)


def test_a_refused_tape_is_asked_for_whenever_everything_is(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        ended = end_tape(found, "BRFG", 354, "Requested market data is not subscribed")
        await anyio.sleep(1)
        # A doubt of our own: what flows goes on.
        found.gateway.inject("malformed_frame")
        await anyio.sleep(5)
        assert found.connector.is_operational()
        assert tapes_of(found)["BRFG"] > ended

    live_through(tape, scenario)


def test_a_tape_that_is_found_late_takes_the_place_of_an_idle_line(
    unknown: Unknown, tape: Path
) -> None:
    def narrow(port: int) -> Parameters:
        # Two lines in all: the first tape, and a symbol.
        pacing = {"market_data_lines": 100, "spare_lines": 98}
        news = {"providers": ["BRFG", "DJNL"]}
        return patient_parameters(port, pacing=pacing, news=news)

    async def scenario(found: Patient) -> None:
        unknown.is_unknown = False
        with found.connector.stream_quotes("SPY"):
            await anyio.sleep(300)
            # Whoever listens keeps the line.
            assert tapes_of(found).keys() == {"BRFG"}
        await anyio.sleep(10)
        assert tapes_of(found).keys() == {"BRFG", "DJNL"}
        assert found.connector.is_operational()

    live_through(tape, scenario, parameters=narrow)
