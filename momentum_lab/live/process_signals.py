"""SIGTERM and SIGINT during a session: it ends in good order."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)


@contextmanager
def signals_call(callback: Callable[[], None]) -> Iterator[None]:
    """Let SIGTERM and SIGINT call `callback` while inside; nothing where that is impossible."""
    loop = asyncio.get_running_loop()
    taken = []
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, callback)
            taken.append(number)
        except (NotImplementedError, RuntimeError, ValueError):  # noqa: PERF203 - two turns
            # Not the main thread, or a platform without signal handlers.
            _log.info("session: no handler for signal %s here", number.name)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
