"""A session is told from outside what to do: it obeys, answers, and remembers."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import anyio
import pytest
from click.testing import CliRunner, Result

from momentum_lab.faces.cli import main
from momentum_lab.live.session import LiveSession, SessionResult
from momentum_lab.parameters import Parameters
from momentum_lab.records.control import Control, control_path
from momentum_lab.records.ledger import Row
from momentum_lab.records.trade_store import TradeStore
from tests.conftest import StartGateway
from tests.session_kit import demo_parameters, gateway, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]


class Running:
    """A session in the background."""

    def __init__(self, parameters: Parameters, root: Path, run_id: str = "") -> None:
        self.session = LiveSession(parameters, root=root, run_id=run_id)
        self.result: SessionResult | None = None

    async def run(self) -> None:
        self.result = await self.session.run()

    def rows(self, table: str) -> list[Row]:
        if not self.session.database.exists():
            return []
        store = TradeStore(self.session.database)
        try:
            return store.table(table, self.session.run_id)
        finally:
            store.close()

    def is_operational(self) -> bool:
        return "OPERATIONAL" in [row["state"] for row in self.rows("connection")]

    async def tell(self, *words: str) -> Result:
        """Give a command as a person would, beside the session's loop."""
        call = partial(CliRunner().invoke, main, [*words, f"--database={self.session.database}"])
        return await anyio.to_thread.run_sync(call)


@asynccontextmanager
async def session(
    start: StartGateway, folder: Path, *, run_id: str = "", port: int = 0
) -> AsyncIterator[Running]:
    """A session that is OPERATIONAL, shortly before the shock of the day."""
    with gateway(start, folder, port=port) as found:
        running = Running(demo_parameters(found.port), folder, run_id)
        async with anyio.create_task_group() as group:
            group.start_soon(running.run)
            await until(running.is_operational)
            yield running
            running.session.stop()
            await until(lambda: running.result is not None, patience_s=60)


def by_hand(running: Running) -> list[tuple[str, str]]:
    return [(row["state"], row["cause"].split(" by ")[0]) for row in running.rows("risk_states")]


async def test_stop_ends_the_session_in_order(start_gateway: StartGateway, tmp_path: Path) -> None:
    async with session(start_gateway, tmp_path) as running:
        told = await running.tell("stop", "--reason", "enough", "--timeout", "30")

    assert told.exit_code == 0, told.output
    assert "stop: heard by" in told.output
    assert "the session has ended: stop by" in told.output
    assert running.result is not None
    assert running.result.end_reason.endswith(": enough")
    assert running.result.open_trades == ()


