"""Where log lines go: a rotating file per run, and short lines on the screen.

The only place that configures handlers. Logs are for people; facts are in the trade store.
"""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

from momentum_lab.errors import RecordError

_FILE_BYTES = 5_000_000
_FILES_KEPT = 5
_FILE_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"
_SCREEN_FORMAT = "%(asctime)s %(message)s"
# The library repeats every order and quote at INFO, and says again what the connector reports; its
# warnings go to the file alone.
_LIBRARY = "ib_insync"


def start_logging(folder: Path) -> Path:
    """Log this package to `folder`/session.log and, shorter, to the screen.

    A second call replaces what the first one set up, so that a cell may be run again.

    Args:
        folder: folder of the run; it is made.

    Returns:
        The log file.

    Raises:
        RecordError: the folder cannot be written.
    """
    path = folder / "session.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = RotatingFileHandler(
            path, maxBytes=_FILE_BYTES, backupCount=_FILES_KEPT, encoding="utf-8"
        )
    except OSError as error:
        raise RecordError(f"cannot write the log {path}: {error.strerror}") from error
    file.setFormatter(logging.Formatter(_FILE_FORMAT))
    screen = logging.StreamHandler(sys.stdout)
    screen.setFormatter(logging.Formatter(_SCREEN_FORMAT, datefmt="%H:%M:%S"))
    _set_handlers(logging.getLogger("momentum_lab"), file, screen, level=logging.INFO)
    _set_handlers(logging.getLogger(_LIBRARY), file, level=logging.WARNING)
    return path


def _set_handlers(logger: logging.Logger, *handlers: logging.Handler, level: int) -> None:
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.setLevel(level)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
