"""One family of requests by one client, as a process: prints what was seen as one JSON object.

    python -m tests.conformance.driver LIBRARY VERSION FAMILY PORT

LIBRARY is the package to import, VERSION the highest protocol version to announce (0 for the
library's own), FAMILY a function of `tests.conformance.families` or of `edges`. Beside what the
family has seen, the object holds what the library itself complained of.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import sys
from typing import Any

from tests.conformance.desk import Desk
from tests.conformance.edges import EDGES
from tests.conformance.families import FAMILIES

# What a library says of an error message is no complaint of its own: the error is asserted.
_ECHO = re.compile(r"(Error|Warning) -?\d+, reqId |Canceled order: |IBKR API validation warning: ")
_BAD_MESSAGE = "BadMessage"


class Complaints(logging.Handler):
    """Keeps what a library logs as a warning or worse, and the one thing that ibapi hides."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        is_complaint = record.levelno >= logging.WARNING or text == _BAD_MESSAGE
        if is_complaint and not _ECHO.match(text):
            self.found.append(f"{record.name}: {text}")


def make_desk(library: str, version: int, port: int) -> Desk:
    """Return the desk of a library; only that library is imported."""
    if library == "ibapi":
        from tests.conformance.desk_ibapi import IbapiDesk  # noqa: PLC0415

        return IbapiDesk(port, version)
    from tests.conformance.desk_ib import IbDesk  # noqa: PLC0415

    return IbDesk(port, version, importlib.import_module(library))


def main() -> None:
    """Run one family and print what was seen."""
    library, version, family, port = sys.argv[1:]
    complaints = Complaints()
    logging.basicConfig(level=logging.INFO, handlers=[complaints], force=True)
    desk = make_desk(library, int(version), int(port))
    # Market time is the family's alone.
    desk.control(do="pause")
    try:
        seen: dict[str, Any] = {**FAMILIES, **EDGES}[family](desk)
    finally:
        # Some libraries have threads that would keep this process alive.
        desk.close()
    print(json.dumps({"seen": seen, "complaints": complaints.found}))  # noqa: T201 - its purpose


if __name__ == "__main__":
    main()
