"""A run id sorts by time and may name a folder."""

from __future__ import annotations

import re

import pytest

from momentum_lab.errors import ParameterError
from momentum_lab.live.run_identity import check_run_id, new_run_id, revision


def test_a_new_run_id_names_time_and_mode() -> None:
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{3}Z-paper", new_run_id("paper"))


def test_a_new_run_id_may_name_a_folder() -> None:
    run_id = new_run_id("replay")

    assert check_run_id(run_id) == run_id


@pytest.mark.parametrize("run_id", ["", ".", "..", "../x", "a/b", "-x", "a b", "a\n"])
def test_a_run_id_that_is_no_folder_name_is_refused(run_id: str) -> None:
    with pytest.raises(ParameterError, match="run_id: expected letters, digits"):
        check_run_id(run_id)


def test_the_revision_is_one_word() -> None:
    assert re.fullmatch(r"\S+", revision())
