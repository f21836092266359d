"""Faults of quotes, headlines and clocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.tunable import described, tunable
from momentum_lab.errors import ParameterError
from momentum_lab.gateway.faults.base import MARKET_DATA, Fault, Told
from momentum_lab.gateway.market_events import STANDSTILLS
from momentum_lab.gateway.ticks import (
    DELAYED,
    DELAYED_FROZEN,
    DELAYED_TYPES,
    FROZEN,
    LIVE,
    SHOWN_DELAYED,
    QuoteLine,
    as_delayed,
)
from momentum_lab.records.tape import TapeHeadline
from momentum_lab.records.tape_ticks import HALTED_BY_VOLATILITY, LIMIT_STATE, TRADING

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session

_KINDS_OF_HALTS = "1 by regulation or for news, 2 a pause for volatility, 3 only at the band"
COMPETING = 10197
_DELAYED_KINDS = {LIVE: DELAYED, FROZEN: DELAYED_FROZEN}
_DELAYED_TICKS = frozenset(number for kind in DELAYED_TYPES.values() for number in kind.values())


@dataclass
class FrozenQuotes(Fault):
    """Quotes, trades and the bars of now stop, while time, account and orders go on."""

    name: ClassVar[str] = "frozen_quotes"
    swallows_quotes: ClassVar[bool] = True

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Tell no ticks."""
        return [] if self.strikes(session) and told[0] in MARKET_DATA else [told]


@dataclass
class CompetingSession(FrozenQuotes):
    """10197 on every line: another login with this user has taken the market data."""

    name: ClassVar[str] = "competing_session"

    def begin(self, hub: Hub) -> None:
        """Tell it on every line."""
        for session in self.victims(hub):
            for line in session.subscriptions.quotes.values():
                session.send_all([_competing(line.req_id)])

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Tell no ticks, and it alone on a line that is opened now."""
        name, values = told
        if self.strikes(session) and name == "marketDataType":
            return [_competing(values["req_id"])]
        if self.strikes(session) and name == "tickReqParams":
            return []
        return super().outgoing(hub, session, told)


def _competing(req_id: int) -> tuple[str, dict[str, Any]]:
    text = "No market data during competing live session"
    return "error", {"req_id": req_id, "code": COMPETING, "text": text}


@dataclass
class DelayedData(Fault):
    """The lines turn to delayed data: another data type, other tick ids, no trades as text.

    Tick by tick, in depth and in bars nothing comes.
    """

    name: ClassVar[str] = "delayed_data"
    swallows_quotes: ClassVar[bool] = True
    respells_quotes: ClassVar[bool] = True

    def begin(self, hub: Hub) -> None:
        """Change the type of every line, and tell its state in the other ids."""
        for session, line in self._lines(self.victims(hub)):
            line.forget()
            session.send_all([_data_type(line), *hub.streaming.state_of(line)])

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Spell live ticks as delayed ones; those without such a spelling do not come."""
        name, values = told
        if not self.strikes(session):
            return [told]
        if name == "marketDataType" and values["market_data_type"] in _DELAYED_KINDS:
            code, text = SHOWN_DELAYED
            kind = _DELAYED_KINDS[values["market_data_type"]]
            warning = {"req_id": values["req_id"], "code": code, "text": text}
            return [("error", warning), (name, {**values, "market_data_type": kind})]
        is_live = name in MARKET_DATA and values.get("tick_type") not in _DELAYED_TICKS
        if not is_live:
            return [told]
        delayed = as_delayed((name, dict(values)))
        return [] if delayed is None else [delayed]

    def end(self, hub: Hub) -> None:
        """Change the type back."""
        for session, line in self._lines(self.freed(hub)):
            session.send_all([_data_type(line)])

    def _lines(self, sessions: list[Session]) -> Iterator[tuple[Session, QuoteLine]]:
        for session in sessions:
            for line in session.subscriptions.quotes.values():
                if line.generics.has_prices and not line.is_delayed:
                    yield session, line


def _data_type(line: QuoteLine) -> tuple[str, dict[str, Any]]:
    return "marketDataType", {"req_id": line.req_id, "market_data_type": line.data_type}


