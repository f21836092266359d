"""Which generic ticks a line is asked for with: trades, and the headlines of its stock.

Some users are refused the headlines (292), and with them the whole line, so that it has to be asked
for again without.
"""

from __future__ import annotations

LINE_TICKS = "233,292"
TICKS_WITHOUT_HEADLINES = "233"
TAPE_TICKS = "mdoff,292"
_INVALID_REQUEST = 321


def refuses_ticks(code: int, words: str) -> bool:
    """Return whether a line is refused for the generic ticks it was asked for with."""
    # The list itself is told back; it stays what it is where the words are translated.
    return code == _INVALID_REQUEST and ("generic tick" in words.lower() or LINE_TICKS in words)
