r"""The control channel: another program lets faults happen in a running gateway.

It shares the gateway's port: a connection that opens with `CTL\n` instead of `API\0` speaks JSON,
one object per line each way, and only from this machine. Commands:

    {"do": "inject", "fault": "1100", "with": {}, "for_s": 60}
    {"do": "inject", "fault": "tcp_reset", "after": {"event": "fill"}}   when, as in a scenario
    {"do": "plan", "fault": "2103", "rate_per_hour": 2, "seed": 7}       likewise, never now
    {"do": "end", "fault": "1100"}
    {"do": "status"}    {"do": "journal", "last": 20}
    {"do": "pause"}     {"do": "resume"}     {"do": "step", "seconds": 60}

Each is answered with {"ok": true, ...} or {"ok": false, "error": "one sentence"}.
"""

from __future__ import annotations

import ipaddress
import json
import math
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import SocketAttribute, SocketStream

from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import BrokerError, MomentumLabError, ParameterError
from momentum_lab.gateway.faults.base import nearest
from momentum_lab.gateway.faults.catalog import CATALOG
from momentum_lab.gateway.faults.scenario import entry_of

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub

PREFIX: Final = b"CTL\n"
_MAX_LINE_BYTES: Final = 1_000_000
_MAX_STEP_S: Final = 86_400.0
# What makes a fault happen at another time than now.
_PLANNED: Final = ("at", "after", "delay_s", "every_s", "rate_per_hour", "seed")
GONE: Final = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
Answer = Mapping[str, Any]


async def serve_control(hub: Hub, stream: SocketStream, first: bytes) -> None:
    """Answer commands until the other side closes."""
    async with stream:
        # A peer that has reset the connection already has no address any more.
        address = stream.extra(SocketAttribute.remote_address, ("",))  # noqa: S610 - not Django's
        if not is_loopback(str(address[0])):
            return
        buffer = bytearray(first)
        while True:
            while b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer = bytearray(rest)
                if line + b"\n" != PREFIX and not await _told(stream, _answered(hub, line)):
                    return
            if len(buffer) > _MAX_LINE_BYTES:
                return
            try:
                buffer += await stream.receive()
            except GONE:
                return


def is_loopback(host: str) -> bool:
    """Return whether an address, or the name of this machine for itself, is of this machine."""
    if host == "localhost":
        return True
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


async def _told(stream: SocketStream, answer: bytes) -> bool:
    """Send an answer; False where nobody waits for it any more."""
    try:
        await stream.send(answer)
    except GONE:
        return False
    return True


def ask(port: int, command: Mapping[str, Any], *, host: str = "127.0.0.1") -> Answer:
    """Send one command to a gateway on this machine and return its answer.

    Raises:
        BrokerError: nobody listens there, or it is no paper gateway.
        ParameterError: the gateway refuses the command; its sentence.
    """
    try:
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.sendall(PREFIX + json.dumps(command).encode() + b"\n")
            with connection.makefile("rb") as replies:
                answer = json.loads(replies.readline())
    except (OSError, ValueError) as error:
        raise BrokerError(f"no paper gateway answers on {host}:{port}: {error}") from error
    if not answer.get("ok"):
        raise ParameterError(str(answer.get("error")))
    return dict(answer)


def _answered(hub: Hub, line: bytes) -> bytes:
    try:
        answer = {"ok": True, **_do(hub, line)}
    except MomentumLabError as error:
        answer = {"ok": False, "error": str(error)}
    return json.dumps(answer, default=str).encode() + b"\n"


def _do(hub: Hub, line: bytes) -> Answer:
    try:
        command = json.loads(line)
        name = str(command["do"])
    # What nests deeper than the parser can follow is no command either.
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ParameterError('expected a JSON object such as {"do": "status"}') from error
    if name not in _COMMANDS:
        raise ParameterError(f"no command {name!r}{nearest(name, _COMMANDS)}")
    return _COMMANDS[name](hub, {key: value for key, value in command.items() if key != "do"})


def _inject(hub: Hub, command: Mapping[str, Any]) -> Answer:
    if any(key in command for key in _PLANNED):
        return _plan(hub, command)
    entry = entry_of(dict(command))
    fault = hub.faults.inject(entry.fault, entry.parameters, for_s=entry.for_s)
    return {"fault": fault.name, "market_time": hub.market.hours.text(hub.market.now_ns)}


def _plan(hub: Hub, command: Mapping[str, Any]) -> Answer:
    row = dict(command)
    seed = row.pop("seed", None)
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ParameterError(f"seed: expected a whole number, found {seed!r}")
    entry, now = entry_of(row), hub.market.hours.text(hub.market.now_ns)
    if not hub.faults.plan(entry, seed=seed):
        raise ParameterError(f"fault {entry.fault}: expected at from {now} on, found {entry.at}")
    return {"fault": entry.fault, "is_planned": True, "market_time": now}


def _end(hub: Hub, command: Mapping[str, Any]) -> Answer:
    name = str(command.get("fault"))
    if name not in CATALOG:
        raise ParameterError(f"no fault {name!r}{nearest(name, CATALOG)}")
    return {"ended": hub.faults.end(name)}


def _status(hub: Hub, _command: Mapping[str, Any]) -> Answer:
    return {
        "market_time": hub.market.hours.text(hub.market.now_ns),
        "now_ns": hub.market.now_ns,
        "is_paused": hub.is_paused,
        "clients": sorted(hub.sessions),
        "live_orders": len(hub.exchange.live_orders()),
        "faults": [fault.name for fault in hub.faults.active],
    }


def _journal(hub: Hub, command: Mapping[str, Any]) -> Answer:
    last = command.get("last", 20)
    if not isinstance(last, int):
        raise ParameterError(f"journal: expected last as a whole number, found {last!r}")
    return {"records": list(hub.journal.records)[-last:] if last > 0 else []}


def _pause(hub: Hub, _command: Mapping[str, Any]) -> Answer:
    hub.is_paused = True
    return _status(hub, {})


def _resume(hub: Hub, _command: Mapping[str, Any]) -> Answer:
    hub.is_paused = False
    return _status(hub, {})


def _step(hub: Hub, command: Mapping[str, Any]) -> Answer:
    seconds = command.get("seconds", 1)
    is_number = isinstance(seconds, (int, float)) and math.isfinite(seconds)
    if not is_number or not 0 < seconds <= _MAX_STEP_S:
        raise ParameterError(f"step: expected seconds in 0..{_MAX_STEP_S:g}, found {seconds!r}")
    for _ in hub.steps_to(hub.market.now_ns + round(seconds * NS_PER_S)):
        pass
    return _status(hub, {})


_COMMANDS: Final[Mapping[str, Callable[[Hub, Mapping[str, Any]], Answer]]] = {
    "inject": _inject,
    "plan": _plan,
    "end": _end,
    "status": _status,
    "journal": _journal,
    "pause": _pause,
    "resume": _resume,
    "step": _step,
}