@dataclass
class Halt(Fault):
    """Trading of a symbol stands still: no quote, no trade, no fill; or it is at its price band.

    With a pause for volatility the broker's rule is fifteen seconds at the band (kind 3), then five
    minutes of pause (kind 2).
    """

    name: ClassVar[str] = "halt"
    strikes_all: ClassVar[bool] = True

    symbol: str = described("", meaning="which, all of the tape if empty")
    kind: int = tunable(
        HALTED_BY_VOLATILITY, unit="kind", low=1, high=3, step=1, meaning=_KINDS_OF_HALTS
    )
    limit_s: float = tunable(
        0.0, unit="s", low=0, high=3600, step=15, meaning="market time at the band before it"
    )
    state: int = field(default=TRADING, init=False, repr=False)
    _halts_ns: int = field(default=0, init=False, repr=False)

    def check(self, hub: Hub) -> None:
        """Refuse a symbol that the tape does not hold."""
        if self.symbol and self.symbol not in hub.catalog.instruments:
            known = ", ".join(sorted(hub.catalog.instruments))
            raise ParameterError(f"fault halt: no symbol {self.symbol!r}; the tape holds {known}")

    def begin(self, hub: Hub) -> None:
        """Halt it, or let it stand at its band first."""
        self._halts_ns = hub.market.now_ns + round(self.limit_s * NS_PER_S)
        self.state = LIMIT_STATE if self.limit_s else self.kind
        self._change(hub)

    @property
    def next_due_ns(self) -> int | None:
        """When it has stood at its band for long enough."""
        return self._halts_ns if self.state != self.kind else None

    def on_time(self, hub: Hub) -> None:
        """Halt it once it has stood at its band for long enough."""
        if self.state != self.kind and hub.market.now_ns >= self._halts_ns:
            self.state = self.kind
            self._change(hub)

    def end(self, hub: Hub) -> None:
        """Let it trade again, unless others or the tape halt it."""
        self._change(hub)

    def _change(self, hub: Hub) -> None:
        # The newest first: of standstills it says why.
        others = [one for one in reversed(hub.faults.active) if isinstance(one, Halt)]
        for symbol in [self.symbol] if self.symbol else sorted(hub.catalog.instruments):
            states = [one.state for one in others if one.symbol in ("", symbol)]
            standing = [kind for kind in states if kind in STANDSTILLS]
            hub.halt(symbol, standing[0] if standing else max(states, default=TRADING))


@dataclass
class HeadlineStorm(Fault):
    """Thousands of headlines at once, spread over the news providers of the tape."""

    name: ClassVar[str] = "headline_storm"
    strikes_all: ClassVar[bool] = True
    is_instant: ClassVar[bool] = True

    count: int = tunable(
        10_000, unit="headlines", low=1, high=1_000_000, step=1000, meaning="how many"
    )

    def begin(self, hub: Hub) -> None:
        """Publish them all within this second."""
        providers = sorted(hub.catalog.feeds)
        symbols = sorted(hub.catalog.instruments)
        for number in range(self.count if providers else 0):
            provider = providers[number % len(providers)]
            symbol = symbols[number % len(symbols)]
            hub.tell_headline(
                TapeHeadline(
                    hub.market.now_ns,
                    provider,
                    f"{provider}$storm{number:06x}",
                    f"Storm {number}: something about {symbol} ({symbol})",
                )
            )


@dataclass
class DuplicateHeadlines(Fault):
    """Every headline comes more than once."""

    name: ClassVar[str] = "duplicate_headlines"

    times: int = tunable(2, unit="times", low=2, high=100, step=1, meaning="how often in all")

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Repeat it."""
        return [told] * (self.times if self.strikes(session) and told[0] == "tickNews" else 1)


@dataclass
class BackdatedHeadlines(Fault):
    """Headlines come with a time of publication that lies in the past."""

    name: ClassVar[str] = "backdated_headlines"

    age_s: float = tunable(
        3600.0, unit="s", low=0, high=31_536_000, step=60, meaning="how far in the past"
    )

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Change the time."""
        name, values = told
        if not self.strikes(session) or name != "tickNews":
            return [told]
        return [(name, {**values, "time_ms": values["time_ms"] - round(self.age_s * 1000)})]


@dataclass
class ClockSkew(Fault):
    """The gateway's clock is wrong when it is asked for the time."""

    name: ClassVar[str] = "clock_skew"

    skew_s: int = tunable(30, unit="s", low=-86_400, high=86_400, step=1, meaning="added to it")

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Change the answer."""
        name, values = told
        if not self.strikes(session) or name != "currentTime":
            return [told]
        return [(name, {**values, "time": values["time"] + self.skew_s})]


@dataclass
class LateHeadlines(Fault):
    """Headlines come late, with their true time of publication."""

    name: ClassVar[str] = "late_headlines"

    delay_s: float = tunable(
        90.0, unit="s", low=0.001, high=86_400, step=10, meaning="market time until it is told"
    )

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Hold it back."""
        if not self.strikes(session) or told[0] != "tickNews":
            return [told]
        hub.faults.say_later(self, session, told, delay_s=self.delay_s)
        return []


FAULTS = (
    Halt,
    FrozenQuotes,
    CompetingSession,
    DelayedData,
    HeadlineStorm,
    DuplicateHeadlines,
    BackdatedHeadlines,
    LateHeadlines,
    ClockSkew,
)
