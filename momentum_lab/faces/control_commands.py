"""`momentum-lab stop`, `flatten`, `halt`, `reduce`, `resume`, `status`: told and asked.

They write into the control database and wait for the session's answer. Nothing of the session's
page is needed: its loop looks for them by itself.
"""

from __future__ import annotations

import getpass
import math
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click

from momentum_lab.clock import transport_s, utc, wall_ns
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError, RecordError
from momentum_lab.faces.one_sentence import FAILED_EXIT, one_sentence
from momentum_lab.parameters import RecordParameters, load_parameters
from momentum_lab.records.control import (
    Command,
    CommandKind,
    Control,
    SessionRow,
    SignOfLife,
    control_path,
)

_PATIENCE_S = 2.0
_LOOK_S = 0.1
# A session says once a second that it lives; its loop may be busy for a while.
_FRESH_S = 5.0
_DEFAULT_TIMEOUT_S = 10.0

_HELP = {
    CommandKind.STOP: "End the session in order: no entries, what is open is closed.",
    CommandKind.FLATTEN: "Close our positions, cancel our orders, enter nothing until `resume`.",
    CommandKind.HALT: "Enter nothing until `resume`; open positions go on being managed.",
    CommandKind.REDUCE: "Enter nothing more today; open positions go on being managed.",
    CommandKind.RESUME: "Allow entries again after `halt`, `flatten` or `reduce`.",
}


