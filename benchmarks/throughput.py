"""How many messages the paper gateway serves, beside how many one client can decode.

Run:  python benchmarks/throughput.py [--rounds 5] [--seconds 1]

Ten symbols of a seeded day are played as fast as they go. In each round, one after the other:

* served: the gateway, in a process of its own, has one client that does nothing but receive.
  Counted are the messages that arrive in a time window: each has gone the whole way from the tape
  through quotes, session and encoder into the socket. Ticks that the gateway conflates because a
  socket is full are not sent and not counted.
* decodable: the bytes that this client has heard are sent again, canned, in writes of 16 kB over a
  socket with the gateway's buffers, to an unmodified ib_insync in a process of its own, which has
  subscribed to the same symbols and has no handler of events. Counted are its messages per second,
  from a time request to the answer behind all these messages: it never waits for data, its core
  is the limit.
* decodable in small pieces: the same with a send buffer of 16 kB. The library copies the rest of
  its buffer for each message, so it decodes faster where less is waiting for it.
* served to 8: as served, with eight such clients at once; their sum, and how the one that got
  the fewest messages compares with the one that got the most.

Each figure is the median of the rounds with the least and the greatest; ratios are taken in each
round. Sender and receiver have two processes in each case, so two cores are enough.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import socket
import statistics
import sys
import tempfile
from collections.abc import Sequence
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
    gateway_process,
    listener,
    process,
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
WARM_UP_S = 0.5
LOOK_S = 0.002
# Afterwards there must still be something to hear.
LOOK_ON_S = 0.1
# Messages that are sent again to the decoding client.
N_CANNED = 150_000


def main() -> None:
    """Print the figures."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=1.0)
    asked = options.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "tape"
        tape = make_tape(N_SYMBOLS, 0, MINUTES, noise=NOISE)
        write_tape(tape, folder)
        settings = GatewaySettings(tape=folder, fast=100_000, slow=1)
        served, decoded, at_best, totals, shares = [], [], [], [], []
        for _ in range(asked.rounds):
            (one,), stream = serve(settings, tape, n_clients=1, seconds=asked.seconds)
            served.append(one)
            decoded.append(decode(stream, tape, buffer_bytes=SEND_BUFFER_BYTES))
            at_best.append(decode(stream, tape, buffer_bytes=WRITE_BYTES))
            several, _ = serve(settings, tape, n_clients=N_CLIENTS, seconds=asked.seconds)
            totals.append(sum(several))
            shares.append(min(several) / max(several))
    sys.stdout.write(
        f"served to one client    {spread(served, ',.0f')} messages/s\n"
        f"decodable by ib_insync  {spread(decoded, ',.0f')} messages/s:"
        f" served / decodable {spread(ratios(served, decoded), '.2f')}\n"
        f"  ... in small pieces   {spread(at_best, ',.0f')} messages/s:"
        f" served / decodable {spread(ratios(served, at_best), '.2f')}\n"
        f"served to {N_CLIENTS} clients     {spread(totals, ',.0f')} messages/s in sum:"
        f" sum / decodable {spread(ratios(totals, decoded), '.2f')},"
        f" fewest / most {spread(shares, '.3f')}\n"
    )


def spread(values: Sequence[float], form: str) -> str:
    """Return the median and the range of some figures as text."""
    return f"{statistics.median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of each round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def serve(
    settings: GatewaySettings, tape: Tape, *, n_clients: int, seconds: float
) -> tuple[list[float], bytes]:
    """Return the messages per second of each client, and all that the first one has heard."""
    with gateway_process(settings) as port:
        clients = [RawClient(port, number + 1) for number in range(n_clients)]
        for client in clients:
            subscribe(client, tape)
        receive_for(WARM_UP_S, clients)
        before = [len(client.heard) for client in clients]
        took_s = receive_for(seconds, clients)
        after = [len(client.heard) for client in clients]
        receive_for(LOOK_ON_S, clients)
        if len(clients[0].heard) == after[0]:
            raise AssertionError("the tape has ended in the time window; choose fewer --seconds")
        for client in clients:
            client.socket.close()
    rates = []
    for client, start, end in zip(clients, before, after, strict=True):
        ends = frame_ends(client.heard)
        rates.append(sum(start < place <= end for place in ends) / took_s)
    return rates, bytes(clients[0].heard)


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


def receive_for(seconds: float, clients: Sequence[RawClient]) -> float:
    """Let all clients receive; return the seconds that it really took.

    They look for data now and then instead of waiting in the socket: a client that is saturated
    does not wait either, and to wake one up may cost a writer more than to write.
    """
    began = perf_counter()
    while perf_counter() < began + seconds:
        for client in clients:
            client.receive_what_is_there()
        sleep(LOOK_S)
    return perf_counter() - began


def decode(stream: bytes, tape: Tape, *, buffer_bytes: int) -> float:
    """Return how many messages of a recorded stream ib_insync decodes in a second."""
    ends = frame_ends(stream)
    first = stream.index(b"Sec-def data farm")
    n_opening = next(number for number, end in enumerate(ends) if end > first) + 1
    last = min(n_opening + N_CANNED, len(ends)) - 1
    opening, ticks = stream[ends[0] : ends[n_opening - 1]], stream[ends[n_opening - 1] : ends[last]]
    symbols = tuple(tape.instruments)
    with listener(buffer_bytes) as (door, port), process(decoding_client, port, symbols) as pipe:
        connection, _ = door.accept()
        with connection:
            answer(connection, stream[: ends[0]], opening)
            for start in range(0, len(ticks), WRITE_BYTES):
                connection.sendall(ticks[start : start + WRITE_BYTES])
            connection.sendall(REPLIES.encode("currentTime", {"time": 0}, VERSION))
            n_messages, took_s = told(pipe)
    n_canned = last + 1 - n_opening
    if n_messages != n_canned + 1:
        raise AssertionError(f"expected {n_canned + 1} messages decoded, found {n_messages}")
    return n_canned / took_s


def answer(connection: socket.socket, hello: bytes, opening: bytes) -> None:
    """Let a client open the API; return once it has asked for the time."""
    connection.recv(RECEIVE_BYTES)
    connection.sendall(hello)
    connection.recv(RECEIVE_BYTES)
    connection.sendall(opening)
    heard, time_request = b"", REQUESTS.encode("reqCurrentTime", {}, VERSION)
    while time_request not in heard:
        heard += connection.recv(RECEIVE_BYTES)


def decoding_client(pipe: Connection, port: int, symbols: Sequence[str]) -> None:
    """Be the client: subscribe, ask for the time, tell how many messages it took how long."""
    logging.disable(logging.CRITICAL)
    pipe.send(asyncio.run(_decode(port, symbols)))


async def _decode(port: int, symbols: Sequence[str]) -> tuple[int, float]:
    ib = IB()
    # Without the requests of IB.connectAsync, which nobody would answer here.
    await ib.client.connectAsync("127.0.0.1", port, clientId=1, timeout=10)
    tickers = [ib.reqMktData(Stock(name, "SMART", "USD"), "233") for name in symbols]
    before = ib.client.connectionStats().numMsgRecv
    began = perf_counter()
    await ib.reqCurrentTimeAsync()
    took_s = perf_counter() - began
    if not all(ticker.last > 0 and ticker.rtVolume > 0 for ticker in tickers):
        raise AssertionError("a ticker has not heard its ticks")
    n_messages = ib.client.connectionStats().numMsgRecv - before
    ib.disconnect()
    return n_messages, took_s


if __name__ == "__main__":
    main()
