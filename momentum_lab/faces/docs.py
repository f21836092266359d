"""Writes what is made from the code in `docs/`: parameters, states, faults, codes, wire.

Also the table of differences inside the page about orders, of which the rest is written by hand.

Run:  python -m momentum_lab.faces.docs
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TypeVar

from momentum_lab.core.connection import CONNECTION_TABLE, IMPOSSIBLE, ConnectionState
from momentum_lab.core.order import ORDER_TABLE, OrderState
from momentum_lab.core.risk_state import RISK_TABLE, RiskState
from momentum_lab.core.tunable import tunables_of
from momentum_lab.faces.wire_page import wire_lines
from momentum_lab.gateway.faults.base import Fault
from momentum_lab.gateway.faults.catalog import CATALOG
from momentum_lab.live.ibkr.codes import CODES
from momentum_lab.live.reconcile import Difference, DifferenceKind
from momentum_lab.parameters import Parameters

_MADE = "<!-- made by `python -m momentum_lab.faces.docs`; do not edit -->"
_NO_UNIVERSE = ("ANY",)
_ORDERS_PAGE = "orders.md"
_FOUND = {
    DifferenceKind.MISSED_EXECUTION: "an execution of an order of ours that was not booked",
    DifferenceKind.ORDER_ENDED: "an order that we thought open has ended",
    DifferenceKind.ORDER_ABSENT: "an order that the broker does not know",
    DifferenceKind.ORDER_REVIVED: "an order that we thought ended is open",
    DifferenceKind.UNKNOWN_ORDER: "an open order with a reference of ours, not in this record",
    DifferenceKind.CLOSED_ELSEWHERE: "the broker holds less of a position of ours, or none of it",
    DifferenceKind.FOREIGN_POSITION: "a position in a symbol of which we hold nothing",
    DifferenceKind.UNEXPLAINED_POSITION: "any other number of shares than our fills make",
    DifferenceKind.CASH_DIFFERS: "the account's cash has changed by more than our fills make",
}
S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


def pages() -> dict[str, str]:
    """Return file name -> text of every generated page."""
    return {
        "parameters.md": parameters_page(),
        "states.md": states_page(),
        "faults.md": faults_page(),
        "wire.md": wire_page(),
        "codes.md": codes_page(),
    }


def wire_page() -> str:
    """Return the page of every message of the paper gateway's protocol."""
    return "\n".join(wire_lines(_MADE))


def codes_page() -> str:
    """Return the page of the broker's message codes and of what is done about each."""
    rows = sorted(CODES.items())
    lines = [
        "# Message codes of the broker",
        "",
        _MADE,
        "",
        "The broker words errors, warnings and plain notes alike: a number, a text, and the id of",
        "the request or order that it belongs to. The number decides; texts may be translated.",
        "A code that is not listed is recorded, once for each connection as an incident, and never",
        "ends anything. Codes 2100 to 2199 that are not listed are remarks of the gateway.",
        "",
        "| code | severity | meaning | what the connector does |",
        "|---:|---|---|---|",
        *(
            f"| {number} | {code.severity.value} | {code.meaning} | {code.reaction.value} |"
            for number, code in rows
        ),
        "",
    ]
    return "\n".join(lines)


