"""A whole simulated week: nightly restarts and resets, the weekend, and the Sunday login."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import pytest

from momentum_lab.core.connection import ConnectionEvent, ConnectionState
from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.windows import WindowParameters, window_at
from momentum_lab.gateway.virtual import run_virtual
from momentum_lab.live.ibkr.line import LineStatus
from tests.connection_kit import Patient, make_tape, patient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NEW_YORK = ZoneInfo("America/New_York")
OPENING = datetime(2013, 10, 7, 9, 30, tzinfo=NEW_YORK)
N_DAYS = 8
BACK_WITHIN_S = 60.0


def _ns(at: datetime) -> int:
    return int(at.timestamp()) * NS_PER_S


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Monday 2013-10-07 to the Monday after."""
    return make_tape(tmp_path_factory.mktemp("week") / "tape", _ns(OPENING), N_DAYS)


def _nights() -> Iterator[tuple[datetime, str, dict[str, int], float]]:
    """What the broker does by plan: when, which fault it looks like, and for how long."""
    for day in range(N_DAYS - 1):
        midnight = OPENING.replace(hour=0, minute=0) + timedelta(days=day + 1)
        if day == 6:
            return  # Sunday night belongs to the login
        yield midnight - timedelta(minutes=15), "restart", {}, 60
        cuts = day % 2
        if midnight.weekday() < 5:
            yield midnight + timedelta(minutes=20), "nightly_reset", {"cuts_sockets": cuts}, 2400
    friday = OPENING.replace(hour=23, minute=0) + timedelta(days=4)
    yield friday + timedelta(minutes=5), "1100", {"restored": 1101}, 2000


async def _sleep_until(found: Patient, at: datetime) -> None:
    await anyio.sleep(max(0.0, (_ns(at) - found.clock.now_ns()) / NS_PER_S))


def _live(tape: Path, *, login_at: datetime, start: datetime = OPENING) -> Patient:
    """Live through the week; on Sunday at 01:00 the token ends, and somebody logs in later."""
    sunday = OPENING.replace(hour=1, minute=0) + timedelta(days=6)
    # The gateway restarts on its own once more, and comes up at its login window.
    lasts_s = (login_at - sunday).total_seconds()
    limbo: tuple[datetime, str, dict[str, int], float] = (sunday, "half_open", {}, lasts_s)
    plan = sorted([*_nights(), limbo], key=lambda entry: entry[0])

    async def main() -> Patient:
        async with patient(tape, start_ns=_ns(start)) as found:
            for at, fault, parameters, for_s in plan:
                if at < start:
                    continue
                await _sleep_until(found, at)
                assert found.connector.is_operational()
                found.gateway.inject(fault, parameters, for_s=for_s)
                await anyio.sleep(for_s + 1)
                await found.until(found.connector.is_operational, patience_s=BACK_WITHIN_S)
            # Monday's market: everything that is wanted flows again.
            await _sleep_until(found, OPENING + timedelta(days=7, minutes=5))
            assert found.connector.is_operational()
            assert all(line.status is LineStatus.FLOWING for line in found.connector.lines)
        return found

    return run_virtual(main)


def test_a_week_needs_nobody_but_for_the_login(tape: Path) -> None:
    found = _live(tape, login_at=OPENING.replace(hour=17, minute=0) + timedelta(days=6))

    assert not [kind for kind in found.kinds() if kind.startswith("connection")]
    assert found.witness.violations == []
    # Whenever it was away it was so in a window that the broker has announced.
    away_ns = [
        _ns(OPENING) + int(step.at_s * NS_PER_S)
        for step in found.steps[1:]
        if step.state in (ConnectionState.DISCONNECTED, ConnectionState.DEGRADED)
    ]
    assert len(away_ns) > 15
    assert all(window_at(at_ns, WindowParameters()) is not None for at_ns in away_ns)


def test_a_login_that_nobody_made_is_one_clear_alarm(tape: Path) -> None:
    late = OPENING.replace(hour=21, minute=0) + timedelta(days=6)
    found = _live(tape, login_at=late, start=OPENING + timedelta(days=4, hours=6))

    told = [(kind, text) for _, kind, text in found.incidents if kind.startswith("connection")]
    assert [kind for kind, _ in told] == ["connection down", "connection back"]
    assert "no answer" in told[0][1]
    assert "login" in told[0][1]
    assert found.witness.violations == []
    # An outage of twenty hours is no storm of attempts.
    tried_s = [step.at_s for step in found.steps if step.event is ConnectionEvent.ATTEMPT]
    assert max(sum(one <= other < one + 3600 for other in tried_s) for one in tried_s) <= 150
