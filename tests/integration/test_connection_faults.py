"""Every fault of the paper gateway that concerns a connection, and what the connector did about it.

Real sockets, the unmodified client library, virtual time. A tempter asks for entries and exits all
the while; whether one arrived that should not have is read from the gateway's own wire log.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from momentum_lab.core.connection import ConnectionState
from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.core.order import OrderIntent, OrderPurpose
from momentum_lab.errors import BrokerError, ConnectionLostError
from momentum_lab.gateway.faults.catalog import CATALOG
from momentum_lab.gateway.faults.orders import FAULTS as ORDER_FAULTS
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.live.ibkr.candles import CandleOutcome
from momentum_lab.live.ibkr.line import LineStatus
from momentum_lab.parameters import Parameters
from tests.connection_kit import Patient, make_tape, patient, patient_parameters
from tests.gateway_factories import SPY

NOON_NS = 1_381_334_400 * NS_PER_S
HALF_DAY_NS = 12 * 3600 * NS_PER_S
_LASTS_S = 60.0
_S = ConnectionState
RECOVERS_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wednesday 2013-10-09 and the day after."""
    return make_tape(tmp_path_factory.mktemp("days") / "tape", NOON_NS - HALF_DAY_NS, 2)


@dataclass(frozen=True)
class Case:
    """A fault, and what has to be seen of it.

    `leaves_within_s` is the time from its beginning until the connection is no longer
    OPERATIONAL, None where it has to stay; `via` are states that must be passed on the way back.
    """

    name: str
    leaves_within_s: float | None = None
    via: tuple[ConnectionState, ...] = ()
    incidents: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    lasts_s: float = _LASTS_S

    @property
    def is_instant(self) -> bool:
        return CATALOG[self.name].is_instant

    def __str__(self) -> str:
        told = "".join(f"-{value}" for value in self.parameters.values())
        return f"{self.name}{told}"


_ANEW = (_S.DISCONNECTED, _S.CONNECTING, _S.SYNCHRONIZING)
# Detected by the time request: at most 20 s until it is sent, and 10 s for its answer.
_PROBED_S = 31.0
CASES = (
    Case("tcp_reset", 0.1, _ANEW),
    Case("truncated_frame", 0.1, _ANEW),
    Case("half_open", _PROBED_S, _ANEW),
    Case("stalled_reader", _PROBED_S, _ANEW),
    Case("stalled_writer", _PROBED_S, _ANEW),
    Case("slow_answers", None, parameters={"delay_s": 1.0}),
    Case("slow_answers", _PROBED_S, _ANEW, parameters={"delay_s": 30.0}),
    Case("lost_answer", _PROBED_S, _ANEW, parameters={"request": "reqCurrentTime"}),
    Case("lost_answer", None, parameters={"request": "reqPositions"}),
    Case("malformed_frame", 0.1, (_S.SYNCHRONIZING,), ("message not understood",)),
    Case("1100", 0.1, (_S.DEGRADED, _S.SYNCHRONIZING)),
    Case("1100", 0.1, (_S.DEGRADED, _S.SYNCHRONIZING), parameters={"restored": 1101}),
    Case("1101", 0.1, (_S.SYNCHRONIZING,)),
    Case("1102", 0.1, (_S.SYNCHRONIZING,)),
    Case("2103", None, incidents=("line silent",)),
    Case("2104"),
    Case("2105"),
    Case("2106"),
    Case("2107"),
    Case("2108"),
    Case("nightly_reset", 0.1, (_S.DEGRADED, _S.SYNCHRONIZING), ("connection down",), lasts_s=300),
    Case("nightly_reset", 0.1, (_S.DEGRADED, *_ANEW), parameters={"cuts_sockets": 1}),
    Case("restart", 1.1, _ANEW),
    Case("client_id_busy", None),
    Case("error_flood", None, incidents=("account updates taken over",)),
    Case("error_flood", None, incidents=("unknown code",), parameters={"code": 88_888}),
    Case("frozen_quotes", None, incidents=("line silent",)),
    Case("competing_session", None, incidents=("line silent",)),
    Case("delayed_data", None, incidents=("line delayed",)),
)
# Not of the connection: they change what a connected client is told about orders and news. Clock
# skew is a test of its own below.
ELSEWHERE = {fault.name for fault in ORDER_FAULTS} | {
    *("halt", "bulletin", "headline_storm", "duplicate_headlines", "backdated_headlines"),
    *("late_headlines", "clock_skew"),
}


