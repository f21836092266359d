"""A flood of incidents is one incident: the first few are told, the rest are counted.

A broken line can make thousands of them in a second. Each costs a commit to disk on the loop that
has to close positions, and nobody reads the thousandth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from momentum_lab.clock import transport_s

OnIncident = Callable[[str, str], None]

_MOST_PER_WINDOW = 10
_WINDOW_S = 60.0


@dataclass(slots=True)
class _Window:
    since_s: float
    n_told: int = 0
    n_kept_back: int = 0


class FloodGate:
    """Hands incidents on, at most ten of a kind in a minute of transport time."""

    def __init__(self, on_incident: OnIncident) -> None:
        """Make a gate before `on_incident`, which hears (kind, text)."""
        self._on_incident = on_incident
        self._windows: dict[str, _Window] = {}

    def __call__(self, kind: str, text: str) -> None:
        """Hand an incident on, or count it; the count is told with the next of its kind."""
        now_s = transport_s()
        window = self._windows.get(kind)
        if window is None or now_s - window.since_s >= _WINDOW_S:
            n_before = window.n_kept_back if window is not None else 0
            self._windows[kind] = window = _Window(now_s)
            if n_before:
                text = f"{text} (and {n_before} more of this kind before it)"
        if window.n_told < _MOST_PER_WINDOW:
            window.n_told += 1
            if window.n_told == _MOST_PER_WINDOW:
                text = f"{text} (more of this kind in this minute are only counted)"
            self._on_incident(kind, text)
        else:
            window.n_kept_back += 1
