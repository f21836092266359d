"""One trade as a picture: price, headline, entry, exit, stop, target and time stop."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from momentum_lab.core.market import NS_PER_S, Side
from momentum_lab.faces import theme
from momentum_lab.faces.marks import (
    LEVEL_COLOURS,
    SIDE_WORDS,
    add_fill_words,
    add_headline_mark,
    add_level,
    add_price_band,
    fill_marker,
    price_range,
)
from momentum_lab.records.run_record import RunRecord

Row = Any
_LEAD = pd.Timedelta(minutes=5)
_AFTER_TIME_STOP = pd.Timedelta(minutes=1)


def trade_charts(record: RunRecord, *, at_most: int = 12) -> list[go.Figure]:
    """Return a chart for each trade of a run, the first ones where there are very many.

    Args:
        record: the run.
        at_most: so that a notebook stays readable.
    """
    if record.trades.empty:
        return [theme.empty_chart("Trades", "Nothing was traded in this run.")]
    return [trade_chart(record, trade_id) for trade_id in record.trades["trade_id"][:at_most]]


def trade_chart(record: RunRecord, trade_id: int) -> go.Figure:
    """Return the price round one trade: headline, entry, exit, stop, target, time stop.

    The title says what was earned or lost after costs, the subtitle why it ended.

    Args:
        record: the run, with its quotes.
        trade_id: the trade; one that the run does not know gives a chart that says so.
    """
    found = record.trades[record.trades["trade_id"] == trade_id]
    if found.empty:
        return theme.empty_chart("Trade", f"This run has no trade {trade_id}.")
    trade = found.iloc[0]
    figure = theme.new_figure(_trade_title(trade), _trade_subtitle(trade), height=520)
    prices = _prices_round(record, trade)
    if prices.empty:
        _note_no_prices(figure, trade["symbol"])
    else:
        _draw_prices(figure, prices)
    low, high = price_range(trade, prices)
    figure.update_yaxes(title="US dollars", tickformat=".2f", range=[low, high])
    _draw_levels(figure, trade, low=low, high=high, end=_end_of(record, trade))
    _draw_headline(figure, record, trade)
    _draw_time_stop(figure, record, trade)
    _draw_fills(figure, trade)
    figure.update_xaxes(
        title="New York time",
        tickformat=theme.CLOCK,
        hoverformat=theme.SECONDS,
        range=[
            theme.stamp(_start_of(record, trade)),
            theme.stamp(_end_of(record, trade)),
        ],
    )
    figure.update_layout(hovermode="x unified", margin={"r": 110})
    theme.add_footnote(
        figure, f"Line: middle of bid and ask. Band: bid to ask. {theme.source_of(record.run)}"
    )
    return figure


def _trade_title(trade: Row) -> str:
    what = f"{trade['symbol']} {SIDE_WORDS[trade['side']]}, {trade['shares']:,.0f} shares"
    if trade["state"] != "CLOSED":
        return f"{what}: still open"
    return f"{what}: {theme.coloured_money(trade['net_usd'])} after costs"


def _trade_subtitle(trade: Row) -> str:
    day = f"{trade['opened_at']:%Y-%m-%d}"
    if trade["state"] != "CLOSED":
        return f"entered at {trade['entry_price']:.2f} on {day}; costs so far" + (
            f" {theme.money(trade['costs_usd'])}"
        )
    held_s = (trade["closed_ns"] - trade["opened_ns"]) / NS_PER_S
    return (
        f"{trade['exit_reason']} after {theme.duration(held_s)} on {day};"
        f" before costs {theme.money(trade['gross_usd'], signed=True)},"
        f" costs {theme.money(trade['costs_usd'])}"
    )


def _headline_of(record: RunRecord, trade: Row) -> Row | None:
    found = record.headlines[record.headlines["decision_id"] == trade["decision_id"]]
    return None if found.empty else found.iloc[0]


def _time_stop_of(record: RunRecord, trade: Row) -> pd.Timestamp:
    exits = json.loads(record.run["params_json"])["exits"]
    return theme.wall_of(trade["opened_ns"] + exits["time_stop_s"] * NS_PER_S)


def _start_of(record: RunRecord, trade: Row) -> pd.Timestamp:
    headline = _headline_of(record, trade)
    first_ns = trade["opened_ns"] if headline is None else headline["received_ns"]
    return theme.wall_of(first_ns) - _LEAD


def _end_of(record: RunRecord, trade: Row) -> pd.Timestamp:
    due = _time_stop_of(record, trade) + _AFTER_TIME_STOP
    if pd.isna(trade["closed_ns"]):
        return due
    return max(due, theme.wall_of(trade["closed_ns"]) + _LEAD)


def _prices_round(record: RunRecord, trade: Row) -> pd.DataFrame:
    quotes = record.quotes
    since, until = (
        int(at.tz_localize(trade["opened_at"].tz).value)
        for at in (_start_of(record, trade), _end_of(record, trade))
    )
    inside = (quotes["at_ns"] >= since) & (quotes["at_ns"] <= until)
    found = quotes[(quotes["symbol"] == trade["symbol"]) & inside]
    return found.dropna(subset=["bid", "ask"])


def _draw_prices(figure: go.Figure, prices: pd.DataFrame) -> None:
    at, middle = theme.stamps(prices["at"]), (prices["bid"] + prices["ask"]) / 2
    add_price_band(figure, at=at, bid=prices["bid"], ask=prices["ask"], middle=middle)


def _note_no_prices(figure: go.Figure, symbol: str) -> None:
    figure.add_annotation(
        text=f"The quotes of {theme.escaped(symbol)} round this trade were not captured.",
        x=0.5,
        y=0.06,
        xref="paper",
        yref="paper",
        showarrow=False,
        font={"size": 13, "color": theme.MUTED},
    )


def _draw_levels(
    figure: go.Figure, trade: Row, *, low: float, high: float, end: pd.Timestamp
) -> None:
    """Draw stop and target while the position was open; a far one is named at the edge."""
    since = theme.wall_of(trade["opened_ns"])
    until = end if pd.isna(trade["closed_ns"]) else theme.wall_of(trade["closed_ns"])
    for name in LEVEL_COLOURS:
        add_level(figure, name, float(trade[name]), since=since, until=until, low=low, high=high)


def _draw_headline(figure: go.Figure, record: RunRecord, trade: Row) -> None:
    headline = _headline_of(record, trade)
    if headline is None:
        return
    at = theme.wall_of(headline["received_ns"])
    add_headline_mark(figure, at, text=headline["text"])


def _draw_time_stop(figure: go.Figure, record: RunRecord, trade: Row) -> None:
    at = _time_stop_of(record, trade)
    figure.add_shape(
        type="line",
        x0=theme.stamp(at),
        x1=theme.stamp(at),
        y0=0,
        y1=1,
        yref="paper",
        line={"color": theme.FAINT, "width": 1.2, "dash": "dot"},
    )
    figure.add_annotation(
        x=theme.stamp(at),
        y=0.14,
        yref="paper",
        text=f"time stop {at:%H:%M:%S}",
        showarrow=False,
        xanchor="right",
        yanchor="bottom",
        xshift=-4,
        font={"color": theme.MUTED, "size": 12},
    )


def _draw_fills(figure: go.Figure, trade: Row) -> None:
    side = Side(trade["side"])
    entry = f"<b>entry</b> {SIDE_WORDS[side.value]} at {trade['entry_price']:.2f}"
    _draw_fill(figure, trade["opened_ns"], trade["entry_price"], side=side, name="entry")
    add_fill_words(figure, theme.wall_of(trade["opened_ns"]), trade["entry_price"], entry)
    if pd.isna(trade["closed_ns"]):
        return
    leave = f"<b>exit</b> {trade['exit_reason']} at {trade['exit_price']:.2f}"
    _draw_fill(figure, trade["closed_ns"], trade["exit_price"], side=side.opposite, name="exit")
    add_fill_words(
        figure, theme.wall_of(trade["closed_ns"]), trade["exit_price"], leave, height=0.08
    )


def _draw_fill(figure: go.Figure, at_ns: int, price: float, *, side: Side, name: str) -> None:
    figure.add_scatter(
        x=[theme.stamp(theme.wall_of(at_ns))],
        y=[price],
        mode="markers",
        name=name,
        marker=fill_marker(side),
        hovertemplate=f"{name} at %{{y:.2f}} USD<extra></extra>",
    )
