"""Runs a paper gateway: listens, serves clients, plays the tape, stops cleanly.

`run` is a whole process, `serve` a task in a task group, `paper_gateway` a context for tests:

    async with paper_gateway(GatewaySettings(tape=folder)) as gateway:
        await ib.connectAsync("127.0.0.1", gateway.port, clientId=1)
"""

from __future__ import annotations

import gc
import logging
import math
import signal
import socket
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskGroup, TaskStatus
from anyio.streams.stapled import MultiListener

from momentum_lab.clock import utc, wall_ns
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import BrokerError, ParameterError, RecordError
from momentum_lab.gateway import state
from momentum_lab.gateway.control import PREFIX as CONTROL_PREFIX
from momentum_lab.gateway.control import serve_control
from momentum_lab.gateway.exchange import Exchange
from momentum_lab.gateway.faults.base import Fault
from momentum_lab.gateway.hub import Hub, Report
from momentum_lab.gateway.journal import Journal
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.session import GONE, OPENING_S, RECEIVE_BYTES, Session
from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.records.lock import exclusive
from momentum_lab.records.tape import Tape, load_tape, tape_id

_log = logging.getLogger(__name__)

__all__ = ["Gateway", "GatewaySettings", "paper_gateway", "run", "serve"]

# Small kernel buffers: what is sent but not yet read is what a client lags behind the clock.
SEND_BUFFER_BYTES = 65_536
# Permanent ids stay below 2**31; each start of a new account gets a range of its own.
_PERM_ID_RANGE = 2**31
_PERM_IDS_PER_SECOND = 4


@dataclass(frozen=True)
class Gateway:
    """A gateway that is listening."""

    hub: Hub
    host: str
    port: int

    @property
    def now_ns(self) -> int:
        """Market time."""
        return self.hub.market.now_ns

    @property
    def journal(self) -> Journal:
        """What truly happened."""
        return self.hub.journal

    def inject(
        self, name: str, parameters: Mapping[str, Any] | None = None, *, for_s: float = math.inf
    ) -> Fault:
        """Let a fault happen now; see `Director.inject`.

        Raises:
            ParameterError: no such fault, parameter or value.
        """
        return self.hub.faults.inject(name, parameters, for_s=for_s)


@asynccontextmanager
async def paper_gateway(
    settings: GatewaySettings, *, report: Report | None = None
) -> AsyncIterator[Gateway]:
    """Run a gateway inside this event loop for as long as the context lasts.

    Raises:
        RecordError: the tape, the state file or the wire log cannot be used, or another gateway
            uses the state file.
        ParameterError: the start lies outside the tape.
        BrokerError: the port is in use, or the address is not this machine's.
    """
    failure: Exception | None = None
    with ExitStack() as stack:
        if settings.state is not None:
            stack.enter_context(exclusive(settings.state, user="paper gateway"))
        hub = make_hub(settings, report=report)
        # Only now: what cannot start leaves no empty files.
        hub.keep_records(
            wire_log=_open_log(settings.wire_log, "wire log", stack),
            journal=_open_log(settings.journal, "journal", stack),
        )
        async with await _listen(settings) as listener, anyio.create_task_group() as tasks:
            hub.save()
            tasks.start_soon(hub.play, name="gateway-clock")
            tasks.start_soon(hub.news_desk.run, name="gateway-news")
            tasks.start_soon(partial(_accept, listener, hub, tasks), name="gateway-door")
            try:
                yield Gateway(hub, settings.host, _port_of(listener))
            except Exception as error:  # noqa: BLE001 - raised again below, not inside a group
                failure = error
            finally:
                tasks.cancel_scope.cancel()
                hub.save()
    if failure is not None:
        raise failure


