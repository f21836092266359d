"""When a position is left: by price, by time, by circumstances; and what may hold an exit back.

Which exit is due is told by `decide_exit`, in the order stop, target, flat by close, time stop,
then what a bar or a signal has asked for. `ExitGate` holds it back: in a halt nothing leaves, and
while stop and target work at the broker, the broker has the first word about them.
"""

from __future__ import annotations

from dataclasses import dataclass

from momentum_lab.core.market import EPSILON, NS_PER_S, Quote, Side
from momentum_lab.core.position import ExitParameters, ExitReason, Levels

# The reasons for which an order of ours at the broker would close the position too.
PRICE_REASONS = frozenset(
    {ExitReason.STOP_LOSS, ExitReason.BREAK_EVEN, ExitReason.TRAIL, ExitReason.TAKE_PROFIT}
)


@dataclass(frozen=True, slots=True)
class OpenPosition:
    """What an exit decision needs to know.

    Attributes:
        symbol: what is held.
        side: direction of the entry.
        entry_ns: time of the first fill, market time.
        levels: stop and target.
        flat_by_ns: instant by which it must be flat, None without one.
        stop_kind: the reason that the stop stands for now.
    """

    symbol: str
    side: Side
    entry_ns: int
    levels: Levels
    flat_by_ns: int | None = None
    stop_kind: ExitReason = ExitReason.STOP_LOSS

    def timed_from_ns(self, quote: Quote | None) -> int:
        """Return from when the time stop counts: the entry, or the end of a halt after it."""
        if quote is None or quote.resumed_ns is None:
            return self.entry_ns
        return max(self.entry_ns, quote.resumed_ns)

    def time_stop_ns(self, quote: Quote | None, parameters: ExitParameters) -> int:
        """Return the instant of the time stop."""
        return self.timed_from_ns(quote) + int(parameters.time_stop_s * NS_PER_S)


@dataclass(frozen=True, slots=True)
class ExitSignal:
    """Leave now, and why, with both sides of the comparison."""

    reason: ExitReason
    observed: float
    limit: float
    unit: str


def decide_exit(
    position: OpenPosition,
    quote: Quote | None,
    *,
    now_ns: int,
    max_quote_age_s: float,
    parameters: ExitParameters,
    pending: ExitSignal | None = None,
) -> ExitSignal | None:
    """Return the exit that is due, or None.

    The price of a long is the bid, of a short the ask: what closing it would get. In order: stop,
    target, flat-by-close, time stop, what is pending. Only the first two need a quote. While the
    line says that trading is halted, nothing is due.

    Args:
        position: what is held.
        quote: the line as last heard, None when silent.
        now_ns: market time.
        max_quote_age_s: an older quote triggers nothing.
        parameters: the time stop.
        pending: what a complete bar or an opposite signal has asked for.
    """
    if quote is not None and quote.halted:
        return None
    by_price = _price_exit(position, quote, now_ns=now_ns, max_quote_age_s=max_quote_age_s)
    if by_price is not None:
        return by_price
    if position.flat_by_ns is not None and now_ns >= position.flat_by_ns:
        return ExitSignal(
            ExitReason.FLAT_BY_CLOSE, now_ns / NS_PER_S, position.flat_by_ns / NS_PER_S, "s"
        )
    due_ns = position.time_stop_ns(quote, parameters)
    if now_ns >= due_ns:
        held_s = (now_ns - position.timed_from_ns(quote)) / NS_PER_S
        return ExitSignal(ExitReason.TIME_STOP, held_s, parameters.time_stop_s, "s")
    return pending


def _price_exit(
    position: OpenPosition, quote: Quote | None, *, now_ns: int, max_quote_age_s: float
) -> ExitSignal | None:
    if quote is None or quote.why_not_tradable(now_ns=now_ns, max_age_s=max_quote_age_s):
        return None
    price = quote.bid if position.side is Side.BUY else quote.ask
    if price is None:
        return None
    sign, levels = position.side.sign, position.levels
    if sign * (price - levels.stop) <= EPSILON:
        return ExitSignal(position.stop_kind, price, levels.stop, "USD")
    if sign * (price - levels.target) >= -EPSILON:
        return ExitSignal(ExitReason.TAKE_PROFIT, price, levels.target, "USD")
    return None


