"""When is a line alive? The limits of silence, and what each means.

Theory of operation. Three signs are independent of each other, and each has failed alone in
practice: the gateway answers a time request although its data farm is dead; account values tick on
while quotes stand still; a socket stays open although nobody is behind it. So each is watched for
itself, and the reaction fits the sign: an unanswered time request ends the connection, a silent
line is asked for again, a silent account is asked for its values. A farm that flaps never ends the
connection.

While somebody listens to a line (a watch or a position is open) the time request is sent more
often and may take less long, so that a dead socket is found within the sum of both.
"""

from __future__ import annotations

from dataclasses import dataclass

from momentum_lab.core.tunable import check_tunables, tunable


@dataclass(frozen=True, slots=True)
class LivenessParameters:
    """How long silence may last, in seconds of transport time."""

    probe_every_s: float = tunable(
        20.0, unit="s", low=1.2, high=300, step=1, meaning="time request while nothing is open"
    )
    probe_answer_s: float = tunable(
        10.0, unit="s", low=0.2, high=300, step=1, meaning="its answer may take so long"
    )
    watched_probe_every_s: float = tunable(
        5.0,
        unit="s",
        low=1.2,
        high=300,
        step=1,
        meaning="time request while a watch or a position is open; while ticks come, half as often",
    )
    watched_probe_answer_s: float = tunable(
        5.0, unit="s", low=0.2, high=300, step=1, meaning="its answer may take so long then"
    )
    suspect_after_s: float = tunable(
        2.0,
        unit="s",
        low=0.1,
        high=60,
        step=0.5,
        meaning="a time request is open for so long: no entry until it is answered",
    )
    entry_quiet_s: float = tunable(
        3.0,
        unit="s",
        low=0,
        high=60,
        step=0.5,
        meaning="nothing was heard for so long: a time request comes before an entry",
    )
    flow_s: float = tunable(
        5.0,
        unit="s",
        low=0.1,
        high=60,
        step=1,
        meaning="a line that was asked for has to say something within this in the session",
    )
    line_quiet_s: float = tunable(
        60.0,
        unit="s",
        low=5,
        high=3600,
        step=5,
        meaning="a line that says nothing for so long in the session is asked for again",
    )
    all_quiet_s: float = tunable(
        20.0,
        unit="s",
        low=2,
        high=3600,
        step=1,
        meaning="the same when no line says anything: the data farm is suspect",
    )
    account_quiet_s: float = tunable(
        600.0,
        unit="s",
        low=30,
        high=86400,
        step=30,
        meaning="account values that are silent for so long are asked for again",
    )
    tapes_quiet_s: float = tunable(
        7200.0,
        unit="s",
        low=60,
        high=86400,
        step=60,
        meaning="no headline on any tape for so long in the session: incident",
    )
    upstream_patience_s: float = tunable(
        120.0,
        unit="s",
        low=5,
        high=3600,
        step=5,
        meaning="DEGRADED without a word for so long: the connection is made again",
    )
    alarm_after_s: float = tunable(
        90.0,
        unit="s",
        low=1,
        high=3600,
        step=5,
        meaning="not OPERATIONAL for so long outside of the broker's quiet windows: alarm",
    )

    def __post_init__(self) -> None:
        """Refuse values outside their declared range."""
        check_tunables(self, prefix="liveness.")

    def probe_s(self, *, is_watched: bool) -> tuple[float, float]:
        """Return how often a time request is sent and how long it may take.

        Args:
            is_watched: somebody listens to a line.
        """
        if is_watched:
            return self.watched_probe_every_s, self.watched_probe_answer_s
        return self.probe_every_s, self.probe_answer_s

    def probe_due_s(self, *, asked_s: float, heard_s: float, is_watched: bool) -> float:
        """Return when the next time request is due.

        Who speaks is alive. Whether requests are heard as well is asked half as often then, and no
        more seldom than while nothing is open; silence is followed up as fast as ever.

        Args:
            asked_s: when the last one left.
            heard_s: when anything was last heard.
            is_watched: somebody listens to a line.
        """
        every_s, _ = self.probe_s(is_watched=is_watched)
        latest_s = asked_s + max(every_s, min(2 * every_s, self.probe_every_s))
        return min(max(asked_s, heard_s) + every_s, latest_s)


_MOST_DOUBLINGS = 4


def line_patience_s(
    *, n_asked_again: int, is_alone: bool, has_flowed: bool, parameters: LivenessParameters
) -> float:
    """Return how long one line may be silent in the session before it is asked for again.

    Args:
        n_asked_again: how often that has been done in this connection. Where other lines flow,
            each time doubles the patience, up to 16 times: a thinly traded stock is silent without
            being dead.
        is_alone: other lines have said something lately.
        has_flowed: it has said something since it was last asked for; otherwise the request itself
            may have been lost.
        parameters: the limits.
    """
    if not (is_alone and has_flowed):
        return parameters.all_quiet_s
    # The exponent is bounded: a float overflows long after the cap has been reached.
    return float(parameters.line_quiet_s * 2.0 ** min(n_asked_again, _MOST_DOUBLINGS))
