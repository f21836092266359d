"""Faults at their time: from a scenario, from another program, and never twice."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import anyio
import pytest
from ib_insync import MarketOrder

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError
from momentum_lab.gateway.control import ask
from momentum_lab.gateway.faults.base import Fault, Told
from momentum_lab.gateway.faults.catalog import CATALOG
from momentum_lab.gateway.faults.scenario import Entry, Scenario, load_scenario
from momentum_lab.gateway.hub import Hub
from momentum_lab.gateway.server import Gateway
from momentum_lab.gateway.session import Session
from tests.conftest import StartGateway
from tests.fault_desk import TAPE, desk
from tests.gateway_client import (
    LIMIT_S,
    RawClient,
    connected,
    errors_of,
    play,
    raw_client,
    settle,
    spy,
    standing_gateway,
)
from tests.gateway_factories import NOON

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


# --------------------------------------------------------------- scenarios


def _scenario(folder: Path, text: str) -> Scenario:
    path = folder / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return load_scenario(path)


async def test_a_scenario_happens_at_its_time_and_after_its_event(tmp_path: Path) -> None:
    scenario = _scenario(
        tmp_path,
        """
        faults:
          - fault: "1100"
            at: 2013-10-09T12:00:10
            for_s: 5
          - fault: execution_correction
            after: {event: fill, count: 2}
            delay_s: 3
          - fault: "2107"
            at: 2013-10-09T16:00:20+00:00
            every_s: 10
        """,
    )
    async with desk(tmp_path, scenario=scenario) as (gateway, ib):
        ib.placeOrder(spy(), MarketOrder("BUY", 10))
        ib.placeOrder(spy(), MarketOrder("SELL", 10))
        await play(gateway, 43, ib)
        told = [
            ((record["at_ns"] - NOON) / NS_PER_S, record["what"], record["fault"])
            for record in gateway.journal.records
            if "fault" in record
        ]
    assert told == [
        (5.0, "fault begins", "execution_correction"),
        (10.0, "fault begins", "1100"),
        (15.0, "fault ends", "1100"),
        (20.0, "fault begins", "2107"),
        (30.0, "fault begins", "2107"),
        (40.0, "fault begins", "2107"),
    ]


async def _begun(folder: Path, text: str, *, start_s: int = 0, **settings: Any) -> list[float]:
    """Play two minutes of the tape and return at which of its seconds faults began."""
    scenario, start_ns = _scenario(folder, text), NOON + start_s * NS_PER_S
    async with standing_gateway(
        TAPE, folder, scenario=scenario, start_ns=start_ns, **settings
    ) as gateway:
        await play(gateway, 120)
        begun = gateway.journal.of("fault begins")
    return [(record["at_ns"] - NOON) / NS_PER_S for record in begun]


async def test_what_has_passed_does_not_happen_again_after_a_restart(tmp_path: Path) -> None:
    text = """
    faults:
      - {fault: "2107", at: 2013-10-09T12:00:05}
      - {fault: "2108", at: 2013-10-09T12:02:05}
      - {fault: "2106", at: 2013-10-09T12:00:10, every_s: 70}
    """
    state = tmp_path / "state.json"
    assert await _begun(tmp_path, text, state=state) == [5, 10, 80]
    assert await _begun(tmp_path, text, state=state) == [125, 150, 220]
    assert await _begun(tmp_path, text, start_s=100) == [125, 150, 220]


async def test_fractions_of_a_second_and_repetitions_after_an_event_are_kept(
    tmp_path: Path,
) -> None:
    text = """
    faults:
      - {fault: "2107", at: 2013-10-09T12:00:05.400}
      - {fault: "2107", at: 2013-10-09T12:00:05.600}
      - {fault: "2108", after: {event: headline, count: 2}, delay_s: 2, every_s: 50}
    """
    assert await _begun(tmp_path, text) == [5.4, 5.6, 10, 60, 110]


async def test_what_a_fault_does_in_its_course_has_its_time_in_a_long_step_too(
    tmp_path: Path,
) -> None:
    entries = (
        Entry("halt", {"symbol": "SPY", "limit_s": 15.0}, delay_s=4.5, for_s=60),
        Entry("1100", {"repeat_s": 5.0}, delay_s=10.25, for_s=42),
        Entry("restart", {"vanish_s": 1.5}, delay_s=70, for_s=10),
    )
    async with desk(tmp_path, scenario=Scenario(entries)) as (gateway, ib):
        codes = errors_of(ib)
        gateway.hub.step_to(NOON + 69 * NS_PER_S)
        await settle(ib)
        assert [code for _, code in codes] == [1100] * 9 + [1102]
        halts = [(row["at_ns"] - NOON, row["kind"]) for row in gateway.journal.of("halt")]
        expected = [(4.5, 3), (19.5, 2), (64.5, 0)]
        assert halts == [(round(s * NS_PER_S), kind) for s, kind in expected]
        # It was down before it was up again.
        gateway.hub.step_to(NOON + 90 * NS_PER_S)
        with anyio.fail_after(LIMIT_S):
            await ib.disconnectedEvent


async def test_a_seed_draws_the_same_times_every_time(tmp_path: Path) -> None:
    async def times(folder: Path, seed: int) -> list[int]:
        entries = (Entry("2107", rate_per_hour=120.0), Entry("2108", rate_per_hour=60.0))
        async with standing_gateway(TAPE, folder, scenario=Scenario(entries, seed)) as gateway:
            gateway.hub.step_to(NOON + 1800 * NS_PER_S)
            return [record["at_ns"] for record in gateway.journal.of("fault begins")]

    first = await times(tmp_path / "a", 7)
    assert first == await times(tmp_path / "b", 7)
    assert first != await times(tmp_path / "c", 8)
    # 90 are expected in half an hour; five standard deviations to either side.
    assert 42 <= len(first) <= 138


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("faults: [{fault: tcp_rest}]", "entry 1: no fault 'tcp_rest'; did you mean 'tcp_reset'"),
        ("faults: [{fault: '1100', at_: 1}]", "no key 'at_'; did you mean 'at'"),
        ("faults: [{fault: '1100', with: {repeat: 1}}]", "did you mean 'repeat_s'"),
        ("faults: [{fault: '1100', with: {repeat_s: -1}}]", "expected 0.1 to 86400 s, found -1"),
        ("faults: [{fault: '1100', at: noon}]", "expected a date and time"),
        ("faults: [{fault: '1100', after: {event: fil}}]", "did you mean 'fill'"),
        ("faults: [{fault: '1100', for_s: 0}]", "expected for_s > 0"),
        ("faults: [{fault: '1100', at: 2013-10-09, rate_per_hour: 1}]", "expected one of at"),
        ("faults: [{fault: '1100', after: {event: fill, nth: 3}}]", "after: no key 'nth'"),
        ("faults: [{fault: '1100', after: {count: 3}}]", "expected an event, found {'count': 3}"),
        ("faults: [{fault: '1100', after: {}}]", "after: expected an event"),
        ("faults: [{fault: '1100', after: {event: request}}]", "no event 'request'"),
        ("faults: [{fault: '1100', after: {event: 'fill:x'}}]", "no event 'fill:x'"),
        (
            "faults: [{fault: '1100', after: {event: 'request:reqPositons'}}]",
            "fault 1100: no request 'reqPositons' to wait for; did you mean 'reqPositions'",
        ),
        (
            "faults: [{fault: '1100', after: {event: fill, count: 2.9}}]",
            "after.count: expected a whole number, found 2.9",
        ),
        (
            "faults: [{fault: '1100', rate_per_hour: 1, delay_s: 5, every_s: 6}]",
            "expected neither delay_s nor every_s .* found delay_s 5 and every_s 6",
        ),
        ("faults: [{fault: '1100', rate_per_hour: 0}]", "expected more than 0, found 0"),
        (
            "faults: [{fault: lost_answer, with: {request: reqPositons}}]",
            "lost_answer.request: no request 'reqPositons'; did you mean 'reqPositions'",
        ),
        ("fault: []", "no key 'fault'; did you mean 'faults'"),
        ("- 1", "expected a mapping"),
        ("faults: [", "not readable"),
    ],
)
def test_a_bad_scenario_is_refused_with_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ParameterError, match=words.replace("(", r"\(").replace("[", r"\[")):
        _scenario(tmp_path, text)


async def test_a_scenario_sends_a_bulletin_at_its_time(tmp_path: Path) -> None:
    text = """
