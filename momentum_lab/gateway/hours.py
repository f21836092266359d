"""Exchange hours of a tape: which instants are in the regular session, and local dates.

In New York's zone the regular sessions are those of the exchange calendar, holidays and half days
included; trading hours are 04:00 to 20:00, on a half day to 17:00. Other zones know weekdays only:
09:30 to 16:00, with the same hours round it.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone

from momentum_lab.calendars import find_zone, session_on_date
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import DataError

OPEN = time(9, 30)
CLOSE = time(16, 0)
FIRST_TRADE = time(4, 0)
LAST_TRADE, LAST_TRADE_OF_HALF_DAY = time(20, 0), time(17, 0)
NEW_YORK_ZONES = frozenset({"America/New_York", "US/Eastern"})
_SATURDAY = 5
# A walk back through sessions ends here even if a client asks for more.
_MAX_DAYS_BACK = 366 * 10

_MOMENT = re.compile(r"^(?:(\d{8})(-|\s+))?(\d{2}:\d{2}:\d{2})(?:\s+(\S+))?$")

Session = tuple[int, int]


class Hours:
    """The session calendar of one time zone.

    Attributes:
        zone_name: IANA name, as sent to clients.
    """

    def __init__(self, zone_name: str) -> None:
        """Look the zone up.

        Raises:
            ValueError: no such zone.
        """
        self.zone_name = zone_name
        self._zone = find_zone(zone_name)
        self._day_cache = (0, 0, date.min)
        self._sessions: dict[tuple[date, bool], Session | None] = {}

    def local(self, at_ns: int) -> datetime:
        """Return the instant as local time, whole seconds."""
        return datetime.fromtimestamp(at_ns // NS_PER_S, tz=timezone.utc).astimezone(self._zone)

    def day(self, at_ns: int) -> date:
        """Return the local date."""
        start_ns, end_ns, cached = self._day_cache
        if start_ns <= at_ns < end_ns:
            return cached
        found = self.local(at_ns).date()
        bounds = (self.instant(found, time(0)), self.instant(found + timedelta(days=1), time(0)))
        self._day_cache = (*bounds, found)
        return found

    def midnight_ns(self, at_ns: int) -> int:
        """Return the instant at which the local date of an instant began."""
        self.day(at_ns)
        return self._day_cache[0]

    def second_of_day(self, at_ns: int) -> int:
        """Return the local time in seconds."""
        local = self.local(at_ns)
        return (local.hour * 60 + local.minute) * 60 + local.second

    def instant(self, day: date, at: time) -> int:
        """Return the instant of a local date and time, UTC epoch nanoseconds."""
        return round(datetime.combine(day, at, tzinfo=self._zone).timestamp()) * NS_PER_S

    def moment(self, text: str, *, now_ns: int) -> datetime:
        """Read a date and time as clients write them: "20131009 14:00:00 US/Eastern".

        Without a zone it is local, or UTC where a dash joins the two; without a date it is today.

        Raises:
            ValueError: it is none, or in a zone that there is not.
        """
        match = _MOMENT.match(text.strip())
        if match is None:
            raise ValueError(f"no date and time: {text!r}")
        day, dash, clock, zone_name = match.groups()
        parsed = datetime.strptime(  # noqa: DTZ007 - the zone is the next line's
            f"{day or self.local(now_ns).strftime('%Y%m%d')} {clock}", "%Y%m%d %H:%M:%S"
        )
        zone = find_zone(zone_name or ("UTC" if dash == "-" else self.zone_name))
        return parsed.replace(tzinfo=zone)

    def text(self, at_ns: int, *, with_zone: bool = True) -> str:
        """Return the instant as TWS writes it.

        With the zone name one space after the date; without it two (protocol below 174).
        """
        moment = self.local(at_ns)
        if with_zone:
            return f"{moment:%Y%m%d %H:%M:%S} {self.zone_name}"
        return f"{moment:%Y%m%d  %H:%M:%S}"

    def session(self, day: date, *, regular: bool = True) -> Session | None:
        """Return (open_ns, close_ns) of a local date, None where nothing trades on it."""
        key = (day, regular)
        if key not in self._sessions:
            self._sessions[key] = self._session(day, regular=regular)
        return self._sessions[key]

    def _session(self, day: date, *, regular: bool) -> Session | None:
        bells = self._bells(day)
        if bells is None or regular:
            return bells
        is_half = bells[1] < self.instant(day, CLOSE)
        last = LAST_TRADE_OF_HALF_DAY if is_half else LAST_TRADE
        return self.instant(day, FIRST_TRADE), self.instant(day, last)

    def _bells(self, day: date) -> Session | None:
        if day.weekday() >= _SATURDAY:
            return None
        if self.zone_name in NEW_YORK_ZONES:
            try:
                found = session_on_date(day)
            except DataError:
                # Further away than the calendar is known: every weekday is a full one.
                pass
            else:
                return None if found is None else found.bells_ns
        return self.instant(day, OPEN), self.instant(day, CLOSE)

    def is_regular(self, at_ns: int) -> bool:
        """Return whether the regular session runs at this instant."""
        return self.is_in_session(at_ns, regular=True)

    def is_in_session(self, at_ns: int, *, regular: bool) -> bool:
        """Return whether the regular session, or else the trading hours, run at this instant."""
        session = self.session(self.day(at_ns), regular=regular)
        return session is not None and session[0] <= at_ns < session[1]

    def next_open_ns(self, at_ns: int, *, regular: bool = True) -> int:
        """Return the first opening of a session after this instant."""
        day = self.day(at_ns)
        while True:
            session = self.session(day, regular=regular)
            if session is not None and session[0] > at_ns:
                return session[0]
            day += timedelta(days=1)

    def next_close_ns(self, at_ns: int, *, regular: bool = True) -> int:
        """Return the first close of a session after this instant."""
        day = self.day(at_ns)
        while True:
            session = self.session(day, regular=regular)
            if session is not None and session[1] > at_ns:
                return session[1]
            day += timedelta(days=1)

    def back(self, end_ns: int, *, seconds: int, regular: bool) -> int:
        """Return the instant that lies `seconds` of session time before `end_ns`.

        TWS counts a duration in seconds over closed hours: half an hour asked for at 09:40
        reaches into the day before.
        """
        left_ns = seconds * NS_PER_S
        day = self.day(end_ns)
        for _ in range(_MAX_DAYS_BACK):
            session = self.session(day, regular=regular)
            day -= timedelta(days=1)
            if session is None or session[0] >= end_ns:
                continue
            available_ns = min(session[1], end_ns) - session[0]
            if available_ns >= left_ns:
                return min(session[1], end_ns) - left_ns
            left_ns -= available_ns
        return self.instant(day, time(0))
