"""A line against the library's own ticker: the same frames, the same quote, and what ours adds."""

from __future__ import annotations

import math
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from ib_insync import IB, Stock, Ticker

from momentum_lab.clock import SystemClock
from momentum_lab.core.market import NS_PER_S, DataType, Instrument
from momentum_lab.live.ibkr.hearing import Ears
from momentum_lab.live.ibkr.line import Line, Lines, LineStatus
from tests.factories import NOON

REQUEST = 7
prices = st.integers(1, 30_000).map(lambda cents: cents / 100)
sizes = st.integers(0, 100_000)
price_ticks = st.tuples(st.sampled_from((1, 2, 4)), prices, sizes).map(
    lambda tick: (1, 6, REQUEST, tick[0], tick[1], tick[2], 1)
)
size_ticks = st.tuples(st.sampled_from((0, 3)), sizes).map(
    lambda tick: (2, 6, REQUEST, tick[0], tick[1])
)
others = st.sampled_from(
    (
        (1, 6, REQUEST, 6, 120.5, 0, 1),
        (1, 6, REQUEST, 9, 99.5, 0, 1),
        (2, 6, REQUEST, 8, 123_456),
        (46, 6, REQUEST, 45, "1700000000"),
        (46, 6, REQUEST, 84, "ARCA"),
        (1, 6, REQUEST + 1, 1, 5.0, 100, 1),
    )
)
frames = st.lists(st.one_of(price_ticks, size_ticks, others), max_size=40)


def _feed(ib: IB, messages: list[tuple[Any, ...]], *, chunk: int) -> None:
    packed = []
    for fields in messages:
        payload = "".join(f"{field}\0" for field in fields).encode()
        packed.append(struct.pack(">I", len(payload)) + payload)
    for at in range(0, len(packed), chunk):
        ib.client._onSocketHasData(b"".join(packed[at : at + chunk]))


def _client() -> IB:
    ib = IB()
    ib.client._serverVersion = 176
    ib.client.decoder.serverVersion = 176
    ib.client._apiReady = True
    return ib


class _SetClock(SystemClock):
    """Shows what it is set to."""

    at_ns = NOON

    def now_ns(self) -> int:
        return self.at_ns


def _line(
    messages: list[tuple[Any, ...]], *, chunk: int = 3, clock: SystemClock | None = None
) -> tuple[Line, list[str]]:
    """A line that has heard some messages, and the incidents it made."""
    ib, told = _client(), list[str]()
    ears = Ears(clock or SystemClock(), lambda kind, text: told.append(f"{kind}: {text}"))
    ears.attach(ib, on_code=lambda *_: None, on_loss=lambda _: None, on_doubt=told.append)
    line = Lines().want(Instrument("SPY", 756733))
    line.begin(REQUEST)
    ears.expect_line(REQUEST, line)
    _feed(ib, messages, chunk=chunk)
    ears.close()
    return line, told


def _ticker(messages: list[tuple[Any, ...]]) -> Ticker:
    ib = _client()
    found: Ticker = ib.wrapper.startTicker(REQUEST, Stock("SPY", "SMART", "USD"), "mktData")
    _feed(ib, messages, chunk=3)
    return found


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


@given(frames, st.integers(1, 7))
def test_a_line_shows_what_the_librarys_ticker_shows(
    messages: list[tuple[Any, ...]], chunk: int
) -> None:
    ticker = _ticker(messages)
    line, told = _line(messages, chunk=chunk)

    shown = (line.bid, line.ask, line.last, line.bid_size, line.ask_size)
    assert shown == tuple(
        _or_none(value)
        for value in (ticker.bid, ticker.ask, ticker.last, ticker.bidSize, ticker.askSize)
    )
    assert told == []


@given(frames)
def test_only_words_about_bid_ask_and_trades_make_a_line_flow(
    messages: list[tuple[Any, ...]],
) -> None:
    line, _ = _line(messages)

    spoke = any(
        fields[2] == REQUEST and fields[0] in (1, 2) and fields[3] in (0, 1, 2, 3, 4)
        for fields in messages
    )
    assert (line.status is LineStatus.FLOWING) is spoke
    assert (line.quote is not None) is spoke


