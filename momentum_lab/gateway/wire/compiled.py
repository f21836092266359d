r"""Makes one Python function of a layout: it writes what the layout's items write, only faster.

Item by item, a message of five fields costs five method calls, a merge of two mappings and a
dozen look-ups. The declaration knows the outcome of all that beforehand, so it is turned once
into the source of a function. That of tickSize at version 176 reads, with names shortened:

    def write(given):
        if not given.keys() <= known:
            raise LookupError
        text = ""
        text += (
            f"2\0" f"6\0"
            f"{x if (x := given['req_id']).__class__ is int else write_1(x)}\0"
            f"{x if (x := given['tick_type']).__class__ is int else write_2(x)}\0"
            f"{number(x) if (x := given['size']).__class__ is float else ... write_3(x)}\0"
        )
        return text

Where the same few values are sent all day long, even the mapping is a burden: `compile_frame` makes
a function of the values themselves, and what all messages of one line begin with is written once.

Such a function knows only what is right. Where something is wrong (a field is missing, unknown or
of another kind) it raises something, and the caller lets the items themselves say what: there is
one wording of every error, and one place that decides what is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from momentum_lab.errors import DataError
from momentum_lab.gateway.wire.kinds import INLINE_NAMES, Kind
from momentum_lab.gateway.wire.layout import (
    REQUIRED,
    Block,
    Const,
    Field,
    Flagged,
    Group,
    Item,
    Layout,
    Listing,
    Values,
    When,
)

# Takes what was given, returns all fields, each with its NUL.
Writer = Callable[[Any], str]
# Takes values by position, returns a framed message.
Framer = Callable[..., bytes]
# Takes the first values, returns a framer of the others.
Binder = Callable[..., Framer]
# What a writer may raise where it does not write.
UNUSUAL: Final = (DataError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
# Spelled so that a digit may follow it.
_NUL: Final = r"\x00"
# What stands before a payload, by its length.
_PREFIXES: Final = tuple(length.to_bytes(4, "big") for length in range(256))


def compile_layout(layout: Layout, *, ignored: frozenset[str] = frozenset()) -> Writer:
    """Return a function that writes what `layout.write` writes; see `UNUSUAL`.

    Args:
        layout: the items, of one version.
        ignored: further names that may be given and are not written.
    """
    source = _Source(layout)
    source.add_items(layout.items)
    return source.function(known=frozenset(layout.absent) | ignored)


def compile_frame(
    layout: Layout, names: Sequence[str], *, n_bound: int, fixed: Values, unusual: Framer
) -> Binder:
    """Return a function of the first values of `names` that gives one of the others.

    That one gives a whole message, framed.

    Args:
        layout: the items of one version, the number of the message included.
        names: the values that both take, in this order; all others have their defaults.
        n_bound: how many of them the first function takes.
        fixed: values that are the same in all its messages; conditions may look at these alone.
        unusual: what is called instead, with the same values, where it cannot write them.

    Raises:
        LookupError: a field is needed that is neither in `names` nor in `fixed`, or one is unknown.
    """
    if not {*names, *fixed} <= layout.absent.keys():
        raise LookupError(f"no such fields: {sorted({*names, *fixed} - layout.absent.keys())}")
    source = _FrameSource(layout, names, fixed, n_bound=n_bound)
    source.add_items(layout.items)
    return source.binder(unusual)


class _Source:
    """The source of one writer while it grows: lines of code, and the names they use."""

    def __init__(self, layout: Layout) -> None:
        self._defaults = layout.defaults
        self._names: dict[str, Any] = {**INLINE_NAMES, "defaults": layout.defaults}
        self._lines: list[str] = []
        self._indent = "    "
        # What goes into the next `text += f"..."`.
        self._pieces: list[str] = []
        self._needs_values = False

    def function(self, *, known: frozenset[str]) -> Writer:
        """Return the finished function; `known` are all names that may be given."""
        self._end_text()
        values = ["    values = {**defaults, **given}"] if self._needs_values else []
        lines = [
            "def write(given):",
            "    if not given.keys() <= known:",
            "        raise LookupError",
            *values,
            "    text = ''",
            *self._lines,
            "    return text",
        ]
        names = {**self._names, "known": known}
        # Made of declarations alone: nothing that came over a wire gets into the source.
        exec("\n".join(lines), names)  # noqa: S102
        writer: Writer = names["write"]
        return writer

    def add_items(self, items: Iterable[Item]) -> None:
        """Append what writes `items`."""
        for item in items:
            self._add_item(item)

    def _add_item(self, item: Item) -> None:
        match item:
            case Field():
                self._add_field(item)
            case Const():
                self._add_expression(self._constant(item.text), _NUL)
            case When():
                self._add_condition(item)
            case Block():
                writer = compile_layout(item.layout, ignored=item.ignored)
                self._add_expression(f"{self._name(writer)}({self._given(item.name)})")
            case Flagged():
                writer = partial(_flagged_text, compile_layout(item.layout))
                self._add_expression(f"{self._name(writer)}({self._given(item.name)})")
            case Group():
                self._add_several(item.name, compile_layout(item.layout))
            case Listing():
                self._add_several(item.name, partial(_field_text, item.kind))
            case _:
                self._add_as_it_writes(item)

    def _add_field(self, field: Field) -> None:
        kind, name = field.kind, field.name
        write = partial(_written_unless_none, kind) if _must_not_be_none(field) else kind.write
        text = kind.inline.format(value=self._place(name), write=self._name(write))
        if self._may_be_absent(name):
            default = self._constant(write(self._defaults[name]))
            text = f"({text}) if {name!r} in given else {default}"
        self._add_expression(text, _NUL)

    def _add_several(self, name: str, writer: Writer) -> None:
        """Append a count, and what `writer` makes of each entry."""
        entries = self._given(name)
        self._add_expression(f"len({entries})", _NUL)
        self._add_expression(f"''.join(map({self._name(writer)}, {entries}))")

    def _add_condition(self, when: When) -> None:
        self._end_text()
        self._needs_values = True
        self._lines.append(f"{self._indent}if {self._name(when.condition)}(values):")
        self._indent += "    "
        self._lines.append(f"{self._indent}pass")
        self.add_items(when.items)
        self._end_text()
        self._indent = self._indent[4:]

    def _add_as_it_writes(self, item: Item) -> None:
        """Append what an item writes by itself: one that this compiler has nothing better for."""
        self._needs_values = True
        self._add_expression(f"{self._name(partial(_item_text, item))}(values)")

    def _add_expression(self, expression: str, after: str = "") -> None:
        self._pieces.append(f"{{{expression}}}{after}")

    def _end_text(self) -> None:
        if self._pieces:
            text = "".join(self._pieces)
            self._lines.append(f'{self._indent}text += f"{text}"')
            self._pieces.clear()

    def _place(self, name: str) -> str:
        """Return an expression for what was given under a name."""
        return f"given[{name!r}]"

    def _may_be_absent(self, name: str) -> bool:
        return name in self._defaults

    def _given(self, name: str) -> str:
        """Return an expression for what was given under a name, or stands for it."""
        if name not in self._defaults:
            return f"given[{name!r}]"
        return f"given.get({name!r}, {self._name(self._defaults[name])})"

    def _constant(self, text: str) -> str:
        is_plain = text.isascii() and text.isalnum()
        return repr(text) if is_plain or not text else self._name(text)

    def _name(self, value: Any) -> str:
        """Return a name for a value that the source uses."""
        name = f"n{len(self._names)}"
        self._names[name] = value
        return name


class _FrameSource(_Source):
    """The source of a function of values by position: flat messages, and nothing optional."""

    def __init__(
        self, layout: Layout, names: Sequence[str], fixed: Values, *, n_bound: int
    ) -> None:
        super().__init__(layout)
        self._places = {name: f"v{number}" for number, name in enumerate(names)}
        self._bound, self._free = names[:n_bound], names[n_bound:]
        # What stands before the first value that differs from message to message.
        self._head: list[str] = []
        known = {**layout.defaults, **fixed}
        # Without what differs from message to message, so that no condition is decided by that.
        self._fixed = {name: known[name] for name in known.keys() - self._places.keys()}

    def binder(self, unusual: Framer) -> Binder:
        """Return the finished function."""
        values = ", ".join(self._places.values())
        bound, free = (
            ", ".join(self._places[name] for name in names) for names in (self._bound, self._free)
        )
        lines = [
            f"def bind({bound}):",
            "    try:",
            f'        head = f"{"".join(self._head)}"',
            "    except unusual_values:",
            f"        return lambda {free}: unusual({values})",
            f"    def frame({free}):",
            "        try:",
            f'            payload = f"{{head}}{"".join(self._pieces)}".encode()',
            # A long one has no prefix there: that is a LookupError.
            "            return prefixes[len(payload)] + payload",
            "        except unusual_values:",
            f"            return unusual({values})",
            "    return frame",
        ]
        own = {"unusual": unusual, "unusual_values": UNUSUAL, "prefixes": _PREFIXES}
        names = {**self._names, **own}
        # As above: made of declarations alone.
        exec("\n".join(lines), names)  # noqa: S102
        binder: Binder = names["bind"]
        return binder

    def _add_item(self, item: Item) -> None:
        match item:
            case Field() if item.name not in self._places:
                self._add_expression(self._constant(item.kind.write(self._fixed[item.name])), _NUL)
            case When():
                if item.condition(self._fixed):
                    self.add_items(item.items)
            case Field() | Const():
                is_head = not self._head and isinstance(item, Field) and item.name in self._free
                if is_head:
                    self._head, self._pieces = self._pieces, []
                super()._add_item(item)
            case _:
                raise LookupError(f"{item!r} is not flat")

    def _place(self, name: str) -> str:
        return self._places[name]

    def _may_be_absent(self, name: str) -> bool:
        return False


def _must_not_be_none(field: Field) -> bool:
    if field.default is not REQUIRED:
        return False
    try:
        return not field.kind.write(None)
    except (TypeError, ValueError):
        return False


def _written_unless_none(kind: Kind, value: Any) -> str:
    if value is None:
        raise ValueError
    return kind.write(value)


def _flagged_text(writer: Writer, given: Values | None) -> str:
    return "0\0" if given is None else "1\0" + writer(given)


def _field_text(kind: Kind, value: Any) -> str:
    return kind.write(value) + "\0"


def _item_text(item: Item, values: Values) -> str:
    out: list[str] = []
    item.write(values, out)
    return "".join(f"{text}\0" for text in out)
