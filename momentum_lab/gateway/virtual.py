"""Virtual time: client and gateway in one event loop, over real sockets, without waiting.

    run_virtual(main)               # an asynchronous function, in a loop whose time jumps

The loop's time stands still while anything can be done. When every task waits for a timer it
jumps to the next one, so a trading day takes as long as its computing does. The bytes are real,
they go through the loopback of the kernel, and the same program runs the same way every time:
nothing depends on how long a step took.

Theory of operation. A selector that finds nothing ready returns at once and moves the loop's time
by what it should have waited. Two things are waited for in real time, because they are under way
and no timer of the loop stands for them: work that was handed to a thread, and bytes that one
socket of this loop has sent and its peer in this loop has not received yet.

Whatever runs in such a loop has to take its time from the loop (`anyio.current_time`,
`momentum_lab.clock.transport_s`) or from the market; `time.time` goes on at its own pace.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

# Real time that is spent on one look for what is under way.
_LOOK_S = 0.0005
# Counters in the kernel's `struct tcp_info` (Linux 4.19 and later), which only ever grows at its
# end: bytes received, bytes written but not sent yet, bytes sent, and of these the repeated ones.
_TCP_INFO = struct.Struct("=128xQ8xI52xQQ")
_INTERNET = (socket.AF_INET, socket.AF_INET6)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is what its timers say, from 0 on, in seconds.

    Attributes:
        is_time_virtual: True; other loops have no such attribute.
    """

    is_time_virtual = True

    def __init__(self) -> None:
        """Make a loop at time 0."""
        self._virtual_s = 0.0
        self._n_threads = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._virtual_s

    def jump(self, seconds: float) -> None:
        """Move virtual time on, to just after the instant that a timer waits for.

        A real clock never shows that very instant either. Libraries rely on it: a throttle that
        asks "is it more than a second ago?" would otherwise set its timer again for ever.
        """
        self._virtual_s = math.nextafter(self._virtual_s + seconds, math.inf)

    @property
    def has_threads(self) -> bool:
        """Whether a thread works for this loop."""
        return self._n_threads > 0

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run `func` in a thread; virtual time stands still until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self._n_threads += 1
        future.add_done_callback(self._thread_done)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the threads; virtual time, and with it any limit, stands still meanwhile."""
        self._n_threads += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._n_threads -= 1

    def _thread_done(self, _future: asyncio.Future[Any]) -> None:
        self._n_threads -= 1


class _JumpingSelector(selectors.BaseSelector):
    """Asks a real selector what is ready; where nothing is, time jumps instead of passing."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()
        self._connections: dict[int, _Connection] = {}
        # (sender, receiver) of each direction of the connections that have both ends here.
        self._directions: list[tuple[int, int]] = []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._real.register(fileobj, events, data)
        connection = _Connection.of(key.fd)
        if connection is not None:
            self._connections[key.fd] = connection
            self._pair()
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = self._real.unregister(fileobj)
        connection = self._connections.pop(key.fd, None)
        if connection is not None:
            connection.release()
            self._pair()
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            # Without any timer only the outside world can go on.
            return self._real.select(None)
        ready = self._real.select(0)
        while not ready and timeout > 0 and self._is_something_under_way():
            ready = self._real.select(_LOOK_S)
        if not ready and timeout > 0:
            self._loop.jump(timeout)
        return ready

    def close(self) -> None:
        for connection in self._connections.values():
            connection.release()
        self._connections.clear()
        self._pair()
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def _is_something_under_way(self) -> bool:
        if self._loop.has_threads:
            return True
        # Of each end once: both directions of a connection ask for both.
        traffic = {fd: self._connections[fd].traffic() for fd, _ in self._directions}
        return any(
            self._is_under_way(sender, receiver, traffic) for sender, receiver in self._directions
        )

    def _pair(self) -> None:
        by_ends = {connection.ends: fd for fd, connection in self._connections.items()}
        self._directions = [
            (by_ends[ends[::-1]], fd) for ends, fd in by_ends.items() if ends[::-1] in by_ends
        ]

    def _is_under_way(
        self, sender: int, receiver: int, traffic: Mapping[int, tuple[int, int]]
    ) -> bool:
        keys = self._real.get_map()
        if not keys[receiver].events & selectors.EVENT_READ:
            # Who does not want to read now is not waited for.
            return False
        if keys[sender].events & selectors.EVENT_WRITE:
            # The peer has read, and the kernel has not told the sender yet that there is room.
            return True
        n_received, _ = traffic[receiver]
        _, n_written = traffic[sender]
        return n_received < n_written


class _Connection:
    """One end of a TCP connection, known by its file descriptor, which is somebody else's.

    Attributes:
        ends: own address and the peer's.
    """

    def __init__(self, borrowed: socket.socket, ends: tuple[Any, Any]) -> None:
        self.ends = ends
        self._socket = borrowed

    @classmethod
    def of(cls, fd: int) -> _Connection | None:
        """Return the connection behind a descriptor; None for anything else."""
        if not sys.platform.startswith("linux"):
            return None
        try:
            borrowed = socket.socket(fileno=fd)
        except OSError:
            return None
        try:
            if borrowed.type == socket.SOCK_STREAM and borrowed.family in _INTERNET:
                return cls(borrowed, (borrowed.getsockname(), borrowed.getpeername()))
        except OSError:
            # It listens, or is not connected yet.
            pass
        borrowed.detach()
        return None

    def release(self) -> None:
        """Give the descriptor back, open."""
        self._socket.detach()

    def traffic(self) -> tuple[int, int]:
        """Return the bytes that have arrived, read or not, and those handed to the kernel."""
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        if len(info) < _TCP_INFO.size:
            # An older kernel tells less: then nothing is known to be under way.
            return 0, 0
        received, unsent, sent, repeated = _TCP_INFO.unpack(info)
        return received, sent - repeated + unsent


def virtual_time_loop() -> VirtualTimeLoop:
    """Return a new loop and make it this thread's, for libraries that ask for the thread's."""
    loop = VirtualTimeLoop()
    asyncio.set_event_loop(loop)
    return loop


# Options of anyio's asyncio backend, for `anyio.run` and for its pytest plugin.
VIRTUAL_TIME: Mapping[str, Any] = {"loop_factory": virtual_time_loop}


def run_virtual(main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run an asynchronous function to its end in a loop of virtual time.

    Args:
        main: takes `args`; gateway and clients are started inside it.
        args: positional arguments of `main`.

    Returns:
        What `main` returns; its exceptions pass through.
    """
    try:
        return anyio.run(main, *args, backend="asyncio", backend_options=dict(VIRTUAL_TIME))
    finally:
        asyncio.set_event_loop(None)
