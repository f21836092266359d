"""The papermill engine `momentum_lab`: as the standard one, with orderly stops.

papermill by itself dies at once of a SIGTERM and takes the kernel with it. This engine hands
SIGTERM and SIGINT on to the kernel, where the session ends in good order and the remaining cells
still run. papermill finds it by its entry point; importing this module before papermill would
make the two import each other.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nbformat
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine


class LiveClient(PapermillNotebookClient):  # type: ignore[misc]  # papermill is not annotated
    """A client that hands stop signals on to the kernel while cells run."""

    def papermill_execute_cells(self) -> None:
        """Execute the cells; a stop signal asks the kernel to end its session."""
        with _hand_on_signals(self.km.provisioner.pid):
            super().papermill_execute_cells()


class LiveEngine(NBClientEngine):  # type: ignore[misc]  # papermill is not annotated
    """papermill engine `momentum_lab`: as the standard one, with orderly stops."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        *,
        log_output: bool = False,
        stdout_file: Any = None,
        stderr_file: Any = None,
        start_timeout: int = 60,
        execution_timeout: int | None = None,
        **_ignored: Any,
    ) -> nbformat.NotebookNode:
        """Execute a notebook that papermill manages; no time limit unless one is given."""
        executed: nbformat.NotebookNode = LiveClient(
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=start_timeout,
            timeout=execution_timeout,
            log_output=log_output,
            stdout_file=stdout_file,
            stderr_file=stderr_file,
        ).execute()
        return executed


@contextmanager
def _hand_on_signals(kernel_pid: int) -> Iterator[None]:
    def hand_on(_number: int, _frame: object) -> None:
        os.kill(kernel_pid, signal.SIGTERM)

    try:
        old = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:
        # Not the main thread: signals do not come here, so there is nothing to hand on.
        old = {}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
