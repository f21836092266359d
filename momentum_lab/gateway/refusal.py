"""A request that the gateway refuses with one of the broker's error codes."""

from __future__ import annotations

from momentum_lab.errors import BrokerError

NO_DEFINITION = 200
REJECTED = 201
CANCELLED = 202
VALIDATION = 321
DUPLICATE_ID = 322
HISTORY = 162
BAD_DATE = 10314


class RefusedError(BrokerError):
    """The answer to a request is an error message.

    Attributes:
        code: the broker's error code.
        text: its text, 7-bit ASCII.
    """

    def __init__(self, code: int, text: str) -> None:
        """Keep code and text for the error message."""
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


def no_definition() -> RefusedError:
    """Return the refusal of an unknown contract."""
    return RefusedError(NO_DEFINITION, "No security definition has been found for the request")


def invalid(cause: str) -> RefusedError:
    """Return the refusal of a request whose values do not make sense."""
    return RefusedError(VALIDATION, f"Error validating request.-'bN' : cause - {cause}")
