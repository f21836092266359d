"""The tables of the trade store, and the version that says which of them a file has.

Instants are UTC epoch nanoseconds of market time (`*_ns`) unless the name says wall. Prices are
US dollars, quantities shares. Who changes a table here raises `VERSION` and adds the step to it
in `migrations`.

The views answer the evening's questions in one place, for every reader of the file:

- `order_fills`: what the executions of an order amount to. Of an execution that the broker
  corrected only the last revision counts; a revision is the fourth part of an execution's id.
- `slippage`: each order with a fill against the price of its signal and the middle of the quote
  when it was decided. Positive is worse for us. The signal price of a protective order is its own
  stop or limit, that of a client's exit by price the level of the trade. A protective order rests
  until a market that no quote of ours shows triggers it: it has no quote at arrival.
- `trade_view`: each trade with the facts of its entry and of the order that closed it, the quote
  only where that was an exit of the client's. Its R
  multiple is the net profit over what the stop of the entry's decision would have lost from the
  average fill. Its day is New York's, by the rule of daylight time that has held since 2007 (from
  the second Sunday of March, 07:00 UTC, to the first Sunday of November, 06:00 UTC), because
  SQLite knows no time zones; of an open trade it is the day of its opening.
- `daily_pnl`: what each New York day's closed trades brought, of all runs of the file.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from sqlite_utils import Database

from momentum_lab.core.order import OrderState

VERSION = 3

_SQL = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    mode TEXT NOT NULL CHECK (mode IN ('replay', 'paper', 'shadow', 'live')),
    account TEXT NOT NULL,              -- masked
    strategy TEXT NOT NULL,
    params_hash TEXT NOT NULL,
    params_json TEXT NOT NULL,
    revision TEXT NOT NULL,
    started_wall_ns INTEGER NOT NULL,
    ended_wall_ns INTEGER,
    market_start_ns INTEGER,
    market_end_ns INTEGER,
    end_reason TEXT
);
CREATE TABLE headlines (
    headline_id TEXT PRIMARY KEY,       -- provider:article_id, in a replay with the run before it
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    provider TEXT NOT NULL,
    article_id TEXT NOT NULL,
    published_ns INTEGER NOT NULL,
    received_ns INTEGER NOT NULL,
    text TEXT NOT NULL,
    symbols TEXT NOT NULL,              -- JSON list, the primary one first
    extra TEXT NOT NULL,
    repeats INTEGER NOT NULL DEFAULT 0  -- copies from other lines or replays
);
CREATE TABLE decisions (
    decision_id INTEGER PRIMARY KEY,
    headline_id TEXT NOT NULL UNIQUE REFERENCES headlines (headline_id),
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    decided_ns INTEGER NOT NULL,
    symbol TEXT,
    outcome TEXT NOT NULL CHECK (outcome IN ('enter', 'pass', 'shadow')),
    reason TEXT NOT NULL,
    text TEXT NOT NULL,
    observed REAL,
    limit_value REAL,
    unit TEXT NOT NULL,
    size_json TEXT                      -- of a size that was not sent: every cap of it
);
CREATE TABLE trades (
    trade_id INTEGER PRIMARY KEY,
    decision_id INTEGER NOT NULL UNIQUE REFERENCES decisions (decision_id),
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    symbol TEXT NOT NULL,
    con_id INTEGER NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('BUY', 'SELL')),
    state TEXT NOT NULL CHECK (state IN ('OPEN', 'CLOSED')),
    stop REAL NOT NULL,
    target REAL NOT NULL,
    opened_ns INTEGER NOT NULL,
    closed_ns INTEGER,
    shares REAL NOT NULL,
    entry_price REAL NOT NULL,
    exit_price REAL,
    exit_reason TEXT,
    gross_usd REAL,
    costs_usd REAL NOT NULL,
    net_usd REAL,
    stop_kind TEXT NOT NULL DEFAULT 'STOP_LOSS',    -- exit reason that the stop stands for now
    unprotected_ns INTEGER,             -- first fill to a working stop, NULL: none yet
    first_stop REAL,                    -- where the stop was before a rule moved it
    CHECK ((state = 'CLOSED') = (closed_ns IS NOT NULL))
);
CREATE TABLE orders (
    order_ref TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    purpose TEXT NOT NULL CHECK (purpose IN ('entry', 'stop', 'target', 'exit')),
    decision_id INTEGER REFERENCES decisions (decision_id),
    trade_id INTEGER REFERENCES trades (trade_id),
    exit_reason TEXT,
    symbol TEXT NOT NULL,
    con_id INTEGER NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('BUY', 'SELL')),
    shares INTEGER NOT NULL CHECK (shares > 0),
    stop REAL,
    target REAL,
    atr REAL,
    state TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    bid REAL,
    ask REAL,
    signal_price REAL,
    order_type TEXT NOT NULL DEFAULT 'MKT' CHECK (order_type IN ('MKT', 'LMT', 'STP')),
    tif TEXT NOT NULL DEFAULT 'DAY' CHECK (tif IN ('DAY', 'GTC')),
    limit_price REAL,                   -- as meant now, the broker may not have heard of it yet
    stop_price REAL,
    oca_group TEXT,
    parent_ref TEXT REFERENCES orders (order_ref),
    acknowledged_ns INTEGER,            -- when the broker first confirmed it
    size_json TEXT,                     -- of an entry: every cap of its size
    order_id INTEGER,
    perm_id INTEGER,
    message TEXT,
    CHECK (
        (purpose = 'entry' AND decision_id IS NOT NULL AND trade_id IS NULL AND stop IS NOT NULL)
        OR (purpose IN ('stop', 'target') AND decision_id IS NOT NULL AND trade_id IS NULL)
        OR (purpose = 'exit' AND trade_id IS NOT NULL AND exit_reason IS NOT NULL)
    )
);
CREATE TABLE fills (
    exec_id TEXT PRIMARY KEY,
    order_ref TEXT NOT NULL REFERENCES orders (order_ref),
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    symbol TEXT NOT NULL,
    con_id INTEGER NOT NULL,
    side TEXT NOT NULL CHECK (side IN ('BUY', 'SELL')),
    shares REAL NOT NULL CHECK (shares > 0),
    price REAL NOT NULL CHECK (price > 0),
    filled_ns INTEGER NOT NULL,
    commission_usd REAL,
    is_inferred INTEGER NOT NULL DEFAULT 0  -- made from a position that no execution explains
);
CREATE TABLE equity (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    at_ns INTEGER NOT NULL,
    equity_usd REAL NOT NULL,
    cash_usd REAL,                      -- NULL: perhaps of before our last execution
    cash_flow_usd REAL,                 -- of our executions of that New York day, as known then
    PRIMARY KEY (run_id, at_ns)
);
CREATE TABLE connection (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    wall_ns INTEGER NOT NULL,
    at_ns INTEGER,                      -- unknown before the first answer of the broker
    state TEXT NOT NULL,
    event TEXT NOT NULL,
    cause TEXT NOT NULL
);
CREATE TABLE incidents (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    wall_ns INTEGER NOT NULL,
    at_ns INTEGER,
    kind TEXT NOT NULL,
    symbol TEXT,
    text TEXT NOT NULL
);
CREATE TABLE risk_states (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    wall_ns INTEGER NOT NULL,
    at_ns INTEGER,
    state TEXT NOT NULL CHECK (state IN ('ACTIVE', 'REDUCING', 'HALTED')),
    cause TEXT NOT NULL
);
CREATE TABLE differences (              -- between the broker and this record, found by reconciling
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    wall_ns INTEGER NOT NULL,
    at_ns INTEGER,
    kind TEXT NOT NULL,
    action TEXT NOT NULL,
    symbol TEXT,
    order_ref TEXT,
    broker_value REAL,
    our_value REAL,
    text TEXT NOT NULL
);
CREATE INDEX fills_of_order ON fills (order_ref);
CREATE INDEX orders_of_trade ON orders (trade_id);
CREATE INDEX orders_of_decision ON orders (decision_id);
CREATE INDEX entries_of_day ON orders (created_ns) WHERE purpose = 'entry';
CREATE INDEX trades_of_state ON trades (state, closed_ns);
CREATE VIEW order_fills AS
SELECT
    order_ref,
    SUM(shares) AS shares,
    SUM(shares * price) / SUM(shares) AS price_usd,
    SUM(COALESCE(commission_usd, 0.0)) AS commission_usd,
    COUNT(*) AS n_fills,
    MIN(filled_ns) AS first_filled_ns,
    MAX(filled_ns) AS last_filled_ns
FROM (
    -- With MAX the other columns are those of its row: the last revision.
    SELECT *, MAX(exec_id) AS last_revision FROM fills
    GROUP BY order_ref, CASE
        WHEN LENGTH(exec_id) - LENGTH(REPLACE(exec_id, '.', '')) = 3
        THEN RTRIM(exec_id, REPLACE(exec_id, '.', ''))
        ELSE exec_id
    END
)
GROUP BY order_ref;
CREATE VIEW slippage AS
SELECT
    *,
    sign * (fill_price_usd - signal_price_usd) / signal_price_usd * 10000 AS signal_slippage_bps,
    sign * (fill_price_usd - signal_price_usd) * shares AS signal_slippage_usd,
    sign * (fill_price_usd - arrival_mid_usd) / arrival_mid_usd * 10000 AS arrival_slippage_bps,
    sign * (fill_price_usd - arrival_mid_usd) * shares AS arrival_slippage_usd
FROM (
    SELECT
        o.order_ref,
        o.run_id,
        COALESCE(o.trade_id, t.trade_id) AS trade_id,
        o.purpose,
        o.exit_reason,
        o.symbol,
        o.side,
        CASE o.side WHEN 'BUY' THEN 1 ELSE -1 END AS sign,
        f.shares,
        o.created_ns,
        f.first_filled_ns,
        f.last_filled_ns,
        COALESCE(o.signal_price, o.stop_price, o.limit_price, CASE
            WHEN o.purpose = 'exit' AND o.exit_reason = 'TAKE_PROFIT' THEN t.target
            WHEN o.purpose = 'exit' AND o.exit_reason IN ('STOP_LOSS', 'BREAK_EVEN', 'TRAIL')
            THEN t.stop
        END) AS signal_price_usd,
        a.bid AS arrival_bid_usd,
        a.ask AS arrival_ask_usd,
        (a.bid + a.ask) / 2 AS arrival_mid_usd,
        f.price_usd AS fill_price_usd,
        f.commission_usd
    FROM orders AS o
    JOIN order_fills AS f USING (order_ref)
    LEFT JOIN orders AS a ON a.order_ref = o.order_ref AND a.purpose IN ('entry', 'exit')
    LEFT JOIN trades AS t ON t.decision_id = o.decision_id OR t.trade_id = o.trade_id
);
CREATE VIEW trade_view AS
SELECT
    t.trade_id,
    t.run_id,
    t.decision_id,
    t.symbol,
    t.side,
    t.state,
    (
        SELECT DATE(moment_s + CASE
            WHEN moment_s
                >= CAST(STRFTIME('%s', year || '-03-01 07:00', 'weekday 0', '+7 days') AS INTEGER)
                AND moment_s
                < CAST(STRFTIME('%s', year || '-11-01 06:00', 'weekday 0') AS INTEGER)
            THEN -14400 ELSE -18000 END, 'unixepoch')
        FROM (
            SELECT
                COALESCE(t.closed_ns, t.opened_ns) / 1000000000 AS moment_s,
                STRFTIME('%Y', COALESCE(t.closed_ns, t.opened_ns) / 1000000000, 'unixepoch') AS year
        )
    ) AS new_york_day,
    t.opened_ns,
    t.closed_ns,
    (t.closed_ns - t.opened_ns) / 1e9 AS duration_s,
    t.unprotected_ns / 1e9 AS unprotected_s,
    t.shares,
    e.signal_price AS signal_price_usd,
    e.bid AS entry_bid_usd,
    e.ask AS entry_ask_usd,
    (e.bid + e.ask) / 2 AS entry_mid_usd,
    t.entry_price AS entry_price_usd,
    e.stop AS entry_stop_usd,
    t.stop AS stop_usd,
    t.target AS target_usd,
    x.order_ref AS exit_order_ref,
    CASE WHEN x.purpose = 'exit' THEN x.bid END AS exit_bid_usd,
    CASE WHEN x.purpose = 'exit' THEN x.ask END AS exit_ask_usd,
    CASE WHEN x.purpose = 'exit' THEN (x.bid + x.ask) / 2 END AS exit_mid_usd,
    t.exit_price AS exit_price_usd,
    t.exit_reason,
    t.gross_usd,
    t.costs_usd,
    t.net_usd,
    t.net_usd / NULLIF(t.shares * ABS(t.entry_price - e.stop), 0) AS r_multiple
FROM trades AS t
LEFT JOIN orders AS e ON e.decision_id = t.decision_id AND e.purpose = 'entry'
LEFT JOIN orders AS x ON x.order_ref = (
    SELECT o.order_ref FROM orders AS o JOIN fills AS f USING (order_ref)
    WHERE o.trade_id = t.trade_id
        OR (o.decision_id = t.decision_id AND o.purpose IN ('stop', 'target'))
    ORDER BY f.filled_ns DESC, f.exec_id DESC LIMIT 1
);
"""

