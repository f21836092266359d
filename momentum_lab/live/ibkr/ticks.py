"""Market data messages -> lines, past the client library's tickers.

The library decodes each message, keeps it in tickers that are wiped on a disconnect, and hands
them out as a set. Here the decoded fields of the five kinds of messages that make a line go
straight to it. That is also several times cheaper, and a news storm or a burst of quotes is
exactly when it must be.

A message with ill-formed numbers is refused and counted as an incident; one whose request is not
known is late and means nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import ib_insync

from momentum_lab.clock import Clock, transport_s
from momentum_lab.core.market import NS_PER_S, DataType
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.incidents import OnIncident
from momentum_lab.live.ibkr.line import Line, OnHeard
from momentum_lab.live.ibkr.translate import UNSET

Fields = list[str]
# Takes in one message; whether it says that quotes flow.
Handler = Callable[[Line, Fields], bool]

# Ids of incoming messages (TWS API, EReader).
_TICK_PRICE, _TICK_SIZE, _TICK_GENERIC, _TICK_STRING, _DATA_TYPE = 1, 2, 45, 46, 58
# Tick types; the second of each pair is the same of delayed data.
_BID, _ASK, _LAST = ("1", "66"), ("2", "67"), ("4", "68")
_BID_SIZE, _ASK_SIZE = ("0", "69"), ("3", "70")
_DELAYED = frozenset(("66", "67", "68", "69", "70"))
_HALTED, _RT_VOLUME = "49", "48"
_TRADES, _IS_HALTED = 0.0, (1.0, 2.0)
# No trade is of later than now; clocks may differ by less than this. Candles begin with the latest
# trade: one that is stamped wrongly would end them, and hold a halt open, until its time has come.
_MOST_AHEAD_NS = 60 * NS_PER_S
_DATA_TYPES: Mapping[str, DataType] = {
    "1": DataType.LIVE,
    "2": DataType.FROZEN,
    "3": DataType.DELAYED,
    "4": DataType.DELAYED_FROZEN,
}


class TickEars:
    """Hears the market data of one connection.

    Attributes:
        heard_s: transport time of the last bytes of any kind.
    """

    def __init__(
        self, ib: ib_insync.IB, clock: Clock, on_incident: OnIncident, on_heard: OnHeard
    ) -> None:
        """Take over the market data messages of a fresh connection."""
        self._clock = clock
        self._on_incident = on_incident
        self._on_heard = on_heard
        self._lines: dict[str, Line] = {}
        self._changed: dict[Line, None] = {}
        self._now_ns = 0
        self.heard_s = transport_s()
        handlers = ib.client.decoder.handlers
        prices = _by_kind((_BID, self._hear_bid), (_ASK, self._hear_ask), (_LAST, self._hear_last))
        sizes = _by_kind((_BID_SIZE, self._hear_bid_size), (_ASK_SIZE, self._hear_ask_size))
        handlers[_TICK_PRICE] = self._guarded(prices.get)
        handlers[_TICK_SIZE] = self._guarded(sizes.get)
        handlers[_TICK_GENERIC] = self._guarded({_HALTED: self._hear_halted}.get)
        handlers[_TICK_STRING] = self._guarded({_RT_VOLUME: self._hear_trade}.get)
        handlers[_DATA_TYPE] = self._guarded(lambda _type: self._hear_data_type)
        # Comes after everything that arrived together has been decoded.
        ib.updateEvent += self._settle

    def expect(self, request: int, line: Line) -> None:
        """Remember what a subscription is for."""
        self._lines[str(request)] = line

    def forget(self, request: int) -> None:
        """What still comes for this subscription is late."""
        self._lines.pop(str(request), None)

    def close(self) -> None:
        """Hear no more."""
        self._lines.clear()
        self._changed.clear()

    def _guarded(self, pick: Callable[[str], Handler | None]) -> Callable[[Fields], None]:
        """Return what hears one kind of message, for lines that are known.

        Args:
            pick: gives the handler of a tick type, None where nothing needs it.
        """
        lines, changed = self._lines, self._changed

        def hear(fields: Fields) -> None:
            line = lines.get(fields[2])
            if line is None:
                return
            try:
                handler = pick(fields[3])
                if handler is not None and handler(line, fields):
                    changed[line] = None
            except (ValueError, IndexError, OverflowError) as error:
                self._on_incident("bad datum", f"{line.instrument.symbol}: {fields}: {error}")

        return hear

    def _read_clock(self) -> int:
        """Return the market time of what arrives together."""
        self._now_ns = self._clock.now_ns()
        return self._now_ns

    def _read_price(self, fields: Fields) -> tuple[float | None, float | None, int]:
        """Return price, size and arrival; no price means that there is nothing on that side."""
        price, size = float(fields[4] or 0), float(fields[5] or 0)
        at_ns = self._now_ns or self._read_clock()
        if not 0 < price < UNSET:
            return None, None, at_ns
        return price, size if 0 <= size < UNSET else None, at_ns

    def _read_size(self, fields: Fields) -> tuple[float | None, int]:
        size = float(fields[4] or 0)
        return size if 0 <= size < UNSET else None, self._now_ns or self._read_clock()

    def _hear_bid(self, line: Line, fields: Fields) -> bool:
        line.hear_bid(*self._read_price(fields))
        self._hear_kind(line, fields[3])
        return True

    def _hear_ask(self, line: Line, fields: Fields) -> bool:
        line.hear_ask(*self._read_price(fields))
        self._hear_kind(line, fields[3])
        return True

    def _hear_last(self, line: Line, fields: Fields) -> bool:
        price, _, at_ns = self._read_price(fields)
        line.hear_last(price, at_ns)
        self._hear_kind(line, fields[3])
        return True

    def _hear_bid_size(self, line: Line, fields: Fields) -> bool:
        line.hear_bid_size(*self._read_size(fields))
        self._hear_kind(line, fields[3])
        return True

    def _hear_ask_size(self, line: Line, fields: Fields) -> bool:
        line.hear_ask_size(*self._read_size(fields))
        self._hear_kind(line, fields[3])
        return True

    def _hear_kind(self, line: Line, kind: str) -> None:
        """A tick of delayed data shows itself; whether live data are frozen it does not."""
        if kind in _DELAYED:
            line.data_type = DataType.DELAYED
        elif line.data_type is DataType.UNKNOWN:
            line.data_type = DataType.LIVE

    def _hear_halted(self, line: Line, fields: Fields) -> bool:
        kind = float(fields[4])
        is_halted = kind in _IS_HALTED
        # Anything else, -1 above all, says that the broker does not know: no halt ends by that.
        if is_halted or kind == _TRADES:
            line.hear_halted(is_halted, self._now_ns or self._read_clock())
        return False

    def _hear_trade(self, line: Line, fields: Fields) -> bool:
        trade = translate.trade_of(fields[4])
        if trade is None:
            return False
        at_ns = self._now_ns or self._read_clock()
        if self._clock.is_replay:
            self._clock.observe(trade.at_ns)
            # A replayed time has just been moved on by it.
            self._now_ns = max(at_ns, trade.at_ns)
        elif trade.at_ns > at_ns + _MOST_AHEAD_NS:
            ahead_s = (trade.at_ns - at_ns) / NS_PER_S
            raise ValueError(f"expected a trade of the past, found one of {ahead_s:.0f} s from now")
        line.hear_trade(trade)
        return True

    def _hear_data_type(self, line: Line, fields: Fields) -> bool:
        line.hear_data_type(_DATA_TYPES.get(fields[3], DataType.UNKNOWN))
        return False

    def _settle(self) -> None:
        at_ns, self._now_ns = self._now_ns, 0
        self.heard_s = now_s = transport_s()
        changed = list(self._changed)
        self._changed.clear()
        for line in changed:
            line.settle(now_s, at_ns)
        for line in changed:
            self._on_heard(line)


def _by_kind(*handlers: tuple[Sequence[str], Handler]) -> dict[str, Handler]:
    return {kind: handler for kinds, handler in handlers for kind in kinds}
