"""What one position of the tuning sliders shows: results of the rules, words, one figure.

Everything here is pure; the sliders themselves are in `momentum_lab.faces.widgets`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.errors import RecordError
from momentum_lab.faces import theme
from momentum_lab.faces.marks import (
    LEVEL_COLOURS,
    SIDE_WORDS,
    add_fill_words,
    add_headline_mark,
    add_level,
    add_limit_line,
    add_price_band,
    fill_marker,
    price_range,
)
from momentum_lab.faces.notebook import find_path
from momentum_lab.faces.tables import Column, make_table
from momentum_lab.parameters import Parameters, load_parameters
from momentum_lab.records.tape import load_tape
from momentum_lab.research.episodes import Episode, make_episodes, path_of
from momentum_lab.research.what_if import what_if

Values = Mapping[str, Any]
HORIZON_S = 4200.0
_WIDTH = 1000
_LEAD_S = 300
_TAIL_S = 180
_LONGEST_BAR = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one position of the sliders shows.

    Attributes:
        parameters: the set that was judged.
        episodes: the headlines.
        results: one row per headline, see `what_if`.
        selected: which headline is looked at.
        equity_usd: of the account at each headline.
    """

    parameters: Parameters
    episodes: Sequence[Episode]
    results: pd.DataFrame
    selected: int
    equity_usd: float

    @property
    def row(self) -> pd.Series[Any]:
        """What came of the selected headline."""
        return self.results.iloc[self.selected]

    @property
    def episode(self) -> Episode:
        """The selected headline and what happened round it."""
        return self.episodes[self.selected]


def first_view(tape: str | Path, parameters_file: str | Path, *, equity_usd: float) -> View:
    """Return the view that a parameter file makes of a tape; the nearest headline is selected.

    Args:
        tape: folder of a tape, also relative to a folder above the current one.
        parameters_file: likewise.
        equity_usd: of the account at each headline.

    Raises:
        ParameterError: file or folder not found, or a value is refused.
        RecordError: the tape cannot be read, or holds no headline.
    """
    parameters = load_parameters(find_path(parameters_file))
    episodes = make_episodes(
        load_tape(find_path(tape)), universe=parameters.universe, horizon_s=HORIZON_S
    )
    if not episodes:
        raise RecordError(f"the tape {tape} holds no headline to look at")
    results = what_if(episodes, parameters, equity_usd=equity_usd)
    selected = _nearest_to_a_shock(results, parameters)
    return View(parameters, episodes, results, selected, equity_usd)


def with_values(seen: View, values: Values) -> View:
    """Return the view of a set with some values replaced.

    Args:
        seen: the view to begin with.
        values: "section.key" -> value of a parameter; "headline" -> which one is looked at.

    Raises:
        ParameterError: a value is out of range.
    """
    sections: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        section, dot, name = key.partition(".")
        if dot:
            sections.setdefault(section, {})[name] = value
    changed = {
        section: dataclasses.replace(getattr(seen.parameters, section), **inner)
        for section, inner in sections.items()
    }
    parameters = dataclasses.replace(seen.parameters, **changed)
    results = what_if(seen.episodes, parameters, equity_usd=seen.equity_usd)
    selected = int(values.get("headline", seen.selected))
    return View(parameters, seen.episodes, results, selected, seen.equity_usd)


def _nearest_to_a_shock(results: pd.DataFrame, parameters: Parameters) -> int:
    """Return the headline that is worth a first look."""
    shock = parameters.shock
    price = results["move_atr"].abs() / shock.price_atr_multiple
    volume = results["volume_sma"] / shock.volume_multiple
    return int(price.clip(upper=volume).fillna(0).to_numpy().argmax())


def sentence(seen: View) -> str:
    """Return what would have come of the selected headline and of all, as HTML."""
    traded = seen.results[seen.results["outcome"] == "enter"]
    total = theme.coloured_money(float(traded["net_usd"].sum()))
    return (
        f'<div style="font-family:{theme.FONT};font-size:15px;line-height:1.5">'
        f"{_one_sentence(seen.row)}<br>"
        f"All headlines: {len(traded)} of {len(seen.results)} would be traded, {total} net.</div>"
    )


