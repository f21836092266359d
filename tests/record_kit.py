"""Made-up runs in a real trade store, with quotes of the sample tape, for tests of what is read.

The day is 2013-10-09: SPY falls on a headline at 14:00 New York, a short is entered at 14:00:31
and stopped out with a loss. Further headlines are passed for different reasons.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from momentum_lab.core.market import NS_PER_S, Quote, Side
from momentum_lab.core.order import OrderEvent, OrderIntent, OrderPurpose
from momentum_lab.core.position import ExitReason, Fill, Levels
from momentum_lab.core.signal import Decision, Outcome, Reason, passed
from momentum_lab.core.size import Size
from momentum_lab.core.sizing import SizingInputs, size_position
from momentum_lab.parameters import load_parameters
from momentum_lab.records.capture import QuoteCapture
from momentum_lab.records.tape import Tape, load_tape
from momentum_lab.records.trade_store import TradeStore
from tests.factories import NOON, headline

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data" / "samples" / "fomc-2013-10-09"
RUN_ID = "20131009T133000Z-replay"
FOMC = NOON + 2 * 3600 * NS_PER_S
ENTERED = FOMC + 31 * NS_PER_S
LEFT = FOMC + 208 * NS_PER_S
OPEN = NOON - 9000 * NS_PER_S
CON_ID = 756733

PASSED = (
    ("A2", -2800, "Looking Ahead - what the bond market expects from the afternoon", None,
     passed(Reason.NO_TICKER, "no ticker in the text, none from the subscription")),
    ("A3", -1200, "Bank of America (BAC) says it will open two branches in Denver", "BAC",
     passed(Reason.NO_SHOCK_PRICE, "at the nearest the move was +0.90 ATR, 2.5 are asked for",
            observed=0.9, limit=2.5, unit="x ATR")),
    ("A4", 11400, "International Business Machines (IBM) names a regional <b>head</b>", "IBM",
     passed(Reason.NO_SHOCK_VOLUME, "at the nearest the volume was 2.00 x usual, 5 are asked for",
            observed=2.0, limit=5.0, unit="x SMA")),
)  # fmt: skip


@cache
def sample() -> Tape:
    return load_tape(SAMPLE)


def a_size(**changes: Any) -> Size:
    """The size of the made-up entry: nothing but the volume of a day is not known."""
    parameters = load_parameters(ROOT / "parameters" / "demo.yaml")
    inputs = SizingInputs(
        side=Side.SELL,
        equity_usd=998_000.0,
        buying_power_usd=998_000.0,
        entry_usd=165.73,
        stop_usd=165.99,
        spread_usd=0.01,
        sector_gross_usd=0.0,
        recent_volume_shares=2_140_000.0,
    )
    return size_position(
        replace(inputs, **changes),
        parameters.sizing,
        risk=parameters.risk,
        guards=parameters.guards,
    )


def let_changes_of_others_be_seen() -> None:
    """Wait on the wall clock: a store looks for them a millisecond after its last look."""
    time.sleep(0.0015)


def empty_day(folder: Path) -> Path:
    """A run in which nothing happened; return the database."""
    with _run(folder):
        pass
    return folder / "trades.db"


def a_day(folder: Path, *, closes: bool = True) -> Path:
    """The made-up day; return the database. The run's folder is `runs/RUN_ID` beside it."""
    with _run(folder) as store:
        _log(store)
        _decide(store)
        _enter(store)
        if closes:
            _leave(store)
    _capture(folder / "runs" / RUN_ID)
    return folder / "trades.db"


def troubled_day(folder: Path) -> Path:
    """A run whose brake was pulled and let go, and which differed from the broker twice."""
    with _run(folder) as store:
        store.add_risk_state(RUN_ID, at_ns=None, state="HALTED", cause="by hand: halt by ada")
        store.add_risk_state(RUN_ID, at_ns=NOON, state="ACTIVE", cause="by hand: resume by ada")
        store.add_difference(
            RUN_ID,
            at_ns=NOON,
            kind="UNEXPLAINED_POSITION",
            action="symbol blocked; the stop at the broker protects",
            symbol="SPY",
            order_ref=None,
            broker_value=0.0,
            our_value=-602.0,
            text="SPY: the broker holds 0 shares, our fills make -602; no execution explains it",
        )
        store.add_difference(
            RUN_ID,
            at_ns=NOON,
            kind="ORDER_ABSENT",
            action="settled as never sent; not sent again",
            symbol=None,
            order_ref="ml-d1",
            broker_value=0.0,
            our_value=0.0,
            text="entry order was SENT",
        )
    return folder / "trades.db"


def break_store(database: Path, damage: str) -> None:
    """Change what the store itself would never let through."""
    db = sqlite3.connect(database)
    db.execute("PRAGMA ignore_check_constraints = ON")
    db.execute(damage)
    db.commit()
    db.close()


@contextmanager
def _run(folder: Path) -> Iterator[TradeStore]:
    parameters = load_parameters(ROOT / "parameters" / "demo.yaml")
    store = TradeStore(folder / "trades.db")
    store.db.execute("PRAGMA synchronous = OFF")  # a test need not survive a power cut
    store.start_run(
        RUN_ID,
        mode="replay",
        account="DU1234567",
        strategy=parameters.strategy,
        params_hash=parameters.params_hash,
        params=parameters.as_dict(),
        revision="abc1234",
    )
    store.update_run(RUN_ID, market_start_ns=OPEN)
    yield store
    store.end_run(
        RUN_ID, reason="end of the trading session", market_end_ns=NOON + 14400 * NS_PER_S
    )
    store.close()


