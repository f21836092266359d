"""One connection seen from the server, without a socket: bytes in, events out, and back.

The client opens with four raw bytes and a frame with the versions it speaks; everything after
that, in both directions, is a frame: a 32-bit length and fields that each end in a NUL.
No bytes of a client raise anything but `ProtocolError`, and that only for what makes the rest
of the stream unreadable. A single unreadable message is an event like any other, to be answered
with an error, because a client that gets no answer waits for ever.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from momentum_lab.errors import DataError
from momentum_lab.gateway.wire.kinds import INT_OR_0
from momentum_lab.gateway.wire.replies import REPLIES
from momentum_lab.gateway.wire.requests import NOT_SERVED, REQUESTS
from momentum_lab.gateway.wire.table import Encoder, UnreadableError, frame

OLDEST_VERSION: Final = 157
NEWEST_VERSION: Final = 178
# Client libraries disagree about the layout of orders at this version.
DISPUTED_VERSION: Final = 158
PREFIX: Final = b"API\0"
MAX_FRAME_BYTES: Final = 0xFFFFFF
NO_REQUEST: Final = -1
UNREADABLE_CODE: Final = 320
UNKNOWN_CODE: Final = 505
_HELLO: Final = re.compile(r"v([0-9]{1,6})(?:\.\.([0-9]{1,6}))?(?: (.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Hello:
    """The client's opening: the versions it speaks, and its connect options."""

    min_version: int
    max_version: int
    options: str


