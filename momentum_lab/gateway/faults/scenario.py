"""A scenario: which fault happens when, and for how long.

    seed: 7
    faults:
      - fault: "1100"
        at: 2013-10-09T14:00:31          # market time, in the tape's zone
        for_s: 120
      - fault: execution_correction
        after: {event: fill, count: 3}   # after the third fill
        delay_s: 2
      - fault: tcp_reset
        rate_per_hour: 2                 # drawn from the seed
      - fault: late_status
        at: 2013-10-09T10:00:00
        every_s: 600
        for_s: 30
        with: {delay_s: 4}

Everything is in market time, so that the same tape, scenario and client give the same run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from momentum_lab.calendars import find_zone
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import ParameterError
from momentum_lab.gateway.faults.base import nearest
from momentum_lab.gateway.faults.catalog import make_fault
from momentum_lab.gateway.wire import REQUESTS

EVENTS = ("connect", "subscribe", "headline", "halt", "order", "fill")
_REQUEST = "request"
_ENTRY_KEYS = (*("fault", "with", "at", "after", "delay_s", "for_s", "every_s", "rate_per_hour"),)
_AFTER_KEYS = ("event", "count")
_HOUR_S = 3600.0
# Seconds and rates beyond this mean nothing on any tape, and overflow nanoseconds.
_MOST = 1e8
_SHORTEST_S = 0.001


@dataclass(frozen=True)
class Entry:
    """One line of a scenario.

    Attributes:
        fault: name in the catalog.
        parameters: its parameters.
        at: local date and time of the tape, None for another trigger.
        event: what it waits for, "" for nothing; "request:NAME" for a request of that name.
        count: after so many of these events.
        delay_s: market time between trigger and beginning.
        for_s: how long it lasts, endless when infinite.
        every_s: it begins again after so long, 0 for once.
        rate_per_hour: mean number of beginnings in an hour of market time, drawn from the seed.
    """

    fault: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    event: str = ""
    count: int = 1
    delay_s: float = 0.0
    for_s: float = math.inf
    every_s: float = 0.0
    rate_per_hour: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot happen, before anything starts.

        Raises:
            ParameterError: says what was expected and found.
        """
        make_fault(self.fault, self.parameters)
        n_triggers = sum((self.at is not None, bool(self.event), self.rate_per_hour > 0))
        if n_triggers > 1:
            raise ParameterError(
                f"fault {self.fault}: expected one of at, after and rate_per_hour,"
                f" found {n_triggers}"
            )
        if self.rate_per_hour and (self.delay_s or self.every_s):
            raise ParameterError(
                f"fault {self.fault}: expected neither delay_s nor every_s beside rate_per_hour,"
                f" found delay_s {self.delay_s:g} and every_s {self.every_s:g}"
            )
        for name in ("delay_s", "every_s", "rate_per_hour"):
            value = getattr(self, name)
            if not 0 <= value <= _MOST:
                raise ParameterError(
                    f"fault {self.fault}: expected {name} in 0..{_MOST:g}, found {value}"
                )
        # A repetition that moves no time would never let go of its instant.
        if 0 < self.every_s < _SHORTEST_S:
            raise ParameterError(
                f"fault {self.fault}: expected every_s >= {_SHORTEST_S}, found {self.every_s}"
            )
        if not (0 < self.for_s <= _MOST or self.for_s == math.inf):
            raise ParameterError(
                f"fault {self.fault}: expected for_s > 0 and at most {_MOST:g}, found {self.for_s}"
            )
        _check_event(self.event, f"fault {self.fault}")
        if self.count < 1:
            raise ParameterError(f"fault {self.fault}: expected count >= 1, found {self.count}")

    def instants(self, start_ns: int, zone: str) -> Iterator[int]:
        """Yield the market times at which it begins, in order; none that have passed already.

        Args:
            start_ns: where the replay starts, or when its event came.
            zone: the tape's zone.
        """
        at_ns = start_ns if self.at is None else _instant(self.at, zone)
        at_ns += round(self.delay_s * NS_PER_S)
        every_ns = round(self.every_s * NS_PER_S)
        if at_ns < start_ns and every_ns:
            at_ns += -((at_ns - start_ns) // every_ns) * every_ns
        if at_ns < start_ns:
            return
        yield at_ns
        while every_ns:
            at_ns += every_ns
            yield at_ns

    def draws(self, start_ns: int, rng: random.Random) -> Iterator[int]:
        """Yield the market times that its rate makes of chance, without end.

        Args:
            start_ns: where the replay starts.
            rng: of this entry alone, so that entries do not change each other's times.
        """
        at_s = start_ns / NS_PER_S
        while True:
            at_s += rng.expovariate(self.rate_per_hour / _HOUR_S)
            yield round(at_s * NS_PER_S)


def _check_event(event: str, where: str) -> None:
    kind, colon, request = event.partition(":")
    if kind == _REQUEST and colon:
        if request not in REQUESTS.messages:
            hint = nearest(request, REQUESTS.messages)
            raise ParameterError(f"{where}: no request {request!r} to wait for{hint}")
    elif event and event not in EVENTS:
        known = (*EVENTS, f"{_REQUEST}:NAME")
        raise ParameterError(f"{where}: no event {event!r}{nearest(event, known)}")


@dataclass(frozen=True)
class Scenario:
    """What goes wrong in a replay.

    Attributes:
        entries: its lines.
        seed: of everything that is drawn.
    """

    entries: tuple[Entry, ...] = ()
    seed: int = 0


def load_scenario(path: Path) -> Scenario:
    """Read a scenario file.

    Raises:
        ParameterError: unreadable, or it names what does not exist; says where.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise ParameterError(f"scenario {path}: not readable: {words}") from error
    if not isinstance(content, dict):
        raise ParameterError(f"scenario {path}: expected a mapping, found {content!r}")
    for key in content:
        if key not in ("seed", "faults"):
            raise ParameterError(
                f"scenario {path}: no key {key!r}{nearest(key, ('seed', 'faults'))}"
            )
    rows, seed = content.get("faults") or [], content.get("seed", 0)
    if not isinstance(rows, list) or not isinstance(seed, int):
        raise ParameterError(f"scenario {path}: expected faults as a list and seed as a number")
    entries = (_numbered(row, f"scenario {path}: entry {n}") for n, row in enumerate(rows, start=1))
    return Scenario(tuple(entries), seed)


def _numbered(row: object, where: str) -> Entry:
    try:
        return entry_of(row)
    except ParameterError as error:
        raise ParameterError(f"{where}: {error}") from error


def entry_of(row: object) -> Entry:
    """Return one entry from plain values, as a scenario file or the control channel has them.

    Raises:
        ParameterError: says what was expected and found.
    """
    if not isinstance(row, dict) or "fault" not in row:
        raise ParameterError(f"expected a mapping with a fault, found {row!r}")
    for key in row:
        if key not in _ENTRY_KEYS:
            raise ParameterError(f"no key {key!r}{nearest(key, _ENTRY_KEYS)}")
    values: dict[str, Any] = {"fault": str(row["fault"]), "parameters": _mapping(row, "with")}
    values |= _trigger(row)
    for name in ("delay_s", "for_s", "every_s", "rate_per_hour"):
        if name in row:
            values[name] = _number(row[name], name)
    return Entry(**values)


def _trigger(row: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "at" in row:
        values["at"] = _datetime(row["at"])
    if "after" in row:
        values |= _after(_mapping(row, "after"))
    if row.get("rate_per_hour") == 0:
        raise ParameterError("rate_per_hour: expected more than 0, found 0")
    return values


def _after(found: Mapping[str, Any]) -> dict[str, Any]:
    for key in found:
        if key not in _AFTER_KEYS:
            raise ParameterError(f"after: no key {key!r}{nearest(key, _AFTER_KEYS)}")
    if not found.get("event"):
        raise ParameterError(f"after: expected an event, found {dict(found)!r}")
    count = found.get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int):
        raise ParameterError(f"after.count: expected a whole number, found {count!r}")
    return {"event": str(found["event"]), "count": count}


def _mapping(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = row.get(key) or {}
    if not isinstance(found, dict):
        raise ParameterError(f"{key}: expected a mapping, found {found!r}")
    return found


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ParameterError(f"{name}: expected a number, found {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ParameterError(f"{name}: expected a finite number, found {value!r}") from error


def _datetime(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        raise ParameterError(
            f"at: expected a date and time such as 2013-10-09T14:00:31, found {value!r}"
        ) from None


def _instant(at: datetime, zone: str) -> int:
    local = at if at.tzinfo is not None else at.replace(tzinfo=find_zone(zone))
    # Floats of seconds since 1970 are coarser than a microsecond.
    return round(local.replace(microsecond=0).timestamp()) * NS_PER_S + local.microsecond * 1000
