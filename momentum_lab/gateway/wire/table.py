"""The messages of one direction, by name and by number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from momentum_lab.errors import DataError
from momentum_lab.gateway.wire.compiled import (
    UNUSUAL,
    Binder,
    Writer,
    compile_frame,
    compile_layout,
)
from momentum_lab.gateway.wire.layout import FOREVER, Const, Cursor, Item, Layout, Values


@dataclass(frozen=True, slots=True)
class Message:
    """The declaration of one message: its number on the wire, its name, its items."""

    number: int
    name: str
    items: tuple[Item, ...] = ()


class UnreadableError(DataError):
    """A message cannot be read; `values` holds what could be read before the fault."""

    def __init__(self, reason: str, values: Values) -> None:
        super().__init__(reason)
        self.values = values


class Table:
    """All messages of one direction."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self.messages = {message.name: message for message in messages}
        # Looked up by the text as it came: "01", "1.0" and " 1" are no ids.
        self._by_number = {str(m.number): m for m in self.messages.values()}
        self._layouts: dict[tuple[str, int], Layout] = {}
        self._encoders: dict[int, Encoder] = {}

    def find(self, number: str) -> Message | None:
        """Return the message with this number on the wire, if there is one."""
        return self._by_number.get(number)

    def layout(self, name: str, version: int) -> Layout:
        """Return the layout of a message in one version.

        Raises:
            DataError: there is no message of that name.
        """
        key = (name, version)
        if key not in self._layouts:
            if name not in self.messages:
                raise DataError(f"no such message: {name}")
            self._layouts[key] = Layout.of(self.messages[name].items, version)
        return self._layouts[key]

    def select(self, name: str, values: Values) -> dict[str, Any]:
        """Return those of `values` for which the message has a field in some version.

        What placeOrder brought becomes the start of an openOrder in this way.
        """
        known = self.layout(name, FOREVER).absent
        return {key: value for key, value in values.items() if key in known}

    def encoder(self, version: int) -> Encoder:
        """Return what encodes messages for one version, always the same."""
        if version not in self._encoders:
            self._encoders[version] = Encoder(self, version)
        return self._encoders[version]

    def encode(self, name: str, values: Values, version: int) -> bytes:
        """Return one framed message.

        Raises:
            DataError: an unknown message or field, a missing field or a value of the wrong kind.
        """
        return self.encoder(version).encode(name, values)

    def encode_by_items(self, name: str, values: Values, version: int) -> bytes:
        """Return the same as `encode`, slowly: what a declaration means by definition.

        Raises:
            DataError: as `encode`; this is where what is wrong is found and worded.
        """
        layout = self.layout(name, version)
        out = [str(self.messages[name].number)]
        try:
            layout.write(values, out)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        out.append("")
        return frame("\0".join(out).encode("utf-8", "replace"))

    def decode(self, message: Message, texts: Sequence[str], version: int) -> dict[str, Any]:
        """Return the values of a message; `texts` are its fields, the number included.

        Raises:
            UnreadableError: a field is missing, left over or of the wrong kind.
        """
        cursor = Cursor(texts, start=1)
        values: dict[str, Any] = {}
        try:
            self.layout(message.name, version).read(cursor, values)
        except DataError as error:
            raise UnreadableError(f"{message.name}: {error}", values) from None
        if cursor.n_left:
            reason = f"{message.name}: {cursor.n_left} left over at version {version}"
            raise UnreadableError(reason, values)
        return values


class Encoder:
    """Encodes messages for one version, with writers that are compiled when first needed."""

    def __init__(self, table: Table, version: int) -> None:
        """Encode the messages of `table`."""
        self._table = table
        self._version = version
        self._writers: dict[str, Writer] = {}

    def encode(self, name: str, values: Values) -> bytes:
        """Return one framed message; see `Table.encode`."""
        return self.encode_all(((name, values),))[0]

    def encode_all(self, messages: Sequence[tuple[str, Values]]) -> list[bytes]:
        """Return framed messages in their order; see `Table.encode`."""
        writers = self._writers
        try:
            payloads = [writers[name](values).encode() for name, values in messages]
        except UNUSUAL:
            return [self._encode_unusual(name, values) for name, values in messages]
        return [len(payload).to_bytes(4, "big") + payload for payload in payloads]

    def _encode_unusual(self, name: str, values: Values) -> bytes:
        # Compiled now, if it was not yet: then the next one is not unusual any more.
        writer = self.writer(name)
        try:
            return frame(writer(values).encode())
        except UNUSUAL:
            return self._table.encode_by_items(name, values, self._version)

    def writer(self, name: str) -> Writer:
        """Return the compiled writer of a message, its number included.

        Raises:
            DataError: there is no message of that name.
        """
        if name not in self._writers:
            self._writers[name] = compile_layout(self._numbered(name))
        return self._writers[name]

    def binder(
        self, name: str, names: Sequence[str], fixed: Values | None = None, *, n_bound: int = 0
    ) -> Binder:
        """Return a function of the first values of `names` that gives one of the others.

        That one gives `encode`'s bytes. What many messages have in common is written once so.

        Args:
            name: a message without nested parts.
            names: what both functions take, in this order; other fields have their defaults.
            n_bound: how many of them the first one takes.
            fixed: further values, the same in all its messages.

        Raises:
            DataError: there is no message of that name.
            LookupError: a field is missing or unknown.
        """
        always = dict(fixed or {})

        def unusual(*values: Any) -> bytes:
            return self.encode(name, {**dict(zip(names, values, strict=True)), **always})

        return compile_frame(
            self._numbered(name), names, n_bound=n_bound, fixed=always, unusual=unusual
        )

    def _numbered(self, name: str) -> Layout:
        layout = self._table.layout(name, self._version)
        number = Const(str(self._table.messages[name].number))
        return replace(layout, items=(number, *layout.items))


def frame(payload: bytes) -> bytes:
    """Return `payload` behind its length, an unsigned 32-bit big-endian number."""
    return len(payload).to_bytes(4, "big") + payload
