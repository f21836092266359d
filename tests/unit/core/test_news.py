from __future__ import annotations

import pytest

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.news import NOT_TICKERS, clean_text, epoch_ns, tickers_in
from tests.factories import NOON, headline


@pytest.mark.parametrize(
    "raw",
    [
        "Fed minutes released",
        "{A:800015:L:en:K:0.97:C:0.9}Fed minutes released",
        "{A:800015:L:en:K:n/a:C:0.0}!Fed minutes released",
        "{A:800015:L:en} !* Fed minutes released",
        "{A:800008,800015:L:Chinese (Simplified and Traditional),en}Fed minutes released",
        "*Fed minutes released",
        "  Fed   minutes\n released ",
        "Fed&#10;minutes&nbsp;released",
    ],
)
def test_marks_of_the_wire_are_taken_off(raw: str) -> None:
    assert clean_text(raw) == "Fed minutes released"


def test_entities_are_resolved() -> None:
    assert clean_text("AT&amp;T &#39;up&#39; &lt;5%&gt;") == "AT&T 'up' <5%>"


def test_marks_inside_the_text_stay() -> None:
    assert clean_text("S&P {up} 5*! today") == "S&P {up} 5*! today"


@pytest.mark.parametrize(
    "raw", ["", "   ", "{A:1}", "!*!", "{unclosed", "{{}}", "}{", "&#xffffff;"]
)
def test_a_strange_text_is_no_failure(raw: str) -> None:
    assert isinstance(clean_text(raw), str)
    assert tickers_in(raw) == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("broad market (SPY) in focus", ("SPY",)),
        ("Agilent (A) beats", ("A",)),
        ("Berkshire (BRK.B) buys", ("BRK B",)),
        ("Berkshire (BRK/B) buys", ("BRK B",)),
        ("Berkshire (BRK B) buys", ("BRK B",)),
        ("Apple (NASDAQ: AAPL) and IBM (NYSE:IBM)", ("AAPL", "IBM")),
        ("drug distributors (MHS, ABC; CAH) fall", ("MHS", "ABC", "CAH")),
        ("SPY without parentheses", ()),
        ("no (lower) or (Mixed) case", ()),
        ("too long (ABCDEF)", ()),
        ("results (Q3) and (2013)", ()),
        ("on another list (TSX:MSD)", ()),
        ("unclosed (SPY", ()),
        ("empty ()", ()),
    ],
)
def test_tickers_are_read_from_parentheses(text: str, expected: tuple[str, ...]) -> None:
    assert tickers_in(text) == expected


def test_tickers_keep_the_order_of_appearance_and_do_not_repeat() -> None:
    assert tickers_in("(IBM) (BAC) (IBM) (SPY, BAC)") == ("IBM", "BAC", "SPY")


@pytest.mark.parametrize("word", sorted(NOT_TICKERS))
def test_a_known_word_in_parentheses_is_no_ticker(word: str) -> None:
    assert tickers_in(f"something ({word}) happened") == ()


def test_a_known_word_beside_a_ticker_leaves_the_ticker() -> None:
    assert tickers_in("the regulator (FDA) approves Pfizer (PFE)") == ("PFE",)


def test_age_runs_from_publication_to_arrival() -> None:
    assert headline(published_ns=NOON, received_ns=NOON + 90 * NS_PER_S).age_s == 90


def test_a_stamp_from_the_future_gives_a_negative_age() -> None:
    assert headline(published_ns=NOON, received_ns=NOON - 2 * NS_PER_S).age_s == -2


def test_a_headline_is_identified_by_provider_and_article_only() -> None:
    first = headline("one wording", provider="BRFG", article_id="BRFG$7", received_ns=NOON)
    again = headline("another", provider="BRFG", article_id="BRFG$7", received_ns=NOON + 1)
    other = headline(provider="DJNL", article_id="BRFG$7")

    assert first.key == again.key
    assert first.key != other.key


def test_a_stamp_in_seconds_and_one_in_milliseconds_are_the_same_instant() -> None:
    assert epoch_ns(1_381_341_600) == epoch_ns(1_381_341_600_000) == 1_381_341_600 * NS_PER_S


def test_milliseconds_keep_their_digits() -> None:
    assert epoch_ns(1_381_341_600_123) == 1_381_341_600_123_000_000


def test_an_exchange_may_be_written_in_small_letters() -> None:
    assert tickers_in("Results are out (Nasdaq: AAPL) (nyse:BRK.B)") == ("AAPL", "BRK B")
