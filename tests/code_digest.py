"""Which code a long run has judged: what another code did is no result of this one."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import momentum_lab

_TESTS = Path(__file__).parent
_DIGITS = 12


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return a digest of the package and of what judges it; documents do not count."""
    digest = hashlib.sha256()
    package = Path(momentum_lab.__file__).parent
    judges = (*_TESTS.glob("*.py"), *(_TESTS / "kill_anywhere").glob("*.py"))
    for path in sorted((*package.rglob("*.py"), *judges)):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:_DIGITS]
