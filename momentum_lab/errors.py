"""Every error raised on purpose, as one tree.

A class exists where a caller reacts differently:

    MomentumLabError
    ├── ParameterError           refuse to start
    ├── DataError                refuse the datum, count it
    ├── IllegalTransitionError   stop entering, keep managing exits
    ├── BrokerError
    │   ├── ConnectionLostError  the connector retries
    │   ├── OrderRejectedError   final for this order
    │   └── OutcomeUnknownError  reconcile, never send again
    └── RecordError              stop entering
"""

from __future__ import annotations


class MomentumLabError(Exception):
    """Base of all errors this package raises on purpose."""


class ParameterError(MomentumLabError):
    """A parameter file, key or value cannot be used; nothing has been started."""


class DataError(MomentumLabError):
    """A datum is malformed or impossible; it is refused and counted."""


class IllegalTransitionError(MomentumLabError):
    """A life cycle was asked for a step that its table does not have."""


class BrokerError(MomentumLabError):
    """The broker's side refused, failed or went away."""


class ConnectionLostError(BrokerError):
    """The connection is gone; the connector retries by itself."""


class OrderRejectedError(BrokerError):
    """The broker refused an order for good."""


class OutcomeUnknownError(BrokerError):
    """It is not known whether the broker acted: reconcile, never send again."""


class RecordError(MomentumLabError):
    """The trade store or a tape cannot be read or written."""
