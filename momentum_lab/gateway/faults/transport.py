"""Faults of sockets and frames."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from momentum_lab.core.tunable import described, tunable
from momentum_lab.errors import ParameterError
from momentum_lab.gateway.faults.base import ALL_CLIENTS, Fault, Told, nearest
from momentum_lab.gateway.wire import REQUESTS

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session


@dataclass
class TcpReset(Fault):
    """The connection is reset: the client sees an error, not an orderly end."""

    name: ClassVar[str] = "tcp_reset"
    is_instant: ClassVar[bool] = True

    def begin(self, hub: Hub) -> None:
        """Reset the connections."""
        for session in self.victims(hub):
            session.reset()


@dataclass
class HalfOpen(Fault):
    """Sockets stay open and new ones are accepted, but nothing is ever answered or told.

    Of one client's new connections the opening is answered: only then it says who it is.
    """

    name: ClassVar[str] = "half_open"
    swallows_quotes: ClassVar[bool] = True

    @property
    def mutes_door(self) -> bool:
        """Whether new connections are not answered either: where all clients are meant."""
        return self.client_id == ALL_CLIENTS

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Say nothing."""
        return [] if self.strikes(session) else [told]

    def hears(self, hub: Hub, session: Session, request: str) -> bool:
        """Hear nothing."""
        return not self.strikes(session)


@dataclass
class StalledReader(Fault):
    """The gateway stops reading from its clients; what they send piles up in their sockets."""

    name: ClassVar[str] = "stalled_reader"

    def lets_read(self, session: Session) -> bool:
        """Read nothing, of a new connection neither."""
        return not self.strikes(session)


@dataclass
class StalledWriter(Fault):
    """The gateway stops writing; everything it has to say comes at once when it goes on."""

    name: ClassVar[str] = "stalled_writer"

    def lets_write(self, session: Session) -> bool:
        """Write nothing, to a new connection neither."""
        return not self.strikes(session)


@dataclass
class MalformedFrame(Fault):
    """A whole frame comes whose content is no message that any client knows."""

    name: ClassVar[str] = "malformed_frame"
    is_instant: ClassVar[bool] = True

    def begin(self, hub: Hub) -> None:
        """Send one frame of nonsense."""
        payload = b"5\0not a number\0\xff\xfe\0"
        for session in self.victims(hub):
            session.send_raw(struct.pack(">I", len(payload)) + payload)


@dataclass
class TruncatedFrame(Fault):
    """A frame breaks off in the middle, and the connection ends."""

    name: ClassVar[str] = "truncated_frame"
    is_instant: ClassVar[bool] = True

    def begin(self, hub: Hub) -> None:
        """Send half a frame and close."""
        for session in self.victims(hub):
            session.send_raw(struct.pack(">I", 100) + b"4\0" + b"2\0")
            session.close_after_sending()


@dataclass
class SlowAnswers(Fault):
    """Everything the gateway says comes late."""

    name: ClassVar[str] = "slow_answers"

    delay_s: float = tunable(
        2.0, unit="s", low=0.001, high=3600, step=0.1, meaning="market time until it is said"
    )

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Hold the message back."""
        if self.strikes(session):
            hub.faults.say_later(self, session, told, delay_s=self.delay_s)
            return []
        return [told]

    def end(self, hub: Hub) -> None:
        """Say at once what was held back, so that the order stays."""
        hub.faults.release(self)


@dataclass
class LostAnswer(Fault):
    """Requests of one name are never heard; the client waits for ever."""

    name: ClassVar[str] = "lost_answer"

    request: str = described("reqPositions", meaning="name of the request that is not heard")

    def __post_init__(self) -> None:
        """Refuse a request that no client makes."""
        super().__post_init__()
        if self.request not in REQUESTS.messages:
            hint = nearest(self.request, REQUESTS.messages)
            raise ParameterError(f"{self.name}.request: no request {self.request!r}{hint}")

    def hears(self, hub: Hub, session: Session, request: str) -> bool:
        """Hear everything but that request."""
        return not (self.strikes(session) and request == self.request)


FAULTS = (
    TcpReset,
    HalfOpen,
    StalledReader,
    StalledWriter,
    MalformedFrame,
    TruncatedFrame,
    SlowAnswers,
    LostAnswer,
)
