from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from momentum_lab.core.market import Side
from momentum_lab.errors import RecordError
from momentum_lab.gateway import state
from momentum_lab.gateway.exchange import Exchange
from tests.gateway_factories import NOON, exchange, market, ticket

ACCOUNT = "DU1234567"
SYMBOLS = ("SPY", "IBM")


def traded() -> Exchange:
    found = exchange(market())
    found.place(ticket(order_ref="entry"))
    found.place(ticket(Side.SELL, 40, order_id=2))
    found.place(ticket(order_id=3, order_type="LMT", limit_usd=90.0, client_id=5))
    found.place(ticket(quantity=10**7, order_id=4))
    found.place(ticket(order_id=5, transmit=False))
    return found


def save(found: Exchange, path: Path) -> None:
    state.save(path, tape_id="t1", now_ns=NOON, has_streamed=True, exchange=found, hidden={})


def test_a_saved_account_comes_back_as_it_was(tmp_path: Path) -> None:
    before = traded()
    save(before, tmp_path / "state.json")

    saved = state.load(tmp_path / "state.json", tape_id="t1", account=ACCOUNT, symbols=SYMBOLS)
    assert saved is not None
    after = exchange(market())
    state.restore(saved, after)

    assert (saved.now_ns, saved.has_streamed) == (NOON, True)
    assert after.live_orders() == before.live_orders()
    assert after.done_today() == before.done_today()
    assert after.books.executions == before.books.executions
    assert after.books.next_ids == before.books.next_ids
    assert after.account.value() == before.account.value()
    assert after.books.last_perm_id == before.books.last_perm_id
    assert after.books.next_exec_id() == before.books.next_exec_id()


def test_a_file_of_before_orders_named_their_exchange_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    save(traded(), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    for order in content["exchange"]["orders"]:
        del order["ticket"]["exchange"]
    path.write_text(json.dumps(content), encoding="utf-8")
    saved = state.load(path, tape_id="t1", account=ACCOUNT, symbols=SYMBOLS)
    assert saved is not None
    assert {order.ticket.exchange for order in saved.exchange.orders} == {"SMART"}


def test_an_untransmitted_order_is_lost_with_the_gateway(tmp_path: Path) -> None:
    save(traded(), tmp_path / "state.json")
    saved = state.load(tmp_path / "state.json", tape_id="t1", account=ACCOUNT, symbols=SYMBOLS)
    after = exchange(market())
    assert saved is not None
    state.restore(saved, after)
    assert (1, 5) not in after.books.orders
    assert after.books.next_order_id(1) == 6


def test_no_file_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    assert state.load(path, tape_id="t1", account=ACCOUNT, symbols=SYMBOLS) is None


def test_saving_leaves_no_other_file(tmp_path: Path) -> None:
    save(traded(), tmp_path / "new" / "state.json")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    ("tape_id", "account", "word"), [("t2", ACCOUNT, "tape"), ("t1", "DU7654321", "account")]
)
def test_the_state_of_something_else_is_refused(
    tmp_path: Path, tape_id: str, account: str, word: str
) -> None:
    save(traded(), tmp_path / "state.json")
    with pytest.raises(RecordError, match=f"another {word}"):
        state.load(tmp_path / "state.json", tape_id=tape_id, account=account, symbols=SYMBOLS)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', "not json", "[" * 100_000])
def test_what_is_no_state_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match="not a state file"):
        state.load(path, tape_id="t1", account=ACCOUNT, symbols=SYMBOLS)


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("exchange",), None, "not a state file"),
        (("now_ns",), -1, r"state.json.now_ns: expected 0 to \d+ nanoseconds, found -1"),
        (("now_ns",), 10**19, "expected 0 to .* found 10000000000000000000"),
        (("now_ns",), "soon", "state.json.now_ns: expected a whole number, found 'soon'"),
        (("more",), 1, "state.json: expected no 'more', found 1"),
        (("exchange", "cash_usd"), "x", "exchange.cash_usd: expected a number, found 'x'"),
        (("exchange", "cash_usd"), math.nan, "exchange.cash_usd: expected a finite number"),
        (("exchange", "next_ids"), [1], r"exchange.next_ids: expected a mapping, found \[1\]"),
        (("exchange", "next_ids"), {"x": 1}, "next_ids: expected a client id, found 'x'"),
        (("exchange", "last_perm_id"), "7", "last_perm_id: expected a whole number, found '7'"),
        (("exchange", "executions"), 5, "exchange.executions: expected a list, found 5"),
        (("exchange", "orders"), {"a": 1}, "exchange.orders: expected a list"),
        (
            ("exchange", "positions", 0, "quantity"),
            "5",
            r"exchange.positions\[0\].quantity: expected a whole number, found '5'",
        ),
        (("exchange", "positions", 0, "symbol"), "ZZZ", "expected symbols of its tape"),
        (("exchange", "positions", 0), {"quantity": 1}, r"positions\[0\].symbol: expected a value"),
        (("exchange", "orders", 0, "ticket", "side"), "UP", r"\[0\].ticket.side: expected one"),
        (("exchange", "orders", 0, "ticket", "stop_usd"), True, "stop_usd: expected a number"),
        (("hidden",), {"ZZZ": []}, "expected symbols of its tape, found 'ZZZ'"),
    ],
)
def test_a_damaged_file_is_refused_by_name_and_field_and_left_alone(
    tmp_path: Path, keys: tuple[Any, ...], value: object, words: str
) -> None:
    path = tmp_path / "state.json"
    save(traded(), path)
    content = place = json.loads(path.read_text(encoding="utf-8"))
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(content), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(RecordError, match=words):
        state.load(path, tape_id="t1", account=ACCOUNT, symbols=SYMBOLS)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(RecordError, match="cannot be written"):
        save(traded(), tmp_path / "file" / "state.json")
