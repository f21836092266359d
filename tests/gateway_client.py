"""Clients of the paper gateway for tests: the unmodified ib_insync, and one of raw bytes."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
from ib_insync import IB, Contract, Stock

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.server import Gateway, GatewaySettings, paper_gateway
from momentum_lab.records.tape import Tape, write_tape

LIMIT_S = 10.0
# So slow that market time stands still for as long as a test lasts: the test moves it.
STANDING = {"fast": 0.01, "slow": 0.01}


@asynccontextmanager
async def standing_gateway(tape: Tape, folder: Path, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway in this loop whose market time only `play` moves."""
    if not (folder / "tape").exists():
        write_tape(tape, folder / "tape")
    given = GatewaySettings(tape=folder / "tape", **{**STANDING, **settings})
    async with paper_gateway(given) as gateway:
        yield gateway


@asynccontextmanager
async def connected(port: int, client_id: int = 1) -> AsyncIterator[IB]:
    """An ib_insync client that is connected and synchronized."""
    ib = IB()
    with anyio.fail_after(LIMIT_S):
        await ib.connectAsync("127.0.0.1", port, clientId=client_id, timeout=LIMIT_S)
    try:
        yield ib
    finally:
        ib.disconnect()


async def settle(ib: IB) -> None:
    """Return once everything that the gateway has said so far has been understood."""
    with anyio.fail_after(LIMIT_S):
        await ib.reqCurrentTimeAsync()


async def play(gateway: Gateway, n_seconds: float, *clients: IB) -> None:
    """Move market time, second by second, once the clients' requests are in; they hear it all."""
    for ib in clients:
        await settle(ib)
    end_ns = gateway.now_ns + round(n_seconds * NS_PER_S)
    while gateway.now_ns < end_ns:
        gateway.hub.step_to(min(end_ns, gateway.now_ns + NS_PER_S))
        await anyio.lowlevel.checkpoint()
    for ib in clients:
        await settle(ib)


def spy() -> Stock:
    return Stock("SPY", "SMART", "USD")


def news_tape(provider: str = "BRFG") -> Contract:
    return Contract(secType="NEWS", symbol=f"{provider}:{provider}_ALL", exchange=provider)


def errors_of(ib: IB) -> list[tuple[int, int]]:
    """Collect (request id, code) of every error from now on."""
    found: list[tuple[int, int]] = []
    ib.errorEvent += lambda req_id, code, _text, _contract: found.append((req_id, code))
    return found


def heard(ib: IB, name: str) -> list[tuple[Any, ...]]:
    """Collect what one callback of the client is told from now on, without the request id."""
    found: list[tuple[Any, ...]] = []
    original = getattr(ib.wrapper, name)

    def both(*values: Any) -> None:
        found.append(values[1:])
        original(*values)

    setattr(ib.wrapper, name, both)
    return found


class RawClient:
    """A client that writes and reads frames itself.

    Attributes:
        socket: the connection.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = b""

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, *fields: object) -> None:
        """Send one message; booleans as 0 and 1."""
        texts = [str(int(f)) if isinstance(f, bool) else str(f) for f in fields]
        payload = "".join(f"{text}\0" for text in texts).encode()
        self.send_bytes(struct.pack(">I", len(payload)) + payload)

    def read(self) -> list[str]:
        """Return the fields of the next message, an empty list once the gateway has closed."""
        while True:
            if len(self._buffer) >= 4:
                (length,) = struct.unpack(">I", self._buffer[:4])
                if len(self._buffer) >= 4 + length:
                    payload = self._buffer[4 : 4 + length]
                    self._buffer = self._buffer[4 + length :]
                    return payload.decode().split("\0")[:-1]
            try:
                data = self.socket.recv(65_536)
            except ConnectionError:
                return []
            if not data:
                return []
            self._buffer += data

    def read_until(self, number: int) -> list[list[str]]:
        """Return all messages up to the first with this number, or up to the end."""
        found = []
        while message := self.read():
            found.append(message)
            if message[0] == str(number):
                break
        return found

    def start(self, client_id: int = 1, versions: str = "v157..176") -> list[list[str]]:
        """Open the API and return what the gateway says, up to its last farm notice."""
        self.send_bytes(b"API\0" + struct.pack(">I", len(versions)) + versions.encode())
        found = [self.read()]
        self.send(71, 2, client_id, "")
        while message := self.read():
            found.append(message)
            if message[0] == "4" and message[3] in ("2158", "326"):
                break
        return found


@contextmanager
def raw_client(port: int, *, receive_bytes: int = 0) -> Iterator[RawClient]:
    """A connection; `receive_bytes` keeps the kernel's buffer small where one is given."""
    with socket.socket() as connection:
        connection.settimeout(LIMIT_S)
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.connect(("127.0.0.1", port))
        yield RawClient(connection)
