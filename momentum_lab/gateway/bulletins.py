"""The broker's bulletins: those of the tape in their time, others when a fault sends one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from momentum_lab.records.tape_news import TapeBulletin

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session


class BulletinBoard:
    """What has been announced, each with its number, and what the tape will announce.

    Numbers count from 1 in the order of publication; those of the tape before a replay's start
    have been published before it.
    """

    def __init__(self, hub: Hub) -> None:
        """Publish, unheard, what lies before the market's now."""
        self._hub = hub
        self._told: list[TapeBulletin] = []
        self._next = 0
        self._advance(lambda _session: False)

    def next_due_ns(self) -> int | None:
        """Return when the tape's next bulletin is due, None after the last one."""
        coming = self._hub.market.tape.bulletins
        return coming[self._next].at_ns if self._next < len(coming) else None

    def on_time(self) -> None:
        """Publish what is due."""
        self._advance(lambda _session: True)

    def publish(
        self, bulletin: TapeBulletin, hears: Callable[[Session], bool] = lambda _session: True
    ) -> None:
        """Announce something now, to those subscribers that are meant to hear it."""
        self._told.append(bulletin)
        facts = {"number": len(self._told), "kind": bulletin.bulletin_type, "text": bulletin.text}
        self._hub.journal.write(self._hub.market.now_ns, "bulletin", **facts)
        for session in self._hub.sessions.values():
            if session.subscriptions.has_bulletins and hears(session):
                _tell(session, len(self._told), bulletin)

    def tell_today(self, session: Session) -> None:
        """Tell a client everything of the current local date."""
        hours, now_ns = self._hub.market.hours, self._hub.market.now_ns
        for number, bulletin in enumerate(self._told, start=1):
            if hours.day(bulletin.at_ns) == hours.day(now_ns):
                _tell(session, number, bulletin)

    def _advance(self, hears: Callable[[Session], bool]) -> None:
        while (due_ns := self.next_due_ns()) is not None and due_ns <= self._hub.market.now_ns:
            self._next += 1
            self.publish(self._hub.market.tape.bulletins[self._next - 1], hears)


def _tell(session: Session, number: int, bulletin: TapeBulletin) -> None:
    session.send(
        "newsBulletin",
        message_id=number,
        bulletin_type=bulletin.bulletin_type,
        text=bulletin.text,
        exchange=bulletin.exchange,
    )
