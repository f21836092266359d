"""Faults of the gateway itself and of its line to the broker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.tunable import tunable
from momentum_lab.gateway.faults.base import ALL_CLIENTS, MARKET_DATA, Fault, Told, is_order_error

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub
    from momentum_lab.gateway.session import Session

_MAX_S = 86_400.0
# What comes from the broker's servers, and not from the gateway itself.
_LOST_MEANWHILE = MARKET_DATA | {"tickNews"}
_FROM_BROKER = _LOST_MEANWHILE | {
    *("orderStatus", "openOrder", "execDetails", "commissionReport", "position"),
    *("updateAccountValue", "updatePortfolio", "updateAccountTime", "pnl", "pnlSingle"),
    *("accountSummary", "accountUpdateMulti", "positionMulti"),
}
# What only the broker's servers can answer. While they are away no answer comes: an empty list
# with its end would say that there is nothing, where nobody knows.
_ASKED_OF_BROKER = frozenset(
    {
        *("reqPositions", "reqPositionsMulti", "reqAccountUpdates", "reqAccountUpdatesMulti"),
        *("reqAccountSummary", "reqPnL", "reqPnLSingle", "reqOpenOrders", "reqAllOpenOrders"),
        *("reqCompletedOrders", "reqExecutions", "reqContractDetails", "reqMatchingSymbols"),
        *("reqHistoricalData", "reqHistoricalTicks", "reqHeadTimeStamp", "reqHistogramData"),
        *("reqHistoricalNews", "reqNewsArticle"),
    }
)
LOST, RESTORED_LOST, RESTORED_KEPT = 1100, 1101, 1102
QUOTES_AWAY, QUOTES_BACK, HISTORY_AWAY, HISTORY_BACK, CONTRACTS_BACK = 2103, 2104, 2105, 2106, 2158
TEXTS = {
    LOST: "Connectivity between IB and Trader Workstation has been lost.",
    RESTORED_LOST: (
        "Connectivity between IB and Trader Workstation has been restored - data lost."
    ),
    RESTORED_KEPT: (
        "Connectivity between IB and Trader Workstation has been restored - data maintained."
    ),
    QUOTES_AWAY: "Market data farm connection is broken:usfarm",
    QUOTES_BACK: "Market data farm connection is OK:usfarm",
    HISTORY_AWAY: "HMDS data farm connection is broken:ushmds",
    HISTORY_BACK: "HMDS data farm connection is OK:ushmds",
    2107: "HMDS data farm connection is inactive but should be available upon demand.ushmds",
    2108: "Market data farm connection is inactive but should be available upon demand.usfarm",
    CONTRACTS_BACK: "Sec-def data farm connection is OK:secdefnj",
}
ALL_FARMS_ARE_THERE = (QUOTES_BACK, HISTORY_BACK, CONTRACTS_BACK)


def tell_all(hub: Hub, fault: Fault, code: int) -> None:
    """Tell a note that belongs to no request."""
    _tell(fault.victims(hub), code)


def _tell(sessions: list[Session], code: int) -> None:
    for session in sessions:
        session.send("error", req_id=-1, code=code, text=TEXTS[code])


def forget_data(session: Session) -> None:
    """Drop every stream of market data of one client; it has to ask again."""
    session.subscriptions.forget_data()


@dataclass
class ConnectivityLost(Fault):
    """1100: the broker cannot be reached, the sockets stay. Ends with 1102, or 1101.

    What is asked of the broker meanwhile, lists and history, is never answered.
    """

    name: ClassVar[str] = "1100"
    swallows_quotes: ClassVar[bool] = True

    restored: int = tunable(
        RESTORED_KEPT, unit="code", low=1101, high=1102, step=1, meaning="how it ends"
    )
    repeat_s: float = tunable(
        5.0, unit="s", low=0.1, high=_MAX_S, step=1, meaning="market time between two 1100"
    )
    _next_ns: int = field(default=0, init=False, repr=False)

    def begin(self, hub: Hub) -> None:
        """Tell it, and again every few seconds."""
        self._tell(hub)

    @property
    def next_due_ns(self) -> int | None:
        """When it is told again."""
        return self._next_ns

    def on_time(self, hub: Hub) -> None:
        """Tell it again."""
        if hub.market.now_ns >= self._next_ns:
            self._tell(hub)

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Tell quotes and news of these minutes never, what the broker does to orders later."""
        name, _ = told
        is_of_broker = name in _FROM_BROKER or is_order_error(told)
        if not self.strikes(session) or not is_of_broker:
            return [told]
        if name not in _LOST_MEANWHILE:
            hub.faults.say_at_release(self, session, told)
        return []

    def greeting(self, codes: list[int]) -> list[int]:
        """Say that the broker is away: how its farms are nobody knows."""
        return [LOST]

    def hears(self, hub: Hub, session: Session, request: str) -> bool:
        """Hear what the gateway does by itself, and orders, which reach the broker all the same."""
        return not (self.strikes(session) and request in _ASKED_OF_BROKER)

    def end(self, hub: Hub) -> None:
        """Tell that it is over; with 1101 every subscription is gone."""
        if self.restored == RESTORED_LOST:
            for session in self.freed(hub):
                forget_data(session)
        _tell(self.freed(hub), self.restored)
        hub.faults.release(self)

    def _tell(self, hub: Hub) -> None:
        self._next_ns = hub.market.now_ns + round(self.repeat_s * NS_PER_S)
        tell_all(hub, self, LOST)


