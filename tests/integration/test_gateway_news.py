"""News from the paper gateway: headlines by stock and by provider, history, articles, bulletins."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from ib_insync import IB, Contract, NewsBulletin, Stock

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.server import Gateway
from momentum_lab.records.tape import TapeHeadline
from momentum_lab.records.tape_news import (
    EXCHANGE_DOWN,
    EXCHANGE_UP,
    NOTICE,
    TapeBulletin,
)
from tests.gateway_client import (
    connected,
    errors_of,
    news_tape,
    play,
    raw_client,
    settle,
    spy,
    standing_gateway,
)
from tests.gateway_factories import NOON, OPEN, SPY, news, second_tape, seconds

pytestmark = pytest.mark.anyio

ROWS = seconds([100.0] * 120, start_ns=NOON - 60 * NS_PER_S)
Heard = list[tuple[int, str]]


def tape(*headlines: TapeHeadline, bulletins: tuple[TapeBulletin, ...] = ()) -> Any:
    return replace(second_tape(ROWS, headlines=headlines), bulletins=bulletins)


def past(number: int, **others: Any) -> TapeHeadline:
    """A headline that was published before the replay begins, the lower its number the earlier."""
    text = f"Past {number} (SPY)"
    return news(text, at_ns=OPEN + number * NS_PER_S, number=number, **others)


def heard_by_request(ib: IB) -> Heard:
    """Collect (request id, article id) of every headline; the library drops the request id."""
    found: Heard = []
    original = ib.wrapper.tickNews

    def tick_news(req_id: int, *values: Any) -> None:
        found.append((req_id, values[2]))
        original(req_id, *values)

    vars(ib.wrapper)["tickNews"] = tick_news
    return found


def subscribe(ib: IB, req_id: int, contract: Contract, generic_ticks: str) -> None:
    ib.client.reqMktData(req_id, contract, generic_ticks, False, False, [])


async def history_of(gateway: Gateway, *fields: object) -> list[list[str]]:
    """Ask for past headlines with a client of raw bytes and return the messages of the answer."""

    def ask() -> list[list[str]]:
        with raw_client(gateway.port) as client:
            client.start(client_id=9)
            client.send(86, 1, *fields, "")
            return client.read_until(87)

    return await anyio.to_thread.run_sync(ask)


# ------------------------------------------------------------- by stock


async def test_a_stocks_subscription_names_its_providers(tmp_path: Path) -> None:
    day = tape(
        past(1),
        past(2, provider="DJNL"),
        news("Now (SPY)", at_ns=NOON + NS_PER_S, number=3),
        news("Now (SPY)", at_ns=NOON + NS_PER_S, number=4, provider="DJNL"),
    )
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        found = heard_by_request(ib)
        subscribe(ib, 100, spy(), "mdoff,292:BRFG+DJNL")
        subscribe(ib, 101, spy(), "292:DJNL,mdoff")
        subscribe(ib, 102, spy(), "mdoff,292")
        await play(gateway, 3, ib)
    brfg, djnl = ["BRFG$00000001", "BRFG$00000003"], ["DJNL$00000002", "DJNL$00000004"]
    assert [article for req_id, article in found if req_id == 101] == djnl
    for req_id in (100, 102):
        both = [article for found_id, article in found if found_id == req_id]
        assert both == [brfg[0], djnl[0], brfg[1], djnl[1]]


async def test_a_provider_that_is_not_subscribed_to_is_an_invalid_tick_type(tmp_path: Path) -> None:
    async with standing_gateway(tape(past(1)), tmp_path) as gateway, connected(gateway.port) as ib:
        found = heard_by_request(ib)
        errors: list[tuple[int, int, str]] = []
        ib.errorEvent += lambda req_id, code, text, _contract: errors.append((req_id, code, text))
        subscribe(ib, 100, spy(), "mdoff,292:BRFG+FLY")
        await settle(ib)
        subscribe(ib, 100, spy(), "mdoff,292:BRFG")
        await settle(ib)
    ((req_id, code, text),) = errors
    assert (req_id, code) == (100, 321)
    assert text.endswith("cause - Incorrect generic tick list of mdoff,292:BRFG+FLY.")
    assert found == [(100, "BRFG$00000001")]


async def test_without_quotes_a_line_tells_headlines_alone(tmp_path: Path) -> None:
    day = tape(news("Now (SPY)", at_ns=NOON + NS_PER_S))
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        found = heard_by_request(ib)
        ticker = ib.reqMktData(spy(), "mdoff,292")
        await play(gateway, 5, ib)
    assert len(found) == 1
    assert ticker.ticks == []
    assert ticker.bid != ticker.bid  # never heard of: not a number


async def test_each_subscription_starts_with_the_last_five_headlines(tmp_path: Path) -> None:
    day = tape(*(past(number) for number in range(1, 8)))
    last_five = [f"BRFG${number:08x}" for number in range(3, 8)]
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        found = heard_by_request(ib)
        subscribe(ib, 100, spy(), "mdoff,292")
        await settle(ib)
        assert found == [(100, article) for article in last_five]
        ib.client.cancelMktData(100)
        subscribe(ib, 101, spy(), "mdoff,292")
        await settle(ib)
        assert found[5:] == [(101, article) for article in last_five]
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        again = heard_by_request(ib)
        subscribe(ib, 100, spy(), "mdoff,292")
        await settle(ib)
    assert again == found[:5]


async def test_a_headline_about_several_stocks_comes_once_for_each(tmp_path: Path) -> None:
    day = tape(news("Merger: (SPY) and (NYSE: IBM)", at_ns=NOON + NS_PER_S))
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        found = heard_by_request(ib)
        subscribe(ib, 100, spy(), "mdoff,292")
        subscribe(ib, 101, Stock("IBM", "SMART", "USD"), "mdoff,292")
        subscribe(ib, 102, news_tape(), "mdoff,292")
        subscribe(ib, 103, news_tape("DJNL"), "mdoff,292")
        await play(gateway, 3, ib)
        # The library has thrown away which request each was for.
        assert [tick.articleId for tick in ib.newsTicks()] == ["BRFG$00000001"] * 3
    assert sorted(found) == [(req_id, "BRFG$00000001") for req_id in (100, 101, 102)]


@pytest.mark.parametrize(
    "text",
    [
        "Übernahme: naïve café — 株式 🚀 (SPY)",
        "AT&amp;T &#x2014; &#8217;s (SPY) &lt;b&gt;",
        r"An escape \u00fc that a provider left in \u (SPY)",
        '{A:800015:L:en:K:-0.81:C:0.9}!*Flash: "quoted", (SPY)',
        "Two\nlines\tand a tab (SPY)",
    ],
)
async def test_a_headline_arrives_as_it_was_published(tmp_path: Path, text: str) -> None:
    day = tape(news(text, at_ns=NOON + NS_PER_S, body=f"<p>{text}</p>"))
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        ib.reqMktData(spy(), "mdoff,292")
        await play(gateway, 3, ib)
        (tick,) = ib.newsTicks()
        (item,) = await _history(ib)
        article = await ib.reqNewsArticleAsync("BRFG", "BRFG$00000001")
    assert (tick.headline, tick.extraData) == (text, "A:1:L:en")
    assert (tick.timeStamp, tick.providerCode) == ((NOON + NS_PER_S) // 1_000_000, "BRFG")
    assert item.headline == "{A:1:L:en}" + text
    assert (article.articleType, article.articleText) == (0, f"<p>{text}</p>")


async def test_a_nul_in_a_headline_does_not_break_the_message(tmp_path: Path) -> None:
    day = tape(news("A\0B (SPY)", at_ns=NOON + NS_PER_S))
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        ib.reqMktData(spy(), "mdoff,292")
        await play(gateway, 3, ib)
        (tick,) = ib.newsTicks()
    assert (tick.headline, tick.extraData) == ("AB (SPY)", "A:1:L:en")


async def _history(ib: IB, *, providers: str = "BRFG+DJNL", n: int = 300) -> list[Any]:
    found: Any = await ib.reqHistoricalNewsAsync(SPY.con_id, providers, "", "", n)
    return list(found)


# ---------------------------------------------------------- by provider


async def test_a_provider_lists_its_tapes_as_contracts(tmp_path: Path) -> None:
    async with standing_gateway(tape(), tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        providers = await ib.reqNewsProvidersAsync()
        (details,) = await ib.reqContractDetailsAsync(Contract(secType="NEWS", exchange="BRFG"))
        every = await ib.reqContractDetailsAsync(Contract(secType="NEWS"))
        none = await ib.reqContractDetailsAsync(Contract(secType="NEWS", exchange="FLY"))
    assert [(item.code, item.name) for item in providers] == [
        ("BRFG", "Briefing.com General Market Columns"),
        ("DJNL", "Dow Jones Newsletters"),
    ]
    contract = details.contract
    assert contract is not None
    assert (contract.symbol, contract.secType, contract.exchange) == (
        "BRFG:BRFG_ALL",
        "NEWS",
        "BRFG",
    )
    assert details.longName == "Briefing.com General Market Columns"
    assert [item.contract.exchange for item in every if item.contract] == ["BRFG", "DJNL"]
    assert none == []
    assert [code for _, code in found] == [200]


async def test_a_tape_found_by_its_details_can_be_subscribed_to(tmp_path: Path) -> None:
    day = tape(past(1), news("Nobody's", at_ns=NOON + NS_PER_S, number=2, provider="DJNL"))
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        (details,) = await ib.reqContractDetailsAsync(Contract(secType="NEWS", exchange="DJNL"))
        found = heard_by_request(ib)
        assert details.contract is not None
        subscribe(ib, 100, details.contract, "mdoff,292")
        await play(gateway, 3, ib)
    assert found == [(100, "DJNL$00000002")]


# -------------------------------------------------------------- history


async def test_history_is_newest_first_and_says_whether_there_is_more(tmp_path: Path) -> None:
    day = tape(*(past(number) for number in range(1, 311)), past(311, provider="DJNL"))
    async with standing_gateway(day, tmp_path) as gateway:
        await play(gateway, 1)
        answers = [
            await history_of(gateway, SPY.con_id, providers, "", "", n)
            for providers, n in (("BRFG", 3), ("BRFG", 310), ("BRFG+DJNL", 1000), ("DJNL", 300))
        ]
    told = [[int(message[4].partition("$")[2], 16) for message in a[:-1]] for a in answers]
    assert told == [
        [310, 309, 308],
        list(range(310, 10, -1)),
        list(range(311, 11, -1)),
        [311],
    ]
    assert [answer[-1] for answer in answers] == [
        ["87", "1", has_more] for has_more in ("1", "1", "1", "0")
    ]


async def test_history_has_its_start_left_out_and_its_end_in_it(tmp_path: Path) -> None:
    tenths = (0, 5, 10)
    day = tape(
        *(
            news(f"(SPY) {n}", at_ns=NOON - 10 * NS_PER_S + n * NS_PER_S // 10, number=n)
            for n in tenths
        )
    )
    minute = "2013-10-09 15:59"
    asked = [
        (f"{minute}:50.0", f"{minute}:51.0", [10, 5]),
        (f"{minute}:50.5", "", [10]),
        ("", f"{minute}:50.499", [0]),
        ("20131009 15:59:49 UTC", "20131009-15:59:50", [0]),
        (f"{minute}:51", "", []),
    ]
    async with standing_gateway(day, tmp_path) as gateway:
        for start, end, numbers in asked:
            *items, _ = await history_of(gateway, SPY.con_id, "BRFG", start, end, 9)
            assert [int(item[4].partition("$")[2], 16) for item in items] == numbers
        *items, _ = await history_of(gateway, SPY.con_id, "BRFG", "", "", 9)
    assert [item[2] for item in items] == [f"{minute}:51.0", f"{minute}:50.5", f"{minute}:50.0"]


async def test_history_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    async with standing_gateway(tape(past(1)), tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        asked: list[tuple[int, str, str]] = [
            (SPY.con_id, "FLY", ""),
            (SPY.con_id, "", ""),
            (SPY.con_id, "BRFG", "yesterday"),
            (SPY.con_id, "BRFG", "2013-10-09 15:59:50.x"),
            (4711, "BRFG", ""),
        ]
        for con_id, providers, start in asked:
            answer: Any = await ib.reqHistoricalNewsAsync(con_id, providers, start, "", 9)
            assert answer == []
    assert [code for _, code in found] == [321, 321, 321, 321, 200]


async def test_history_never_shows_what_is_still_to_come(tmp_path: Path) -> None:
    day = tape(past(1), news("Later (SPY)", at_ns=NOON + 5 * NS_PER_S, number=2))
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        found = errors_of(ib)
        assert [item.articleId for item in await _history(ib)] == ["BRFG$00000001"]
        await ib.reqNewsArticleAsync("BRFG", "BRFG$00000002")
        assert [code for _, code in found] == [10172]
        await play(gateway, 5, ib)
        assert [item.articleId for item in await _history(ib)] == ["BRFG$00000002", "BRFG$00000001"]


# ------------------------------------------------------------- articles


async def test_an_article_is_text_or_a_file_in_base64(tmp_path: Path) -> None:
    pdf = base64.b64encode(b"%PDF-1.4 \x00\xff binary").decode()
    day = tape(
        past(1, body="Line\nline &#10; übung"),
        replace(past(2, body="<html><BODY>Up<BR>down</html>"), body_kind="html"),
        replace(past(3, body=pdf), body_kind="base64"),
        past(4),
    )
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        found = [await ib.reqNewsArticleAsync("BRFG", f"BRFG${n:08x}") for n in (1, 2, 3, 4)]
    assert [(item.articleType, item.articleText) for item in found] == [
        (0, "Line\nline &#10; übung"),
        (0, "<html><BODY>Up<BR>down</html>"),
        (1, pdf),
        (0, "Past 4 (SPY)"),
    ]
    assert base64.b64decode(found[2].articleText).startswith(b"%PDF-1.4")


# ------------------------------------------------------------- bulletins

BULLETINS = (
    TapeBulletin(OPEN - 24 * 3600 * NS_PER_S, NOTICE, "Yesterday"),
    TapeBulletin(OPEN, NOTICE, "Good morning, Zürich \\ welcome"),
    TapeBulletin(NOON + 3 * NS_PER_S, EXCHANGE_DOWN, "ISLAND is down", "ISLAND"),
    TapeBulletin(NOON + 5 * NS_PER_S, EXCHANGE_UP, "ISLAND is back", "ISLAND"),
)


async def test_bulletins_come_in_their_time(tmp_path: Path) -> None:
    day = tape(bulletins=BULLETINS)
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        found: list[NewsBulletin] = []
        ib.newsBulletinEvent += found.append
        ib.reqNewsBulletins(allMessages=False)
        await play(gateway, 2, ib)
        assert found == []
        await play(gateway, 1, ib)
        assert found == [NewsBulletin(3, 2, "ISLAND is down", "ISLAND")]
        await play(gateway, 2, ib)
        assert found[1:] == [NewsBulletin(4, 3, "ISLAND is back", "ISLAND")]


async def test_all_bulletins_are_those_of_the_day_so_far(tmp_path: Path) -> None:
    day = tape(bulletins=BULLETINS)
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        found: list[NewsBulletin] = []
        ib.newsBulletinEvent += found.append
        await play(gateway, 3)
        ib.reqNewsBulletins(allMessages=True)
        await play(gateway, 2, ib)
    assert [(item.msgId, item.origExchange) for item in found] == [
        (2, ""),
        (3, "ISLAND"),
        (4, "ISLAND"),
    ]
    # 7-bit, as the official client un-escapes it; this library shows it as it was sent.
    assert found[0].message == "Good morning, Z\\u00fcrich \\u005c welcome"


async def test_cancelled_bulletins_are_silent_and_can_be_asked_for_again(tmp_path: Path) -> None:
    day = tape(bulletins=BULLETINS)
    async with standing_gateway(day, tmp_path) as gateway, connected(gateway.port) as ib:
        ib.reqNewsBulletins(allMessages=False)
        ib.cancelNewsBulletins()
        await play(gateway, 10, ib)
        assert ib.newsBulletins() == []
        ib.reqNewsBulletins(allMessages=True)
        await settle(ib)
        assert [item.msgId for item in ib.newsBulletins()] == [2, 3, 4]


async def test_a_bulletin_is_told_to_every_subscriber_and_to_no_other(tmp_path: Path) -> None:
    day = tape(bulletins=BULLETINS)
    async with (
        standing_gateway(day, tmp_path) as gateway,
        connected(gateway.port, 1) as first,
        connected(gateway.port, 2) as second,
        connected(gateway.port, 3) as third,
    ):
        first.reqNewsBulletins(allMessages=False)
        third.reqNewsBulletins(allMessages=False)
        await play(gateway, 10, first, second, third)
        told = [[item.msgId for item in ib.newsBulletins()] for ib in (first, second, third)]
    assert told == [[3, 4], [], [3, 4]]
