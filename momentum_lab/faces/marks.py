"""Parts that several charts draw: price bands, levels, fills, the mark of a headline, limits."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from momentum_lab.core.market import Side
from momentum_lab.faces import theme

LEVEL_COLOURS = {"stop": theme.VERMILION, "target": theme.GREEN}
SIDE_WORDS = {"BUY": "long", "SELL": "short"}
# Of the price axis, when nothing moved.
LEAST_SPAN_RATIO = 0.0004
# A level farther from the prices than this part of their span is named at the edge instead.
_FAR_RATIO = 0.9
_ROOM_RATIO = 0.12


def add_price_band(
    figure: go.Figure, *, at: Any, bid: Any, ask: Any, middle: Any, **where: int
) -> None:
    """Draw bid to ask as a band and the middle as a line; three traces named bid, ask, middle.

    Args:
        figure: is added to.
        at: wall times, as `theme.stamps` writes them.
        bid: US dollars.
        ask: US dollars.
        middle: US dollars.
        where: row and col of a figure that has several panels.
    """
    edge = {"width": 0.5, "color": theme.SKY, "shape": "hv"}
    for name, values, fill in (("bid", bid, None), ("ask", ask, "tonexty")):
        figure.add_scatter(
            x=at,
            y=values,
            name=name,
            mode="lines",
            line=edge,
            fill=fill,
            fillcolor=theme.BAND,
            hovertemplate="%{y:.2f} USD",
            **where,
        )
    figure.add_scatter(
        x=at,
        y=middle,
        name="middle",
        mode="lines",
        line={"width": 1.6, "color": theme.BLUE, "shape": "hv"},
        hoverinfo="skip",
        **where,
    )


def price_range(trade: Any, prices: pd.DataFrame) -> tuple[float, float]:
    """Return the price axis: all prices and fills, and those levels that are not far away.

    Args:
        trade: entry_price, exit_price, stop and target, each may be missing.
        prices: bid and ask.
    """
    seen = [trade["entry_price"], trade["exit_price"], *prices["bid"], *prices["ask"]]
    found = [price for price in seen if not pd.isna(price)]
    if not found:
        return 0.0, 1.0
    low, high = min(found), max(found)
    span = max(high - low, LEAST_SPAN_RATIO * high)
    near = [
        level
        for level in (trade["stop"], trade["target"])
        if not pd.isna(level) and low - _FAR_RATIO * span <= level <= high + _FAR_RATIO * span
    ]
    low, high = min(low, *near, high), max(high, *near, low)
    room = _ROOM_RATIO * max(high - low, span)
    # Words stand above and below the prices.
    return low - 2 * room, high + 2 * room


def add_level(
    figure: go.Figure,
    name: str,
    level: float,
    *,
    since: pd.Timestamp,
    until: pd.Timestamp,
    low: float,
    high: float,
    axis: str = "",
) -> None:
    """Draw a stop or a target; one beyond the axis is named at its edge.

    Args:
        figure: is added to.
        name: "stop" or "target".
        level: US dollars.
        since: wall time from which it held.
        until: wall time until which it held.
        low: lower end of the price axis.
        high: upper end of it.
        axis: number of the panel's axes, "" for the first.
    """
    colour = LEVEL_COLOURS[name]
    text = f"{name} {level:.2f}"
    if low <= level <= high:
        figure.add_shape(
            type="line",
            x0=theme.stamp(since),
            x1=theme.stamp(until),
            y0=level,
            y1=level,
            xref=f"x{axis}",
            yref=f"y{axis}",
            line={"color": colour, "width": 1.6, "dash": "dash"},
        )
    else:
        text += " \N{UPWARDS ARROW}" if level > high else " \N{DOWNWARDS ARROW}"
    figure.add_annotation(
        x=1,
        xref=f"x{axis} domain",
        y=min(max(level, low), high),
        yref=f"y{axis}",
        text=text,
        showarrow=False,
        xanchor="left",
        xshift=6,
        font={"color": colour, "size": 12.5},
    )


def add_headline_mark(
    figure: go.Figure, at: pd.Timestamp, *, text: str, yref: str = "paper", xref: str = "x"
) -> None:
    """Draw when a headline came, with its words.

    Args:
        figure: is added to.
        at: wall time.
        text: untrusted.
        yref: axis domain of a panel, e.g. "y2 domain".
        xref: the panel's time axis.
    """
    figure.add_shape(
        type="line",
        x0=theme.stamp(at),
        x1=theme.stamp(at),
        y0=0,
        y1=1,
        xref=xref,
        yref=yref,
        line={"color": theme.INK, "width": 1.2, "dash": "dot"},
    )
    figure.add_annotation(
        x=theme.stamp(at),
        y=1,
        xref=xref,
        yref=yref,
        text=f"<b>{at:%H:%M:%S}</b> {theme.wrapped(text, width=52, lines=3)}",
        showarrow=False,
        xanchor="left",
        yanchor="top",
        xshift=6,
        align="left",
        font={"size": 12.5},
        bgcolor=theme.VEIL,
    )


def add_fill_words(
    figure: go.Figure,
    at: pd.Timestamp,
    price: float,
    text: str,
    *,
    height: float = 0.02,
    axis: str = "",
) -> None:
    """Write the words of a fill at the foot of a drop line, where no price is.

    Args:
        figure: is added to.
        at: wall time.
        price: US dollars.
        text: may hold plotly's markup.
        height: of the words, as a part of the panel.
        axis: number of the panel's axes, "" for the first.
    """
    figure.add_shape(
        type="line",
        x0=theme.stamp(at),
        x1=theme.stamp(at),
        y0=figure.layout[f"yaxis{axis}"].range[0],
        y1=price,
        xref=f"x{axis}",
        yref=f"y{axis}",
        line={"color": theme.FAINT, "width": 1},
        layer="below",
    )
    figure.add_annotation(
        x=theme.stamp(at),
        y=height,
        xref=f"x{axis}",
        yref=f"y{axis} domain",
        text=text,
        showarrow=False,
        xanchor="left",
        yanchor="bottom",
        xshift=4,
        bgcolor=theme.VEIL,
        font={"size": 12.5},
    )


def fill_marker(side: Side) -> dict[str, Any]:
    """Return the marker of a fill: it points the way of the order."""
    return {
        "symbol": "triangle-up" if side is Side.BUY else "triangle-down",
        "size": 15,
        "color": theme.INK,
        "line": {"width": 1.5, "color": theme.PAPER},
    }


def add_limit_line(figure: go.Figure, text: str, *, row: int = 1) -> None:
    """Draw the line at 1.0 where an observation meets its limit.

    Args:
        figure: is added to.
        text: written on top.
        row: panel of a figure that has several.
    """
    axis = "" if row == 1 else str(row)
    figure.add_shape(
        type="line",
        x0=1,
        x1=1,
        y0=0,
        y1=1,
        xref=f"x{axis}",
        yref=f"y{axis} domain",
        line={"color": theme.VERMILION, "width": 1.6, "dash": "dash"},
    )
    figure.add_annotation(
        x=1,
        y=1,
        xref=f"x{axis}",
        yref=f"y{axis} domain",
        text=text,
        showarrow=False,
        yanchor="bottom",
        font={"color": theme.VERMILION, "size": 12},
    )