@dataclass
class ConnectivityRestoredDataLost(Fault):
    """1101 alone: all market data subscriptions are gone although the socket stays."""

    name: ClassVar[str] = "1101"
    is_instant: ClassVar[bool] = True

    def begin(self, hub: Hub) -> None:
        """Drop the subscriptions and tell it."""
        for session in self.victims(hub):
            forget_data(session)
        tell_all(hub, self, RESTORED_LOST)


@dataclass
class ConnectivityRestored(Fault):
    """1102 alone: everything goes on."""

    name: ClassVar[str] = "1102"
    is_instant: ClassVar[bool] = True

    def begin(self, hub: Hub) -> None:
        """Tell it."""
        tell_all(hub, self, RESTORED_KEPT)


@dataclass
class MarketDataFarmBroken(Fault):
    """2103: quotes stop; news and everything else go on. Ends with 2104."""

    name: ClassVar[str] = "2103"
    swallows_quotes: ClassVar[bool] = True

    def begin(self, hub: Hub) -> None:
        """Tell it."""
        tell_all(hub, self, QUOTES_AWAY)

    def greeting(self, codes: list[int]) -> list[int]:
        """Say that this farm is away."""
        return [QUOTES_AWAY if code == QUOTES_BACK else code for code in codes]

    def outgoing(self, hub: Hub, session: Session, told: Told) -> list[Told]:
        """Tell no quotes; headlines come from another farm."""
        return [] if self.strikes(session) and told[0] in MARKET_DATA else [told]

    def end(self, hub: Hub) -> None:
        """Tell that it is over."""
        _tell(self.freed(hub), QUOTES_BACK)


@dataclass
class HistoryFarmBroken(Fault):
    """2105: historical requests get no answer. Ends with 2106."""

    name: ClassVar[str] = "2105"

    def begin(self, hub: Hub) -> None:
        """Tell it."""
        tell_all(hub, self, HISTORY_AWAY)

    def greeting(self, codes: list[int]) -> list[int]:
        """Say that this farm is away."""
        return [HISTORY_AWAY if code == HISTORY_BACK else code for code in codes]

    def hears(self, hub: Hub, session: Session, request: str) -> bool:
        """Hear no request for history."""
        return not (self.strikes(session) and request.startswith(("reqHist", "reqHead")))

    def end(self, hub: Hub) -> None:
        """Tell that it is over."""
        _tell(self.freed(hub), HISTORY_BACK)


def _note(code: int, meaning: str) -> type[Fault]:
    """Return the fault of a note that means nothing but itself."""

    @dataclass
    class FarmNote(Fault):
        name: ClassVar[str] = str(code)
        is_instant: ClassVar[bool] = True

        def begin(self, hub: Hub) -> None:
            """Tell it."""
            tell_all(hub, self, code)

    FarmNote.__doc__ = f"{code}: {meaning}"
    return FarmNote


