"""`OrderSender`: sends orders that stand in the record, and waits for their end or silence."""

from __future__ import annotations

import anyio

from momentum_lab.core.order import OrderEvent, OrderIntent, OrderType
from momentum_lab.errors import ConnectionLostError
from momentum_lab.live.bookkeeper import Bookkeeper
from momentum_lab.live.decisions import OnIncident
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.parameters import ExecutionParameters
from momentum_lab.records.trade_store import TradeStore

_CHILDREN_END_WITHIN_S = 2.0


class OrderSender:
    """Sends each order once; without an answer it is UNKNOWN, and the broker is asked."""

    def __init__(
        self,
        connector: IBKRConnector,
        store: TradeStore,
        books: Bookkeeper,
        *,
        parameters: ExecutionParameters,
        on_incident: OnIncident,
    ) -> None:
        """Make a sender.

        Args:
            connector: the door to the broker.
            store: the record.
            books: say when an order has ended.
            parameters: how long an answer may take.
            on_incident: hears (kind, text, symbol).
        """
        self._connector = connector
        self._store = store
        self._books = books
        self._parameters = parameters
        self._on_incident = on_incident

    async def send(self, intent: OrderIntent, *children: OrderIntent) -> None:
        """Send orders that stand in the store, and wait for the end or the silence of the first."""
        family = (intent, *children)
        try:
            order_ids = await self._connector.place_order(*family)
        except ConnectionLostError as error:
            for one in family:
                words = f"not sent: {error}"
                self._store.advance_order(one.order_ref, OrderEvent.NOT_FOUND, message=words)
            return
        # Reports are booked by another task, so none can slip in before the next await.
        with self._books.awaiting(*family) as ends:
            for one, order_id in zip(family, order_ids, strict=True):
                self._store.advance_order(one.order_ref, OrderEvent.SEND, order_id=order_id)
            await self._until_over(intent, ends[0])
            is_over = self._store.order_state(intent.order_ref).is_final
            if is_over and not self._store.filled_shares(intent.order_ref):
                # The broker ends the children of an entry that came to nothing.
                with anyio.move_on_after(_CHILDREN_END_WITHIN_S):
                    for event in ends[1:]:
                        await event.wait()
        if not is_over:
            await self._doubt(intent)

    async def _until_over(self, intent: OrderIntent, end: anyio.Event) -> None:
        """Wait for an order's end; a limit that takes too long is cancelled, and awaited again."""
        with anyio.move_on_after(self._parameters.fill_timeout_s):
            await end.wait()
        if intent.order_type is OrderType.LIMIT and not end.is_set():
            # The price has run away: what has not filled by now is not wanted any more.
            await self._connector.cancel_order(intent.order_ref)
            with anyio.move_on_after(self._parameters.fill_timeout_s):
                await end.wait()

    async def _doubt(self, intent: OrderIntent) -> None:
        waited_s = self._parameters.fill_timeout_s
        self._store.advance_order(intent.order_ref, OrderEvent.SILENCE)
        self._on_incident(
            "order outcome unknown",
            f"{intent.order_ref}: no final answer within {waited_s:g} s",
            intent.symbol,
        )
        await self._connector.resynchronise(f"order {intent.order_ref} has no answer")
