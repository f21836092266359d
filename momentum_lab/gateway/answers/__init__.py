"""The answers to requests: one file per subject, and the table of them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from momentum_lab.gateway.answers import (
    account,
    bars,
    contracts,
    news,
    orders,
    past,
    quotes,
    streams,
)
from momentum_lab.gateway.refusal import invalid
from momentum_lab.gateway.wire import Request

if TYPE_CHECKING:
    from momentum_lab.gateway.session import Session

ANSWERS: Mapping[str, Callable[[Session, Request], None]] = {
    **account.ANSWERS,
    **contracts.ANSWERS,
    **quotes.ANSWERS,
    **streams.ANSWERS,
    **bars.ANSWERS,
    **past.ANSWERS,
    **news.ANSWERS,
    **orders.ANSWERS,
}


def handle(session: Session, request: Request) -> None:
    """Answer one request.

    Raises:
        RefusedError: the request is refused; the caller sends the error.
    """
    answer = ANSWERS.get(request.name)
    if answer is None:
        # Known to the protocol and readable, but not played by a tape.
        raise invalid(f"{request.name} is not supported by this gateway")
    answer(session, request)
