"""What the broker announces to everybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from momentum_lab.core.tunable import described, tunable
from momentum_lab.errors import ParameterError
from momentum_lab.gateway.faults.base import Fault
from momentum_lab.records.tape_news import EXCHANGE_UP, NOTICE, TapeBulletin

if TYPE_CHECKING:
    from momentum_lab.gateway.hub import Hub


@dataclass
class Bulletin(Fault):
    """A bulletin comes to those who subscribed to them: a notice, or an exchange is down or up."""

    name: ClassVar[str] = "bulletin"
    is_instant: ClassVar[bool] = True

    bulletin_type: int = tunable(
        NOTICE,
        unit="type",
        low=NOTICE,
        high=EXCHANGE_UP,
        step=1,
        meaning="1 notice, 2 exchange down, 3 exchange up",
    )
    text: str = described("This is a test of the bulletins.", meaning="what it says")
    exchange: str = described("", meaning="where it comes from")

    def __post_init__(self) -> None:
        """Refuse what is no text."""
        super().__post_init__()
        for key in ("text", "exchange"):
            if not isinstance(found := getattr(self, key), str):
                raise ParameterError(f"{self.name}.{key}: expected text, found {found!r}")

    def begin(self, hub: Hub) -> None:
        """Publish it."""
        told = TapeBulletin(hub.market.now_ns, self.bulletin_type, self.text, self.exchange)
        hub.bulletins.publish(told, self.strikes)


FAULTS = (Bulletin,)
