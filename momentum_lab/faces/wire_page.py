"""The page of the wire: every message of the paper gateway, made from its declaration."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from momentum_lab.gateway.wire import REPLIES, REQUESTS, kinds
from momentum_lab.gateway.wire.connection import (
    DISPUTED_VERSION,
    MAX_FRAME_BYTES,
    NEWEST_VERSION,
    OLDEST_VERSION,
)
from momentum_lab.gateway.wire.contracts import CONTRACT, CONTRACT_11, CONTRACT_PORTFOLIO
from momentum_lab.gateway.wire.layout import (
    FOREVER,
    REQUIRED,
    Block,
    Const,
    Field,
    Flagged,
    Group,
    Item,
    Listing,
    When,
    meaning_of,
)
from momentum_lab.gateway.wire.requests import NOT_SERVED
from momentum_lab.gateway.wire.table import Message, Table

_OLDEST, _NEWEST, _DISPUTED = OLDEST_VERSION, NEWEST_VERSION, DISPUTED_VERSION
_INTRODUCTION: Final = f"""\
The paper gateway speaks the socket protocol of TWS and IB Gateway. This page lists every message
that it knows, in both directions; it is made from the declarations that the gateway reads and
writes with, so it cannot say anything else than the gateway does.

## Frames

A connection opens with four bytes, `API` and a zero byte. Everything after them, both ways, is a
frame: the length of what follows as an unsigned 32-bit number, most significant byte first (1 to
{MAX_FRAME_BYTES:,}), then the fields of one message, each ended by a zero byte, the last one too.
The first field is the number of the message. A frame may arrive in any number of pieces, and many
frames in one.

The first frame of a client is different: it holds the versions that the client speaks, such as
`v157..176`, perhaps a blank and connect options, and no zero byte. The gateway answers with two
fields, the version from now on and its time. Then the client sends `startApi`, and hears
`managedAccounts`, `nextValidId` and notices about data farms.

## Versions

The gateway speaks {_OLDEST} to {_NEWEST}: the newest that the client offers, {_NEWEST} at most.
For {_DISPUTED} it takes {_OLDEST}, because client libraries disagree about orders at {_DISPUTED}.
A client without a common version is closed. Below, *from 166* means that earlier versions have no
such field, *before 177* that later ones have it no more.

## Values

| kind | on the wire |
| --- | --- |
| integer | digits, with a sign where negative; `10.0` is read as 10 |
| number | decimal digits; an exponent is read and never written |
| flag | `1` or `0`; `true`, `false` and nothing are read too |
| text | UTF-8 without zero bytes |
| plain text | 7-bit; other characters and backslashes are written as `\\uXXXX` |
| fixed | always the same, and not looked at when read: an old version of the message |

**Not set** is written as an empty field, and read from all that clients send for it: nothing,
`2147483647`, `9223372036854775807`, `170141183460469231731687303715884105727` and
`1.7976931348623157E308` with either case and sign of the exponent. *Or max* marks numbers whose
"not set" is written as `1.7976931348623157E308` because clients compare with it, *or infinite*
those that may be `Infinity`, *empty is 0* those where nothing and zero are the same.

