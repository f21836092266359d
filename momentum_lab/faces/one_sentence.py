"""How a command ends on an error that was raised on purpose: one sentence and an exit code."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from momentum_lab.errors import MomentumLabError

P = ParamSpec("P")
T = TypeVar("T")

USAGE_EXIT, FAILED_EXIT = 2, 1


def one_sentence(command: Callable[P, T]) -> Callable[P, T]:
    """Turn errors raised on purpose into one sentence and an exit code."""

    @functools.wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except MomentumLabError as error:
            click.echo(f"momentum-lab: {error}", err=True)
            failed = type(error).__name__ == "SessionFailedError"
            sys.exit(FAILED_EXIT if failed else USAGE_EXIT)

    return guarded
