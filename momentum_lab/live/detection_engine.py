"""`DetectionEngine`: workers prepare headlines, open watches look for the shock.

A worker picks the symbol, makes sure the line is open, fetches the candles and freezes the
baseline. The watch that follows lasts minutes, so it is a task of its own and blocks no worker:
each quote and its own deadline is a look, and the rules in `momentum_lab.core.shock` decide.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import anyio
import anyio.abc

from momentum_lab.clock import Clock
from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.news import Headline
from momentum_lab.core.shock import Watch, look, open_watch
from momentum_lab.core.signal import Decision, Reason, TradeSignal, passed
from momentum_lab.errors import BrokerError, MomentumLabError, ParameterError
from momentum_lab.live.decisions import DecisionBook
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.ibkr.candles import CandleOutcome
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.news_handler import Assignment
from momentum_lab.parameters import Parameters

_log = logging.getLogger(__name__)

T = TypeVar("T")


class DetectionEngine:
    """Turns headlines into signals, or into the reason why not."""

    def __init__(
        self,
        queue: asyncio.Queue[Assignment],
        connector: IBKRConnector,
        execution: ExecutionService,
        *,
        book: DecisionBook,
        clock: Clock,
        parameters: Parameters,
    ) -> None:
        """Make an engine that does nothing until `run()`."""
        self._queue = queue
        self._connector = connector
        self._execution = execution
        self._book = book
        self._clock = clock
        self._parameters = parameters
        self._watches = 0
        self._group: anyio.abc.TaskGroup | None = None

    async def run(self) -> None:
        """Work until cancelled."""
        async with anyio.create_task_group() as self._group:
            for number in range(self._parameters.engine.workers):
                self._group.start_soon(self._work, name=f"detection worker {number}")

    async def _work(self) -> None:
        while True:
            assignment = await self._queue.get()
            if self._primary(assignment.headline) is not None:
                await self._take(assignment)
            else:
                self._start(self._wait_for_symbol, assignment)

    async def _take(self, assignment: Assignment) -> None:
        """Prepare a headline; record why it is not watched, if it is not."""
        self._watches += 1
        try:
            verdict = await self._prepare(assignment)
        except MomentumLabError as error:
            verdict = passed(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
        finally:
            self._watches -= 1
        if verdict is not None:
            symbol = self._primary(assignment.headline)
            self._book.decide(assignment.headline_id, verdict, symbol=symbol)

    async def _wait_for_symbol(self, assignment: Assignment) -> None:
        """Give a headline without a ticker of ours the moment in which another line may name it."""
        grace_ns = int(self._parameters.news.symbol_grace_s * NS_PER_S)
        await self._clock.sleep_until(assignment.headline.received_ns + grace_ns)
        headline = assignment.headline
        symbols = (*headline.symbols, *self._book.late_symbols(assignment.headline_id))
        await self._take(replace(assignment, headline=replace(headline, symbols=symbols)))

    def _start(self, task: Callable[[T], Coroutine[Any, Any, None]], value: T) -> None:
        if self._group is None:
            raise MomentumLabError("the engine is not running")
        self._group.start_soon(task, value)

    def _primary(self, headline: Headline) -> str | None:
        """Return the first ticker of the headline that may be traded; the rest are mentions."""
        return next((s for s in headline.symbols if s in self._parameters.universe), None)

    async def _prepare(self, assignment: Assignment) -> Decision | None:
        """Open the watch of a headline, or return why it is not watched."""
        headline = assignment.headline
        symbol = self._primary(headline)
        refusal = self._refuse(headline, symbol)
        if refusal is not None or symbol is None:
            return refusal
        try:
            instrument = (await self._connector.open_line(symbol)).instrument
        except (BrokerError, ParameterError) as error:
            return passed(Reason.NO_LINE, str(error))
        candles = await self._connector.fetch_candles(symbol)
        if candles.outcome is not CandleOutcome.BARS:
            return passed(Reason.NO_BASELINE, f"{candles.outcome.value}: {candles.words}")
        with self._connector.stream_quotes(symbol) as stream:
            watch = open_watch(
                assignment.headline_id,
                symbol,
                received_ns=headline.received_ns,
                bars=candles.bars,
                candles=stream.candles,
                tick_usd=instrument.tick_usd,
                parameters=self._parameters.shock,
            )
        if isinstance(watch, Decision):
            return watch
        self._watches += 1
        self._start(self._watch, watch)
        self._start(self._execution.learn, symbol)
        return None

    def _refuse(self, headline: Headline, symbol: str | None) -> Decision | None:
        if not headline.symbols:
            return passed(Reason.NO_TICKER, "no ticker in the text, none from the subscription")
        if symbol is None:
            found = ", ".join(headline.symbols)
            return passed(Reason.NOT_IN_UNIVERSE, f"{found} is not in the universe")
        if not self._connector.is_operational():
            return passed(
                Reason.NOT_OPERATIONAL, f"the connection is {self._connector.state.value}"
            )
        limit = self._parameters.engine.max_watches
        if self._watches > limit:
            return passed(
                Reason.TOO_MANY_WATCHES,
                f"{self._watches} headlines are being watched",
                observed=self._watches,
                limit=limit,
                unit="watches",
            )
        return self._execution.refuse_window(self._clock.now_ns())

    async def _watch(self, watch: Watch) -> None:
        try:
            found = await self._look_until_decided(watch)
            if isinstance(found, TradeSignal):
                await self._execution.enter(found)
            else:
                self._book.decide(watch.headline_key, found, symbol=watch.symbol)
        except MomentumLabError as error:
            _log.exception("watch failed: headline=%s", watch.headline_key)
            verdict = passed(Reason.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
            self._book.decide(watch.headline_key, verdict, symbol=watch.symbol)
        finally:
            self._watches -= 1

    async def _look_until_decided(self, watch: Watch) -> TradeSignal | Decision:
        parameters = self._parameters.shock
        with self._connector.stream_quotes(watch.symbol) as stream:
            while True:
                watch, found = look(
                    watch, stream.candles, now_ns=self._clock.now_ns(), parameters=parameters
                )
                if found is not None:
                    return found
                await stream.wait(until_ns=watch.expires_ns(parameters))
