"""The paper gateway as a process: how it starts, ends, fails, and comes back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import GATEWAY, SAMPLE_TAPE, GatewayProcess, StartGateway
from tests.gateway_client import raw_client


def failing(*options: object) -> tuple[int, str]:
    """Run a gateway that cannot start; return its exit code and what it says."""
    command = [*GATEWAY, "--tape", *map(str, options)]
    found = subprocess.run(  # noqa: S603 - our own program
        command, capture_output=True, text=True, timeout=15, check=False
    )
    return found.returncode, found.stderr


def test_it_says_where_it_listens_and_stops_on_sigterm(paper_gateway: GatewayProcess) -> None:
    assert (
        "account DU1234567 tape fomc-2013-10-09 market time 20131009 09:30:00"
        in (paper_gateway.lines[0])
    )
    assert paper_gateway.stop() == 0


def test_it_stops_while_a_client_is_connected(paper_gateway: GatewayProcess) -> None:
    with raw_client(paper_gateway.port) as client:
        client.start()
        assert paper_gateway.stop() == 0
        assert client.read() == []


def test_a_port_in_use_is_one_sentence(paper_gateway: GatewayProcess) -> None:
    code, said = failing(SAMPLE_TAPE, "--port", paper_gateway.port)
    assert code == 2
    assert said.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{paper_gateway.port}" in said


def test_a_missing_tape_is_one_sentence(tmp_path: Path) -> None:
    code, said = failing(tmp_path / "none", "--port", 0)
    assert (code, said) == (
        2,
        f"momentum-lab: no tape at {tmp_path / 'none'}: expected a folder with tape.yaml in it\n",
    )


def test_a_fault_that_cannot_happen_leaves_no_empty_records(tmp_path: Path) -> None:
    scenario, records = tmp_path / "scenario.yaml", (tmp_path / "journal", tmp_path / "wire")
    scenario.write_text("faults: [{fault: halt, with: {symbol: NONE}}]", encoding="utf-8")
    options = ("--scenario", scenario, "--journal", records[0], "--wire-log", records[1])
    code, said = failing(SAMPLE_TAPE, "--port", 0, *options)
    assert (code, said.count("\n")) == (2, 1)
    assert "no symbol 'NONE'" in said
    assert [path for path in records if path.exists()] == []


def test_a_state_file_has_one_gateway_at_a_time(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    path = tmp_path / "state.json"
    first = start_gateway("--state", path)
    code, said = failing(SAMPLE_TAPE, "--port", 0, "--state", path)
    assert (code, said.count("\n")) == (2, 1)
    assert f"{path}: another paper gateway is using it" in said
    assert first.stop() == 0
    assert start_gateway("--state", path).stop() == 0


def test_a_bad_state_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text("{}", encoding="utf-8")
    code, said = failing(SAMPLE_TAPE, "--port", 0, "--state", path)
    assert code == 2
    assert said.count("\n") == 1
    assert "is not a state file" in said
    assert path.read_text(encoding="utf-8") == "{}"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--speed", 90), "slow"),
        (("--start", "2013-10-11T12:00:00+00:00"), "expected a start between"),
        (("--account", "U1"), "paper account"),
    ],
)
def test_a_bad_option_is_one_sentence(options: tuple[object, ...], word: str) -> None:
    code, said = failing(SAMPLE_TAPE, "--port", 0, *options)
    assert code == 2
    assert said.count("\n") == 1
    assert word in said


def test_after_a_power_cut_it_goes_on_from_its_state(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    path = tmp_path / "state.json"
    start = "2013-10-09T14:30:00+00:00"
    first = start_gateway("--state", path, "--start", start)
    with raw_client(first.port) as client:
        client.start()
        order = [3, 1, 756733, "", "STK", "", "", "", "", "SMART", "", "USD", "", "", "", ""]
        order += ["BUY", 100, "MKT", "", "", "DAY", "", "", "", 0, "entry", 1]
        client.send(*order, *[""] * 87)
        bought = client.read_until(59)[-1]
        first.kill()

    second = start_gateway("--state", path, "--start", start, port=first.port)
    with raw_client(second.port) as client:
        client.start()
        client.send(7, 3, 1, 0, "", "", "", "", "", "")
        messages = client.read_until(59)
        client.send(61, 1)
        positions = client.read_until(62)
    assert messages[-1] == bought
    (held,) = [message for message in positions if message[0] == "61"]
    assert held[14] == "100"


def test_the_limits_of_clients_are_options(start_gateway: StartGateway) -> None:
    refusing = start_gateway("--max-messages", 3)
    with raw_client(refusing.port) as client:
        client.start()
        for _ in range(5):
            client.send(49, 1)
        told = [client.read() for _ in range(3)]
        assert [message[0] for message in told] == ["49", "49", "4"]
        assert told[2][2:4] == ["-1", "100"]
        assert told[2][4].endswith("exceeded:max=3 rec=4 (1)")
    pacing = start_gateway("--max-messages", 50, "--pace", "--max-lines", 1)
    with raw_client(pacing.port) as client:
        client.start()
        for req_id in (1, 2):
            client.send(1, 11, req_id, 756733, *[""] * 11, 0, "mdoff", 0, 0, "")
        assert client.read_until(4)[-1][2:4] == ["2", "101"]


def test_a_limit_that_cannot_be_counted_is_one_sentence() -> None:
    code, said = failing(SAMPLE_TAPE, "--port", 0, "--max-lines", 0)
    assert (code, said) == (2, "momentum-lab: gateway: expected max_lines >= 1, found 0\n")
