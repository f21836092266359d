"""Is this connection really alive? Probes, expected traffic, and what is done about silence.

The limits and what they mean are in `momentum_lab.core.liveness`. One object watches one
connection. It ends it for one reason only: the gateway does not answer.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

import anyio
import ib_insync

from momentum_lab.calendars import session_on_day_of
from momentum_lab.clock import Alarm, Clock, transport_s
from momentum_lab.core.liveness import line_patience_s
from momentum_lab.core.market import NS_PER_S
from momentum_lab.errors import BrokerError, ConnectionLostError
from momentum_lab.live.ibkr.asking import ask, server_time_ns
from momentum_lab.live.ibkr.hearing import Ears
from momentum_lab.live.ibkr.line import Line, Lines, LineStatus
from momentum_lab.live.ibkr.subscriptions import Subscriptions
from momentum_lab.parameters import Parameters

_log = logging.getLogger(__name__)

# A replay is anchored on the gateway's clock this often, in seconds of market time; nobody waits
# for these requests.
_REPLAY_PROBE_MARKET_S = 6.0
# The broker leaves the second of two time requests within a second unanswered.
_TIME_REQUESTS_APART_S = 1.1
_LOOK_EVERY_S = 5.0
_SHORTEST_NAP_S = 0.5
_LOOK_AT_NIGHT_EVERY_S = 60.0
_SEEK_TAPES_EVERY_S = 180.0


def is_session_open(clock: Clock) -> bool:
    """Whether the regular session is open now; False while the time is not known."""
    if not clock.is_anchored:
        return False
    now_ns = clock.now_ns()
    session = session_on_day_of(now_ns)
    return session is not None and session.holds(now_ns)


class Liveness:
    """Watches one connection.

    Attributes:
        skew_s: our time less the broker's, which is cut to whole seconds; 0 in a replay.
        is_synchronising: everything is being asked for anyway; silence means nothing.
        upstream_lost_s: transport time of the gateway's last word that it has lost the broker,
            None while it has it.
    """

    def __init__(
        self,
        ib: ib_insync.IB,
        *,
        lines: Lines,
        ears: Ears,
        subscriptions: Subscriptions,
        clock: Clock,
        parameters: Parameters,
        on_loss: Callable[[str], None],
        on_incident: Callable[[str, str], None],
    ) -> None:
        """Make a watch that does nothing until `run()`.

        Args:
            ib: the connection.
            lines: what should flow.
            ears: tell when the account and the tapes were last heard.
            subscriptions: asks again for what does not flow.
            clock: market time; in a replay it is anchored here.
            parameters: the checked set.
            on_loss: hears why the connection has to end.
            on_incident: hears (kind, text).
        """
        self._ib = ib
        self._lines = lines
        self._ears = ears
        self._subscriptions = subscriptions
        self._clock = clock
        self._parameters = parameters
        self._limits = parameters.liveness
        self._on_loss = on_loss
        self._on_incident = on_incident
        self._time_lock = anyio.Lock()
        self._asked_s: float | None = None
        self._answered_s = self._tapes_since_s = transport_s()
        self._last_asked_s = self._answered_s - _TIME_REQUESTS_APART_S
        self._look_again = Alarm()
        self._check_since_s: float | None = None
        self._n_asked_again: dict[Line, int] = {}
        self._are_tapes_told = False
        self.skew_s = 0.0
        self.is_synchronising = False
        self.upstream_lost_s: float | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._probe_for_ever, name="probe")
            group.start_soon(self._look_for_ever, name="expected traffic")
            group.start_soon(self._seek_tapes_for_ever, name="missing tapes")

    @property
    def account(self) -> str:
        """The account that is traded; empty before it has been chosen."""
        return self._ears.account

    # --- the gateway -----------------------------------------------------------------------

    @property
    def has_wrong_clock(self) -> bool:
        """Whether our time differs from the broker's by more than is allowed."""
        allowed_s = self._parameters.connection.max_clock_skew_s
        # The broker's time is cut to whole seconds, which alone makes up to one second.
        return not -allowed_s <= self.skew_s <= allowed_s + 1

    @property
    def is_suspect(self) -> bool:
        """Whether nothing may be entered: a time request is open for too long, or tells another."""
        asked_s = self._asked_s
        if self.has_wrong_clock:
            return True
        return asked_s is not None and transport_s() - asked_s > self._limits.suspect_after_s

    async def prove(self) -> bool:
        """Return whether the gateway is there; asks it when nothing was heard for a while."""
        limits = self._limits
        heard_s = max(self._answered_s, self._ears.heard_s)
        if transport_s() - heard_s <= limits.entry_quiet_s:
            return not self.is_suspect
        try:
            await self.time(limits.suspect_after_s)
        except BrokerError:
            return False
        return True

    async def time(self, answer_s: float) -> int:
        """Return the broker's time, UTC epoch nanoseconds, asked for now.

        Args:
            answer_s: how long the answer may take, transport time.

        Raises:
            ConnectionLostError: no answer.
        """
        with anyio.move_on_after(answer_s + _TIME_REQUESTS_APART_S):
            async with self._time_lock:
                # Only our own paper gateway answers all of them, which a replay relies on.
                if not self._clock.is_replay:
                    apart_s = self._last_asked_s + _TIME_REQUESTS_APART_S - transport_s()
                    await anyio.sleep(max(0.0, apart_s))
                self._asked_s = self._last_asked_s = transport_s()
                found = await server_time_ns(self._ib, timeout_s=answer_s)
                self._asked_s, self._answered_s = None, transport_s()
                self._clock.observe(found)
                self._compare_clocks(found)
                return found
        # Another request is in the way and is not answered either.
        raise ConnectionLostError(f"server time: no answer within {answer_s:g} s")

    def _compare_clocks(self, server_ns: int) -> None:
        if self._clock.is_replay:
            return
        was_wrong = self.has_wrong_clock
        self.skew_s = (self._clock.now_ns() - server_ns) / NS_PER_S
        if self.has_wrong_clock and not was_wrong:
            self._on_incident("clock differs", f"ours is {self.skew_s:+.1f} s from the broker's")

    async def _probe_for_ever(self) -> None:
        while True:
            await self._wait_for_next_probe()
            _, answer_s = self._limits.probe_s(is_watched=self._lines.are_watched)
            try:
                await self.time(answer_s)
            except BrokerError as error:
                if self.upstream_lost_s is None:
                    self._on_loss(f"probe: {error}")
                    return
                # Whether the gateway answers without its broker is not documented.
                self._asked_s = None
            if self._is_out_of_patience():
                self._on_loss(
                    "the gateway lost the broker and said nothing more for"
                    f" {self._limits.upstream_patience_s:g} s"
                )
                return

    async def _wait_for_next_probe(self) -> None:
        while True:
            due_s = self._limits.probe_due_s(
                asked_s=self._last_asked_s,
                heard_s=self._ears.heard_s,
                is_watched=self._lines.are_watched,
            )
            if self._clock.is_replay:
                # Only where no trade carries the clock.
                carried_s = max(self._clock.observed_s, self._last_asked_s)
                due_s = min(
                    due_s, carried_s + _REPLAY_PROBE_MARKET_S / self._parameters.replay.speed
                )
            left_s = due_s - transport_s()
            if left_s <= 0:
                return
            # Whoever begins to listen ends the nap: the next probe may be due sooner.
            await self._lines.listening.rest(left_s)

    def _is_out_of_patience(self) -> bool:
        since_s = self.upstream_lost_s
        return since_s is not None and transport_s() - since_s > self._limits.upstream_patience_s

    # --- lines, account, tapes -------------------------------------------------------------

    def check_lines(self) -> None:
        """A farm is there again: lines and tapes that say nothing soon are asked for anew."""
        self._check_since_s = transport_s()
        self._subscriptions.tapes.doubt(patience_s=self._limits.flow_s)
        self._look_again.nudge()

    async def _look_for_ever(self) -> None:
        while True:
            await self._look_again.rest(self._nap_s())
            if self.is_synchronising or self.upstream_lost_s is not None:
                continue
            self._subscriptions.ask_due_tapes(self._ib)
            await self._ask_account_if_silent()
            if is_session_open(self._clock):
                self._check_farm()
                self._look_at_lines()
                self._look_at_tapes()

    def _nap_s(self) -> float:
        if self._check_since_s is not None:
            left_s = self._check_since_s + self._limits.flow_s - transport_s()
            return min(max(_SHORTEST_NAP_S, left_s), _LOOK_EVERY_S)
        return _LOOK_EVERY_S if is_session_open(self._clock) else _LOOK_AT_NIGHT_EVERY_S

    def _check_farm(self) -> None:
        since_s = self._check_since_s
        if since_s is None or transport_s() - since_s < self._limits.flow_s:
            return
        self._check_since_s = None
        # Whether they then flow is seen at the next looks.
        dead = [line for line in self._asked() if line.heard_s < since_s]
        _log.info("lines: asked for again after the data farm came back, n=%d", len(dead))
        self._subscriptions.ask_again(self._ib, dead)

    def _look_at_lines(self) -> None:
        now_s = transport_s()
        asked = self._asked()
        if not asked:
            return
        are_all_quiet = all(line.quiet_s(now_s) >= self._limits.all_quiet_s for line in asked)
        quiet = [
            line
            for line in asked
            if line.quiet_s(now_s)
            >= line_patience_s(
                n_asked_again=self._n_asked_again.get(line, 0),
                is_alone=not are_all_quiet,
                has_flowed=line.heard_s >= line.asked_s,
                parameters=self._limits,
            )
        ]
        why = "no line says anything" if are_all_quiet else "the line says nothing"
        self._ask_again(quiet, why)

    def _asked(self) -> list[Line]:
        return [
            line
            for line in self._lines
            if line.request is not None and line.status is not LineStatus.REFUSED
        ]

    def _ask_again(self, lines: Sequence[Line], why: str) -> None:
        if not lines:
            return
        now_s = transport_s()
        told = [line for line in lines if not self._n_asked_again.get(line)]
        for line in lines:
            self._n_asked_again[line] = self._n_asked_again.get(line, 0) + 1
        names = ", ".join(
            f"{line.instrument.symbol} ({line.quiet_s(now_s):.0f} s)" for line in lines
        )
        _log.warning("lines: asked for again, %s: %s", why, names)
        if told:
            self._on_incident("line silent", f"{why}: {names}; asked for again")
        self._subscriptions.ask_again(self._ib, lines)

    def _look_at_tapes(self) -> None:
        if not self._subscriptions.tapes or self._are_tapes_told:
            return
        silent_s = transport_s() - max(self._tapes_since_s, self._ears.tapes_heard_s)
        if silent_s > self._limits.tapes_quiet_s:
            self._are_tapes_told = True
            self._on_incident("news silent", f"no headline on any tape for {silent_s:.0f} s")

    async def _seek_tapes_for_ever(self) -> None:
        """Look up what was not found at the start; a provider may be there later."""
        while True:
            await anyio.sleep(_SEEK_TAPES_EVERY_S)
            is_asked_anyway = self.is_synchronising or self.upstream_lost_s is not None
            if is_asked_anyway or not self._subscriptions.tapes.are_missing:
                continue
            try:
                await self._subscriptions.tapes.find(self._ib)
            except ConnectionLostError as error:
                # Whether the connection is lost is for the time requests to find out.
                _log.info("news tapes: %s", error)
            # What was found is asked for with the next look.
            self._look_again.nudge()

    async def _ask_account_if_silent(self) -> None:
        silent_s = transport_s() - self._ears.account_heard_s
        if not self._limits.account_quiet_s <= silent_s < math.inf:
            return
        try:
            await self.ask_account()
        except BrokerError as error:
            self._on_incident("account silent", f"for {silent_s:.0f} s, and {error}")

    async def ask_account(self) -> None:
        """Ask for the account's values again; they come as a stream with an end marker.

        Raises:
            ConnectionLostError: no answer.
        """
        await ask(
            "account values",
            lambda: self._ib.reqAccountUpdatesAsync(self._ears.account),
            timeout_s=self._parameters.connection.request_timeout_s,
        )
