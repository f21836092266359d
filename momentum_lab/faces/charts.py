"""DataFrame -> plotly figure. Nothing is computed here but what is read off a record.

Every chart says what is seen, in which unit and from where; the time axis is New York. Where there
is nothing to draw the chart says so in a sentence.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.metrics import max_drawdown_ratio
from momentum_lab.faces import theme
from momentum_lab.faces.marks import LEAST_SPAN_RATIO, SIDE_WORDS, add_limit_line
from momentum_lab.faces.sizing_chart import sizing_chart, sizing_charts
from momentum_lab.faces.trade_chart import trade_chart, trade_charts
from momentum_lab.records.run_record import RunRecord

__all__ = [
    "connection_chart",
    "decisions_chart",
    "equity_chart",
    "sizing_chart",
    "sizing_charts",
    "trade_chart",
    "trade_charts",
]

Row = Any
_LONGEST_BAR = 2.5
# Of the time axis, for the words of one cause.
_CAUSE_WIDTH_RATIO = 0.3
_STATES = ("DISCONNECTED", "CONNECTING", "SYNCHRONIZING", "DEGRADED", "OPERATIONAL")
_STATE_COLOURS = {
    "DISCONNECTED": theme.VERMILION,
    "CONNECTING": theme.ORANGE,
    "SYNCHRONIZING": theme.SKY,
    "DEGRADED": theme.PURPLE,
    "OPERATIONAL": theme.GREEN,
}


# --- the day ------------------------------------------------------------------------------


def equity_chart(record: RunRecord) -> go.Figure:
    """Return the account's equity over the day: trades marked, falls below the peak shaded."""
    equity = record.equity.sort_values("at_ns")
    if equity.empty:
        return theme.empty_chart("Equity of the day", "The account reported no equity in this run.")
    figure = theme.new_figure("Equity of the day", _equity_subtitle(equity))
    at = theme.stamps(equity["at"])
    figure.add_scatter(
        x=at,
        y=equity["equity_usd"].cummax(),
        name="highest so far",
        mode="lines",
        line={"width": 1, "color": theme.FAINT, "dash": "dot"},
        hovertemplate="highest so far %{y:$,.2f}<extra></extra>",
    )
    figure.add_scatter(
        x=at,
        y=equity["equity_usd"],
        name="equity",
        mode="lines",
        line={"width": 2, "color": theme.BLUE, "shape": "hv"},
        fill="tonexty",
        fillcolor=theme.LOSS_SHADE,
        hovertemplate="equity %{y:$,.2f}<extra></extra>",
    )
    _mark_trades(figure, record, equity)
    low, high = equity["equity_usd"].min(), equity["equity_usd"].max()
    room = max(0.25 * (high - low), LEAST_SPAN_RATIO * high / 4)
    figure.update_yaxes(title="US dollars", tickformat="$,.0f", range=[low - room, high + room])
    figure.update_xaxes(title="New York time", tickformat=theme.CLOCK, hoverformat=theme.SECONDS)
    figure.update_layout(hovermode="x unified", margin={"l": 104})
    theme.add_footnote(
        figure,
        "Net liquidation as the account reported it. Shaded: below the highest point so far."
        f" {theme.source_of(record.run)}",
    )
    return figure


def _equity_subtitle(equity: pd.DataFrame) -> str:
    values = equity["equity_usd"].to_numpy("float64")
    change = theme.coloured_money(values[-1] - values[0])
    return (
        f"from {theme.money(values[0])} to {theme.money(values[-1])}, {change};"
        f" deepest fall from a peak {max_drawdown_ratio(values):.3%}"
    )


def _mark_trades(figure: go.Figure, record: RunRecord, equity: pd.DataFrame) -> None:
    closed = record.trades[record.trades["state"] == "CLOSED"]
    for _, trade in closed.iterrows():
        since, until = (
            theme.stamp(theme.wall_of(trade[name])) for name in ("opened_ns", "closed_ns")
        )
        figure.add_shape(
            type="rect",
            x0=since,
            x1=until,
            y0=0,
            y1=1,
            yref="paper",
            fillcolor=theme.SHADE,
            line_width=0,
            layer="below",
        )
        after = equity[equity["at_ns"] >= trade["closed_ns"]]
        level = (equity if after.empty else after)["equity_usd"].iloc[-1 if after.empty else 0]
        figure.add_annotation(
            x=until,
            y=level,
            text=f"{trade['symbol']} {SIDE_WORDS[trade['side']]}<br>"
            f"{theme.coloured_money(trade['net_usd'])}",
            showarrow=True,
            arrowhead=0,
            arrowcolor=theme.FAINT,
            ax=38,
            ay=-40,
            xanchor="left",
            align="left",
            bgcolor=theme.VEIL,
        )


