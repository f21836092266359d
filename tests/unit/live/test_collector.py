"""The garbage collector of the process during a session."""

from __future__ import annotations

import gc

import pytest

from momentum_lab.live.collector import rare_collections


def test_the_collector_is_left_as_it_was_found() -> None:
    before = gc.get_threshold()

    with pytest.raises(ZeroDivisionError), rare_collections():
        assert gc.get_threshold()[0] > before[0]
        assert gc.isenabled()
        raise ZeroDivisionError

    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_of_two_sessions_the_last_one_to_end_restores_it() -> None:
    before = gc.get_threshold()
    first, second = rare_collections(), rare_collections()

    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gc.get_threshold() != before
    second.__exit__(None, None, None)

    assert gc.get_threshold() == before
