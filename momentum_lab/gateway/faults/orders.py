"""Faults of what is told about orders: late, twice, out of order, missing, corrected.

They strike what the gateway tells by itself. A list that a client asks for is complete, and its end
comes last, unless that is asked for: against a broker that leaves working orders out of its lists
nobody can do much.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar
from zoneinfo import ZoneInfo

from momentum_lab.core.tunable import tunable
from momentum_lab.gateway.faults.base import ALL_CLIENTS, Fault, Told, is_order_error
from momentum_lab.gateway.messages import ZONES_SINCE

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session

_REPORTS = frozenset({"orderStatus", "execDetails"})
_OF_AN_ORDER = frozenset({"openOrder", "orderStatus", "execDetails", "commissionReport"})
_LIVE_FILL = -1


@dataclass
class ReportFault(Fault):
    """A fault of what is told unasked."""

    strikes_lists: int = tunable(
        0,
        unit="0/1",
        low=0,
        high=1,
        step=1,
        meaning="1: lists that a client asks for as well, as no broker should",
    )

    def strikes(self, session: Session) -> bool:
        """Return whether this client is meant by what is told now."""
        is_spared = session.is_answering and not self.strikes_lists
        return super().strikes(session) and not is_spared


def _tell_kept(hub: Hub, fault: Fault, kept: Iterable[tuple[Session, Told]]) -> None:
    """Tell what a fault has kept, to those that are still there."""
    for session, told in kept:
        if session.is_known:
            hub.faults.say_at_release(fault, session, told)
    hub.faults.release(fault)


@dataclass
class LateStatus(ReportFault):
    """Order statuses, the errors that explain them, and executions come late."""

    name: ClassVar[str] = "late_status"

    delay_s: float = tunable(
        5.0, unit="s", low=0.001, high=3600, step=0.5, meaning="market time until it is told"
    )

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Hold reports back."""
        is_report = told[0] in _REPORTS or is_order_error(told)
        if not (self.strikes(session) and is_report):
            return [told]
        hub.faults.say_later(self, session, told, delay_s=self.delay_s)
        return []

    def end(self, hub: Hub) -> None:
        """Tell what is still held back."""
        hub.faults.release(self)


@dataclass
class DuplicateStatus(ReportFault):
    """Order statuses and executions come more than once."""

    name: ClassVar[str] = "duplicate_status"

    times: int = tunable(2, unit="times", low=2, high=100, step=1, meaning="how often in all")

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Repeat reports."""
        is_report = self.strikes(session) and told[0] in _REPORTS
        return [told] * (self.times if is_report else 1)


@dataclass
class ReorderedStatus(ReportFault):
    """Two reports about orders change places: the newer one comes first.

    An error stays behind the status that it explains.
    """

    name: ClassVar[str] = "reordered_status"

    _held: dict[Session, Told] = field(default_factory=dict, init=False, repr=False)

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Keep every other report until the next one has gone."""
        is_error = is_order_error(told)
        if not self.strikes(session) or not (is_error or told[0] in _REPORTS):
            return [told]
        held = self._held.pop(session, None)
        if held is not None:
            return [held, told] if is_error else [told, held]
        if is_error:
            return [told]
        self._held[session] = told
        return []

    def end(self, hub: Hub) -> None:
        """Tell what is still kept."""
        _tell_kept(hub, self, self._held.items())


@dataclass
class CommissionFirst(ReportFault):
    """The commission report comes before the execution that it belongs to."""

    name: ClassVar[str] = "commission_first"

    _held: dict[tuple[Session, str], Told] = field(default_factory=dict, init=False, repr=False)

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Keep an execution until its commission has gone."""
        name, values = told
        if not self.strikes(session) or name not in ("execDetails", "commissionReport"):
            return [told]
        key = (session, str(values["exec_id"]))
        if name == "execDetails" and values.get("req_id", _LIVE_FILL) == _LIVE_FILL:
            self._held[key] = told
            return []
        held = self._held.pop(key, None)
        return [told] if held is None else [told, held]

    def end(self, hub: Hub) -> None:
        """Tell the executions whose commission has not come."""
        _tell_kept(hub, self, ((key[0], told) for key, told in self._held.items()))


@dataclass
class LostAcknowledgement(ReportFault):
    """An order is taken and lives, but nothing is told about it until it fills."""

    name: ClassVar[str] = "lost_acknowledgement"

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Swallow what acknowledges an order."""
        name, values = told
        is_acknowledgement = name in ("openOrder", "orderStatus") and values["status"] in (
            "PendingSubmit",
            "PreSubmitted",
            "Submitted",
        )
        return [] if self.strikes(session) and is_acknowledgement else [told]


