"""momentum_lab: momentum trading on news at Interactive Brokers, from research to live.

The shop window: what a notebook needs, loaded on first use, so that importing a rule loads
neither papermill nor the broker's library.

    LiveSession       one run of the trading system: `await LiveSession(parameters).run()`
    parameters_of     the checked parameters of a notebook's tagged cell
    load_parameters   the checked parameters of a YAML file
    start_logging     log a run to its folder and to the screen
    read_run          the record of a run as typed tables
    check_record      what in a trade store must not be, in sentences
    charts, tables    what is shown of a record (modules)
    show              display charts so that they are seen everywhere
    load_tape         a recorded market day
    make_episodes     a tape, cut into what happened round each headline
    what_if           what would have been decided and traded under other parameters
    tune, tune_chart  the same behind sliders, and as one picture
    look_at_gateway   what a running gateway says now
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from momentum_lab.faces import charts, tables
    from momentum_lab.faces.log import start_logging
    from momentum_lab.faces.look import look_at_gateway
    from momentum_lab.faces.notebook import parameters_of, show
    from momentum_lab.faces.widgets import tune, tune_chart
    from momentum_lab.live.session import LiveSession
    from momentum_lab.parameters import load_parameters
    from momentum_lab.records.run_record import check_record, read_run
    from momentum_lab.records.tape import load_tape
    from momentum_lab.research.episodes import make_episodes
    from momentum_lab.research.what_if import what_if

    __version__: str

__all__ = [
    "LiveSession",
    "__version__",
    "charts",
    "check_record",
    "load_parameters",
    "load_tape",
    "look_at_gateway",
    "make_episodes",
    "parameters_of",
    "read_run",
    "show",
    "start_logging",
    "tables",
    "tune",
    "tune_chart",
    "what_if",
]

_MODULES = {"charts": "faces.charts", "tables": "faces.tables"}
_HOMES = {
    "LiveSession": "live.session",
    "check_record": "records.run_record",
    "load_parameters": "parameters",
    "load_tape": "records.tape",
    "look_at_gateway": "faces.look",
    "make_episodes": "research.episodes",
    "parameters_of": "faces.notebook",
    "read_run": "records.run_record",
    "show": "faces.notebook",
    "start_logging": "faces.log",
    "tune": "faces.widgets",
    "tune_chart": "faces.widgets",
    "what_if": "research.what_if",
}


if not TYPE_CHECKING:  # a type checker shall see the names above, and no others

    def __getattr__(name: str) -> Any:
        """Load a name of the shop window on its first use."""
        if name == "__version__":
            found: Any = _version()
        elif name in _MODULES:
            found = import_module(f"{__name__}.{_MODULES[name]}")
        elif name in _HOMES:
            found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """Return the shop window, loaded or not."""
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - loads email

    try:
        return version("momentum-lab")
    except PackageNotFoundError:
        return "0+unknown"
