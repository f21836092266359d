"""Answers requests for past headlines and articles: at once, or one after the other.

The broker's news servers need a moment, and client libraries give them a few seconds only. With
`answer_s` a request is answered so long after it came, or after the answer to the one before it,
whichever is later: one request is in flight, the others of all clients wait in their order. No
public source tells of an error for a second request, so none is made up here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from momentum_lab.gateway.wire import Request

if TYPE_CHECKING:
    from momentum_lab.gateway.session import Session

Answer = Callable[["Session", Request], None]


class NewsDesk:
    """The requests that wait for news.

    Attributes:
        answer_s: transport seconds until an answer, 0 for at once.
    """

    def __init__(self, answer_s: float) -> None:
        """Begin with none."""
        self.answer_s = answer_s
        self._waiting: deque[tuple[Session, Request, Answer]] = deque()
        self._has_been_asked = anyio.Event()

    def ask(self, session: Session, request: Request, answer: Answer) -> None:
        """Answer a request now, or in its turn.

        Raises:
            RefusedError: it is refused at once; in its turn the error is sent to the client.
        """
        if not self.answer_s:
            answer(session, request)
            return
        self._waiting.append((session, request, answer))
        self._has_been_asked.set()

    async def run(self) -> None:
        """Answer what waits, for ever."""
        while True:
            await self._has_been_asked.wait()
            while self._waiting:
                await anyio.sleep(self.answer_s)
                session, request, answer = self._waiting.popleft()
                if session.is_known:
                    session.perform(answer, request)
            self._has_been_asked = anyio.Event()