@given(frames, st.sampled_from((66, 67)))
def test_one_delayed_tick_makes_the_line_delayed_until_the_broker_says_otherwise(
    messages: list[tuple[Any, ...]], kind: int
) -> None:
    delayed = (1, 6, REQUEST, kind, 50.0, 100, 1)
    line, _ = _line([*messages, delayed, *messages])
    assert line.data_type is DataType.DELAYED
    assert line.quote is not None
    assert "delayed" in str(line.quote.why_not_tradable(now_ns=line.at_ns, max_age_s=60))

    again, _ = _line([delayed, (58, 1, REQUEST, 1), (1, 6, REQUEST, 1, 50.0, 100, 1)])
    assert again.data_type is DataType.LIVE


@given(frames, st.sampled_from(("x", "1e", "--1")))
def test_a_message_with_ill_formed_numbers_changes_nothing_and_is_told(
    messages: list[tuple[Any, ...]], rubbish: str
) -> None:
    line, told = _line([*messages, (1, 6, REQUEST, 1, rubbish, 100, 1)])
    clean, _ = _line(messages)

    assert (line.bid, line.bid_size, line.ask) == (clean.bid, clean.bid_size, clean.ask)
    assert len(told) == 1
    assert told[0].startswith("bad datum: SPY")


def _trade(price: float, at_ns: int, day_volume: int) -> tuple[Any, ...]:
    text = f"{price};1;{at_ns // 1_000_000};{day_volume};{price};true"
    return (46, 6, REQUEST, 48, text)


@given(st.integers(90, 10**7))
def test_a_trade_of_the_future_is_refused_and_told_and_the_candles_go_on(ahead_s: int) -> None:
    clock = _SetClock()
    minute_ns = 60 * NS_PER_S
    now_ns = clock.now_ns()
    wild = _trade(100.0, now_ns + ahead_s * NS_PER_S, 400)
    trades = [_trade(50.0 + k, now_ns + (k - 3) * minute_ns, 100 * (k + 1)) for k in range(4)]
    line, told = _line([*trades[:2], wild, *trades[2:]], clock=clock)
    clean, _ = _line(trades, clock=clock)

    assert line.candles == clean.candles
    assert line.candles.forming is not None
    assert line.candles.forming.close == 53.0
    assert [text.partition(":")[0] for text in told] == ["bad datum"]


@given(st.sampled_from((-1.0, 0.0, 1.7976931348623157e308)), sizes)
def test_the_brokers_ways_to_say_no_price_leave_a_side_empty(price: float, size: int) -> None:
    line, _ = _line([(1, 6, REQUEST, 1, 50.0, 100, 1), (1, 6, REQUEST, 1, price, size, 1)])

    assert (line.bid, line.bid_size) == (None, None)


def test_a_line_follows_a_clock_that_is_set_back() -> None:
    ib, clock = _client(), _SetClock()
    ears = Ears(clock, lambda *_: None)
    ears.attach(ib, on_code=lambda *_: None, on_loss=lambda _: None, on_doubt=lambda _: None)
    line = Lines().want(Instrument("SPY", 756733))
    line.begin(REQUEST)
    ears.expect_line(REQUEST, line)

    _feed(ib, [(1, 6, REQUEST, 1, 50.0, 100, 1)], chunk=1)
    assert line.at_ns == NOON
    # Otherwise a quote would count as fresh until the clock has caught up.
    clock.at_ns = NOON - 3600 * NS_PER_S
    _feed(ib, [(2, 6, REQUEST, 0, 300)], chunk=1)
    assert line.at_ns == NOON - 3600 * NS_PER_S
    ears.close()


@given(frames, st.integers(1, 7))
def test_who_hears_of_lines_hears_of_each_once_as_it_then_stands(
    messages: list[tuple[Any, ...]], chunk: int
) -> None:
    ib, heard = _client(), list[tuple[float | None, float | None, bool]]()
    lines = Lines()

    def on_heard(line: Line) -> None:
        heard.append((line.bid, line.ask, line.status is LineStatus.FLOWING))

    ears = Ears(SystemClock(), lambda *_: None, on_heard)
    ears.attach(ib, on_code=lambda *_: None, on_loss=lambda _: None, on_doubt=lambda _: None)
    line = lines.want(Instrument("SPY", 756733))
    line.begin(REQUEST)
    ears.expect_line(REQUEST, line)
    spoke = 0
    for at in range(0, len(messages), chunk):
        together = messages[at : at + chunk]
        _feed(ib, together, chunk=chunk)
        spoke += any(m[2] == REQUEST and m[0] in (1, 2) and m[3] <= 4 for m in together)
        assert len(heard) == spoke
        if heard:
            assert heard[-1] == (line.bid, line.ask, True)
    ears.close()