def broker_exit(
    position: OpenPosition, quote: Quote, *, high_usd: float, low_usd: float
) -> ExitSignal | None:
    """Return the exit that stop and target make at the broker, or None; the stop comes first.

    A stop is triggered by a trade that reaches it, a target fills when the near side of the quote
    does.

    Args:
        position: what is held.
        quote: after the trades.
        high_usd: highest trade since the last look.
        low_usd: lowest trade since the last look.
    """
    sign, levels = position.side.sign, position.levels
    worst_usd, near_usd = (low_usd, quote.bid) if sign > 0 else (high_usd, quote.ask)
    if sign * (worst_usd - levels.stop) <= EPSILON:
        return ExitSignal(position.stop_kind, worst_usd, levels.stop, "USD")
    if near_usd is not None and sign * (near_usd - levels.target) >= -EPSILON:
        return ExitSignal(ExitReason.TAKE_PROFIT, near_usd, levels.target, "USD")
    return None


@dataclass(frozen=True, slots=True)
class ExitGate:
    """What may hold back an exit that is due; one per open position, looked through at each look.

    After a halt the first quote that may be traded on decides, so that a time exit does not leave
    on the word of before the halt; it waits no longer than a quote may be old.

    Attributes:
        is_halted: the line said so at the last look.
        resumed_ns: when a halt ended, None once a quote has been heard since.
        price_due_ns: since when a price exit has been due without interruption, None: it is not.
    """

    is_halted: bool = False
    resumed_ns: int | None = None
    price_due_ns: int | None = None

    def look(
        self, quote: Quote | None, due: ExitSignal | None, *, now_ns: int, max_quote_age_s: float
    ) -> ExitGate:
        """Return the gate after one more look.

        Args:
            quote: the line as last heard, None when silent.
            due: what `decide_exit` makes of it.
            now_ns: market time.
            max_quote_age_s: an older quote triggers nothing.
        """
        is_halted = quote is not None and quote.halted
        resumed_ns = now_ns if self.is_halted and not is_halted else self.resumed_ns
        if is_halted or (resumed_ns is not None and _speaks(quote, resumed_ns, now_ns)):
            resumed_ns = None
        if resumed_ns is not None and now_ns - resumed_ns >= max_quote_age_s * NS_PER_S:
            resumed_ns = None
        price_due_ns = None
        if due is not None and due.reason in PRICE_REASONS:
            price_due_ns = self.price_due_ns if self.price_due_ns is not None else now_ns
        return ExitGate(is_halted, resumed_ns, price_due_ns)

    def admits(
        self, due: ExitSignal, *, now_ns: int, is_protected: bool, parameters: ExitParameters
    ) -> bool:
        """Whether an exit that is due is sent now by us.

        Args:
            due: what is due at the look that this gate has taken.
            now_ns: market time.
            is_protected: stop and target work at the broker.
            parameters: how long they are left to it.
        """
        if self.is_halted or self.resumed_ns is not None:
            return False
        if due.reason not in PRICE_REASONS or not is_protected or self.price_due_ns is None:
            return True
        return now_ns >= self.price_due_ns + _ns(parameters.native_grace_s)

    def opens_ns(self, *, max_quote_age_s: float, parameters: ExitParameters) -> int | None:
        """Return when time alone opens the gate; None when it holds nothing back for a time."""
        if self.resumed_ns is not None:
            return self.resumed_ns + _ns(max_quote_age_s)
        if self.price_due_ns is not None:
            return self.price_due_ns + _ns(parameters.native_grace_s)
        return None


def _speaks(quote: Quote | None, since_ns: int, now_ns: int) -> bool:
    """Whether a quote that may be traded on has been heard since an instant."""
    if quote is None or quote.at_ns < since_ns:
        return False
    age_s = (now_ns - since_ns) / NS_PER_S
    return quote.why_not_tradable(now_ns=now_ns, max_age_s=age_s) is None


def _ns(seconds: float) -> int:
    return int(seconds * NS_PER_S)
