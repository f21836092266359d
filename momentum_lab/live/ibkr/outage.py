"""One clear alarm for an outage that needs a person, and none for the broker's nightly habits.

The broker resets its servers every night and the gateway restarts once a day; both come back by
themselves, and an alarm each night teaches people to ignore alarms. So an outage inside of a quiet
window is told only when it outlives the window, and an outage outside of one after a short while.
Each outage is told once; that it is over is told too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import anyio

from momentum_lab.clock import Clock, transport_s
from momentum_lab.core.connection import ConnectionState
from momentum_lab.core.windows import QuietWindow, window_at
from momentum_lab.parameters import Parameters

_LONGEST_NAP_S = 30.0


class Connection(Protocol):
    """What is watched."""

    state: ConnectionState
    last_trouble: str

    async def wait_changed(self) -> None:
        """Return after the next step of the life cycle."""


class OutageAlarm:
    """Tells an outage once, when it is time to."""

    def __init__(
        self,
        connection: Connection,
        *,
        clock: Clock,
        parameters: Parameters,
        on_incident: Callable[[str, str], None],
    ) -> None:
        """Make an alarm that does nothing until `run()`.

        Args:
            connection: what is watched.
            clock: market time, for the quiet windows.
            parameters: the checked set.
            on_incident: hears (kind, text).
        """
        self._connection = connection
        self._clock = clock
        self._parameters = parameters
        self._on_incident = on_incident

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            while self._connection.state is ConnectionState.OPERATIONAL:
                await self._connection.wait_changed()
            await self._sit_out()

    async def _sit_out(self) -> None:
        """Return when an outage is over; tell it meanwhile if it is due."""
        began_s = quiet_since_s = transport_s()
        limit_s = self._parameters.liveness.alarm_after_s
        is_told, last_window = False, None
        while self._connection.state is not ConnectionState.OPERATIONAL:
            now_s = transport_s()
            window = self._window()
            if window is not None:
                quiet_since_s, last_window = now_s, window
            elif not is_told and now_s - quiet_since_s >= limit_s:
                is_told = True
                self._on_incident("connection down", self._text(now_s - began_s, last_window))
            left_s = quiet_since_s + limit_s - now_s if not is_told else _LONGEST_NAP_S
            with anyio.move_on_after(min(max(left_s, 0.01), _LONGEST_NAP_S)):
                await self._connection.wait_changed()
        if is_told:
            self._on_incident("connection back", f"after {transport_s() - began_s:.0f} s")

    def _window(self) -> QuietWindow | None:
        if not self._clock.is_anchored:
            return None
        return window_at(self._clock.now_ns(), self._parameters.windows)

    def _text(self, down_s: float, window: QuietWindow | None) -> str:
        cause = self._connection.last_trouble or "no answer yet"
        text = f"{self._connection.state.value} for {down_s:.0f} s: {cause}"
        return text if window is None else f"{text}; not back after the {window.name}"
