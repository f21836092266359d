"""What truly happened at a gateway: the ground truth that a client's view is compared with.

One record for each thing, in order, stamped with market time alone: equal runs give equal
journals. Kept in memory, and as one JSON object per line where a file is given.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TextIO


class Journal:
    """The records of one gateway.

    Attributes:
        records: each a mapping with `at_ns`, `what` and its own facts.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        """Start empty; `file` gets every record as a line."""
        self.records: list[Mapping[str, Any]] = []
        self._file = file

    def write(self, at_ns: int, what: str, **facts: Any) -> None:
        """Add a record.

        Args:
            at_ns: market time, UTC epoch nanoseconds.
            what: kind of the record, e.g. "fill".
            facts: plain values.
        """
        record = {"at_ns": at_ns, "what": what, **facts}
        self.records.append(record)
        if self._file is not None:
            self._file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
            self._file.flush()

    def of(self, what: str) -> list[Mapping[str, Any]]:
        """Return the records of one kind."""
        return [record for record in self.records if record["what"] == what]