def live_through(
    tape: Path, scenario: Callable[[Patient], Awaitable[None]], *, tempt_every_s: float = 2.0
) -> Patient:
    """Run a scenario in virtual time while the tempter asks for orders; return what was seen."""

    async def main() -> Patient:
        async with patient(tape, start_ns=NOON_NS) as found, anyio.create_task_group() as group:
            group.start_soon(partial(found.tempt, every_s=tempt_every_s))
            await anyio.sleep(20)
            await scenario(found)
            group.cancel_scope.cancel()
        return found

    return run_virtual(main)


def check_gate(found: Patient) -> None:
    """Nothing reached the gateway that should not have, and the tempter did try."""
    assert found.witness.violations == []
    # A witness that hears one side only sees nothing wrong.
    assert found.witness.n_said > found.witness.n_requests > 0
    assert found.witness.n_entries > 20
    assert found.witness.n_exits > 20


def test_every_fault_of_a_connection_has_a_case() -> None:
    assert {case.name for case in CASES} | ELSEWHERE == set(CATALOG)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_is_noticed_and_survived(case: Case, tape: Path) -> None:
    began_s = ended_s = math.nan

    async def scenario(found: Patient) -> None:
        nonlocal began_s, ended_s
        began_s = anyio.current_time()
        lasts_s = 0.0 if case.is_instant else case.lasts_s
        found.gateway.inject(case.name, case.parameters, for_s=max(lasts_s, 0.001))
        await anyio.sleep(lasts_s)
        ended_s = anyio.current_time()
        await anyio.sleep(1.5)
        await found.until(found.connector.is_operational, patience_s=RECOVERS_WITHIN_S)
        await found.until(lambda: _flow(found), patience_s=RECOVERS_WITHIN_S)
        await anyio.sleep(60)

    found = live_through(tape, scenario)

    check_gate(found)
    passed = found.states_after(began_s)
    if case.leaves_within_s is None:
        assert passed == []
    else:
        left_s = next(step.at_s for step in found.steps if step.at_s >= began_s) - began_s
        assert left_s <= case.leaves_within_s
    assert [state for state in case.via if state not in passed] == []
    assert found.state is _S.OPERATIONAL
    assert set(case.incidents) <= set(found.kinds())
    back_s = found.first(_S.OPERATIONAL, after_s=ended_s)
    assert back_s is None or back_s <= RECOVERS_WITHIN_S


def _flow(found: Patient) -> bool:
    lines = list(found.connector.lines)
    return len(lines) == 2 and all(
        line.status is LineStatus.FLOWING
        and line.quote is not None
        and line.quote.why_not_tradable(now_ns=found.clock.now_ns(), max_age_s=15) is None
        for line in lines
    )


def test_a_lost_socket_whose_id_is_still_taken_waits_for_its_own_id(tape: Path) -> None:
    ended_s = math.nan

    async def scenario(found: Patient) -> None:
        nonlocal ended_s
        found.gateway.inject("client_id_busy", for_s=90)
        found.gateway.inject("tcp_reset")
        await anyio.sleep(90)
        ended_s = anyio.current_time()
        await found.until(found.connector.is_operational, patience_s=RECOVERS_WITHIN_S)
        await anyio.sleep(60)

    found = live_through(tape, scenario)

    check_gate(found)
    assert any("326" in step.cause for step in found.steps)
    assert len(found.witness.connects_ns) <= 12