def database_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which trade store is meant."""
    command = click.option(
        "--database",
        type=click.Path(path_type=Path),
        help=f"Trade store of the session.  [default: {RecordParameters().database}]",
    )(command)
    return click.option(
        "--parameters",
        "parameters_file",
        type=click.Path(path_type=Path),
        help="Parameter file of the session, instead of --database.",
    )(command)


def database_of(database: Path | None, parameters_file: Path | None) -> Path:
    """Return the trade store that is meant.

    Raises:
        ParameterError: both options were given, or the file cannot be used.
    """
    from momentum_lab.faces.runner import project_root  # noqa: PLC0415 - loads papermill

    if database is not None and parameters_file is not None:
        raise ParameterError("expected --database or --parameters, found both")
    if database is not None:
        return database
    records = load_parameters(parameters_file).records if parameters_file else RecordParameters()
    return project_root() / records.database


def _make(kind: CommandKind) -> click.Command:
    @click.command(kind.value, help=_HELP[kind])
    @database_options
    @click.option("--reason", default="", help="Why; it is written down.")
    @click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0),
        default=_DEFAULT_TIMEOUT_S,
        show_default=True,
        help="Seconds to wait for the session's answer, and again for it to be done.",
    )
    @one_sentence
    def command(
        database: Path | None, parameters_file: Path | None, reason: str, timeout_s: float
    ) -> None:
        found = database_of(database, parameters_file)
        if not math.isfinite(timeout_s):
            raise ParameterError(f"--timeout: expected seconds, found {timeout_s}")
        if not tell(found, kind, reason=reason, timeout_s=timeout_s):
            sys.exit(FAILED_EXIT)

    return command


stop, flatten, halt, reduce, resume = (_make(kind) for kind in CommandKind)


@click.command()
@database_options
@one_sentence
def status(database: Path | None, parameters_file: Path | None) -> None:
    """Say what the session of a trade store does; exit code 1 when none answers."""
    found = database_of(database, parameters_file)
    control = _opened(found)
    try:
        session = control.last_session()
        standing = control.standing()
    finally:
        control.close()
    for line in status_lines(found, session):
        click.echo(line)
    for told in standing:
        if told.kind is not CommandKind.RESUME:
            click.echo(f"entries      none {_until(told)}: {told}, {_at(told.wall_ns)}")
    if session is None or not answers(session):
        sys.exit(FAILED_EXIT)


def tell(database: Path, kind: CommandKind, *, reason: str, timeout_s: float) -> bool:
    """Give a command, print what the session does about it, return whether one heard it."""
    control = _opened(database)
    try:
        number = control.give(kind, who=f"{_user()}@{os.getpid()}", reason=_legible(reason))
        began_s = transport_s()
        if not _wait(lambda: control.command(number).run_id is not None, timeout_s):
            session = control.last_session()
            _say_unheard(database, kind, session, timeout_s)
            return False
        heard = control.command(number)
        click.echo(f"{kind.value}: heard by {heard.run_id} after {transport_s() - began_s:.1f} s.")
        click.echo(f"  {heard.answer}")
        if not heard.is_done:
            _wait(lambda: control.command(number).is_done, timeout_s)
            heard = control.command(number)
            words = heard.answer if heard.is_done else "still at it; see 'momentum-lab status'"
            click.echo(f"  {words}, {transport_s() - began_s:.1f} s after the command")
    finally:
        control.close()
    return True


def answers(session: SessionRow) -> bool:
    """Whether a session runs and gave a sign of life a moment ago."""
    fresh = wall_ns() - session.heartbeat_wall_ns <= _FRESH_S * NS_PER_S
    return session.end_reason is None and session.process.is_alive() and fresh


def status_lines(database: Path, session: SessionRow | None) -> list[str]:
    """Return what is known of the last session of a store, one fact a line."""
    if session is None:
        return [f"No session has run on {database}."]
    age_s = (wall_ns() - session.heartbeat_wall_ns) / NS_PER_S
    return [
        f"run          {session.run_id} (mode {session.mode}, pid {session.process.pid})",
        f"since        {_at(session.started_wall_ns)}",
        f"session      {_condition(session)}",
        f"connection   {session.life.state}",
        f"risk state   {session.life.risk_state}",
        f"positions    {_held(session.life)}",
        f"heartbeat    {age_s:.1f} s ago",
    ]


def _condition(session: SessionRow) -> str:
    if session.end_reason is not None:
        return f"ended: {session.end_reason}"
    if not session.process.is_alive():
        return "DEAD: its process is gone, and it did not end in order"
    if not answers(session):
        return "DOES NOT ANSWER: its process is there, its loop gives no sign of life"
    return "runs"


def _say_unheard(
    database: Path, kind: CommandKind, session: SessionRow | None, timeout_s: float
) -> None:
    """Say plainly that nobody obeyed, who should have, and what protects now."""
    click.echo(f"{kind.value}: no session heard it within {timeout_s:g} s.")
    for line in status_lines(database, session):
        click.echo(f"  {line}")
    if session is not None and session.end_reason is None:
        if session.process.is_alive():
            click.echo(
                f"  It obeys as soon as its loop turns again. If it never does: kill -9"
                f" {session.process.pid}, then start a session, which adopts what is open."
            )
        else:
            click.echo("  Start a session with the same parameters: it adopts what is open.")
        click.echo(
            "  Until then only orders that rest at the broker protect a position. Look at it in"
            " TWS, and close there what must not stay."
        )
    if kind in (CommandKind.HALT, CommandKind.FLATTEN):
        click.echo(
            "  The next session of this store begins HALTED; 'momentum-lab resume' lifts that."
        )
    elif kind is CommandKind.REDUCE:
        click.echo(
            "  The next session of this store begins REDUCING and enters nothing on its first day;"
            " 'momentum-lab resume' lifts that."
        )
    elif kind is CommandKind.RESUME:
        click.echo("  The next session of this store may enter.")


def _until(told: Command) -> str:
    """Say how long a command that nobody has lifted keeps entries away."""
    if told.kind is CommandKind.REDUCE:
        return "on the first day of the next session, or until 'momentum-lab resume'"
    return "until 'momentum-lab resume'"


def _user() -> str:
    """Return who gives a command, also where the system knows no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "somebody"


def _legible(words: str) -> str:
    """Return words of a terminal that writes in another encoding as text that can be stored."""
    return words.encode("utf-8", "replace").decode()


def _opened(database: Path) -> Control:
    if not database.name:
        raise ParameterError(f"--database: expected a file, found {str(database)!r}")
    path = control_path(database)
    if not database.parent.is_dir():
        raise RecordError(f"no trade store at {database}")
    return Control(path, patience_s=_PATIENCE_S)


def _wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    until_s = transport_s() + timeout_s
    while not condition():
        if transport_s() >= until_s:
            return False
        time.sleep(_LOOK_S)
    return True


def _held(life: SignOfLife) -> str:
    return ", ".join(_position(life, symbol) for symbol in life.positions) or "none"


def _position(life: SignOfLife, symbol: str) -> str:
    net_usd = life.net_usd.get(symbol)
    worth = "" if net_usd is None else f" ({net_usd:+.2f} USD if closed now)"
    return f"{symbol} {life.positions[symbol]:+g}{worth}"


def _at(at_wall_ns: int) -> str:
    local: datetime = utc(at_wall_ns).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S} (yours)"
