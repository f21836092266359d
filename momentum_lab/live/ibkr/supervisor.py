"""The supervisor: connects, synchronises, hears the line break, and comes back by itself.

It drives the table of states (`momentum_lab.core.connection`) and is the only one who does. What
each of the broker's codes does is in `momentum_lab.live.ibkr.codes`; what counts as alive in
`momentum_lab.core.liveness`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import anyio
import ib_insync
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from momentum_lab.clock import Clock, transport_s
from momentum_lab.core.connection import (
    ConnectionEvent,
    ConnectionState,
    advance_connection,
    backoff_s,
)
from momentum_lab.errors import (
    BrokerError,
    ConnectionLostError,
    MomentumLabError,
    ParameterError,
)
from momentum_lab.live.ibkr.codes import CLIENT_ID_TAKEN, CODES, Reaction, code_of
from momentum_lab.live.ibkr.hearing import Ears
from momentum_lab.live.ibkr.history_desk import HistoryDesk
from momentum_lab.live.ibkr.incidents import FloodGate, OnIncident
from momentum_lab.live.ibkr.limiter import Limiter
from momentum_lab.live.ibkr.line import Lines, OnHeard
from momentum_lab.live.ibkr.liveness import Liveness, is_session_open
from momentum_lab.live.ibkr.outage import OutageAlarm
from momentum_lab.live.ibkr.subscriptions import Subscriptions
from momentum_lab.live.ibkr.synchronisation import (
    BrokerSnapshot,
    Checked,
    Checklist,
    choose_account,
    take_snapshot,
)
from momentum_lab.parameters import Parameters

_log = logging.getLogger(__name__)

_PORT = re.compile(r"\b(\d{2,5})\D*$")
_MAX_PORT = 65_535
# The version of the protocol since which they do.
_TIMES_NAME_THEIR_ZONE = 174
_DOUBTS_APART_S = 60.0
_SECOND_LOOK_AFTER_S = 30.0

Reconcile = Callable[[BrokerSnapshot], Awaitable[None]]
OnTransition = Callable[[ConnectionState, ConnectionEvent, str], None]


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of the connection's life cycle.

    Attributes:
        at_s: transport time.
        state: the state from now on.
        event: what moved it.
        cause: in the words of who caused it.
    """

    at_s: float
    state: ConnectionState
    event: ConnectionEvent
    cause: str


