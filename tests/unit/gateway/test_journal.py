"""The record of what truly happened at a gateway."""

from __future__ import annotations

import io
import json

from momentum_lab.gateway.journal import MOST_RECORDS, Journal


def test_the_newest_records_are_kept_and_the_file_has_them_all() -> None:
    file = io.StringIO()
    journal = Journal(file)

    for number in range(MOST_RECORDS + 10):
        journal.write(number, "status", order_id=number)

    assert len(journal.records) == MOST_RECORDS
    assert journal.records[0] == {"at_ns": 10, "what": "status", "order_id": 10}
    lines = file.getvalue().splitlines()
    assert [json.loads(line)["at_ns"] for line in lines] == list(range(MOST_RECORDS + 10))
