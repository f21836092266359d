"""Fuzzes a running paper gateway with broken clients, and says whether it took it.

    python -m tests.fuzz.gateway --frames 1000000 --seed 1

Real loopback sockets, one gateway for the whole run, three hostile clients at a time and a witness
that must get the right answer to every question throughout. A burst is what one hostile connection
sends; burst n of a seed is the same in every run, so that a failure is repeated with
`--seed S --first N`. The verdict is "held" if no exception escaped, the witness was never told
anything wrong, the account balances, memory was flat and no connection was left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import math
import struct
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Final

import anyio
import anyio.lowlevel
from anyio.abc import SocketStream

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.limits import Limits
from momentum_lab.gateway.server import Gateway
from momentum_lab.gateway.wire.connection import DISPUTED_VERSION, OLDEST_VERSION
from momentum_lab.gateway.wire.table import frame
from momentum_lab.records.tape import Tape, TapeHeadline
from tests.fuzz.frames import (
    VERSIONS,
    Frames,
    framed,
    half_frame,
    poison,
    wrong_opening,
)
from tests.fuzz.witness import LIMIT_S, Witness
from tests.gateway_client import standing_gateway
from tests.gateway_factories import DAY_NS, NOON, Row, news, second, second_tape

CASH_USD: Final = 10_000_000.0
N_HOSTILE: Final = 3
N_DAYS: Final = 20
DAY_SECONDS: Final = 600
CHECK_EVERY: Final = 10
MARKER: Final = 2_000_000_000
# Python's own caches and the history of fills may grow by so much after the first tenth.
MAX_GROWTH_BYTES: Final = 64 * 1024 * 1024
PAGE_BYTES: Final = 4096
# What is refused for its rate would be looked at by nobody.
NO_LIMITS: Final = Limits(max_messages_per_s=0, paces_history=False)
Say = Callable[[str], None]


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        n_frames: frames sent by hostile clients.
        n_bursts: hostile connections.
        answers: number of each kind of message, errors by code, that they got.
        faults: what went wrong; none if the gateway held.
        rss_bytes: resident memory after the first tenth, and at the end.
    """

    n_frames: int = 0
    n_bursts: int = 0
    n_checks: int = 0
    n_fills: int = 0
    seconds: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    rss_bytes: tuple[int, int] = (0, 0)

    @property
    def growth_bytes(self) -> int:
        """Growth of memory between the first tenth and the end."""
        return self.rss_bytes[1] - self.rss_bytes[0]


def days_of_tape() -> list[int]:
    """Return noon of each trading day; the first is a Wednesday."""
    return [NOON + n * DAY_NS for n in range(N_DAYS * 2) if (n + 2) % 7 not in (5, 6)][:N_DAYS]


