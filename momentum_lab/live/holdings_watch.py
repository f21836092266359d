"""`HoldingsWatch`: what the broker says it holds, message by message, against what our fills make.

The broker tells each change of a position by itself, in seconds. Where it is not what our fills
make, somebody else has traded the contract, or an execution has not been heard of; which of the
two, an audit tells. Until then an exit could open a position, and an entry could add to one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from momentum_lab.core.market import EPSILON


class HoldingsWatch:
    """The last word of the broker about each contract, in the order of the reports.

    An execution is told before the position that it makes, so that a position which was told first
    and differs is news, and one that was told before our last execution is not.

    Attributes:
        blocked: contract ids of which broker and record are known to differ.
        on_news: told that an audit has something to explain.
    """

    def __init__(self, ours: Callable[[int], float], *, blocked: Mapping[int, str]) -> None:
        """Make a watch that has heard nothing.

        Args:
            ours: returns the signed shares that our executions make of a contract.
            blocked: see above; somebody else fills it.
        """
        self._ours = ours
        self.blocked = blocked
        self.on_news: Callable[[], None] = lambda: None
        self._told: dict[int, float] = {}
        self._differing: set[int] = set()
        self._unexplained: set[int] = set()

    def begin(self, positions: Mapping[int, float]) -> None:
        """Take the broker's list, which has just been settled; an older word counts no more."""
        self._told = dict(positions)
        self._differing = {con_id for con_id in positions if self._differs(con_id)}
        self._unexplained.clear()

    def hear(self, con_id: int, shares: float) -> None:
        """Take in one position of the account; a repetition is no news.

        Raises:
            RecordError: the record cannot be read; the contract counts as disputed.
        """
        is_new = self._told.get(con_id, 0.0) != shares
        self._told[con_id] = shares
        # First, as long as the record cannot be asked nobody knows better.
        self._differing.add(con_id)
        if not self._differs(con_id):
            self._differing.discard(con_id)
        if is_new and (con_id in self._differing or con_id in self.blocked):
            self._unexplained.add(con_id)
            self.on_news()

    def told(self, con_id: int) -> float:
        """Return the signed shares that the broker said it holds, 0 where it said nothing."""
        return self._told.get(con_id, 0.0)

    def disputes(self, con_id: int) -> bool:
        """Whether the broker told of a position that our executions still do not make."""
        if con_id in self._differing and not self._differs(con_id):
            # What was told is explained now, and older than any execution still to come.
            self._differing.discard(con_id)
        return con_id in self._differing

    @property
    def has_unexplained(self) -> bool:
        """Whether something was told that nobody has looked at."""
        return bool(self._unexplained)

    def take_unexplained(self, *, in_flight: Set[int] = frozenset()) -> bool:
        """Return whether an audit has something to explain; asked once for each piece of news.

        What a late execution has explained in the meantime needs none.

        Args:
            in_flight: contract ids of which an order of ours may just be filling: their news stays.
        """
        found = self._unexplained - in_flight
        self._unexplained &= in_flight
        return any(con_id in self.blocked or self.disputes(con_id) for con_id in found)

    def _differs(self, con_id: int) -> bool:
        return abs(self.told(con_id) - self._ours(con_id)) > EPSILON
