"""Lets faults happen at their time, keeps back what they delay, and writes it all down."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from momentum_lab.core.market import NS_PER_S
from momentum_lab.gateway.faults.base import Fault, Told
from momentum_lab.gateway.faults.catalog import make_fault
from momentum_lab.gateway.faults.scenario import Entry, Scenario
from momentum_lab.gateway.faults.upstream import ALL_FARMS_ARE_THERE

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session

_log = logging.getLogger(__name__)

# The broker ends a snapshot after so long, whatever has come.
SNAPSHOT_S = 11.0


class _Held(NamedTuple):
    """A message that a fault holds back."""

    fault: Fault
    session: Session
    told: Told
    is_asked: bool


class Director:
    """The faults of one gateway: planned, going on, and what they hold back.

    Attributes:
        active: the faults going on.
    """

    def __init__(self, hub: Hub, scenario: Scenario) -> None:
        """Plan a scenario; nothing happens before market time moves."""
        self.active: list[Fault] = []
        self._hub = hub
        self._numbers = itertools.count()
        self._plan: list[tuple[int, int, Entry, Iterator[int]]] = []
        self._ends: list[tuple[int, int, Fault]] = []
        self._later: list[tuple[int, int, _Held]] = []
        self._at_release: list[_Held] = []
        self._waiting: list[Entry] = []
        self._counts: Counter[str] = Counter()
        self._next_end: anyio.Event | None = None
        self._seed = scenario.seed
        self._entries = itertools.count()
        for entry in scenario.entries:
            self.plan(entry)

    # -- planning ---------------------------------------------------------------------------

    def plan(self, entry: Entry, *, seed: int | None = None) -> bool:
        """Add one entry to what will happen; False where its time has passed.

        Args:
            entry: what, and when.
            seed: of what is drawn, None for the scenario's; each entry draws for itself.

        Raises:
            ParameterError: it cannot happen at this gateway.
        """
        make_fault(entry.fault, entry.parameters).check(self._hub)
        market = self._hub.market
        own_seed = f"{self._seed if seed is None else seed}/{next(self._entries)}"
        if entry.event:
            self._waiting.append(entry)
            return True
        if entry.rate_per_hour:
            rng = random.Random(own_seed)  # noqa: S311 - draws times, guards no secret
            return self._next(entry, entry.draws(market.now_ns, rng))
        return self._next(entry, entry.instants(market.now_ns, market.tape.timezone))

    def inject(
        self, name: str, parameters: Mapping[str, Any] | None = None, *, for_s: float = math.inf
    ) -> Fault:
        """Let a fault happen now.

        Args:
            name: which, from the catalog.
            parameters: its parameters.
            for_s: market seconds until it is put right again; never by itself when infinite.

        Raises:
            ParameterError: no such fault, parameter or value.
        """
        fault = make_fault(name, parameters or {})
        fault.check(self._hub)
        self._begin(fault, for_s)
        return fault

    def end(self, name: str) -> int:
        """Put right every fault of a name that goes on; return how many there were."""
        ending = [fault for fault in self.active if fault.name == name]
        for fault in ending:
            self._end(fault)
        return len(ending)

    # -- time and events --------------------------------------------------------------------

    def next_due_ns(self) -> int | None:
        """Return when something is due by time, None when nothing is."""
        queues: tuple[list[Any], ...] = (self._plan, self._ends, self._later)
        due = [queue[0][0] for queue in queues if queue]
        due += [at_ns for one in self.active if (at_ns := one.next_due_ns) is not None]
        return min(due, default=None)

    def on_time(self) -> None:
        """Let everything happen that is due."""
        now_ns = self._hub.market.now_ns
        while self._plan and self._plan[0][0] <= now_ns:
            _, _, entry, instants = heapq.heappop(self._plan)
            self._begin(make_fault(entry.fault, entry.parameters), entry.for_s)
            self._next(entry, instants)
        while self._later and self._later[0][0] <= now_ns:
            self._say(heapq.heappop(self._later)[2])
        while self._ends and self._ends[0][0] <= now_ns:
            self._end(heapq.heappop(self._ends)[2])
        for fault in tuple(self.active):
            self._act(fault, fault.on_time)

    def on_event(self, event: str) -> None:
        """Count an event, and begin what waited for it."""
        self._counts[event] += 1
        for entry in tuple(self._waiting):
            if entry.event == event and self._counts[event] >= entry.count:
                self._waiting.remove(entry)
                market = self._hub.market
                self._next(entry, entry.instants(market.now_ns, market.tape.timezone))

    # -- messages ---------------------------------------------------------------------------

    def outgoing(self, session: Session, told: Told, *, beyond: Fault | None = None) -> list[Told]:
        """Return what becomes of a message under the faults that go on, or those `beyond` one."""
        found = [told]
        for fault in self.active:
            if beyond is None or fault.number > beyond.number:
                found = [one for each in found for one in self._altered(fault, session, each)]
        return found

    def _altered(self, fault: Fault, session: Session, told: Told) -> list[Told]:
        try:
            return fault.outgoing(self._hub, session, told)
        except Exception as error:  # noqa: BLE001 - what fails is a fault, not the gateway
            self._fail(fault, error)
            return [told]

    def hears(self, session: Session, request: str) -> bool:
        """Return whether a request is heard under all faults that go on."""
        return all(fault.hears(self._hub, session, request) for fault in self.active)

    def greeting(self, session: Session) -> list[int]:
        """Return the codes of the notes about farms that a client is greeted with."""
        codes = list(ALL_FARMS_ARE_THERE)
        for fault in self.active:
            if fault.strikes(session):
                codes = fault.greeting(codes)
        return codes

    # -- connections ------------------------------------------------------------------------

    @property
    def closes_door(self) -> bool:
        """Whether every new connection is reset."""
        return any(fault.closes_door for fault in self.active)

    @property
    def mutes_door(self) -> bool:
        """Whether new connections are accepted and never answered."""
        return any(fault.mutes_door for fault in self.active)

    def turns_away(self, client_id: int) -> bool:
        """Return whether a client id counts as in use."""
        return any(fault.turns_away(client_id) for fault in self.active)

    async def wait_to_read(self, session: Session) -> bool:
        """Return once a client may be read from; whether that had to be waited for."""
        return await self._wait(lambda fault: fault.lets_read(session))

    async def wait_to_write(self, session: Session) -> bool:
        """Return once a client may be written to; whether that had to be waited for."""
        return await self._wait(lambda fault: fault.lets_write(session))

    async def _wait(self, lets: Callable[[Fault], bool]) -> bool:
        has_waited = False
        while not all(map(lets, self.active)):
            has_waited, self._next_end = True, self._next_end or anyio.Event()
            await self._next_end.wait()
        return has_waited

    # -- what is held back ------------------------------------------------------------------

    def say_later(self, fault: Fault, session: Session, told: Told, *, delay_s: float) -> None:
        """Keep a message back for some market time."""
        at_ns = self._hub.market.now_ns + round(delay_s * NS_PER_S)
        held = _Held(fault, session, told, session.is_answering)
        heapq.heappush(self._later, (at_ns, next(self._numbers), held))

    def say_at_release(self, fault: Fault, session: Session, told: Told) -> None:
        """Keep a message back until `release`."""
        self._at_release.append(_Held(fault, session, told, session.is_answering))

    def end_snapshot(self, session: Session, req_id: int) -> None:
        """End a snapshot: where a fault has swallowed its ticks, as late as the broker does."""
        told = ("tickSnapshotEnd", {"req_id": req_id})
        silent = (one for one in self.active if one.swallows_quotes and not one.respells_quotes)
        fault = next((one for one in silent if one.strikes(session)), None)
        if fault is None:
            session.send_all([told])
        else:
            self.say_later(fault, session, told, delay_s=SNAPSHOT_S)

    def release(self, fault: Fault) -> None:
        """Say everything that a fault holds back, in its order."""
        later = [held for _, _, held in sorted(self._later, key=lambda entry: entry[:2])]
        found = [held for held in (*self._at_release, *later) if held.fault is fault]
        self._keep(lambda held: held.fault is not fault)
        for held in found:
            self._say(held)

    def holds(self, session: Session) -> bool:
        """Return whether anything is held back for a connection."""
        held = (*self._at_release, *(entry[2] for entry in self._later))
        return any(one.session is session for one in held)

    def forget(self, session: Session) -> None:
        """Drop what is held back for a connection that has ended."""
        self._keep(lambda held: held.session is not session)

    def _keep(self, is_wanted: Callable[[_Held], bool]) -> None:
        self._later = [entry for entry in self._later if is_wanted(entry[2])]
        heapq.heapify(self._later)
        self._at_release = [held for held in self._at_release if is_wanted(held)]

    def _say(self, held: _Held) -> None:
        """Say what a fault has held back, past it and those that have seen it before."""
        session, told = held.session, held.told
        was_answering, session.is_answering = session.is_answering, held.is_asked
        try:
            session.say_all(self.outgoing(session, told, beyond=held.fault))
        finally:
            session.is_answering = was_answering
        if session.is_leaving and not self.holds(session):
            session.close_after_sending()

    # -- one fault --------------------------------------------------------------------------

    def _alone(self, fault: Fault, others: list[Fault]) -> list[Session]:
        """Return the clients whose lines a fault swallows and the others do not."""
        if not fault.swallows_quotes:
            return []
        swallowing = [one for one in others if one.swallows_quotes]
        victims = fault.victims(self._hub)
        return [one for one in victims if not any(o.strikes(one) for o in swallowing)]

    def _next(self, entry: Entry, instants: Iterator[int]) -> bool:
        at_ns = next(instants, None)
        if at_ns is not None:
            heapq.heappush(self._plan, (at_ns, next(self._numbers), entry, instants))
        return at_ns is not None

    def _begin(self, fault: Fault, for_s: float) -> None:
        fault.number = next(self._numbers)
        self._write("fault begins", fault)
        for session in self._alone(fault, self.active):
            self._hub.streaming.fall_silent(session)
        if not fault.is_instant:
            self.active.append(fault)
            if math.isfinite(for_s):
                at_ns = self._hub.market.now_ns + round(for_s * NS_PER_S)
                heapq.heappush(self._ends, (at_ns, next(self._numbers), fault))
        self._act(fault, fault.begin)

    def _end(self, fault: Fault) -> None:
        if not any(one is fault for one in self.active):
            return
        # No longer active first: what it says at its end passes.
        self.active = [one for one in self.active if one is not fault]
        self._act(fault, fault.end)
        waiting, self._next_end = self._next_end, None
        if waiting is not None:
            waiting.set()
        mute = [one for one in self.active if not one.respells_quotes]
        for session in self._alone(fault, mute):
            self._hub.streaming.tell_anew(session)
        self._write("fault ends", fault)

    def _act(self, fault: Fault, act: Callable[[Hub], None]) -> None:
        """Let a fault act; what fails in it must not end the gateway."""
        try:
            act(self._hub)
        except Exception as error:  # noqa: BLE001 - journalled, and the fault is over
            self._fail(fault, error)

    def _fail(self, fault: Fault, error: Exception) -> None:
        """Write down that a fault has failed, and put it right: it is over."""
        _log.error("fault %s has failed", fault.name, exc_info=error)
        self._write("fault fails", fault, error=repr(error))
        self._end(fault)
        self.release(fault)

    def _write(self, what: str, fault: Fault, **others: str) -> None:
        facts = {one.name: getattr(fault, one.name) for one in fields(fault) if one.init}
        self._hub.journal.write(self._hub.market.now_ns, what, fault=fault.name, **facts, **others)
