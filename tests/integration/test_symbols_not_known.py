"""A symbol that the broker says it does not know: believed the second time, half a minute later.

Around its restart a gateway says so of symbols that it knows well. Real sockets, virtual time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import pytest

from momentum_lab.core.connection import ConnectionState
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError
from momentum_lab.faces.rehearsal import rehearse
from momentum_lab.gateway.answers import ANSWERS
from momentum_lab.gateway.refusal import no_definition
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.gateway.wire import Request
from momentum_lab.live.ibkr.line import LineStatus
from momentum_lab.records.trade_store import TradeStore
from tests.connection_kit import Patient, make_tape, patient
from tests.session_kit import TAPE, demo_parameters

NOON_NS = 1_381_334_400 * NS_PER_S
HALF_DAY_NS = 12 * 3600 * NS_PER_S
RUN_ID = "symbols"


@dataclass
class Restarting:
    """A gateway that knows no stock at first.

    Attributes:
        known_from_s: time of the loop from which on it knows its stocks again.
        loses_broker: whether it loses its broker 25 s after the first look-up, for 10 s.
        asked: symbol and time of each look-up.
    """

    known_from_s: float = 0.0
    loses_broker: bool = False
    asked: list[tuple[str, float]] = field(default_factory=list)

    def times(self, symbol: str) -> list[float]:
        return [at_s for name, at_s in self.asked if name == symbol]


@pytest.fixture
def restarting(monkeypatch: pytest.MonkeyPatch) -> Restarting:
    """A gateway that says 200 for a while."""
    answer, state = ANSWERS["reqContractDetails"], Restarting()

    def refuse(session: Session, request: Request) -> None:
        if request["contract"]["sec_type"] == "STK":
            now_s = anyio.current_time()
            if state.loses_broker and not state.asked:
                loop = asyncio.get_running_loop()
                loop.call_later(25, session.error, -1, 1100, "Connectivity has been lost")
                loop.call_later(35, session.error, -1, 1102, "Connectivity has been restored")
            state.asked.append((request["contract"]["symbol"], now_s))
            if now_s < state.known_from_s:
                raise no_definition()
        answer(session, request)

    monkeypatch.setitem(ANSWERS, "reqContractDetails", refuse)
    return state


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wednesday 2013-10-09 and the day after."""
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - HALF_DAY_NS, 2)


def test_what_a_gateway_says_while_it_starts_is_asked_again(
    restarting: Restarting, tape: Path
) -> None:
    restarting.known_from_s = 20.0

    async def main() -> Patient:
        async with patient(tape, start_ns=NOON_NS) as found:
            await found.until(
                lambda: all(line.status is LineStatus.FLOWING for line in found.connector.lines),
                patience_s=20,
            )
        return found

    found = run_virtual(main)

    assert ConnectionState.DISCONNECTED not in found.states_after(0)
    first_s, second_s = restarting.times("SPY")
    assert 25 <= second_s - first_s <= 35
    assert [name for name, _ in restarting.asked] == 2 * ["SPY", "IBM"]


def test_a_loss_before_the_second_look_begins_anew(restarting: Restarting, tape: Path) -> None:
    restarting.known_from_s, restarting.loses_broker = 55.0, True

    async def main() -> Patient:
        async with patient(tape, start_ns=NOON_NS) as found:
            return found

    found = run_virtual(main)

    # What is asked after the absence counts as the first look again.
    assert ConnectionState.DEGRADED in found.states_after(0)
    assert ConnectionState.DISCONNECTED not in found.states_after(0)
    assert [round(at_s / 5) * 5 for at_s in restarting.times("SPY")] == [0, 35, 65]


def test_what_the_broker_does_not_know_ends_the_session(
    restarting: Restarting, tmp_path: Path
) -> None:
    parameters = replace(demo_parameters(1), universe=("SPY", "NOPE"))
    with pytest.raises(ParameterError, match="NOPE"):
        rehearse(parameters, GatewaySettings(tape=TAPE), root=tmp_path, run_id=RUN_ID)

    first_s, second_s = restarting.times("NOPE")
    assert 25 <= second_s - first_s <= 35
    # What is known is asked for once.
    assert len(restarting.times("SPY")) == 1
    store = TradeStore(tmp_path / parameters.records.database)
    try:
        states = {row["state"] for row in store.table("connection", RUN_ID)}
    finally:
        store.close()
    assert ConnectionState.SYNCHRONIZING.value in states
    assert ConnectionState.OPERATIONAL.value not in states
