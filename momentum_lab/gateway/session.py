"""One client connection: bytes in and out, its subscriptions, its order of messages.

Everything that a turn of the event loop says is joined and written at once, at most 16 kB per
write: one write per message would triple the round trip of an order, and huge writes slow down
clients that re-slice their buffer for every message.
"""

from __future__ import annotations

import logging
import math
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import SocketAttribute, SocketStream

from momentum_lab.errors import DataError
from momentum_lab.gateway.answers import handle
from momentum_lab.gateway.faults.upstream import TEXTS
from momentum_lab.gateway.limits import MAX_VIOLATIONS, SECOND_S, MessageBudget
from momentum_lab.gateway.refusal import RefusedError
from momentum_lab.gateway.subscriptions import Subscriptions
from momentum_lab.gateway.ticks import QuoteLine
from momentum_lab.gateway.voice import Message, Voice, by_bytes, by_message
from momentum_lab.gateway.wire import BadRequest, Event, Hello, ProtocolError, Request, ServerWire

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub

_log = logging.getLogger(__name__)

MAX_WRITE_BYTES = 16_384
RECEIVE_BYTES = 65_536
# Above this much unsent data quotes are conflated: the newest replaces those not yet sent.
HIGH_WATER_BYTES = 65_536
# A client that does not read at all is given up before it eats the memory.
MAX_UNSENT_BYTES = 64 * 1024 * 1024
FAREWELL_S = 2.0
OPENING_S = 10.0
# A client that opens with this option is slowed down where it would be refused.
PACE_OPTION = "+PACEAPI"
RATE_EXCEEDED = 100
GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Session:
    """One connected client.

    Attributes:
        hub: the gateway that it talks to.
        client_id: None until the client has started the API.
        claimed_id: by which id it has called itself, let in or not.
        subscriptions: what it wants to hear.
        has_conflated: quotes were kept back because it reads too slowly.
        is_answering: what is said now was asked for, and is not told by itself.
        is_leaving: it hears nothing more, and closes once all that faults hold back is said.
    """

    def __init__(self, hub: Hub, stream: SocketStream) -> None:
        """Take a fresh connection."""
        self.hub = hub
        self.client_id: int | None = None
        self.claimed_id: int | None = None
        self.subscriptions = Subscriptions()
        self._stream = stream
        self._wire = ServerWire()
        self._unsent = bytearray()
        self._wake = anyio.Event()
        self._has_written = anyio.Event()
        self._scope = anyio.CancelScope()
        self._listening = anyio.CancelScope()
        self._is_closing = False
        self._is_mute = hub.faults.mutes_door
        self.is_answering = False
        self.is_leaving = False
        self.has_conflated = False
        limits = hub.settings.limits
        self._budget = MessageBudget(limits.messages_per_s)
        self._is_paced = limits.over_rate == "pace"
        self._unlimited_until_s = -math.inf

    # -- what the rest of the gateway uses --------------------------------------------------

    @property
    def version(self) -> int:
        """The negotiated protocol version, 0 before the handshake."""
        return self._wire.version or 0

    @property
    def is_known(self) -> bool:
        """Whether the client has started the API and is still there."""
        return self.client_id is not None and self.hub.sessions.get(self.client_id) is self

    @property
    def is_congested(self) -> bool:
        """Whether the client reads more slowly than the tape is played."""
        return len(self._unsent) > HIGH_WATER_BYTES

    def send(self, name: str, /, **values: Any) -> None:
        """Queue one message; it leaves at the end of this turn of the event loop."""
        self.send_all(((name, values),))

    def say_all(self, messages: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Queue messages past all faults."""
        self._queue(self._wire.encoder.encode_all(messages))

    def send_raw(self, data: bytes) -> None:
        """Queue bytes that need not be a message."""
        self._queue([data])

    def send_all(self, messages: Iterable[Message]) -> None:
        """Queue messages in their order."""
        encoder, faults = self._wire.encoder, self.hub.faults
        if not faults.active:
            self._queue(encoder.encode_all(tuple(messages)))
            return
        for message in messages:
            # One by one, because a fault may say something of its own in between.
            self._queue(encoder.encode_all(faults.outgoing(self, message)))

    def answer(self, messages: Iterable[Message]) -> None:
        """Queue a list that the client has asked for: faults of what is told unasked spare it."""
        self.is_answering = True
        try:
            self.send_all(messages)
        finally:
            self.is_answering = False

    @property
    def voice(self) -> Voice[Any]:
        """How ticks are said to this client now: as messages only while a fault may alter them.

        What a voice has made is sent by that voice.
        """
        return self._by_message if self.hub.faults.active else self._by_bytes

    def flush(self, line: QuoteLine) -> None:
        """Queue what a line has not told yet."""
        voice = self.voice
        voice.send(line.flush(voice))

    def error(self, req_id: int, code: int, text: str) -> None:
        """Queue an error message."""
        self.send("error", req_id=req_id, code=code, text=text)

    def close_after_sending(self) -> None:
        """Close the connection once everything queued has left."""
        self._is_closing = True
        self._listening.cancel()
        self._wake.set()

    def _leave_when_told(self) -> None:
        self.is_leaving = self._is_mute = True
        if not self.hub.faults.holds(self):
            self.close_after_sending()

    def reset(self) -> None:
        """End the connection with a reset: nothing that is queued leaves any more."""
        self._unsent.clear()
        self._is_closing = True
        raw = self._stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - not Django's
        # A socket that is closed without lingering sends no end of stream, but a reset.
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport = getattr(self._stream, "_transport", None)
        if transport is not None:
            transport.abort()
        self._scope.cancel()

    def start(self, client_id: int) -> None:
        """Greet a client that has started the API, or turn it away if its id is in use."""
        if not self.hub.admit(self, client_id):
            text = (
                "Unable to connect as the client id is already in use. "
                "Retry with a unique client id."
            )
            self.error(-1, 326, text)
            self._leave_when_told()
            return
        self.client_id = client_id
        self.send("managedAccounts", accounts=self.hub.account.code)
        self.send("nextValidId", order_id=self.hub.exchange.books.next_order_id(client_id))
        for code in self.hub.faults.greeting(self):
            self.error(-1, code, TEXTS[code])

    @cached_property
    def _by_message(self) -> Voice[Message]:
        return by_message(self.send_all)

    @cached_property
    def _by_bytes(self) -> Voice[bytes]:
        return by_bytes(self._queue, self.version)

    # -- the connection ---------------------------------------------------------------------

    async def run(self, first: bytes = b"") -> None:
        """Serve the client until one side closes; `first` has been read from it already."""
        async with self._stream, anyio.create_task_group() as tasks:
            self._scope = tasks.cancel_scope
            tasks.start_soon(self._write, name="gateway-writer")
            try:
                await self._wait_to_read()
                await self._receive(first)
                await self._read()
            finally:
                self.hub.leave(self)
            self.close_after_sending()
            with anyio.move_on_after(FAREWELL_S):
                await self._has_written.wait()
            tasks.cancel_scope.cancel()

    async def _read(self) -> None:
        while not self._is_closing:
            data = b""
            with anyio.CancelScope() as self._listening:
                try:
                    await self._wait_to_read()
                    # Half an opening must not hold a connection for ever; a started client may
                    # be silent.
                    if self.client_id is None and not self._is_mute:
                        self._listening.deadline = anyio.current_time() + OPENING_S
                    data = await self._stream.receive(RECEIVE_BYTES)
                    self._listening.deadline = math.inf
                    # A stall may have begun while we waited for this.
                    await self._wait_to_read()
                except GONE:
                    self._unsent.clear()
                    return
            if data:
                await self._receive(data)
                continue
            if anyio.current_time() < self._listening.deadline:
                # Not the limit, but `close_after_sending` has ended the waiting.
                return
            _log.warning("a connection that did not start the API was closed")
            return

    async def _wait_to_read(self) -> None:
        if await self.hub.faults.wait_to_read(self):
            # Nobody sent too fast what comes at once because we did not read.
            self._unlimited_until_s = anyio.current_time() + SECOND_S

    async def _receive(self, data: bytes) -> None:
        if self._is_mute or not data:
            return
        try:
            await self._take(self._wire.receive_data(data))
        except ProtocolError as fault:
            _log.warning("client=%s closed: %s", self.client_id, fault)
            await self._take(fault.events)
            self._is_closing = True

    async def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            if self._is_closing or self.is_leaving:
                return
            if isinstance(event, Hello):
                self._is_paced |= PACE_OPTION in event.options.split()
                self.send_raw(self._wire.hello(self.hub.market.hours.text(self.hub.market.now_ns)))
            elif await self._is_within_rate():
                self._hear(event)

    async def _is_within_rate(self) -> bool:
        """Count a message; one too many waits for its turn, or is refused."""
        if anyio.current_time() < self._unlimited_until_s:
            return True
        while not self._budget.take(anyio.current_time()):
            if not self._is_paced:
                self._refuse_message()
                return False
            await anyio.sleep(self._budget.wait_s(anyio.current_time()))
        return not self._is_closing

    def _refuse_message(self) -> None:
        if not self._budget.violate(anyio.current_time()):
            return
        limit, number = self._budget.per_s, self._budget.n_violations
        facts = {"client_id": self.client_id, "violation": number}
        self.hub.journal.write(self.hub.market.now_ns, "message rate exceeded", **facts)
        text = "Max rate of messages per second has been exceeded"
        self.error(-1, RATE_EXCEEDED, f"{text}:max={limit} rec={limit + 1} ({number})")
        if number >= MAX_VIOLATIONS:
            _log.warning("client=%s closed: too many messages", self.client_id)
            self.close_after_sending()

    def _hear(self, event: Request | BadRequest) -> None:
        if isinstance(event, BadRequest):
            self.hub.log_wire("<", self.client_id, event.fields)
            self.error(event.req_id, event.code, event.reason)
        else:
            self.hub.log_wire("<", self.client_id, (event.name, dict(event.values)))
            self._answer(event)

    def _answer(self, request: Request) -> None:
        if self.client_id is None and request.name != "startApi":
            _log.warning("%s before startApi: closed", request.name)
            self.close_after_sending()
            return
        if self.client_id is None:
            self.claimed_id = request["client_id"]
        if self.hub.takes(self, request):
            self.perform(handle, request)
        elif self.client_id is None:
            # Nobody has heard the start: there is no answer, and no end either.
            self._is_mute = True

    def perform(self, answer: Callable[[Session, Request], None], request: Request) -> None:
        """Let a request be answered, with an error where it is refused."""
        req_id = request.values.get("req_id", request.values.get("order_id", -1))
        try:
            answer(self, request)
        except RefusedError as refusal:
            self.error(req_id, refusal.code, refusal.text)
        except DataError as error:
            # A value that our own encoder refuses must not leave the client without an answer.
            _log.exception("client=%s request=%s cannot be answered", self.client_id, request.name)
            self.error(req_id, 322, f"Error processing request.-'{request.name}' : cause - {error}")

    def _queue(self, frames: Sequence[bytes]) -> None:
        if self.hub.logs_wire:
            for one in frames:
                self.hub.log_wire(">", self.client_id, one)
        self._unsent += b"".join(frames)
        if len(self._unsent) > MAX_UNSENT_BYTES:
            _log.warning("client=%s does not read: closed", self.client_id)
            self._unsent.clear()
            self._scope.cancel()
        self._wake.set()

    async def _write(self) -> None:
        try:
            while not (self._is_closing and not self._unsent):
                await self._wake.wait()
                self._wake = anyio.Event()
                await self._flush()
        except GONE:
            # The reader sees the same end and ends the session.
            self._unsent.clear()
        finally:
            self._has_written.set()

    async def _flush(self) -> None:
        while self._unsent:
            await self.hub.faults.wait_to_write(self)
            chunk = bytes(self._unsent[:MAX_WRITE_BYTES])
            await self._stream.send(chunk)
            del self._unsent[: len(chunk)]
            if not self.is_congested:
                self._catch_up()

    def _catch_up(self) -> None:
        if not self.has_conflated:
            return
        self.has_conflated = False
        for line in self.subscriptions.quotes.values():
            self.flush(line)
