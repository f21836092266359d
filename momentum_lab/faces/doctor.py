"""`momentum-lab doctor`: what would keep a session from trading, one line each, and the cure.

Nothing is traded and nothing is left behind. A line is printed as soon as it is known.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import anyio
import click

from momentum_lab.errors import ParameterError, RecordError
from momentum_lab.faces.one_sentence import FAILED_EXIT, one_sentence
from momentum_lab.live.finding import Finding, Verdict, failure, fine, skipped, warning
from momentum_lab.parameters import Parameters, load_parameters, refuse_live

OnFinding = Callable[[Finding], None]

_LARGEST_CLIENT_ID = 999
_MARK_WIDTH, _NAME_WIDTH = 9, 14
_LEAST_COLUMNS, _MOST_COLUMNS = 60, 110
_MARKS = {
    Verdict.OK: ("ok", "green"),
    Verdict.WARNING: ("warning", "yellow"),
    Verdict.FAILURE: ("FAILURE", "red"),
    Verdict.SKIPPED: ("skipped", None),
}
_CLOCK_NOTE = (
    "The last check subscribes to quotes: a paper gateway that waits for its first subscription"
    " starts its clock with it. --no-quotes leaves it out."
)


@click.command()
@click.option(
    "--parameters",
    "parameters_file",
    type=click.Path(path_type=Path),
    required=True,
    help="Parameter file of the session that is planned.",
)
@click.option(
    "--client-id",
    type=click.IntRange(1, _LARGEST_CLIENT_ID),
    help="Of the examination; by default 900 above that of the session.",
)
@click.option("--no-quotes", is_flag=True, help="Subscribe to nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON in the end.")
@one_sentence
def doctor(parameters_file: Path, client_id: int | None, *, no_quotes: bool, as_json: bool) -> None:
    """Look for what would keep a session from trading; exit code 1 if there is something."""
    say: OnFinding = _hold if as_json else _print
    if not as_json:
        click.echo(f"Examination of {parameters_file}\n")
    findings = run_doctor(
        parameters_file, client_id=client_id, with_quotes=not no_quotes, on_finding=say
    )
    n_failures = sum(item.verdict is Verdict.FAILURE for item in findings)
    if as_json:
        rows = [{**asdict(item), "verdict": item.verdict.value} for item in findings]
        document = {"parameters": str(parameters_file), "failures": n_failures, "findings": rows}
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        click.echo(f"\n{_summary(findings)}")
    if n_failures:
        sys.exit(FAILED_EXIT)


def run_doctor(
    parameters_file: Path,
    *,
    client_id: int | None = None,
    with_quotes: bool = True,
    on_finding: OnFinding,
) -> Sequence[Finding]:
    """Examine machine, parameter file and gateway; return all findings.

    Args:
        parameters_file: of the session that is planned.
        client_id: of the examination; made from the session's when None.
        with_quotes: subscribe to quotes in the end.
        on_finding: hears each finding as soon as it is made.

    Raises:
        ParameterError: the client id is the session's own.
    """
    # The broker's library and Jupyter take their time to load.
    from momentum_lab.faces.machine import examine_machine  # noqa: PLC0415
    from momentum_lab.live.ibkr.examine import examine  # noqa: PLC0415

    found: list[Finding] = []

    def note(finding: Finding) -> None:
        found.append(finding)
        on_finding(finding)

    parameters = _load(parameters_file, note)
    if parameters is not None and client_id == parameters.connection.client_id:
        raise ParameterError(
            f"--client-id: expected another id than the session's, found {client_id}"
        )
    for finding in examine_machine(_folders(parameters)):
        note(finding)
    if parameters is not None:
        note(_examine_control(parameters))
    has_loop = any((item.check, item.verdict) == ("event loop", Verdict.FAILURE) for item in found)
    if parameters is None or has_loop:
        note(skipped("gateway", f"needs the {'event loop' if has_loop else 'parameters'}"))
        return found
    _silence_library()
    if with_quotes and parameters.mode == "replay" and on_finding is _print:
        click.echo("\n".join(_lines(_CLOCK_NOTE)))
    anyio.run(
        partial(examine, parameters, client_id=client_id, with_quotes=with_quotes, on_finding=note)
    )
    return found


def _load(parameters_file: Path, note: OnFinding) -> Parameters | None:
    try:
        parameters = load_parameters(parameters_file)
    except ParameterError as error:
        note(
            failure(
                "parameters",
                str(error),
                "Correct the file; docs/parameters.md has every key with its range.",
            )
        )
        return None
    try:
        refuse_live(parameters)
    except ParameterError as error:
        note(
            failure(
                "parameters",
                str(error),
                "Set mode: paper, or write down what is meant; the rest is examined all the same.",
            )
        )
        return parameters
    note(fine("parameters", f"mode {parameters.mode}, hash {parameters.params_hash}"))
    return parameters


def _examine_control(parameters: Parameters) -> Finding:
    """Whether a session uses the store already, and whether a person has halted entries."""
    from momentum_lab.faces.control_commands import answers  # noqa: PLC0415 - as in run_doctor
    from momentum_lab.records.control import CommandKind, Control, control_path  # noqa: PLC0415

    path = control_path(_root() / parameters.records.database)
    if not path.is_file():
        return fine("control", "no session has run on this store")
    try:
        control = Control(path, patience_s=1.0)
        try:
            session, standing = control.last_session(), control.standing()
        finally:
            control.close()
    except RecordError as error:
        return failure("control", str(error), f"Delete {path.name}: it is made again.")
    if session is not None and answers(session):
        return warning(
            "control",
            f"run {session.run_id} uses this store now, pid {session.process.pid}",
            "A second session is refused: 'momentum-lab stop' ends the first.",
        )
    braked = [str(told) for told in standing if told.kind is not CommandKind.RESUME]
    if braked:
        return warning(
            "control",
            f"a session would enter nothing: {'; '.join(braked)}",
            "momentum-lab resume lets it enter again.",
        )
    return fine("control", "no session uses this store, none is halted by hand")


def _root() -> Path:
    from momentum_lab.faces.runner import project_root  # noqa: PLC0415 - as in run_doctor

    try:
        return project_root()
    except ParameterError:
        return Path.cwd()


def _folders(parameters: Parameters | None) -> tuple[Path, ...]:
    """Return the folders of the record, as a session would find them."""
    if parameters is None:
        return ()
    root, records = _root(), parameters.records
    return (root / records.database).parent, root / records.runs


def _silence_library() -> None:
    """Keep the library's own lines off the screen: each is a finding here."""
    library = logging.getLogger("ib_insync")
    if not library.handlers:
        library.addHandler(logging.NullHandler())
        library.propagate = False


