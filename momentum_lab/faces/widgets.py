"""Tunables -> sliders -> one callback -> figure: what would have been, under other thresholds.

A move of a slider makes a new parameter set, runs the rules over the episodes of a tape and
redraws one figure in place (`momentum_lab.faces.tuning`).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ipywidgets
import plotly.graph_objects as go

from momentum_lab.core.market import EPSILON
from momentum_lab.core.tunable import Tunable, tunables_of
from momentum_lab.errors import MomentumLabError
from momentum_lab.faces import theme
from momentum_lab.faces.tuning import (
    HORIZON_S,
    View,
    draw,
    first_view,
    redraw,
    results_table,
    sentence,
    with_values,
)
from momentum_lab.parameters import Parameters
from momentum_lab.research.episodes import Episode

# A slider over more decades than this moves in equal ratios instead of equal steps.
_LOG_FROM_RATIO = 1000
_DIRECTIONS = ("both", "long", "short")
_SHOCK_KEYS = ("shock.price_atr_multiple", "shock.volume_multiple")
_EXIT_KEYS = {
    "ratio": ("exits.stop_loss_ratio", "exits.take_profit_ratio"),
    "atr": ("exits.stop_atr_multiple", "exits.target_r_multiple"),
}
_WIDE = ipywidgets.Layout(width="720px")
_LOG_STEP = 0.01
_STYLE = {"description_width": "400px"}


def tune(
    tape: str | Path, parameters_file: str | Path, *, equity_usd: float = 1_000_000.0
) -> ipywidgets.VBox:
    """Return sliders over a tape: which headlines fire, and what the trade would have been.

    Args:
        tape: folder of a tape, also relative to a folder above the current one.
        parameters_file: where the sliders begin.
        equity_usd: of the account at each headline.

    Raises:
        ParameterError: file or folder not found, or a value is refused.
        RecordError: the tape cannot be read.
    """
    seen = first_view(tape, parameters_file, equity_usd=equity_usd)
    controls = _controls(seen)
    # Wrapped last: a widget that is changed before it is seen stays blank.
    figure = go.FigureWidget(draw(seen))
    text = ipywidgets.HTML(sentence(seen))
    table = ipywidgets.HTML(results_table(seen))
    failures = ipywidgets.Output()

    @failures.capture(clear_output=True)  # type: ignore[untyped-decorator]  # not annotated
    def refresh(_change: object) -> None:
        values = {key: control.value for key, control in controls.items()}
        try:
            found = with_values(seen, values)
        except MomentumLabError as error:
            text.value = f"<b>{theme.escaped(str(error))}</b>"
            return
        redraw(figure, draw(found))
        text.value, table.value = sentence(found), results_table(found)

    for control in controls.values():
        control.observe(refresh, names="value")
    return ipywidgets.VBox([*controls.values(), text, figure, table, failures])


def tune_chart(
    tape: str | Path, parameters_file: str | Path, *, equity_usd: float = 1_000_000.0
) -> go.Figure:
    """Return what `tune` shows at first, as one chart for pages that have no kernel.

    Args:
        tape: see `tune`.
        parameters_file: see `tune`.
        equity_usd: see `tune`.

    Raises:
        ParameterError: file or folder not found, or a value is refused.
        RecordError: the tape cannot be read.
    """
    return draw(first_view(tape, parameters_file, equity_usd=equity_usd))


def _controls(seen: View) -> dict[str, ipywidgets.ValueWidget]:
    """Return "section.key" -> slider, the direction, and the headline that is looked at."""
    parameters = seen.parameters
    keys = (*_SHOCK_KEYS, *_EXIT_KEYS[parameters.exits.stop_kind])
    controls: dict[str, Any] = {
        "headline": ipywidgets.Dropdown(
            options=[(_option(episode), number) for number, episode in enumerate(seen.episodes)],
            value=seen.selected,
            description="headline",
            style=_STYLE,
            layout=ipywidgets.Layout(width="1000px"),
        )
    }
    controls |= {key: _slider(parameters, key) for key in keys}
    longest_s = HORIZON_S - parameters.shock.watch_s
    controls["exits.time_stop_s"] = _slider(parameters, "exits.time_stop_s", at_most=longest_s)
    controls["shock.direction"] = ipywidgets.Dropdown(
        options=_DIRECTIONS,
        value=parameters.shock.direction,
        description="direction that may be traded",
        style=_STYLE,
        layout=ipywidgets.Layout(width="520px"),
    )
    return controls


def _option(episode: Episode) -> str:
    at = theme.wall_of(episode.headline.received_ns)
    return f"{at:%H:%M:%S}  {episode.symbol or '-'}  {episode.headline.text}"


def _slider(parameters: Parameters, key: str, *, at_most: float = math.inf) -> Any:
    """Return the slider of a tunable, made of its declaration."""
    section, _, name = key.partition(".")
    values = getattr(parameters, section)
    declared = tunables_of(type(values))[name]
    value = float(getattr(values, name))
    high = max(min(declared.high, at_most), value)
    make = _log_slider if high / max(declared.low, declared.step) >= _LOG_FROM_RATIO else _steps
    return make(declared, value, high)


def _steps(declared: Tunable, value: float, high: float) -> Any:
    low, high = _grid(value, declared.low, high, step=declared.step)
    return ipywidgets.FloatSlider(
        value=value,
        min=low,
        max=high,
        step=declared.step,
        readout_format=".0f" if declared.step >= 1 else ".1f",
        **_looks(declared),
    )


def _log_slider(declared: Tunable, value: float, high: float) -> Any:
    low, high = _grid(math.log10(value), math.log10(declared.low), math.log10(high), step=_LOG_STEP)
    is_ratio = declared.unit.startswith("ratio")
    return ipywidgets.FloatLogSlider(
        value=value,
        base=10,
        min=low,
        max=high,
        step=_LOG_STEP,
        readout_format=".3%" if is_ratio else ".4g",
        **_looks(declared),
    )


def _grid(value: float, low: float, high: float, *, step: float) -> tuple[float, float]:
    """Return the ends of a slider on whose steps `value` lies.

    The browser moves a value beside the steps to the next one, and that would be another trade.
    """
    down, up = (math.floor(abs(end - value) / step + EPSILON) for end in (low, high))
    return max(value - down * step, low), min(value + up * step, high)


def _looks(declared: Tunable) -> dict[str, Any]:
    return {
        "description": f"{declared.meaning} ({declared.unit})",
        "style": _STYLE,
        "layout": _WIDE,
        "continuous_update": True,
    }
