"""Why a size is what it is, or nothing: one bar for each cap, the one that bound it dark."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from momentum_lab.core.size import Cap, size_as_dict
from momentum_lab.faces import theme
from momentum_lab.faces.marks import SIDE_WORDS
from momentum_lab.records.run_record import RunRecord

Row = Any
_MEANINGS = {
    Cap.VOL_TARGET: "volatility that it may add",
    Cap.MAX_NOTIONAL: "largest value",
    Cap.MAX_POSITION_PCT: "largest part of equity",
    Cap.MAX_GROSS: "room for all positions",
    Cap.MAX_SECTOR: "room in the sector",
    Cap.MAX_ADV: "part of the usual daily volume",
    Cap.MAX_RECENT_VOLUME: "part of the last five minutes' volume",
    Cap.MAX_IMPACT: "impact on the price",
    Cap.BUYING_POWER: "buying power",
    Cap.MAX_SHARES: "largest order",
}
# On the logarithmic axis, decades beyond the longest bar for its number.
_ROOM_DECADES = 0.6


def sizing_charts(record: RunRecord) -> list[go.Figure]:
    """Return a chart of each entry of a run, then of each size that was computed and not sent.

    Each shows every cap, in shares. Where no size was computed there is one chart that says so.
    """
    entries = record.orders[record.orders["purpose"] == "entry"]
    unsent = record.headlines[record.headlines["size_json"].notna()]
    found = [_chart(record, row, SIDE_WORDS[row["side"]]) for _, row in entries.iterrows()]
    found += [_chart(record, row, "not sent") for _, row in unsent.iterrows()]
    return found or [theme.empty_chart("Why this size", "Nothing was entered in this run.")]


def sizing_chart(record: RunRecord) -> go.Figure:
    """Return the chart of a run's first entry, see `sizing_charts`."""
    return sizing_charts(record)[0]


def _chart(record: RunRecord, row: Row, what: str) -> go.Figure:
    size = size_as_dict(theme.text_of(row["size_json"]))
    shares = size.get("shares", row.get("shares"))
    title = f"Why {shares:,} shares of {theme.escaped(row['symbol'])}"
    if not size:
        return theme.empty_chart(title, "How its size came about was not written down.")
    if not size["caps"]:
        return theme.empty_chart(title, size["text"])
    caps = [(str(name), shares) for name, shares in size["caps"]]
    figure = theme.new_figure(title, _subtitle(what, size), height=210 + 40 * len(caps))
    low = _low(caps, size["shares"])
    places = list(range(len(caps), 0, -1))
    shown = [max(shares, low) if shares is not None else low for _, shares in caps]
    figure.add_bar(
        orientation="h",
        y=places,
        # A bar on a logarithmic axis begins at 1 unless it is told where.
        base=low,
        x=[value - low for value in shown],
        width=0.55,
        marker={"color": [_colour(name, size) for name, _ in caps]},
        customdata=[[name, _words(shares)] for name, shares in caps],
        hovertemplate="%{customdata[0]}: %{customdata[1]}<extra></extra>",
    )
    for place, end, (name, shares) in zip(places, shown, caps, strict=True):
        words = f"<b>{_words(shares)}</b>" if name == size["binding"] else _words(shares)
        _write(figure, place, end, words=words, is_known=shares is not None)
    _draw_size(figure, size["shares"], low)
    figure.update_yaxes(
        tickvals=places,
        ticktext=[_label(name, size) for name, _ in caps],
        ticks="outside",
        ticklen=7,
        tickcolor=theme.PAPER,
        range=[0.4, len(caps) + 0.6],
        showgrid=False,
        tickfont={"color": theme.INK},
    )
    figure.update_xaxes(
        title="shares that each cap allows, logarithmic",
        type="log",
        range=[math.log10(low), math.log10(max(shown)) + _ROOM_DECADES],
        dtick=1,
        tickformat=",",
        showgrid=True,
    )
    figure.update_layout(margin={"l": 330, "b": 104})
    theme.add_footnote(
        figure,
        "The shortest bar decides; what is not known leaves its cap out."
        f" {theme.source_of(record.run)}{_budgets(size)}",
    )
    return figure


def _budgets(size: dict[str, Any]) -> str:
    """Return the budgets of risk of which the smallest was taken."""
    known = [
        f"{name} {'not known' if usd is None else theme.money(usd)}"
        for name, usd in size.get("budgets", ())
    ]
    return f"<br>Of these budgets the smallest: {', '.join(known)}." if known else ""


def _subtitle(what: str, size: dict[str, Any]) -> str:
    bound = f"bound by {size['binding']}"
    if size["observed"] is not None:
        sides = f"{size['observed']:,.3g} against {size['limit']:,.3g} {size['unit']}"
        return f"{what}, {size['reason']}: {sides}; {bound}"
    parts = [f"{what}, {bound}", f"{theme.money(size['risk_at_stop_usd'])} at risk"]
    if size["cost_ratio"] is not None:
        parts.append(f"costs take {size['cost_ratio']:.1%} of that")
    parts.append(f"a gap of 10 % would take {theme.money(size['gap_stress_usd'])}")
    return "; ".join(parts)


def _low(caps: list[tuple[str, float | None]], shares: float) -> float:
    """Return where the axis begins: the decade below the shortest bar."""
    seen = [value for _, value in caps if value is not None and value >= 1]
    least = min([*seen, max(shares, 1.0)])
    return float(10.0 ** math.floor(math.log10(least) - 0.3))


def _colour(name: str, size: dict[str, Any]) -> str:
    return theme.BLUE if name == size["binding"] else theme.FAINT


def _label(name: str, size: dict[str, Any]) -> str:
    if name == Cap.RISK.value:
        budget = f"{theme.money(size['budget_usd'])} of {size['budget_source']}"
        meaning = f"{budget} at ${size['stop_size_usd']:.3f} a share"
    else:
        meaning = _MEANINGS[Cap(name)]
    return f"<b>{name}</b><br>{meaning}"


def _words(shares: float | None) -> str:
    # A part of a share is not bought: a cap of 602.6 allows 602.
    return "not known" if shares is None else f"{math.floor(max(0.0, shares)):,} shares"


def _write(figure: go.Figure, place: int, end: float, *, words: str, is_known: bool) -> None:
    figure.add_annotation(
        # Annotations on a logarithmic axis are placed by their exponent.
        x=math.log10(end),
        y=place,
        text=words if is_known else f"<i>{words}</i>",
        showarrow=False,
        xanchor="left",
        xshift=8,
        bgcolor=theme.VEIL,
        font={"size": 12.5, "color": theme.INK if is_known else theme.FAINT},
    )


def _draw_size(figure: go.Figure, shares: int, low: float) -> None:
    """Draw the size that was taken as a line through all bars."""
    if shares < low or pd.isna(shares):
        return
    figure.add_shape(
        type="line",
        x0=shares,
        x1=shares,
        y0=0,
        y1=1,
        yref="paper",
        line={"width": 1, "color": theme.BLUE, "dash": "dot"},
        layer="below",
    )
