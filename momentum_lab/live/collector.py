"""Python's garbage collector during a session: seldom, and not over what lasts.

The collector walks through everything that is alive each time, imported libraries included, which
stalls the loop for tens of milliseconds, at a moment of its own choosing. What is alive when a
session begins mostly stays so until it ends.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Allocations more than releases until the youngest are walked through; Python's own is 700.
_YOUNGEST = 10_000


class _Collector:
    """How many sessions want rest, and what the thresholds were before the first of them."""

    n_sessions = 0
    thresholds = (0, 0, 0)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Collect garbage seldom inside the block; blocks may overlap, the last one to end restores."""
    if not _Collector.n_sessions:
        gc.collect()
        gc.freeze()
        _Collector.thresholds = gc.get_threshold()
        gc.set_threshold(_YOUNGEST, *_Collector.thresholds[1:])
    _Collector.n_sessions += 1
    try:
        yield
    finally:
        _Collector.n_sessions -= 1
        if not _Collector.n_sessions:
            gc.set_threshold(*_Collector.thresholds)
            gc.unfreeze()
