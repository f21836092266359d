"""What the page about the gateway shows can be done as it stands there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.page import example
from tests.conformance.suite import CLIENTS, ROOT, Client
from tests.conftest import SAMPLE_TAPE, StartGateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

BEFORE_THE_HEADLINE = ("--start", "2013-10-09T13:59:30", "--speed", "60")


def run(program: str, python: Path = Path(sys.executable)) -> list[str]:
    """Run a program from the project's root and return the first words of its lines."""
    done = subprocess.run(  # noqa: S603 - a program of our own page
        [str(python), "-W", "ignore", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [line.split()[0] for line in done.stdout.splitlines()]


def ask(client: Client, name: str, start: StartGateway) -> list[str]:
    if not client.is_here:
        pytest.skip(f"{client.name} is not installed: make test-clients")
    gateway = start(*BEFORE_THE_HEADLINE, tape=SAMPLE_TAPE)
    return run(example(name, port=gateway.port), client.python)


def test_the_example_of_ib_insync(start_gateway: StartGateway) -> None:
    assert ask(CLIENTS["ib_insync"], "ib_insync", start_gateway) == ["headline", "quote", "fill"]


@pytest.mark.clients
def test_the_example_of_ib_async(start_gateway: StartGateway) -> None:
    assert ask(CLIENTS["ib_async"], "ib_async", start_gateway) == ["headline", "quote", "fill"]


@pytest.mark.clients
@pytest.mark.parametrize("name", ["ibapi-9.81", "ibapi-10.50"])
def test_the_example_of_ibapi(name: str, start_gateway: StartGateway) -> None:
    told = ask(CLIENTS[name], "ibapi", start_gateway)
    assert told == ["headline", "quote", "fill", "commission"]


@pytest.mark.parametrize(
    ("name", "words"), [("python", ["journal"]), ("virtual", ["after"]), ("tape", ["tape"])]
)
def test_the_examples_without_a_process(name: str, words: list[str]) -> None:
    assert run(example(name)) == words
