"""The broker's limits on a client, over real sockets in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from ib_insync import IB, Stock

from momentum_lab.gateway.limits import Limits
from momentum_lab.gateway.virtual import VIRTUAL_TIME
from tests.gateway_client import (
    connected,
    errors_of,
    news_tape,
    play,
    settle,
    spy,
    standing_gateway,
)
from tests.gateway_factories import NOON, second_tape, seconds

pytestmark = pytest.mark.anyio
TAPE = second_tape(seconds([100.0 + n % 5 / 100 for n in range(300)], start_ns=NOON - 120 * 10**9))
PACING = "Historical Market Data Service error message:Historical data request pacing violation"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", dict(VIRTUAL_TIME)


def texts_of(ib: IB) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    ib.errorEvent += lambda req_id, code, text, _contract: found.append((req_id, code, text))
    return found


def greedy(ib: IB) -> None:
    ib.client.MaxRequests = 0


def send(ib: IB, n_messages: int, *, first_id: int = 1000) -> None:
    """Send requests that are each answered by an error of their own, code 300."""
    for req_id in range(first_id, first_id + n_messages):
        ib.client.cancelMktData(req_id)


async def rest(ib: IB, seconds_s: float = 2.0) -> None:
    """Let everything arrive, and the rate recover."""
    await anyio.sleep(seconds_s)
    if ib.isConnected():
        await settle(ib)


# ---------------------------------------------------------------- messages


async def test_the_fifty_first_message_of_a_second_is_refused(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        greedy(ib)
        await rest(ib)
        found = texts_of(ib)
        send(ib, 50 - 1)  # the question for the time counts too
        await anyio.sleep(0.1)
        assert [code for _, code, _ in found] == [300] * 49
        send(ib, 3)
        await rest(ib)
        assert found[49:] == [
            (-1, 100, "Max rate of messages per second has been exceeded:max=50 rec=51 (1)")
        ]
        send(ib, 1)
        await rest(ib)
        assert [code for _, code, _ in found[50:]] == [300]


async def test_the_third_violation_ends_the_session(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        greedy(ib)
        await rest(ib)
        found = texts_of(ib)
        for _ in range(2):
            send(ib, 80)
            await rest(ib)
        assert ib.isConnected()
        send(ib, 80)
        await rest(ib)
        assert not ib.isConnected()
        told = [text.rpartition(" ")[2] for _, code, text in found if code == 100]
        assert told == ["(1)", "(2)", "(3)"]
        assert gateway.hub.sessions == {}
        records = [r for r in gateway.journal.records if r["what"] == "message rate exceeded"]
        assert [record["violation"] for record in records] == [1, 2, 3]
        async with connected(gateway.port):
            """The same client may come back at once."""


async def test_each_client_has_its_own_rate(tmp_path: Path) -> None:
    async with (
        standing_gateway(TAPE, tmp_path) as gateway,
        connected(gateway.port, 1) as first,
        connected(gateway.port, 2) as second,
    ):
        await rest(first)
        await rest(second)
        found = [errors_of(ib) for ib in (first, second)]
        for ib in (first, second):
            greedy(ib)
            send(ib, 40)
        await rest(first)
        await rest(second)
    assert [[code for _, code in codes] for codes in found] == [[300] * 40] * 2


async def test_the_library_keeps_to_the_rate_by_itself(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        send(ib, 500)
        await rest(ib, 15.0)
    assert [code for _, code in found] == [300] * 500


async def test_a_rate_of_zero_lets_everything_through(tmp_path: Path) -> None:
    limits = Limits(max_messages_per_s=0)
    async with (
        standing_gateway(TAPE, tmp_path, limits=limits) as gateway,
        connected(gateway.port) as ib,
    ):
        greedy(ib)
        found = errors_of(ib)
        send(ib, 500)
        await rest(ib)
    assert [code for _, code in found] == [300] * 500


@pytest.mark.parametrize("option", ["", "+PACEAPI"])
async def test_a_paced_client_waits_in_its_order(tmp_path: Path, option: str) -> None:
    limits = Limits(max_messages_per_s=10, over_rate="reject" if option else "pace")
    async with standing_gateway(TAPE, tmp_path, limits=limits) as gateway:
        ib = IB()
        ib.client.setConnectOptions(option)
        await ib.connectAsync("127.0.0.1", gateway.port, clientId=1)
        greedy(ib)
        await rest(ib, 5.0)
        found = errors_of(ib)
        began_s = anyio.current_time()
        send(ib, 100)
        await settle(ib)
        took_s = anyio.current_time() - began_s
        ib.disconnect()
    assert found == [(1000 + n, 300) for n in range(100)]
    assert 9.0 <= took_s <= 10.5


async def test_what_a_fault_lets_pile_up_is_no_violation(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        gateway.inject("stalled_reader")
        send(ib, 1)  # what the reader was already waiting for
        await anyio.sleep(1.0)
        send(ib, 200)
        await anyio.sleep(10.0)
        gateway.hub.faults.end("stalled_reader")
        await rest(ib)
    assert [code for _, code in found] == [300] * 201


# ------------------------------------------------------------------- lines


async def test_lines_are_shared_by_all_clients(tmp_path: Path) -> None:
    async with (
        standing_gateway(
            TAPE, tmp_path, limits=Limits(max_lines=3, max_messages_per_s=0)
        ) as gateway,
        connected(gateway.port, 1) as first,
        connected(gateway.port, 2) as second,
    ):
        found = errors_of(second)
        contract = spy()
        first.reqMktData(contract)
        first.reqMktData(news_tape(), "mdoff,292")
        await settle(first)
        for req_id in (500, 501):
            second.client.reqMktData(req_id, spy(), "mdoff", False, False, [])
        await settle(second)
        assert found == [(501, 101)]
        first.cancelMktData(contract)
        await settle(first)
        second.client.reqMktData(502, spy(), "mdoff", False, False, [])
        await settle(second)
        assert found == [(501, 101)]


# ----------------------------------------------------------------- history


def small(ib: IB, what: str = "TRADES", *, length: str = "60 S", symbol: str = "SPY") -> Any:
    contract = Stock(symbol, "SMART", "USD")
    return ib.reqHistoricalDataAsync(contract, "", length, "5 secs", what, True, timeout=0)


async def test_the_same_history_again_within_15_seconds_is_a_violation(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = texts_of(ib)
        assert len(await small(ib)) == 12
        await anyio.sleep(14.0)
        assert list(await small(ib)) == []
        assert [(code, text) for _, code, text in found] == [(162, PACING)]
        await anyio.sleep(1.0)
        assert len(await small(ib)) == 12


async def test_the_sixth_history_of_a_stock_within_two_seconds_is_a_violation(
    tmp_path: Path,
) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        answers = [len(await small(ib, length=f"{n} S")) for n in range(60, 66)]
        assert [bool(n) for n in answers] == [True] * 5 + [False]
        assert len(await small(ib, "MIDPOINT")) > 0
        await anyio.sleep(2.0)
        assert len(await small(ib, length="65 S")) > 0
    assert [code for _, code in found] == [162]


async def test_sixty_histories_in_ten_minutes_are_all_that_all_clients_get(tmp_path: Path) -> None:
    async with (
        standing_gateway(TAPE, tmp_path) as gateway,
        connected(gateway.port, 1) as first,
        connected(gateway.port, 2) as second,
    ):
        found = errors_of(second)
        for number in range(30):
            assert len(
                await small((first, second)[number % 2], "BID_ASK", length=f"{60 + number} S")
            )
            await anyio.sleep(2.0)
        assert list(await small(second, length="90 S")) == []
        # The start of a history and bars of a minute: the one counts as a small bar.
        minutes = await second.reqHistoricalDataAsync(spy(), "", "60 S", "1 min", "TRADES", True)
        head: Any = await second.reqHeadTimeStampAsync(spy(), "TRADES", True, 1)
        assert (len(minutes), head) == (1, [])
        await anyio.sleep(600.0)
        assert len(await small(second, length="90 S")) == 18
    assert [code for _, code in found] == [162, 162]


async def test_what_is_refused_for_another_reason_does_not_count(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        for _ in range(10):
            await small(ib, "FEE_RATE")
            await small(ib, symbol="NOPE")
        assert len(await small(ib)) == 12
    assert [code for _, code in found] == [321, 200] * 10


async def test_pacing_of_history_can_be_switched_off(tmp_path: Path) -> None:
    limits = Limits(paces_history=False)
    async with (
        standing_gateway(TAPE, tmp_path, limits=limits) as gateway,
        connected(gateway.port) as ib,
    ):
        assert [len(await small(ib)) for _ in range(70)] == [12] * 70


async def test_past_ticks_are_paced_like_small_bars(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        asked = [(spy(), "", "20131009-16:00:00", n) for n in (10, 10, 0, 1001, 11, 12, 13, 14, 15)]
        answers = [len(await ib.reqHistoricalTicksAsync(*a, "TRADES", True)) for a in asked]
    # The second is the first again, two numbers are none, and the last is the sixth at once.
    assert answers == [10, 0, 0, 0, 11, 12, 13, 14, 0]
    assert [code for _, code in found] == [162, 321, 321, 162]


async def test_sixty_real_time_bars_may_be_asked_for_in_ten_minutes(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = texts_of(ib)
        for _ in range(61):
            ib.reqRealTimeBars(spy(), 5, "TRADES", True)
        await rest(ib, 5.0)
    assert [(code, text) for _, code, text in found] == [
        (420, "Invalid Real-time Query:Historical data request pacing violation")
    ]


async def test_fifty_histories_may_be_kept_up_to_date_at_once(tmp_path: Path) -> None:
    async with standing_gateway(TAPE, tmp_path) as gateway, connected(gateway.port) as ib:
        found = texts_of(ib)
        kept = [
            await ib.reqHistoricalDataAsync(
                spy(), "", f"{60 + n} S", "1 min", "TRADES", True, keepUpToDate=True
            )
            for n in range(51)
        ]
        assert [bool(bars) for bars in kept] == [True] * 50 + [False]
        assert [(code, text.partition(" : ")[2]) for _, code, text in found] == [
            (322, "cause - Only 50 simultaneous API historical data requests allowed.")
        ]
        ib.cancelHistoricalData(kept[0])
        await settle(ib)
        again = await ib.reqHistoricalDataAsync(
            spy(), "", "300 S", "1 min", "TRADES", True, keepUpToDate=True
        )
        assert len(again) > 0
        await play(gateway, 1, ib)


# -------------------------------------------------------------------- news


async def test_one_news_request_is_in_flight_and_the_others_wait(tmp_path: Path) -> None:
    limits = Limits(news_answer_s=1.5)
    ended: list[tuple[str, float, Any]] = []

    async def ask(name: str, request: Any) -> None:
        answer = await request
        ended.append((name, round(anyio.current_time() - began_s, 3), answer))

    async with (
        standing_gateway(TAPE, tmp_path, limits=limits) as gateway,
        connected(gateway.port, 1) as first,
        connected(gateway.port, 2) as second,
    ):
        found = errors_of(second)
        began_s = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(ask, "past", first.reqHistoricalNewsAsync(756733, "BRFG", "", "", 9))
            await settle(first)
            group.start_soon(ask, "article", second.reqNewsArticleAsync("BRFG", "BRFG$00000009"))
            await settle(second)
            group.start_soon(ask, "late", first.reqHistoricalNewsAsync(756733, "BRFG", "", "", 9))
    assert [(name, at_s) for name, at_s, _ in ended] == [
        ("past", 1.5),
        ("article", 3.0),
        # The library waits four seconds at most.
        ("late", 4.0),
    ]
    assert (list(ended[0][2]), ended[2][2]) == ([], None)
    assert [code for _, code in found] == [10172]
