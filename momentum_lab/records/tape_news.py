"""What a tape may hold of news besides its headlines: kinds of articles, and bulletins.

    headlines.parquet   may have a column body_kind: "text" (without it all are), "html", "base64"
    bulletins.parquet   at_ns, bulletin_type, text, exchange; may be absent

A bulletin is what the broker itself announces to everybody: a notice, or that an exchange has gone
down or come back.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from momentum_lab.errors import RecordError

BULLETIN_COLUMNS = ("at_ns", "bulletin_type", "text", "exchange")
NOTICE, EXCHANGE_DOWN, EXCHANGE_UP = 1, 2, 3
BULLETIN_TYPES = (NOTICE, EXCHANGE_DOWN, EXCHANGE_UP)
# An article in base64 is a file of its own, such as a PDF.
TEXT, HTML, BASE64 = "text", "html", "base64"
BODY_KINDS = (TEXT, HTML, BASE64)


@dataclass(frozen=True, slots=True)
class TapeBulletin:
    """One announcement of the broker.

    Attributes:
        at_ns: when it was told, UTC epoch nanoseconds.
        bulletin_type: `NOTICE`, `EXCHANGE_DOWN` or `EXCHANGE_UP`.
        text: what it says.
        exchange: where it comes from, may be empty.
    """

    at_ns: int
    bulletin_type: int
    text: str
    exchange: str = ""


def check_body(path: Path, row: Mapping[Hashable, Any]) -> None:
    """Refuse an article that could not be served as what it is said to be.

    Raises:
        RecordError: names the article.
    """
    kind, name = row["body_kind"], f"{path}: article {row['article_id']}"
    if kind not in BODY_KINDS:
        raise RecordError(f"{name}: expected body_kind {', '.join(BODY_KINDS)}, found {kind!r}")
    if kind != BASE64:
        return
    body = str(row["body"])
    try:
        is_something = bool(base64.b64decode(body, validate=True))
    except (binascii.Error, ValueError):
        is_something = False
    if not is_something:
        raise RecordError(f"{name}: expected a body in base64, found {body[:40]!r}")


def bulletins_of(path: Path, frame: pd.DataFrame) -> tuple[TapeBulletin, ...]:
    """Return the rows of a table of bulletins in time order; equal instants keep their order.

    Raises:
        RecordError: a row is impossible; names it.
    """
    found = [_bulletin(path, row) for row in frame.to_dict("records")]
    return tuple(sorted(found, key=lambda item: item.at_ns))


def bulletin_table(bulletins: Sequence[TapeBulletin]) -> pd.DataFrame:
    """Return bulletins as a table that `bulletins_of` reads back equal."""
    frame = pd.DataFrame([asdict(item) for item in bulletins], columns=list(BULLETIN_COLUMNS))
    return frame.astype({"at_ns": "int64", "bulletin_type": "int64"})


def _bulletin(path: Path, row: Mapping[Hashable, Any]) -> TapeBulletin:
    try:
        at_ns, kind = int(row["at_ns"]), int(row["bulletin_type"])
    except (TypeError, ValueError):
        kind = at_ns = -1
    is_whole = (at_ns, kind) == (row["at_ns"], row["bulletin_type"])
    texts = row["text"], row["exchange"]
    if not is_whole or kind not in BULLETIN_TYPES or not all(isinstance(t, str) for t in texts):
        raise RecordError(
            f"{path}: expected at_ns as a whole number, bulletin_type as one of {BULLETIN_TYPES} "
            f"and two texts, found {dict(row)}"
        )
    return TapeBulletin(at_ns, kind, *texts)
