"""Asks the broker for history: in its own time, and each thing once.

Requests are held back by the rules of `momentum_lab.core.history_pacing`, and until the limiter
lets them leave at once: what waited in its queue could leave closer together than it was paced.
Who asks for what is already under way gets the same answer, or the same failure.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import anyio
from anyio.abc import TaskGroup, TaskStatus

from momentum_lab.clock import transport_s
from momentum_lab.core.history_pacing import HistoricalPacing, HistoryKey
from momentum_lab.core.pacing import PacingParameters, Priority
from momentum_lab.errors import ConnectionLostError, MomentumLabError
from momentum_lab.live.ibkr.limiter import Limiter

T = TypeVar("T")
# A timer may go off too early by its resolution.
_SHORTEST_NAP_S = 1e-6


@dataclass(slots=True, eq=False)
class _Job:
    """One request, with everybody who waits for its answer."""

    key: HistoryKey
    request: Callable[[], Awaitable[Any]]
    n_waiting: int = 0
    answer: Any = None
    error: MomentumLabError | None = None
    done: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class HistoryDesk:
    """Where history is asked for; open while `run` runs, which is as long as one connection.

    The desk itself outlives connections: the broker counts by user and does not forget.
    """

    def __init__(self, limiter: Limiter, parameters: PacingParameters) -> None:
        """Make a desk that is closed."""
        self._limiter = limiter
        self._pacing = HistoricalPacing(parameters)
        self._group: TaskGroup | None = None
        self._jobs: dict[HistoryKey, _Job] = {}
        self._queue: list[_Job] = []
        self._changed = anyio.Event()

    @property
    def n_waiting(self) -> int:
        """How many requests are held back."""
        return len(self._queue)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Keep the desk open until cancelled; then all who wait get a `ConnectionLostError`."""
        try:
            async with anyio.create_task_group() as group:
                self._group = group
                task_status.started()
                await anyio.sleep_forever()
        finally:
            self._group = None
            for job in tuple(self._jobs.values()):
                job.error = ConnectionLostError(f"history of {job.key}: the connection is gone")
                self._finish(job)

    async def ask(self, key: HistoryKey, request: Callable[[], Awaitable[T]]) -> T:
        """Return the answer to a request, once the rules let it be asked for.

        Args:
            key: what is asked for; equal keys that are under way at the same time are one request.
            request: sends the request before it waits for anything, and returns the answer; its
                own time limit begins when it is called. It raises nothing but errors of this
                package. It is cancelled when nobody waits for it any more.

        Raises:
            ConnectionLostError: the connection is gone, or there is none.
            MomentumLabError: whatever the request raises, to all who wait for it.
        """
        job = self._jobs.get(key) or self._begin(key, request)
        job.n_waiting += 1
        try:
            await job.done.wait()
        finally:
            job.n_waiting -= 1
            if not job.n_waiting and not job.done.is_set():
                job.scope.cancel()
                del self._jobs[key]
        if job.error is not None:
            raise job.error
        return cast("T", job.answer)

    def _begin(self, key: HistoryKey, request: Callable[[], Awaitable[Any]]) -> _Job:
        if self._group is None:
            raise ConnectionLostError(f"history of {key}: not connected")
        job = self._jobs[key] = _Job(key, request)
        self._group.start_soon(self._work, job, name="history")
        return job

    async def _work(self, job: _Job) -> None:
        with job.scope:
            await self._turn(job)
            # From the end of its turn to here no other task has run, and so it leaves at once.
            self._pacing.note_sent(job.key, transport_s())
            try:
                job.answer = await job.request()
            except MomentumLabError as error:
                job.error = error
            finally:
                self._pacing.note_done()
                self._wake()
            self._finish(job)

    async def _turn(self, job: _Job) -> None:
        """Return when a request may leave; of those that may, the oldest goes first."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._queue.append(job)
        try:
            while (wait_s := self._wait_s(job)) > 0 or self._is_behind(job):
                # The one before it is about to wake, goes, and wakes all others.
                at_most_s = max(wait_s, _SHORTEST_NAP_S) if wait_s > 0 else math.inf
                with anyio.move_on_after(at_most_s):
                    await self._changed.wait()
        finally:
            self._queue.remove(job)
            self._wake()

    def _wait_s(self, job: _Job) -> float:
        by_rules_s = self._pacing.admit_s(job.key, transport_s())
        return max(by_rules_s, self._limiter.wait_s(Priority.HISTORY))

    def _is_behind(self, job: _Job) -> bool:
        earlier = self._queue[: self._queue.index(job)]
        return any(self._wait_s(other) <= 0 for other in earlier)

    def _finish(self, job: _Job) -> None:
        # Its answer may come in the very moment in which the last who waited has left.
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]
        job.done.set()

    def _wake(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
