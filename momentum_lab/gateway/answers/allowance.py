"""Whether a client may have another line or another history: the budgets, applied to requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from momentum_lab.gateway.limits import MAX_OPEN_HISTORY, SMALL_BAR_S, HistoryAsk
from momentum_lab.gateway.refusal import DUPLICATE_ID, HISTORY, RefusedError
from momentum_lab.gateway.wire import Request

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub

NO_LINES_LEFT, BAD_REAL_TIME = 101, 420
REAL_TIME = "reqRealTimeBars"


def check_lines(hub: Hub) -> None:
    """Refuse another market data line where all are in use.

    The broker counts by user: the lines of all clients together. Each subscription is one, also
    where two are for the same contract.

    Raises:
        RefusedError: 101.
    """
    n_in_use = sum(session.subscriptions.n_lines for session in hub.sessions.values())
    if n_in_use >= hub.settings.limits.max_lines:
        raise RefusedError(NO_LINES_LEFT, "Max number of tickers has been reached.")


def check_history(hub: Hub, request: Request, *, symbol: str, seconds: int = 0) -> None:
    """Count a historical request that is about to be answered, where the rules allow it.

    Args:
        hub: the gateway, whose clients share one budget.
        request: any request with a contract and a `what_to_show`.
        symbol: what the contract means.
        seconds: length of the bars; 0 for what is no bar and always counts.

    Raises:
        RefusedError: 162, a pacing violation, or 420 for real-time bars; 322, too many are kept
            up to date.
    """
    if not hub.settings.limits.paces_history:
        return
    if request.values.get("keep_up_to_date"):
        _check_open(hub)
    if seconds > SMALL_BAR_S:
        return
    if not hub.history_budget.take(_ask(request, symbol), anyio.current_time()):
        text = "Historical data request pacing violation"
        if request.name == REAL_TIME:
            raise RefusedError(BAD_REAL_TIME, f"Invalid Real-time Query:{text}")
        raise RefusedError(HISTORY, f"Historical Market Data Service error message:{text}")


def _check_open(hub: Hub) -> None:
    """A history that is answered is closed; those kept up to date stay open."""
    n_open = sum(len(session.subscriptions.bars) for session in hub.sessions.values())
    if n_open >= MAX_OPEN_HISTORY:
        cause = f"Only {MAX_OPEN_HISTORY} simultaneous API historical data requests allowed."
        raise RefusedError(DUPLICATE_ID, f"Error processing request.-'wd' : cause - {cause}")


def _ask(request: Request, symbol: str) -> HistoryAsk:
    if request.name == REAL_TIME:
        # Real-time bars count among all requests; they are equal to none.
        return HistoryAsk(all_of_it=object(), kind=object())
    what, exchange = request["what_to_show"].upper(), request["contract"]["exchange"]
    others = {n: v for n, v in request.values.items() if n not in ("req_id", "contract")}
    return HistoryAsk(
        all_of_it=(request.name, symbol, exchange, repr(sorted(others.items()))),
        kind=(symbol, exchange, what),
        weight=2 if what == "BID_ASK" else 1,
    )
