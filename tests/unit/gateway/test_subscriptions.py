"""Lines are found by request id and by symbol, whatever came and went before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from momentum_lab.gateway.streams import Depth, TickByTick
from momentum_lab.gateway.subscriptions import Lines, Subscriptions
from momentum_lab.gateway.ticks import DELAYED, LIVE, Generics, QuoteLine

SYMBOLS = ["SPY", "IBM"]
changes = st.tuples(
    st.sampled_from(["add", "cancel", "clear"]), st.integers(1, 4), st.sampled_from(SYMBOLS)
)


@given(st.lists(changes, max_size=30))
def test_lines_of_a_symbol_are_those_that_are_open_oldest_first(
    steps: list[tuple[str, int, str]],
) -> None:
    lines: Lines[Depth] = Lines()
    expected: dict[int, Depth] = {}
    for change, req_id, symbol in steps:
        if change == "clear":
            lines.clear()
            expected.clear()
            continue
        lines.pop(req_id, None)
        expected.pop(req_id, None)
        if change == "add":
            lines[req_id] = expected[req_id] = Depth(req_id, symbol, is_smart=False, exchange="")

    assert list(lines.values()) == list(expected.values())
    for symbol in SYMBOLS:
        assert list(lines.of(symbol)) == [x for x in expected.values() if x.symbol == symbol]


def test_line_with_a_used_id_takes_the_place_of_the_older_one() -> None:
    lines: Lines[Depth] = Lines()
    lines[1] = Depth(1, "SPY", is_smart=False, exchange="")
    lines[1] = newer = Depth(1, "IBM", is_smart=False, exchange="")

    assert (list(lines.of("SPY")), list(lines.of("IBM"))) == ([], [newer])


def test_who_follows_a_symbol_is_known_after_every_change() -> None:
    wanted = Subscriptions()
    spy, ibm = (TickByTick(number, name, kind=1) for number, name in enumerate(SYMBOLS, start=1))
    book = Depth(1, "SPY", is_smart=False, exchange="")
    live, delayed, silent = (
        QuoteLine(number, "SPY", generics, volume_ticks="lots", data_type=data_type)
        for number, generics, data_type in (
            (1, Generics(), LIVE),
            (2, Generics(), DELAYED),
            (3, Generics(has_prices=False), LIVE),
        )
    )

    assert wanted.followers("SPY") == ((), (), ())
    wanted.ticks.update({1: spy, 2: ibm})
    wanted.depths[1] = book
    wanted.quotes.update({2: delayed, 3: silent, 1: live})
    assert wanted.followers("SPY") == ((live,), (spy,), (book,))
    assert wanted.followers("IBM") == ((), (ibm,), ())
    del wanted.ticks[1]
    assert wanted.followers("SPY") == ((live,), (), (book,))
    wanted.forget_data()
    assert wanted.followers("SPY") == ((), (), ())
