"""Runs families of requests with real client libraries, and knows what each should see.

What is expected stands in `expected.json`, family by family, worked out from the tape: prices of
SPY are 100 dollars and a cent more each second, those of IBM are listed in
`tests.conformance.tape`. It is the same for all libraries and versions.

    python -m tests.conformance.suite        writes expected.json anew, to be read before it is kept
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from momentum_lab.records.tape import write_tape
from tests.conformance.families import FAMILIES
from tests.conformance.tape import conformance_tape
from tests.conftest import GatewayProcess, StartGateway, gateway_processes

ROOT = Path(__file__).parents[2]
EXPECTED = Path(__file__).with_name("expected.json")
LIMIT_S = 60.0
# Market time stands still but for what a family plays; the limits have suites of their own.
STANDING = (
    *("--speed", "0.01", "--fast", "0.01", "--volume-ticks", "shares"),
    *("--max-messages", "0", "--no-history-pacing"),
)
OPTIONS: Mapping[str, tuple[str, ...]] = {"delayed": ("--unsubscribed", "SPY")}


# What a library says itself where the session family makes it knock at a door that is closed.
TURNED_AWAY = ("Peer closed connection.", "API connection failed:")


@dataclass(frozen=True)
class Client:
    """A client library in its environment.

    Attributes:
        name: what people call it.
        module: what is imported.
        python: its interpreter.
        newest: the highest version that it and the gateway have in common.
        older: versions that it can be told to announce as its highest.
    """

    name: str
    module: str
    python: Path
    newest: int
    older: tuple[int, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether its environment has been made."""
        return self.python.exists()


def _environment(name: str) -> Path:
    return ROOT / ".venv-clients" / name / "bin" / "python"


CLIENTS = {
    client.name: client
    for client in (
        Client("ib_insync", "ib_insync", Path(sys.executable), 176, (157, 163, 164, 166, 170)),
        Client("ib_async", "ib_async", _environment("ib_async"), 178, (157, 163, 170, 176)),
        Client("ibapi-9.81", "ibapi", _environment("ibapi-9.81"), 157),
        Client("ibapi-10.50", "ibapi", _environment("ibapi-10.50"), 178, (157, 170, 176)),
    )
}


@dataclass(frozen=True)
class Report:
    """What a library has seen in one family, and what it complained of itself."""

    seen: dict[str, Any]
    complaints: list[str]


def run_family(
    client: Client, family: str, *, start: StartGateway, tape: Path, version: int = 0
) -> Report:
    """Let a library go through a family against a gateway of its own.

    Args:
        client: the library.
        family: one of `FAMILIES`.
        start: starts gateway processes.
        tape: folder of the tape.
        version: highest version to announce, 0 for the library's own.
    """
    gateway: GatewayProcess = start(*STANDING, *OPTIONS.get(family, ()), tape=tape)
    words = [client.python, "-m", "tests.conformance.driver", client.module, version]
    done = subprocess.run(  # noqa: S603 - our own driver
        [str(word) for word in (*words, family, gateway.port)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{client.name} {family}: {done.stderr[-3000:]}"
    told = json.loads(done.stdout)
    return Report(told["seen"], told["complaints"])


def expected(family: str) -> dict[str, Any]:
    """Return what every library sees in a family."""
    found: dict[str, Any] = json.loads(EXPECTED.read_text(encoding="utf-8"))[family]
    return found


def differences(found: Any, wanted: Any, path: str = "") -> list[str]:
    """Return where two values differ, a line each."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted({*found, *wanted})
        pairs = [(found.get(key), wanted.get(key), f"{path}.{key}") for key in keys]
    elif isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = [(*pair, f"{path}[{n}]") for n, pair in enumerate(zip(found, wanted, strict=True))]
    else:
        return [] if found == wanted else [f"{path}: expected {wanted!r}, found {found!r}"]
    return [line for pair in pairs for line in differences(*pair)]


def main() -> None:
    """Write what ib_insync sees now as what is expected."""
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tape = Path(folder) / "tape"
        write_tape(conformance_tape(), tape)
        for family in FAMILIES:
            with gateway_processes() as start:
                client = CLIENTS["ib_insync"]
                found[family] = run_family(client, family, start=start, tape=tape).seen
        # Which version was agreed on is the one thing that differs.
        del found["session"]["opened"]["version"]
    text = json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True)
    EXPECTED.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
