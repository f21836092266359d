"""Why the exchange refuses an order: one small test each, in the broker's words."""

from __future__ import annotations

import math

from momentum_lab.core.market import EPSILON
from momentum_lab.gateway.orders import Ticket
from momentum_lab.gateway.refusal import REJECTED, VALIDATION, RefusedError

ORDER_TYPES = ("MKT", "LMT", "STP")
TIMES_IN_FORCE = ("", "DAY", "GTC", "IOC", "FOK")
UNSUPPORTED_TYPE = 387
BAD_PRICE = 110
FRACTIONAL = 10243


def rejected(reason: str) -> RefusedError:
    """Return a rejection by the broker's own rules."""
    return RefusedError(REJECTED, f"Order rejected - reason:{reason}")


def check_ticket(ticket: Ticket, *, account: str) -> None:
    """Refuse a ticket that no market could execute.

    Raises:
        RefusedError: with the broker's code for the first thing wrong.
    """
    _check_account(ticket, account)
    _check_quantity(ticket)
    if ticket.order_type not in ORDER_TYPES:
        raise RefusedError(
            UNSUPPORTED_TYPE,
            f"Unsupported order type for this exchange and security type: {ticket.order_type}; "
            f"this gateway takes {', '.join(ORDER_TYPES)}",
        )
    if ticket.tif not in TIMES_IN_FORCE:
        raise rejected(f"The time-in-force {ticket.tif} is not supported by this gateway")
    if ticket.order_type == "LMT":
        _check_price(ticket, ticket.limit_usd, "limit")
    if ticket.order_type == "STP":
        _check_price(ticket, ticket.stop_usd, "stop")


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


def _check_quantity(ticket: Ticket) -> None:
    if not (math.isfinite(ticket.quantity) and ticket.quantity > 0):
        raise rejected(f"The order size must be positive, found {ticket.quantity:g}")
    if ticket.quantity != int(ticket.quantity):
        raise RefusedError(FRACTIONAL, "Fractional-sized order cannot be placed via API.")


def _check_price(ticket: Ticket, price_usd: float | None, kind: str) -> None:
    if price_usd is None or not (math.isfinite(price_usd) and price_usd > 0):
        raise rejected(f"The {kind} price of a {ticket.order_type} order must be positive")
    instrument = ticket.instrument
    on_grid = instrument.ticks(price_usd) * instrument.tick_usd
    if abs(on_grid - price_usd) > instrument.tick_usd / 1000:
        text = "The price does not conform to the minimum price variation for this contract."
        raise RefusedError(BAD_PRICE, text)
