"""Runs the live notebook through papermill as a supervised production session.

The executed notebook is the log book of its run: `data/runs/<run_id>/live.ipynb`, beside the log
and the captured quotes. The trade store is the record; nothing depends on the notebook having
been saved.

papermill by itself dies at once of a SIGTERM; the engine in `papermill_engine` ends the session in
good order.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import papermill
from papermill.exceptions import PapermillExecutionError

import momentum_lab
from momentum_lab.errors import MomentumLabError, ParameterError, RecordError
from momentum_lab.live.run_identity import check_run_id, new_run_id
from momentum_lab.parameters import Parameters, refuse_live

ENGINE = "momentum_lab"
_NOTEBOOK = Path("notebooks", "live.ipynb")
_KERNEL = "python3"


class SessionFailedError(MomentumLabError):
    """The notebook ended with an error; what it said is the message."""


def project_root() -> Path:
    """Return the folder that holds `notebooks/live.ipynb`: the current one, or the checkout's.

    Raises:
        ParameterError: neither does.
    """
    for folder in (Path.cwd(), Path(momentum_lab.__file__).parent.parent):
        if (folder / _NOTEBOOK).is_file():
            return folder
    raise ParameterError(f"expected {_NOTEBOOK} in the current folder: run from the checkout")


def run_live_notebook(parameters: Parameters, *, root: Path, run_id: str = "") -> Path:
    """Run one session and return its executed notebook.

    Args:
        parameters: the checked set; it is handed to the notebook whole.
        root: folder that holds `notebooks/` and that the record's paths are relative to.
        run_id: name of the run, made of the time when empty.

    Raises:
        ParameterError: the notebook does not take the given names, or a live session
            was not meant everywhere.
        RecordError: the run exists already.
        SessionFailedError: a cell failed; the report cells have run all the same.
    """
    refuse_live(parameters)
    run_id = check_run_id(run_id or new_run_id(parameters.mode))
    folder = root / parameters.records.runs / run_id
    output = folder / _NOTEBOOK.name
    if output.exists():
        raise RecordError(f"{output} exists already: choose another run id")
    values = {**parameters.as_dict(), "run_id": run_id, "root": "."}
    check_names(root / _NOTEBOOK, values)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(root / _NOTEBOOK),
            str(output),
            parameters=values,
            engine_name=ENGINE,
            kernel_name=_KERNEL,
            progress_bar=False,
            stdout_file=sys.stdout,
            cwd=str(root),
        )
    except PapermillExecutionError as error:
        raise SessionFailedError(f"{error.evalue} (see {output})") from error
    return output


def check_names(notebook: Path, values: Mapping[str, Any]) -> None:
    """Refuse names that the notebook's parameters cell does not have; papermill only warns.

    Raises:
        ParameterError: names the strangers, or says that the cell is missing.
    """
    known = set(papermill.inspect_notebook(str(notebook)))
    if not known:
        raise ParameterError(f"{notebook}: expected one cell tagged 'parameters'")
    strangers = sorted(set(values) - known)
    if strangers:
        raise ParameterError(f"{notebook}: takes no parameter named {', '.join(strangers)}")