def _log(store: TradeStore) -> None:
    steps = (
        (None, "CONNECTING", "connect", "127.0.0.1:4102 client id 17"),
        (None, "SYNCHRONIZING", "socket ready", "127.0.0.1:4102 client id 17"),
        (OPEN, "OPERATIONAL", "synchronised", "broker and record agree"),
        (OPEN + 7200 * NS_PER_S, "DISCONNECTED", "socket lost", "the gateway closed the socket"),
        (OPEN + 7200 * NS_PER_S, "CONNECTING", "connect", "127.0.0.1:4102 client id 17"),
        (OPEN + 7205 * NS_PER_S, "SYNCHRONIZING", "socket ready", "127.0.0.1:4102 client id 17"),
        (OPEN + 7206 * NS_PER_S, "OPERATIONAL", "synchronised", "broker and record agree"),
    )
    for at_ns, state, event, cause in steps:
        store.add_transition(RUN_ID, at_ns=at_ns, state=state, event=event, cause=cause)
    store.add_incident(RUN_ID, at_ns=OPEN, kind="news tape", text="DJNL: no data", symbol=None)
    for minute in range(0, 390, 5):
        at_ns = OPEN + minute * 60 * NS_PER_S
        lost = 0.0 if at_ns < ENTERED else 210.0 if at_ns > LEFT else 60.0
        store.add_equity(RUN_ID, at_ns=at_ns, equity_usd=1_000_000.0 - lost)


def _decide(store: TradeStore) -> None:
    for article_id, after_s, text, symbol, decision in PASSED:
        at_ns = FOMC + after_s * NS_PER_S
        symbols = (symbol,) if symbol else ()
        item = headline(text, article_id=article_id, published_ns=at_ns, symbols=symbols)
        store.add_headline(article_id, RUN_ID, item)
        store.add_decision(article_id, decision, at_ns=at_ns + 300 * NS_PER_S, symbol=symbol)


def _enter(store: TradeStore) -> None:
    text = (
        "Market View: Federal Open Market Committee releases the minutes of its September 17-18"
        " meeting; broad market (SPY) in focus"
    )
    store.add_headline("A1", RUN_ID, headline(text, article_id="A1", published_ns=FOMC))
    decision = Decision(
        Outcome.ENTER,
        Reason.SHOCK,
        "SPY moved -2.60 ATR (limit 2.5) on 6.1 x usual volume (limit 5)",
        2.6,
        2.5,
        "x ATR",
    )
    (order,) = store.add_entry(
        "A1",
        RUN_ID,
        decision,
        at_ns=ENTERED,
        symbol="SPY",
        intent=lambda decision_id: OrderIntent(
            order_ref=f"ml-d{decision_id}",
            symbol="SPY",
            con_id=CON_ID,
            side=Side.SELL,
            shares=602,
            created_ns=ENTERED,
            decision_id=decision_id,
            levels=Levels(165.99, 162.42),
            atr=0.063,
            bid=165.73,
            ask=165.74,
            signal_price=165.73,
            purpose=OrderPurpose.ENTRY,
            size_json=a_size().as_json(),
        ),
    )
    _fill(store, order.order_ref, Side.SELL, 165.72, at_ns=ENTERED)
    store.set_levels(1, Levels(165.97, 162.40))


def _leave(store: TradeStore) -> None:
    order = OrderIntent(
        order_ref="ml-t1x1",
        symbol="SPY",
        con_id=CON_ID,
        side=Side.BUY,
        shares=602,
        created_ns=LEFT,
        trade_id=1,
        exit_reason=ExitReason.STOP_LOSS,
        bid=165.96,
        ask=165.97,
        purpose=OrderPurpose.EXIT,
    )
    store.add_order(RUN_ID, order)
    _fill(store, order.order_ref, Side.BUY, 165.98, at_ns=LEFT)


def _fill(store: TradeStore, order_ref: str, side: Side, price: float, *, at_ns: int) -> None:
    store.advance_order(order_ref, OrderEvent.SEND, order_id=1)
    exec_id = f"0001.{order_ref}"
    store.book_fill(Fill(exec_id, order_ref, "SPY", side, 602, price, at_ns, None, CON_ID))
    store.book_commission(exec_id, 3.01)


def _capture(folder: Path) -> None:
    tape = sample()
    capture = QuoteCapture(folder / "quotes.parquet")
    bars = tape.bars_of("SPY")
    near = bars[(bars["at_ns"] > FOMC - 1200 * NS_PER_S) & (bars["at_ns"] < FOMC + 1800 * NS_PER_S)]
    for at_ns, price in zip(near["at_ns"], near["close"], strict=True):
        bid, ask = tape.spreads["SPY"].quote(price, tape.instruments["SPY"])
        capture.add(Quote("SPY", int(at_ns) + NS_PER_S, bid, ask, 500, 500, price))
    capture.close()
