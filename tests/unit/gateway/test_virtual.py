"""The loop of virtual time: nobody waits, nothing that is under way is overtaken."""

from __future__ import annotations

import asyncio
import socket
import time

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from hypothesis import given, settings
from hypothesis import strategies as st

from momentum_lab.clock import transport_s
from momentum_lab.gateway.virtual import run_virtual

HOUR_S = 3600.0


def test_an_hour_passes_without_waiting() -> None:
    async def main() -> float:
        await anyio.sleep(HOUR_S)
        return anyio.current_time()

    began_s = time.monotonic()
    assert run_virtual(main) == pytest.approx(HOUR_S)
    assert time.monotonic() - began_s < HOUR_S


def test_the_package_reads_the_same_time() -> None:
    async def main() -> tuple[float, float]:
        await anyio.sleep(12.5)
        return transport_s(), anyio.current_time()

    package_s, loop_s = run_virtual(main)
    assert package_s == loop_s == pytest.approx(12.5)


def test_a_timer_that_waits_for_more_than_a_while_comes_to_its_end() -> None:
    async def main() -> int:
        loop, began_s, n_tries = asyncio.get_running_loop(), anyio.current_time(), 0
        ended = anyio.Event()

        def look() -> None:
            nonlocal n_tries
            n_tries += 1
            if loop.time() - began_s > 1.0:
                ended.set()
            else:
                loop.call_at(began_s + 1.0, look)

        look()
        with anyio.fail_after(10.0):
            await ended.wait()
        return n_tries

    assert run_virtual(main) == 2


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=20))
def test_timers_end_in_their_order_at_their_time(waits_s: list[float]) -> None:
    async def main() -> list[tuple[float, float]]:
        ended: list[tuple[float, float]] = []

        async def wait(seconds: float) -> None:
            await anyio.sleep(seconds)
            ended.append((seconds, anyio.current_time()))

        async with anyio.create_task_group() as group:
            for seconds in waits_s:
                group.start_soon(wait, seconds)
        return ended

    ended = run_virtual(main)

    assert [seconds for seconds, _ in ended] == sorted(waits_s)
    assert [at_s for _, at_s in ended] == pytest.approx(sorted(waits_s), abs=1e-6)


def test_a_deadline_is_met_in_virtual_time() -> None:
    async def main() -> float:
        with anyio.move_on_after(90) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        return anyio.current_time()

    assert run_virtual(main) == pytest.approx(90)


def test_time_stands_still_while_a_thread_works() -> None:
    async def main() -> tuple[float, float]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, HOUR_S)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, time.sleep, 0.02)
            after_s = anyio.current_time()
        return after_s, anyio.current_time()

    after_s, end_s = run_virtual(main)
    assert after_s == 0
    assert end_s == pytest.approx(HOUR_S)


def test_what_is_on_its_way_over_a_socket_arrives_before_the_next_timer() -> None:
    """A megabyte through small kernel buffers takes many turns, and no virtual time at all."""
    n_bytes = 1_000_000

    async def answer(stream: SocketStream) -> None:
        async with stream:
            raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - not Django's
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await stream.receive()
            await stream.send(b"x" * n_bytes)

    async def read(port: int) -> tuple[int, float]:
        n_read = 0
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"?")
            while n_read < n_bytes:
                n_read += len(await stream.receive(1000))
        return n_read, anyio.current_time()

    async def main() -> tuple[int, float]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, answer)
            group.start_soon(anyio.sleep, 0.001)
            found = await read(port)
            group.cancel_scope.cancel()
        return found

    assert run_virtual(main) == (n_bytes, 0)


def test_an_exception_passes_through() -> None:
    async def main() -> None:
        await anyio.sleep(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_virtual(main)
