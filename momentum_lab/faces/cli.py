"""The command line: demo, gateway, live, check, doctor, and what a session is told.

Every error that the package raises on purpose ends as one sentence on the standard error and
exit code 2; a session that failed ends with 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar
from zoneinfo import ZoneInfo

import click

from momentum_lab.calendars import NEW_YORK
from momentum_lab.clock import utc
from momentum_lab.errors import BrokerError, ParameterError, RecordError
from momentum_lab.faces import control_commands
from momentum_lab.faces.doctor import doctor
from momentum_lab.faces.gateway_commands import gateway
from momentum_lab.faces.one_sentence import FAILED_EXIT, one_sentence
from momentum_lab.faces.trades_command import trades
from momentum_lab.parameters import Parameters, load_parameters

if TYPE_CHECKING:
    pass

P = ParamSpec("P")
T = TypeVar("T")

_GATEWAY_STOP_S = 10.0
_GATEWAY_LOOK_S = 0.1
_GATEWAY_START_LOOKS = 300
_LISTENING = re.compile(r"listening on \S+:(\d+)")
_DEMO_PARAMETERS = Path("parameters", "demo.yaml")
_DEMO_TAPE = Path("data", "samples", "fomc-2013-10-09")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("momentum-lab"), prog_name="momentum-lab")
def main() -> None:
    """Trade news-driven momentum at Interactive Brokers: research to live, paper by default."""


main.add_command(gateway)
main.add_command(doctor)
main.add_command(control_commands.stop)
main.add_command(control_commands.flatten)
main.add_command(control_commands.halt)
main.add_command(control_commands.reduce)
main.add_command(control_commands.resume)
main.add_command(control_commands.status)
main.add_command(trades)


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
@one_sentence
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
        sys.exit(FAILED_EXIT)


@main.command()
@click.argument("parameters_file", type=click.Path(path_type=Path))
@click.option("--run-id", default="", help="Name of the run; made of the time when left out.")
@one_sentence
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
@one_sentence
def check(parameters_file: Path) -> None:
    """Check PARAMETERS_FILE and print the effective set with units; nothing connects."""
    parameters = load_parameters(parameters_file)
    for key, value, unit in effective(parameters):
        click.echo(f"{key:<32} {value} {unit}".rstrip())
    click.echo(f"params_hash                      {parameters.params_hash}")


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
    shadowed = sum(1 for row in decisions if row["outcome"] == "shadow")
    more = f", {shadowed} would have traded (mode shadow sends nothing)" if shadowed else ""
    click.echo(f"\n{len(decisions)} headlines decided, {passed} passed{more}.")
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
