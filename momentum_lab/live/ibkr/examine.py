"""Looks at a gateway as a session would, finds what would keep it from trading, changes nothing.

The checks stand in one list, each with the checks that it needs: one that fails does not keep the
others from running, one whose ground is missing is skipped and says why. Every check has its time
limit. The connection is the examination's own, with its own client id.

Nothing is subscribed to before the last check: a paper gateway that waits for its first
subscription starts its clock with it. Where the account is a paper account, one order is asked
about (a "what-if" order, which the broker values and never places); no other order leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import anyio

from momentum_lab.errors import MomentumLabError
from momentum_lab.live.finding import Finding, Verdict, failure, fine, skipped
from momentum_lab.live.ibkr.case import Case
from momentum_lab.live.ibkr.checks_of_account import (
    check_account,
    check_equity,
    check_mode,
    check_orders,
)
from momentum_lab.live.ibkr.checks_of_data import (
    check_candles,
    check_contracts,
    check_farms,
    check_news,
    check_quotes,
)
from momentum_lab.live.ibkr.checks_of_time import check_clock, check_hours, check_zone
from momentum_lab.live.ibkr.handshake import Stage, Visit
from momentum_lab.parameters import Parameters

OnFinding = Callable[[Finding], None]

_CLIENT_ID_STEP, _LAST_CLIENT_ID = 900, 999
_CONNECTION = "connection"
# Enough for the symbols of a long universe, one after the other.
_MANY_S = 60.0
_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class _Check:
    """One step of the examination.

    Attributes:
        name: stands in the first column.
        run: makes it.
        needs: the checks that must not have failed before.
        limit_s: how long it may take.
    """

    name: str
    run: Callable[[Case], Awaitable[Sequence[Finding]]]
    needs: tuple[str, ...]
    limit_s: float


def spare_client_id(client_id: int) -> int:
    """Return a client id for a look beside a session that uses `client_id`."""
    spare = min(client_id + _CLIENT_ID_STEP, _LAST_CLIENT_ID)
    return spare if spare != client_id else _LAST_CLIENT_ID - 1


async def examine(
    parameters: Parameters,
    *,
    client_id: int | None = None,
    with_quotes: bool = True,
    on_finding: OnFinding = lambda _finding: None,
) -> tuple[Finding, ...]:
    """Examine the gateway that a session with these parameters would use.

    Args:
        parameters: the checked set; a set of mode live is examined too.
        client_id: of the examination; made from the session's when None.
        with_quotes: subscribe to the first symbols' quotes in the end.
        on_finding: hears each finding as soon as it is made.

    Returns:
        All findings, in the order in which they were made. Nothing is raised for what is found.
    """
    settings = parameters.connection
    number = spare_client_id(settings.client_id) if client_id is None else client_id
    visit = Visit()
    found: list[Finding] = []

    def note(finding: Finding) -> None:
        found.append(finding)
        on_finding(finding)

    try:
        stage = await visit.open(
            settings.host, settings.port, client_id=number, timeout_s=settings.connect_timeout_s
        )
        for finding in _about_connection(stage, visit, parameters, number):
            note(finding)
        case = Case(parameters, visit)
        for finding in check_mode(case):
            note(finding)
        failed = set() if stage is Stage.READY else {_CONNECTION}
        for check in _plan(case, with_quotes=with_quotes):
            findings = await _make(check, case, failed)
            if not _is_sound(findings):
                failed.add(check.name)
            for finding in findings:
                note(finding)
    finally:
        visit.close()
    return tuple(found)


def _plan(case: Case, *, with_quotes: bool) -> Iterator[_Check]:
    limit_s = case.timeout_s + _GRACE_S
    yield _Check("account", check_account, (_CONNECTION,), limit_s)
    yield _Check("equity", check_equity, ("account",), limit_s)
    yield _Check("clock", check_clock, (_CONNECTION,), limit_s)
    yield _Check("time zone", check_zone, ("clock",), limit_s)
    yield _Check("hours", check_hours, (), limit_s)
    yield _Check("contracts", check_contracts, (_CONNECTION,), max(limit_s, _MANY_S))
    yield _Check("candles", check_candles, (_CONNECTION,), limit_s)
    yield _Check("news", check_news, (_CONNECTION,), max(limit_s, _MANY_S))
    yield _Check("orders", check_orders, ("account",), 2 * limit_s)
    yield _Check("farms", check_farms, (_CONNECTION,), limit_s)
    if with_quotes:
        yield _Check("quotes", check_quotes, (_CONNECTION,), limit_s)


async def _make(check: _Check, case: Case, failed: set[str]) -> Sequence[Finding]:
    missing = [name for name in check.needs if name in failed]
    if missing:
        return [skipped(check.name, f"needs the {missing[0]}")]
    if check.needs and not case.visit.is_ready:
        return [skipped(check.name, "the connection ended during the examination")]
    try:
        with anyio.fail_after(check.limit_s):
            return await check.run(case)
    except (TimeoutError, asyncio.TimeoutError):  # two classes on Python 3.10
        return [_unanswered(check.name, f"not done within {check.limit_s:g} s")]
    except MomentumLabError as error:
        return [_unanswered(check.name, str(error))]


def _unanswered(name: str, words: str) -> Finding:
    return failure(name, words, "Look at the gateway's screen for a dialog, or restart it.")


def _is_sound(findings: Sequence[Finding]) -> bool:
    return not any(item.verdict in (Verdict.FAILURE, Verdict.SKIPPED) for item in findings)


def _about_connection(
    stage: Stage, visit: Visit, parameters: Parameters, client_id: int
) -> Iterator[Finding]:
    where = f"{parameters.connection.host}:{parameters.connection.port}"
    if stage is Stage.UNREACHABLE:
        yield failure(
            "port",
            f"nothing answers on {where}: {visit.cause}",
            "Start TWS or the gateway, enable socket clients in its API settings, and compare the"
            " port there with connection.port.",
        )
        return
    yield fine("port", f"{where} is open")
    if stage in _NO_GREETING:
        words, cure = _NO_GREETING[stage]
        yield failure("handshake", f"{words} ({visit.cause or where})", cure)
        return
    client = visit.ib.client
    spoken = f"{client.MinClientVersion} to {client.MaxClientVersion}"
    yield fine("handshake", f"protocol {visit.protocol}, the library speaks {spoken}")
    if stage is Stage.READY:
        yield fine(
            "client id", f"{client_id} was let in; a session uses {parameters.connection.client_id}"
        )
    elif stage is Stage.CLIENT_ID_TAKEN:
        yield failure(
            "client id",
            f"{client_id} is in use by another program",
            "Choose another one with --client-id, or stop the other program.",
        )
    else:
        yield failure(
            "client id",
            f"the gateway greets {client_id} and does not let it in ({visit.cause or 'it closed'})",
            "Choose another one with --client-id; if that does not help, log in at the gateway.",
        )


_NO_GREETING = {
    Stage.SILENT: (
        "connections are taken and never answered, as at a login window or a dialog",
        "Log in at the gateway and close its dialogs; if there are none, restart it.",
    ),
    Stage.CLOSED: (
        "connections are closed before a word is said",
        "Add this machine to the trusted IPs in the gateway's API settings.",
    ),
    Stage.STRANGE: (
        "something else than TWS or a gateway answers",
        "Set connection.port to the port of TWS or the gateway.",
    ),
}
