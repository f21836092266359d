from __future__ import annotations

import pandas as pd
import pytest

from momentum_lab.core.market import NS_PER_S
from momentum_lab.faces import theme
from tests.factories import NOON


@pytest.mark.parametrize(
    ("usd", "plain", "signed"),
    [
        (-1234.5, "\N{MINUS SIGN}$1,234.50", "\N{MINUS SIGN}$1,234.50"),
        (1234.5, "$1,234.50", "+$1,234.50"),
        (0.0, "$0.00", "$0.00"),
        (None, theme.DASH, theme.DASH),
        (float("nan"), theme.DASH, theme.DASH),
    ],
)
def test_money_has_its_sign(usd: float | None, plain: str, signed: str) -> None:
    assert theme.money(usd) == plain
    assert theme.money(usd, signed=True) == signed


def test_a_loss_and_a_gain_are_written_alike_but_for_sign_and_colour() -> None:
    loss, gain = theme.coloured_money(-5), theme.coloured_money(5)

    assert loss.replace("\N{MINUS SIGN}", "+").replace(theme.VERMILION, theme.GREEN) == gain


@pytest.mark.parametrize(
    ("seconds", "words"), [(7.4, "7 s"), (239, "3 min 59 s"), (7500, "2 h 05 min")]
)
def test_durations_are_said_for_people(seconds: float, words: str) -> None:
    assert theme.duration(seconds) == words


def test_markup_in_a_headline_is_not_markup_in_a_chart() -> None:
    assert theme.wrapped("A <b>bold</b> & <a href='x'>b</a>", width=80, lines=2) == (
        "A &lt;b&gt;bold&lt;/b&gt; &amp; &lt;a href=&#x27;x&#x27;&gt;b&lt;/a&gt;"
    )


def test_a_long_text_is_broken_and_cut() -> None:
    words = theme.wrapped("word " * 40, width=20, lines=2)

    assert words.count("<br>") == 1
    assert words.endswith("…")


def test_instants_become_new_york_wall_time_as_text() -> None:
    instants = pd.Series(pd.to_datetime([NOON, NOON + 1500 * 10**6], unit="ns", utc=True))

    assert theme.stamps(instants) == ["2013-10-09T12:00:00.000", "2013-10-09T12:00:01.500"]
    assert theme.stamp(theme.wall_of(NOON + NS_PER_S)) == "2013-10-09T12:00:01.000"


def test_an_empty_chart_says_why() -> None:
    figure = theme.empty_chart("Trades", "Nothing was traded <here>.")

    assert figure.layout.annotations[0].text == "Nothing was traded &lt;here&gt;."
    assert len(figure.data) == 0
