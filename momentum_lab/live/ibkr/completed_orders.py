"""The day's completed orders: the one list that the broker may leave unanswered.

A gateway is known to answer this request never: while one of its own is pending, or where the API
is read-only. Positions, open orders and executions do not need it, so exits do not wait for it.
What only this list could have told stays unknown.
"""

from __future__ import annotations

import math

import ib_insync

from momentum_lab.clock import transport_s
from momentum_lab.core.order import ORDER_REF_PREFIX
from momentum_lab.errors import ConnectionLostError
from momentum_lab.live.ibkr.asking import ask
from momentum_lab.live.ibkr.incidents import OnIncident

# Exits are shut meanwhile.
_PART_OF_TIME_LIMIT = 0.5
# A second request beside one that is pending is refused without a word.
_ASK_AGAIN_S = 60.0


class CompletedOrders:
    """Everything told as completed in the present connection, and the request for it.

    It is kept by us, and only ever grows: the library loses what it was told for one request when
    the next is made, and the late end of one request ends the next. An order that has completed
    does not come back, so that each end finds at least one whole answer here.
    """

    def __init__(self, on_incident: OnIncident) -> None:
        """Begin with nothing; `on_incident` hears once in a connection that it is not answered."""
        self._on_incident = on_incident
        self._told: dict[str, str] = {}
        self._asked_s = -math.inf
        self._has_warned = False

    def clear(self) -> None:
        """Forget what belongs to the connection that has ended."""
        self._told.clear()
        self._has_warned = False
        self.expect_no_answer()

    def expect_no_answer(self) -> None:
        """The broker was away: what was asked before is not answered any more."""
        self._asked_s = -math.inf

    def hear(
        self, _contract: ib_insync.Contract, order: ib_insync.Order, state: ib_insync.OrderState
    ) -> None:
        """Take in one completed order, asked for or not."""
        if order.orderRef.startswith(ORDER_REF_PREFIX):
            self._told[order.orderRef] = state.status

    def hear_end(self) -> None:
        """A request has been answered, perhaps late; or it is the end of nothing."""
        self._asked_s = -math.inf

    async def ask(self, ib: ib_insync.IB, *, timeout_s: float) -> dict[str, str] | None:
        """Return our reference -> status text of today's completed orders, None if not answered.

        Args:
            ib: the connection.
            timeout_s: how long any other answer may take; this one gets half of it.

        Raises:
            ConnectionLostError: the socket broke.
        """
        if transport_s() - self._asked_s < _ASK_AGAIN_S:
            return None
        self._asked_s = transport_s()
        try:
            await ask(
                "completed orders",
                lambda: ib.reqCompletedOrdersAsync(False),
                timeout_s=timeout_s * _PART_OF_TIME_LIMIT,
            )
        except ConnectionLostError as error:
            if not ib.isConnected():
                raise
            self._warn(str(error))
            return None
        return dict(self._told)

    def _warn(self, words: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            text = f"{words}; an order that is in no other list keeps its symbol from entries"
            self._on_incident("completed orders unknown", text)