@dataclass(frozen=True, slots=True)
class Request:
    """A readable request; `request["req_id"]` is short for `request.values["req_id"]`."""

    name: str
    values: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """Return one value."""
        return self.values[name]


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A message that is to be answered with an error.

    Attributes:
        reason: what is wrong with it.
        fields: its raw fields.
        req_id: the request or order it is about, -1 if that cannot be told.
        code: the error code to answer with.
    """

    reason: str
    fields: tuple[str, ...]
    req_id: int
    code: int


Event = Hello | Request | BadRequest


class ProtocolError(DataError):
    """The stream cannot be read on; the connection must be closed.

    `events` are those that the same bytes still brought before the fault.
    """

    def __init__(self, reason: str, events: Sequence[Event] = ()) -> None:
        super().__init__(reason)
        self.events = tuple(events)


class ServerWire:
    """The server's end of one connection.

    Feed it with `receive_data`, answer the `Hello` with the bytes of `hello`, and get the bytes
    of every other message from `send`, or of its `encoder`. Nothing may be sent before `hello`.
    """

    def __init__(self) -> None:
        self.version: int | None = None
        self._agreed: int | None = None
        self._encoder: Encoder | None = None
        self._has_prefix = False
        self._buffer = bytearray()
        self._fault = ""

    def receive_data(self, data: bytes) -> list[Event]:
        """Return the events that `data` completes, however the stream was cut.

        Raises:
            ProtocolError: not the protocol, an impossible frame length, or no common version.
                Every later call raises it again, then without events.
        """
        if self._fault:
            raise ProtocolError(self._fault)
        self._buffer += data
        events: list[Event] = []
        try:
            self._read_all(events)
        except ProtocolError as error:
            self._fault = str(error)
            self._buffer.clear()
            raise ProtocolError(self._fault, events) from None
        return events

    def hello(self, time_text: str) -> bytes:
        """Return the answer to the client's `Hello`, and take its version.

        Raises:
            ProtocolError: there was no `Hello` yet.
        """
        if self._agreed is None:
            raise ProtocolError("expected the client's hello before the answer to it")
        self.version = self._agreed
        self._encoder = REPLIES.encoder(self._agreed)
        return frame(f"{self.version}\0{time_text}\0".encode("utf-8", "replace"))

    def send(self, name: str, /, **values: Any) -> bytes:
        """Return one framed message for the negotiated version.

        Args:
            name: the protocol's name of the message, such as "tickPrice".
            values: its fields; those with a sensible default may be left out.

        Raises:
            ProtocolError: nothing may be sent before `hello`.
            DataError: an unknown message or field, a missing field or a value of the wrong kind.
        """
        return self.encoder.encode(name, values)

    @property
    def encoder(self) -> Encoder:
        """What encodes messages for the negotiated version.

        Raises:
            ProtocolError: nothing may be sent before `hello`.
        """
        if self._encoder is None:
            raise ProtocolError("nothing must be sent before the hello is answered")
        return self._encoder

    def _read_all(self, events: list[Event]) -> None:
        offset = self._skip_prefix()
        while (end := self._frame_end(offset)) is not None:
            # One copy per message; the buffer itself is moved once per call, below.
            text = self._buffer[offset + 4 : end].decode("utf-8", "replace")
            offset = end
            events.append(self._event(text))
        del self._buffer[:offset]

    def _skip_prefix(self) -> int:
        if self._has_prefix:
            return 0
        start = bytes(self._buffer[: len(PREFIX)])
        if not PREFIX.startswith(start):
            raise ProtocolError(f"expected a stream that starts with {PREFIX!r}")
        self._has_prefix = start == PREFIX
        return len(PREFIX) if self._has_prefix else 0

    def _frame_end(self, offset: int) -> int | None:
        """Return where the frame at `offset` ends, None while it is incomplete."""
        if not self._has_prefix or len(self._buffer) < offset + 4:
            return None
        (length,) = struct.unpack_from(">I", self._buffer, offset)
        if not 0 < length <= MAX_FRAME_BYTES:
            raise ProtocolError(f"expected a frame of 1..{MAX_FRAME_BYTES} bytes, found {length}")
        end = offset + 4 + int(length)
        return end if end <= len(self._buffer) else None

    def _event(self, text: str) -> Event:
        if self._agreed is None:
            hello = _read_hello(text)
            self._agreed = common_version(hello)
            return hello
        wire = text.split("\0")
        if wire.pop():
            reason = "expected a message that ends in NUL"
            return BadRequest(reason, tuple(wire), NO_REQUEST, UNREADABLE_CODE)
        return _read_request(wire, self._agreed)


def common_version(hello: Hello) -> int:
    """Return the version to speak with a client.

    Raises:
        ProtocolError: there is none.
    """
    version = min(hello.max_version, NEWEST_VERSION)
    if version == DISPUTED_VERSION:
        version = OLDEST_VERSION
    if version < OLDEST_VERSION or version < hello.min_version:
        raise ProtocolError(
            f"expected a client that speaks one of {OLDEST_VERSION}..{NEWEST_VERSION},"
            f" found {hello.min_version}..{hello.max_version}"
        )
    return version


def _read_hello(text: str) -> Hello:
    match = _HELLO.fullmatch(text.rstrip("\0"))
    if match is None:
        raise ProtocolError(f"expected versions such as v157..176, found {text[:60]!r}")
    lowest, highest, options = match.groups()
    return Hello(int(lowest), int(highest or lowest), options or "")


def _read_request(wire: Sequence[str], version: int) -> Event:
    number = wire[0] if wire else ""
    message = REQUESTS.find(number)
    if message is None:
        return _refuse(number, wire)
    try:
        return Request(message.name, REQUESTS.decode(message, wire, version))
    except UnreadableError as error:
        req_id = error.values.get("req_id", error.values.get("order_id", NO_REQUEST))
        return BadRequest(str(error), tuple(wire), req_id, UNREADABLE_CODE)


def _refuse(number: str, wire: Sequence[str]) -> BadRequest:
    refused = NOT_SERVED.get(number)
    if refused is None:
        return BadRequest("Fatal Error: Unknown message id.", tuple(wire), NO_REQUEST, UNKNOWN_CODE)
    req_id = NO_REQUEST
    if refused.place is not None:
        with suppress(IndexError, ValueError):
            req_id = INT_OR_0.read(wire[refused.place])
    cause = f"'{refused.name}' : cause - not supported by this gateway"
    reason = refused.text or f"Error validating request.-{cause}"
    return BadRequest(reason, tuple(wire), req_id, refused.code)