def _hold(_finding: Finding) -> None:
    """Say nothing yet."""


def _print(finding: Finding) -> None:
    word, color = _MARKS[finding.verdict]
    mark = click.style(f"{word:<{_MARK_WIDTH}}", fg=color, bold=finding.verdict is Verdict.FAILURE)
    indent = _MARK_WIDTH + _NAME_WIDTH
    first, *rest = _lines(finding.found, indent)
    # A terminal gets colors, a file or a pipe none.
    click.echo(f"{mark}{finding.check:<{_NAME_WIDTH}}{first}")
    for line in rest + (_lines(f"-> {finding.cure}", indent) if finding.cure else []):
        click.echo(f"{'':<{indent}}{line}")


def _lines(text: str, indent: int = 0) -> list[str]:
    words = " ".join(text.split())
    # Paths and options stay in one piece.
    return textwrap.wrap(
        words, _columns() - indent, break_long_words=False, break_on_hyphens=False
    ) or [""]


def _columns() -> int:
    return max(_LEAST_COLUMNS, min(shutil.get_terminal_size().columns, _MOST_COLUMNS))


def _summary(findings: Sequence[Finding]) -> str:
    counts = dict.fromkeys(Verdict, 0)
    for item in findings:
        counts[item.verdict] += 1
    warnings = _counted(counts[Verdict.WARNING], "warning")
    failures = _counted(counts[Verdict.FAILURE], "failure")
    return f"{counts[Verdict.OK]} ok, {warnings}, {failures}, {counts[Verdict.SKIPPED]} skipped."


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
