"""Values for messages of the wire, drawn from their declarations with a seeded generator.

Every value of one message is different from the others where its kind allows it, so that a value
in a wrong place is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any, Final

from momentum_lab.gateway.wire import kinds, layout

# What steers a layout, or what a client library takes apart.
STEERING: Final[Mapping[str, tuple[Any, ...]]] = {
    "sec_type": ("STK", "BAG", "OPT"),
    "order_type": ("LMT", "PEG BENCH", "PEG BEST", "PEG MID"),
    "exchange": ("SMART", "IBKRATS"),
    "time_zone": ("US/Eastern",),
    "ref_date": ("20131009",),
    # A client keeps no more of it than whether it is set.
    "use_price_mgmt_algo": (0, 1),
}


class Values:
    """Draws the values of one message.

    Attributes:
        rng: where all chance comes from.
        texts: name -> texts that a field of this name may hold, in place of any.
    """

    def __init__(self, rng: Random, texts: Mapping[str, tuple[Any, ...]] = STEERING) -> None:
        self.rng = rng
        self.texts = texts
        self._numbers = list(rng.sample(range(1, 30_000), 1_000))

    def of(self, its_layout: layout.Layout) -> dict[str, Any]:
        """Return a value for everything that is on the wire."""
        values: dict[str, Any] = {}
        self._draw(its_layout.items, values)
        return values

    def _draw(self, items: Iterable[Any], values: dict[str, Any]) -> None:
        for item in items:
            if isinstance(item, layout.Field):
                values[item.name] = self._field(item)
            elif isinstance(item, layout.Block):
                values[item.name] = self.of(item.layout)
            elif isinstance(item, layout.Flagged):
                values[item.name] = self.of(item.layout) if self.rng.random() < 0.5 else None
            elif isinstance(item, layout.Group):
                count = self.rng.randrange(3)
                values[item.name] = tuple(self.of(item.layout) for _ in range(count))
            elif isinstance(item, layout.Listing):
                count = self.rng.randrange(3)
                values[item.name] = tuple(self.of_kind(item.kind) for _ in range(count))
            elif isinstance(item, layout.When) and item.condition(values):
                self._draw(item.items, values)

    def _field(self, field: layout.Field) -> Any:
        pool = self.texts.get(field.name, ())
        # Names recur with other meanings: a time is a text here and a number there.
        if pool and isinstance(pool[0], str) is (field.kind in (kinds.TEXT, kinds.ESCAPED)):
            return self.rng.choice(pool)
        may_be_unset = field.default is not layout.REQUIRED
        if may_be_unset and self.rng.random() < 0.2:
            return field.kind.unset
        return self.of_kind(field.kind)

    def of_kind(self, kind: kinds.Kind) -> Any:
        """Return a value of a kind."""
        number = self._numbers.pop()
        if kind is kinds.BOOL:
            return self.rng.random() < 0.5
        if kind is kinds.TEXT:
            return self.rng.choice([f"t{number}", f"é{number}"])
        if kind is kinds.ESCAPED:
            return f"e{number}"
        if kind in (kinds.INT, kinds.INT_OR_0, kinds.WHOLE):
            return number
        if kind in _NUMBERS:
            return number / self.rng.choice([1, 4, 100])
        return self.rng.choice([n for n in range(10) if _is_readable(kind, str(n))])


def with_absent(its_layout: layout.Layout, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a reader finds of drawn values: every declared name, in nested parts too."""
    found = {**its_layout.absent, **values}
    for item in _parts(its_layout.items):
        value = found.get(item.name)
        if isinstance(value, Mapping):
            found[item.name] = with_absent(item.layout, value)
        elif isinstance(item, layout.Group):
            found[item.name] = tuple(with_absent(item.layout, entry) for entry in value or ())
    return found


def _parts(items: Iterable[Any]) -> Iterator[layout.Block | layout.Group | layout.Flagged]:
    for item in items:
        if isinstance(item, (layout.Block, layout.Group, layout.Flagged)):
            yield item
        elif isinstance(item, layout.When):
            yield from _parts(item.items)


_NUMBERS: Final = (
    kinds.NUMBER,
    kinds.NUMBER_OR_0,
    kinds.NUMBER_OR_INFINITY,
    kinds.NUMBER_OR_MAX,
)


def _is_readable(kind: kinds.Kind, text: str) -> bool:
    try:
        kind.read(text)
    except ValueError:
        return False
    return True