async def test_flatten_closes_what_is_open_and_the_session_goes_on_halted(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    async with session(start_gateway, tmp_path) as running:
        await until(lambda: bool(running.rows("trades")), patience_s=60)
        held = await running.tell("status")
        while "positions    none" in held.output:
            held = await running.tell("status")
        told = await running.tell("flatten", "--timeout", "20")
        status = await running.tell("status")
        again = await running.tell("flatten")
        (trade,) = running.rows("trades")
        is_running = running.result is None

    assert re.search(r"positions    SPY -\d+ \([+-]\d+\.\d\d USD if closed now\)", held.output)
    assert told.exit_code == 0, told.output
    assert "HALTED and flat" in told.output
    assert (trade["state"], trade["exit_reason"]) == ("CLOSED", "FLATTEN")
    assert is_running
    assert "0 positions are being closed" in again.output
    assert "HALTED and flat" in again.output
    assert "risk state   HALTED" in status.output
    assert "positions    none" in status.output
    assert status.exit_code == 0


async def test_a_halt_lets_no_headline_trade_until_resume(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    async with session(start_gateway, tmp_path) as running:
        halted = await running.tell("halt", "--reason", "news of war")
        await until(
            lambda: any(row["symbol"] == "SPY" for row in running.rows("decisions")), patience_s=60
        )
        (shock,) = [row for row in running.rows("decisions") if row["symbol"] == "SPY"]
        resumed = await running.tell("resume")

    assert "HALTED: no entries" in halted.output
    assert shock["outcome"] == "pass"
    assert running.rows("orders") == []
    assert "ACTIVE: entries are allowed again" in resumed.output
    assert by_hand(running) == [("HALTED", "by hand: halt"), ("ACTIVE", "by hand: resume")]


async def test_reduce_lasts_for_the_day_and_loosens_no_halt(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    async with session(start_gateway, tmp_path) as running:
        reduced = await running.tell("reduce", "--reason", "enough for today")
        status = await running.tell("status")
        await running.tell("halt")
        again = await running.tell("reduce")

    assert "REDUCING: no entries until tomorrow or resume" in reduced.output
    assert "risk state   REDUCING" in status.output
    assert "HALTED: no entries until resume" in again.output
    assert by_hand(running) == [("REDUCING", "by hand: reduce"), ("HALTED", "by hand: halt")]


async def test_a_halt_outlives_its_run_until_resume(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    async with session(start_gateway, tmp_path, run_id="first") as running:
        await running.tell("halt", "--reason", "news of war")
    control_path(running.session.database).unlink()
    async with session(start_gateway, tmp_path, run_id="second") as running:
        status = await running.tell("status")
    # Nobody hears it; the next session does, and remembers it without the control database.
    await running.tell("resume", "--timeout", "0")
    async with session(start_gateway, tmp_path, run_id="third"):
        pass
    control_path(running.session.database).unlink()
    async with session(start_gateway, tmp_path, run_id="fourth") as running:
        after = await running.tell("status")

    assert "risk state   HALTED" in status.output
    assert "risk state   ACTIVE" in after.output


async def test_a_halt_that_nobody_heard_holds_for_the_next_session(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    database = LiveSession(demo_parameters(4002), root=tmp_path).database
    database.parent.mkdir(parents=True)
    told = CliRunner().invoke(main, ["halt", f"--database={database}", "--timeout=0"])
    stopped = CliRunner().invoke(main, ["stop", f"--database={database}", "--timeout=0"])
    async with session(start_gateway, tmp_path) as running:
        status = await running.tell("status")

    assert (told.exit_code, stopped.exit_code) == (1, 1)
    assert "no session heard it within 0 s" in told.output
    assert "The next session of this store begins HALTED" in told.output
    # The stop was not meant for a session that began later.
    assert "session      runs" in status.output
    assert "risk state   HALTED" in status.output


def test_a_command_is_written_whoever_gives_it_and_however_it_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nobody)
    database = tmp_path / "trades.db"
    # As a terminal of another encoding passes it on.
    reason = b"gap \xff".decode(errors="surrogateescape")
    CliRunner().invoke(
        main, ["halt", f"--database={database}", f"--reason={reason}", "--timeout=0"]
    )

    control = Control(control_path(database), patience_s=1)
    (told,) = control.standing()
    control.close()
    assert (told.kind.value, told.reason) == ("halt", "gap ?")
    assert told.who.startswith("user ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--database=/",), "--database: expected a file, found '/'"),
        (("--database=",), "--database: expected a file"),
        (("--timeout=nan",), "--timeout: expected seconds, found nan"),
    ],
)
def test_a_command_that_means_nothing_is_one_sentence(
    words: tuple[str, ...], sentence: str
) -> None:
    told = CliRunner().invoke(main, ["halt", *words])

    assert told.exit_code == 2
    assert sentence in told.output
    assert told.exception is None or isinstance(told.exception, SystemExit)


async def test_a_locked_or_lost_control_database_stalls_nothing(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    async with session(start_gateway, tmp_path) as running:
        path = control_path(running.session.database)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            await until(
                lambda: "no kill switch" in [row["kind"] for row in running.rows("incidents")]
            )
            assert running.result is None
        path.unlink()
        told = await running.tell("stop", "--timeout", "30")

    assert told.exit_code == 0, told.output


async def test_a_session_that_hangs_is_told_plainly(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    program = """
import sys, anyio, json
from pathlib import Path
from momentum_lab.live.session import LiveSession
from momentum_lab.parameters import check_parameters
values, root = json.loads(sys.argv[1]), Path(sys.argv[2])
anyio.run(LiveSession(check_parameters(values), root=root, run_id="hung").run)
"""
    with gateway(start_gateway, tmp_path) as found:
        parameters = demo_parameters(found.port)
        running = Running(parameters, tmp_path, "hung")
        values = json.dumps(parameters.as_dict())
        process = subprocess.Popen([sys.executable, "-c", program, values, str(tmp_path)])  # noqa: ASYNC220, S603 - this interpreter
        try:
            await until(running.is_operational)
            process.send_signal(signal.SIGSTOP)
            hung = await running.tell("flatten", "--timeout", "1")
            process.send_signal(signal.SIGCONT)
            await until(lambda: bool(by_hand(running)))
            process.kill()
            process.wait()
            dead = await running.tell("stop", "--timeout", "0")
        finally:
            process.kill()
            process.wait()

    assert hung.exit_code == 1
    assert f"kill -9 {process.pid}" in hung.output
    assert "only orders that rest at the broker protect" in hung.output
    # It heard the command as soon as it could.
    assert by_hand(running) == [("HALTED", "by hand: flatten")]
    assert dead.exit_code == 1
    assert "DEAD: its process is gone" in dead.output


async def test_the_heartbeat_comes_once_a_second(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    async with session(start_gateway, tmp_path) as running:
        beats = set[int]()
        with closing(Control(control_path(running.session.database), patience_s=1)) as control:
            with anyio.move_on_after(3.5):
                while True:
                    row = control.last_session()
                    assert row is not None
                    beats.add(row.heartbeat_wall_ns)
                    await anyio.sleep(0.05)

    assert 3 <= len(beats) <= 5
    assert row is not None
    assert (row.process.pid, row.mode) == (os.getpid(), "replay")