@dataclass
class NightlyReset(ConnectivityLost):
    """The broker's night: 1100 for minutes, then 1101, and perhaps the sockets are cut too."""

    name: ClassVar[str] = "nightly_reset"

    restored: int = tunable(
        RESTORED_LOST, unit="code", low=1101, high=1102, step=1, meaning="how it ends"
    )
    cuts_sockets: int = tunable(
        0, unit="0/1", low=0, high=1, step=1, meaning="1: the sockets are closed at its end"
    )

    def end(self, hub: Hub) -> None:
        """End like a lost line, and cut."""
        super().end(hub)
        if self.cuts_sockets:
            for session in self.victims(hub):
                session.close_after_sending()


@dataclass
class Restart(Fault):
    """The gateway restarts: orders of the last moment vanish, ids go back, nobody can connect."""

    name: ClassVar[str] = "restart"
    strikes_all: ClassVar[bool] = True

    vanish_s: float = tunable(
        1.0, unit="s", low=0, high=60, step=0.1, meaning="orders of so long before it vanish"
    )
    ids_back: int = tunable(
        5, unit="ids", low=0, high=1_000_000, step=1, meaning="next order ids go back by so many"
    )
    _down_ns: int = field(default=0, init=False, repr=False)
    _is_down: bool = field(default=False, init=False, repr=False)

    def begin(self, hub: Hub) -> None:
        """Let orders vanish from now on; the sockets go a moment later."""
        self._down_ns = hub.market.now_ns + round(self.vanish_s * NS_PER_S)
        self.on_time(hub)

    @property
    def next_due_ns(self) -> int | None:
        """When it goes down."""
        return None if self._is_down else self._down_ns

    def on_time(self, hub: Hub) -> None:
        """Close every socket once the moment has come."""
        if self._is_down or hub.market.now_ns < self._down_ns:
            return
        self._is_down = True
        books = hub.exchange.books
        books.forget_untransmitted()
        for client_id, next_id in books.next_ids.items():
            books.next_ids[client_id] = max(1, next_id - self.ids_back)
        for session in self.victims(hub):
            session.close_after_sending()

    def hears(self, hub: Hub, session: Session, request: str) -> bool:
        """Take no order any more: it is accepted by nobody."""
        return request not in ("placeOrder", "cancelOrder")

    @property
    def closes_door(self) -> bool:
        """Whether it is down: the door opens again at its end."""
        return self._is_down


@dataclass
class ClientIdBusy(Fault):
    """326: the next connections are told that their client id is in use."""

    name: ClassVar[str] = "client_id_busy"

    def turns_away(self, client_id: int) -> bool:
        """Return whether this client is turned away."""
        return self.client_id in (ALL_CLIENTS, client_id)


@dataclass
class ErrorFlood(Fault):
    """A flood of error messages that belong to no request."""

    name: ClassVar[str] = "error_flood"
    is_instant: ClassVar[bool] = True

    count: int = tunable(
        1000, unit="messages", low=1, high=1_000_000, step=100, meaning="how many at once"
    )
    code: int = tunable(2100, unit="code", low=1, high=99_999, step=1, meaning="which error")

    def begin(self, hub: Hub) -> None:
        """Send them all."""
        for session in self.victims(hub):
            for number in range(self.count):
                session.send("error", req_id=-1, code=self.code, text=f"flood {number}")


FAULTS = (
    ConnectivityLost,
    ConnectivityRestoredDataLost,
    ConnectivityRestored,
    MarketDataFarmBroken,
    _note(QUOTES_BACK, "the market data farm is there, without ever having been gone."),
    HistoryFarmBroken,
    _note(HISTORY_BACK, "the historical data farm is there."),
    _note(2107, "the historical data farm sleeps."),
    _note(2108, "the market data farm sleeps."),
    NightlyReset,
    Restart,
    ClientIdBusy,
    ErrorFlood,
)
