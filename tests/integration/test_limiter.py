"""The limiter in the place of the library's throttle, over real sockets in virtual time."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import anyio
import pytest
from ib_insync import IB, Order

from momentum_lab.core.history_pacing import HistoryKey
from momentum_lab.core.pacing import SECOND_S, PacingParameters, Priority
from momentum_lab.errors import BrokerError, ConnectionLostError
from momentum_lab.gateway.server import Gateway
from momentum_lab.gateway.virtual import VIRTUAL_TIME
from momentum_lab.live.ibkr.history_desk import HistoryDesk
from momentum_lab.live.ibkr.limiter import Limiter
from tests.gateway_client import LIMIT_S, errors_of, settle, spy, standing_gateway
from tests.gateway_factories import NOON, second_tape, seconds

pytestmark = pytest.mark.anyio
TAPE = second_tape(seconds([100.0 + n % 5 / 100 for n in range(300)], start_ns=NOON - 120 * 10**9))
P = PacingParameters()
RATE_EXCEEDED, PACING_VIOLATION = 100, 162
EXIT_LIMIT_S = 0.05
FIRST_STORM_ID = 100_000


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", dict(VIRTUAL_TIME)


Heard = list[tuple[float, str, dict[str, Any]]]


@contextmanager
def heard_by(gateway: Gateway) -> Iterator[Heard]:
    """Collect what the gateway takes, as (seconds, name, values)."""
    found: Heard = []

    def hear(direction: str, _client_id: int | None, content: Any) -> None:
        if direction == "<":
            found.append((anyio.current_time(), *content))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway.hub, "log_wire", hear)
        yield found


def named(heard: Heard, name: str) -> list[tuple[float, dict[str, Any]]]:
    return [(at_s, values) for at_s, what, values in heard if what == name]


def most_in_a_second(heard: Heard) -> int:
    recent, most = deque[float](), 0
    for at_s, _, _ in heard:
        recent.append(at_s)
        while at_s - recent[0] > SECOND_S:
            recent.popleft()
        most = max(most, len(recent))
    return most


@asynccontextmanager
async def limited(gateway: Gateway, limiter: Limiter, client_id: int = 1) -> AsyncIterator[IB]:
    """An ib_insync client whose messages pass a limiter that runs."""
    ib = IB()
    limiter.attach(ib)
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.run)
        with anyio.fail_after(LIMIT_S):
            await ib.connectAsync("127.0.0.1", gateway.port, clientId=client_id, timeout=LIMIT_S)
        try:
            yield ib
        finally:
            limiter.detach()
            ib.disconnect()
            group.cancel_scope.cancel()


def storm(ib: IB, n_messages: int) -> None:
    """Send requests of three classes, of which the broker knows none by its id."""
    client: Any = ib.client
    requests = cycle((client.cancelMktData, client.cancelPnL, client.cancelHistoricalData))
    for req_id, request in enumerate(islice(requests, n_messages), start=FIRST_STORM_ID):
        request(req_id)


async def emptied(limiter: Limiter) -> None:
    while limiter.n_waiting:  # noqa: ASYNC110 - nobody but a test wants to know
        await anyio.sleep(1.0)


def resting(ref: str) -> Order:
    return Order(action="SELL", totalQuantity=1, orderType="LMT", lmtPrice=500, orderRef=ref)


# -------------------------------------------------------------------- messages


async def test_an_exit_in_a_storm_arrives_at_once_and_no_second_holds_too_much(
    tmp_path: Path,
) -> None:
    limiter, sent_s = Limiter(P), dict[str, float]()
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        found = errors_of(ib)
        with heard_by(gateway) as heard:
            storm(ib, 10_000)
            for number in range(50):
                # Also two at once, and in all phases of the window.
                ref = f"exit {number}"
                with limiter.speaking(Priority.EXIT):
                    sent_s[ref] = anyio.current_time()
                    ib.placeOrder(spy(), resting(ref))
                await anyio.sleep(0.37 * (number % 2))
            await emptied(limiter)
            await settle(ib)
        assert ib.isConnected()
    arrived_s = {v["order_ref"]: at_s for at_s, v in named(heard, "placeOrder")}
    assert arrived_s.keys() == sent_s.keys()
    assert max(arrived_s[ref] - sent_s[ref] for ref in sent_s) <= EXIT_LIMIT_S
    assert RATE_EXCEEDED not in {code for _, code in found}
    assert len(heard) == 10_000 + 50 + 1
    assert most_in_a_second(heard) <= P.messages_per_s


async def test_what_may_leave_leaves_in_the_same_call(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        storm(ib, 1000)
        n_before = ib.client.conn.numMsgSent
        with limiter.speaking(Priority.EXIT):
            ib.placeOrder(spy(), resting("exit"))
        assert ib.client.conn.numMsgSent == n_before + 1


async def test_a_family_leaves_in_one_write_and_arrives_in_its_order(tmp_path: Path) -> None:
    limiter, writes = Limiter(P), list[bytes]()
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        transport: Any = ib.client.conn.transport
        write = transport.write

        def noting(data: bytes) -> None:
            writes.append(data)
            write(data)

        transport.write = noting
        with heard_by(gateway) as heard:
            with limiter.together():
                for ref in ("entry", "stop", "target"):
                    ib.placeOrder(spy(), resting(ref))
                assert writes == []
            assert (len(writes), limiter.n_waiting) == (1, 0)
            await settle(ib)
        assert [v["order_ref"] for _, v in named(heard, "placeOrder")] == [
            "entry",
            "stop",
            "target",
        ]


async def test_a_family_that_is_not_complete_does_not_leave(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        with heard_by(gateway) as heard:
            with pytest.raises(RuntimeError), limiter.together():
                ib.placeOrder(spy(), resting("entry"))
                raise RuntimeError
            ib.placeOrder(spy(), resting("alone"))
            await settle(ib)
        assert [v["order_ref"] for _, v in named(heard, "placeOrder")] == ["alone"]


async def test_a_time_request_does_not_wait_in_the_queue(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        storm(ib, 1000)
        began_s = anyio.current_time()
        await settle(ib)
        assert anyio.current_time() - began_s <= EXIT_LIMIT_S


async def test_positions_are_told_before_quotes_that_were_asked_for_earlier(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        await anyio.sleep(2.0)
        storm(ib, 1000)
        began_s = anyio.current_time()
        await ib.reqPositionsAsync()
        await ib.reqAllOpenOrdersAsync()
        await ib.reqExecutionsAsync()
        assert anyio.current_time() - began_s <= EXIT_LIMIT_S


async def test_a_class_is_raised_inside_the_block_alone(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        await anyio.sleep(2.0)
        with heard_by(gateway) as heard:
            storm(ib, 200)
            with limiter.speaking(Priority.EXIT):
                ib.client.cancelMktData(1)
            with limiter.speaking(Priority.NEWS):
                ib.placeOrder(spy(), resting("still an entry"))
            ib.client.cancelMktData(2)
            await anyio.sleep(0.5)
        ids = [values["req_id"] for _, values in named(heard, "cancelMktData")]
        assert (1 in ids, 2 in ids) == (True, False)
        assert len(named(heard, "placeOrder")) == 1


async def test_a_cancel_does_not_overtake_its_order(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        await anyio.sleep(2.0)
        with heard_by(gateway) as heard:
            trades = [ib.placeOrder(spy(), resting(f"entry {n}")) for n in range(40)]
            assert limiter.n_waiting > 0
            ib.cancelOrder(trades[-1].order)
            assert limiter.n_waiting < 40
            await anyio.sleep(0.5)
            last = trades[-1].order.orderId
            about = [n for _, n, v in heard if v.get("order_id") == last]
            assert about == ["placeOrder", "cancelOrder"]
        await anyio.sleep(2.0)
        assert trades[-1].orderStatus.status == "Cancelled"


async def test_no_order_follows_the_cancel_of_all(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        await anyio.sleep(2.0)
        with heard_by(gateway) as heard:
            trades = [ib.placeOrder(spy(), resting(f"entry {n}")) for n in range(80)]
            ib.reqGlobalCancel()
            await anyio.sleep(5.0)
        assert [name for _, name, _ in heard] == ["placeOrder"] * 80 + ["reqGlobalCancel"]
        assert {trade.orderStatus.status for trade in trades} == {"Cancelled"}


async def test_messages_to_a_dead_connection_never_reach_the_next(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway:
        async with limited(gateway, limiter) as ib:
            storm(ib, 500)
            await anyio.sleep(0.5)
            n_left = limiter.n_waiting
            assert n_left > 0
        assert (limiter.n_waiting, limiter.n_dropped) == (0, n_left)
        with heard_by(gateway) as heard:
            async with limited(gateway, limiter):
                await anyio.sleep(20.0)
        ids = [values.get("req_id") or 0 for _, _, values in heard]
        assert max(ids) < FIRST_STORM_ID


async def test_a_connection_that_breaks_by_itself_drops_what_waits(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        storm(ib, 500)
        gateway.inject("tcp_reset")
        await anyio.sleep(5.0)
        assert not ib.isConnected()
        assert limiter.n_waiting == 0
        assert limiter.n_dropped > 0


async def test_the_second_of_a_reconnection_is_one_second(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway:
        with heard_by(gateway) as heard:
            for _ in range(5):
                async with limited(gateway, limiter) as ib:
                    storm(ib, 100)
    assert most_in_a_second(heard) <= P.messages_per_s


async def test_a_client_gets_its_own_throttle_back(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        found = errors_of(ib)
        await anyio.sleep(2.0)
        limiter.detach()
        storm(ib, 200)
        await anyio.sleep(10.0)
        assert limiter.n_waiting == 0
        assert ib.client.MaxRequests == 45
        assert RATE_EXCEEDED not in {code for _, code in found}


async def test_it_tells_what_it_has_sent_and_how_long_what_waited(tmp_path: Path) -> None:
    limiter = Limiter(P)
    async with standing_gateway(TAPE, tmp_path) as gateway, limited(gateway, limiter) as ib:
        await anyio.sleep(2.0)
        n_before = limiter.n_sent
        storm(ib, 100)
        assert limiter.n_waiting + limiter.n_sent == n_before + 100
        await anyio.sleep(10.0)
        assert limiter.n_sent == n_before + 100
        assert limiter.longest_wait_s[Priority.EXIT] == 0.0
        assert limiter.longest_wait_s[Priority.LOOKUP] > SECOND_S


# --------------------------------------------------------------------- history


def bars_key(n_seconds: int, what: str = "TRADES", *, bar_s: int = 5) -> HistoryKey:
    return HistoryKey(756733, "SMART", what, bar_s, (f"{n_seconds} S",))


class Asker:
    """Asks a desk for bars of SPY.

    Attributes:
        n_sent: how many requests have gone to the broker.
    """

    def __init__(self, ib: IB, desk: HistoryDesk) -> None:
        self.n_sent = 0
        self._ib = ib
        self._desk = desk

    async def bars(self, key: HistoryKey) -> int:
        size = "1 min" if key.seconds == 60 else f"{key.seconds} secs"

        async def request() -> int:
            self.n_sent += 1
            found = await self._ib.reqHistoricalDataAsync(
                spy(), "", str(key.details[0]), size, key.tick_type, True, timeout=0
            )
            return len(found)

        return await self._desk.ask(key, request)


@asynccontextmanager
async def desk_of(limiter: Limiter) -> AsyncIterator[HistoryDesk]:
    desk = HistoryDesk(limiter, P)
    async with anyio.create_task_group() as group:
        await group.start(desk.run)
        yield desk
        group.cancel_scope.cancel()


async def test_more_histories_than_allowed_are_all_answered_in_time(tmp_path: Path) -> None:
    limiter, answers = Limiter(P), list[int]()
    async with (
        standing_gateway(TAPE, tmp_path) as gateway,
        limited(gateway, limiter) as ib,
        desk_of(limiter) as desk,
    ):
        found, asker = errors_of(ib), Asker(ib, desk)

        async def ask(key: HistoryKey) -> None:
            answers.append(await asker.bars(key))

        storm(ib, 500)
        async with anyio.create_task_group() as group:
            for number in range(100):
                what = ("TRADES", "MIDPOINT", "BID_ASK")[number % 3]
                group.start_soon(ask, bars_key(60 + number, what))
    assert PACING_VIOLATION not in {code for _, code in found}
    assert len(answers) == asker.n_sent == 100
    assert min(answers) > 0


async def test_the_same_question_gets_one_answer(tmp_path: Path) -> None:
    limiter, answers = Limiter(P), list[int]()
    async with (
        standing_gateway(TAPE, tmp_path) as gateway,
        limited(gateway, limiter) as ib,
        desk_of(limiter) as desk,
    ):
        asker = Asker(ib, desk)

        async def ask() -> None:
            answers.append(await asker.bars(bars_key(60)))

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(ask)
        assert (answers, asker.n_sent) == ([12] * 10, 1)
        # Once it is answered it is asked again, and only then waits.
        began_s = anyio.current_time()
        assert await asker.bars(bars_key(60)) == 12
        assert anyio.current_time() - began_s > 14.0
        assert asker.n_sent == 2


async def _never(desk: HistoryDesk, key: HistoryKey, log: list[str]) -> None:
    """Ask for what is never answered."""

    async def request() -> None:
        log.append("sent")
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    try:
        await desk.ask(key, request)
    except ConnectionLostError:
        log.append("lost")


async def test_who_leaves_does_not_take_the_answer_from_the_others() -> None:
    desk, log = HistoryDesk(Limiter(P), P), list[str]()
    async with anyio.create_task_group() as group:
        await group.start(desk.run)
        scopes = [anyio.CancelScope() for _ in range(3)]

        async def wait(scope: anyio.CancelScope) -> None:
            with scope:
                await _never(desk, bars_key(60), log)

        for scope in scopes:
            group.start_soon(wait, scope)
        await anyio.sleep(1.0)
        for scope in scopes[:2]:
            scope.cancel()
            await anyio.sleep(1.0)
        assert log == ["sent"]
        scopes[2].cancel()
        await anyio.sleep(1.0)
        assert log == ["sent", "cancelled"]
        group.cancel_scope.cancel()


async def test_what_nobody_waits_for_any_more_is_not_sent() -> None:
    desk, log = HistoryDesk(Limiter(P), P), list[str]()
    async with anyio.create_task_group() as group:
        await group.start(desk.run)
        for n_seconds in range(60, 60 + P.same_kind_history):
            group.start_soon(_never, desk, bars_key(n_seconds), log)
        await anyio.sleep(0.1)
        with anyio.move_on_after(1.0):
            await _never(desk, bars_key(100), log)
        await anyio.sleep(0.1)
        assert desk.n_waiting == 0
        await anyio.sleep(5.0)
        assert log == ["sent"] * P.same_kind_history
        group.cancel_scope.cancel()


async def test_a_failure_is_everybodys() -> None:
    desk, told = HistoryDesk(Limiter(P), P), list[str]()

    async def refused() -> int:
        await anyio.sleep(1.0)
        raise BrokerError("162 no permission")

    async def ask() -> None:
        with pytest.raises(BrokerError, match="no permission") as caught:
            await desk.ask(bars_key(60), refused)
        told.append(str(caught.value))

    async with anyio.create_task_group() as group:
        await group.start(desk.run)
        async with anyio.create_task_group() as askers:
            for _ in range(3):
                askers.start_soon(ask)
        group.cancel_scope.cancel()
    assert told == ["162 no permission"] * 3


async def test_the_end_of_a_connection_is_told_to_all_who_wait() -> None:
    desk, log = HistoryDesk(Limiter(P), P), list[str]()
    async with anyio.create_task_group() as askers, anyio.create_task_group() as connection:
        await connection.start(desk.run)
        for n_seconds in (60, 60, 61, 62, 63, 64, 65):
            askers.start_soon(_never, desk, bars_key(n_seconds), log)
        await anyio.sleep(0.1)
        assert desk.n_waiting == 2
        connection.cancel_scope.cancel()
    assert log.count("lost") == 7
    with pytest.raises(ConnectionLostError, match="not connected"):
        await desk.ask(bars_key(60), anyio.sleep_forever)


async def test_pacing_outlives_a_connection() -> None:
    desk = HistoryDesk(Limiter(P), P)

    async def at_once() -> float:
        return anyio.current_time()

    sent_s = []
    for _ in range(2):
        async with anyio.create_task_group() as connection:
            await connection.start(desk.run)
            sent_s.append(await desk.ask(bars_key(60), at_once))
            connection.cancel_scope.cancel()
    assert sent_s[1] - sent_s[0] > 15.0


async def test_large_bars_do_not_wait_for_small_ones() -> None:
    desk, log = HistoryDesk(Limiter(P), P), list[str]()

    async def at_once() -> float:
        return anyio.current_time()

    async with anyio.create_task_group() as group:
        await group.start(desk.run)
        for n_seconds in range(60, 80):
            group.start_soon(_never, desk, bars_key(n_seconds), log)
        await anyio.sleep(0.1)
        assert desk.n_waiting > 0
        began_s = anyio.current_time()
        assert await desk.ask(bars_key(60, bar_s=60), at_once) - began_s <= EXIT_LIMIT_S
        group.cancel_scope.cancel()
