"""What we want to hear, asked for again on every connection and seen to flow.

The library's caches are wiped on a disconnect; the registry here is the memory. A wish stays until
the session ends. The broker allows a number of lines; when more are wanted than it allows, those
that nobody listens to wait, longest unused first, and are asked for when somebody needs them.

Being accepted is not being served: a line counts as flowing once a price or a trade has come. One
that should flow and does not is reported, and asked for again from time to time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import anyio
import ib_insync

from momentum_lab.clock import Clock, transport_s
from momentum_lab.core.market import Instrument
from momentum_lab.errors import (
    BrokerError,
    ConnectionLostError,
    MomentumLabError,
    ParameterError,
)
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.codes import Reaction, code_of
from momentum_lab.live.ibkr.contracts import ContractBook
from momentum_lab.live.ibkr.generic_ticks import (
    LINE_TICKS,
    TAPE_TICKS,
    TICKS_WITHOUT_HEADLINES,
    refuses_ticks,
)
from momentum_lab.live.ibkr.hearing import Ears
from momentum_lab.live.ibkr.line import Line, Lines, LineStatus
from momentum_lab.live.ibkr.news_tapes import Tape, Tapes
from momentum_lab.parameters import Parameters

_log = logging.getLogger(__name__)

_LIVE_DATA = 1
_NO_CONTRACT = 200


class Subscriptions:
    """Asks the broker for every line and tape that is wanted, anew on each synchronisation."""

    def __init__(
        self,
        lines: Lines,
        ears: Ears,
        *,
        clock: Clock,
        parameters: Parameters,
        on_incident: Callable[[str, str], None],
    ) -> None:
        """Want the lines of the universe, and no news yet.

        Args:
            lines: the registry to open lines in.
            ears: hears the ticks, and has to know what each subscription was for.
            clock: market time.
            parameters: the checked set.
            on_incident: hears (kind, text) of a line or a tape that cannot be had.
        """
        self.contracts = ContractBook(timeout_s=parameters.connection.request_timeout_s)
        self.tapes = Tapes(
            parameters.news.providers,
            timeout_s=parameters.connection.request_timeout_s,
            on_incident=on_incident,
        )
        self._lines = lines
        self._ears = ears
        self._clock = clock
        self._parameters = parameters
        self._on_incident = on_incident
        # In the order of the universe: the first are the last to give up their line.
        self._symbols: dict[str, None] = dict.fromkeys(parameters.universe)
        self._line_ticks = LINE_TICKS
        # Requests of this connection that may be refused for their headlines.
        self._with_headlines: set[int] = set()
        pacing = parameters.pacing
        self._capacity = max(1, pacing.market_data_lines - pacing.spare_lines)
        # Whoever opens lines at the same time must not count the same free one.
        self._opening = anyio.Lock()

    def follow(self, symbol: str) -> None:
        """Want a line for a symbol outside the universe too, from the next renewal on."""
        self._symbols.setdefault(symbol)

    def want_news(self) -> None:
        """Want the broad tapes too, from the next renewal on."""
        self.tapes.want()

    # --- on every synchronisation ----------------------------------------------------------

    async def look_up(self, ib: ib_insync.IB, *, is_first: bool) -> None:
        """Make sure that the contract of every wanted symbol is known.

        Args:
            ib: the connection.
            is_first: no line has been open in this session yet; an unknown symbol of the
                universe is then refused, later it is an incident.

        Raises:
            ParameterError: the broker does not know a symbol of the universe.
            BrokerError: a look-up was not answered, or failed although the symbol may exist.
        """
        unknown = await self._look_up_each(ib, list(self._symbols), may_lack=not is_first)
        # Before the day begins the whole universe is wanted; later it is one line less.
        refused = [symbol for symbol in unknown if symbol in self._parameters.universe]
        if is_first and refused:
            raise unknown[refused[0]]
        for error in unknown.values():
            self._on_incident("line lost", str(error))

    async def _look_up_each(
        self, ib: ib_insync.IB, symbols: Iterable[str], *, may_lack: bool
    ) -> dict[str, MomentumLabError]:
        """Return why which symbols have no contract."""
        found = {one: await self._look_up_one(ib, one, may_lack=may_lack) for one in symbols}
        return {symbol: error for symbol, error in found.items() if error is not None}

    async def _look_up_one(
        self, ib: ib_insync.IB, symbol: str, *, may_lack: bool
    ) -> MomentumLabError | None:
        try:
            self._lines.want(await self.contracts.look_up(ib, symbol))
        except ConnectionLostError:
            raise
        except ParameterError as error:
            return error
        except BrokerError as error:
            # It says nothing about the symbol; the next connection asks again.
            if not may_lack and symbol in self._parameters.universe:
                raise
            return error
        return None

    def renew(self, ib: ib_insync.IB) -> None:
        """Cancel what this connection subscribed to, and subscribe to all that is wanted."""
        self._unsubscribe(ib)
        self._ears.subscribed_ns = self._clock.now_ns()
        ib.client.reqMarketDataType(_LIVE_DATA)
        # All lines at once: a gateway that plays a tape starts its clock with the first.
        for line in self._most_useful(self._capacity - len(self.tapes)):
            self._ask(ib, line)
        for tape in self.tapes:
            self._ask_tape(ib, tape)

    def complete(self, ib: ib_insync.IB) -> None:
        """Subscribe to what is wanted and has no request; what flows goes on, with its candles."""
        for line in self._most_useful(self._capacity - len(self.tapes)):
            if line.request is None and self.n_used < self._capacity:
                self._ask(ib, line)
        self._ask_tapes(ib, [tape for tape in self.tapes if tape.request is None or tape.words])

    async def wait_flowing(self, *, timeout_s: float) -> list[Line]:
        """Wait until each line that was asked for flows or is refused; return the silent ones.

        Args:
            timeout_s: transport time; what has said nothing by then counts as silent.
        """
        until_s = transport_s() + timeout_s
        while any(line.status is LineStatus.ASKED for line in self._lines):
            left_s = until_s - transport_s()
            if left_s <= 0:
                break
            await self._lines.answered.rest(left_s)
        silent = [line for line in self._lines if line.status is LineStatus.ASKED]
        for line in silent:
            line.fall_silent(f"nothing was heard within {timeout_s:g} s")
        return silent

    def park(self) -> None:
        """The connection is gone, and with it what was subscribed to; the wishes stay."""
        self._lines.park()
        self._with_headlines.clear()
        self.tapes.park()

    # --- while it goes on ------------------------------------------------------------------

    async def open(self, ib: ib_insync.IB, symbol: str) -> Line:
        """Return the line of a symbol; one that had none takes the least useful line's place.

        Raises:
            ParameterError: the broker does not know the symbol.
            BrokerError: every line is listened to by somebody, none can be given up.
            ConnectionLostError: no answer.
        """
        async with self._opening:
            line = self._lines.want(await self.contracts.look_up(ib, symbol))
            line.use()
            if line.request is not None:
                return line
            if self.n_used >= self._capacity:
                self._give_up_one(ib, symbol)
            self._ask(ib, line)
            return line

    @property
    def n_used(self) -> int:
        """How many of the broker's lines are in use by us."""
        n_lines = sum(line.request is not None for line in self._lines)
        # Whether a tape takes a line is not documented; assume that it does.
        return n_lines + sum(tape.request is not None for tape in self.tapes)

    def ask_again(self, ib: ib_insync.IB, lines: Iterable[Line]) -> None:
        """Subscribe anew to lines that do not flow."""
        for line in lines:
            if line.request is not None:
                self._cancel(ib, line.request)
                self._ask(ib, line)

    def ask_due_tapes(self, ib: ib_insync.IB) -> None:
        """Subscribe to tapes that have been found since, and anew to those that are due."""
        self._ask_tapes(ib, self.tapes.due())

    def hear_code(self, ib: ib_insync.IB, request: int, *, code: int, words: str) -> bool:
        """Take in what the broker says about a subscription; return whether it is one of ours."""
        line = next((line for line in self._lines if line.request == request), None)
        if line is None:
            return self.tapes.hear_code(request, code, words)
        symbol = line.instrument.symbol
        if request in self._with_headlines and refuses_ticks(code, words):
            self._with_headlines.discard(request)
            self._ask_without_headlines(ib, line, words)
            return True
        reaction = code_of(code).reaction
        if reaction is Reaction.LOOK_AGAIN_LATER:
            line.fall_silent(words)
            self._on_incident("line silent", f"{symbol}: {words}")
        elif reaction in (Reaction.LINE_REFUSED, Reaction.REQUEST_FAILED):
            line.refuse(words)
            if code == _NO_CONTRACT:
                self.contracts.forget(symbol)
            self._on_incident("line refused", f"{symbol}: {words}")
        elif reaction is Reaction.LINE_DELAYED:
            self._on_incident("line delayed", f"{symbol}: {words}")
        else:
            _log.info("broker says: symbol=%s text=%s", symbol, words)
        return True

    def suspect(self, why: str) -> None:
        """Believe no quote until its line has said something new."""
        for line in self._lines:
            line.suspect(why)

    # --- inside ----------------------------------------------------------------------------

    def _most_useful(self, n_lines: int) -> list[Line]:
        ranks = {symbol: -number for number, symbol in enumerate(self._symbols)}
        wanted = [line for line in self._lines if line.instrument.symbol in ranks]
        wanted.sort(
            key=lambda line: (bool(line.streams), line.used_s, ranks[line.instrument.symbol]),
            reverse=True,
        )
        chosen = wanted[:n_lines]
        return sorted(chosen, key=lambda line: line.instrument.con_id)

    def _give_up_one(self, ib: ib_insync.IB, symbol: str) -> None:
        victim = self._lines.least_useful()
        if victim is None or victim.request is None:
            raise BrokerError(
                f"no market data line is free for {symbol!r}: {self.n_used} of"
                f" {self._capacity} are in use, and somebody listens to each"
            )
        _log.info("line given up: symbol=%s for=%s", victim.instrument.symbol, symbol)
        self._cancel(ib, victim.request)
        victim.park()

    def _ask(self, ib: ib_insync.IB, line: Line) -> None:
        request = ib.client.getReqId()
        line.begin(request)
        self._ears.expect_line(request, line)
        if self._line_ticks == LINE_TICKS:
            self._with_headlines.add(request)
        contract = _contract(line.instrument)
        ib.client.reqMktData(request, contract, self._line_ticks, False, False, [])

    def _ask_without_headlines(self, ib: ib_insync.IB, line: Line, words: str) -> None:
        if self._line_ticks == LINE_TICKS:
            # So it is for this user, whichever the stock: once is enough to learn it.
            self._line_ticks = TICKS_WITHOUT_HEADLINES
            text = f"{words}; quotes alone are asked for from now on, headlines come by tapes only"
            self._on_incident("no stock headlines", text)
        if line.request is not None:
            self._ears.forget_subscription(line.request)
        self._ask(ib, line)

    def _ask_tapes(self, ib: ib_insync.IB, tapes: Iterable[Tape]) -> None:
        """Subscribe anew; one that had no line so far takes the least useful line's place."""
        for tape in tapes:
            if tape.request is not None:
                self._cancel(ib, tape.request)
            elif self.n_used >= self._capacity:
                try:
                    self._give_up_one(ib, tape.name)
                except BrokerError as error:
                    _log.info("news tape waits: %s", error)
                    continue
            self._ask_tape(ib, tape)

    def _ask_tape(self, ib: ib_insync.IB, tape: Tape) -> None:
        request = ib.client.getReqId()
        tape.begin(request)
        self._ears.expect_tape(request, tape)
        contract = translate.news_tape(tape.provider, tape.name)
        ib.client.reqMktData(request, contract, TAPE_TICKS, False, False, [])

    def _cancel(self, ib: ib_insync.IB, request: int) -> None:
        self._ears.forget_subscription(request)
        self._with_headlines.discard(request)
        ib.client.cancelMktData(request)

    def _unsubscribe(self, ib: ib_insync.IB) -> None:
        """Cancel what this connection subscribed to; after a code 1102 it may still flow."""
        for found in (*self._lines, *self.tapes):
            if found.request is not None:
                self._cancel(ib, found.request)
        self.park()


def _contract(instrument: Instrument) -> ib_insync.Contract:
    return translate.stock(instrument.symbol, instrument.con_id)
