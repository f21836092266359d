"""The command line: demo, gateway, live, check.

Every error that the package raises on purpose ends as one sentence on the standard error and
exit code 2; a session that failed ends with 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from zoneinfo import ZoneInfo

import click
import yaml

from momentum_lab.calendars import NEW_YORK
from momentum_lab.clock import utc
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import BrokerError, MomentumLabError, ParameterError, RecordError
from momentum_lab.faces.limit_options import limit_options
from momentum_lab.parameters import Parameters, load_parameters

if TYPE_CHECKING:
    from momentum_lab.gateway.limits import Limits

P = ParamSpec("P")
T = TypeVar("T")

_USAGE_EXIT = 2
_FAILED_EXIT = 1
_GATEWAY_STOP_S = 10.0
_GATEWAY_LOOK_S = 0.1
_GATEWAY_START_LOOKS = 300
_LISTENING = re.compile(r"listening on \S+:(\d+)")
_DEMO_PARAMETERS = Path("parameters", "demo.yaml")
_DEMO_TAPE = Path("data", "samples", "fomc-2013-10-09")


def _one_sentence(command: Callable[P, T]) -> Callable[P, T]:
    """Turn errors raised on purpose into one sentence and an exit code."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except MomentumLabError as error:
            click.echo(f"momentum-lab: {error}", err=True)
            failed = type(error).__name__ == "SessionFailedError"
            sys.exit(_FAILED_EXIT if failed else _USAGE_EXIT)

    return guarded


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("momentum-lab"), prog_name="momentum-lab")
def main() -> None:
    """Trade news-driven momentum at Interactive Brokers: research to live, paper by default."""


@main.command()
@click.option(
    "--parameters",
    "parameters_file",
    type=click.Path(path_type=Path),
    default=_DEMO_PARAMETERS,
    show_default=True,
    help="Parameter file, mode replay.",
)
@click.option(
    "--tape",
    type=click.Path(path_type=Path),
    default=_DEMO_TAPE,
    show_default=True,
    help="Tape folder that the gateway plays.",
)
@click.option("--port", type=int, default=0, help="Port of the gateway; 0 takes a free one.")
@_one_sentence
def demo(parameters_file: Path, tape: Path, port: int) -> None:
    """Play a recorded market day and trade it: gateway, live notebook, charts, one command."""
    # The faces load papermill and the broker's library only when a session is really run.
    from momentum_lab.faces.runner import project_root, run_live_notebook  # noqa: PLC0415
    from momentum_lab.live.run_identity import new_run_id  # noqa: PLC0415

    root = project_root()
    parameters = load_parameters(root / parameters_file)
    if parameters.mode != "replay":
        raise ParameterError(f"demo: expected mode replay, found {parameters.mode!r}")
    run_id = new_run_id(parameters.mode)
    folder = root / parameters.records.runs / run_id
    # The gateway opens a new account each time, and a store holds one account.
    database = str(Path(parameters.records.runs, run_id, "trades.db"))
    records = dataclasses.replace(parameters.records, database=database)
    with _gateway_process(root / tape, parameters, port=port, folder=folder) as found_port:
        click.echo(f"The paper gateway plays {tape.name} on port {found_port}.")
        click.echo("The live notebook starts; a day takes about a minute. Times below are yours.")
        connection = dataclasses.replace(parameters.connection, port=found_port)
        parameters = dataclasses.replace(parameters, connection=connection, records=records)
        notebook = run_live_notebook(parameters, root=root, run_id=run_id)
    if _print_result(root / parameters.records.database, run_id, notebook):
        sys.exit(_FAILED_EXIT)


@main.command()
@click.argument("parameters_file", type=click.Path(path_type=Path))
@click.option("--run-id", default="", help="Name of the run; made of the time when left out.")
@_one_sentence
def live(parameters_file: Path, run_id: str) -> None:
    """Run one session with PARAMETERS_FILE through the live notebook, until the market closes."""
    from momentum_lab.faces.runner import project_root, run_live_notebook  # noqa: PLC0415
    from momentum_lab.live.run_identity import new_run_id  # noqa: PLC0415

    parameters = load_parameters(parameters_file)
    root = project_root()
    run_id = run_id or new_run_id(parameters.mode)
    notebook = run_live_notebook(parameters, root=root, run_id=run_id)
    _print_result(root / parameters.records.database, run_id, notebook)


@main.command()
@click.argument("parameters_file", type=click.Path(path_type=Path))
@_one_sentence
def check(parameters_file: Path) -> None:
    """Check PARAMETERS_FILE and print the effective set with units; nothing connects."""
    parameters = load_parameters(parameters_file)
    for key, value, unit in effective(parameters):
        click.echo(f"{key:<32} {value} {unit}".rstrip())
    click.echo(f"params_hash                      {parameters.params_hash}")


@main.group(invoke_without_command=True)
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
@_one_sentence
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
    from momentum_lab.gateway.faults.scenario import Scenario, load_scenario  # noqa: PLC0415
    from momentum_lab.gateway.server import GatewaySettings, run  # noqa: PLC0415

    if tape is None:
        raise ParameterError("gateway: expected --tape FOLDER")
    if not allow_remote and not host.startswith(("127.", "localhost", "::1")):
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
    run(settings, report=_report)


_GATEWAY_PORT = click.option(
    "--port", type=int, default=4002, show_default=True, help="Where the gateway listens."
)


