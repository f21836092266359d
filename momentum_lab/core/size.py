"""A position's size: how many shares, which cap decided, or why there are none."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from momentum_lab.core.signal import Decision, Outcome, Reason


class SizeReason(str, Enum):
    """Why a size is what it is; stable names that are stored."""

    OK = "OK"
    INVALID_INPUT = "INVALID_INPUT"
    KILL_SWITCH = "KILL_SWITCH"
    HALTED = "HALTED"
    SESSION_CLOSED = "SESSION_CLOSED"
    STOP_WRONG_SIDE = "STOP_WRONG_SIDE"
    NOT_SHORTABLE = "NOT_SHORTABLE"
    PRICE_BELOW_MIN = "PRICE_BELOW_MIN"
    SPREAD_TOO_WIDE = "SPREAD_TOO_WIDE"
    MAX_CONCURRENT = "MAX_CONCURRENT"
    DAILY_LOSS_LIMIT = "DAILY_LOSS_LIMIT"
    NO_EDGE = "NO_EDGE"
    RISK_BUDGET_EXHAUSTED = "RISK_BUDGET_EXHAUSTED"
    BELOW_MIN_SHARES = "BELOW_MIN_SHARES"
    BELOW_MIN_NOTIONAL = "BELOW_MIN_NOTIONAL"
    COST_TOO_HIGH = "COST_TOO_HIGH"


class BudgetSource(str, Enum):
    """What set the budget of risk."""

    RISK_PCT = "RISK_PCT"
    KELLY = "KELLY"
    DAY_LOSS_ROOM = "DAY_LOSS_ROOM"
    OPEN_RISK_ROOM = "OPEN_RISK_ROOM"


class Cap(str, Enum):
    """What limits the shares, in the order of evaluation."""

    RISK = "RISK"
    VOL_TARGET = "VOL_TARGET"
    MAX_NOTIONAL = "MAX_NOTIONAL"
    MAX_POSITION_PCT = "MAX_POSITION_PCT"
    MAX_GROSS = "MAX_GROSS"
    MAX_SECTOR = "MAX_SECTOR"
    MAX_ADV = "MAX_ADV"
    MAX_RECENT_VOLUME = "MAX_RECENT_VOLUME"
    MAX_IMPACT = "MAX_IMPACT"
    BUYING_POWER = "BUYING_POWER"
    MAX_SHARES = "MAX_SHARES"


@dataclass(frozen=True, slots=True)
class Size:
    """How many shares, and why not more.

    Attributes:
        shares: whole shares, >= 0.
        reason: OK, or why there are none.
        binding: the cap that decided, None where a gate did.
        budget_usd: what may be lost at the stop, None where a gate decided.
        budget_source: what set it.
        budgets: every budget that is on, US dollars, in order of evaluation; None: not known.
        raw_shares: what the binding cap allows, before rounding.
        stop_size_usd: loss per share at the stop, with spread and tick.
        notional_usd: value of the position.
        risk_at_stop_usd: shares x stop size.
        cost_ratio: spread and commissions of both orders as a part of that.
        gap_stress_usd: loss in a gap of 10 % through the stop.
        caps: every cap that is on, in shares, in order of evaluation; None: not known.
        text: one sentence for people.
        observed: of no shares, the left side of the comparison that decided; None where there was
            none.
        limit: right side of it.
        unit: of both sides.
    """

    shares: int
    reason: SizeReason
    text: str
    binding: Cap | None = None
    budget_usd: float | None = None
    budget_source: BudgetSource | None = None
    raw_shares: float | None = None
    stop_size_usd: float | None = None
    notional_usd: float = 0.0
    risk_at_stop_usd: float = 0.0
    cost_ratio: float | None = None
    gap_stress_usd: float = 0.0
    caps: tuple[tuple[Cap, float | None], ...] = ()
    observed: float | None = None
    limit: float | None = None
    unit: str = ""
    budgets: tuple[tuple[BudgetSource, float | None], ...] = ()

    @property
    def refusal(self) -> Decision | None:
        """The decision not to enter, with all that the size came from; None with shares."""
        if self.shares >= 1:
            return None
        return Decision(
            Outcome.PASS,
            Reason.SIZE_ZERO,
            self.text,
            self.observed,
            self.limit,
            self.unit,
            size_json=self.as_json(),
        )

    @property
    def not_known(self) -> tuple[Cap, ...]:
        """The caps that were left out because what they need is not known."""
        return tuple(cap for cap, shares in self.caps if shares is None)

    def as_json(self) -> str:
        """Return every field as JSON; caps in order, with null for what is not known."""
        return json.dumps({name: getattr(self, name) for name in _FIELDS_OF_SIZE})


_FIELDS_OF_SIZE = tuple(field.name for field in fields(Size))


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why there is no size, with both sides of the comparison that decided.

    Attributes:
        reason: stable name.
        observed: left side, None where nothing was compared.
        limit: right side.
        unit: of both sides.
    """

    reason: SizeReason
    observed: float | None = None
    limit: float | None = None
    unit: str = ""

    @property
    def words(self) -> str:
        """The beginning of a sentence for people."""
        if self.observed is None or self.limit is None:
            return f"no size: {self.reason.value}"
        sides = f"{self.observed:,.6g} against {self.limit:,.6g} {self.unit}"
        return f"no size: {self.reason.value}, {sides}"

    def size(
        self, more: str = "", budgets: tuple[tuple[BudgetSource, float | None], ...] = ()
    ) -> Size:
        """Return no shares, for this reason.

        Args:
            more: the rest of the sentence.
            budgets: as far as it came to them.
        """
        return Size(
            0,
            self.reason,
            self.words + more,
            observed=self.observed,
            limit=self.limit,
            unit=self.unit,
            budgets=budgets,
        )


def size_as_dict(text: str) -> dict[str, Any]:
    """Return what `Size.as_json` wrote; empty for an empty text."""
    return dict(json.loads(text)) if text else {}
