"""How many messages the paper gateway serves, beside how many one client can decode.

Run:  python benchmarks/throughput.py [--rounds 5] [--turns 8]

Ten symbols of a seeded day are played as fast as they go. In each round these take turns, in
pieces of some 100 milliseconds; whatever has not its turn stands still:

* served: the gateway, in a process of its own, has one client that does nothing but receive.
  Counted are the messages that arrive: each has gone the whole way from the tape through quotes,
  session and encoder into the socket. Ticks that the gateway conflates because a socket is full
  are not sent and not counted.
* decodable: the bytes that this client has heard at first are sent again, canned, in writes of
  16 kB over a socket with the gateway's buffers, to an unmodified ib_insync in a process of its
  own, which has subscribed to the same symbols and has no handler of events. Counted are its
  messages per second, from a time request to the answer behind all these messages: it never waits
  for data, its core is the limit.
* decodable in small pieces: the same with a send buffer of 16 kB. The library copies the rest of
  its buffer for each message, so it decodes faster where less is waiting for it.
* served to 8: as served, with eight such clients at once; their sum, and how the one that got
  the fewest messages compares with the one that got the most.

A ratio is that of two pieces of the same turn; each figure is the median of the medians of the
rounds, with the least and the greatest of them. Sender and receiver have two processes in each
case, so two cores are enough.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import statistics
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, sleep

from ib_insync import IB, Stock
from processes import (
    RECEIVE_BYTES,
    SEND_BUFFER_BYTES,
    VERSION,
    WRITE_BYTES,
    RawClient,
    frame_ends,
    listener,
    process,
    stoppable_gateway,
    told,
)
from virtual_day import make_tape

from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.gateway.wire import REPLIES, REQUESTS
from momentum_lab.records.tape import Tape, write_tape

N_SYMBOLS, MINUTES = 10, 390
# Gives as many messages per trade as the recorded sample day has: four.
NOISE = 7e-5
N_CLIENTS = 8
# In this time the client hears what is sent again later.
WARM_UP_S = 0.5
TURN_S = 0.1
LOOK_S = 0.002
# Messages that the decoding client gets in a turn, at most.
N_CANNED = 15_000


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--turns", type=int, default=8, help="of each round")
    asked = options.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "tape"
        tape = make_tape(N_SYMBOLS, 0, MINUTES, noise=NOISE)
        write_tape(tape, folder)
        settings = GatewaySettings(tape=folder, fast=100_000, slow=1)
        rounds = [play_round(settings, tape, asked.turns) for _ in range(asked.rounds)]
    served, several, decoded, at_best, shares = zip(*rounds, strict=True)
    sys.stdout.write(
        f"served to one client    {spread(medians(served), ',.0f')} messages/s\n"
        f"decodable by ib_insync  {spread(medians(decoded), ',.0f')} messages/s:"
        f" served / decodable {spread(median_ratios(served, decoded), '.2f')}\n"
        f"  ... in small pieces   {spread(medians(at_best), ',.0f')} messages/s:"
        f" served / decodable {spread(median_ratios(served, at_best), '.2f')}\n"
        f"served to {N_CLIENTS} clients     {spread(medians(several), ',.0f')} messages/s in sum:"
        f" sum / decodable {spread(median_ratios(several, decoded), '.2f')},"
        f" fewest / most {spread(medians(shares), '.3f')}\n"
    )


def spread(values: Sequence[float], form: str) -> str:
    """Return the median and the range of some figures as text."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of each pair."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def medians(rounds: Sequence[Sequence[float]]) -> list[float]:
    """Return the median of each round."""
    return [statistics.median(of_round) for of_round in rounds]


def median_ratios(
    ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]
) -> list[float]:
    """Return of each round the median of its turns' ratios."""
    return medians([ratios(*pair) for pair in zip(ours, theirs, strict=True)])