# --- why and why not ----------------------------------------------------------------------


def decisions_chart(record: RunRecord, *, at_most: int = 30) -> go.Figure:
    """Return why each headline was or was not traded: what was seen, relative to its limit.

    Args:
        record: the run.
        at_most: headlines that are shown; those that came nearest to a trade go first.
    """
    if record.headlines.empty:
        return theme.empty_chart("Headlines", "No headline was heard in this run.")
    shown = _nearest(record.headlines, at_most)
    entered = int((record.headlines["outcome"] == "enter").sum())
    figure = theme.new_figure(
        "Why each headline was or was not traded",
        _decisions_subtitle(len(record.headlines), len(shown), entered),
        height=180 + 58 * len(shown),
    )
    places = list(range(len(shown), 0, -1))
    figure.add_bar(
        orientation="h",
        y=places,
        x=shown["part"].clip(upper=_LONGEST_BAR).fillna(0),
        width=0.5,
        marker={
            "color": [theme.BLUE if made == "enter" else theme.FAINT for made in shown["outcome"]]
        },
        customdata=shown[["text", "decision_text"]].map(_for_hover).to_numpy(),
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
    )
    add_limit_line(figure, "limit")
    for place, (_, row) in zip(places, shown.iterrows(), strict=True):
        _write_decision(figure, place, row)
    figure.update_yaxes(
        tickvals=places,
        ticktext=[_headline_label(row) for _, row in shown.iterrows()],
        range=[0.4, len(shown) + 0.6],
        showgrid=False,
        tickfont={"color": theme.INK},
    )
    figure.update_xaxes(
        title="what was seen, as a multiple of its limit", range=[0, _LONGEST_BAR], dtick=0.5
    )
    figure.update_layout(margin={"l": 390})
    theme.add_footnote(
        figure, "Dark bars were traded. Longer bars are cut, their numbers stand beside them."
    )
    return figure


def _nearest(headlines: pd.DataFrame, at_most: int) -> pd.DataFrame:
    limits = headlines["limit_value"].where(headlines["limit_value"] > 0)
    ranked = headlines.assign(
        part=headlines["observed"].abs() / limits,
        is_entered=headlines["outcome"].eq("enter").fillna(value=False),
    ).sort_values(["is_entered", "part"], ascending=False, kind="stable")
    return ranked.head(at_most).sort_values("received_ns", kind="stable")


def _decisions_subtitle(heard: int, shown: int, entered: int) -> str:
    words = f"{heard} headlines, {entered} traded, {heard - entered} passed"
    return words if shown == heard else f"{words}; the {shown} that came nearest are shown"


def _headline_label(row: Row) -> str:
    symbol = theme.escaped(theme.text_of(row["symbol"])) or "no symbol"
    text = theme.wrapped(row["text"], width=54, lines=2)
    return f"<b>{row['received_at']:%H:%M:%S} {symbol}</b><br>{text}"


def _write_decision(figure: go.Figure, place: int, row: Row) -> None:
    """Write reason and both sides of the comparison behind a bar."""
    part = row["part"]
    end = 0.0 if pd.isna(part) else min(part, _LONGEST_BAR)
    reason = theme.text_of(row["reason"]) or "NO DECISION"
    words = [f"<b>{theme.escaped(reason)}</b>"]
    if not pd.isna(row["observed"]) and not pd.isna(row["limit_value"]):
        words.append(
            f"{theme.number(row['observed'])} of {theme.number(row['limit_value'])}"
            f" {theme.escaped(theme.text_of(row['unit']))}"
        )
    figure.add_annotation(
        x=end,
        y=place,
        text="  ".join(words),
        showarrow=False,
        xanchor="left",
        xshift=8,
        bgcolor=theme.VEIL,
        font={"size": 12.5, "color": theme.INK},
    )


