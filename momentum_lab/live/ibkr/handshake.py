"""One connection that is opened to be looked at: how far it came, and what was said on it.

A session only has to know that it is not connected; here the stages are told apart. The library
keeps neither the zone that a gateway names in its greeting nor the errors that belong to no
request, so both are noted here. Nothing is asked for on the way: the library's own `connectAsync`
would ask for orders and subscribe to account values.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from enum import Enum

import anyio
import ib_insync

from momentum_lab.live.ibkr.codes import CLIENT_ID_TAKEN

_LENGTH_BYTES = 4
# A greeting is some forty bytes; the first bytes of another protocol read as a length of millions.
_LONGEST_GREETING = 1000
_GREETING_FIELDS = 2
_INVALID_REQUEST = 321


class Stage(str, Enum):
    """How far an attempt to connect came."""

    UNREACHABLE = "unreachable"
    SILENT = "silent"
    CLOSED = "closed"
    STRANGE = "strange"
    UNFINISHED = "unfinished"
    CLIENT_ID_TAKEN = "client id taken"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class Heard:
    """An error or a notice of the broker.

    Attributes:
        request: the request it belongs to, -1 for none.
        code: the broker's number.
        text: the broker's words.
    """

    request: int
    code: int
    text: str


class Visit:
    """A connection of its own, with everything that was said on it.

    Attributes:
        ib: the library's object.
        heard: errors and notices, oldest first.
        protocol: the version that both speak, 0 before the greeting.
        greeted_at: the gateway's date, time and zone as it writes them, empty before the greeting.
        cause: why the attempt failed, in the system's words.
    """

    def __init__(self) -> None:
        """Make one that is not open yet."""
        self.ib = ib_insync.IB()
        self.ib.RaiseRequestErrors = True
        self.heard: list[Heard] = []
        self.protocol = 0
        self.greeted_at = ""
        self.cause = ""
        self._first = b""
        self._has_ended = anyio.Event()
        # The library holds a method only as long as somebody else holds its object.
        self.ib.errorEvent += self._hear_error
        self.ib.client.conn.hasData += self._hear_bytes
        self.ib.client.conn.disconnected += self._hear_end

    @property
    def is_ready(self) -> bool:
        """Whether requests can be sent."""
        return bool(self.ib.client.isReady())

    @property
    def is_read_only(self) -> bool:
        """Whether the gateway has said that its API takes no orders."""
        return any(
            item.code == _INVALID_REQUEST and "read-only" in item.text.lower()
            for item in self.heard
        )

    async def open(self, host: str, port: int, *, client_id: int, timeout_s: float) -> Stage:
        """Connect, greet and start the API; return how far that came.

        Args:
            host: where the gateway listens.
            port: its TCP port.
            client_id: not the one of a running session.
            timeout_s: for all of it.
        """
        client = self.ib.client
        self.ib.wrapper.clientId = client_id
        # The library waits out its time limit after a refusal; the end of the socket ends it.
        async with anyio.create_task_group() as group:
            group.start_soon(self._cancel_at_end, group.cancel_scope, name="watch the socket")
            try:
                with anyio.fail_after(timeout_s):
                    await client.connectAsync(host, port, client_id, timeout_s)
            # On Python 3.10 asyncio has a TimeoutError of its own.
            except (TimeoutError, asyncio.TimeoutError):
                self.cause = f"no answer within {timeout_s:g} s"
            except OSError as error:
                self.cause = error.strerror or str(error)
            group.cancel_scope.cancel()
        return Stage.READY if self.is_ready else self._stage_of_failure()

    def close(self) -> None:
        """Close the socket."""
        self.ib.disconnect()

    def errors_of(self, request: int) -> list[Heard]:
        """Return what was said about one request."""
        return [item for item in self.heard if item.request == request]

    def _stage_of_failure(self) -> Stage:
        if any(item.code == CLIENT_ID_TAKEN for item in self.heard):
            return Stage.CLIENT_ID_TAKEN
        # The library greets as soon as the socket is open, and counts what it sends.
        if not self.ib.client.conn.numMsgSent:
            return Stage.UNREACHABLE
        if self.protocol:
            return Stage.UNFINISHED
        if self._first:
            return Stage.STRANGE
        return Stage.CLOSED if self._has_ended.is_set() and not self.cause else Stage.SILENT

    async def _cancel_at_end(self, scope: anyio.CancelScope) -> None:
        await self._has_ended.wait()
        scope.cancel()

    def _hear_error(self, request: int, code: int, text: str, _contract: object) -> None:
        self.heard.append(Heard(request, code, text))
        if code == CLIENT_ID_TAKEN:
            self._has_ended.set()

    def _hear_end(self, _cause: str) -> None:
        self._has_ended.set()

    def _hear_bytes(self, data: bytes) -> None:
        """Read the greeting: its length, then protocol and time, each ended by a zero byte."""
        if self.protocol or len(self._first) > _LONGEST_GREETING:
            return
        self._first += data
        if len(self._first) < _LENGTH_BYTES:
            return
        (length,) = struct.unpack(">I", self._first[:_LENGTH_BYTES])
        greeting = self._first[_LENGTH_BYTES : _LENGTH_BYTES + length]
        fields = greeting.decode(errors="replace").split("\0")[:_GREETING_FIELDS]
        if length <= len(greeting) and len(fields) == _GREETING_FIELDS and fields[0].isdigit():
            self.protocol, self.greeted_at = int(fields[0]), fields[1]
