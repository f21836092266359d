"""The options of the command line that say when a fault happens, and for how long."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option("--for", "for_s", type=float, help="Market seconds until it is put right again."),
    click.option("--at", help="When, e.g. 2013-10-09T14:00:31, in the tape's zone."),
    click.option("--after", help="After which event, e.g. fill or request:reqPositions."),
    click.option("--count", type=int, help="After so many of these events."),
    click.option("--delay", "delay_s", type=float, help="Market seconds after that."),
    click.option("--every", "every_s", type=float, help="Again after so many market seconds."),
    click.option("--rate", "rate_per_hour", type=float, help="How often in an hour, by chance."),
    click.option("--seed", type=int, help="Of that chance; the scenario's by default."),
)


def fault_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; it gets them as one mapping, `when`, as a scenario says it."""

    @functools.wraps(command)
    def collected(*arguments: Any, after: str | None, count: int | None, **others: Any) -> None:
        names = ("for_s", "at", "delay_s", "every_s", "rate_per_hour", "seed")
        given = {name: others.pop(name) for name in names}
        if after is not None or count is not None:
            event = {"event": after, "count": count}
            given["after"] = {key: value for key, value in event.items() if value is not None}
        when = {name: value for name, value in given.items() if value is not None}
        command(*arguments, when=when, **others)

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected
