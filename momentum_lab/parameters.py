"""YAML -> checked, frozen `Parameters`.

A file is a mapping of sections. What a rule owns (shock, sizing, risk, exits, backoff, pacing) is
declared beside the rule; what no rule owns (mode, connection, news, guards, engine, execution,
records, real money) is declared here. A key that is left out takes its declared default; an unknown
key, a wrong type or a value out of range stops the program before anything connects.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from momentum_lab.core.account_risk import RiskParameters
from momentum_lab.core.connection import BackoffParameters
from momentum_lab.core.liveness import LivenessParameters
from momentum_lab.core.pacing import PacingParameters
from momentum_lab.core.position import ExitParameters
from momentum_lab.core.risk import GuardParameters
from momentum_lab.core.shock import ShockParameters, check_choice
from momentum_lab.core.sizing_parameters import SizingParameters
from momentum_lab.core.tunable import check_tunables, described, tunable
from momentum_lab.core.windows import WindowParameters
from momentum_lab.errors import ParameterError
from momentum_lab.parameter_yaml import UniqueKeys

# A market order fills for certain and at any price; a marketable limit at a known price or not.
EntryOrder = Literal["market", "marketable_limit"]
Mode = Literal["replay", "paper", "shadow", "live"]

# The broker's defaults, TWS and IB Gateway. A live session must have one of the first.
LIVE_PORTS, PAPER_PORTS = (7496, 4001), (7497, 4002)
# How the ids of accounts begin that hold no money: of a trader, and of an advisor.
UNREAL_ACCOUNTS = ("DU", "DF")


_SYMBOL = re.compile(r"[A-Z0-9]+(?:[ .][A-Z0-9]+)?")


@dataclass(frozen=True, slots=True)
class ConnectionParameters:
    """Where the broker's gateway listens, and how long it may take to answer."""

    host: str = described(
        "127.0.0.1", meaning="name or address of the machine on which TWS or Gateway listens"
    )
    port: int = tunable(
        4002,
        unit="TCP port",
        low=1,
        high=65535,
        step=1,
        meaning="7497 TWS paper, 4002 Gateway paper",
    )
    client_id: int = tunable(
        17,
        unit="id",
        low=1,
        high=999,
        step=1,
        meaning="fixed, one per strategy; 0 would bind manual orders",
    )
    connect_timeout_s: float = tunable(
        20.0, unit="s", low=0.5, high=300, step=1, meaning="socket, handshake and start-up requests"
    )
    request_timeout_s: float = tunable(
        10.0, unit="s", low=0.2, high=300, step=1, meaning="any one request"
    )
    first_connection_s: float = tunable(
        600.0,
        unit="s",
        low=1,
        high=86400,
        step=10,
        meaning="a session whose first connection takes longer ends",
    )
    max_clock_skew_s: float = tunable(
        3.0,
        unit="s",
        low=1,
        high=30,
        step=0.5,
        meaning="difference to the broker's clock; more is refused",
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range."""
        check_tunables(self, prefix="connection.")


@dataclass(frozen=True, slots=True)
class NewsParameters:
    """Which headlines are heard, and which may trade."""

    providers: tuple[str, ...] = described(
        ("BRFG", "DJNL"), meaning="codes of the providers whose headlines are heard"
    )
    max_age_s: float = tunable(
        60.0, unit="s", low=1, high=3600, step=5, meaning="oldest headline that may trade"
    )
    max_future_s: float = tunable(
        3.0, unit="s", low=0, high=60, step=1, meaning="how far a stamp may lie in the future"
    )
    symbol_grace_s: float = tunable(
        1.0,
        unit="s",
        low=0,
        high=30,
        step=0.5,
        meaning="how long a headline without ticker waits for a copy that has one",
    )
    queue_size: int = tunable(
        1000,
        unit="headlines",
        low=1,
        high=100000,
        step=100,
        meaning="room between feed and workers",
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range."""
        check_tunables(self, prefix="news.")


@dataclass(frozen=True, slots=True)
class EngineParameters:
    """How much work is done at once."""

    workers: int = tunable(
        4, unit="tasks", low=1, high=64, step=1, meaning="headlines prepared at the same time"
    )
    max_watches: int = tunable(
        50, unit="watches", low=1, high=1000, step=1, meaning="headlines watched at the same time"
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range."""
        check_tunables(self, prefix="engine.")


@dataclass(frozen=True, slots=True)
class ExecutionParameters:
    """How an entry leaves, and how long an order may be silent."""

    entry_limit_bps: float = tunable(
        10.0,
        unit="bps",
        low=0,
        high=200,
        step=1,
        meaning="of a marketable limit entry: how far beyond the far side of the quote it may fill",
    )
    fill_timeout_s: float = tunable(
        10.0,
        unit="s",
        low=0.2,
        high=300,
        step=1,
        meaning="no fill by then: outcome unknown, reconcile",
    )
    drain_s: float = tunable(
        60.0,
        unit="s",
        low=1,
        high=600,
        step=5,
        meaning="how long the end of a session waits for its exits",
    )
    audit_every_s: float = tunable(
        300.0,
        unit="s",
        low=10,
        high=3600,
        step=30,
        meaning="how often orders and positions are compared with the broker's on a sound line",
    )
    exit_retry_s: float = tunable(
        2.0,
        unit="s",
        low=0.1,
        high=60,
        step=0.5,
        meaning="wait before a refused exit is tried again",
    )

    entry_order: EntryOrder = described(
        "market", meaning="market or marketable_limit: the order that enters"
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range or set."""
        check_tunables(self, prefix="execution.")
        check_choice("execution.entry_order", self.entry_order, typing.get_args(EntryOrder))


@dataclass(frozen=True, slots=True)
class ReplayParameters:
    """How a recorded day is played."""

    speed: float = tunable(
        60.0,
        unit="x",
        low=1,
        high=60,
        step=1,
        meaning="while a watch, an order or a position is open",
    )
    fast: float = tunable(
        1800.0, unit="x", low=1, high=100000, step=60, meaning="while nothing is open"
    )
    give_up_s: float = tunable(
        120.0,
        unit="s",
        low=0,
        high=86400,
        step=10,
        meaning="a replay whose gateway is gone for longer ends; 0: never",
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range."""
        check_tunables(self, prefix="replay.")


@dataclass(frozen=True, slots=True)
class RecordParameters:
    """Where the record is kept."""

    database: str = described(
        "data/trades.db", meaning="file of the trade store, one for each account and strategy"
    )
    runs: str = described("data/runs", meaning="folder in which each run gets a folder of its own")


@dataclass(frozen=True, slots=True)
class RealMoneyParameters:
    """What a person writes by hand before an order may cost money; only mode live reads it."""

    accepted_for: str = described(
        "", meaning="the id of the live account, a second time: its orders are real"
    )


@dataclass(frozen=True, slots=True)
class Parameters:
    """One complete, checked parameter set."""

    mode: Mode = "paper"
    account: str = ""
    strategy: str = "candle-shock"
    universe: tuple[str, ...] = ()
    connection: ConnectionParameters = field(default_factory=ConnectionParameters)
    news: NewsParameters = field(default_factory=NewsParameters)
    shock: ShockParameters = field(default_factory=ShockParameters)
    sizing: SizingParameters = field(default_factory=SizingParameters)
    risk: RiskParameters = field(default_factory=RiskParameters)
    exits: ExitParameters = field(default_factory=ExitParameters)
    guards: GuardParameters = field(default_factory=GuardParameters)
    windows: WindowParameters = field(default_factory=WindowParameters)
    engine: EngineParameters = field(default_factory=EngineParameters)
    execution: ExecutionParameters = field(default_factory=ExecutionParameters)
    backoff: BackoffParameters = field(default_factory=BackoffParameters)
    liveness: LivenessParameters = field(default_factory=LivenessParameters)
    pacing: PacingParameters = field(default_factory=PacingParameters)
    replay: ReplayParameters = field(default_factory=ReplayParameters)
    records: RecordParameters = field(default_factory=RecordParameters)
    real_money: RealMoneyParameters = field(default_factory=RealMoneyParameters)

    def __post_init__(self) -> None:
        """Refuse combinations that no section can see on its own."""
        check_choice("mode", self.mode, typing.get_args(Mode))
        if not self.universe:
            raise ParameterError("universe: expected at least one symbol, found none")
        if self.mode == "replay" and self.connection.host not in ("127.0.0.1", "::1", "localhost"):
            raise ParameterError(
                "mode replay trades only at a gateway on this machine: expected"
                f" connection.host 127.0.0.1, found {self.connection.host!r}"
            )
        self._check_universe()
        self._check_names()
        self._check_sizes()

    def _check_universe(self) -> None:
        for symbol in self.universe:
            if not _SYMBOL.fullmatch(symbol):
                raise ParameterError(
                    "universe: expected symbols as the broker writes them, such as IBM or BRK B,"
                    f" found {symbol!r}"
                )
            if self.universe.count(symbol) > 1:
                raise ParameterError(f"universe: expected each symbol once, found {symbol} again")

    def _check_names(self) -> None:
        for key, value in (
            ("strategy", self.strategy),
            ("connection.host", self.connection.host),
            ("records.database", self.records.database),
            ("records.runs", self.records.runs),
        ):
            if not value.strip():
                raise ParameterError(f"{key}: expected a name, found none")

    def _check_sizes(self) -> None:
        """Refuse limits between which no size lies: each headline would be judged for nothing."""
        sizing = self.sizing
        least_shares = max(sizing.lot, sizing.min_shares)
        if sizing.max_shares < least_shares:
            raise ParameterError(
                "sizing.max_shares: expected at least sizing.lot and sizing.min_shares"
                f" ({least_shares}), found {sizing.max_shares}"
            )
        if sizing.max_notional_usd < sizing.min_notional_usd:
            raise ParameterError(
                "sizing.max_notional_usd: expected at least sizing.min_notional_usd"
                f" ({sizing.min_notional_usd:g}), found {sizing.max_notional_usd:g}"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the effective set as plain values, in the shape of a parameter file."""
        return typing.cast("dict[str, Any]", json.loads(json.dumps(dataclasses.asdict(self))))

    @property
    def params_hash(self) -> str:
        """First 16 hex digits of a digest of the effective set: same rules, same hash.

        Where the record is kept, which port answers and that money is meant do not count.
        """
        content = self.as_dict()
        content.pop("records")
        content.pop("real_money")
        content["connection"].pop("port")
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def load_parameters(path: Path) -> Parameters:
    """Read and check one parameter file.

    Raises:
        ParameterError: names file, key, what was expected and what was found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ParameterError(f"cannot read the parameter file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ParameterError(f"{path}: not a text file in UTF-8") from error
    try:
        content = yaml.load(text, Loader=UniqueKeys)  # noqa: S506 - derived from the safe loader
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error
    except yaml.YAMLError as error:
        words = " ".join(str(error).split())
        raise ParameterError(f"{path}: not readable as YAML: {words}") from error
    if not isinstance(content, dict):
        raise ParameterError(f"{path}: expected a mapping of sections, found {content!r}")
    try:
        return check_parameters(content)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error


def check_parameters(content: Mapping[str, Any]) -> Parameters:
    """Return the frozen set for the plain values of a file or of a notebook's cell.

    Args:
        content: section -> mapping of keys, or top-level key -> value.

    Raises:
        ParameterError: unknown key (with the nearest known one), wrong type, out of range.
    """
    return typing.cast("Parameters", _build(Parameters, content, prefix=""))


def refuse_live(parameters: Parameters) -> None:
    """Refuse a live session that was not meant in every place where a person says so.

    The account that the gateway is logged in to is compared when it is known.

    Raises:
        ParameterError: the first place that does not agree: what was expected and found there.
    """
    if parameters.mode != "live":
        return
    account, port = parameters.account, parameters.connection.port
    if not account:
        raise ParameterError("account: mode live expects the account's id written out, found none")
    if account.startswith(UNREAL_ACCOUNTS):
        raise ParameterError(
            f"account: mode live expects the id of a live account, found {account[:2]}..., a paper"
            " account"
        )
    if port not in LIVE_PORTS:
        kind = "a paper login's port" if port in PAPER_PORTS else "neither"
        raise ParameterError(
            f"connection.port: mode live expects {LIVE_PORTS[0]} (TWS) or {LIVE_PORTS[1]}"
            f" (IB Gateway), found {port}, {kind}"
        )
    accepted = parameters.real_money.accepted_for
    if accepted != account:
        found = "another id" if accepted else "nothing"
        raise ParameterError(
            "real_money.accepted_for: mode live expects the id that stands in account written a"
            f" second time, found {found}"
        )


def _build(cls: type[Any], content: object, *, prefix: str) -> Any:
    if not isinstance(content, Mapping):
        name = prefix.rstrip(".") or "parameters"
        raise ParameterError(f"{name}: expected a mapping of keys, found {content!r}")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]
    for key in content:
        if key not in known:
            raise ParameterError(f"{prefix}{key}: unknown key{_nearest(str(key), known)}")
    values = {
        key: _convert(hints[key], value, key=f"{prefix}{key}") for key, value in content.items()
    }
    return cls(**values)


def _convert(hint: Any, value: object, *, key: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(
            typing.cast("type[Any]", hint), value if value is not None else {}, prefix=f"{key}."
        )
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise ParameterError(f"{key}: expected a list of words, found {value!r}")
        return tuple(typing.cast("list[str]", value))
    if hint is str or typing.get_origin(hint) is Literal:
        if not isinstance(value, str):
            raise ParameterError(f"{key}: expected a word, found {value!r}")
        return value
    # Numbers are checked by their tunable, which knows unit and range. 60 and 60.0 are the same
    # set, so they are made the same value.
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f", did you mean {close[0]!r}?"
    return f"; known keys are {', '.join(known)}"
