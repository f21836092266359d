"""Answers about news: providers, past headlines, articles, bulletins."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from momentum_lab.clock import utc
from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.catalog import NewsFeed
from momentum_lab.gateway.refusal import RefusedError, invalid, no_definition
from momentum_lab.gateway.ticks import NS_PER_MS
from momentum_lab.gateway.wire import Request
from momentum_lab.records.tape import TapeHeadline
from momentum_lab.records.tape_news import BASE64

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session

MAX_HEADLINES = 300
NOT_ALLOWED = 10276
NO_ARTICLE = 10172
# Text and HTML are told apart by the reader.
TEXT_ARTICLE, BINARY_ARTICLE = 0, 1
_FRACTION = re.compile(r"[0-9]{1,9}")
_LAYOUTS = ("%Y-%m-%d %H:%M:%S", "%Y%m%d %H:%M:%S", "%Y%m%d-%H:%M:%S")


def _providers(session: Session, _request: Request) -> None:
    feeds = session.hub.catalog.feeds.values()
    session.send("newsProviders", providers=[{"code": f.provider, "name": f.name} for f in feeds])


def _historical_news(session: Session, request: Request) -> None:
    """Send the newest past headlines in (start, end] first; times are UTC, as the broker's."""
    codes = _known_providers(session.hub, request["provider_codes"])
    found = _about(session.hub, request["con_id"])
    start_ns = _instant(request["start"], default_ns=-1)
    end_ns = _instant(request["end"], default_ns=session.hub.market.now_ns)
    wanted = [item for item in found if item.provider in codes and start_ns < item.at_ns <= end_ns]
    n_told = min(max(1, request["total_results"]), MAX_HEADLINES)
    for item in wanted[::-1][:n_told]:
        session.send(
            "historicalNews",
            req_id=request["req_id"],
            time=_time_text(item.at_ns),
            provider_code=item.provider,
            article_id=item.article_id,
            # In history the feed's metadata stands in front of the text, in braces.
            headline=f"{{{item.extra}}}{item.headline}" if item.extra else item.headline,
        )
    session.send("historicalNewsEnd", req_id=request["req_id"], has_more=len(wanted) > n_told)


def _known_providers(hub: Hub, text: str) -> frozenset[str]:
    codes = frozenset(code for code in re.split(r"[+:,\s]+", text) if code)
    strangers = sorted(codes - hub.catalog.feeds.keys())
    if strangers or not codes:
        raise invalid(f"not subscribed for provider {' '.join(strangers) or '(none given)'}")
    return codes


def _about(hub: Hub, con_id: int) -> list[TapeHeadline]:
    listed = hub.catalog.by_con_id(con_id)
    if listed is None:
        raise no_definition()
    past = hub.market.past_headlines()
    if isinstance(listed, NewsFeed):
        return [item for item in past if item.provider == listed.provider]
    return [item for item in past if listed.symbol in hub.catalog.symbols_of(item)]


def _time_text(at_ns: int) -> str:
    """Return UTC with at least one digit of a second, as the broker's "2026-04-14 14:58:42.0"."""
    fraction = f"{at_ns % NS_PER_S // NS_PER_MS:03d}".rstrip("0") or "0"
    return f"{utc(at_ns):%Y-%m-%d %H:%M:%S}.{fraction}"


def _instant(text: str, *, default_ns: int) -> int:
    plain, _, fraction = text.strip().removesuffix(" UTC").removesuffix(" GMT").partition(".")
    if not plain:
        return default_ns
    if fraction and not _FRACTION.fullmatch(fraction):
        raise invalid(f"Invalid date/time format: {text}")
    for layout in _LAYOUTS:
        try:
            moment = datetime.strptime(plain, layout).replace(tzinfo=timezone.utc)
        except ValueError:
            continue
        return round(moment.timestamp()) * NS_PER_S + int(fraction.ljust(9, "0") or 0)
    raise invalid(f"Invalid date/time format: {text}")


def _article(session: Session, request: Request) -> None:
    hub, code = session.hub, request["provider_code"]
    if code not in hub.catalog.feeds:
        raise RefusedError(NOT_ALLOWED, "News feed is not allowed.")
    for item in hub.market.past_headlines():
        if (item.provider, item.article_id) == (code, request["article_id"]):
            kind = BINARY_ARTICLE if item.body_kind == BASE64 else TEXT_ARTICLE
            text = item.body or item.headline
            session.send("newsArticle", req_id=request["req_id"], article_type=kind, text=text)
            return
    raise RefusedError(
        NO_ARTICLE, f"Failed to request news article: {request['article_id']} is not available"
    )


def _bulletins(session: Session, request: Request) -> None:
    """Tell bulletins from now on, and on demand those of the day so far; neither has an end."""
    session.subscriptions.has_bulletins = True
    if request["all_messages"]:
        session.hub.bulletins.tell_today(session)


def _cancel_bulletins(session: Session, _request: Request) -> None:
    session.subscriptions.has_bulletins = False


def _in_turn(
    answer: Callable[[Session, Request], None],
) -> Callable[[Session, Request], None]:
    def ask(session: Session, request: Request) -> None:
        session.hub.news_desk.ask(session, request, answer)

    return ask


ANSWERS: Mapping[str, Callable[[Session, Request], None]] = {
    "reqNewsProviders": _providers,
    "reqHistoricalNews": _in_turn(_historical_news),
    "reqNewsArticle": _in_turn(_article),
    "reqNewsBulletins": _bulletins,
    "cancelNewsBulletins": _cancel_bulletins,
}