def play_round(
    settings: GatewaySettings, tape: Tape, n_turns: int
) -> tuple[list[float], list[float], list[float], list[float], list[float]]:
    """Return of each turn: messages per second served to one and in sum to several, and decoded.

    Decoded with the gateway's buffers, and in small pieces; then the least share of a client.
    """
    with ExitStack() as stack:
        one = stack.enter_context(Served.open(settings, tape, n_clients=1))
        several = stack.enter_context(Served.open(settings, tape, n_clients=N_CLIENTS))
        canned = Canned.of(bytes(one.clients[0].heard), n_turns)
        symbols = tuple(tape.instruments)
        usual, small = (
            stack.enter_context(Decoding.open(canned, symbols, buffer_bytes=buffer_bytes))
            for buffer_bytes in (SEND_BUFFER_BYTES, WRITE_BYTES)
        )
        decoded, at_best = [], []
        for number in range(n_turns):
            one.serve()
            decoded.append(usual.decode(number))
            at_best.append(small.decode(number))
            several.serve()
    ((served,), of_several) = one.rates(), several.rates()
    sums = [sum(of_turn) for of_turn in zip(*of_several, strict=True)]
    shares = [min(of_turn) / max(of_turn) for of_turn in zip(*of_several, strict=True)]
    return served, sums, decoded, at_best, shares


@dataclass
class Served:
    """A gateway that stands still but for its turns, and its clients.

    Attributes:
        clients: what has subscribed to all symbols.
        let_run: lets its process run or stand still.
        turns: of each, how many bytes each client had heard before and after it, and its seconds.
    """

    clients: list[RawClient]
    let_run: Callable[[bool], None]
    turns: list[tuple[list[int], list[int], float]] = field(default_factory=list)

    @classmethod
    @contextmanager
    def open(cls, settings: GatewaySettings, tape: Tape, *, n_clients: int) -> Iterator[Served]:
        """Start one, and let it get warm."""
        with stoppable_gateway(settings) as (port, let_run):
            clients = [RawClient(port, number + 1) for number in range(n_clients)]
            for client in clients:
                subscribe(client, tape)
            served = cls(clients, let_run)
            served._run(WARM_UP_S)
            yield served
            for client in clients:
                client.socket.close()

    def serve(self) -> None:
        """Take a turn."""
        before = self._n_heard()
        took_s = self._run(TURN_S)
        self.turns.append((before, self._n_heard(), took_s))

    def rates(self) -> list[list[float]]:
        """Return the messages per second of each client in each turn.

        Raises:
            AssertionError: in a turn there was nothing to hear.
        """
        found = []
        for number, client in enumerate(self.clients):
            ends = frame_ends(client.heard)
            rates = [
                (bisect_right(ends, after[number]) - bisect_right(ends, before[number])) / took_s
                for before, after, took_s in self.turns
            ]
            if min(rates) < statistics.median(rates) / 10:
                raise AssertionError("the tape has ended in a turn; choose fewer --turns")
            found.append(rates)
        return found

    def _run(self, seconds: float) -> float:
        """Let the gateway run and all clients receive; return the seconds that it really took.

        They look for data now and then instead of waiting in the socket: a client that is
        saturated does not wait either, and to wake one up may cost a writer more than to write.
        """
        self.let_run(True)
        began = perf_counter()
        while perf_counter() < began + seconds:
            self._receive()
            sleep(LOOK_S)
        self.let_run(False)
        took_s = perf_counter() - began
        self._receive()
        return took_s

    def _receive(self) -> None:
        for client in self.clients:
            client.receive_what_is_there()

    def _n_heard(self) -> list[int]:
        return [len(client.heard) for client in self.clients]


def subscribe(client: RawClient, tape: Tape) -> None:
    """Ask for the quotes of all symbols, with request ids from 1 on as ib_insync gives them."""
    for number, (name, instrument) in enumerate(tape.instruments.items()):
        contract = {
            "con_id": instrument.con_id,
            "symbol": name,
            "sec_type": "STK",
            "exchange": "SMART",
            "currency": "USD",
        }
        values = {"req_id": number + 1, "contract": contract, "generic_ticks": "233"}
        client.send("reqMktData", values)