def fuzz_tape(seed: int) -> Tape:
    """A walk of SPY and IBM over many days, and a headline now and then."""
    rng = Random(seed)  # noqa: S311 - to be repeated, not to be secret
    rows, headlines = list[Row](), list[TapeHeadline]()
    days = days_of_tape()
    for symbol, start in (("SPY", 100.0), ("IBM", 200.0)):
        price = start
        for day_ns in days:
            for n in range(DAY_SECONDS):
                price = min(1.1 * start, max(0.9 * start, price + rng.randint(-3, 3) / 100))
                at_ns = day_ns + n * NS_PER_S
                rows.append(second(at_ns, round(price, 2), symbol=symbol, volume=4_000))
    for number, day_ns in enumerate(days, start=1):
        headlines.append(news(at_ns=day_ns + 30 * NS_PER_S, number=number))
    return second_tape(rows, headlines=tuple(headlines), end_ns=days[-1] + DAY_NS // 8)


class Run:
    """One run against one gateway."""

    def __init__(self, gateway: Gateway, *, n_frames: int, seed: int, first: int, say: Say) -> None:
        self.outcome = Outcome()
        self._gateway = gateway
        self._n_frames = n_frames
        self._seed = seed
        self._next_burst = first
        self._say = say
        self._told = 0
        self._baseline = 0

    async def go(self) -> Outcome:
        """Send everything, and return what came of it."""
        started_s = perf_counter()
        async with connection(self._gateway.port) as stream:
            witness = Witness(stream, self._gateway)
            await witness.start()
            async with anyio.create_task_group() as tasks:
                for number in range(N_HOSTILE):
                    tasks.start_soon(self._attack, number, witness)
            await witness.check()
            self._check_account()
            await self._check_left_behind()
            self.outcome.n_checks = witness.n_checks
        self.outcome.seconds = perf_counter() - started_s
        self.outcome.rss_bytes = (self._baseline, resident_bytes())
        self.outcome.n_fills = len(self._gateway.hub.exchange.books.executions)
        if self.outcome.growth_bytes > MAX_GROWTH_BYTES:
            self._blame(f"memory grew by {self.outcome.growth_bytes:,} bytes")
        return self.outcome

    def _blame(self, what: str) -> None:
        self.outcome.faults.append(what)

    async def _attack(self, number: int, witness: Witness) -> None:
        while self.outcome.n_frames < self._n_frames and not self.outcome.faults:
            burst, self._next_burst = self._next_burst, self._next_burst + 1
            try:
                await self._burst(burst, client_id=number + 2)
                self._let_time_pass()
                if number == 0 and self.outcome.n_bursts % CHECK_EVERY < N_HOSTILE:
                    await witness.check()
            except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
                self._blame(f"burst {burst}: {traceback.format_exc()}")
            self._report_progress()

    # -- hostile clients --------------------------------------------------------------------

    async def _burst(self, burst: int, *, client_id: int) -> None:
        rng = Random(f"{self._seed}:{burst}")  # noqa: S311 - to be repeated, not to be secret
        version = rng.choice(VERSIONS)
        frames = Frames(rng, OLDEST_VERSION if version == DISPUTED_VERSION else version)
        self.outcome.n_bursts += 1
        async with connection(self._gateway.port) as stream:
            with anyio.fail_after(LIMIT_S):
                if rng.random() < 0.1:
                    data, n_frames = wrong_opening(rng, frames)
                    await self._send(stream, data, n_frames, rng)
                    return
                await self._talk(stream, frames, version, client_id)

    async def _talk(
        self, stream: SocketStream, frames: Frames, version: int, client_id: int
    ) -> None:
        rng, books = frames.rng, self._gateway.hub.exchange.books
        frames.next_order_id = books.next_order_id(client_id)
        # The witness's id is in use: whoever asks for it is turned away.
        wanted_id = 1 if rng.random() < 0.02 else client_id
        opening = b"API\0" + frame(f"v157..{version}".encode())
        await self._send(stream, opening + framed(["71", "2", str(wanted_id), ""]), 2, rng)
        n_frames = rng.choice([5, 50, 100, 400])
        data = b"".join(frames.draw() for _ in range(n_frames))
        ending = rng.random()
        async with anyio.create_task_group() as tasks:
            if ending < 0.8:
                ender = framed(["81", str(MARKER), "?"])
                must_answer = wanted_id != 1
                tasks.start_soon(self._read_to_marker, stream, must_answer)
            elif ending < 0.9:
                ender = poison(rng)
                tasks.start_soon(self._read_to_end, stream)
            else:
                # Leaves in the middle of a frame, with its answers unread.
                ender = half_frame(rng)
            await self._send(stream, data + ender, n_frames + 1, rng)

    async def _send(self, stream: SocketStream, data: bytes, n_frames: int, rng: Random) -> None:
        """Write in pieces that end anywhere; the gateway may have closed meanwhile."""
        self.outcome.n_frames += n_frames
        places = sorted(rng.randrange(len(data)) for _ in range(rng.randrange(6)))
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            for start, end in pairwise([0, *places, len(data)]):
                await stream.send(data[start:end])

    async def _read_to_marker(self, stream: SocketStream, must_answer: bool) -> None:
        async for fields in self._answers(stream):
            if fields[:2] == ["79", str(MARKER)]:
                return
        if must_answer:
            self._blame("a connection was closed although its stream could be read")

    async def _read_to_end(self, stream: SocketStream) -> None:
        async for _ in self._answers(stream):
            pass

    async def _answers(self, stream: SocketStream) -> AsyncIterator[list[str]]:
        buffer, offset = bytearray(), 0
        while True:
            while len(buffer) >= offset + 4:
                end = offset + 4 + int(struct.unpack_from(">I", buffer, offset)[0])
                if end > len(buffer):
                    break
                fields = buffer[offset + 4 : end].decode().split("\0")[:-1]
                offset = end
                self._count(fields)
                yield fields
            del buffer[:offset]
            offset = 0
            try:
                buffer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    def _count(self, fields: list[str]) -> None:
        kind = f"error {fields[3]}" if fields[0] == "4" else fields[0]
        self.outcome.answers[kind] += 1

    # -- the gateway ------------------------------------------------------------------------

    def _let_time_pass(self) -> None:
        """Move market time as far as the share of the frames that is sent, and not backwards."""
        share = min(1.0, self.outcome.n_frames / self._n_frames)
        day, within = divmod(share * N_DAYS, 1)
        at_ns = days_of_tape()[min(int(day), N_DAYS - 1)] + round(within * DAY_SECONDS) * NS_PER_S
        self._gateway.hub.step_to(max(self._gateway.now_ns, at_ns))

    def _check_account(self) -> None:
        account, fills = self._gateway.hub.account, self._gateway.hub.exchange.books.executions
        spent_usd = math.fsum(fill.side.sign * fill.shares * fill.price_usd for fill in fills)
        costs_usd = math.fsum(fill.commission_usd for fill in fills)
        cash_usd = account.ledger.cash_usd
        if not math.isclose(cash_usd, CASH_USD - spent_usd - costs_usd, rel_tol=1e-9):
            self._blame(f"cash {cash_usd} is not {CASH_USD} - {spent_usd} - {costs_usd}")
        for symbol, position in account.ledger.positions.items():
            held = sum(fill.side.sign * fill.shares for fill in fills if fill.symbol == symbol)
            if held != position.quantity or not math.isfinite(position.average_usd):
                self._blame(f"{position} is not the sum of its fills, {held}")
        if not all(map(math.isfinite, (account.value().equity, account.value().margin))):
            self._blame(f"the account is worth {account.value()}")

    async def _check_left_behind(self) -> None:
        with anyio.move_on_after(LIMIT_S):
            while len(self._gateway.hub.sessions) > 1:
                await anyio.lowlevel.checkpoint()
            return
        self._blame(f"clients left behind: {sorted(self._gateway.hub.sessions)}")

    def _report_progress(self) -> None:
        tenth = self.outcome.n_frames * 10 // self._n_frames
        if tenth <= self._told:
            return
        self._told = tenth
        now = resident_bytes()
        self._baseline = self._baseline or now
        self._say(
            f"{self.outcome.n_frames:>9,} frames, burst {self._next_burst:,}, "
            f"{now / 2**20:,.1f} MiB, {len(self._gateway.hub.exchange.books.executions):,} fills"
        )


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[SocketStream]:
    """A raw connection to the gateway."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        yield stream


def resident_bytes() -> int:
    """Return the memory of this process that is in use, after a collection."""
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text(encoding="ascii").split()[1]) * PAGE_BYTES
    # Blocks of CPython's allocator, where the system does not tell.
    return sys.getallocatedblocks() * 64


class Complaints(logging.Handler):
    """Collects what the program logs as an error: an exception that it caught for the client."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(logging.Formatter().format(record))


async def fuzz(
    n_frames: int, seed: int, *, folder: Path, first: int = 0, say: Say = lambda _: None
) -> Outcome:
    """Run it inside this event loop."""
    complaints = Complaints()
    unheard: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: unheard.append(repr(context)))
    logger = logging.getLogger("momentum_lab")
    level = logger.level
    logger.addHandler(complaints)
    logger.setLevel(logging.ERROR)
    outcome = Outcome()
    try:
        tape = fuzz_tape(seed)
        async with standing_gateway(tape, folder, cash_usd=CASH_USD, limits=NO_LIMITS) as gateway:
            run = Run(gateway, n_frames=n_frames, seed=seed, first=first, say=say)
            outcome = run.outcome
            await run.go()
    except Exception:  # noqa: BLE001 - the gateway itself has ended: the worst of faults
        outcome.faults.append(traceback.format_exc())
    finally:
        logger.removeHandler(complaints)
        logger.setLevel(level)
        loop.set_exception_handler(None)
    outcome.faults += [*complaints.found, *unheard]
    return outcome


def lines_of(outcome: Outcome) -> list[str]:
    """Return what is said of a run at its end."""
    kinds = ", ".join(f"{kind} x {n:,}" for kind, n in outcome.answers.most_common())
    before, after = (size / 2**20 for size in outcome.rss_bytes)
    return [
        f"{outcome.n_frames:,} frames in {outcome.n_bursts:,} connections, "
        f"{outcome.seconds:.0f} s, {outcome.n_frames / max(outcome.seconds, 1e-9):,.0f} frames/s",
        f"answers by number of message: {kinds}",
        f"witness: {outcome.n_checks:,} rounds of right answers; {outcome.n_fills:,} fills",
        f"memory: {before:,.1f} MiB after a tenth, {after:,.1f} MiB at the end",
        *outcome.faults[:20],
        "verdict: " + ("HURT" if outcome.faults else "held"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from a command line; 0 if the gateway held."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.gateway")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first burst")
    given: Any = parser.parse_args(arguments)

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(
            fuzz(given.frames, given.seed, folder=Path(folder), first=given.first, say=say)
        )
    for line in lines_of(outcome):
        say(line)
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main())
