"""The command line of the paper gateway: run one, and tell a running one what to do."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
import yaml

from momentum_lab.calendars import NEW_YORK
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError
from momentum_lab.faces.fault_options import fault_options
from momentum_lab.faces.limit_options import limit_options
from momentum_lab.faces.one_sentence import one_sentence

if TYPE_CHECKING:
    from momentum_lab.gateway.limits import Limits

# The gateway tells the time once a second; a log wants it once a minute.
_LINES_PER_LOG_LINE = 60


@click.group(invoke_without_command=True)
@click.option("--tape", type=click.Path(path_type=Path), help="Tape folder; needed to run one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=4002, show_default=True, help="0 takes a free one.")
@click.option("--start", default="", help="Where to begin, e.g. 2013-10-09T13:45 (New York).")
@click.option(
    "--speed", type=float, default=60.0, show_default=True, help="Where something is open."
)
@click.option("--fast", type=float, default=1800.0, show_default=True, help="Where nothing is.")
@click.option(
    "--watch", type=float, default=300.0, show_default=True, help="Slow after a headline, s."
)
@click.option("--account", default="DU1234567", show_default=True, help="Paper account.")
@click.option("--cash", type=float, default=1_000_000.0, show_default=True, help="US dollars.")
@click.option("--state", type=click.Path(path_type=Path), help="File that survives a restart.")
@click.option("--no-hold", is_flag=True, help="Start the clock before the first subscription.")
@click.option(
    "--volume-ticks", type=click.Choice(["lots", "shares"]), default="lots", show_default=True
)
@click.option("--scenario", type=click.Path(path_type=Path), help="YAML: what goes wrong, when.")
@click.option("--journal", type=click.Path(path_type=Path), help="File of what truly happened.")
@click.option(
    "--latency", type=float, default=0.0, show_default=True, help="Of orders, market seconds."
)
@click.option(
    "--sample-ms", type=int, default=250, show_default=True, help="Between quotes; 0 tells each."
)
@click.option(
    "--unsubscribed", multiple=True, help="Symbol whose live quotes are not bought; * for all."
)
@click.option("--allow-remote", is_flag=True, help="Listen on an address that others can reach.")
@click.option("--wire-log", type=click.Path(path_type=Path), help="File for every message.")
@click.pass_context
@one_sentence
@limit_options
def gateway(  # noqa: PLR0913 - one option each
    context: click.Context,
    *,
    tape: Path | None,
    host: str,
    port: int,
    start: str,
    speed: float,
    fast: float,
    watch: float,
    account: str,
    cash: float,
    state: Path | None,
    no_hold: bool,
    volume_ticks: str,
    scenario: Path | None,
    journal: Path | None,
    latency: float,
    sample_ms: int,
    unsubscribed: tuple[str, ...],
    allow_remote: bool,
    wire_log: Path | None,
    limits: Limits,
) -> None:
    """Play a tape as a paper gateway that any TWS API client can connect to."""
    if context.invoked_subcommand is not None:
        return
    from momentum_lab.gateway.checks import Rules  # noqa: PLC0415
    from momentum_lab.gateway.control import is_loopback  # noqa: PLC0415
    from momentum_lab.gateway.faults.scenario import Scenario, load_scenario  # noqa: PLC0415
    from momentum_lab.gateway.server import GatewaySettings, run  # noqa: PLC0415

    if tape is None:
        raise ParameterError("gateway: expected --tape FOLDER")
    if not allow_remote and not is_loopback(host):
        raise ParameterError(
            f"gateway: {host} can be reached by others, who would control the account;"
            " say --allow-remote if that is wanted"
        )
    settings = GatewaySettings(
        tape=tape,
        host=host,
        port=port,
        account=account,
        cash_usd=cash,
        fast=max(fast, speed),
        slow=speed,
        watch_s=watch,
        start_ns=_start_ns(start) if start else None,
        hold=not no_hold,
        state=state,
        volume_ticks="lots" if volume_ticks == "lots" else "shares",
        sample_ms=sample_ms,
        unsubscribed=frozenset(unsubscribed),
        rules=Rules(latency_s=latency),
        limits=limits,
        scenario=Scenario() if scenario is None else load_scenario(scenario),
        journal=journal,
        wire_log=wire_log,
    )
    run(settings, report=_reporter())


_GATEWAY_PORT = click.option(
    "--port", type=int, default=4002, show_default=True, help="Where the gateway listens."
)


@gateway.command()
@click.argument("fault")
@click.option("--set", "values", multiple=True, help="A parameter, e.g. --set delay_s=4.")
@_GATEWAY_PORT
@one_sentence
@fault_options
def inject(fault: str, values: tuple[str, ...], port: int, *, when: Mapping[str, Any]) -> None:
    """Let FAULT happen in a running gateway, now or when the options say.

    `momentum-lab gateway faults` lists them.
    """
    parameters: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise ParameterError(f"--set: expected NAME=VALUE, found {value!r}")
        parameters[key] = yaml.safe_load(text)
    _tell(port, {"do": "inject", "fault": fault, "with": parameters, **when})


@gateway.command()
@click.argument("fault")
@_GATEWAY_PORT
@one_sentence
def end(fault: str, port: int) -> None:
    """Put FAULT right in a running gateway."""
    _tell(port, {"do": "end", "fault": fault})


@gateway.command()
@_GATEWAY_PORT
@one_sentence
def status(port: int) -> None:
    """Show market time, clients, orders and faults of a running gateway."""
    _tell(port, {"do": "status"})


@gateway.command()
@one_sentence
def faults() -> None:
    """List the faults with their parameters."""
    from momentum_lab.faces.docs import fault_lines  # noqa: PLC0415

    for line in fault_lines():
        click.echo(line)


def _tell(port: int, command: Mapping[str, Any]) -> None:
    from momentum_lab.gateway.control import ask  # noqa: PLC0415

    for key, value in ask(port, command).items():
        if key != "ok":
            click.echo(f"{key}: {value}")


def _reporter() -> Callable[[str], None]:
    """Return what prints a gateway's lines.

    On a terminal the line of the time is written over its predecessor, once a second; in a log it
    comes once a minute.
    """
    is_terminal = sys.stdout.isatty()
    n_passing = itertools.count()

    def report(text: str) -> None:
        is_passing = text.startswith("market time ")
        if is_terminal:
            click.echo(f"\r\033[K{text}", nl=not is_passing)
        elif not is_passing or next(n_passing) % _LINES_PER_LOG_LINE == 0:
            click.echo(text)

    return report


def _start_ns(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ParameterError(
            f"--start: expected a date and time such as 2013-10-09T13:45, found {text!r}"
        ) from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=ZoneInfo(NEW_YORK))
    return int(at.timestamp()) * NS_PER_S
