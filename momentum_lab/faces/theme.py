"""How everything looks: one palette, one chart template, one way to write money and time.

The colours are those of Okabe and Ito, which people with any colour vision tell apart; colour
never carries a meaning alone. A loss is written as plainly as a gain.

Source: Okabe and Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

import html
import textwrap
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from momentum_lab.calendars import NEW_YORK

INK, MUTED, FAINT, GRID, PAPER = "#1f2933", "#5f6c7b", "#9aa5b1", "#e6e9ed", "#ffffff"
BLUE, VERMILION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
SKY, PURPLE = "#56b4e9", "#cc79a7"
BAND, SHADE, LOSS_SHADE = "rgba(86,180,233,0.35)", "rgba(154,165,177,0.16)", "rgba(213,94,0,0.14)"
VEIL = "rgba(255,255,255,0.82)"
FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
CLOCK, SECONDS = "%H:%M", "%H:%M:%S"
_MINUTE_S = 60
_HOUR_S = 3600
_MARGINS = {"l": 74, "r": 36, "t": 92, "b": 84}


def template() -> go.layout.Template:
    """Return the template that every chart uses."""
    axis = {
        "gridcolor": GRID,
        "linecolor": FAINT,
        "tickcolor": FAINT,
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "title": {"font": {"size": 13, "color": MUTED}},
        "tickfont": {"size": 12, "color": MUTED},
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": INK},
            "title": {
                "x": 0.01,
                "xanchor": "left",
                "y": 0.965,
                "yanchor": "top",
                "font": {"size": 20, "color": INK},
                "subtitle": {"font": {"size": 13.5, "color": MUTED}},
            },
            "paper_bgcolor": PAPER,
            "plot_bgcolor": PAPER,
            "colorway": [BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE],
            "xaxis": {**axis, "showgrid": False, "showline": True},
            "yaxis": {**axis, "showline": False, "ticks": ""},
            "hoverlabel": {"font": {"family": FONT, "size": 12.5}, "bgcolor": PAPER},
            "margin": _MARGINS,
            "showlegend": False,
        }
    )


def new_figure(title: str, subtitle: str, *, height: int = 460) -> go.Figure:
    """Return an empty figure in the house's style.

    Args:
        title: what is seen.
        subtitle: the numbers that matter.
        height: pixels.
    """
    figure = go.Figure()
    figure.update_layout(
        template=template(),
        title={"text": title, "subtitle": {"text": subtitle}},
        height=height,
    )
    return figure


def empty_chart(title: str, sentence: str, *, height: int = 240) -> go.Figure:
    """Return a chart that says in one sentence why there is nothing to draw."""
    figure = new_figure(title, "", height=height)
    figure.add_annotation(
        text=escaped(sentence),
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        showarrow=False,
        font={"size": 15, "color": MUTED},
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure


def add_footnote(figure: go.Figure, text: str) -> None:
    """Write the source line under a chart whose margins are set."""
    figure.add_annotation(
        text=text,
        x=0,
        y=0,
        xref="paper",
        yref="paper",
        xanchor="left",
        yanchor="top",
        xshift=12 - (figure.layout.margin.l or _MARGINS["l"]),
        yshift=-56,
        showarrow=False,
        align="left",
        font={"size": 11.5, "color": FAINT},
    )


def source_of(run: pd.Series[Any]) -> str:
    """Return where the numbers of a run come from, for a chart's source line.

    Args:
        run: the row of the run.
    """
    kind = {
        "replay": "Recorded market day, replayed at the paper gateway",
        "paper": "Paper account",
        "shadow": "Decisions at a live market, without orders",
        "live": "Live account",
    }[str(run["mode"])]
    return f"{kind}; run {escaped(str(run['run_id']))}."


def escaped(text: str) -> str:
    """Return untrusted text so that neither a browser nor plotly takes it for markup."""
    return html.escape(text, quote=True)


def wrapped(text: str, *, width: int, lines: int) -> str:
    """Return untrusted text broken into at most `lines` lines, for a label in a chart."""
    found = textwrap.wrap(text, width, max_lines=lines, placeholder=" \N{HORIZONTAL ELLIPSIS}")
    return "<br>".join(escaped(line) for line in found)


def money(usd: float | None, *, signed: bool = False) -> str:
    """Return US dollars, e.g. "$1,234.50"; signed, a gain has its plus as a loss has its minus."""
    if usd is None or pd.isna(usd):
        return DASH
    sign = MINUS if usd < 0 else "+" if signed and usd > 0 else ""
    return f"{sign}${abs(usd):,.2f}"


def coloured_money(usd: float) -> str:
    """Return signed US dollars for a chart's title, a loss as bold as a gain."""
    return f'<span style="color:{colour_of(usd)}"><b>{money(usd, signed=True)}</b></span>'


def colour_of(usd: float) -> str:
    """Return the colour of a profit or a loss."""
    return VERMILION if usd < 0 else GREEN if usd > 0 else INK


def number(value: float | None, *, digits: int = 2) -> str:
    """Return a number with a proper minus, a dash where there is none."""
    if value is None or pd.isna(value):
        return DASH
    return f"{value:,.{digits}f}".replace("-", MINUS)


def duration(seconds: float) -> str:
    """Return a length of time for people, e.g. "3 min 58 s"."""
    whole = round(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S:02d} s"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02d} min"


def stamps(instants: pd.Series[Any]) -> list[str]:
    """Return instants as New York wall time for an axis of plotly.

    As texts, because a figure in a widget would send timestamps as plain numbers.

    Args:
        instants: zone-aware timestamps.
    """
    wall = instants.dt.tz_convert(NEW_YORK).dt.tz_localize(None).to_numpy("datetime64[ms]")
    found: list[str] = np.datetime_as_string(wall).tolist()
    return found


def stamp(wall: pd.Timestamp) -> str:
    """Return one wall time for an axis of plotly, see `stamps`."""
    return str(wall.isoformat(timespec="milliseconds"))


def wall_of(at_ns: float) -> pd.Timestamp:
    """Return the New York wall time of one instant, without a zone."""
    return pd.Timestamp(int(at_ns), unit="ns", tz="UTC").tz_convert(NEW_YORK).tz_localize(None)


def text_of(value: object) -> str:
    """Return the text in a cell, nothing where it is missing."""
    return "" if value is None or pd.isna(value) else str(value)
