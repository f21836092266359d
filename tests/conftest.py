"""Fixtures: a paper gateway as a process of its own, and the loop of asynchronous tests."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SAMPLE_TAPE = Path(__file__).parents[1] / "data" / "samples" / "fomc-2013-10-09"
GATEWAY = (sys.executable, "-m", "momentum_lab.faces.cli", "gateway")
START_LIMIT_S = 15.0
STOP_LIMIT_S = 10.0


@pytest.fixture(autouse=True, scope="session")
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two runs of the tests by one user, or a session beside them, do not meet in a lease."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@dataclass
class GatewayProcess:
    """A gateway that runs as `momentum-lab gateway`.

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


@contextmanager
def gateway_processes() -> Iterator[StartGateway]:
    """Start gateway processes: `start("--state", path, tape=..., port=...)`; all are ended."""
    started: list[tuple[GatewayProcess, threading.Thread]] = []

    def start(*options: object, tape: Path = SAMPLE_TAPE, port: int = 0) -> GatewayProcess:
        command = [*GATEWAY, "--tape", str(tape), "--port", str(port)]
        process = subprocess.Popen(  # noqa: S603 - our own program
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

    try:
        yield start
    finally:
        for gateway, reader in started:
            if gateway.process.poll() is None:
                gateway.stop()
            reader.join(STOP_LIMIT_S)


@pytest.fixture
def start_gateway() -> Iterator[StartGateway]:
    """As many gateways as a test wants; they end with it."""
    with gateway_processes() as start:
        yield start


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
