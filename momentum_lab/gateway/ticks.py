"""Market data messages of one subscription: what changed since the last tick.

Bid and ask are sent when they change, the last price, the day volume and RTVolume with every
trade, so that a client sees each second of the tape as its own ticks. Day volume (tick 8) and
RTVolume count round lots of 100 by default, as the broker does, while sizes of quotes and trades
are shares; `volume_ticks="shares"` makes them shares too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from momentum_lab.gateway.market import Trade
from momentum_lab.gateway.refusal import invalid

VolumeUnit = Literal["lots", "shares"]
Message = tuple[str, dict[str, Any]]

LOT_SHARES = 100
NS_PER_MS = 1_000_000
BID_SIZE, BID, ASK, ASK_SIZE, LAST, LAST_SIZE, HIGH, LOW, VOLUME, CLOSE = range(10)
OPEN, RT_VOLUME, HALTED = 14, 48, 49
NO_PRICES = "mdoff"
RT_VOLUME_GENERIC = "233"
NEWS_GENERIC = "292"


@dataclass(frozen=True, slots=True)
class Generics:
    """A generic tick list, read.

    Attributes:
        has_prices: False with "mdoff".
        has_rt_volume: with 233.
        has_news: with 292.
        providers: those named after "292:", empty for all.
    """

    has_prices: bool = True
    has_rt_volume: bool = False
    has_news: bool = False
    providers: frozenset[str] = frozenset()


def parse_generics(text: str) -> Generics:
    """Read a generic tick list such as "233,mdoff,292:BRFG+DJNL".

    Raises:
        RefusedError: a token is neither a number nor "mdoff".
    """
    codes: set[str] = set()
    providers: frozenset[str] = frozenset()
    for token in filter(None, (part.strip() for part in text.split(","))):
        code, _, argument = token.partition(":")
        if code != NO_PRICES and not code.isdigit():
            raise invalid(f"Incorrect generic tick list of {text}.")
        codes.add(code)
        if code == NEWS_GENERIC:
            providers = frozenset(filter(None, argument.split("+")))
    return Generics(
        has_prices=NO_PRICES not in codes,
        has_rt_volume=RT_VOLUME_GENERIC in codes,
        has_news=NEWS_GENERIC in codes,
        providers=providers,
    )


class QuoteLine:
    """The ticks of one reqMktData of a stock.

    Attributes:
        req_id: the client's request id.
        symbol: the stock.
        generics: which ticks were asked for.
        pending: the newest trade that a congested connection has not sent yet.
    """

    def __init__(
        self, req_id: int, symbol: str, generics: Generics, *, volume_ticks: VolumeUnit
    ) -> None:
        """Start with nothing sent."""
        self.req_id = req_id
        self.symbol = symbol
        self.generics = generics
        self.pending: Trade | None = None
        self._in_lots = volume_ticks == "lots"
        self._sent: dict[int, float] = {}

    def opening(self, today: Trade | None, latest: Trade | None) -> Iterator[Message]:
        """Yield the first ticks: the date's state, or yesterday's close where it has none."""
        if today is None:
            if latest is not None:
                yield self._price(CLOSE, latest.price, 0)
            yield self._generic(HALTED, 0)
            return
        yield from self.trade(today)
        yield self._price(OPEN, today.day_open, 0)
        if today.previous_close is not None:
            yield self._price(CLOSE, today.previous_close, 0)
        yield self._generic(HALTED, 0)

    def trade(self, trade: Trade) -> Iterator[Message]:
        """Yield the ticks that a trade brings."""
        yield from self._if_changed(BID, trade.bid, trade.quote_size)
        yield from self._if_changed(ASK, trade.ask, trade.quote_size)
        yield self._price(LAST, trade.price, trade.size)
        yield (
            "tickSize",
            {
                "req_id": self.req_id,
                "tick_type": VOLUME,
                "size": self._volume(trade.day_volume),
            },
        )
        yield from self._if_changed(HIGH, trade.day_high, 0)
        yield from self._if_changed(LOW, trade.day_low, 0)
        if self.generics.has_rt_volume:
            yield self._rt_volume(trade)

    def _if_changed(self, tick_type: int, price: float, size: int) -> Iterator[Message]:
        if self._sent.get(tick_type) == price:
            return
        self._sent[tick_type] = price
        yield self._price(tick_type, price, size)
        if tick_type in (BID, ASK):
            size_type = BID_SIZE if tick_type == BID else ASK_SIZE
            if self._sent.get(size_type) != size:
                self._sent[size_type] = size
                yield "tickSize", {"req_id": self.req_id, "tick_type": size_type, "size": size}

    def _price(self, tick_type: int, price: float, size: int) -> Message:
        values = {"req_id": self.req_id, "tick_type": tick_type, "price": price, "size": size}
        # Bid and ask can be executed against automatically.
        values["mask"] = 1 if tick_type in (BID, ASK) else 0
        return "tickPrice", values

    def _generic(self, tick_type: int, value: float) -> Message:
        return "tickGeneric", {"req_id": self.req_id, "tick_type": tick_type, "value": value}

    def _volume(self, shares: int) -> int:
        return shares // LOT_SHARES if self._in_lots else shares

    def _rt_volume(self, trade: Trade) -> Message:
        size = trade.size / LOT_SHARES if self._in_lots else float(trade.size)
        # The stamp lies inside the second that was traded: at its end it would be counted to the
        # next minute.
        stamp_ms = (trade.at_ns - 1) // NS_PER_MS
        text = (
            f"{trade.price:.10g};{size:.10g};{stamp_ms};"
            f"{self._volume(trade.day_volume)};{trade.day_vwap:.8f};false"
        )
        return "tickString", {"req_id": self.req_id, "tick_type": RT_VOLUME, "text": text}


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
