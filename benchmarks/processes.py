"""What the benchmarks of the gateway share: gateways in processes of their own, and raw clients."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import signal
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from momentum_lab.gateway.server import run
from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.gateway.wire import REQUESTS
from momentum_lab.gateway.wire.table import frame

VERSION = 176
RECEIVE_BYTES = 65_536
# As the gateway writes and buffers.
WRITE_BYTES = 16_384
SEND_BUFFER_BYTES = 65_536
START_S = 60.0


@contextmanager
def process(target: Callable[..., None], *args: Any) -> Iterator[Connection]:
    """Run `target(connection, *args)` in a process of its own; yield this end of its pipe."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    worker = context.Process(target=target, args=(there, *args), daemon=True)
    worker.start()
    there.close()
    try:
        yield here
    finally:
        worker.terminate()
        worker.join()


def told(pipe: Connection) -> Any:
    """Return the next thing that a process tells; raises when it has nothing to tell for long."""
    if not pipe.poll(START_S):
        raise TimeoutError("a process of the benchmark does not answer")
    return pipe.recv()


@contextmanager
def gateway_process(settings: GatewaySettings) -> Iterator[int]:
    """Run a paper gateway in a process of its own; yield its port."""
    with process(_serve, settings) as pipe:
        port, _ = told(pipe)
        yield port


@contextmanager
def stoppable_gateway(settings: GatewaySettings) -> Iterator[tuple[int, Callable[[bool], None]]]:
    """Run a paper gateway likewise; yield its port, and what lets its process run or stand still.

    So two things can be measured in turns, in pieces that are too short for a host to change its
    speed in between.
    """
    with process(_serve, settings) as pipe:
        port, process_id = told(pipe)

        def let_run(is_running: bool) -> None:
            os.kill(process_id, signal.SIGCONT if is_running else signal.SIGSTOP)

        try:
            yield port, let_run
        finally:
            # One that stands still would not hear that it is to end.
            let_run(True)


def _serve(pipe: Connection, settings: GatewaySettings) -> None:
    logging.disable(logging.CRITICAL)

    def report(text: str) -> None:
        listening = re.search(r"listening on \S+:(\d+) ", text)
        if listening:
            pipe.send((int(listening[1]), os.getpid()))

    run(settings, report=report)


class RawClient:
    """A client that understands nothing: it keeps the bytes that it hears.

    Attributes:
        socket: the connection.
        heard: all bytes so far.
    """

    def __init__(self, port: int, client_id: int) -> None:
        """Connect and start the API."""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=START_S)
        self.heard = bytearray()
        self.socket.sendall(b"API\0" + frame(f"v157..{VERSION}".encode()))
        self.receive()
        self.send("startApi", {"client_id": client_id})

    def send(self, name: str, values: Mapping[str, Any]) -> None:
        """Send one request."""
        self.socket.sendall(REQUESTS.encode(name, values, VERSION))

    def receive(self) -> None:
        """Wait for bytes and keep them."""
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the gateway has closed a connection of the benchmark")
        self.heard += data

    def receive_what_is_there(self) -> None:
        """Keep the bytes that have come, without waiting for more."""
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.receive()


def frame_ends(stream: bytes | bytearray) -> list[int]:
    """Return where each whole frame of a stream ends."""
    ends, end = [], 0
    while end + 4 <= len(stream):
        end += 4 + struct.unpack_from(">I", stream, end)[0]
        if end <= len(stream):
            ends.append(end)
    return ends


@contextmanager
def listener(buffer_bytes: int = SEND_BUFFER_BYTES) -> Iterator[tuple[socket.socket, int]]:
    """Listen with sockets as the gateway's; yield the listening one and its port."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(START_S)
        # What a connection that is accepted here inherits.
        door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield door, door.getsockname()[1]
