"""The command line: one sentence and a non-zero exit code for every mistake."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from momentum_lab.faces.cli import main
from tests.session_kit import ROOT, TAPE


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def call(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def assert_one_sentence(result: Result, *parts: str) -> None:
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("momentum-lab: ")
    for part in parts:
        assert part in result.stderr


def test_help_names_every_command() -> None:
    text = call("--help").stdout
    assert all(name in text for name in ("demo", "gateway", "live", "check"))


def test_the_version_is_that_of_the_package() -> None:
    assert call("--version").stdout.startswith("momentum-lab, version ")


def test_check_prints_the_effective_set_with_units() -> None:
    result = call("check", str(ROOT / "parameters" / "demo.yaml"))
    assert result.exit_code == 0
    assert "shock.price_atr_multiple" in result.stdout
    assert "2.5 x ATR" in result.stdout


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("universe: [SPY]\nshok: {}\n", ("shok", "did you mean 'shock'")),
        ("universe: [SPY]\nshock: {watch_s: 1e9}\n", ("shock.watch_s", "1 to 3600 s")),
        ("universe: [SPY]\nshock: {watch_s: soon}\n", ("shock.watch_s", "a number", "'soon'")),
        ("mode: paper\n", ("universe", "at least one symbol")),
        ("[1, 2]\n", ("expected a mapping",)),
        ("a: b: c\n", ("not readable as YAML",)),
    ],
)
def test_a_bad_parameter_file_is_named(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    for command in ("check", "live"):
        assert_one_sentence(call(command, str(path)), "bad.yaml", *parts)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_parameter_file_is_named(tmp_path: Path) -> None:
    assert_one_sentence(call("check", str(tmp_path / "none.yaml")), "none.yaml", "No such file")


def test_live_is_refused_until_every_place_says_so(tmp_path: Path) -> None:
    path = tmp_path / "live.yaml"
    path.write_text("mode: live\naccount: U1234567\nuniverse: [SPY]\n")
    assert_one_sentence(call("live", str(path)), "connection.port: mode live expects", "4002")
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_tape_is_named(tmp_path: Path) -> None:
    assert_one_sentence(call("gateway", "--tape", str(tmp_path / "none"), "--port", "0"), "no tape")


def test_a_port_in_use_is_named(taken_port: int) -> None:
    result = call("gateway", "--tape", str(TAPE), "--port", str(taken_port))
    assert_one_sentence(result, str(taken_port))


def test_a_start_that_is_no_time_is_named() -> None:
    result = call("gateway", "--tape", str(TAPE), "--port", "0", "--start", "noon")
    assert_one_sentence(result, "--start", "'noon'")


def test_a_demo_with_a_taken_port_says_so(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert_one_sentence(call("demo", "--port", str(taken_port)), "did not start", str(taken_port))


def test_a_demo_is_a_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    result = call("demo", "--parameters", "parameters/design.yaml")
    assert_one_sentence(result, "expected mode replay, found 'paper'")


@pytest.mark.parametrize("run_id", ["../elsewhere", "a/b", ".hidden", "a b", "-x"])
def test_a_run_id_that_is_no_folder_name_is_refused(run_id: str, tmp_path: Path) -> None:
    path = tmp_path / "paper.yaml"
    path.write_text("universe: [SPY]\n")
    result = call("live", str(path), f"--run-id={run_id}")
    assert_one_sentence(result, "run_id: expected letters", run_id)
    assert list(tmp_path.iterdir()) == [path]
