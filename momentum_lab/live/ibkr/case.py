"""What an examination works with: the set, the connection, and what earlier checks have learned."""

from __future__ import annotations

from dataclasses import dataclass, field

import ib_insync

from momentum_lab.calendars import session_on_day_of
from momentum_lab.clock import wall_ns
from momentum_lab.live.ibkr.handshake import Visit
from momentum_lab.live.ibkr.synchronisation import PAPER_PREFIX
from momentum_lab.parameters import Parameters


@dataclass(slots=True)
class Case:
    """One examination.

    Attributes:
        parameters: the set that a session would have.
        visit: the connection, open or not.
        account: the account that would be traded, empty while unknown or refused.
        server_ns: the broker's time when it was asked, whole seconds, None while unknown.
        contracts: the symbols of the universe that the broker knows, with their ids.
    """

    parameters: Parameters
    visit: Visit
    account: str = ""
    server_ns: int | None = None
    contracts: list[ib_insync.Contract] = field(default_factory=list)

    @property
    def ib(self) -> ib_insync.IB:
        """The library's object."""
        return self.visit.ib

    @property
    def timeout_s(self) -> float:
        """Time limit of one request."""
        return self.parameters.connection.request_timeout_s

    @property
    def is_replay(self) -> bool:
        """Whether the gateway plays a tape, so that its time is not ours."""
        return self.parameters.mode == "replay"

    @property
    def is_paper(self) -> bool:
        """Whether the account is known, and is a paper account."""
        return self.account.startswith(PAPER_PREFIX)

    def now_ns(self) -> int:
        """Return market time: in a replay the gateway's, as it was when it was asked."""
        if self.is_replay and self.server_ns is not None:
            return self.server_ns
        return wall_ns()

    def is_in_session(self) -> bool:
        """Whether the exchange is open now."""
        session = session_on_day_of(self.now_ns())
        return session is not None and session.holds(self.now_ns())
