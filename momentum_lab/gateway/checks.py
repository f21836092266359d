"""Why the exchange refuses an order: one small test each, in the broker's words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from momentum_lab.core.market import EPSILON, NS_PER_S
from momentum_lab.errors import ParameterError
from momentum_lab.gateway.books import Books
from momentum_lab.gateway.market import Market
from momentum_lab.gateway.orders import (
    AT_CLOSE,
    LIMITED,
    STOPS,
    TOUCHES,
    TRAILING,
    Order,
    Ticket,
)
from momentum_lab.gateway.price_steps import is_on_grid
from momentum_lab.gateway.refusal import REJECTED, VALIDATION, RefusedError, invalid

ORDER_TYPES = (
    *("MKT", "LMT", "STP", "STP LMT", "TRAIL", "TRAIL LIMIT"),
    *("MIT", "LIT", "MOC", "LOC"),
)
TIMES_IN_FORCE = ("", "DAY", "GTC", "IOC", "FOK", "GTD")
UNSUPPORTED_TYPE = 387
BAD_PRICE = 110
TIF_MISMATCH = 111
FRACTIONAL = 10243
NO_PARENT, NO_SUCH_ORDER = 10006, 135
GROUP_REVISED, GROUP_TYPE_REVISED = 10326, 10327
TOO_LARGE, NO_SIZE = 383, 434
NOT_ENOUGH_SHARES = 426
NO_TRAIL, TWO_TRAILS = 159, 158
# Beyond these no market trades, and clients and arithmetic give up.
MAX_SHARES = MAX_ORDER_ID = 2**31 - 1
MAX_PRICE_USD = 1e8
MAX_TRAIL_PERCENT = 100.0
CROSS_SIDE, RTH_IGNORED, PRESET_TIF = 2137, 2109, 10349


@dataclass(frozen=True, slots=True)
class Rules:
    """What an exchange takes, and how fast.

    Attributes:
        latency_s: market seconds from an order or a cancellation to its effect.
        is_read_only: no order at all, as with the read-only setting of a real gateway.
        is_cash_account: no short sales, no buying beyond the cash.
        hard_to_borrow: symbols whose short sales are held for a locate.
        max_shares: largest order, None without a limit.
        tells_preset_tif: an order without a time in force earns the note 10349.
        close_cutoff_s: orders for the close are refused from so long before it, seconds.
    """

    latency_s: float = 0.0
    is_read_only: bool = False
    is_cash_account: bool = False
    hard_to_borrow: frozenset[str] = frozenset()
    max_shares: int | None = None
    tells_preset_tif: bool = False
    close_cutoff_s: float = 600.0

    def __post_init__(self) -> None:
        """Refuse times before now."""
        if not (math.isfinite(self.latency_s) and self.latency_s >= 0):
            raise ParameterError(f"gateway: expected latency_s >= 0, found {self.latency_s}")
        if self.max_shares is not None and self.max_shares <= 0:
            raise ParameterError(f"gateway: expected max_shares > 0, found {self.max_shares}")

    @property
    def close_cutoff_ns(self) -> int:
        """The same in nanoseconds."""
        return round(self.close_cutoff_s * NS_PER_S)


def rejected(reason: str) -> RefusedError:
    """Return a rejection by the broker's own rules."""
    return RefusedError(REJECTED, f"Order rejected - reason:{reason}")


def check_ticket(ticket: Ticket, *, account: str, rules: Rules) -> None:
    """Refuse a ticket that no market could execute.

    Raises:
        RefusedError: with the broker's code for the first thing wrong.
    """
    if rules.is_read_only:
        raise invalid("The API interface is currently in Read-Only mode.")
    if ticket.order_id > MAX_ORDER_ID:
        raise invalid(f"Invalid order id {ticket.order_id}")
    _check_account(ticket, account)
    _check_quantity(ticket, rules)
    _check_amounts(ticket)
    if ticket.order_type not in ORDER_TYPES:
        raise RefusedError(
            UNSUPPORTED_TYPE,
            f"Unsupported order type for this exchange and security type: {ticket.order_type}; "
            f"this gateway takes {', '.join(ORDER_TYPES)}",
        )
    _check_time(ticket)
    if ticket.oca_type not in (0, 1, 2, 3):
        raise rejected(f"Invalid OCA type {ticket.oca_type}")
    if ticket.order_type in LIMITED - {"TRAIL LIMIT"}:
        _check_price(ticket, ticket.limit_usd, "limit")
    if ticket.order_type in TRAILING:
        _check_trail(ticket)
    elif ticket.order_type in STOPS | TOUCHES:
        _check_price(ticket, ticket.stop_usd, "stop")


def check_parent(ticket: Ticket, parent: Order | None) -> None:
    """Refuse a child whose parent is not there, has ended, or is of another contract."""
    if not ticket.parent_id:
        return
    if parent is None or parent.key == ticket.key:
        raise RefusedError(NO_PARENT, "Missing parent order.")
    if parent.is_done and not parent.filled:
        raise rejected("Parent order is cancelled")
    if parent.symbol != ticket.instrument.symbol:
        raise rejected("The contract of a child order must be that of its parent")


def check_change(ticket: Ticket, known: Order, books: Books) -> None:
    """Refuse new terms that name a parent or a group otherwise than the broker knows them."""
    parent = books.parent_of(ticket)
    is_gone = parent is None or (parent.is_done and books.forgets(ticket.client_id))
    if ticket.parent_id and is_gone:
        raise RefusedError(NO_SUCH_ORDER, f"Can't find order with id = {ticket.parent_id}")
    if not (books.renames_groups and known.oca_group):
        return
    if ticket.oca_group not in ("", known.oca_group):
        raise RefusedError(GROUP_REVISED, "OCA group revision is not allowed.")
    if ticket.oca_type not in (0, known.oca_type):
        raise RefusedError(GROUP_TYPE_REVISED, "OCA group type revision is not allowed.")