In the tables, *must be given* are fields without which the gateway refuses to write a message;
the others say what is written then, and what is read at a version without the field. `name[]` are
repeated as often as the count before them says. Of a name that comes twice the last one counts."""

_KIND_NAMES: Final = (
    (kinds.INT, "integer"),
    (kinds.INT_OR_0, "integer, empty is 0"),
    (kinds.WHOLE, "whole number"),
    (kinds.NUMBER, "number"),
    (kinds.NUMBER_OR_0, "number, empty is 0"),
    (kinds.NUMBER_OR_INFINITY, "number or infinite"),
    (kinds.NUMBER_OR_MAX, "number or max"),
    (kinds.BOOL, "flag"),
    (kinds.TEXT, "text"),
    (kinds.ESCAPED, "plain text"),
)
_CONTRACTS: Final = (
    (CONTRACT, "contract of 12 fields"),
    (CONTRACT_11, "contract of 11 fields: without `primary_exchange`"),
    (CONTRACT_PORTFOLIO, "contract of 11 fields: `primary_exchange` in place of `exchange`"),
)
_HEAD: Final = ("| field | kind | if left out | when |", "| --- | --- | --- | --- |")
Row = tuple[str, str, str, str]


def wire_lines(made: str) -> Iterator[str]:
    """Yield the page line by line; `made` says how it came about."""
    yield from ("# The wire", "", made, "", *_INTRODUCTION.splitlines(), "")
    yield from ("## Contracts", "", "Where a message holds a contract, it is these fields:", "")
    yield from (*_HEAD, *_table(CONTRACT.items), "")
    yield from ("## Requests", "", f"What a client sends: {_index(REQUESTS)}.", "")
    for message in REQUESTS.messages.values():
        yield from _message(message)
    yield from _not_served()
    yield from ("## Replies", "", f"What the gateway sends: {_index(REPLIES)}.", "")
    for message in REPLIES.messages.values():
        yield from _message(message)


def _index(table: Table) -> str:
    names = sorted(table.messages.values(), key=lambda message: message.name.lower())
    return ", ".join(f"[{m.name}](#{m.number}-{m.name.lower()})" for m in names)


def _not_served() -> Iterator[str]:
    yield "### Refused"
    yield ""
    yield "These are known to exist, and answered with an error to the one who asked:"
    found = (f"`{asked.name}` ({number})" for number, asked in NOT_SERVED.items())
    yield f"{', '.join(found)}."
    yield ""


def _message(message: Message) -> Iterator[str]:
    yield f"### {message.number} {message.name}"
    yield ""
    if message.items:
        yield from (*_HEAD, *_table(message.items))
    else:
        yield "No fields."
    yield ""


def _table(items: Iterable[Item]) -> Iterator[str]:
    for same, rows in groupby(_rows(items, ""), key=lambda row: row[1:]):
        names = ", ".join(row[0] for row in rows)
        yield f"| {' | '.join((names, *same))} |"


def _rows(items: Iterable[Item], prefix: str) -> Iterator[Row]:
    """Yield one row for each field; what nests has its name in front."""
    for item in _joined(items):
        if isinstance(item, Field):
            yield _field(item, prefix)
        elif isinstance(item, tuple):
            yield _changed(*item, prefix)
        elif isinstance(item, Const):
            yield f"`{item.text}`" if item.text else "(nothing)", "fixed", "", _span(0, item.until)
        else:
            yield from _nested(item, prefix)


def _nested(item: Item, prefix: str) -> Iterator[Row]:
    if isinstance(item, Block):
        name = next((text for block, text in _CONTRACTS if block == item), "")
        yield f"`{prefix}{item.name}`", name, "", ""
    elif isinstance(item, Group):
        yield f"number of `{prefix}{item.name}`", "integer", "`0`", ""
        yield from _rows(item.items, f"{prefix}{item.name}[].")
    elif isinstance(item, Listing):
        yield f"number of `{prefix}{item.name}`", "integer", "`0`", ""
        yield f"`{prefix}{item.name}[]`", _kind(item.kind), "", ""
    elif isinstance(item, Flagged):
        yield f"whether `{prefix}{item.name}` follows", "flag", "`0`", ""
        yield from _only_if("it does", _rows(item.items, f"{prefix}{item.name}."))
    elif isinstance(item, When):
        rows = _since(item.since, _rows(item.items, prefix))
        meaning = meaning_of(item.condition)
        yield from _only_if(meaning, rows) if meaning else rows


def _only_if(meaning: str, rows: Iterable[Row]) -> Iterator[Row]:
    for name, kind, default, versions in rows:
        others = f"; {versions}" if versions else ""
        yield name, kind, default, f"only if {meaning}{others}"


def _since(version: int, rows: Iterable[Row]) -> Iterator[Row]:
    for name, kind, default, versions in rows:
        yield name, kind, default, versions or _span(version, FOREVER)


def _joined(items: Iterable[Item]) -> Iterator[Item | tuple[Field, Field]]:
    """Yield the items; two fields of one name of which the second follows the first as a pair."""
    waiting: Item | None = None
    for item in items:
        if isinstance(waiting, Field) and isinstance(item, Field) and _follows(item, waiting):
            yield waiting, item
            waiting = None
            continue
        if waiting is not None:
            yield waiting
        waiting = item
    if waiting is not None:
        yield waiting


def _follows(later: Field, earlier: Field) -> bool:
    return later.name == earlier.name and later.since == earlier.until


def _field(field: Field, prefix: str) -> Row:
    return (
        f"`{prefix}{field.name}`",
        _kind(field.kind),
        _default(field),
        _span(field.since, field.until),
    )


def _changed(earlier: Field, later: Field, prefix: str) -> Row:
    kind = f"{_kind(earlier.kind)} before {later.since}, then {_kind(later.kind)}"
    return f"`{prefix}{later.name}`", kind, _default(later), _span(earlier.since, later.until)


def _kind(kind: kinds.Kind) -> str:
    named = (name for known, name in _KIND_NAMES if known is kind)
    return next(named, kind.meaning)


def _default(field: Field) -> str:
    if field.default is REQUIRED:
        return "must be given"
    text = field.kind.write(field.default)
    return f"`{text}`" if text else "empty"


def _span(since: int, until: int) -> str:
    first = f"from {since}" if since > OLDEST_VERSION else ""
    last = f"before {until}" if until < FOREVER else ""
    return ", ".join(filter(None, (first, last)))