faults:
  - fault: bulletin
    at: 2013-10-09T12:00:04
    with: {bulletin_type: 3, text: NYSE is back, exchange: NYSE}
"""
    async with desk(tmp_path, scenario=_scenario(tmp_path, text)) as (gateway, ib):
        ib.reqNewsBulletins(allMessages=False)
        await play(gateway, 1, ib)
        assert ib.newsBulletins() == []
        await play(gateway, 1, ib)
        assert ib.newsBulletins() == [(1, 3, "NYSE is back", "NYSE")]
        told = [record for record in gateway.journal.records if record["what"] == "bulletin"]
        assert [record["text"] for record in told] == ["NYSE is back"]


# ------------------------------------------------------- faults that fail


class _Broken(Fault):
    """Fails in one of the things that a fault does, once it has begun."""

    name: ClassVar[str] = "broken"
    fails_in: ClassVar[str] = ""

    def begin(self, hub: Hub) -> None:
        self._fail("begin")

    def on_time(self, hub: Hub) -> None:
        self._fail("on_time")

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        self._fail("outgoing")
        return [told]

    def end(self, hub: Hub) -> None:
        self._fail("end")

    def _fail(self, where: str) -> None:
        if where == self.fails_in:
            raise ZeroDivisionError(where)


@pytest.mark.parametrize("where", ["begin", "on_time", "outgoing", "end"])
async def test_a_fault_that_fails_is_over_and_the_gateway_goes_on(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast("dict[str, type[Fault]]", CATALOG), "broken", _Broken)
    monkeypatch.setattr(_Broken, "fails_in", where)
    async with desk(tmp_path) as (gateway, ib):
        gateway.hub.faults.plan(Entry("broken", delay_s=2, for_s=3))
        await play(gateway, 8, ib)
        assert gateway.hub.faults.active == []
        trade = ib.placeOrder(spy(), MarketOrder("BUY", 10))
        await settle(ib)
        assert trade.orderStatus.status == "Filled"
        told = [row["what"] for row in gateway.journal.records if row.get("fault") == "broken"]
        assert told == ["fault begins", "fault fails", "fault ends"]
        assert [row["error"] for row in gateway.journal.of("fault fails")] == [
            f"ZeroDivisionError('{where}')"
        ]


# ----------------------------------------------------------------- control


def _cli(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "momentum_lab.faces.cli", "gateway", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


def test_another_program_injects_faults_and_reads_the_journal(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.jsonl"
    gateway = start_gateway("--no-hold", "--speed", 1, "--fast", 1, "--journal", journal)
    with raw_client(gateway.port) as client:
        client.start()
        done = _cli("inject", "1100", "--set", "restored=1101", "--for", 30, "--port", gateway.port)
        assert (done.returncode, "fault: 1100" in done.stdout) == (0, True)
        assert client.read_until(4)[-1][3] == "1100"
        assert "faults: ['1100']" in _cli("status", "--port", gateway.port).stdout
        assert "ended: 1" in _cli("end", "1100", "--port", gateway.port).stdout
        assert _codes(client, 1101)
    records = [json.loads(row) for row in journal.read_text(encoding="utf-8").splitlines()]
    told = [(r["what"], r["fault"]) for r in records if "fault" in r]
    assert told == [("fault begins", "1100"), ("fault ends", "1100")]


async def _told(gateway: Gateway, *commands: dict[str, Any]) -> list[dict[str, Any]]:
    """Give commands through the control channel; the answer, or the error as one."""

    def tell(command: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(ask(gateway.port, command))
        except ParameterError as error:
            return {"error": str(error)}

    return [await anyio.to_thread.run_sync(tell, command) for command in commands]


@pytest.mark.parametrize("do", ["inject", "plan"])
async def test_another_program_plans_by_time_by_event_and_by_chance(
    do: str, tmp_path: Path
) -> None:
    when: tuple[dict[str, Any], ...] = (
        {"fault": "2107", "at": "2013-10-09T12:00:20"},
        {"fault": "2108", "after": {"event": "fill", "count": 2}, "delay_s": 3},
        *({"fault": code, "rate_per_hour": 240, "seed": 7} for code in ("2104", "2106")),
    )

    async def begun(folder: Path) -> list[tuple[str, float]]:
        async with desk(folder) as (gateway, ib):
            answers = await _told(gateway, *({"do": do, **row} for row in when))
            assert all(answer.get("is_planned") for answer in answers)
            assert gateway.hub.faults.active == []
            for side in ("BUY", "SELL"):
                ib.placeOrder(spy(), MarketOrder(side, 10))
            await play(gateway, 118, ib)
            return [
                (row["fault"], (row["at_ns"] - NOON) / NS_PER_S)
                for row in gateway.journal.of("fault begins")
            ]

    # A gateway that stands moves a hundredth as fast as the clock: what is told it between two
    # steps comes some milliseconds later on a busy machine.
    about = partial(pytest.approx, abs=0.05)
    first = await begun(tmp_path / "a")
    named = {name: at for name, at in first if name in ("2107", "2108")}
    assert named == about({"2108": 5.0, "2107": 20.0})
    drawn = {code: [at for name, at in first if name == code] for code in ("2104", "2106")}
    assert drawn["2104"]
    assert drawn["2106"]
    assert not set(drawn["2104"]) & set(drawn["2106"])
    second = await begun(tmp_path / "b")
    assert [name for name, _ in second] == [name for name, _ in first]
    assert [at for _, at in second] == about([at for _, at in first])


async def test_what_cannot_be_planned_or_ended_is_refused(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway:
        answers = await _told(
            gateway,
            {"do": "inject", "fault": "1100", "at": "2013-10-09T11:59:59"},
            {"do": "inject", "fault": "1100", "at": "2013-10-09T13:00", "after": {"event": "fill"}},
            {"do": "plan", "fault": "1100", "rate_per_hour": 1, "seed": "x"},
            {"do": "end", "fault": "1l00"},
            {"do": "end", "fault": "1100"},
        )
    words = (
        "fault 1100: expected at from 20131009 12:00:00 ",
        "expected one of at, after and rate_per_hour, found 2",
        "seed: expected a whole number, found 'x'",
        "no fault '1l00'; did you mean '1100'",
    )
    told = [answer.get("error", "") for answer in answers]
    assert [word for word, text in zip(words, told[:4], strict=True) if word not in text] == []
    assert answers[-1]["ended"] == 0


async def test_a_step_tells_what_the_clock_tells_on_its_way(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        bars = ib.reqRealTimeBars(spy(), 5, "TRADES", useRTH=False)
        await play(gateway, 0, ib)
        (status,) = await _told(gateway, {"do": "step", "seconds": 60})
        await play(gateway, 0, ib)
        assert status["now_ns"] == NOON + 60 * NS_PER_S
        assert [bar.time.second for bar in bars] == [*range(0, 60, 5)]


def test_the_command_line_plans_too(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    done = _cli(
        *("inject", "1100", "--after", "request:reqPositions", "--count", 2, "--delay", 1),
        *("--for", 30, "--port", gateway.port),
    )
    assert (done.returncode, "is_planned: True" in done.stdout) == (0, True)
    done = _cli("end", "misspelt", "--port", gateway.port)
    assert (done.returncode, "no fault 'misspelt'" in done.stderr) == (2, True)


def _codes(client: RawClient, code: int) -> bool:
    return any(message[3] == str(code) for message in client.read_until(4))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("inject", "tcp_rest"), "no fault 'tcp_rest'; did you mean 'tcp_reset'"),
        (("inject", "1100", "--set", "x"), "expected NAME=VALUE"),
        (("inject", "late_status", "--set", "delay_s=no"), "expected a number"),
    ],
)
def test_a_bad_command_is_refused_with_one_sentence(
    start_gateway: StartGateway, words: tuple[str, ...], sentence: str
) -> None:
    gateway = start_gateway()
    done = _cli(*words, "--port", gateway.port)
    assert (done.returncode, done.stdout) == (2, "")
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_command_to_nobody_says_so() -> None:
    done = _cli("status", "--port", 1)
    assert done.returncode == 2
    assert "no paper gateway answers" in done.stderr


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "localhost.example", "127.example", "::1234"],  # noqa: S104 - they are refused
)
def test_an_address_that_others_can_reach_must_be_wanted(tmp_path: Path, host: str) -> None:
    done = _cli("--tape", tmp_path, "--host", host)
    assert done.returncode == 2
    assert "--allow-remote" in done.stderr
