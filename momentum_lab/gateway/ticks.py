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
from dataclasses import dataclass
from typing import Any, Final, Literal

from momentum_lab.gateway.line import with_quote
from momentum_lab.gateway.market_events import STANDSTILLS, HaltChange, QuoteChange, Trade
from momentum_lab.gateway.refusal import invalid
from momentum_lab.records.tape_ticks import LIMIT_STATE

VolumeUnit = Literal["lots", "shares"]
Message = tuple[str, dict[str, Any]]

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
# Bits of a price's attributes.
_CAN_AUTO_EXECUTE, _PAST_LIMIT = 1, 2
_NO_PRICE = -1.0
EASY_TO_BORROW, NOT_TO_BORROW = 3.0, 0.0
_SHARES_EASILY_BORROWED = 10_000_000


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


class QuoteLine:
    """The ticks of one reqMktData of a stock.

    Attributes:
        req_id: the client's request id.
        symbol: the stock.
        generics: which ticks were asked for.
        data_type: `LIVE`, `FROZEN`, `DELAYED` or `DELAYED_FROZEN`.
        pending: the newest state that is not told yet.
        told_ns: when the newest trade of a delayed line happened.
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
        self._slot = -1
        self._is_at_limit = False
        self._in_lots = volume_ticks == "lots"
        self._sent: dict[int, float] = {}
        # The whole quote that was told last: most trades do not change it.
        self._quoted: tuple[float, float, int, int] | None = None

    @property
    def is_delayed(self) -> bool:
        """Whether it tells what happened a quarter of an hour ago."""
        return self.data_type in (DELAYED, DELAYED_FROZEN)

    # -- what is told -----------------------------------------------------------------------

    def opening(self, today: Trade | None, latest: Trade | None, *, halt: int = 0) -> list[Message]:
        """Return the first ticks: the date's state, or yesterday's close where it has none."""
        self._is_at_limit = halt == LIMIT_STATE
        found: list[Message] = []
        if today is None:
            if latest is not None:
                found.append(self._price(CLOSE, latest.price, 0))
                if self.data_type in (FROZEN, DELAYED_FROZEN):
                    found += self._quote(latest)
        else:
            found += self.trade(today) if today.is_traded else self._quote(today)
            if today.previous_close is not None:
                found.append(self._price(CLOSE, today.previous_close, 0))
        found.append(self._generic(HALTED, halt if halt in STANDSTILLS else 0))
        return self._spelled(found)

    def shortable(self, *, is_easy: bool) -> list[Message]:
        """Return how hard it is to borrow the stock, if that was asked for."""
        if not self.generics.has_shortable:
            return []
        shares = {
            "req_id": self.req_id,
            "tick_type": SHARES_TO_SHORT,
            "size": _SHARES_EASILY_BORROWED if is_easy else 0,
        }
        score = EASY_TO_BORROW if is_easy else NOT_TO_BORROW
        return [self._generic(SHORTABLE, score), ("tickSize", shares)]

    def hear(self, event: Trade | QuoteChange, *, slot: int) -> list[Message]:
        """Return what an event tells now; the rest of its slot waits in `pending`."""
        event = self._with_pending(event)
        if slot == self._slot:
            self.pending = event
            return []
        self._slot, self.pending = slot, None
        return self.tell(event)

    def wait(self, event: Trade | QuoteChange) -> None:
        """Keep what an event tells for later: the newest state replaces an older one."""
        self.pending = self._with_pending(event)

    def flush(self) -> list[Message]:
        """Return what is not told yet."""
        event, self.pending = self.pending, None
        return [] if event is None else self.tell(event)

    def tell(self, event: Trade | QuoteChange) -> list[Message]:
        """Return the ticks of an event."""
        if isinstance(event, QuoteChange) or not event.is_traded:
            return self._spelled(self._quote(event))
        return self._spelled(self.trade(event))

    def halt(self, change: HaltChange) -> list[Message]:
        """Return the tick of a halt or of its end; prices at their band are marked from now on."""
        self._is_at_limit = change.kind == LIMIT_STATE
        return self._spelled([self._generic(HALTED, change.kind if change.is_halt else 0)])

    def trade(self, trade: Trade) -> list[Message]:
        """Return the ticks that a trade brings, in their live spelling."""
        found = self._quote(trade)
        found.append(self._price(LAST, trade.price, trade.size))
        volume = self._volume(trade.day_volume)
        found.append(("tickSize", {"req_id": self.req_id, "tick_type": VOLUME, "size": volume}))
        self._if_changed(found, HIGH, trade.day_high)
        self._if_changed(found, LOW, trade.day_low)
        self._if_changed(found, OPEN, trade.day_open)
        if self.generics.has_rt_volume:
            found.append(self._rt_volume(RT_VOLUME, trade))
        if self.generics.has_rt_trades:
            found.append(self._rt_volume(RT_TRADES, trade))
        if self.generics.has_mark:
            self._if_changed(found, MARK, trade.price)
        second = trade.at_ns // NS_PER_S
        if self._is_new(LAST_TIME, second):
            found.append(self._text(LAST_TIME, str(second)))
        return found

    def _with_pending(self, event: Trade | QuoteChange) -> Trade | QuoteChange:
        """Return an event with what was not told before it: a trade must not get lost."""
        if isinstance(event, QuoteChange) and isinstance(self.pending, Trade):
            return with_quote(self.pending, event)
        return event

    def _quote(self, quote: Trade | QuoteChange) -> list[Message]:
        found: list[Message] = []
        state = quote.bid, quote.ask, quote.bid_size, quote.ask_size
        if state == self._quoted:
            return found
        self._quoted = state
        self._side(found, (BID, BID_SIZE), quote.bid, quote.bid_size)
        self._side(found, (ASK, ASK_SIZE), quote.ask, quote.ask_size)
        return found

    def _side(self, found: list[Message], types: tuple[int, int], price: float, size: int) -> None:
        price_type, size_type = types
        price, size = (price, size) if price > 0 else (_NO_PRICE, 0)
        if self._is_new(price_type, price):
            found.append(self._price(price_type, price, size))
        if self._is_new(size_type, size):
            values = {"req_id": self.req_id, "tick_type": size_type, "size": size}
            found.append(("tickSize", values))

    def _if_changed(self, found: list[Message], tick_type: int, price: float) -> None:
        if self._is_new(tick_type, price):
            found.append(self._price(tick_type, price, 0))

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

    def _price(self, tick_type: int, price: float, size: int, *, at_limit: bool = False) -> Message:
        values = {"req_id": self.req_id, "tick_type": tick_type, "price": price, "size": size}
        # Bid and ask can be executed against automatically.
        mask = _CAN_AUTO_EXECUTE if tick_type in (BID, ASK) and price > 0 else 0
        values["mask"] = mask | _PAST_LIMIT if self._is_at_limit else mask
        return "tickPrice", values

    def _generic(self, tick_type: int, value: float) -> Message:
        return "tickGeneric", {"req_id": self.req_id, "tick_type": tick_type, "value": value}

    def _text(self, tick_type: int, text: str) -> Message:
        return "tickString", {"req_id": self.req_id, "tick_type": tick_type, "text": text}

    def _volume(self, shares: int) -> int:
        return shares // LOT_SHARES if self._in_lots else shares

    def _rt_volume(self, tick_type: int, trade: Trade) -> Message:
        size = trade.size / LOT_SHARES if self._in_lots else float(trade.size)
        # The stamp of a bar lies inside it: at its end it would be counted to the next minute.
        stamp_ms = (trade.at_ns if trade.is_single else trade.at_ns - 1) // NS_PER_MS
        return self._text(
            tick_type,
            f"{trade.price:.10g};{size:.10g};{stamp_ms};"
            f"{self._volume(trade.day_volume)};{trade.day_vwap:.8f};false",
        )


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