@gateway.command()
@click.argument("fault")
@click.option("--set", "values", multiple=True, help="A parameter, e.g. --set delay_s=4.")
@click.option("--for", "for_s", type=float, help="Market seconds until it is put right again.")
@_GATEWAY_PORT
@_one_sentence
def inject(fault: str, values: tuple[str, ...], for_s: float | None, port: int) -> None:
    """Let FAULT happen now in a running gateway; `momentum-lab gateway faults` lists them."""
    parameters: dict[str, Any] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals:
            raise ParameterError(f"--set: expected NAME=VALUE, found {value!r}")
        parameters[key] = yaml.safe_load(text)
    command = {"do": "inject", "fault": fault, "with": parameters}
    _tell(port, command if for_s is None else {**command, "for_s": for_s})


@gateway.command()
@click.argument("fault")
@_GATEWAY_PORT
@_one_sentence
def end(fault: str, port: int) -> None:
    """Put FAULT right in a running gateway."""
    _tell(port, {"do": "end", "fault": fault})


@gateway.command()
@_GATEWAY_PORT
@_one_sentence
def status(port: int) -> None:
    """Show market time, clients, orders and faults of a running gateway."""
    _tell(port, {"do": "status"})


@gateway.command()
@_one_sentence
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


def _report(text: str) -> None:
    """Print a line; on a terminal the time line is written over its predecessor."""
    is_passing = sys.stdout.isatty() and text.startswith("market time ")
    click.echo(f"\r\033[K{text}" if sys.stdout.isatty() else text, nl=not is_passing)


def effective(parameters: Parameters) -> Iterator[tuple[str, object, str]]:
    """Yield (key, value, unit) of the effective set, in the order of a parameter file."""
    from momentum_lab.core.tunable import tunables_of  # noqa: PLC0415

    for field in dataclasses.fields(parameters):
        value = getattr(parameters, field.name)
        if not dataclasses.is_dataclass(value):
            yield field.name, value, ""
            continue
        declared = tunables_of(type(value))
        for inner in dataclasses.fields(value):
            unit = declared[inner.name].unit if inner.name in declared else ""
            yield f"{field.name}.{inner.name}", getattr(value, inner.name), unit


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


@contextmanager
def _gateway_process(
    tape: Path, parameters: Parameters, *, port: int, folder: Path
) -> Iterator[int]:
    """Run a paper gateway as a process of its own; give its port, and stop it in the end."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise RecordError(f"{folder} exists already: another run has this name") from None
    log = folder / "gateway.log"
    command = [sys.executable, "-m", "momentum_lab.faces.cli", "gateway"]
    command += ["--tape", str(tape), "--port", str(port)]
    command += ["--speed", str(parameters.replay.speed), "--fast", str(parameters.replay.fast)]
    command += ["--watch", str(parameters.shock.watch_s)]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
            command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    is_wanted = threading.Event()
    is_wanted.set()
    try:
        port_found = _port_of(process, log)
        threading.Thread(target=_end_with, args=(process, is_wanted), daemon=True).start()
        yield port_found
    finally:
        is_wanted.clear()
        process.terminate()
        try:
            process.wait(_GATEWAY_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with(process: subprocess.Popen[bytes], is_wanted: threading.Event) -> None:
    """Stop this run in order when its gateway dies: nobody would start it again."""
    process.wait()
    if is_wanted.is_set():
        click.echo("The paper gateway has died; the session is being ended.", err=True)
        os.kill(os.getpid(), signal.SIGTERM)


def _port_of(process: subprocess.Popen[bytes], log: Path) -> int:
    """Return the port a gateway says it listens on, as soon as it says so."""
    for _ in range(_GATEWAY_START_LOOKS):
        match = _LISTENING.search(log.read_text(encoding="utf-8"))
        if match:
            return int(match[1])
        try:
            process.wait(_GATEWAY_LOOK_S)
        except subprocess.TimeoutExpired:
            continue
        break
    said = log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"]
    log.unlink()
    with contextlib.suppress(OSError):
        # Nothing has been written: the run never began.
        log.parent.rmdir()
    words = said[-1].removeprefix("momentum-lab: ")
    raise BrokerError(f"the paper gateway did not start: {words}")


def _print_result(database: Path, run_id: str, notebook: Path) -> int:
    """Print what a run brought; return how many trades it left open."""
    from momentum_lab.records.trade_store import TradeStore  # noqa: PLC0415

    store = TradeStore(database)
    try:
        rows = store.table("trades", run_id)
        decisions = store.table("decisions", run_id)
    finally:
        store.close()
    click.echo("")
    click.echo(f"{'symbol':<7}{'side':<6}{'shares':>7}  {'entry (New York)':<21}{'exit':<21}"
               f"{'reason':<14}{'costs USD':>10}{'net USD':>10}")  # fmt: skip
    for row in rows:
        click.echo(_trade_line(row))
    if not rows:
        click.echo("no trades")
    passed = sum(1 for row in decisions if row["outcome"] == "pass")
    click.echo(f"\n{len(decisions)} headlines decided, {passed} passed.")
    click.echo(f"notebook: {_shown(notebook)}\ndatabase: {_shown(database)}")
    return sum(1 for row in rows if row["state"] == "OPEN")


def _trade_line(row: Mapping[str, Any]) -> str:
    left, net = "still open", "-"
    if row["closed_ns"] is not None:
        left, net = _at(row["closed_ns"], row["exit_price"]), f"{row['net_usd']:.2f}"
    return (
        f"{row['symbol']:<7}{row['side']:<6}{row['shares']:>7g}"
        f"  {_at(row['opened_ns'], row['entry_price']):<21}{left:<21}"
        f"{row['exit_reason'] or '-':<14}{row['costs_usd']:>10.2f}{net:>10}"
    )


def _at(at_ns: int, price: float) -> str:
    return f"{utc(at_ns).astimezone(ZoneInfo(NEW_YORK)):%H:%M:%S} at {price:.2f}"


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    main()