async def serve(
    settings: GatewaySettings,
    *,
    report: Report | None = None,
    task_status: TaskStatus[Gateway] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled, as a task of a task group.

    `await tasks.start(partial(serve, settings))` returns the `Gateway` once it listens.

    Raises:
        MomentumLabError: as `paper_gateway`.
    """
    async with paper_gateway(settings, report=report) as gateway:
        task_status.started(gateway)
        await anyio.sleep_forever()


def run(settings: GatewaySettings, *, report: Report | None = None) -> None:
    """Run a gateway as this process until SIGTERM or SIGINT.

    Args:
        settings: what to play, and how.
        report: gets one line of text for people now and then; the first names the port.

    Raises:
        MomentumLabError: it cannot start; the message is one sentence.
    """
    try:
        anyio.run(_run, settings, report or _log.info)
    except Exception as error:  # one failed task of a group is told as itself
        raise _alone(error) from error


def _alone(error: Exception) -> Exception:
    inner: Sequence[object] = getattr(error, "exceptions", ())
    only = inner[0] if len(inner) == 1 else None
    return _alone(only) if isinstance(only, Exception) else error


async def _run(settings: GatewaySettings, report: Report) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with paper_gateway(settings, report=report) as gateway:
            # The tape never becomes garbage: the collector need not walk it again and again.
            gc.collect()
            gc.freeze()
            start = gateway.hub.market.hours.text(gateway.now_ns)
            tape = gateway.hub.market.tape.name
            report(
                f"paper gateway listening on {gateway.host}:{gateway.port} account "
                f"{settings.account} tape {tape} market time {start}"
            )
            async for number in signals:
                report(f"stopping on {signal.Signals(number).name}")
                break
    report("stopped")


def make_hub(settings: GatewaySettings, *, report: Report | None = None) -> Hub:
    """Load the tape and the saved state, and put the parts together.

    Raises:
        RecordError: the tape or the state file cannot be used.
        ParameterError: the start lies outside the tape.
    """
    tape = load_tape(settings.tape)
    identity = tape_id(settings.tape)
    saved = None
    if settings.state is not None:
        saved = state.load(
            settings.state,
            tape_id=identity,
            account=settings.account,
            symbols=tape.instruments.keys(),
        )
    start_ns = _start_in(tape, settings.start_ns) if saved is None else saved.now_ns
    market = Market(tape, start_ns=start_ns)
    exchange = _new_exchange(settings, market)
    if saved is not None:
        try:
            market.hide(saved.hidden)
        except RecordError as error:
            raise RecordError(f"{settings.state}.{error}") from error
        state.restore(saved, exchange)
    return Hub(
        settings,
        market=market,
        exchange=exchange,
        tape_id=identity,
        has_streamed=saved is not None and saved.has_streamed,
        report=report,
    )


def _start_in(tape: Tape, start_ns: int | None) -> int:
    if start_ns is None:
        return tape.start_ns
    first_ns = tape.first_ns
    if not first_ns <= start_ns < tape.end_ns:
        raise ParameterError(
            f"gateway: expected a start between {utc(first_ns).isoformat()} and "
            f"{utc(tape.end_ns).isoformat()}, found {utc(start_ns).isoformat()}"
        )
    return start_ns


def _new_exchange(settings: GatewaySettings, market: Market) -> Exchange:
    # Ids of one account must differ over its whole life, also between runs without a state file.
    started_s = wall_ns() // NS_PER_S if settings.opened_s is None else settings.opened_s
    return Exchange(
        market,
        account=settings.account,
        cash_usd=settings.cash_usd,
        fills=settings.fills,
        rules=settings.rules,
        last_perm_id=started_s * _PERM_IDS_PER_SECOND % _PERM_ID_RANGE,
        exec_prefix=f"{started_s:08x}",
    )


def _open_log(path: Path | None, what: str, stack: ExitStack) -> TextIO | None:
    if path is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(path.open("a", encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"the {what} {path} cannot be written: {error}") from error


async def _listen(settings: GatewaySettings) -> MultiListener[SocketStream]:
    try:
        return await anyio.create_tcp_listener(local_host=settings.host, local_port=settings.port)
    except OSError as error:
        raise BrokerError(
            f"the paper gateway cannot listen on {settings.host}:{settings.port}: "
            f"{error.strerror or error}; choose another port, or stop what uses it"
        ) from error


def _port_of(listener: MultiListener[SocketStream]) -> int:
    return int(listener.extra(SocketAttribute.local_port))  # noqa: S610 - not Django's


async def _accept(listener: MultiListener[SocketStream], hub: Hub, tasks: TaskGroup) -> None:
    await listener.serve(partial(_serve_client, hub), tasks)


async def _serve_client(hub: Hub, stream: SocketStream) -> None:
    """Serve one connection: the outermost frame of all that a client can cause."""
    try:
        # Whatever ends it, also the end of the gateway before the first byte, closes it.
        async with stream:
            await _serve(hub, stream)
    except Exception:  # noqa: BLE001 - logged, and the connection with it is closed
        # An error nobody foresaw costs the client that caused it, and not the others, theirs.
        _log.exception("a connection was closed after an unforeseen error")


async def _serve(hub: Hub, stream: SocketStream) -> None:
    raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 - not Django's
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if hub.faults.closes_door:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return
    first = b""
    with anyio.move_on_after(OPENING_S), suppress(*GONE):
        first = await stream.receive(RECEIVE_BYTES)
    if first[:1] == CONTROL_PREFIX[:1]:
        await serve_control(hub, stream, first)
    elif first:
        await Session(hub, stream).run(first)
