"""The options of the command line that limit a paper gateway's clients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option(
        "--max-lines", type=int, default=100, show_default=True, help="Market data lines of all."
    ),
    click.option(
        "--max-messages",
        type=int,
        help="A second and client; half of the lines by default, 0: any.",
    ),
    click.option(
        "--pace", is_flag=True, help="Slow down who sends faster, instead of refusing it."
    ),
    click.option("--no-history-pacing", is_flag=True, help="No limits for historical requests."),
    click.option(
        "--news-delay", type=float, default=0.0, show_default=True, help="Of news answers, seconds."
    ),
)


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; it gets them as one argument, `limits`."""

    @functools.wraps(command)
    def collected(
        *arguments: Any,
        max_lines: int,
        max_messages: int | None,
        pace: bool,
        no_history_pacing: bool,
        news_delay: float,
        **others: Any,
    ) -> None:
        # Only who runs a gateway loads it.
        from momentum_lab.gateway.limits import Limits  # noqa: PLC0415

        limits = Limits(
            max_lines=max_lines,
            max_messages_per_s=max_messages,
            over_rate="pace" if pace else "reject",
            paces_history=not no_history_pacing,
            news_answer_s=news_delay,
        )
        command(*arguments, limits=limits, **others)

    for option in reversed(_OPTIONS):
        collected = option(collected)
    return collected