def _one_sentence(row: pd.Series[Any]) -> str:
    if row["outcome"] != "enter":
        return (
            f"<b>Not traded: {theme.escaped(row['reason'])}</b>,"
            f" {theme.escaped(row['decision_text'])}."
        )
    return (
        f"<b>{theme.escaped(row['symbol'])} {SIDE_WORDS[row['side']]}, {row['shares']} shares</b>:"
        f" in {row['entry_at']:%H:%M:%S} at {row['entry_price']:.2f},"
        f" out {row['exit_at']:%H:%M:%S} at {row['exit_price']:.2f} by {row['exit_reason']};"
        f" {theme.money(row['gross_usd'], signed=True)} before"
        f" {theme.money(row['costs_usd'])} of costs: {theme.coloured_money(row['net_usd'])} net."
    )


def results_table(seen: View) -> str:
    """Return one line per headline as an HTML table."""
    columns = [
        Column("heard", lambda row: f"{row['received_at']:%H:%M:%S}", is_number=True),
        Column("symbol", lambda row: theme.text_of(row["symbol"]) or theme.DASH),
        Column("reason", lambda row: row["reason"]),
        Column("move x ATR", lambda row: theme.number(row["move_atr"]), is_number=True),
        Column("volume x SMA", lambda row: theme.number(row["volume_sma"]), is_number=True),
        Column("side", lambda row: SIDE_WORDS.get(theme.text_of(row["side"]), theme.DASH)),
        Column("exit", lambda row: theme.text_of(row["exit_reason"]) or theme.DASH),
        Column("costs", lambda row: theme.money(row["costs_usd"]), is_number=True),
        Column("net", lambda row: theme.money(row["net_usd"], signed=True), is_number=True,
               colour=_net_colour),
    ]  # fmt: skip
    shown = make_table(
        "Each headline on its own (New York time)",
        seen.results,
        columns,
        when_empty="The tape holds no headline.",
    )
    return shown._repr_html_()


def _net_colour(row: Any) -> str:
    return "" if pd.isna(row["net_usd"]) else theme.colour_of(row["net_usd"])


def draw(seen: View) -> go.Figure:
    """Return the complete figure of a view: above the two tests, below the price path.

    It always has the same traces, so that one view's figure can be moved into another's.
    """
    figure = make_subplots(rows=2, cols=1, row_heights=[0.4, 0.6], vertical_spacing=0.17)
    figure.update_layout(
        template=theme.template(),
        # A figure in a widget does not grow with its page.
        width=_WIDTH,
        height=260 + 44 * len(seen.results) + 320,
        margin={"l": 150, "r": 120, "t": 84, "b": 64},
        title={
            "text": "Which headlines fire, and what the trade would have been",
            "subtitle": {"text": "Both bars of a headline must pass the line."},
        },
        barmode="group",
        # A user's zoom is kept while sliders move, and forgotten with another headline.
        uirevision=seen.row["headline_key"],
    )
    _draw_tests(figure, seen)
    _draw_path(figure, seen)
    return figure


def _draw_tests(figure: go.Figure, seen: View) -> None:
    shock, results = seen.parameters.shock, seen.results
    tests = (
        # The last one stands on top.
        ("volume", results["volume_sma"], shock.volume_multiple, "x usual", theme.ORANGE),
        ("price", results["move_atr"].abs(), shock.price_atr_multiple, "ATR", theme.BLUE),
    )
    places = list(range(len(results), 0, -1))
    for name, found, limit, unit, colour in tests:
        figure.add_bar(
            orientation="h",
            name=name,
            x=(found / limit).clip(upper=_LONGEST_BAR).fillna(0),
            y=places,
            text=[_test_words(name, value, limit, unit) for value in found],
            textposition="outside",
            cliponaxis=False,
            textfont={"size": 12, "color": theme.INK},
            marker={"color": colour},
            width=0.36,
            hoverinfo="skip",
            row=1,
            col=1,
        )
    add_limit_line(figure, "limit")
    figure.update_yaxes(
        tickvals=places,
        ticktext=[_label(seen, place) for place in range(len(results))],
        range=[0.4, len(results) + 0.6],
        showgrid=False,
        tickfont={"color": theme.INK},
        row=1,
        col=1,
    )
    figure.update_xaxes(
        range=[0, _LONGEST_BAR * 1.25],
        dtick=0.5,
        title="nearest reading, as a multiple of its limit",
        row=1,
        col=1,
    )


def _test_words(name: str, value: float, limit: float, unit: str) -> str:
    if pd.isna(value):
        return f"{name}: not watched"
    return f"{name} {theme.number(value)} of {limit:g} {unit}"


