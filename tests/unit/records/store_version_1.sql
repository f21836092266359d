CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    mode TEXT NOT NULL CHECK (mode IN ('replay', 'paper', 'live')),
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
    outcome TEXT NOT NULL CHECK (outcome IN ('enter', 'pass')),
    reason TEXT NOT NULL,
    text TEXT NOT NULL,
    observed REAL,
    limit_value REAL,
    unit TEXT NOT NULL
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
    CHECK ((state = 'CLOSED') = (closed_ns IS NOT NULL))
);
CREATE TABLE orders (
    order_ref TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    purpose TEXT NOT NULL CHECK (purpose IN ('entry', 'exit')),
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
    order_id INTEGER,
    perm_id INTEGER,
    message TEXT,
    CHECK (
        (purpose = 'entry' AND decision_id IS NOT NULL AND trade_id IS NULL AND stop IS NOT NULL)
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
    commission_usd REAL
);
CREATE TABLE equity (
    run_id TEXT NOT NULL REFERENCES runs (run_id),
    at_ns INTEGER NOT NULL,
    equity_usd REAL NOT NULL,
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
CREATE INDEX fills_of_order ON fills (order_ref);
CREATE INDEX orders_of_trade ON orders (trade_id);
CREATE INDEX trades_of_state ON trades (state);
