"""Everything that can be chosen when a paper gateway is started."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from momentum_lab.core.fills import FillModel
from momentum_lab.errors import ParameterError
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.faults.scenario import Scenario
from momentum_lab.gateway.limits import Limits
from momentum_lab.gateway.pace import Pace
from momentum_lab.gateway.ticks import VolumeUnit

DEFAULT_ACCOUNT = "DU1234567"
DEFAULT_CASH_USD = 1_000_000.0
_MAX_PORT = 65_535
_MAX_SAMPLE_MS = 60_000
_PAPER_ACCOUNT = re.compile(r"D[UF]\d{3,10}")


@dataclass(frozen=True)
class GatewaySettings:
    """What a paper gateway plays, where it listens, and how fast it goes.

    Attributes:
        tape: folder of the tape.
        host: address to listen on; anything but loopback opens the account to the network.
        port: 0 takes a free one.
        account: the paper account's code.
        cash_usd: what a new account begins with.
        fast: market seconds per second where nothing is open.
        slow: market seconds per second where something is, at most 60.
        watch_s: slow lasts this long after a headline (and a little more), market seconds.
        lead_s: slow begins this long before a headline, market seconds.
        start_ns: where to start in the tape, UTC epoch nanoseconds; None for its own start.
        opened_s: when the account was opened, UTC epoch seconds; all its ids are made of it, so
            two runs with the same one give the same bytes; None for now.
        hold: the clock stands still until the first client has subscribed to market data.
        state: JSON file that keeps orders, executions, positions, ids and market time.
        volume_ticks: unit of day volume ticks and RTVolume, "lots" of 100 or "shares".
        sample_ms: quotes are told at most so often, milliseconds of market time; 0 for each one.
        unsubscribed: symbols whose live quotes the account has not bought, "*" for all.
        rules: what the exchange takes, and how fast.
        limits: how many messages, lines and historical requests the clients are allowed.
        fills: slippage, commission, and how much of the volume is ours.
        master_client_id: this client hears of the orders of all clients, None for no such client.
        scenario: what goes wrong, and when.
        journal: file for the record of what truly happened.
        wire_log: file that every message is written to.
    """

    tape: Path
    host: str = "127.0.0.1"
    port: int = 0
    account: str = DEFAULT_ACCOUNT
    cash_usd: float = DEFAULT_CASH_USD
    fast: float = 1800.0
    slow: float = 60.0
    watch_s: float = 300.0
    lead_s: float = 5.0
    start_ns: int | None = None
    opened_s: int | None = None
    hold: bool = True
    state: Path | None = None
    volume_ticks: VolumeUnit = "lots"
    sample_ms: int = 250
    unsubscribed: frozenset[str] = frozenset()
    rules: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)
    fills: FillModel = field(default_factory=FillModel)
    master_client_id: int | None = None
    scenario: Scenario = field(default_factory=Scenario)
    journal: Path | None = None
    wire_log: Path | None = None
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        """Refuse what cannot be run, before anything is opened.

        Raises:
            ParameterError: a value is out of range.
        """
        pace = Pace(fast=self.fast, slow=self.slow, lead_s=self.lead_s, watch_s=self.watch_s)
        object.__setattr__(self, "pace", pace)
        if not 0 <= self.port <= _MAX_PORT:
            raise ParameterError(f"gateway: expected port in 0..{_MAX_PORT}, found {self.port}")
        if not _PAPER_ACCOUNT.fullmatch(self.account):
            raise ParameterError(
                f"gateway: expected a paper account such as {DEFAULT_ACCOUNT}, "
                f"found {self.account!r}"
            )
        if not 0 <= self.sample_ms <= _MAX_SAMPLE_MS:
            raise ParameterError(
                f"gateway: expected sample_ms in 0..{_MAX_SAMPLE_MS}, found {self.sample_ms}"
            )
        if not self.cash_usd > 0:
            raise ParameterError(f"gateway: expected cash_usd > 0, found {self.cash_usd:g}")
        if self.volume_ticks not in ("lots", "shares"):
            raise ParameterError(
                f"gateway: expected volume_ticks lots or shares, found {self.volume_ticks!r}"
            )