@dataclass
class PartialThenSilence(ReportFault):
    """A part of an order fills and is told; then neither more fills nor a word about it come."""

    name: ClassVar[str] = "partial_then_silence"

    _told: set[tuple[Any, Any]] = field(default_factory=set, init=False, repr=False)
    _untold_fills: set[tuple[Any, str]] = field(default_factory=set, init=False, repr=False)

    def begin(self, hub: Hub) -> None:
        """Let no order fill for more than half."""
        _change_half_fills(hub)

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Swallow everything about an order whose first part was told."""
        name, values = told
        is_of_order = name in _OF_AN_ORDER or is_order_error(told)
        if not self.strikes(session) or not is_of_order:
            return [told]
        if name == "commissionReport":
            return [] if (session.client_id, values["exec_id"]) in self._untold_fills else [told]
        order = (session.client_id, values["req_id" if name == "error" else "order_id"])
        is_silent = order in self._told
        if name == "execDetails" and is_silent:
            self._untold_fills.add((session.client_id, values["exec_id"]))
        elif name == "execDetails":
            self._told.add(order)
        return [] if is_silent else [told]

    def end(self, hub: Hub) -> None:
        """Let orders fill again; what was not told stays untold."""
        _change_half_fills(hub)


@dataclass
class ForgottenParent(Fault):
    """135: new terms that name a parent which has ended are refused: it has been forgotten.

    The order works on as it was, while some clients take it for cancelled.
    """

    name: ClassVar[str] = "forgotten_parent"

    def begin(self, hub: Hub) -> None:
        """Forget them."""
        _change_memory(hub)

    def end(self, hub: Hub) -> None:
        """Know them again."""
        _change_memory(hub)


@dataclass
class RenamedGroups(Fault):
    """Children get their parent's permanent id as their group, whatever they name.

    New terms that name another group are refused (10326), or another type of it (10327).
    """

    name: ClassVar[str] = "renamed_groups"
    strikes_all: ClassVar[bool] = True

    def begin(self, hub: Hub) -> None:
        """Rename the groups of the orders to come."""
        _change_groups(hub)

    def end(self, hub: Hub) -> None:
        """Take groups as they are named; those that were renamed stay."""
        _change_groups(hub)


@dataclass
class UtcExecutionTimes(Fault):
    """Executions tell their time as UTC and without a zone, as a gateway set to UTC does.

    Some clients read such a time in the zone of their own machine.
    """

    name: ClassVar[str] = "utc_execution_times"

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Spell the times of executions anew; before version 174 they name no zone anyway."""
        name, values = told
        if not self.strikes(session) or name != "execDetails" or session.version < ZONES_SINCE:
            return [told]
        text, _, zone = str(values["time"]).rpartition(" ")
        local = datetime.strptime(text, "%Y%m%d %H:%M:%S").replace(tzinfo=ZoneInfo(zone))
        return [(name, {**values, "time": f"{local.astimezone(timezone.utc):%Y%m%d-%H:%M:%S}"})]


@dataclass
class ExecutionCorrection(Fault):
    """The exchange corrects the price of the last execution, or of the client's last one."""

    name: ClassVar[str] = "execution_correction"
    is_instant: ClassVar[bool] = True

    change_usd: float = tunable(
        -0.05, unit="USD", low=-100, high=100, step=0.01, meaning="added to the price"
    )

    def begin(self, hub: Hub) -> None:
        """Correct it, if anything was executed."""
        of_all, executions = self.client_id == ALL_CLIENTS, hub.exchange.books.executions
        last = next((e for e in executions[::-1] if of_all or e.client_id == self.client_id), None)
        if last is not None:
            price_usd = max(0.01, round(last.price_usd + self.change_usd, 4))
            hub.publish(hub.exchange.correct(last.exec_id, price_usd=price_usd))


def _struck_by(kind: type[Fault], hub: Hub) -> tuple[bool, frozenset[int]]:
    """Return whether the faults of a kind that go on strike all clients, and whom they strike."""
    ids = frozenset(one.client_id for one in hub.faults.active if isinstance(one, kind))
    return ALL_CLIENTS in ids, ids


def _change_half_fills(hub: Hub) -> None:
    floor = hub.exchange.floor
    floor.fills_only_half, floor.half_ids = _struck_by(PartialThenSilence, hub)


def _change_memory(hub: Hub) -> None:
    books = hub.exchange.books
    books.is_forgetful, books.forgetful_ids = _struck_by(ForgottenParent, hub)


def _change_groups(hub: Hub) -> None:
    hub.exchange.books.renames_groups, _ = _struck_by(RenamedGroups, hub)


FAULTS = (
    LateStatus,
    DuplicateStatus,
    ReorderedStatus,
    CommissionFirst,
    LostAcknowledgement,
    PartialThenSilence,
    ForgottenParent,
    RenamedGroups,
    UtcExecutionTimes,
    ExecutionCorrection,
)
