"""How a message is laid out: declared once, read and written from the same declaration.

A message is a list of text fields. Its declaration is a tuple of items, in wire order:

    Field       one named field, perhaps only in some versions
    Const       a fixed field without meaning to us, such as an old message version
    Block       a nested mapping of a fixed number of fields (a contract)
    Group       a count, then that many nested mappings (bars, legs)
    Listing     a count, then that many single values (leg prices)
    Flagged     a 0/1 flag, then a nested mapping if it is 1
    When        items that are there only if a condition on earlier values holds

A `Layout` is a declaration as one version sees it. What was read has every declared name at every
version: a name that was not on the wire holds the field's default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol

from momentum_lab.errors import DataError
from momentum_lab.gateway.wire.kinds import BOOL, INT, Kind

Values = Mapping[str, Any]
FOREVER: Final = 1_000_000
MAX_SHOWN_CHARACTERS: Final = 60


class _Required:
    """Marks a field that a sender must give."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()


class Cursor:
    """Hands out the fields of one message, in order."""

    def __init__(self, texts: Sequence[str], start: int = 0) -> None:
        self._texts = texts
        self._next = start

    def text(self, name: str) -> str:
        """Return the next field as it is.

        Raises:
            DataError: there is no next field.
        """
        if self._next >= len(self._texts):
            raise DataError(f"the message ends where {name} was expected")
        self._next += 1
        return self._texts[self._next - 1]

    def value(self, name: str, kind: Kind) -> Any:
        """Return the next field as a value.

        Raises:
            DataError: there is no next field, or it is not of that kind.
        """
        text = self.text(name)
        try:
            return kind.read(text)
        except ValueError:
            shown = text[:MAX_SHOWN_CHARACTERS]
            raise DataError(f"{name}: expected {kind.meaning}, found {shown!r}") from None

    def count(self, name: str) -> int:
        """Return the next field as a number of repetitions; empty means none.

        Raises:
            DataError: there is no next field, or it is not such a number.
        """
        count = int(self.value(f"number of {name}", INT) or 0)
        if count < 0:
            raise DataError(f"number of {name}: expected 0 or more, found {count}")
        return count

    @property
    def n_left(self) -> int:
        """How many fields nobody has taken."""
        return len(self._texts) - self._next


class Blank(NamedTuple):
    """A name of a declaration, and what stands for it where it is not on the wire."""

    name: str
    value: Any
    is_required: bool = False


class Item(Protocol):
    """One part of a declaration; reading and writing need the part `at` a version."""

    def read(self, cursor: Cursor, values: dict[str, Any]) -> None:
        """Take the part from the wire into `values`."""

    def write(self, values: Values, out: list[str]) -> None:
        """Append the part to `out`."""

    def blanks(self) -> Iterable[Blank]:
        """Return the names that the part declares, in whatever version."""

    def at(self, version: int) -> Item | None:
        """Return the part as one version sees it, None where that version has none."""


def _to_text(name: str, kind: Kind, value: Any) -> str:
    try:
        return kind.write(value)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{name}: expected {kind.meaning}, found {value!r}") from None


def _given(values: Values, name: str) -> Any:
    try:
        return values[name]
    except KeyError:
        raise DataError(f"{name} is needed and was not given") from None


@dataclass(frozen=True, slots=True)
class Field:
    """One named field.

    Attributes:
        default: what is sent when a sender leaves the field out, and what a reader finds where
            the field is not on the wire.
        since: first version that has the field.
        until: first version that no longer has it.
    """

    name: str
    kind: Kind
    default: Any = REQUIRED
    since: int = 0
    until: int = FOREVER

    def read(self, cursor: Cursor, values: dict[str, Any]) -> None:
        """Take the field into `values`."""
        values[self.name] = cursor.value(self.name, self.kind)

    def write(self, values: Values, out: list[str]) -> None:
        """Append the field to `out`."""
        value = _given(values, self.name)
        text = _to_text(self.name, self.kind, value)
        # An empty number where a client needs one makes it drop the whole message.
        if value is None and not text and self.default is REQUIRED:
            raise DataError(f"{self.name} is needed and was None")
        out.append(text)

    def blanks(self) -> Iterable[Blank]:
        """Return the field's name."""
        if self.default is REQUIRED:
            return (Blank(self.name, self.kind.unset, is_required=True),)
        return (Blank(self.name, self.default),)

    def at(self, version: int) -> Field | None:
        """Return the field, if the version has it."""
        return self if self.since <= version < self.until else None