def check_time_of_close(ticket: Ticket, *, market: Market, rules: Rules) -> None:
    """Refuse an order for the close that comes too late for it."""
    if ticket.order_type not in AT_CLOSE or not market.is_open:
        return
    close_ns = market.hours.next_close_ns(market.now_ns)
    if close_ns - market.now_ns < rules.close_cutoff_ns:
        raise rejected(f"It is too late to enter {ticket.order_type} orders")


def warnings_of(ticket: Ticket, *, held: int, rules: Rules) -> list[tuple[int, str]]:
    """Return the notes (code, text) that an accepted order earns.

    Args:
        ticket: the accepted order.
        held: signed shares of its symbol that are held, or that its parent still brings.
        rules: which notes this exchange gives.
    """
    found = []
    if ticket.outside_rth and ticket.order_type in ("MKT", *AT_CLOSE):
        text = (
            "Order Event Warning:Attribute 'Outside Regular Trading Hours' is ignored based on "
            "the order type and destination. PlaceOrder is now being processed."
        )
        found.append((RTH_IGNORED, text))
    is_closing = held * ticket.side.sign < 0
    if is_closing and ticket.quantity > abs(held):
        found.append(
            (CROSS_SIDE, "The closing order quantity is greater than your current position.")
        )
    if rules.tells_preset_tif and not ticket.tif:
        found.append((PRESET_TIF, "Order TIF was set to DAY based on order preset."))
    return found


def check_margin(*, needed_usd: float, available_usd: float) -> None:
    """Refuse an order whose margin the account does not have."""
    if needed_usd > available_usd + EPSILON:
        raise rejected(
            "YOUR ORDER IS NOT ACCEPTED. IN ORDER TO OBTAIN THE DESIRED POSITION YOUR AVAILABLE "
            f"FUNDS [{available_usd:.2f} USD] MUST EXCEED THE INITIAL MARGIN "
            f"[{needed_usd:.2f} USD]"
        )


def _check_account(ticket: Ticket, account: str) -> None:
    if ticket.account not in ("", account):
        raise RefusedError(
            VALIDATION,
            f"Error validating request.-'cF' : cause - Invalid account code '{ticket.account}'.",
        )


def _check_amounts(ticket: Ticket) -> None:
    """Refuse amounts beyond any market, also where the order's type does not look at them."""
    amounts = (ticket.limit_usd, ticket.stop_usd, ticket.trail_stop_usd, ticket.limit_offset_usd)
    for amount_usd in amounts:
        if amount_usd is not None and not abs(amount_usd) <= MAX_PRICE_USD:
            raise rejected(f"No price can be {amount_usd:g}")


def _check_time(ticket: Ticket) -> None:
    if ticket.tif not in TIMES_IN_FORCE:
        raise rejected(f"The time-in-force {ticket.tif} is not supported by this gateway")
    if (ticket.tif == "GTD") != bool(ticket.good_till_ns):
        raise rejected("A good till date needs the time-in-force GTD, and GTD needs a date")
    if ticket.order_type in AT_CLOSE and ticket.tif not in ("", "DAY"):
        raise RefusedError(TIF_MISMATCH, "The TIF and the order type are incompatible.")


def _check_trail(ticket: Ticket) -> None:
    has_amount = ticket.stop_usd is not None and ticket.stop_usd > 0
    has_percent = ticket.trail_percent is not None and ticket.trail_percent > 0
    if has_amount and has_percent:
        raise RefusedError(TWO_TRAILS, "A trailing amount and a trailing percent were given.")
    if not (has_amount or has_percent):
        raise RefusedError(NO_TRAIL, "Trailing amount or percent is missing.")
    if ticket.trail_percent is not None and not ticket.trail_percent < MAX_TRAIL_PERCENT:
        raise rejected(f"The trailing percent must be below {MAX_TRAIL_PERCENT:g}")
    if ticket.trail_stop_usd is not None:
        _check_price(ticket, ticket.trail_stop_usd, "trailing stop")
    if ticket.order_type == "TRAIL LIMIT" and ticket.limit_offset_usd is None:
        raise rejected("A TRAIL LIMIT order needs a limit price offset")


def _check_quantity(ticket: Ticket, rules: Rules) -> None:
    if ticket.quantity == 0:
        raise RefusedError(NO_SIZE, "The order size cannot be zero.")
    if not (math.isfinite(ticket.quantity) and ticket.quantity > 0):
        raise rejected(f"The order size must be positive, found {ticket.quantity:g}")
    if ticket.quantity != int(ticket.quantity):
        raise RefusedError(FRACTIONAL, "Fractional-sized order cannot be placed via API.")
    most = MAX_SHARES if rules.max_shares is None else rules.max_shares
    if ticket.quantity > most:
        text = f"The following order size exceeds the Size Limit of {most}."
        raise RefusedError(TOO_LARGE, text)


def _check_price(ticket: Ticket, price_usd: float | None, kind: str) -> None:
    if price_usd is None or not (math.isfinite(price_usd) and price_usd > 0):
        raise rejected(f"The {kind} price of a {ticket.order_type} order must be positive")
    if not is_on_grid(ticket.instrument, price_usd):
        text = "The price does not conform to the minimum price variation for this contract."
        raise RefusedError(BAD_PRICE, text)