_DAILY = """
SELECT
    new_york_day,
    COUNT(*) AS n_trades,
    SUM(net_usd > 0) AS n_wins,
    SUM(gross_usd) AS gross_usd,
    SUM(costs_usd) AS costs_usd,
    SUM(net_usd) AS net_usd,
    SUM(r_multiple) AS r_multiple
FROM trade_view WHERE {condition}
GROUP BY new_york_day
"""


def daily_sql(condition: str = "") -> str:
    """Return what sums closed trades by New York day; `daily_pnl` is it without a condition."""
    closed = "state = 'CLOSED'"
    return _DAILY.format(condition=f"{closed} AND {condition}" if condition else closed).strip()


_FINAL = ", ".join(f"'{state.value}'" for state in OrderState if state.is_final)
# Of an order whose end is not known; in these very words, or the index of them is not used.
UNSETTLED = f"state NOT IN ({_FINAL})"

# One statement each; no comment above holds a semicolon.
TABLES = (
    *(part.strip() for part in _SQL.split(";") if part.strip()),
    f"CREATE INDEX orders_unsettled ON orders (created_ns, order_ref) WHERE {UNSETTLED}",
    f"CREATE VIEW daily_pnl AS {daily_sql()}",
)


def declared() -> list[tuple[str, str]]:
    """Return (TABLE, INDEX or VIEW; name) of all that a store is made of."""
    words = [statement.split(maxsplit=3) for statement in TABLES]
    return [(kind, name) for _, kind, name, _ in words]


def make_file(path: Path) -> None:
    """Make an empty store whole, then give it its name: of two makers the second finds it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        database = Database(draft)
        try:
            for statement in TABLES:
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {VERSION}")
            database.enable_wal()
        finally:
            database.close()
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink()