@dataclass(frozen=True)
class Canned:
    """What a client has heard, to be sent again.

    Attributes:
        hello: answer to the handshake.
        opening: what comes before the first ticks.
        pieces: ticks of each turn, and how many messages they are.
    """

    hello: bytes
    opening: bytes
    pieces: list[tuple[bytes, int]]

    @classmethod
    def of(cls, stream: bytes, n_pieces: int) -> Canned:
        """Cut a stream, so that no piece is sent twice: ib_insync must find prices that change."""
        ends = frame_ends(stream)
        first = stream.index(b"Sec-def data farm")
        n_opening = next(number for number, end in enumerate(ends) if end > first) + 1
        n_each = min((len(ends) - n_opening) // n_pieces, N_CANNED)
        if n_each < N_CANNED // 4:
            raise AssertionError("too little was heard at first; choose fewer --turns")
        cuts = [ends[n_opening - 1 + number * n_each] for number in range(n_pieces + 1)]
        pieces = [(stream[start:end], n_each) for start, end in pairwise(cuts)]
        return cls(stream[: ends[0]], stream[ends[0] : ends[n_opening - 1]], pieces)


@dataclass(frozen=True)
class Decoding:
    """An ib_insync that decodes canned messages in its turns."""

    canned: Canned
    connection: socket.socket
    pipe: Connection

    @classmethod
    @contextmanager
    def open(
        cls, canned: Canned, symbols: Sequence[str], *, buffer_bytes: int
    ) -> Iterator[Decoding]:
        """Start one, and let it open the API and subscribe."""
        with (
            listener(buffer_bytes) as (door, port),
            process(decoding_client, port, symbols) as pipe,
        ):
            connection, _ = door.accept()
            with connection:
                connection.recv(RECEIVE_BYTES)
                connection.sendall(canned.hello)
                connection.recv(RECEIVE_BYTES)
                connection.sendall(canned.opening)
                yield cls(canned, connection, pipe)

    def decode(self, number: int) -> float:
        """Take a turn; return how many messages were decoded in a second."""
        ticks, n_messages = self.canned.pieces[number]
        self.pipe.send(None)
        heard, time_request = b"", REQUESTS.encode("reqCurrentTime", {}, VERSION)
        while time_request not in heard:
            heard += self.connection.recv(RECEIVE_BYTES)
        for start in range(0, len(ticks), WRITE_BYTES):
            self.connection.sendall(ticks[start : start + WRITE_BYTES])
        self.connection.sendall(REPLIES.encode("currentTime", {"time": 0}, VERSION))
        n_decoded, took_s = told(self.pipe)
        if n_decoded != n_messages + 1:
            raise AssertionError(f"expected {n_messages + 1} messages decoded, found {n_decoded}")
        return n_messages / took_s


def decoding_client(pipe: Connection, port: int, symbols: Sequence[str]) -> None:
    """Be the client: subscribe; in each turn ask for the time, tell how many messages how long."""
    logging.disable(logging.CRITICAL)
    asyncio.run(_decode(pipe, port, symbols))


async def _decode(pipe: Connection, port: int, symbols: Sequence[str]) -> None:
    ib = IB()
    # Without the requests of IB.connectAsync, which nobody would answer here.
    await ib.client.connectAsync("127.0.0.1", port, clientId=1, timeout=10)
    tickers = [ib.reqMktData(Stock(name, "SMART", "USD"), "233") for name in symbols]
    while True:
        # Stands still, without its event loop, until it has its turn.
        pipe.recv()
        before = ib.client.connectionStats().numMsgRecv
        began = perf_counter()
        await ib.reqCurrentTimeAsync()
        took_s = perf_counter() - began
        if not all(ticker.last > 0 and ticker.rtVolume > 0 for ticker in tickers):
            raise AssertionError("a ticker has not heard its ticks")
        pipe.send((ib.client.connectionStats().numMsgRecv - before, took_s))


if __name__ == "__main__":
    main()
