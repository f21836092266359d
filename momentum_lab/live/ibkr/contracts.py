"""Which contract a symbol means: asked once, kept over reconnects.

A look-up costs a message and a round trip, and after an outage every symbol would need one before
anything flows. A contract that a line was refused for is asked for anew.
"""

from __future__ import annotations

import anyio
import ib_insync

from momentum_lab.core.market import Instrument
from momentum_lab.errors import BrokerError, ParameterError
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.asking import ask

# No such contract; the description does not pass the gateway's checks.
_NO_SUCH_STOCK = (200, 321)


class ContractBook:
    """Symbol -> instrument, as the broker knows it."""

    def __init__(self, *, timeout_s: float) -> None:
        """Make an empty book.

        Args:
            timeout_s: time limit of one look-up, transport time.
        """
        self._known: dict[str, Instrument] = {}
        self._timeout_s = timeout_s
        # Who asks for a symbol that is being asked for waits for that answer.
        self._asking = anyio.Lock()

    def get(self, symbol: str) -> Instrument | None:
        """Return the instrument of a symbol that has been looked up, else None."""
        return self._known.get(symbol)

    def forget(self, symbol: str) -> None:
        """Ask for it anew next time."""
        self._known.pop(symbol, None)

    async def look_up(self, ib: ib_insync.IB, symbol: str) -> Instrument:
        """Return the instrument of a symbol.

        Raises:
            ParameterError: the broker knows none, or more than one.
            BrokerError: no answer, or one that says nothing about the symbol.
        """
        async with self._asking:
            known = self._known.get(symbol)
            if known is not None:
                return known
            try:
                found = await ask(
                    f"contract of {symbol}",
                    lambda: ib.reqContractDetailsAsync(translate.stock(symbol)),
                    timeout_s=self._timeout_s,
                )
            except BrokerError as error:
                cause = error.__cause__
                if isinstance(cause, ib_insync.RequestError) and cause.code in _NO_SUCH_STOCK:
                    raise ParameterError(f"universe: {error}") from error
                raise
            if len(found) != 1:
                raise ParameterError(
                    f"universe: expected one US stock for {symbol!r}, the broker knows {len(found)}"
                )
            self._known[symbol] = translate.instrument_of(found[0])
            return self._known[symbol]
