"""What truly happened at a gateway: the ground truth that a client's view is compared with.

One record for each thing, in order, stamped with market time alone: equal runs give equal
journals. The newest are kept in memory, all of them as one JSON object per line where a file is
given.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, TextIO

# A gateway may run for weeks: the oldest records make room, about 30 MB are kept.
MOST_RECORDS: Final = 50_000


class Journal:
    """The records of one gateway.

    Attributes:
        records: each a mapping with `at_ns`, `what` and its own facts; the newest `MOST_RECORDS`.
        file: gets every record as a line, None for no file.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        """Start empty."""
        self.records: deque[Mapping[str, Any]] = deque(maxlen=MOST_RECORDS)
        self.file = file

    def write(self, at_ns: int, what: str, **facts: Any) -> None:
        """Add a record.

        Args:
            at_ns: market time, UTC epoch nanoseconds.
            what: kind of the record, e.g. "fill".
            facts: plain values.
        """
        record = {"at_ns": at_ns, "what": what, **facts}
        self.records.append(record)
        if self.file is not None:
            self.file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
            self.file.flush()

    def of(self, what: str) -> list[Mapping[str, Any]]:
        """Return the records of one kind."""
        return [record for record in self.records if record["what"] == what]
