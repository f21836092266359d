"""Clients that nobody here wrote see what the tape holds, family by family, value by value."""

from __future__ import annotations

from pathlib import Path

import pytest

from momentum_lab.records.tape import write_tape
from tests.conformance.families import FAMILIES, NEWER_SINCE
from tests.conformance.suite import (
    CLIENTS,
    TURNED_AWAY,
    Client,
    differences,
    expected,
    run_family,
)
from tests.conformance.tape import conformance_tape
from tests.conftest import StartGateway

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

OWN_ENVIRONMENT = [name for name, client in CLIENTS.items() if client.module != "ib_insync"]


@pytest.fixture(scope="session")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conformance") / "tape"
    write_tape(conformance_tape(), folder)
    return folder


def check(
    client: Client, family: str, *, start: StartGateway, tape: Path, version: int = 0
) -> None:
    """Assert that a library sees what it should, and has nothing to complain of."""
    if not client.is_here:
        pytest.skip(f"{client.name} is not installed: make test-clients")
    if family == "newer" and (version or client.newest) < NEWER_SINCE:
        pytest.skip("not at that version of the protocol")
    report = run_family(client, family, start=start, tape=tape, version=version)
    if family == "session":
        assert report.seen["opened"].pop("version") == (version or client.newest)
    assert differences(report.seen, expected(family)) == []
    turned_away = TURNED_AWAY if family == "session" else ()
    own_words = [text.partition(": ")[2] for text in report.complaints]
    assert [text for text in own_words if not text.startswith(turned_away or ("\0",))] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_ib_insync_sees_the_tape(family: str, start_gateway: StartGateway, tape: Path) -> None:
    check(CLIENTS["ib_insync"], family, start=start_gateway, tape=tape)


@pytest.mark.clients
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", OWN_ENVIRONMENT)
def test_another_library_sees_the_tape(
    name: str, family: str, start_gateway: StartGateway, tape: Path
) -> None:
    check(CLIENTS[name], family, start=start_gateway, tape=tape)


@pytest.mark.clients
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("name", "version"), [(name, v) for name, client in CLIENTS.items() for v in client.older]
)
def test_a_library_sees_the_same_at_an_older_version(
    name: str, version: int, family: str, start_gateway: StartGateway, tape: Path
) -> None:
    check(CLIENTS[name], family, start=start_gateway, tape=tape, version=version)
