"""`ControlWatch`: looks for commands in the control database, and says once a second that we live.

It runs in the session's own loop, so that its heartbeat is the loop's. A look costs well under a
millisecond; a file that is locked or broken costs a few, is an incident, and is tried again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from momentum_lab.clock import is_time_virtual, uptime_s, wall_ns
from momentum_lab.errors import RecordError
from momentum_lab.live.decisions import OnIncident
from momentum_lab.records.control import Command, CommandKind, Control, SignOfLife

_log = logging.getLogger(__name__)

# By the wall, which people look at who give commands.
_LOOK_EVERY_S = 0.25
# A loop of virtual time runs ahead of the wall: most looks would find nothing new.
_VIRTUAL_REST_S = 20.0
_BEAT_EVERY_S = 1.0
_TRY_AGAIN_S = 5.0
_PATIENCE_S = 0.02


@dataclass(frozen=True, slots=True)
class Obeyed:
    """What was done about a command.

    Attributes:
        words: what the session says of it.
        when_done: returns what came of it, None while it goes on; None: it is done already.
    """

    words: str
    when_done: Callable[[], str | None] | None = None


@dataclass(slots=True)
class ControlWatch:
    """The session's side of the control database.

    Attributes:
        path: the control database.
        run_id: the run.
        mode: its mode.
        obey: carries a command out.
        life: says how the session is.
        begin: hears, once the file can be read, the commands that say whether there may be
            entries, oldest first, also those that no session heard; none before that.
        on_incident: hears (kind, text, symbol).
    """

    path: Path
    run_id: str
    mode: str
    obey: Callable[[Command], Obeyed]
    life: Callable[[], SignOfLife]
    begin: Callable[[Sequence[Command]], None]
    on_incident: OnIncident
    _control: Control | None = None
    _last_number: int | None = None
    _open: dict[int, Callable[[], str | None]] = field(default_factory=dict)
    _answers: dict[int, tuple[str, bool]] = field(default_factory=dict)
    _began_ns: int = 0
    _looked_s: float = -math.inf
    _beat_s: float = -math.inf
    _try_s: float = -math.inf
    _is_broken: bool = False
    _is_replaced: bool = False
    _has_begun: bool = False

    async def run(self) -> None:
        """Look until cancelled."""
        # Fixed, since each timer that fires counts for a day that has to repeat byte by byte.
        rest_s = _VIRTUAL_REST_S if is_time_virtual() else _LOOK_EVERY_S
        while True:
            if uptime_s() - self._looked_s >= _LOOK_EVERY_S / 2:
                self.look()
            await anyio.sleep(rest_s)

    def start(self) -> None:
        """Sign on, and begin with what the commands so far say of entries."""
        self._began_ns = wall_ns()
        try:
            self._begin(self._opened())
        except RecordError as error:
            self._fail(error)
            # Opened later, it may hold what was said meanwhile.
            self._last_number, self._is_replaced = 0, True
            # What the record knows counts until the file can be read.
            self.begin(())

    def _begin(self, control: Control) -> None:
        if not self._has_begun:
            standing = control.standing()
            self._has_begun = True
            self.begin(standing)
            for command in standing:
                if command.kind is CommandKind.REDUCE:
                    # It is of one day: heard once, it holds for no later session.
                    words = f"began {self.life().risk_state}"
                    self._answers[command.command_id] = words, True

    def look(self) -> None:
        """Obey what is new, and give the sign of life."""
        now_s = self._looked_s = uptime_s()
        if now_s < self._try_s:
            return
        try:
            control = self._opened()
            self._begin(control)
            for command in control.given_after(self._last_number or 0):
                self._last_number = command.command_id
                # By number alone, since the clock may be set; but another file counts anew.
                if not self._is_replaced or command.wall_ns >= self._began_ns:
                    self._carry_out(command)
            # What comes from now on is said to us, whatever the clock says.
            self._is_replaced = False
            self._finish()
            self._answer(control)
            if now_s - self._beat_s >= _BEAT_EVERY_S:
                self._beat_s = now_s
                control.beat(self.run_id, self.life())
        except RecordError as error:
            self._fail(error)
        else:
            self._is_broken = False

    def end(self, reason: str) -> None:
        """Say how the session ended, and close the file."""
        try:
            self._answer(self._opened())
            self._opened().sign_off(self.run_id, self.life(), reason=reason)
        except RecordError as error:
            self._fail(error)
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._control is not None:
            self._control.close()
            self._control = None

    def _opened(self) -> Control:
        """Return the control database, opened anew where its file was replaced."""
        if self._control is not None and self._control.is_current():
            return self._control
        is_new = self._control is None
        self.close()
        control = Control(self.path, patience_s=_PATIENCE_S)
        try:
            if self._last_number is None:
                # What was said before this session began was not said to it.
                self._last_number = control.last_number()
            elif not is_new:
                # Another file counts anew, and may hold what was said before we began.
                self._last_number, self._is_replaced = 0, True
            control.sign_on(self.run_id, self.mode, self.life())
        except RecordError:
            control.close()
            raise
        self._control = control
        return control

    def _carry_out(self, command: Command) -> None:
        _log.warning("command: %s", command)
        obeyed = self.obey(command)
        if obeyed.when_done is not None:
            self._open[command.command_id] = obeyed.when_done
        self._answers[command.command_id] = obeyed.words, obeyed.when_done is None

    def _finish(self) -> None:
        for command_id, when_done in list(self._open.items()):
            words = when_done()
            if words is not None:
                self._answers[command_id] = words, True
                del self._open[command_id]

    def _answer(self, control: Control) -> None:
        """Say what was done; what cannot be written now is said at the next look."""
        if self._answers:
            # What `status` says must not be older than the answer.
            control.beat(self.run_id, self.life())
        for command_id, (words, is_done) in list(self._answers.items()):
            control.answer(command_id, self.run_id, words, is_done=is_done)
            del self._answers[command_id]

    def _fail(self, error: RecordError) -> None:
        """Go on without; one incident for each time that it breaks."""
        self._try_s = uptime_s() + _TRY_AGAIN_S
        if not self._is_broken:
            self._is_broken = True
            self.on_incident("no kill switch", str(error), None)
