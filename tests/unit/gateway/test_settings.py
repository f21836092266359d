from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from momentum_lab.errors import ParameterError
from momentum_lab.gateway.settings import GatewaySettings


def test_the_defaults_are_a_paper_account_on_loopback() -> None:
    found = GatewaySettings(tape=Path("tape"))
    assert (found.host, found.account, found.cash_usd) == ("127.0.0.1", "DU1234567", 1_000_000)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"port": 70_000}, "port"),
        ({"port": -1}, "port"),
        ({"account": "U1234567"}, "paper account"),
        ({"cash_usd": 0.0}, "cash_usd"),
        ({"slow": 90.0}, "slow"),
        ({"volume_ticks": "pieces"}, "volume_ticks"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_opened(
    values: dict[str, Any], word: str
) -> None:
    with pytest.raises(ParameterError, match=word):
        GatewaySettings(tape=Path("tape"), **values)
