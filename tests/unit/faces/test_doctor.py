"""The command `doctor` where there is no gateway to examine, and how its lines look."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from momentum_lab.faces import doctor as face
from momentum_lab.faces.cli import main
from momentum_lab.live.finding import Finding, Verdict, failure, fine, skipped, warning
from momentum_lab.live.ibkr import examine as examination
from momentum_lab.parameters import Parameters, RecordParameters
from momentum_lab.records.control import CommandKind, Control, SignOfLife, control_path
from tests.session_kit import ROOT


def call(*words: object, color: bool = False) -> Result:
    return CliRunner().invoke(main, ["doctor", *map(str, words)], color=color)


@pytest.fixture
def bad_file(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text("universe: [SPY]\nshok: {}\n")
    return path


def shown(finding: Finding, *, color: bool = False) -> str:
    @click.command()
    def command() -> None:
        face._print(finding)

    return CliRunner().invoke(command, color=color).stdout


def test_the_parameter_file_has_to_be_named() -> None:
    result = call()

    assert result.exit_code == 2
    assert "--parameters" in result.stderr


@pytest.mark.parametrize("number", ["0", "1000", "x"])
def test_a_client_id_out_of_range_is_a_mistake_of_usage(number: str, bad_file: Path) -> None:
    assert call("--parameters", bad_file, "--client-id", number).exit_code == 2


def test_a_bad_parameter_file_is_a_finding_and_the_machine_is_examined(bad_file: Path) -> None:
    result = call("--parameters", bad_file, "--json")

    document = json.loads(result.stdout)
    found = {item["check"]: item for item in document["findings"]}
    assert result.exit_code == 1
    assert "did you mean 'shock'" in found["parameters"]["found"]
    assert found["python"]["verdict"] == "ok"
    assert found["gateway"]["verdict"] == "skipped"
    assert document["failures"] == 1


def test_mode_live_is_refused_and_the_rest_is_examined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def examine(_parameters: object, **_options: object) -> tuple[Finding, ...]:
        return ()

    monkeypatch.setattr(examination, "examine", examine)
    path = tmp_path / "live.yaml"
    path.write_text("mode: live\naccount: U1234567\nuniverse: [SPY]\n")

    result = call("--parameters", path, "--json")

    found = [item["check"] for item in json.loads(result.stdout)["findings"]]
    assert result.exit_code == 1
    assert "gateway" not in found
    assert found.count("disk") == 2


def test_lines_are_aligned_and_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face, "_columns", lambda: 60)

    lines = shown(warning("time zone", "words " * 20, "do " * 30)).splitlines()

    assert lines[0].startswith("warning  time zone     words words")
    assert all(len(line) <= 60 for line in lines)
    assert all(line.startswith(" " * 23) for line in lines[1:])
    assert sum(line.strip().startswith("-> ") for line in lines) == 1


@pytest.mark.parametrize("finding", [fine("a", "b"), failure("a", "b", "c"), skipped("a", "b")])
def test_only_a_terminal_gets_colors(finding: Finding) -> None:
    assert "\x1b" not in shown(finding)


def test_a_terminal_gets_colors() -> None:
    assert "\x1b[32m" in shown(fine("a", "b"), color=True)


def test_a_multi_line_message_is_one_paragraph() -> None:
    assert shown(fine("a", "one\n  two")).splitlines()[0].endswith("one two")


def test_help_names_the_doctor() -> None:
    assert "doctor" in CliRunner().invoke(main, ["--help"]).stdout


def test_the_examples_in_the_repository_are_valid_for_it() -> None:
    found: list[Finding] = []
    assert face._load(ROOT / "parameters" / "design.yaml", found.append) is not None
    assert [item.verdict.value for item in found] == ["ok"]


def test_a_session_that_uses_the_store_and_a_halt_by_hand_are_told(tmp_path: Path) -> None:
    database = tmp_path / "trades.db"
    parameters = Parameters(
        universe=("SPY",), records=RecordParameters(str(database), str(tmp_path / "runs"))
    )
    assert face._examine_control(parameters).verdict is Verdict.OK
    control = Control(control_path(database), patience_s=1)
    control.give(CommandKind.HALT, who="me@1", reason="war")
    halted = face._examine_control(parameters)
    life = SignOfLife("OPERATIONAL", "HALTED", {})
    control.sign_on("first", "paper", life)
    in_use = face._examine_control(parameters)
    control.sign_off("first", life, reason="the end")
    control.give(CommandKind.RESUME, who="me@1")
    control.close()

    assert (halted.verdict, in_use.verdict) == (Verdict.WARNING, Verdict.WARNING)
    assert "a session would enter nothing: halt by me@1: war" in halted.found
    assert "run first uses this store now" in in_use.found
    assert face._examine_control(parameters).verdict is Verdict.OK
    control_path(database).write_bytes(b"rubbish" * 100)
    assert face._examine_control(parameters).verdict is Verdict.FAILURE
