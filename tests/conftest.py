"""Fixtures: a paper gateway as a process of its own, and the loop that asynchronous tests run on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SAMPLE_TAPE = Path(__file__).parents[1] / "data" / "samples" / "fomc-2013-10-09"
START_LIMIT_S = 15.0
STOP_LIMIT_S = 10.0


@dataclass
class GatewayProcess:
    """A gateway that runs as `python -m momentum_lab.gateway`.

    Attributes:
        process: the operating system's handle.
        port: where it listens, 0 until it does.
        lines: what it has said so far.
    """

    process: subprocess.Popen[str]
    port: int = 0
    lines: list[str] = field(default_factory=list)

    def stop(self) -> int:
        """Ask it to stop and return its exit code."""
        self.process.terminate()
        return self._wait()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self._wait()

    def _wait(self) -> int:
        return self.process.wait(STOP_LIMIT_S)


StartGateway = Callable[..., GatewayProcess]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def sample_tape() -> Path:
    return SAMPLE_TAPE


@pytest.fixture
def start_gateway() -> Iterator[StartGateway]:
    """Start gateway processes: `start_gateway("--state", path, tape=..., port=...)`."""
    started: list[tuple[GatewayProcess, threading.Thread]] = []

    def start(*options: object, tape: Path = SAMPLE_TAPE, port: int = 0) -> GatewayProcess:
        command = [sys.executable, "-m", "momentum_lab.gateway", str(tape), "--port", str(port)]
        process = subprocess.Popen(
            [*command, *map(str, options)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        gateway = GatewayProcess(process)
        listening = threading.Event()
        reader = threading.Thread(target=_read_lines, args=(gateway, listening), daemon=True)
        reader.start()
        started.append((gateway, reader))
        assert listening.wait(START_LIMIT_S), "the gateway neither listens nor ends"
        assert gateway.port, f"the gateway ended: {gateway.lines}"
        return gateway

    yield start
    for gateway, reader in started:
        if gateway.process.poll() is None:
            gateway.stop()
        reader.join(STOP_LIMIT_S)


@pytest.fixture
def paper_gateway(start_gateway: StartGateway) -> GatewayProcess:
    """The sample tape on a free loopback port, with every setting at its default."""
    return start_gateway()


def _read_lines(gateway: GatewayProcess, listening: threading.Event) -> None:
    assert gateway.process.stdout is not None
    with gateway.process.stdout as output:
        for line in output:
            gateway.lines.append(line.rstrip("\n"))
            if " listening on " in line:
                address = line.split(" listening on ")[1].split()[0]
                gateway.port = int(address.rpartition(":")[2])
                listening.set()
    listening.set()