def _label(seen: View, place: int) -> str:
    row = seen.results.iloc[place]
    symbol = theme.escaped(theme.text_of(row["symbol"])) or "no symbol"
    words = f"{row['received_at']:%H:%M:%S} {symbol}"
    if row["outcome"] == "enter":
        words = f"\N{BLACK CIRCLE} {words}"
    return f"<b>{words}</b>" if place == seen.selected else words


def _draw_path(figure: go.Figure, seen: View) -> None:
    path = _path_in_window(seen)
    where = {"row": 2, "col": 1}
    add_price_band(
        figure,
        at=path["at"],
        bid=path["bid"],
        ask=path["ask"],
        middle=(path["bid"] + path["ask"]) / 2,
        **where,
    )
    row = seen.row
    low, high = price_range(row, path)
    figure.update_yaxes(title="US dollars", tickformat=".2f", range=[low, high], **where)
    _draw_fills(figure, row, where)
    _draw_levels(figure, row, low=low, high=high)
    figure.update_xaxes(
        title="New York time",
        tickformat=theme.CLOCK,
        range=[theme.stamp(theme.wall_of(at_ns)) for at_ns in _window(seen)],
        **where,
    )
    if seen.episode.symbol is None:
        _say_nothing_to_see(figure)
    add_headline_mark(
        figure,
        theme.wall_of(row["received_ns"]),
        text=row["text"],
        xref="x2",
        yref="y2 domain",
    )


def _window(seen: View) -> tuple[int, int]:
    """Return the first and the last instant that is shown of the price path."""
    row, received_ns = seen.row, seen.episode.headline.received_ns
    until_ns = received_ns + int(seen.parameters.shock.watch_s * NS_PER_S)
    if not pd.isna(row["exit_ns"]):
        until_ns = max(until_ns, int(row["exit_ns"]))
    return received_ns - _LEAD_S * NS_PER_S, until_ns + _TAIL_S * NS_PER_S


def _path_in_window(seen: View) -> pd.DataFrame:
    since, until = _window(seen)
    path = pd.DataFrame(path_of(seen.episode))
    path = path[(path["at_ns"] >= since) & (path["at_ns"] <= until)]
    at = pd.to_datetime(path["at_ns"], unit="ns", utc=True)
    return path.assign(at=theme.stamps(at))


def _draw_fills(figure: go.Figure, row: pd.Series[Any], where: dict[str, int]) -> None:
    """Draw entry and exit; two traces without points where nothing was traded."""
    is_traded = row["outcome"] == "enter"
    side = Side(row["side"]) if is_traded else Side.BUY
    for name, its_side, height in (("entry", side, 0.02), ("exit", side.opposite, 0.1)):
        at, price = row[f"{name}_ns"], row[f"{name}_price"]
        figure.add_scatter(
            x=[theme.stamp(theme.wall_of(at))] if is_traded else [],
            y=[price] if is_traded else [],
            mode="markers",
            name=name,
            marker=fill_marker(its_side),
            hovertemplate=f"{name} %{{y:.2f}} USD at %{{x|%H:%M:%S}}<extra></extra>",
            **where,
        )
        if is_traded:
            reason = f" {row['exit_reason']}" if name == "exit" else ""
            words = f"<b>{name}</b>{reason} at {price:.2f}"
            add_fill_words(figure, theme.wall_of(at), price, words, height=height, axis="2")


def _draw_levels(figure: go.Figure, row: pd.Series[Any], *, low: float, high: float) -> None:
    if row["outcome"] != "enter":
        return
    since, until = theme.wall_of(row["entry_ns"]), theme.wall_of(row["exit_ns"])
    for name in LEVEL_COLOURS:
        add_level(
            figure, name, float(row[name]), since=since, until=until, low=low, high=high, axis="2"
        )


def _say_nothing_to_see(figure: go.Figure) -> None:
    figure.add_annotation(
        text="The headline names no symbol that may be traded: there is no price to look at.",
        x=0.5,
        y=0.4,
        xref="x2 domain",
        yref="y2 domain",
        showarrow=False,
        font={"size": 14, "color": theme.MUTED},
    )


def redraw(figure: go.FigureWidget, wanted: go.Figure) -> None:
    """Move a new figure into one that is on the screen, in a single message.

    Args:
        figure: has the same traces.
        wanted: what it shall show.
    """
    with figure.batch_update():
        for trace, new in zip(figure.data, wanted.data, strict=True):
            trace.update(new.to_plotly_json(), overwrite=True)
        figure.update_layout(wanted.layout.to_plotly_json(), overwrite=True)
