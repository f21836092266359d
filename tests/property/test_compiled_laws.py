"""Laws of the compiled writers: they write what the declared items write, and refuse the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from momentum_lab.errors import DataError
from momentum_lab.gateway.wire import REPLIES, REQUESTS, kinds, layout
from momentum_lab.gateway.wire.compiled import compile_layout
from momentum_lab.gateway.wire.connection import NEWEST_VERSION, OLDEST_VERSION
from momentum_lab.gateway.wire.table import Message, Table
from tests.property.test_wire_laws import draw_values

TABLES = [REQUESTS, REPLIES]
MESSAGES = [
    pytest.param(table, name, id=name) for table in TABLES for name in sorted(table.messages)
]
versions = st.integers(OLDEST_VERSION, NEWEST_VERSION)
many_drawn = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Word(str, Enum):
    """A text that `str` would spell otherwise."""

    BUY = "BUY"


# Values of every kind, of no kind, and such as only look like one.
oddities: st.SearchStrategy[Any] = st.sampled_from(
    [
        None, "", "x", "a\0b", "ä\\", "\ud800", "{x}", "12", b"x", Word.BUY,
        True, False, 0, 1, 2, -1, 7, 10**400, 2**53 + 1, 2**63, np.int64(5), np.bool_(True),
        0.0, -0.0, 1.0, 1.5, 1e-7, 1e16, 1e300, kinds.UNSET_DOUBLE, math.inf, -math.inf, math.nan,
        np.float64(2.5), np.float32(0.1), Fraction(1, 3), 1j,
        (), [1], [None], {}, {"x": 1}, [{}], [{"x": 1}], object,
    ]
)  # fmt: skip
names = st.sampled_from(["stranger", "", "given", "text", "exchange", "primary_exchange"])


def outcome(encode: Callable[..., Any], *arguments: Any) -> Any:
    """Return the bytes, or the kind and the words of the error."""
    try:
        return encode(*arguments)
    except Exception as error:  # noqa: BLE001 - whichever comes is what is compared
        return type(error), str(error)


def spoil(data: st.DataObject, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with up to three of them replaced, removed or added, at any depth."""
    found = dict(values)
    for _ in range(data.draw(st.integers(0, 3), label="n_changes")):
        change = data.draw(st.sampled_from(["replace", "remove", "add", "inside"]), label="change")
        if change == "add":
            found[data.draw(names, label="name")] = data.draw(oddities, label="value")
        elif found:
            name = data.draw(st.sampled_from(sorted(found)), label="name")
            _change(data, found, change, name)
    return found


def _change(data: st.DataObject, found: dict[str, Any], change: str, name: str) -> None:
    value = found[name]
    if change == "remove":
        del found[name]
    elif change == "inside" and isinstance(value, Mapping):
        found[name] = spoil(data, value)
    elif change == "inside" and isinstance(value, tuple) and value:
        is_nested = isinstance(value[0], Mapping)
        first = spoil(data, value[0]) if is_nested else data.draw(oddities, label="entry")
        found[name] = (first, *value[1:])
    else:
        found[name] = data.draw(oddities, label="value")


@pytest.mark.parametrize(("table", "name"), MESSAGES)
@given(data=st.data(), version=versions)
@many_drawn
def test_compiled_writer_writes_every_right_message_itself(
    table: Table, name: str, data: st.DataObject, version: int
) -> None:
    """Without the help that a wrong message gets, so that nothing is slow in secret."""
    values = draw_values(data, table.layout(name, version))

    text = table.encoder(version).writer(name)(values)

    assert text.encode() == table.encode_by_items(name, values, version)[4:]


@pytest.mark.parametrize(("table", "name"), MESSAGES)
@given(data=st.data(), version=versions)
@many_drawn
def test_any_mapping_is_encoded_or_refused_as_its_items_do(
    table: Table, name: str, data: st.DataObject, version: int
) -> None:
    values = spoil(data, draw_values(data, table.layout(name, version)))

    found = outcome(table.encode, name, values, version)

    assert found == outcome(table.encode_by_items, name, values, version)


@pytest.mark.parametrize(("table", "name"), MESSAGES)
@given(version=versions)
@settings(deadline=None, max_examples=22)
def test_what_may_be_left_out_is_written_as_its_items_do(
    table: Table, name: str, version: int
) -> None:
    seen = table.layout(name, version)
    needed = {key: seen.absent[key] for key in seen.absent.keys() - seen.defaults.keys()}
    values = {key: "1" if value == "" else value or 1 for key, value in needed.items()}
    values.update({key: {} for key, value in needed.items() if value == {}})

    found = outcome(table.encode, name, values, version)

    assert found == outcome(table.encode_by_items, name, values, version)


@given(value=st.floats() | st.integers() | oddities)
def test_every_kind_is_written_inline_as_by_itself(value: Any) -> None:
    for kind in (value for value in vars(kinds).values() if isinstance(value, kinds.Kind)):
        seen = layout.Layout.of([layout.Field("it", kind, kind.unset)], OLDEST_VERSION)
        writer = compile_layout(seen)
        try:
            expected: Any = kind.write(value) + "\0"
        except (TypeError, ValueError, OverflowError) as error:
            expected = type(error), str(error)

        assert outcome(writer, {"it": value}) == expected


class Twice:
    """An item that the compiler does not know."""

    def read(self, cursor: layout.Cursor, values: dict[str, Any]) -> None:
        values["word"] = cursor.text("word")
        cursor.text("word")

    def write(self, values: layout.Values, out: list[str]) -> None:
        if values["word"] == "never":
            raise DataError("never say never")
        out += [values["word"]] * 2

    def blanks(self) -> list[layout.Blank]:
        return [layout.Blank("word", "none")]

    def at(self, _version: int) -> Twice:
        return self


@pytest.mark.parametrize(
    ("values", "expected"),
    [({"word": "a"}, b"7\0a\0a\0"), ({}, b"7\0none\0none\0"), ({"word": "never"}, "never")],
)
def test_item_of_a_new_kind_writes_itself(values: Mapping[str, Any], expected: Any) -> None:
    table = Table([Message(7, "twice", (Twice(),))])

    found = outcome(table.encode, "twice", values, OLDEST_VERSION)

    if isinstance(expected, bytes):
        assert found[4:] == expected
    else:
        assert found == (DataError, "twice: never say never")
