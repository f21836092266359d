"""A fault: declared parameters, a beginning, an end, and the messages that it alters."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from momentum_lab.core.tunable import check_tunables, tunable
from momentum_lab.errors import ParameterError

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session

Told = tuple[str, Mapping[str, Any]]
# What lines of market data tell: ticks, books, and the bars that are made of them.
MARKET_DATA = frozenset(
    {
        *("tickPrice", "tickSize", "tickString", "tickGeneric", "tickByTick"),
        *("marketDepth", "marketDepthL2", "realtimeBar", "historicalDataUpdate"),
    }
)
# An order is rejected, cancelled, held until the open, held for a locate.
_ORDER_ERRORS = frozenset({201, 202, 399, 404})
ALL_CLIENTS = -1


def is_order_error(told: Told) -> bool:
    """Return whether a message explains a status: it must not come before it."""
    name, values = told
    return name == "error" and values["code"] in _ORDER_ERRORS


def nearest(word: str, known: Any) -> str:
    """Return a hint at what was probably meant, for the end of an error message."""
    found = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else f"; known are {', '.join(known)}"


@dataclass
class Fault:
    """One thing that goes wrong; a fresh object for each time it does.

    `begin` and `end` act once. The filters, and what keeps the gateway from reading, writing or
    letting in, are asked while the fault lasts: nothing has to be undone, and of several that
    overlap each counts for itself. A fault that is over at once has no end: `is_instant`. Of a
    fault that `swallows_quotes` the lines are told anew when it is over: what they said meanwhile
    was not heard, or, where it `respells_quotes`, only in another spelling. A fault that
    `strikes_all` cannot be of one client.

    Attributes:
        client_id: whom it strikes, -1 for everybody.
        number: how many had begun before it: a message passes faults in this order.
    """

    name: ClassVar[str]
    is_instant: ClassVar[bool] = False
    swallows_quotes: ClassVar[bool] = False
    respells_quotes: ClassVar[bool] = False
    strikes_all: ClassVar[bool] = False

    client_id: int = tunable(
        ALL_CLIENTS, unit="id", low=-1, high=2**31 - 1, step=1, meaning="client struck, -1 for all"
    )
    number: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse parameters out of range.

        Raises:
            ParameterError: names the parameter, what was expected and what was found.
        """
        check_tunables(self, prefix=f"{self.name}.")
        if self.strikes_all and self.client_id != ALL_CLIENTS:
            raise ParameterError(
                f"{self.name}.client_id: expected {ALL_CLIENTS}, for it strikes all clients,"
                f" found {self.client_id}"
            )

    def check(self, hub: Hub) -> None:
        """Refuse what cannot happen at this gateway.

        Raises:
            ParameterError: says what was expected and found.
        """

    def begin(self, hub: Hub) -> None:
        """Let it happen."""

    def end(self, hub: Hub) -> None:
        """Put it right again."""

    def on_time(self, hub: Hub) -> None:
        """Take note that market time has moved."""

    @property
    def next_due_ns(self) -> int | None:
        """When it does something by itself before its end, None where it does not."""
        return None

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Return what becomes of a message to a client: itself, nothing, or others."""
        del hub, session
        return [told]

    def greeting(self, codes: list[int]) -> list[int]:
        """Return what a client that connects meanwhile is told of the farms, by its codes."""
        return codes

    def hears(self, hub: Hub, session: Session, request: str) -> bool:
        """Return whether a request of a client is heard at all."""
        del hub, session, request
        return True

    @property
    def closes_door(self) -> bool:
        """Whether every new connection is reset."""
        return False

    @property
    def mutes_door(self) -> bool:
        """Whether new connections are accepted and never answered."""
        return False

    def turns_away(self, client_id: int) -> bool:
        """Return whether a client id counts as in use."""
        del client_id
        return False

    def lets_read(self, session: Session) -> bool:
        """Return whether the gateway reads what a client sends."""
        del session
        return True

    def lets_write(self, session: Session) -> bool:
        """Return whether the gateway writes what it has to say to a client."""
        del session
        return True

    def strikes(self, session: Session) -> bool:
        """Return whether this client is meant."""
        return self.client_id in (ALL_CLIENTS, session.claimed_id)

    def victims(self, hub: Hub) -> list[Session]:
        """Return the connected clients that are meant."""
        return [session for session in list(hub.sessions.values()) if self.strikes(session)]

    def freed(self, hub: Hub) -> list[Session]:
        """Return the clients that its end frees: those that no other of its kind strikes."""
        others = [one for one in hub.faults.active if one is not self and self._is_kin(one)]
        return [one for one in self.victims(hub) if not any(o.strikes(one) for o in others)]

    def _is_kin(self, other: Fault) -> bool:
        """Return whether both take the same away, as a night and a lost line do."""
        return isinstance(other, type(self)) or isinstance(self, type(other))