@dataclass(frozen=True, slots=True)
class Const:
    """A field that always says the same and is not looked at when read."""

    text: str
    until: int = FOREVER

    def read(self, cursor: Cursor, _values: dict[str, Any]) -> None:
        """Pass over the field."""
        cursor.text("a fixed field")

    def write(self, _values: Values, out: list[str]) -> None:
        """Append the fixed text."""
        out.append(self.text)

    def blanks(self) -> Iterable[Blank]:
        """Return nothing: the field has no name."""
        return ()

    def at(self, version: int) -> Const | None:
        """Return the field, if the version has it."""
        return self if version < self.until else None


@dataclass(frozen=True, slots=True)
class Layout:
    """The items of a message, or of a nested mapping, as one version sees them."""

    items: tuple[Item, ...] = ()
    absent: Values = field(default_factory=dict)
    defaults: Values = field(default_factory=dict)

    @classmethod
    def of(cls, items: Iterable[Item], version: int) -> Layout:
        """Return the layout of `items` in `version`."""
        items = tuple(items)
        blanks = [blank for item in items for blank in item.blanks()]
        return cls(
            items=_at(items, version),
            absent={blank.name: blank.value for blank in blanks},
            defaults={blank.name: blank.value for blank in blanks if not blank.is_required},
        )

    def read(self, cursor: Cursor, values: dict[str, Any]) -> None:
        """Take all items into `values`, which keeps what was read if this raises."""
        for item in self.items:
            item.read(cursor, values)
        for name in self.absent.keys() - values.keys():
            values[name] = self.absent[name]

    def read_mapping(self, cursor: Cursor) -> dict[str, Any]:
        """Return all items as a mapping of their own."""
        values: dict[str, Any] = {}
        self.read(cursor, values)
        return values

    def write(self, given: Values, out: list[str]) -> None:
        """Append all items to `out`."""
        strangers = given.keys() - self.absent.keys()
        if strangers:
            raise DataError(f"no such field: {', '.join(sorted(strangers))}")
        values = {**self.defaults, **given}
        for item in self.items:
            item.write(values, out)


def _at(items: Iterable[Item], version: int) -> tuple[Item, ...]:
    parts = (item.at(version) for item in items)
    return tuple(part for part in parts if part is not None)


@dataclass(frozen=True, slots=True)
class Block:
    """A nested mapping that is always there.

    Attributes:
        ignored: names that a sender may give although this variant does not carry them.
    """

    name: str
    items: tuple[Item, ...]
    ignored: frozenset[str] = frozenset()
    layout: Layout = Layout()

    def read(self, cursor: Cursor, values: dict[str, Any]) -> None:
        """Take the nested mapping into `values`."""
        values[self.name] = self.layout.read_mapping(cursor)

    def write(self, values: Values, out: list[str]) -> None:
        """Append the fields of the nested mapping."""
        given = _given(values, self.name)
        self.layout.write({k: v for k, v in given.items() if k not in self.ignored}, out)

    def blanks(self) -> Iterable[Blank]:
        """Return the name of the mapping, which must be given."""
        return (Blank(self.name, {}, is_required=True),)

    def at(self, version: int) -> Block:
        """Return the block as one version sees it."""
        return replace(self, layout=Layout.of(self.items, version))


@dataclass(frozen=True, slots=True)
class Group:
    """A count, then that many nested mappings; a tuple when read."""

    name: str
    items: tuple[Item, ...]
    layout: Layout = Layout()

    def read(self, cursor: Cursor, values: dict[str, Any]) -> None:
        """Take the count and the mappings into `values`."""
        count = cursor.count(self.name)
        values[self.name] = tuple(self.layout.read_mapping(cursor) for _ in range(count))

    def write(self, values: Values, out: list[str]) -> None:
        """Append the count and the fields of each mapping."""
        entries = values[self.name]
        out.append(str(len(entries)))
        for entry in entries:
            self.layout.write(entry, out)

    def blanks(self) -> Iterable[Blank]:
        """Return the group's name, with no entries."""
        return (Blank(self.name, ()),)

    def at(self, version: int) -> Group:
        """Return the group as one version sees it."""
        return replace(self, layout=Layout.of(self.items, version))


