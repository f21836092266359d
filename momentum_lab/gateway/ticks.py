"""Market data messages of one subscription: what changed since the last tick.

Bid and ask are sent when they change, the last price, the day volume and RTVolume with every
trade, so that a client sees each second of the tape as its own ticks. Day volume (tick 8) and
RTVolume count round lots of 100 by default, as the broker does, while sizes of quotes and trades
are shares; `volume_ticks="shares"` makes them shares too.

A stream is a sample: within one slot of market time (a quarter of a second at the broker) a line
tells the first thing that happens at once, and at the slot's end the newest state of all the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from momentum_lab.gateway.line import DayPrices, with_quote
from momentum_lab.gateway.market_events import STANDSTILLS, HaltChange, QuoteChange, Trade
from momentum_lab.gateway.refusal import invalid
from momentum_lab.gateway.voice import Message, Voice, by_message
from momentum_lab.records.tape_ticks import LIMIT_STATE

VolumeUnit = Literal["lots", "shares"]
T = TypeVar("T")

LOT_SHARES = 100
NS_PER_MS, NS_PER_S = 1_000_000, 1_000_000_000
LIVE, FROZEN, DELAYED, DELAYED_FROZEN = 1, 2, 3, 4
BID_SIZE, BID, ASK, ASK_SIZE, LAST, LAST_SIZE, HIGH, LOW, VOLUME, CLOSE = range(10)
OPEN, MARK, LAST_TIME, SHORTABLE, RT_VOLUME, HALTED, RT_TRADES, SHARES_TO_SHORT = (
    *(14, 37, 45, 46, 48, 49, 77, 89),
)
NO_PRICES = "mdoff"
RT_VOLUME_GENERIC, RT_TRADES_GENERIC = "233", "375"
NEWS_GENERIC, SHORTABLE_GENERIC = "292", "236"
MARK_GENERICS = frozenset({"221", "232"})
# What the broker takes for a stock; of most of them a tape has nothing to tell.
LEGAL_GENERICS: Final = frozenset(
    re.findall(
        r"\d+",
        "100 101 104 105 106 107 125 162 165 166 204 221 225 232 233 236 256 258 292 293 294 295 "
        "318 370 375 411 456 460 506 512 513 515 545 577 586 587 588 595 614 619 623 645 646 658 "
        "659 662 663 664 665 667",
    )
)
# Live tick type -> its delayed spelling, by message; what is not here does not come delayed.
DELAYED_TYPES: Final = {
    "tickPrice": {BID: 66, ASK: 67, LAST: 68, HIGH: 72, LOW: 73, CLOSE: 75, OPEN: 76},
    "tickSize": {BID_SIZE: 69, ASK_SIZE: 70, LAST_SIZE: 71, VOLUME: 74},
    "tickString": {LAST_TIME: 88},
    "tickGeneric": {HALTED: 90},
}
# Code and text of what is told about a line that gets delayed data where live was asked for.
SHOWN_DELAYED: Final = (
    10167,
    "Requested market data is not subscribed. Displaying delayed market data.",
)
# Bits of a price's attributes.
_CAN_AUTO_EXECUTE, _PAST_LIMIT = 1, 2
_NO_PRICE = -1.0
EASY_TO_BORROW, NOT_TO_BORROW = 3.0, 0.0
_SHARES_EASILY_BORROWED = 10_000_000
# For what is told rarely, and for delayed lines, whose messages are spelled anew.
_PLAIN: Final = by_message(lambda _messages: None)


@dataclass(frozen=True, slots=True)
class Generics:
    """A generic tick list, read.

    Attributes:
        has_prices: False with "mdoff".
        has_rt_volume: with 233.
        has_rt_trades: with 375.
        has_mark: with 221 or 232.
        has_shortable: with 236.
        has_news: with 292.
        providers: those named after "292:", empty for all.
    """

    has_prices: bool = True
    has_rt_volume: bool = False
    has_rt_trades: bool = False
    has_mark: bool = False
    has_shortable: bool = False
    has_news: bool = False
    providers: frozenset[str] = frozenset()


def parse_generics(text: str) -> Generics:
    """Read a generic tick list such as "233,mdoff,292:BRFG+DJNL".

    Raises:
        RefusedError: a token is neither "mdoff" nor one of the broker's numbers for a stock.
    """
    codes: set[str] = set()
    providers: frozenset[str] = frozenset()
    for token in filter(None, (part.strip() for part in text.split(","))):
        code, _, argument = token.partition(":")
        if code != NO_PRICES and code not in LEGAL_GENERICS:
            legal = ",".join(sorted(LEGAL_GENERICS, key=int))
            raise invalid(
                f"Incorrect generic tick list of {text}. Legal ones for (STK) are: {legal}"
            )
        codes.add(code)
        if code == NEWS_GENERIC:
            providers = frozenset(filter(None, argument.split("+")))
    return Generics(
        has_prices=NO_PRICES not in codes,
        has_rt_volume=RT_VOLUME_GENERIC in codes,
        has_rt_trades=RT_TRADES_GENERIC in codes,
        has_mark=bool(codes & MARK_GENERICS),
        has_shortable=SHORTABLE_GENERIC in codes,
        has_news=NEWS_GENERIC in codes,
        providers=providers,
    )


class _Words(Generic[T]):
    """What one line says again and again, in one voice."""

    __slots__ = (
        *("ask", "ask_size", "bid", "bid_size", "last", "last_time", "mark"),
        *("rt_trades", "rt_volume", "voice", "volume"),
    )

    def __init__(self, voice: Voice[T], req_id: int) -> None:
        self.voice = voice
        self.bid, self.bid_size = voice.price(req_id, BID), voice.size(req_id, BID_SIZE)
        self.ask, self.ask_size = voice.price(req_id, ASK), voice.size(req_id, ASK_SIZE)
        self.last, self.volume = voice.price(req_id, LAST), voice.size(req_id, VOLUME)
        self.mark = voice.price(req_id, MARK)
        self.rt_volume = voice.text(req_id, RT_VOLUME)
        self.rt_trades = voice.text(req_id, RT_TRADES)
        self.last_time = voice.text(req_id, LAST_TIME)


class QuoteLine:
    """The ticks of one reqMktData of a stock.

    Attributes:
        req_id: the client's request id.
        symbol: the stock.
        generics: which ticks were asked for.
        data_type: `LIVE`, `FROZEN`, `DELAYED` or `DELAYED_FROZEN`.
        pending: the newest state that is not told yet.
        told_ns: when the newest trade of a delayed line happened.
        silent_ns: since when its client hears nothing of it, None where it has never heard it.
    """

    def __init__(
        self,
        req_id: int,
        symbol: str,
        generics: Generics,
        *,
        volume_ticks: VolumeUnit,
        data_type: int = LIVE,
    ) -> None:
        """Start with nothing sent."""
        self.req_id = req_id
        self.symbol = symbol
        self.generics = generics
        self.data_type = data_type
        self.pending: Trade | QuoteChange | None = None
        self.told_ns = 0
        self.silent_ns: int | None = None
        self._slot = -1
        self._limit_mask = 0
        self._in_lots = volume_ticks == "lots"
        self._sent: dict[int, float] = {}
        # The whole quote, and high, low, open and close that were told last: most trades change
        # neither.
        self._quoted: tuple[float, float, int, int] | None = None
        self._day: tuple[float, float, float | None, float | None] | None = None
        self._second: int | None = None
        self._words: _Words[Any] | None = None

    @property
    def is_delayed(self) -> bool:
        """Whether it tells what happened a quarter of an hour ago."""
        return self.data_type in (DELAYED, DELAYED_FROZEN)

    # -- what is told -----------------------------------------------------------------------

    def opening(
        self, today: Trade | None, latest: Trade | None, before: DayPrices, *, halt: int = 0
    ) -> list[Message]:
        """Return the first ticks: the date's state, and what it has of the date before it."""
        self._limit_mask = _PAST_LIMIT if halt == LIMIT_STATE else 0
        found: list[Message] = []
        if today is not None:
            found += self.tell(today, _PLAIN)
        elif latest is not None and self.data_type in (FROZEN, DELAYED_FROZEN):
            found += self.tell(latest._replace(previous_close=before.close), _PLAIN)
        for tick_type, price in ((OPEN, before.open), (CLOSE, before.close)):
            if tick_type not in self._sent:
                self._if_changed(found, _PLAIN, tick_type, price)
        found.append(_PLAIN.generic(self.req_id, HALTED)(halt if halt in STANDSTILLS else 0))
        return self._spelled(found)

    def shortable(self, *, is_easy: bool) -> list[Message]:
        """Return how hard it is to borrow the stock, if that was asked for."""
        if not self.generics.has_shortable:
            return []
        score = EASY_TO_BORROW if is_easy else NOT_TO_BORROW
        shares = _SHARES_EASILY_BORROWED if is_easy else 0
        return [
            _PLAIN.generic(self.req_id, SHORTABLE)(score),
            _PLAIN.size(self.req_id, SHARES_TO_SHORT)(shares),
        ]

    def forget(self) -> None:
        """Forget what was told: its client has not heard it."""
        self.pending = self._quoted = self._day = self._second = None
        self._sent.clear()

    def hear(self, event: Trade | QuoteChange, slot: int, voice: Voice[T]) -> list[T]:
        """Return what an event tells now; the rest of its slot waits in `pending`."""
        if self.pending is not None:
            event = self._with_pending(event)
        if slot == self._slot:
            self.pending = event
            return []
        self._slot, self.pending = slot, None
        return self.tell(event, voice)

    def wait(self, event: Trade | QuoteChange) -> None:
        """Keep what an event tells for later: the newest state replaces an older one."""
        self.pending = self._with_pending(event)

    def flush(self, voice: Voice[T]) -> list[T]:
        """Return what is not told yet."""
        event, self.pending = self.pending, None
        return [] if event is None else self.tell(event, voice)

    def tell(self, event: Trade | QuoteChange, voice: Voice[T]) -> list[T]:
        """Return the ticks of an event, in their live spelling."""
        words = self._words
        if words is None or words.voice is not voice:
            words = self._words = _Words(voice, self.req_id)
        found: list[T] = []
        state = bid, ask, bid_size, ask_size = event.bid, event.ask, event.bid_size, event.ask_size
        if state != self._quoted:
            self._quoted = state
            self._side(found, BID, words.bid, bid, BID_SIZE, words.bid_size, bid_size)
            self._side(found, ASK, words.ask, ask, ASK_SIZE, words.ask_size, ask_size)
        if isinstance(event, Trade) and event.is_traded:
            self._trade(found, words, event)
        return found

    def tell_delayed(self, event: Trade | QuoteChange) -> list[Message]:
        """Return the ticks of an event as a delayed line spells them."""
        return self._spelled(self.tell(event, _PLAIN))

    def halt(self, change: HaltChange) -> list[Message]:
        """Return the tick of a halt or of its end; prices at their band are marked from now on."""
        self._limit_mask = _PAST_LIMIT if change.kind == LIMIT_STATE else 0
        kind = change.kind if change.is_halt else 0
        return self._spelled([_PLAIN.generic(self.req_id, HALTED)(kind)])

    def _trade(self, found: list[T], words: _Words[T], trade: Trade) -> None:
        """Append what a trade tells beside its quote."""
        generics, mask, last_ns = self.generics, self._limit_mask, trade.last_ns
        volume = trade.day_volume // LOT_SHARES if self._in_lots else trade.day_volume
        found.append(words.last(trade.price, trade.size, mask))
        found.append(words.volume(volume))
        day = trade.day_high, trade.day_low, trade.day_open, trade.previous_close
        if day != self._day:
            self._day = day
            for tick_type, price in zip((HIGH, LOW, OPEN, CLOSE), day, strict=True):
                self._if_changed(found, words.voice, tick_type, price)
        if generics.has_rt_volume or generics.has_rt_trades:
            text = self._rt_text(trade, last_ns, volume)
            if generics.has_rt_volume:
                found.append(words.rt_volume(text))
            if generics.has_rt_trades:
                found.append(words.rt_trades(text))
        if generics.has_mark and self._is_new(MARK, trade.price):
            found.append(words.mark(trade.price, 0, mask))
        second = last_ns // NS_PER_S
        if second != self._second:
            self._second = second
            found.append(words.last_time(str(second)))

    def _with_pending(self, event: Trade | QuoteChange) -> Trade | QuoteChange:
        """Return an event with what was not told before it: a trade must not get lost."""
        if isinstance(event, QuoteChange) and isinstance(self.pending, Trade):
            return with_quote(self.pending, event)
        return event

    def _side(
        self,
        found: list[T],
        price_type: int,
        say_price: Callable[[float, int, int], T],
        price: float,
        size_type: int,
        say_size: Callable[[int], T],
        size: int,
    ) -> None:
        # A price of a quote can be executed against automatically.
        mask = self._limit_mask | _CAN_AUTO_EXECUTE
        if price <= 0:
            price, size, mask = _NO_PRICE, 0, self._limit_mask
        if self._is_new(price_type, price):
            found.append(say_price(price, size, mask))
        if self._is_new(size_type, size):
            found.append(say_size(size))

    def _if_changed(
        self, found: list[T], voice: Voice[T], tick_type: int, price: float | None
    ) -> None:
        if price is not None and self._is_new(tick_type, price):
            found.append(voice.price(self.req_id, tick_type)(price, 0, self._limit_mask))

    def _is_new(self, tick_type: int, value: float) -> bool:
        if self._sent.get(tick_type) == value:
            return False
        self._sent[tick_type] = value
        return True

    # -- how it is spelled ------------------------------------------------------------------

    def _spelled(self, messages: list[Message]) -> list[Message]:
        if not self.is_delayed:
            return messages
        return [told for message in messages if (told := as_delayed(message)) is not None]

    def _rt_text(self, trade: Trade, last_ns: int, volume: int) -> str:
        size = trade.size / LOT_SHARES if self._in_lots else float(trade.size)
        # Said with every trade: an f-string takes a quarter longer.
        values = (trade.price, size, last_ns // NS_PER_MS, volume, trade.day_vwap)
        return "%.10g;%.10g;%d;%d;%.8f;false" % values  # noqa: UP031


def as_delayed(message: Message) -> Message | None:
    """Return a live tick in its delayed spelling, None where it has none."""
    name, values = message
    delayed = DELAYED_TYPES.get(name, {}).get(values.get("tick_type", -1))
    return None if delayed is None else (name, {**values, "tick_type": delayed})


@dataclass(frozen=True, slots=True)
class NewsLine:
    """A subscription to headlines.

    Attributes:
        req_id: the client's request id.
        symbol: the stock, or empty for a provider's whole tape.
        providers: whose headlines, empty for all.
    """

    req_id: int
    symbol: str
    providers: frozenset[str]