def _for_hover(text: object) -> str:
    return theme.wrapped(theme.text_of(text), width=70, lines=6)


# --- the line -----------------------------------------------------------------------------


def connection_chart(record: RunRecord) -> go.Figure:
    """Return the connection's states over the run, by the computer's clock."""
    steps = record.connection
    if steps.empty:
        return theme.empty_chart("Connection", "No step of the connection was recorded.")
    ends = _ends_of(record)
    figure = theme.new_figure(
        "Connection to the broker", _connection_subtitle(record, ends), height=360
    )
    for (_, step), end in zip(steps.iterrows(), ends, strict=True):
        state = str(step["state"])
        colour = _STATE_COLOURS.get(state, theme.FAINT)
        figure.add_scatter(
            x=[theme.stamp(theme.wall_of(at_ns)) for at_ns in (step["wall_ns"], end)],
            y=[state, state],
            mode="lines+markers",
            line={"width": 13, "color": colour},
            # A state of milliseconds is seen by its mark.
            marker={"size": 13, "symbol": "square", "color": colour, "opacity": [1, 0]},
            name=state,
            hovertemplate=_step_words(step),
        )
    known = [state for state in _STATES if state in set(steps["state"])]
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=known,
        tickfont={"color": theme.INK},
        range=[-0.6, len(known) - 0.4],
    )
    figure.update_xaxes(title="the computer's clock, New York time", tickformat=theme.SECONDS)
    figure.update_layout(margin={"l": 130})
    _write_losses(figure, steps)
    theme.add_footnote(
        figure,
        f"Entries leave in OPERATIONAL only; each step has a cause. {theme.source_of(record.run)}",
    )
    return figure


def _write_losses(figure: go.Figure, steps: pd.DataFrame) -> None:
    """Write the causes of losses, where there is room; the last step is the end of the run."""
    lost = steps.iloc[:-1]
    lost = lost[lost["state"].isin(("DISCONNECTED", "DEGRADED"))]
    room_ns = _CAUSE_WIDTH_RATIO * (steps["wall_ns"].max() - steps["wall_ns"].min())
    written_ns: dict[str, float] = {}
    for _, step in lost.iterrows():
        if step["wall_ns"] - written_ns.get(step["state"], -math.inf) < room_ns:
            continue
        written_ns[step["state"]] = step["wall_ns"]
        figure.add_annotation(
            x=theme.stamp(theme.wall_of(step["wall_ns"])),
            y=str(step["state"]),
            text=theme.wrapped(str(step["cause"]), width=44, lines=1),
            showarrow=False,
            xanchor="left",
            xshift=10,
            yshift=-16,
            font={"size": 11, "color": theme.FAINT},
        )


def _ends_of(record: RunRecord) -> list[int]:
    starts = [int(at_ns) for at_ns in record.connection["wall_ns"]]
    ended = record.run["ended_wall_ns"]
    return [*starts[1:], starts[-1] if pd.isna(ended) else max(int(ended), starts[-1])]


def _connection_subtitle(record: RunRecord, ends: list[int]) -> str:
    steps = record.connection
    operational = steps["state"].eq("OPERATIONAL").to_numpy()
    lasted_s = sum(
        (end - start) / NS_PER_S
        for start, end, is_up in zip(steps["wall_ns"], ends, operational, strict=True)
        if is_up
    )
    was_up = steps["state"].shift(1).isin(("SYNCHRONIZING", "DEGRADED", "OPERATIONAL"))
    losses = int((steps["state"].eq("DISCONNECTED") & was_up).iloc[:-1].sum())
    times = "once" if losses == 1 else f"{losses} times"
    lost = "never lost" if losses == 0 else f"lost {times}"
    return f"OPERATIONAL for {theme.duration(lasted_s)}; {lost} before the end"


def _step_words(step: Row) -> str:
    cause = theme.wrapped(str(step["cause"]), width=60, lines=4)
    market = "" if pd.isna(step["at_ns"]) else f"<br>market time {step['at']:%H:%M:%S}"
    return (
        f"<b>{theme.escaped(str(step['state']))}</b> since %{{x|%H:%M:%S}}"
        f"<br>{theme.escaped(str(step['event']))}: {cause}{market}<extra></extra>"
    )
