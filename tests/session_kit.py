"""A gateway as a process of its own, and sessions that trade against it, for tests."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from momentum_lab.clock import transport_s
from momentum_lab.core.connection import BackoffParameters
from momentum_lab.parameters import Parameters, load_parameters

ROOT = Path(__file__).parents[1]
TAPE = ROOT / "data" / "samples" / "fomc-2013-10-09"
BEFORE_FOMC = "2013-10-09T13:45"
_LISTENING = re.compile(r"listening on \S+:(\d+)")
_PATIENCE_S = 30.0


class GatewayProcess:
    """A paper gateway in its own process; `kill` is SIGKILL, no clean-up."""

    def __init__(self, folder: Path, *, port: int = 0, start: str = BEFORE_FOMC, name: str = "gw"):
        self.log = folder / f"{name}.log"
        command = [sys.executable, "-m", "momentum_lab.faces.cli", "gateway", "--tape", str(TAPE)]
        command += ["--port", str(port), "--fast", "20000", "--state", str(folder / "state.json")]
        if not (folder / "state.json").exists():
            command += ["--start", start]
        with self.log.open("w") as output:
            self.process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
                command, stdout=output, stderr=subprocess.STDOUT
            )
        self.port = self._port()

    def _port(self) -> int:
        deadline = transport_s() + _PATIENCE_S
        while transport_s() < deadline:
            match = _LISTENING.search(self.log.read_text())
            if match:
                return int(match[1])
            try:
                self.process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError(f"the gateway did not start: {self.log.read_text()}")

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(_PATIENCE_S)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(_PATIENCE_S)


@contextmanager
def gateway(folder: Path, *, port: int = 0, start: str = BEFORE_FOMC) -> Iterator[GatewayProcess]:
    found = GatewayProcess(folder, port=port, start=start)
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