class Supervisor:
    """Keeps one connection up.

    Attributes:
        state: where the connection stands.
        last_loss: why the last connection or attempt ended; empty before the first.
        last_trouble: why it was last not OPERATIONAL any more, the broker's absence included.
        checklist: the items of the last synchronisation, with their times and what failed.
        ears: everything that is heard.
        lines: the registry of desired market data lines.
        subscriptions: what is wanted, and asks for it.
        ib: the library's object of the present connection, None while there is none.
        liveness: watches over the present connection, None while there is none.
        asking: whoever asks for positions or orders holds it: the library loses the first of two
            equal requests that overlap.
        limiter: sends what the broker's limits allow, the most urgent first.
        desk: where history is asked for.
    """

    def __init__(
        self,
        parameters: Parameters,
        *,
        clock: Clock,
        on_transition: OnTransition,
        on_incident: OnIncident,
        on_heard: OnHeard,
    ) -> None:
        """Make a supervisor that does nothing until `run()`."""
        on_incident = FloodGate(on_incident)
        self.state = ConnectionState.DISCONNECTED
        self.last_loss = ""
        self.last_trouble = ""
        self.checklist: tuple[Checked, ...] = ()
        self.lines = Lines()
        self.ib: ib_insync.IB | None = None
        self.liveness: Liveness | None = None
        self.asking = anyio.Lock()
        self.limiter = Limiter(parameters.pacing)
        self.desk = HistoryDesk(self.limiter, parameters.pacing)
        self.ears = Ears(clock, on_incident, on_heard)
        self.subscriptions = Subscriptions(
            self.lines, self.ears, clock=clock, parameters=parameters, on_incident=on_incident
        )
        self._parameters = parameters
        self._clock = clock
        self._on_transition = on_transition
        self._on_incident = on_incident
        self._port = parameters.connection.port
        self._was_operational = False
        self._operational_since_s: float | None = None
        self._operational_s = 0.0
        self._is_reconciled = False
        self._is_upstream_lost = False
        self._is_client_id_taken = False
        self._must_renew = True
        self._unknown_codes: set[int] = set()
        self._doubted_s = -math.inf
        self._refusal: MomentumLabError | None = None
        self._lost = anyio.Event()
        self._lost_cause = ""
        self._resync = anyio.Event()
        self._changed = anyio.Event()
        self._followers: list[MemoryObjectSendStream[Transition]] = []
        self._outage = OutageAlarm(
            self, clock=clock, parameters=parameters, on_incident=on_incident
        )
        self._reactions: Mapping[Reaction, Callable[[int, str], None]] = {
            Reaction.LEAVE_OPERATIONAL: self._hear_upstream_lost,
            Reaction.SYNCHRONISE: lambda _code, words: self.hear_restored(words),
            Reaction.TRY_LATER: self._hear_end,
            Reaction.FOLLOW_PORT: self._hear_port,
            Reaction.SUSPECT_LINES: lambda _code, words: self.subscriptions.suspect(words),
            Reaction.CHECK_LINES: self._hear_farm,
            Reaction.SLOW_DOWN: self._hear_too_fast,
            Reaction.ASK_ACCOUNT: self._hear_account_taken,
        }

    # --- the gate --------------------------------------------------------------------------

    def is_operational(self) -> bool:
        """Whether entries may be sent: socket up, synchronised, reconciled, upstream there.

        False also while a time request of ours is open for too long, or the clocks differ.
        """
        return (
            self.state is ConnectionState.OPERATIONAL
            and not self._lost.is_set()
            and not (self.liveness is not None and self.liveness.is_suspect)
        )

    def may_exit(self) -> bool:
        """Whether exits may be sent: OPERATIONAL, or reconciled while the lines come back."""
        is_coming_back = self.state is ConnectionState.SYNCHRONIZING and self._is_reconciled
        is_there = self.state is ConnectionState.OPERATIONAL or is_coming_back
        return is_there and not self._lost.is_set()

    async def prove_alive(self) -> bool:
        """Return whether an entry may be sent now; asks the gateway when the line was quiet."""
        liveness = self.liveness
        if liveness is None or not self.is_operational():
            return False
        return await liveness.prove() and self.is_operational()

    async def wait_changed(self) -> None:
        """Return after the next step of the life cycle."""
        await self._changed.wait()

    def transitions(self) -> MemoryObjectReceiveStream[Transition]:
        """Return a stream of every step of the life cycle from now on; close it when done."""
        send, receive = anyio.create_memory_object_stream[Transition](float("inf"))
        self._followers.append(send)
        return receive

    # --- the supervisor --------------------------------------------------------------------

    async def run(self, reconcile: Reconcile) -> None:
        """Keep the connection up until cancelled.

        Args:
            reconcile: called with the broker's truth before the connection is OPERATIONAL.

        Raises:
            ParameterError: the account or the universe is refused; trying again would not help.
            BrokerError: the client id is taken before this connector was ever OPERATIONAL. Later
                a taken id is the lingering socket of our own lost connection, and is retried.
        """
        failure: MomentumLabError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._outage.run, name="outage alarm")
            group.start_soon(self.limiter.run, name="limiter")
            try:
                failure = await self._connect_for_ever(reconcile)
            finally:
                self._drop("session ended")
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _connect_for_ever(self, reconcile: Reconcile) -> MomentumLabError:
        """Return why it makes no sense to go on."""
        failures = 0
        while True:
            operational_s = await self._one_connection(reconcile)
            if self._refusal is not None:
                return self._refusal
            if self._is_client_id_taken and not self._was_operational:
                return BrokerError(
                    f"{self._address}: the client id is in use by another program; stop that one,"
                    " or wait a minute if it was ours and died. Another connection.client_id is for"
                    " another strategy: it could not change the orders of this one"
                )
            if operational_s >= self._parameters.backoff.stable_s:
                failures = 0
            failures += 1
            wait_s = backoff_s(
                failures,
                draw=random.random(),  # noqa: S311 - spreads retries, guards no secret
                parameters=self._parameters.backoff,
            )
            _log.info("connection: next attempt wait_s=%.1f failures=%d", wait_s, failures)
            await anyio.sleep(wait_s)

    async def _one_connection(self, reconcile: Reconcile) -> float:
        """Return how long one connection was OPERATIONAL, in seconds of transport time."""
        self._lost, self._lost_cause = anyio.Event(), ""
        self._is_upstream_lost = self._is_client_id_taken = False
        self._must_renew = True
        self._operational_s = 0.0
        self._step(ConnectionEvent.ATTEMPT, self._address)
        try:
            ib = await self._open_socket()
            self._step(ConnectionEvent.SOCKET_READY, self._address)
            if self._is_broker_away():
                self._step(ConnectionEvent.UPSTREAM_LOST, self.last_trouble)
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch_loss, group.cancel_scope, name="watch loss")
                await group.start(self.desk.run)
                liveness = self._watch_over(ib)
                await self._synchronise(ib, liveness, reconcile)
                if not self._lost.is_set():
                    group.start_soon(liveness.run, name="liveness")
                await self._synchronise_for_ever(ib, liveness, reconcile)
        except ConnectionLostError as error:
            self._lose(str(error))
        finally:
            self._drop(self._lost_cause or "cancelled")
        return self._operational_s

    async def _open_socket(self) -> ib_insync.IB:
        """Return a connection whose handshake is done; nothing else has been asked for."""
        ib = ib_insync.IB()
        ib.RaiseRequestErrors = True
        self.ib = ib
        self.limiter.attach(ib)
        self.ears.attach(ib, on_code=self._hear_code, on_loss=self._lose, on_doubt=self._hear_doubt)
        settings = self._parameters.connection
        ib.wrapper.clientId = settings.client_id
        # The library waits out its time limit after a refusal; the loss of the socket ends it.
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch_loss, group.cancel_scope, name="watch loss")
            try:
                with anyio.fail_after(settings.connect_timeout_s):
                    await ib.client.connectAsync(
                        settings.host,
                        self._port,
                        settings.client_id,
                        settings.connect_timeout_s,
                    )
            # On Python 3.10 asyncio has a TimeoutError of its own.
            except (TimeoutError, asyncio.TimeoutError, OSError) as error:
                self._lose(str(error) or "no answer to the handshake")
            group.cancel_scope.cancel()
        if self._lost.is_set():
            raise ConnectionLostError(f"{self._address}: {self._lost_cause}")
        if ib.client.serverVersion() >= _TIMES_NAME_THEIR_ZONE:
            # A gateway that is set to UTC names none; the library would read its times of
            # executions in the zone of this machine.
            ib.TimezoneTWS = "UTC"
        return ib

    def _watch_over(self, ib: ib_insync.IB) -> Liveness:
        self.liveness = Liveness(
            ib,
            lines=self.lines,
            ears=self.ears,
            subscriptions=self.subscriptions,
            clock=self._clock,
            parameters=self._parameters,
            on_loss=self._lose,
            on_incident=self._on_incident,
        )
        if self._is_upstream_lost:
            self.liveness.upstream_lost_s = transport_s()
        return self.liveness

    async def _synchronise_for_ever(
        self, ib: ib_insync.IB, liveness: Liveness, reconcile: Reconcile
    ) -> None:
        while not self._lost.is_set():
            await self._resync.wait()
            await self._synchronise(ib, liveness, reconcile)

    async def _synchronise(
        self, ib: ib_insync.IB, liveness: Liveness, reconcile: Reconcile
    ) -> None:
        self._resync = anyio.Event()
        if self._is_broker_away():
            # There is nobody to ask.
            return
        checklist = Checklist()
        liveness.is_synchronising = True
        try:
            await self._check_everything(ib, liveness, checklist, reconcile)
        except (BrokerError, ParameterError) as error:
            self._hear_failed(error)
        except MomentumLabError as error:
            # The record's doing, perhaps for a moment only: the next connection tries again.
            self._on_incident("not reconciled", str(error))
            self._lose(f"synchronisation: {error}")
        else:
            if not self._must_begin_anew():
                self._step(ConnectionEvent.SYNCHRONIZED, str(checklist))
        finally:
            liveness.is_synchronising = False
            self.checklist = tuple(checklist.done)

    def _hear_failed(self, error: BrokerError | ParameterError) -> None:
        """Begin anew after a synchronisation that failed, now, or on another connection."""
        if self._must_begin_anew():
            # A gateway that has lost its broker may even say that there is no such stock.
            _log.info("synchronisation interrupted: %s", error)
        elif isinstance(error, ParameterError):
            # A person's mistake: the same would happen again on the next connection.
            self._refusal = error
            self._lose(str(error))
        else:
            self._lose(f"synchronisation: {error}")

    async def _check_everything(
        self,
        ib: ib_insync.IB,
        liveness: Liveness,
        checklist: Checklist,
        reconcile: Reconcile,
    ) -> None:
        self.ears.account = choose_account(list(ib.managedAccounts()), self._parameters)
        async with self.asking:
            snapshot = await take_snapshot(
                ib, liveness, checklist, self.ears.completed, parameters=self._parameters
            )
        with checklist.item("reconciliation"):
            await reconcile(snapshot)
        self._set_reconciled()
        with checklist.item("contracts"):
            await self._look_up_contracts(ib)
        with checklist.item("news tapes"):
            await self.subscriptions.tapes.find(ib)
        with checklist.item("lines") as words:
            if self._must_renew:
                self._must_renew = False
                self.subscriptions.renew(ib)
            else:
                self.subscriptions.complete(ib)
            if is_session_open(self._clock):
                silent = await self.subscriptions.wait_flowing(
                    timeout_s=self._parameters.liveness.flow_s
                )
                if silent:
                    names = ", ".join(line.instrument.symbol for line in silent)
                    words.append(f"silent: {names}")
                    self._on_incident("line silent", f"{names}: nothing heard when asked for")

    async def _look_up_contracts(self, ib: ib_insync.IB) -> None:
        """Make sure of all contracts; a symbol that is not known is refused at the second look.

        Around its restart a gateway says so of symbols that it knows well.
        """
        is_first = not self._was_operational
        try:
            await self.subscriptions.look_up(ib, is_first=is_first)
        except ParameterError as error:
            if not self._must_begin_anew():
                _log.warning("asked again in %g s: %s", _SECOND_LOOK_AFTER_S, error)
                with anyio.move_on_after(_SECOND_LOOK_AFTER_S):
                    await self._resync.wait()
            if self._must_begin_anew():
                raise
            await self.subscriptions.look_up(ib, is_first=is_first)

    def _set_reconciled(self) -> None:
        """Let exits leave from here on; the lines may take their time."""
        # Where the broker was away meanwhile the snapshot may be older than its absence.
        is_current = not self._must_begin_anew()
        self._is_reconciled = is_current and self.state is ConnectionState.SYNCHRONIZING
        self._tell_changed()

    async def _watch_loss(self, scope: anyio.CancelScope) -> None:
        await self._lost.wait()
        scope.cancel()

    # --- what the broker says --------------------------------------------------------------

    def _hear_code(self, request: int, code: int, words: str) -> None:
        """React to a code that belongs to no order of ours, as the table says."""
        ib, told = self.ib, self.subscriptions.hear_code
        if ib is not None and request > 0 and told(ib, request, code=code, words=words):
            return
        _log.info("broker says: request=%d text=%s", request, words)
        reaction = code_of(code).reaction
        react = self._reactions.get(reaction)
        if react is not None:
            react(code, words)
        elif reaction is not Reaction.NONE:
            self._record(code, words)

    def _record(self, code: int, words: str) -> None:
        self.ears.note(words)
        if code not in CODES and code not in self._unknown_codes:
            self._unknown_codes.add(code)
            self._on_incident("unknown code", words)

    def _hear_upstream_lost(self, _code: int, words: str) -> None:
        self._is_upstream_lost = self._must_renew = True
        self.ears.note(words)
        if self.liveness is not None:
            self.liveness.upstream_lost_s = transport_s()
        self.last_trouble = words
        # It repeats every few seconds: one entry in the record is enough.
        if self.state is not ConnectionState.DEGRADED:
            self._step(ConnectionEvent.UPSTREAM_LOST, words)

    def hear_restored(self, words: str, *, do_lines_flow: bool = False) -> None:
        """The broker is there, perhaps again: ask for everything before anything is sent.

        Args:
            words: why.
            do_lines_flow: it never was away, so that no subscription has to be made anew.
        """
        if not do_lines_flow:
            self._must_renew = True
            self.ears.completed.expect_no_answer()
        self._is_upstream_lost = False
        if self.liveness is not None:
            self.liveness.upstream_lost_s = None
        self._step(ConnectionEvent.UPSTREAM_RESTORED, words)
        self._resync.set()

    def _hear_end(self, code: int, words: str) -> None:
        self.ears.note(words)
        self._is_client_id_taken = code == CLIENT_ID_TAKEN
        self._lose(words)

    def _hear_port(self, code: int, words: str) -> None:
        named = _PORT.search(words)
        if named is not None and 0 < int(named[1]) <= _MAX_PORT:
            self._port = int(named[1])
        self._on_incident("port changed", f"{words}; connecting to port {self._port} from now on")
        self._hear_end(code, words)

    def _hear_farm(self, _code: int, _words: str) -> None:
        if self.liveness is not None:
            self.liveness.check_lines()

    def _hear_too_fast(self, _code: int, words: str) -> None:
        self.ears.note(words)
        self._on_incident("too many messages", words)

    def _hear_account_taken(self, _code: int, words: str) -> None:
        self._on_incident("account updates taken over", words)
        # As if it had been silent for too long: it is asked for again at the next look.
        self.ears.account_heard_s = transport_s() - self._parameters.liveness.account_quiet_s

    def _hear_doubt(self, words: str) -> None:
        """Ask for everything, not too often: what could not be read may have been a fill."""
        self._on_incident("message not understood", words)
        now_s = transport_s()
        if self.may_exit() and now_s - self._doubted_s >= _DOUBTS_APART_S:
            self._doubted_s = now_s
            # A line that lost a word of its own shows it by its silence.
            self.hear_restored(f"a message was not understood: {words}", do_lines_flow=True)

    # --- steps -----------------------------------------------------------------------------

    @property
    def _address(self) -> str:
        settings = self._parameters.connection
        return f"{settings.host}:{self._port} client id {settings.client_id}"

    def _step(self, event: ConnectionEvent, cause: str) -> None:
        self.state = advance_connection(self.state, event)
        if event in (ConnectionEvent.LOST, ConnectionEvent.UPSTREAM_LOST):
            self.last_trouble = cause
        self._time_operational()
        is_operational = self.state is ConnectionState.OPERATIONAL
        self._is_reconciled = is_operational
        self._was_operational = self._was_operational or is_operational
        _log.info("connection: state=%s event=%s cause=%s", self.state.value, event.value, cause)
        self._on_transition(self.state, event, cause)
        for follower in self._followers:
            try:
                follower.send_nowait(Transition(transport_s(), self.state, event, cause))
            except anyio.BrokenResourceError:  # noqa: PERF203 - who listened has left
                follower.close()
                self._followers = [one for one in self._followers if one is not follower]
        self._tell_changed()
        for line in self.lines:
            line.wake()

    def close(self) -> None:
        """Close the streams; for the end of a session."""
        self.ears.close()
        for follower in self._followers:
            follower.close()

    def _must_begin_anew(self) -> bool:
        """Whether what has been asked for so far is void: the broker is away, or was meanwhile."""
        return self._is_broker_away() or self._resync.is_set()

    def _is_broker_away(self) -> bool:
        return self._is_upstream_lost

    def _tell_changed(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _time_operational(self) -> None:
        """Add up how long this connection has been OPERATIONAL; after each step."""
        now_s = transport_s()
        if self._operational_since_s is not None:
            self._operational_s += now_s - self._operational_since_s
        is_operational = self.state is ConnectionState.OPERATIONAL
        self._operational_since_s = now_s if is_operational else None

    def _lose(self, cause: str) -> None:
        if not self._lost.is_set():
            self._lost_cause = self.last_loss = cause
            self._lost.set()

    def _drop(self, cause: str) -> None:
        """Close the socket, if there is one, and say so once."""
        ib, self.ib = self.ib, None
        self.liveness = None
        self.ears.detach()
        self.limiter.detach()
        if ib is not None:
            ib.disconnect()
        self.subscriptions.park()
        if self.state is not ConnectionState.DISCONNECTED:
            self._step(ConnectionEvent.LOST, cause)