@pytest.mark.parametrize("skew_s", [-20, 20])
def test_a_clock_that_begins_to_differ_stops_entries_until_it_is_right(
    skew_s: int, tape: Path
) -> None:
    async def scenario(found: Patient) -> None:
        found.gateway.inject("clock_skew", {"skew_s": skew_s}, for_s=60)
        await anyio.sleep(30)
        assert not found.connector.is_operational()
        assert found.connector.may_exit()
        await anyio.sleep(60)
        assert found.connector.is_operational()

    found = live_through(tape, scenario)

    check_gate(found)
    assert "clock differs" in found.kinds()


@pytest.mark.parametrize("skew_s", [-20, 20])
def test_a_clock_that_differs_keeps_the_connection_out(skew_s: int, tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        found.gateway.inject("clock_skew", {"skew_s": skew_s}, for_s=60)
        found.gateway.inject("tcp_reset")
        await anyio.sleep(59)
        assert not found.connector.is_operational()
        await found.until(found.connector.is_operational, patience_s=RECOVERS_WITHIN_S)
        await anyio.sleep(60)

    found = live_through(tape, scenario)

    check_gate(found)
    assert any("clock differs by" in step.cause for step in found.steps)


def test_a_port_that_moved_is_followed_with_an_alarm(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        port = found.gateway.port
        (session,) = found.gateway.hub.sessions.values()
        session.error(
            -1,
            1300,
            "TWS socket port has been reset and this connection is being dropped."
            f" Please reconnect on the new port - {port}",
        )
        await anyio.sleep(10)
        assert found.connector.is_operational()
        await anyio.sleep(30)

    found = live_through(tape, scenario)

    check_gate(found)
    assert "port changed" in found.kinds()


def test_a_broker_that_never_says_it_is_back_is_asked_again(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        (session,) = found.gateway.hub.sessions.values()
        session.error(
            -1, 2110, "Connectivity between TWS and server is broken. It will be restored"
        )
        await anyio.sleep(10)
        assert found.state is _S.DEGRADED
        await found.until(found.connector.is_operational, patience_s=200)
        await anyio.sleep(60)

    found = live_through(tape, scenario)

    check_gate(found)
    assert _S.DISCONNECTED in found.states_after(20)


def test_a_loss_while_synchronising_begins_anew(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        began_s = anyio.current_time()
        found.gateway.inject("slow_answers", {"delay_s": 1}, for_s=20)
        found.gateway.inject("1102")
        await anyio.sleep(3)
        assert found.states_after(began_s)[-1] is _S.SYNCHRONIZING
        found.gateway.inject("1100", for_s=15)
        await anyio.sleep(3)
        assert found.states_after(began_s)[-1] is _S.DEGRADED
        await found.until(found.connector.is_operational, patience_s=60)
        assert _S.OPERATIONAL not in found.states_after(began_s)[:-1]
        await anyio.sleep(60)

    check_gate(live_through(tape, scenario))


def test_an_absent_broker_is_told_in_its_own_words(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        found.gateway.inject("1100", for_s=120)
        await anyio.sleep(200)

    found = live_through(tape, scenario)

    (text,) = [text for _, kind, text in found.incidents if kind == "connection down"]
    assert "DEGRADED for 90 s: 1100 " in text


def test_a_snapshot_that_an_absence_has_overtaken_lets_no_exit_leave(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        # Each answer takes a second; the broker goes and comes back in the middle of asking.
        found.gateway.inject("slow_answers", {"delay_s": 1}, for_s=60)
        n_before = found.n_reconciled
        found.gateway.inject("1102")
        await anyio.sleep(4)
        found.gateway.inject("1100", for_s=1)
        await anyio.sleep(0.2)
        assert not found.connector.may_exit()
        await found.until(found.connector.may_exit, patience_s=60)
        # The first was overtaken; what may be acted on is the second.
        assert found.n_reconciled == n_before + 2
        await anyio.sleep(90)

    check_gate(live_through(tape, scenario))


def test_an_outage_outside_of_the_quiet_windows_is_told_once(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        found.gateway.inject("restart", for_s=1800)
        await anyio.sleep(1800)
        await found.until(found.connector.is_operational, patience_s=60)
        await anyio.sleep(60)

    found = live_through(tape, scenario)

    check_gate(found)
    assert [kind for kind in found.kinds() if kind.startswith("connection")] == [
        "connection down",
        "connection back",
    ]


FOUND_WATCHED_S, FOUND_IDLE_S = 15.0, 60.0
ENTRIES_STOP_S = 8.0
N_SEEDS = 100


@pytest.mark.parametrize("is_watched", [True, False], ids=["watched", "idle"])
def test_a_half_open_socket_is_found_in_time_in_each_of_a_hundred_runs(
    is_watched: bool, tape: Path
) -> None:
    stopped_s: list[float] = []
    found_s: list[float] = []

    async def one_run(found: Patient, seed: int) -> None:
        rng = random.Random(seed)  # noqa: S311 - draws instants, guards no secret
        await anyio.sleep(rng.uniform(0, 45))
        with ExitStack() as stack:
            if is_watched:
                stack.enter_context(found.connector.stream_quotes("SPY"))
                # Sometimes it has just been opened.
                await anyio.sleep(rng.choice((0.0, rng.uniform(0, 20))))
            began_s = anyio.current_time()
            found.gateway.inject("half_open")
            stopped_s.append(
                await found.until(lambda: not found.connector.is_operational(), patience_s=90)
            )
            await found.until(lambda: found.state is _S.DISCONNECTED, patience_s=90)
            found_s.append(anyio.current_time() - began_s)
            found.gateway.hub.faults.end("half_open")
        await found.until(found.connector.is_operational, patience_s=RECOVERS_WITHIN_S)

    async def scenario(found: Patient) -> None:
        for seed in range(N_SEEDS):
            await one_run(found, seed)

    found = live_through(tape, scenario, tempt_every_s=30)

    assert len(found_s) == N_SEEDS
    assert max(found_s) <= (FOUND_WATCHED_S if is_watched else FOUND_IDLE_S)
    if is_watched:
        assert max(stopped_s) <= ENTRIES_STOP_S
    check_gate(found)


@pytest.mark.parametrize("is_dead", [True, False])
def test_a_quiet_line_is_proven_alive_before_an_entry(is_dead: bool, tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        # Just after a time request was answered, so that the next one is far.
        (session,) = found.gateway.hub.sessions.values()
        await anyio.sleep(0.5)
        found.gateway.inject("frozen_quotes", for_s=300)
        if is_dead:
            found.gateway.inject("half_open")
        await anyio.sleep(4)
        began_s = anyio.current_time()
        assert await found.connector.prove_alive() is not is_dead
        assert anyio.current_time() - began_s < 3.5
        assert found.connector.is_operational() is not is_dead
        assert session.client_id == 17
        found.gateway.hub.faults.end("half_open")
        await anyio.sleep(90)

    found = live_through(tape, scenario)
    check_gate(found)


def test_an_order_never_waits_behind_its_gate(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        budget = found.connector._parameters.pacing.messages_per_s
        refused = 0
        for number in range(2 * budget):
            intent = OrderIntent(
                f"ml-x-d9{number:03d}",
                "SPY",
                SPY.con_id,
                Side.BUY,
                1,
                found.clock.now_ns(),
                purpose=OrderPurpose.ENTRY,
            )
            try:
                await found.connector.place_order(intent)
            except ConnectionLostError as error:
                refused += 1
                assert "messages a second" in str(error)
        assert 0 < refused < 2 * budget
        assert found.connector._line.limiter.n_waiting == 0
        # What is left of the budget belongs to exits and cancels.
        exit_ = OrderIntent(
            "ml-x-t9999",
            "SPY",
            SPY.con_id,
            Side.SELL,
            1,
            found.clock.now_ns(),
            trade_id=1,
            purpose=OrderPurpose.EXIT,
        )
        await found.connector.place_order(exit_)
        await anyio.sleep(60)

    check_gate(live_through(tape, scenario))


def test_executions_and_positions_are_asked_for_and_not_remembered(tape: Path) -> None:
    async def scenario(found: Patient) -> None:
        # Between two orders of the tempter.
        await anyio.sleep(1)
        fills = await found.connector.executions_since(0)
        held = await found.connector.positions()
        assert fills
        assert [fill.at_ns for fill in fills] == sorted(fill.at_ns for fill in fills)
        assert sum(fill.side.sign * fill.shares for fill in fills) == held.get(SPY.con_id, 0)
        later = await found.connector.executions_since(fills[-1].at_ns + 1)
        assert later == ()
        found.gateway.inject("lost_answer", {"request": "reqPositions"}, for_s=60)
        with pytest.raises(ConnectionLostError, match="positions: no answer"):
            await found.connector.positions()
        await anyio.sleep(60)

    check_gate(live_through(tape, scenario))


def test_steps_are_an_asynchronous_stream(tape: Path) -> None:
    heard: list[ConnectionState] = []

    async def scenario(found: Patient) -> None:
        with found.connector.transitions() as stream:
            found.gateway.inject("1100", for_s=30)
            with anyio.move_on_after(90):
                async for step in stream:
                    heard.append(step.state)  # noqa: PERF401 - it is cut off
        found.gateway.inject("1100", for_s=30)
        await anyio.sleep(60)

    check_gate(live_through(tape, scenario))
    assert heard == [_S.DEGRADED, _S.SYNCHRONIZING, _S.OPERATIONAL]


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (None, CandleOutcome.BARS),
        ("2105", CandleOutcome.UNKNOWN),
        ("tcp_reset", CandleOutcome.UNKNOWN),
    ],
)
def test_candles_are_bars_or_not_known(
    fault: str | None, outcome: CandleOutcome, tape: Path
) -> None:
    async def scenario(found: Patient) -> None:
        if fault is not None:
            found.gateway.inject(fault, for_s=30)
            await anyio.sleep(0.2)
        candles = await found.connector.fetch_candles("SPY", duration="1800 S")
        assert candles.outcome is outcome
        assert bool(candles.bars) is (outcome is CandleOutcome.BARS)
        assert bool(candles.words) is (outcome is not CandleOutcome.BARS)
        await anyio.sleep(60)

    check_gate(live_through(tape, scenario))


def test_more_symbols_than_lines_take_turns(tape: Path) -> None:
    def narrow(port: int) -> Parameters:
        # Two lines in all: one for the news tape, one for a symbol.
        return patient_parameters(port, pacing={"market_data_lines": 100, "spare_lines": 98})

    async def main() -> Patient:
        async with patient(tape, start_ns=NOON_NS, parameters=narrow) as found:
            lines = {line.symbol: line for line in found.connector.lines}

            def status(symbol: str) -> LineStatus:
                return lines[symbol].status

            assert [name for name, line in lines.items() if line.request] == ["SPY"]
            await found.connector.open_line("IBM")
            await anyio.sleep(15)
            assert status("IBM") is LineStatus.FLOWING
            assert status("SPY") is LineStatus.PARKED
            listening = found.connector.stream_quotes("IBM")
            with listening, pytest.raises(BrokerError, match="no market data line is free"):
                await found.connector.open_line("SPY")
            await found.connector.open_line("SPY")
            assert status("IBM") is LineStatus.PARKED
            found.gateway.inject("tcp_reset")
            await anyio.sleep(5)
            # The last one that was wanted has its line again.
            assert lines["SPY"].request is not None
        return found

    run_virtual(main)
