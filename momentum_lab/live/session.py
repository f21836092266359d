"""`LiveSession`: wires the services, runs them in one task group, drains, seals the record.

A session runs from `run()` to the end of the trading session, to a stop request, or to a signal.
At its end nothing more is entered, what is open is closed (while the connection allows it), every
headline has its decision, and the result says plainly what is still open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.abc

from momentum_lab.calendars import prepare_calendar, session_on_day_of
from momentum_lab.clock import Alarm, Clock, ReplayClock, SystemClock, now_or_none, wall_ns
from momentum_lab.errors import BrokerError, MomentumLabError, ParameterError, RecordError
from momentum_lab.live.auditor import Auditor
from momentum_lab.live.collector import rare_collections
from momentum_lab.live.commands import CommandDesk
from momentum_lab.live.control_watch import ControlWatch
from momentum_lab.live.decisions import DecisionBook
from momentum_lab.live.detection_engine import DetectionEngine
from momentum_lab.live.execution_service import ExecutionService
from momentum_lab.live.housekeeper import Housekeeper
from momentum_lab.live.ibkr.connector import IBKRConnector
from momentum_lab.live.ibkr.synchronisation import BrokerSnapshot
from momentum_lab.live.news_handler import Assignment, NewsHandler
from momentum_lab.live.position_manager import PositionManager
from momentum_lab.live.process_signals import signals_call
from momentum_lab.live.run_diary import RunDiary
from momentum_lab.live.run_identity import check_run_id, new_run_id
from momentum_lab.parameters import Parameters, refuse_live
from momentum_lab.records.capture import QuoteCapture
from momentum_lab.records.control import control_path
from momentum_lab.records.ledger import Row
from momentum_lab.records.lock import Lease, exclusive, exclusive_account
from momentum_lab.records.trade_store import TradeStore

_log = logging.getLogger(__name__)

_COMMISSIONS_S = 5.0


@dataclass(frozen=True, slots=True)
class SessionResult:
    """How a session ended.

    Attributes:
        run_id: the run.
        end_reason: why it ended.
        open_trades: rows of the trades that are still open; empty when flat.
        database: the trade store.
        folder: where log and captured quotes of the run are.
    """

    run_id: str
    end_reason: str
    open_trades: tuple[Row, ...]
    database: Path
    folder: Path


@dataclass(slots=True)
class LiveSession:
    """One run of the trading system.

    Attributes:
        parameters: the checked set; of `mode: live` every place must say so.
        root: folder that the record's paths are relative to.
        run_id: name of the run; made of the time when empty.
    """

    parameters: Parameters
    root: Path = field(default_factory=Path)
    run_id: str = ""
    _clock: Clock = field(init=False)
    _store: TradeStore = field(init=False)
    _connector: IBKRConnector = field(init=False)
    _execution: ExecutionService = field(init=False)
    _manager: PositionManager = field(init=False)
    _engine: DetectionEngine = field(init=False)
    _diary: RunDiary = field(init=False)
    _book: DecisionBook = field(init=False)
    _auditor: Auditor = field(init=False)
    _capture: QuoteCapture = field(init=False)
    _desk: CommandDesk = field(init=False)
    _control: ControlWatch = field(init=False)
    _held: contextlib.ExitStack = field(init=False)
    _lease: Lease = field(init=False)
    _holds_account: bool = False
    _stop: anyio.Event = field(init=False)
    _ending: Alarm = field(init=False, default_factory=Alarm)
    _is_ready: anyio.Event = field(init=False)
    _stop_reason: str = ""
    _failure: Exception | None = None

    def __post_init__(self) -> None:
        """Refuse a live session that was not meant; name the run."""
        refuse_live(self.parameters)
        self.run_id = check_run_id(self.run_id or new_run_id(self.parameters.mode))

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.root / self.parameters.records.runs / self.run_id

    @property
    def database(self) -> Path:
        """The trade store's file."""
        return self.root / self.parameters.records.database

    def stop(self, reason: str = "stop requested") -> None:
        """Ask the session to end in good order; a second call changes nothing."""
        if not self._stop.is_set():
            self._stop_reason = reason
            self._stop.set()
            self._ending.set()

    async def run(self) -> SessionResult:
        """Trade until the session's end.

        Raises:
            ParameterError: account or universe refused.
            BrokerError: no first connection in time, or the client id is taken.
            RecordError: the store cannot be opened, or another session uses it.
        """
        with contextlib.ExitStack() as held:
            self._held = held
            self._lease = held.enter_context(exclusive(self.database, self.run_id))
            held.enter_context(rare_collections())
            return await self._run_alone()

    async def _run_alone(self) -> SessionResult:
        replay = self.parameters.replay
        is_replay = self.parameters.mode == "replay"
        self._clock = ReplayClock(replay.speed) if is_replay else SystemClock()
        self._stop, self._is_ready = anyio.Event(), anyio.Event()
        self._store = TradeStore(self.database)
        if is_replay:
            self._store.commit_lightly()
        self._diary = RunDiary(
            self._store, self._clock, run_id=self.run_id, parameters=self.parameters
        )
        try:
            self._diary.begin()
        except RecordError:
            self._store.close()
            raise
        self._begin()
        try:
            with signals_call(lambda: self.stop("signal")):
                await self._run_services()
            try:
                result = self._end()
            finally:
                # Also where the record could not be ended: who asks for the session's state is
                # told, and what was captured is kept.
                self._control.end(self._stop_reason)
                self._capture.close()
            if self._failure is not None:
                raise self._failure
            return result
        finally:
            self._connector.close()
            self._execution.close_streams()
            self._control.close()
            self._store.close()

    def _begin(self) -> None:
        self._capture = QuoteCapture(self.folder / "quotes.parquet")
        self._connector = IBKRConnector(
            self.parameters,
            clock=self._clock,
            on_transition=self._diary.note_transition,
            on_incident=self._diary.note_incident,
            on_heard=self._capture.add,
        )
        self._book = DecisionBook(self._store, self._clock, run_id=self.run_id)
        self._execution = ExecutionService(
            self._connector,
            book=self._book,
            clock=self._clock,
            parameters=self.parameters,
            on_incident=self._diary.note_incident,
        )
        self._manager = PositionManager(
            self._connector,
            self._execution,
            self._store,
            clock=self._clock,
            parameters=self.parameters,
            on_incident=self._diary.note_incident,
        )
        self._auditor = Auditor(
            self._connector,
            self._execution,
            self._store,
            run_id=self.run_id,
            clock=self._clock,
            every_s=self.parameters.execution.audit_every_s,
            on_incident=self._diary.note_incident,
        )
        self._desk = CommandDesk(
            self._connector,
            self._execution,
            self._manager,
            self._store,
            stop=self.stop,
            is_stopping=self._stop.is_set,
            retry_s=self.parameters.execution.exit_retry_s,
            on_incident=self._diary.note_incident,
        )
        self._desk.leases.append(self._lease)
        self._control = ControlWatch(
            control_path(self.database),
            self.run_id,
            self.parameters.mode,
            obey=self._desk.obey,
            life=self._desk.life,
            begin=self._desk.begin_as_told,
            on_incident=self._diary.note_incident,
        )
        self._control.start()
        # The calendar takes a second to load: now, not between a headline and its order.
        prepare_calendar(None if self._clock.is_replay else wall_ns())

    async def _run_services(self) -> None:
        queue: asyncio.Queue[Assignment] = asyncio.Queue(self.parameters.news.queue_size)
        self._engine = DetectionEngine(
            queue,
            self._connector,
            self._execution,
            book=self._book,
            clock=self._clock,
            parameters=self.parameters,
        )
        news = NewsHandler(
            self._connector.subscribe_to_news(),
            queue,
            book=self._book,
            clock=self._clock,
            parameters=self.parameters.news,
        )
        async with anyio.create_task_group() as group:
            for name, service in (
                ("connector", lambda: self._connector.run(self._reconcile)),
                ("execution service", self._execution.run),
                ("position manager", self._manager.run),
                ("detection engine", self._engine.run),
                ("news handler", news.run),
                ("housekeeping", self._keep_house),
                ("gateway watch", self._watch_gateway),
                ("auditor", self._auditor.run),
                ("control watch", self._control.run),
                ("command desk", self._desk.run),
            ):
                group.start_soon(self._supervise, name, service, name=name)
            await self._until_the_end()
            group.cancel_scope.cancel()

    async def _supervise(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        """Run a service; if it fails the session ends in order, by the services that are left.

        This is the outermost frame and the only catch-all: what is open is closed if it can be,
        the failure is recorded, and the session raises it in the end.
        """
        try:
            await service()
        except Exception as error:  # noqa: BLE001 - see above; raised again by `run`
            if not isinstance(error, MomentumLabError):
                _log.exception("%s failed", name)
            self._failure = error
            self._diary.note_incident("service failed", f"{name}: {_words(error)}")
            self.stop(f"{name}: {_words(error)}")

    async def _until_the_end(self) -> None:
        end_ns = await self._end_of_day()
        if end_ns is not None:
            await self._clock.wait_for(self._ending, until_ns=end_ns)
        if not self._stop.is_set():
            self.stop("end of the trading session")
        _log.info("session: ending reason=%s", self._stop_reason)
        self._execution.accepts_entries = False
        await self._drain()
        self._book.close()

    async def _end_of_day(self) -> int | None:
        """Return when today's session closes, once the clock is known; None when stopped first."""
        limit_s = self.parameters.connection.first_connection_s
        with anyio.move_on_after(limit_s):
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_after, self._stop, group.cancel_scope)
                await self._is_ready.wait()
                group.cancel_scope.cancel()
        if not self._is_ready.is_set():
            if not self._stop.is_set():
                self._failure = self._no_connection(limit_s)
                self.stop(str(self._failure))
            return None
        now_ns = self._clock.now_ns()
        self._diary.note_start(now_ns)
        session = session_on_day_of(now_ns)
        if session is None or now_ns >= session.close_ns:
            self.stop("the exchange is closed for today")
            return None
        return session.close_ns

    async def _watch_gateway(self) -> None:
        """Fail once the gateway of a replay is gone for too long: nobody may start it again.

        A broker comes back; a paper session waits for it without end.
        """
        limit_s = self.parameters.replay.give_up_s
        if not self._clock.is_replay or not limit_s:
            return
        await self._is_ready.wait()
        while True:
            with anyio.move_on_after(limit_s) as patience:
                while not self._connector.is_operational():
                    await self._connector.wait_changed()
            if patience.cancelled_caught:
                raise self._no_connection(limit_s)
            await self._connector.wait_changed()

    def _no_connection(self, limit_s: float) -> BrokerError:
        where = f"{self.parameters.connection.host}:{self.parameters.connection.port}"
        cause = self._connector.last_loss or "no answer"
        return BrokerError(f"no connection to {where} within {limit_s:g} s: {cause}")

    async def _drain(self) -> None:
        """Close what is open, for as long as an exit may take."""
        if not self._is_ready.is_set():
            return
        # First, since nothing of it can fail.
        self._manager.flatten()
        try:
            self._tell_closed()
            await self._execution.cancel_entries()
        except RecordError as error:
            # The guard cancels them as well, as soon as the record can be read.
            _log.warning("drain: %s", error)
        with anyio.move_on_after(self.parameters.execution.drain_s):
            await self._until_settled()
            if self._connector.is_operational():
                # An order that we take for ended may live at the broker: nobody would cancel it.
                await self._auditor.audit()
                await self._until_settled()
        with anyio.move_on_after(_COMMISSIONS_S):
            # The cost of the last fill comes after it: without it the trade's profit is wrong.
            while self._lacks_commissions():  # noqa: ASYNC110 - the store sets no event
                await anyio.sleep(0.05)

    def _lacks_commissions(self) -> bool:
        try:
            return self._store.lacks_commissions(run_id=self.run_id)
        except RecordError:
            # Nobody knows: it may be read in a moment.
            return True

    def _tell_closed(self) -> None:
        """Say which positions stay open, since no exit is sent while the exchange is closed."""
        now_ns = self._clock.now_ns()
        session = session_on_day_of(now_ns)
        if session is not None and session.holds(now_ns):
            return
        for row in self._store.open_trades():
            text = (
                f"trade {row['trade_id']}: no exit is sent while the exchange is closed; it is"
                f" protected by its stop at the broker, at {row['stop']:g}"
            )
            self._diary.note_incident("exchange closed", text, row["symbol"])

    async def _until_settled(self) -> None:
        while not self._is_settled():  # noqa: ASYNC110 - as above
            await anyio.sleep(0.05)

    def _is_settled(self) -> bool:
        try:
            return not (self._store.open_trades() or self._store.unsettled_orders())
        except RecordError:
            # Nobody knows: what is due is still asked for.
            return False

    async def _reconcile(self, snapshot: BrokerSnapshot) -> None:
        """Bring the record up to the broker's truth, before the connection is OPERATIONAL."""
        if not self._is_ready.is_set():
            self._diary.hold_account(snapshot.account)
            self._hold_account(snapshot.account)
            self._book.bury_dead_runs()
        self._connector.use_ids_above(self._store.highest_order_id())
        for row in self._store.open_trades():
            self._connector.follow(row["symbol"])
        try:
            self._auditor.settle(snapshot)
        except RecordError as error:
            if not self._is_ready.is_set():
                raise
            # Exits must not wait for a disk: they go by what the record knew last, and the broker
            # refuses what would close a position twice.
            self._execution.doubt_record(f"reconciliation: {error}")
        self._is_ready.set()

    def _hold_account(self, account: str) -> None:
        """Let no second session of this strategy trade the account, whatever store it has."""
        if self.parameters.mode not in ("paper", "live") or self._holds_account:
            # A replay has an account of its own, and a shadow sends nothing.
            return
        strategy = self.parameters.strategy
        try:
            lease = self._held.enter_context(exclusive_account(account, strategy, self.run_id))
        except RecordError as error:
            # Trying again, as after a failed write, would not help.
            raise ParameterError(str(error)) from error
        self._desk.leases.append(lease)
        self._holds_account = True

    async def _keep_house(self) -> None:
        await self._is_ready.wait()
        await Housekeeper(
            self._connector,
            self._execution,
            book=self._book,
            clock=self._clock,
            capture=self._capture,
            on_doubt=self._auditor.ask_for_everything,
            on_incident=self._diary.note_incident,
        ).run()

    def _end(self) -> SessionResult:
        still_open = tuple(self._store.open_trades())
        if still_open:
            held = ", ".join(
                f"{row['symbol']} {self._store.shares_of(row):+g} shares" for row in still_open
            )
            self._diary.note_incident("position left open", held, None)
            self._stop_reason += f"; still open: {held}"
        if working := self._store.unsettled_orders():
            told = ", ".join(f"{row['symbol']} {row['side']} {row['shares']}" for row in working)
            self._diary.note_incident("order left at the broker", told)
            self._stop_reason += f"; orders without a known end: {told}"
        reason = self._stop_reason
        self._store.end_run(self.run_id, reason=reason, market_end_ns=now_or_none(self._clock))
        return SessionResult(self.run_id, reason, still_open, self.database, self.folder)


def _words(error: BaseException) -> str:
    """Return what went wrong, also where a task group has wrapped it."""
    inner = getattr(error, "exceptions", None)
    if inner:
        return "; ".join(_words(one) for one in inner)
    return str(error) if isinstance(error, MomentumLabError) else f"{type(error).__name__}: {error}"


async def _cancel_after(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
