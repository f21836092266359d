"""Sessions that trade against a gateway in a process of its own, for tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from momentum_lab.core.connection import BackoffParameters
from momentum_lab.parameters import Parameters, load_parameters
from tests.conftest import GatewayProcess, StartGateway

ROOT = Path(__file__).parents[1]
TAPE = ROOT / "data" / "samples" / "fomc-2013-10-09"
BEFORE_FOMC = ("--start", "2013-10-09T13:45")
_PATIENCE_S = 30.0


def begin(start: StartGateway, folder: Path, *, port: int = 0) -> GatewayProcess:
    """A gateway that stands shortly before the FOMC minutes, or goes on from its state."""
    return start("--fast", 20000, "--state", folder / "state.json", *BEFORE_FOMC, port=port)


@contextmanager
def gateway(start: StartGateway, folder: Path, *, port: int = 0) -> Iterator[GatewayProcess]:
    """The same for the length of a block."""
    found = begin(start, folder, port=port)
    try:
        yield found
    finally:
        found.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def demo_parameters(port: int, *, client_id: int = 17) -> Parameters:
    """The demonstration's set, at a port, with short waits before reconnects."""
    found = load_parameters(ROOT / "parameters" / "demo.yaml")
    connection = replace(
        found.connection, port=port, client_id=client_id, connect_timeout_s=5, request_timeout_s=5
    )
    backoff = BackoffParameters(first_wait_s=0.1, longest_wait_s=0.5)
    return replace(found, connection=connection, backoff=backoff)


async def until(condition: object, *, patience_s: float = _PATIENCE_S) -> None:
    """Return once `condition()` holds; the test fails when it does not in time."""
    assert callable(condition)
    with anyio.fail_after(patience_s):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await anyio.sleep(0.01)