def faults_page() -> str:
    """Return the page of everything that can go wrong at the paper gateway."""
    lines = [
        "# Faults of the paper gateway",
        "",
        _MADE,
        "",
        "Each fault happens by its name: at a market time, after an event or drawn from a seed in",
        "a scenario file (`momentum-lab gateway --scenario FILE`), from another program",
        "(`momentum-lab gateway inject NAME --set key=value --for SECONDS`, later with `--at`,",
        "`--after` or `--rate`), or from Python",
        '(`gateway.inject("NAME", {"key": value}, for_s=60)`). All times are market time. A',
        "fault that lasts goes on until its time is over or `momentum-lab gateway end NAME` puts",
        "it right. What is planned may wait (`delay_s`, `--delay`) after its time or event, come",
        "again (`every_s`, `--every`), and wait for the third event (`count`, `--count`). A plan",
        "has one of `at`, `after` and `rate_per_hour`; chance is drawn from the seed (`--seed`).",
        "",
        "The gateway's journal (`--journal FILE`) tells when each began and ended, beside every",
        "connection, request, status and fill: it is the truth that a client's view can be",
        "compared with. A fault that fails itself is over, and the gateway goes on: `fault fails`.",
        "",
        "```yaml",
        "seed: 7",
        "faults:",
        '  - fault: "1100"',
        "    at: 2013-10-09T14:00:31          # in the tape's zone",
        "    for_s: 120",
        "  - fault: execution_correction",
        "    after: {event: fill, count: 3}   # connect, subscribe, headline, halt, order, fill,",
        "                                     # request:NAME",
        "  - fault: tcp_reset",
        "    rate_per_hour: 2                 # drawn from the seed",
        "  - fault: late_status",
        "    at: 2013-10-09T10:00:00",
        "    every_s: 600",
        "    for_s: 30",
        "    with: {delay_s: 4}",
        "```",
        "",
        "A fault strikes all clients, or one alone: `client_id` = its id. Of one client cannot be",
        f"{_enumerated(kind.name for kind in CATALOG.values() if kind.strikes_all)}.",
        "",
        "A client that connects while `1100`, `nightly_reset`, `2103` or `2105` goes on is greeted",
        "with what is away, not with farms that are there.",
        "",
        "Once a fault that swallows quotes is over, each line tells how things stand: the quote",
        "whether it has changed or not, the last trade if it came in between. What was said tick",
        "by tick and in bars meanwhile is lost. A snapshot whose ticks are swallowed ends after",
        "eleven seconds, empty.",
        "",
        "| fault | lasts | what happens | parameters |",
        "|---|---|---|---|",
        *(_fault_row(kind) for kind in CATALOG.values()),
        "",
    ]
    return "\n".join(lines)


def _enumerated(names: Iterable[str]) -> str:
    *others, last = (f"`{name}`" for name in names)
    return f"{', '.join(others)} and {last}" if others else last


def fault_lines() -> Iterator[str]:
    """Yield the same as lines of plain text, for the command line."""
    for kind in CATALOG.values():
        yield f"{kind.name:<22} {_meaning(kind)}"
        for name, text in _fault_parameters(kind):
            yield f"{'':<22}   {name} = {text}"


def _fault_row(kind: type[Fault]) -> str:
    told = "; ".join(f"`{name}` = {text}" for name, text in _fault_parameters(kind))
    lasts = "a moment" if kind.is_instant else "until ended"
    return f"| `{kind.name}` | {lasts} | {_meaning(kind)} | {told} |"


def _meaning(kind: type[Fault]) -> str:
    return " ".join((kind.__doc__ or "").split())


def _fault_parameters(kind: type[Fault]) -> Iterator[tuple[str, str]]:
    declared = tunables_of(kind)
    for field in dataclasses.fields(kind):
        if not field.init or field.name == "client_id":
            continue
        about = declared.get(field.name)
        if about is None:
            yield field.name, f"{field.default or 'nothing'}: {field.metadata['meaning']}"
        else:
            span = f"{about.low:.10g} to {about.high:.10g}"
            yield field.name, f"{about.default:.10g} {about.unit} ({span}): {about.meaning}"


def parameters_page() -> str:
    """Return the page of every key a parameter file may hold."""
    return "\n".join([*_parameter_lines(), ""])


def states_page() -> str:
    """Return the page of the life cycles, each as a diagram and as a table."""
    lines = [
        "# Life cycles",
        "",
        _MADE,
        "",
        "Each life cycle is one table in the code; a step that is not in it raises an error.",
        "",
        "## Connection",
        "",
        "Entries are sent in `OPERATIONAL` alone; exits there, and in `SYNCHRONIZING` once record",
        "and broker have been reconciled.",
        "",
        *_diagram(CONNECTION_TABLE, start=ConnectionState.DISCONNECTED),
        "",
        "What is not drawn either leaves the state as it is or cannot happen, and raises:",
        "",
        "| in | event | why it cannot happen |",
        "|---|---|---|",
        *(
            f"| `{state.name}` | {event.value} | {why} |"
            for (state, event), why in IMPOSSIBLE.items()
        ),
        "",
        "## Order",
        "",
        "An execution is counted in whatever state the order was believed to be. `FILLED`,",
        "`CANCELLED`, `REJECTED` and `ABSENT` are final: later reports other than executions leave",
        "them as they are, and are left out of the picture. What was executed in part is never",
        "`WORKING` or `REJECTED`: it is `PARTIAL`, and `CANCELLED` once the rest is refused.",
        "",
        *_diagram(ORDER_TABLE, start=OrderState.INTENT),
        "",
        "## Brake of the account",
        "",
        "Entries are allowed in `ACTIVE` alone, exits and protective orders in every state.",
        "`REDUCING` ends with the day or by hand. `HALTED` outlives a restart and the day, and",
        "ends by hand alone. A weaker brake never loosens a stronger one.",
        "",
        *_diagram(RISK_TABLE, start=RiskState.ACTIVE),
        "",
    ]
    return "\n".join(lines)


