"""One request with its time limit: an answer, a refusal, or no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import ib_insync

from momentum_lab.errors import BrokerError, ConnectionLostError
from momentum_lab.live.ibkr.translate import epoch_ns

T = TypeVar("T")


async def ask(what: str, request: Callable[[], Awaitable[T]], *, timeout_s: float) -> T:
    """Return the answer to one request.

    Args:
        what: what is asked for, for the error.
        request: sends it and waits for its end marker.
        timeout_s: transport time.

    Raises:
        ConnectionLostError: no answer in time, or the socket broke; names the request.
        BrokerError: the broker refused it; names the request and the broker's words.
    """
    try:
        with anyio.fail_after(timeout_s):
            return await request()
    except (TimeoutError, asyncio.TimeoutError):  # two classes on Python 3.10
        raise ConnectionLostError(f"{what}: no answer within {timeout_s:g} s") from None
    except ConnectionError as error:
        raise ConnectionLostError(f"{what}: {error}") from error
    except ib_insync.RequestError as error:
        raise BrokerError(f"{what}: the broker answered {error.code} {error.message}") from error


async def server_time_ns(ib: ib_insync.IB, *, timeout_s: float) -> int:
    """Return the broker's time, whole seconds as UTC epoch nanoseconds.

    Raises:
        ConnectionLostError: no answer in time.
    """
    return epoch_ns(await ask("server time", ib.reqCurrentTimeAsync, timeout_s=timeout_s))
