"""The live notebook as the production session: by papermill, headless, against a gateway."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import yaml

from momentum_lab.clock import transport_s
from momentum_lab.errors import ParameterError
from momentum_lab.faces.runner import check_names
from momentum_lab.parameters import RecordParameters
from momentum_lab.records.ledger import Row
from momentum_lab.records.run_record import check_record
from momentum_lab.records.trade_store import TradeStore
from tests.conftest import StartGateway
from tests.session_kit import ROOT, begin, demo_parameters

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(180)]
NOTEBOOK = ROOT / "notebooks" / "live.ipynb"
PLOTLY = "application/vnd.plotly.v1+json"
_PATIENCE_S = 90.0


def parameter_file(folder: Path, port: int) -> Path:
    records = RecordParameters(database=str(folder / "trades.db"), runs=str(folder / "runs"))
    path = folder / "session.yaml"
    path.write_text(yaml.safe_dump(replace(demo_parameters(port), records=records).as_dict()))
    return path


def trades(folder: Path) -> list[Row]:
    path = folder / "trades.db"
    if not path.exists():
        return []
    store = TradeStore(path)
    try:
        return list(store.db.query("SELECT * FROM trades"))
    finally:
        store.close()


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    cells = nbformat.read(path, as_version=4).cells
    return [item for cell in cells for item in cell.get("outputs", [])]


@pytest.mark.slow
def test_papermill_runs_the_day_and_the_charts_are_in_the_page(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = begin(start_gateway, tmp_path)
    output = tmp_path / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK), str(output)]
    command += ["-f", str(parameter_file(tmp_path, gateway.port)), "--engine", "momentum_lab"]
    command += ["-k", "python3", "--no-progress-bar", "--cwd", str(ROOT)]

    found = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)  # noqa: S603

    assert found.returncode == 0, found.stderr
    shown = outputs(output)
    assert not [item for item in shown if item.output_type == "error"]
    assert len([item for item in shown if PLOTLY in item.get("data", {})]) >= 4
    (trade,) = trades(tmp_path)
    assert (trade["symbol"], trade["side"], trade["exit_reason"]) == ("SPY", "SELL", "STOP_LOSS")
    assert check_record(tmp_path / "trades.db") == []


@pytest.mark.slow
def test_sigterm_ends_the_session_in_order_and_the_report_is_made(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = begin(start_gateway, tmp_path)
    command = [sys.executable, "-m", "momentum_lab.faces.cli", "live", "--run-id", "stopped"]
    command += [str(parameter_file(tmp_path, gateway.port))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        deadline = transport_s() + _PATIENCE_S
        while not trades(tmp_path) and transport_s() < deadline:
            _wait_a_moment(process)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=_PATIENCE_S)

    assert process.returncode == 0, said
    (trade,) = trades(tmp_path)
    assert (trade["state"], trade["exit_reason"]) == ("CLOSED", "SESSION_END")
    shown = outputs(tmp_path / "runs" / "stopped" / "live.ipynb")
    assert len([item for item in shown if PLOTLY in item.get("data", {})]) >= 4
    assert "SESSION_END" in said


def test_a_refused_account_ends_with_a_sentence_and_exit_code_one(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = start_gateway("--account", "DF7654321")
    command = [sys.executable, "-m", "momentum_lab.faces.cli", "live"]
    command += [str(parameter_file(tmp_path, gateway.port))]

    found = subprocess.run(  # noqa: S603
        command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )

    assert found.returncode == 1
    assert "trades only in a paper account (DU...)" in found.stderr
    assert trades(tmp_path) == []


def test_the_runner_refuses_names_that_the_notebook_does_not_take() -> None:
    with pytest.raises(ParameterError, match="takes no parameter named shok"):
        check_names(NOTEBOOK, {"shok": {}})


def _wait_a_moment(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(0.2)
    except subprocess.TimeoutExpired:
        return
    raise AssertionError("the session ended before it traded")