@dataclass(frozen=True, slots=True)
class Listing:
    """A count, then that many values of one kind; a tuple when read."""

    name: str
    kind: Kind

    def read(self, cursor: Cursor, values: dict[str, Any]) -> None:
        """Take the count and the values."""
        count = cursor.count(self.name)
        values[self.name] = tuple(cursor.value(self.name, self.kind) for _ in range(count))

    def write(self, values: Values, out: list[str]) -> None:
        """Append the count and the values."""
        entries = values[self.name]
        out.append(str(len(entries)))
        out.extend(_to_text(self.name, self.kind, entry) for entry in entries)

    def blanks(self) -> Iterable[Blank]:
        """Return the list's name, with no entries."""
        return (Blank(self.name, ()),)

    def at(self, _version: int) -> Listing:
        """Return the list itself: all versions see the same."""
        return self


@dataclass(frozen=True, slots=True)
class Flagged:
    """A 0/1 flag, then a nested mapping if it is 1; None when it is 0."""

    name: str
    items: tuple[Item, ...]
    layout: Layout = Layout()

    def read(self, cursor: Cursor, values: dict[str, Any]) -> None:
        """Take the flag and, if it is set, the mapping."""
        is_there = cursor.value(f"flag of {self.name}", BOOL)
        values[self.name] = self.layout.read_mapping(cursor) if is_there else None

    def write(self, values: Values, out: list[str]) -> None:
        """Append the flag and, if there is a mapping, its fields."""
        given = values[self.name]
        out.append("0" if given is None else "1")
        if given is not None:
            self.layout.write(given, out)

    def blanks(self) -> Iterable[Blank]:
        """Return the mapping's name, with no mapping."""
        return (Blank(self.name, None),)

    def at(self, version: int) -> Flagged:
        """Return the flagged mapping as one version sees it."""
        return replace(self, layout=Layout.of(self.items, version))


@dataclass(frozen=True, slots=True)
class When:
    """Items of the surrounding mapping that are there only if a condition holds.

    Attributes:
        condition: gets the values that come before it on the wire, defaults filled in.
        since: first version that has the items.
    """

    condition: Callable[[Values], bool]
    items: tuple[Item, ...]
    since: int = 0

    def read(self, cursor: Cursor, values: dict[str, Any]) -> None:
        """Take the items if the condition holds."""
        if self.condition(values):
            for item in self.items:
                item.read(cursor, values)

    def write(self, values: Values, out: list[str]) -> None:
        """Append the items if the condition holds."""
        if self.condition(values):
            for item in self.items:
                item.write(values, out)

    def blanks(self) -> Iterable[Blank]:
        """Return the names of the items."""
        return (blank for item in self.items for blank in item.blanks())

    def at(self, version: int) -> When | None:
        """Return the items as one version sees them."""
        if version < self.since:
            return None
        return replace(self, items=_at(self.items, version))


Condition = Callable[[Values], bool]


def described(meaning: str, condition: Condition) -> Condition:
    """Return `condition` with words for people; "" where it always holds."""
    condition.__doc__ = meaning
    return condition


def meaning_of(condition: Condition) -> str:
    """Return what a condition says, as the end of "only if"; "" where it always holds."""
    sentence = " ".join((condition.__doc__ or "").split())
    return sentence.removeprefix("Return whether ").removesuffix(".")


def fields(kind: Kind, names: str) -> tuple[Field, ...]:
    """Return one field of `kind` for each blank-separated name; a sender must give them."""
    return tuple(Field(name, kind) for name in names.split())


def optional(kind: Kind, names: str) -> tuple[Field, ...]:
    """Return one field for each name that a sender may leave out, then sent as not set."""
    return tuple(Field(name, kind, kind.unset) for name in names.split())
