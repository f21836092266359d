"""The two processes of a day as they are started here: the real ones, with their steps counted.

Nothing of what they do is replaced: the store's transactions, the socket's writes, the messages
that arrive and the gateway's saving are wrapped, so that a step can be counted and the process be
killed right before or right after it. The gateway also keeps a log of its own, whose lines are
handed to the system one by one, so that a kill loses none: the truth that a day is judged by.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from ib_insync.connection import Connection
from ib_insync.decoder import Decoder
from sqlite_utils import Database

from momentum_lab.calendars import session_on_day_of
from momentum_lab.core.order import ORDER_REF_PREFIX, parse_order_ref
from momentum_lab.errors import MomentumLabError
from momentum_lab.gateway import server
from momentum_lab.gateway.checks import Rules
from momentum_lab.gateway.hub import Hub
from momentum_lab.gateway.orders import STOPS, ExchangeEvent, Executed
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.settings import GatewaySettings
from momentum_lab.gateway.wire import Request
from momentum_lab.live.ibkr import limiter
from momentum_lab.live.session import LiveSession
from momentum_lab.records.trade_store import TradeStore
from tests.kill_anywhere.day import CASH_USD, LATENCY_S, START, make_parameters
from tests.kill_anywhere.steps import Point, Steps

# A process that outlives whoever started it must not trade on for ever.
LIFE_S = 150
OPENED_S = START // 1_000_000_000
FAILED_EXIT = 3

_FACTS = (
    "order_id",
    "order_ref",
    "order_type",
    "action",
    "total_quantity",
    "parent_id",
    "oca_group",
)
_ORDER, _CANCEL = "3", "4"
# Messages of the broker by their number; ticks are too many, and end no order.
_HEARD = {
    "3": "orderStatus",
    "4": "error",
    "5": "openOrder",
    "9": "nextValidId",
    "11": "execDetails",
    "53": "openOrderEnd",
    "55": "execDetailsEnd",
    "59": "commissionReport",
    "61": "position",
    "62": "positionEnd",
    "84": "tickNews",
    "102": "completedOrdersEnd",
}


@dataclass(frozen=True)
class Plan:
    """How one process is started.

    Attributes:
        folder: of the day; everything it writes is in there.
        tape: the tape's folder.
        port: where the gateway listens, 0 for a free port.
        name: of the process's own files.
        point: where it goes wrong, None for nowhere.
    """

    folder: Path
    tape: Path
    port: int
    name: str
    point: Point | None = None

    @property
    def disk(self) -> Path:
        """Where the session writes; in some days a small disk of its own."""
        return self.folder / "disk"

    def file(self, kind: str) -> Path:
        """Return a file of this process."""
        return self.folder / f"{self.name}.{kind}"


# The calendar takes a second to load: once, before a process of a day is forked.
session_on_day_of(START)


def run_session(plan: Plan) -> None:
    """Be the session until the end of its day."""
    steps = _begin(plan)
    (plan.folder / "session.pid").write_text(str(os.getpid()), encoding="utf-8")
    _count_writes(steps)
    _count_sends(steps)
    _count_messages(steps)
    try:
        anyio.run(LiveSession(make_parameters(plan.port), root=plan.disk).run)
    except MomentumLabError:
        logging.getLogger(__name__).exception("the session has failed")
        sys.exit(FAILED_EXIT)
    finally:
        _tell_counts(plan, steps)


def run_gateway(plan: Plan) -> None:
    """Be the gateway until SIGTERM."""
    steps = _begin(plan)
    truth = Truth(plan.folder / "truth.jsonl")
    _count_requests(steps, truth)
    _count_account(steps, truth)
    _log_leaving(truth)
    settings = GatewaySettings(
        tape=plan.tape,
        port=plan.port,
        cash_usd=CASH_USD,
        slow=60.0,
        fast=20_000.0,
        watch_s=20.0,
        opened_s=OPENED_S,
        rules=Rules(latency_s=LATENCY_S),
        state=plan.folder / "state.json",
    )

    def report(text: str) -> None:
        if " listening on " in text:
            port = text.partition(" listening on ")[2].partition(" ")[0].rpartition(":")[2]
            draft = plan.file("port.draft")
            draft.write_text(port, encoding="utf-8")
            draft.rename(plan.file("port"))

    try:
        server.run(settings, report=report)
    finally:
        _tell_counts(plan, steps)


def _begin(plan: Plan) -> Steps:
    signal.alarm(LIFE_S)
    log = os.open(plan.file("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", force=True)
    logging.getLogger("ib_insync").setLevel(logging.WARNING)
    session = plan.folder / "session.pid"
    return Steps(plan.point, fired=plan.file("fired"), disk=plan.disk, session=session)


def _tell_counts(plan: Plan, steps: Steps) -> None:
    plan.file("counts.json").write_text(json.dumps(steps.counts), encoding="utf-8")


def _replace(owner: object, name: str, wrapper: Callable[..., object]) -> None:
    setattr(owner, name, wrapper)


# --- the session --------------------------------------------------------------------------


def _count_writes(steps: Steps) -> None:
    original = TradeStore._write

    @contextmanager
    def write(store: TradeStore) -> Iterator[Database]:
        # Two frames of the context manager's machinery lie between; the third one writes.
        caller = sys._getframe(2)
        kind = f"commit {caller.f_code.co_name.strip('_')}"
        event = caller.f_locals.get("event")
        if event is not None and kind == "commit advance_order":
            kind = f"{kind}: {event.value}"
        if kind == "commit log":
            kind = f"commit {caller.f_locals['table']}"
        with original(store) as database:
            yield database
            steps.before(kind)
        steps.after(kind)

    _replace(TradeStore, "_write", write)


def _count_sends(steps: Steps) -> None:
    """Count what leaves when it does: messages of one write are one moment."""
    original: Callable[[Connection, bytes], None] = Connection.sendMsg
    together = limiter.one_write
    known: dict[str, str] = {}
    collected: list[str] | None = None

    def send(connection: Connection, message: bytes) -> None:
        kind = _kind_of(message, known)
        if collected is not None:
            original(connection, message)
            collected.append(kind)
            return
        steps.before(kind)
        original(connection, message)
        steps.after(kind)

    @contextmanager
    def one_write(connection: Connection) -> Iterator[None]:
        nonlocal collected
        kinds: list[str] = []
        with together(connection):
            collected = kinds
            try:
                yield
            finally:
                collected = None
            for kind in kinds:
                steps.before(kind)
        for kind in kinds:
            steps.after(kind)

    _replace(Connection, "sendMsg", send)
    _replace(limiter, "one_write", one_write)


def _kind_of(message: bytes, known: dict[str, str]) -> str:
    """Return what a message is; `known` has the purpose of each order id that was sent."""
    if message.startswith(b"API\0"):
        return "sent opening"
    (length,) = struct.unpack_from(">I", message)
    fields = message[4 : 4 + length].decode().split("\0")
    if fields[0] == _CANCEL:
        return f"sent cancel of {known.get(fields[1], 'an earlier order')}"
    if fields[0] != _ORDER:
        return "sent request"
    is_known = fields[1] in known
    # A group is named after an entry, and stands before the order's own reference.
    named = [field for field in fields if field.startswith(ORDER_REF_PREFIX)]
    known[fields[1]] = purpose_of(named[-1] if named else "")
    return f"sent {'change of ' if is_known else ''}{known[fields[1]]}"


def purpose_of(order_ref: str) -> str:
    """Return what an order is for: entry, stop, target or exit."""
    name = parse_order_ref(order_ref)
    return name.purpose.value if name is not None else "foreign order"


def _count_messages(steps: Steps) -> None:
    original: Callable[[Decoder, list[str]], None] = Decoder.interpret

    def interpret(decoder: Decoder, fields: list[str]) -> None:
        name = _HEARD.get(fields[0])
        if name is None:
            original(decoder, fields)
            return
        kind = f"heard {name}"
        steps.before(kind)
        original(decoder, fields)
        steps.after(kind)

    _replace(Decoder, "interpret", interpret)


# --- the gateway --------------------------------------------------------------------------


class Truth:
    """The gateway's own log: each line is with the system before anything goes on."""

    def __init__(self, path: Path) -> None:
        """Go on with a file."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, what: str, **facts: object) -> None:
        """Add a line."""
        line = json.dumps({"what": what, "at_s": time.monotonic(), **facts}, default=str) + "\n"
        os.write(self._file, line.encode())

    def write_book(self, hub: Hub) -> None:
        """Add what is held, which stops protect it, and which orders protect nothing any more."""
        held = {
            symbol: position.quantity
            for symbol, position in hub.account.ledger.positions.items()
            if position.quantity
        }
        stops = [
            [order.symbol, order.ticket.side.value, order.remaining]
            for order in hub.exchange.live_orders()
            if order.ticket.order_type in STOPS
        ]
        orphans = [
            order.ticket.order_ref
            for order in hub.exchange.live_orders()
            if purpose_of(order.ticket.order_ref) in ("stop", "target")
            and order.symbol not in held
            and order.why_held != "child"
        ]
        self.write("book", held=held, stops=stops, orphans=orphans)


def _count_requests(steps: Steps, truth: Truth) -> None:
    answer = Session._answer

    def answered(session: Session, request: Request) -> None:
        kind = f"takes {request.name}"
        if request.name == "placeOrder":
            key = (session.client_id or 0, int(request.values["order_id"]))
            is_new = key not in session.hub.exchange.books.orders
            contract = request.values["contract"]
            truth.write(
                "order",
                is_new=is_new,
                symbol=contract["local_symbol"] or contract["symbol"],
                **{name: request.values.get(name) for name in _FACTS},
            )
            purpose = purpose_of(request.values["order_ref"])
            kind = f"takes {'' if is_new else 'change of '}{purpose}"
        steps.before(kind)
        answer(session, request)
        if request.name in ("placeOrder", "cancelOrder"):
            truth.write_book(session.hub)
        steps.after(kind)

    _replace(Session, "_answer", answered)


def _log_leaving(truth: Truth) -> None:
    leave = Hub.leave

    def left(hub: Hub, session: Session) -> None:
        truth.write("leave", client_id=session.client_id)
        leave(hub, session)

    _replace(Hub, "leave", left)


def _count_account(steps: Steps, truth: Truth) -> None:
    publish, save, admit = Hub.publish, Hub.save, Hub.admit

    def published(hub: Hub, events: Iterable[ExchangeEvent]) -> None:
        found = list(events)
        if not found:
            return
        kind = "tells fill" if any(isinstance(e, Executed) for e in found) else "tells status"
        steps.before(kind)
        publish(hub, found)
        for event in found:
            if isinstance(event, Executed):
                truth.write("fill", exec_id=event.execution.exec_id)
        truth.write_book(hub)
        steps.after(kind)

    def saved(hub: Hub, *, is_durable: bool = True) -> None:
        if not is_durable:
            save(hub, is_durable=False)
            return
        steps.before("saves")
        save(hub)
        steps.after("saves")

    def admitted(hub: Hub, session: Session, client_id: int) -> bool:
        truth.write("connect", client_id=client_id)
        steps.before("admits")
        is_admitted = admit(hub, session, client_id)
        steps.after("admits")
        return is_admitted

    _replace(Hub, "publish", published)
    _replace(Hub, "save", saved)
    _replace(Hub, "admit", admitted)