def differences_table() -> str:
    """Return the table of what broker and record may disagree about, and what is done then."""
    rows = []
    for kind in DifferenceKind:
        found = Difference(kind, 0, 0.0, 0.0)
        blocks = "yes" if found.blocks else ""
        rows.append(f"| `{kind.value}` | {_FOUND[kind]} | {found.action} | {blocks} |")
    head = ("| class | what is found | what is done | blocks the symbol |", "|---|---|---|---|")
    return "\n".join([_MADE, "", *head, *rows])


def main(folder: Path = Path("docs")) -> None:
    """Write the pages, and the table inside the page about orders."""
    folder.mkdir(exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
    page = folder / _ORDERS_PAGE
    if page.is_file():
        before, _, rest = page.read_text(encoding="utf-8").partition(_MADE)
        _, _, after = rest.partition("|\n\n")
        page.write_text(f"{before}{differences_table()}\n\n{after}", encoding="utf-8")


def _parameter_lines() -> Iterator[str]:
    yield from (
        "# Parameters",
        "",
        _MADE,
        "",
        "A parameter file is YAML: a mapping of sections. A key that is left out takes its",
        "default. An unknown key, a wrong type or a value out of range stops the program before",
        "anything connects. `momentum-lab check FILE` prints the effective set.",
        "",
        "`mode: live` trades real money. It is refused unless five things agree: `account` names",
        "a live account, `real_money.accepted_for` names it again, `connection.port` is 7496 or",
        "4001, the gateway is logged in to that account, and it is no paper account.",
        "",
        "`mode: shadow` decides at a paper or live login as if it traded, up to the number of",
        "shares, and sends nothing. Its decisions have the outcome `shadow` in place of `enter`.",
        "",
        "## Top level",
        "",
        "| key | default | meaning |",
        "| --- | --- | --- |",
        "| `mode` | `paper` | `replay` (a gateway on this machine), `paper`, `shadow`, `live` |",
        "| `account` | empty | the account; empty takes the login's only one |",
        "| `strategy` | `candle-shock` | name in the record |",
        "| `universe` | none | symbols that may be traded; at least one |",
    )
    sections = Parameters(universe=_NO_UNIVERSE)
    for section in dataclasses.fields(Parameters):
        value = getattr(sections, section.name)
        if dataclasses.is_dataclass(value):
            yield from _section_lines(section.name, value)


def _section_lines(name: str, value: object) -> Iterator[str]:
    declared = tunables_of(type(value))
    summary = (type(value).__doc__ or "").splitlines()[0]
    yield from ("", f"## `{name}`", "", summary, "")
    yield from ("| key | default | unit | range | meaning |", "| --- | --- | --- | --- | --- |")
    for field in dataclasses.fields(value):  # type: ignore[arg-type]  # checked by the caller
        default = getattr(value, field.name)
        found = declared.get(field.name)
        if found is None:
            plain = f"`{_plain(default)}`" if default != "" else "empty"
            yield f"| `{field.name}` | {plain} | | | {field.metadata['meaning']} |"
        else:
            span = f"{found.low:.10g} to {found.high:.10g}"
            yield f"| `{field.name}` | {default:.10g} | {found.unit} | {span} | {found.meaning} |"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _diagram(table: Mapping[tuple[S, E], S], *, start: S) -> list[str]:
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, event), follower in table.items():
        if state is not follower:
            arrows.setdefault((state.name, follower.name), []).append(str(event.value))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {start.name}"]
    lines += [
        f"    {state} --> {follower}: {' / '.join(events)}"
        for (state, follower), events in arrows.items()
    ]
    return [*lines, "```"]


if __name__ == "__main__":
    main()
