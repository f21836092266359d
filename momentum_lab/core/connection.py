"""The life cycle of the broker connection, and the schedule of its retries.

Theory of operation. A connection is DISCONNECTED until a socket is asked for. While the socket
and the API handshake are under way it is CONNECTING. Then it is SYNCHRONIZING: server time,
account, positions, open orders and executions are requested, each with its own end marker, our
record is reconciled with them and the subscriptions are made again. Only then is it OPERATIONAL.
When the gateway says that its own line to the broker is gone (code 1100) the socket is up but
useless: DEGRADED. A restored line (1101, 1102) is not trusted either: it passes through
SYNCHRONIZING again, because fills of the gap are not replayed.

Entries are allowed in OPERATIONAL alone. Exits are allowed there, and in SYNCHRONIZING from the
moment in which record and broker have been reconciled: a stop must not wait for a silent news line.
In every other state nothing is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from momentum_lab.core.lifecycle import advance
from momentum_lab.core.tunable import check_tunables, tunable


class ConnectionState(str, Enum):
    """Where the connection stands."""

    DISCONNECTED = "DISCONNECTED"
    CONNECTING = "CONNECTING"
    SYNCHRONIZING = "SYNCHRONIZING"
    OPERATIONAL = "OPERATIONAL"
    DEGRADED = "DEGRADED"


class ConnectionEvent(str, Enum):
    """What moves the connection on."""

    ATTEMPT = "attempt"
    SOCKET_READY = "socket ready"
    SYNCHRONIZED = "synchronized"
    UPSTREAM_LOST = "upstream lost"
    UPSTREAM_RESTORED = "upstream restored"
    LOST = "lost"


_S, _E = ConnectionState, ConnectionEvent
CONNECTION_TABLE: Mapping[tuple[ConnectionState, ConnectionEvent], ConnectionState] = {
    (_S.DISCONNECTED, _E.ATTEMPT): _S.CONNECTING,
    # A failure may be reported twice: by the socket and by the call that waited for it.
    (_S.DISCONNECTED, _E.LOST): _S.DISCONNECTED,
    (_S.CONNECTING, _E.SOCKET_READY): _S.SYNCHRONIZING,
    # The gateway may say 1100 before it is fully logged in.
    (_S.CONNECTING, _E.UPSTREAM_LOST): _S.CONNECTING,
    (_S.CONNECTING, _E.UPSTREAM_RESTORED): _S.CONNECTING,
    (_S.CONNECTING, _E.LOST): _S.DISCONNECTED,
    (_S.SYNCHRONIZING, _E.SYNCHRONIZED): _S.OPERATIONAL,
    (_S.SYNCHRONIZING, _E.UPSTREAM_LOST): _S.DEGRADED,
    # A second restore while synchronising: what was asked so far is asked again.
    (_S.SYNCHRONIZING, _E.UPSTREAM_RESTORED): _S.SYNCHRONIZING,
    (_S.SYNCHRONIZING, _E.LOST): _S.DISCONNECTED,
    (_S.OPERATIONAL, _E.UPSTREAM_LOST): _S.DEGRADED,
    # 1102 without a 1100 before it: something happened, so look again.
    (_S.OPERATIONAL, _E.UPSTREAM_RESTORED): _S.SYNCHRONIZING,
    (_S.OPERATIONAL, _E.LOST): _S.DISCONNECTED,
    # 1100 repeats every few seconds.
    (_S.DEGRADED, _E.UPSTREAM_LOST): _S.DEGRADED,
    (_S.DEGRADED, _E.UPSTREAM_RESTORED): _S.SYNCHRONIZING,
    (_S.DEGRADED, _E.LOST): _S.DISCONNECTED,
}


_SUPERVISED = "one supervisor makes one attempt after the other"
_NO_SOCKET = "without a socket nothing is heard"
# Every pair that is not in the table, and why it cannot happen: a step that does all the same is
# a fault of ours, and raises.
IMPOSSIBLE: Mapping[tuple[ConnectionState, ConnectionEvent], str] = {
    (_S.DISCONNECTED, _E.SOCKET_READY): "a socket comes of an attempt",
    (_S.DISCONNECTED, _E.SYNCHRONIZED): _NO_SOCKET,
    (_S.DISCONNECTED, _E.UPSTREAM_LOST): _NO_SOCKET,
    (_S.DISCONNECTED, _E.UPSTREAM_RESTORED): _NO_SOCKET,
    (_S.CONNECTING, _E.ATTEMPT): _SUPERVISED,
    (_S.CONNECTING, _E.SYNCHRONIZED): "nothing is asked for before the handshake is over",
    (_S.SYNCHRONIZING, _E.ATTEMPT): _SUPERVISED,
    (_S.SYNCHRONIZING, _E.SOCKET_READY): "there is one socket, and it is ready",
    (_S.OPERATIONAL, _E.ATTEMPT): _SUPERVISED,
    (_S.OPERATIONAL, _E.SOCKET_READY): "there is one socket, and it is ready",
    (_S.OPERATIONAL, _E.SYNCHRONIZED): "a synchronisation ends in the state that it began in",
    (_S.DEGRADED, _E.ATTEMPT): _SUPERVISED,
    (_S.DEGRADED, _E.SOCKET_READY): "there is one socket, and it is ready",
    (_S.DEGRADED, _E.SYNCHRONIZED): "a synchronisation that lost the broker on its way is void",
}


def advance_connection(state: ConnectionState, event: ConnectionEvent) -> ConnectionState:
    """Return the connection state after `event`.

    Raises:
        IllegalTransitionError: the pair is one of `IMPOSSIBLE`.
    """
    return advance(CONNECTION_TABLE, state, event)


@dataclass(frozen=True, slots=True)
class BackoffParameters:
    """How long the connector waits before it tries again."""

    first_wait_s: float = tunable(
        1.0, unit="s", low=0.05, high=60, step=0.5, meaning="wait after the first failure"
    )
    growth: float = tunable(
        2.0, unit="x", low=1, high=10, step=0.5, meaning="factor from one wait to the next"
    )
    longest_wait_s: float = tunable(
        30.0, unit="s", low=0.1, high=3600, step=5, meaning="cap of the wait"
    )
    jitter_ratio: float = tunable(
        0.25, unit="ratio", low=0, high=1, step=0.05, meaning="random part of the wait"
    )
    stable_s: float = tunable(
        30.0,
        unit="s",
        low=0,
        high=3600,
        step=5,
        meaning="time OPERATIONAL after which the next failure counts as the first",
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range."""
        check_tunables(self, prefix="backoff.")


def backoff_s(failures: int, *, draw: float, parameters: BackoffParameters) -> float:
    """Return the wait before the next attempt, in seconds of transport time.

    Args:
        failures: failures in a row so far, >= 1.
        draw: uniform random number in [0, 1), drawn by the caller.
        parameters: the schedule.

    The wait is `first * growth**(failures - 1)`, capped, then shortened by up to `jitter_ratio`,
    so that many clients of one restarted gateway do not come back at the same instant.
    """
    # The exponent is bounded: a float overflows long after the cap has been reached.
    exponent = min(failures - 1, 64)
    wait = min(parameters.first_wait_s * parameters.growth**exponent, parameters.longest_wait_s)
    return wait * (1 - parameters.jitter_ratio * draw)
