"""The programs of `docs/gateway.md`, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"
# What the page says where a program needs a gateway; a test has another one.
PORT = "4002"
_EXAMPLE = r"<!-- example: {name} -->\n```python\n(.*?)```"


def example(name: str, *, port: int = 0) -> str:
    """Return a program of the page, with the port of a running gateway in it.

    Raises:
        LookupError: the page has no such program.
    """
    pattern = _EXAMPLE.format(name=re.escape(name))
    found = re.search(pattern, PAGE.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise LookupError(f"{PAGE.name}: no example {name!r}")
    return found[1].replace(PORT, str(port))
