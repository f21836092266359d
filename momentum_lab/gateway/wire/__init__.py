"""The TWS socket protocol without sockets, seen from the server: bytes <-> messages.

Hello, Request, BadRequest   what a client sent
ServerWire                   one connection: `receive_data`, `hello`, `send`
ProtocolError                the connection must be closed
REQUESTS, REPLIES            the declarations of all messages, both directions from one table

Files, from the ground up: `kinds` (one field), `layout` (one message), `compiled` (the same as a
fast function), `table` (all messages), `contracts`, `orders`, `requests`, `data_replies`, `replies`
(the declarations), `connection` (frames and the handshake).
"""

from momentum_lab.gateway.wire.connection import (
    BadRequest,
    Event,
    Hello,
    ProtocolError,
    Request,
    ServerWire,
)
from momentum_lab.gateway.wire.replies import REPLIES
from momentum_lab.gateway.wire.requests import REQUESTS

__all__ = [
    "REPLIES",
    "REQUESTS",
    "BadRequest",
    "Event",
    "Hello",
    "ProtocolError",
    "Request",
    "ServerWire",
]
