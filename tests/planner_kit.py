"""An entry planner on a store of its own, with a line, an account and a clock that are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from momentum_lab.clock import SystemClock, transport_s
from momentum_lab.core.market import NS_PER_S, DataType, Instrument, Side
from momentum_lab.core.order import OrderEvent, OrderIntent, OrderPurpose
from momentum_lab.core.position import ExitReason, Fill, Levels
from momentum_lab.core.signal import Decision, Outcome, Reason, TradeSignal
from momentum_lab.live.entry_planner import EntryPlanner
from momentum_lab.live.ibkr.account_values import Account
from momentum_lab.live.ibkr.candles import CandleOutcome, Candles
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.line import Line
from momentum_lab.parameters import Parameters
from momentum_lab.records.trade_store import TradeStore
from tests.factories import NOON, headline, instrument

RUN_ID = "20131009T133000Z-paper"
EQUITY_USD = 100_000.0


class ToldClock(SystemClock):
    """Market time that a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.at_ns = NOON

    def now_ns(self) -> int:
        return self.at_ns


class ToldReplayClock(ToldClock):
    """The same of a replayed day."""

    is_replay = True


class ToldConnector(IBKRConnector):
    """A connector that never connects; its account and instruments are what a test says."""

    equity_usd: float | None = EQUITY_USD
    buying_power_usd: float | None = EQUITY_USD
    candles = Candles(CandleOutcome.EMPTY)
    has_lines = True

    def is_operational(self) -> bool:
        return self.has_lines

    def account(self) -> Account:
        return Account(self.equity_usd, self.buying_power_usd)

    async def fetch_candles(self, ticker: str, *, duration: str = "", seconds: int = 60) -> Candles:
        return self.candles

    def instrument(self, ticker: str) -> Instrument | None:
        line = self.lines.get(ticker)
        return line.instrument if line else None


C = TypeVar("C", bound=ToldConnector)


def told_connector(kind: type[C]) -> tuple[C, ToldClock]:
    """A connector of a kind, and its clock."""
    clock = ToldClock()
    parameters = Parameters(universe=("SPY", "IBM"))
    made = kind(parameters, clock=clock, on_transition=lambda *_: None, on_incident=lambda *_: None)
    return made, clock


class Bench:
    """The planner with all that it asks.

    Attributes:
        store: where trades and orders are written by `enter` and `leave`.
        clock: market time.
        connector: account and lines.
        planner: what is tested.
    """

    def __init__(
        self,
        store: TradeStore,
        parameters: Parameters,
        *,
        run_id: str = RUN_ID,
        clock: ToldClock | None = None,
    ) -> None:
        self.store, self.parameters, self.clock = store, parameters, clock or ToldClock()
        self.connector = ToldConnector(
            parameters,
            clock=self.clock,
            on_transition=lambda *_: None,
            on_incident=lambda *_: None,
        )
        self._n = 0
        self.run_id = run_id
        if not store.table("runs", run_id):
            store.start_run(
                run_id,
                mode="paper",
                account="DU1234567",
                strategy="s",
                params_hash="0",
                params={},
                revision="r",
            )
        self.planner = EntryPlanner(
            self.connector,
            store=store,
            clock=self.clock,
            parameters=parameters,
            run_id=run_id,
        )

    def quote(
        self, symbol: str = "SPY", *, bid: float | None = 99.99, ask: float | None = 100.01
    ) -> Line:
        """The line says bid and ask now."""
        known = {"SPY": 756733, "IBM": 8314, "BAC": 10098}
        line = self.connector.lines.want(instrument(symbol, known[symbol]))
        line.hear_data_type(DataType.LIVE)
        line.hear_bid(bid, 500.0, self.clock.at_ns)
        line.hear_ask(ask, 500.0, self.clock.at_ns)
        line.settle(transport_s(), self.clock.at_ns)
        return line

    def headline(self) -> str:
        """One more headline is written down; return its identity."""
        self._n += 1
        key = f"{self.run_id}-{self._n}"
        self.store.add_headline(key, self.run_id, headline(article_id=key))
        return key

    def enter(
        self,
        symbol: str = "SPY",
        *,
        shares: int = 100,
        price: float = 100.0,
        stop: float = 99.0,
        fills: bool = True,
        event: OrderEvent | None = None,
    ) -> str:
        """An entry is written down, and filled or not; return its reference."""
        key = self.headline()
        (intent,) = self.store.add_entry(
            key,
            self.run_id,
            Decision(Outcome.ENTER, Reason.SHOCK, "a shock"),
            at_ns=self.clock.at_ns,
            symbol=symbol,
            intent=lambda decision_id: OrderIntent(
                f"ml-{key}",
                symbol,
                756733,
                Side.BUY,
                shares,
                self.clock.at_ns,
                OrderPurpose.ENTRY,
                decision_id=decision_id,
                levels=Levels(stop, price + 2),
                bid=price - 0.01,
                ask=price,
            ),
        )
        if event is not None:
            self.store.advance_order(intent.order_ref, event)
        elif fills:
            self._fill(intent.order_ref, symbol, Side.BUY, shares=shares, price=price)
        return intent.order_ref

    def leave(self, trade_id: int, *, price: float) -> None:
        """An open trade is closed at a price."""
        trade = self.store.trade(trade_id)
        ref = f"ml-x{trade_id}"
        self.store.add_order(
            self.run_id,
            OrderIntent(
                ref,
                trade["symbol"],
                trade["con_id"],
                Side.SELL,
                int(trade["shares"]),
                self.clock.at_ns,
                OrderPurpose.EXIT,
                trade_id=trade_id,
                exit_reason=ExitReason.STOP_LOSS,
            ),
        )
        self._fill(ref, trade["symbol"], Side.SELL, shares=int(trade["shares"]), price=price)

    def _fill(self, ref: str, symbol: str, side: Side, *, shares: int, price: float) -> None:
        self.store.book_fill(
            Fill(f"e-{ref}", ref, symbol, side, shares, price, self.clock.at_ns, 1.0, 756733)
        )

    def wait(self, seconds: float) -> None:
        """Market time goes on; the line is heard again."""
        self.clock.at_ns += int(seconds * NS_PER_S)
        self.quote()

    def close(self) -> None:
        self.connector.close()


def signal(**changes: Any) -> TradeSignal:
    """A shock that may be traded long at 100.01, with an ATR of 0.20."""
    found = TradeSignal(
        "h", "SPY", Side.BUY, NOON, 100.0, 0.2, 4.0, 3.0, "a shock", 50_000.0, 100.0
    )
    return replace(found, **changes)


@contextmanager
def bench(folder: Path, **sections: Any) -> Iterator[Bench]:
    """A planner whose SPY line shows a good quote."""
    store = TradeStore(folder / "trades.db")
    store.db.execute("PRAGMA synchronous = OFF")  # a test need not survive a power cut
    found = Bench(store, replace(Parameters(universe=("SPY", "IBM")), **sections))
    found.quote()
    yield found
    found.close()
    store.close()
