"""DataFrame -> a table that reads well in Jupyter, in an exported page and on a terminal.

A `Table` holds the cells as they are shown. Its HTML has all styles in the elements, so that it
looks the same where a page's style sheets are stripped; every text is escaped, because headlines
are written by strangers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.metrics import max_drawdown_ratio, trade_metrics
from momentum_lab.core.tunable import tunables_of
from momentum_lab.faces import theme
from momentum_lab.parameters import Parameters
from momentum_lab.records.run_record import RunRecord

Row = Any
_SECTIONS_SHOWN = ("shock", "exits", "sizing", "risk", "guards", "news", "connection")
_WORDS = {"BUY": "long", "SELL": "short"}
_NOT_BROKEN = 20
_CELL = "padding:5px 14px 5px 0;vertical-align:top;border:none;border-bottom:1px solid #d9dee4;"
_HEAD = "font-weight:600;border-bottom:2px solid #9aa5b1;white-space:nowrap;"
_TEXT = "text-align:left;"
_NUMBER = "text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;"
_CAPTION = (
    "caption-side:top;text-align:left;font-weight:600;font-size:1.15em;padding:0 0 6px 0;"
    "white-space:nowrap;"
)
_TABLE = f"border-collapse:collapse;font-family:{theme.FONT};font-size:13.5px;margin:4px 0 12px 0;"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: its heading, with the unit.
        cell: what is shown of a row.
        is_number: numbers are aligned at the right.
        colour: CSS colour of a row's cell, empty for the text's own.
    """

    title: str
    cell: Callable[[Row], str]
    is_number: bool = False
    colour: Callable[[Row], str] = lambda _row: ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is shown.

    Attributes:
        caption: what it is.
        titles: headings.
        cells: rows of texts, not escaped.
        numbers: titles whose cells are aligned at the right.
        colours: (row, title) -> CSS colour.
        when_empty: the sentence that stands there instead of no rows.
    """

    caption: str
    titles: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    numbers: frozenset[str] = frozenset()
    colours: dict[tuple[int, str], str] = dataclasses.field(default_factory=dict)
    when_empty: str = ""

    def __repr__(self) -> str:
        """Return the table for a terminal."""
        if not self.cells:
            return f"{self.caption}: {self.when_empty}"
        rows = [self.titles, *self.cells]
        widths = [max(len(row[place]) for row in rows) for place in range(len(self.titles))]
        lines = [
            "  ".join(
                cell.rjust(width) if title in self.numbers else cell.ljust(width)
                for title, cell, width in zip(self.titles, row, widths, strict=True)
            ).rstrip()
            for row in rows
        ]
        return "\n".join([self.caption, *lines])

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        caption = f'<caption style="{_CAPTION}">{theme.escaped(self.caption)}</caption>'
        if not self.cells:
            body = f'<tr><td style="{_TEXT}border:none">{theme.escaped(self.when_empty)}</td></tr>'
            return f'<table style="{_TABLE}">{caption}{body}</table>'
        head = "".join(
            f'<th style="{_CELL}{_HEAD}{self._align(title)}">{theme.escaped(title)}</th>'
            for title in self.titles
        )
        body = "".join(f"<tr>{self._row_html(number)}</tr>" for number in range(len(self.cells)))
        return (
            f'<table style="{_TABLE}">{caption}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table>"
        )

    def _row_html(self, number: int) -> str:
        cells = []
        for title, text in zip(self.titles, self.cells[number], strict=True):
            colour = self.colours.get((number, title), "")
            ink = f"color:{colour};font-weight:600;" if colour else ""
            whole = "white-space:nowrap;" if len(text) <= _NOT_BROKEN else ""
            style = f"{_CELL}{self._align(title)}{whole}{ink}"
            cells.append(f'<td style="{style}">{theme.escaped(text)}</td>')
        return "".join(cells)

    def _align(self, title: str) -> str:
        return _NUMBER if title in self.numbers else _TEXT


def make_table(
    caption: str, rows: pd.DataFrame, columns: Sequence[Column], *, when_empty: str
) -> Table:
    """Return the table of a frame's rows.

    Args:
        caption: what it is.
        rows: one row each.
        columns: in order.
        when_empty: said when there are no rows.
    """
    found = [row for _, row in rows.iterrows()]
    colours = {
        (number, column.title): column.colour(row)
        for number, row in enumerate(found)
        for column in columns
        if column.colour(row)
    }
    return Table(
        caption=caption,
        titles=tuple(column.title for column in columns),
        cells=tuple(tuple(column.cell(row) for column in columns) for row in found),
        numbers=frozenset(column.title for column in columns if column.is_number),
        colours=colours,
        when_empty=when_empty,
    )


# --- what is shown of a run ---------------------------------------------------------------


def session_summary(record: RunRecord) -> Table:
    """Return what a run was and what came of it, as two columns."""
    facts = [*_about(record.run), *_what_was_done(record), *_what_went_wrong(record)]
    return _facts("The run", facts)


def trades_table(record: RunRecord) -> Table:
    """Return one row per trade: entry and exit in New York time, reason, costs, net profit."""
    columns = [
        Column("symbol", lambda row: row["symbol"]),
        Column("side", lambda row: _WORDS[row["side"]]),
        Column("shares", lambda row: f"{row['shares']:,.0f}", is_number=True),
        Column("entry", lambda row: _clock(row["opened_at"]), is_number=True),
        Column("at USD", lambda row: theme.number(row["entry_price"]), is_number=True),
        Column("stop USD", lambda row: theme.number(row["stop"]), is_number=True),
        Column("target USD", lambda row: theme.number(row["target"]), is_number=True),
        Column("exit", lambda row: _clock(row["closed_at"]), is_number=True),
        Column("out at USD", lambda row: theme.number(row["exit_price"]), is_number=True),
        Column("reason", lambda row: theme.text_of(row["exit_reason"]) or "still open"),
        Column("before costs", lambda row: _signed(row["gross_usd"]), is_number=True),
        Column("costs", lambda row: theme.money(row["costs_usd"]), is_number=True),
        Column("net", lambda row: _signed(row["net_usd"]), is_number=True, colour=_net_colour),
    ]
    return make_table(
        "Trades (New York time)",
        record.trades,
        columns,
        when_empty="Nothing was traded in this run.",
    )


def decisions_table(record: RunRecord) -> Table:
    """Return one row per headline: what was decided, why, with both sides of the comparison."""
    return make_table(
        "Headlines and what was decided (New York time)",
        record.headlines,
        _decision_columns(),
        when_empty="No headline was heard in this run.",
    )


def incidents_table(record: RunRecord) -> Table:
    """Return what a person should look at."""
    columns = [
        Column("market time", lambda row: _clock(row["at"]), is_number=True),
        Column("kind", lambda row: row["kind"]),
        Column("symbol", lambda row: theme.text_of(row["symbol"]) or theme.DASH),
        Column("what happened", lambda row: row["text"]),
    ]
    return make_table(
        "Incidents (New York time)", record.incidents, columns, when_empty="There was none."
    )


def brake_table(record: RunRecord) -> Table:
    """Return where the account's brake stood from when on, and why."""
    columns = [
        Column("market time", lambda row: _clock(row["at"]), is_number=True),
        Column("state", lambda row: row["state"]),
        Column("why", lambda row: row["cause"]),
    ]
    return make_table(
        "The brake (New York time)",
        record.risk_states,
        columns,
        when_empty="It did not move in this run.",
    )


def differences_table(record: RunRecord) -> Table:
    """Return what broker and record saw differently, and what was done about each."""
    columns = [
        Column("market time", lambda row: _clock(row["at"]), is_number=True),
        Column("class", lambda row: row["kind"]),
        Column("symbol", lambda row: theme.text_of(row["symbol"]) or theme.DASH),
        Column("broker", lambda row: _of_both(row, "broker_value"), is_number=True),
        Column("record", lambda row: _of_both(row, "our_value"), is_number=True),
        Column("what was found", lambda row: row["text"]),
        Column("what was done", lambda row: row["action"]),
    ]
    return make_table(
        "Differences found and settled (New York time)",
        record.differences,
        columns,
        when_empty="None was found in this run.",
    )


def _of_both(row: Row, name: str) -> str:
    """Return shares as one side has them; a dash where the difference is of an order's state."""
    told = [row[one] for one in ("broker_value", "our_value")]
    has_shares = any(not pd.isna(value) and value for value in told)
    return theme.number(row[name], digits=0) if has_shares else theme.DASH


def _decision_columns() -> list[Column]:
    return [
        Column("heard", lambda row: _clock(row["received_at"]), is_number=True),
        Column("symbol", lambda row: theme.text_of(row["symbol"]) or theme.DASH),
        Column("headline", lambda row: row["text"]),
        Column("decision", lambda row: _outcome(row["outcome"]), colour=_outcome_colour),
        Column("reason", lambda row: theme.text_of(row["reason"]) or theme.DASH),
        Column("seen", lambda row: theme.number(row["observed"]), is_number=True),
        Column("limit", lambda row: theme.number(row["limit_value"]), is_number=True),
        Column("unit", lambda row: theme.text_of(row["unit"])),
        Column("in words", lambda row: theme.text_of(row["decision_text"])),
    ]


def check_table(violations: Sequence[str]) -> Table:
    """Return the violations that `check_record` found, or the sentence that there are none."""
    return Table(
        caption="Check of the record",
        titles=("what must not be",),
        cells=tuple((sentence,) for sentence in violations),
        when_empty="Sound: every fill belongs to an order, every order to a decision or an exit,"
        " every headline has one decision, the fills make the positions, all is flat.",
    )


def parameters_table(parameters: Parameters) -> Table:
    """Return the effective set: the rules' numbers with unit and meaning, then where it runs."""
    rows = [
        ("mode", parameters.mode, "", "replay, paper, shadow or live"),
        ("universe", ", ".join(parameters.universe), "", "what may be traded"),
        ("strategy", parameters.strategy, "", "name in the record"),
    ]
    for section in _SECTIONS_SHOWN:
        rows.extend(_section_rows(section, getattr(parameters, section)))
    return Table(
        caption=f"Parameters in effect (hash {parameters.params_hash})",
        titles=("parameter", "value", "unit", "meaning"),
        cells=tuple(rows),
        numbers=frozenset({"value"}),
    )


def _section_rows(section: str, values: Any) -> Iterator[tuple[str, str, str, str]]:
    declared = tunables_of(type(values))
    for field in dataclasses.fields(values):
        value, tunable = getattr(values, field.name), declared.get(field.name)
        if tunable is not None:
            yield f"{section}.{field.name}", f"{value:.10g}", tunable.unit, tunable.meaning
        else:
            shown = ", ".join(value) if isinstance(value, tuple) else str(value)
            yield f"{section}.{field.name}", shown, "", field.metadata["meaning"]


def gateway_table(looks: pd.DataFrame) -> Table:
    """Return what `look_at_gateway` saw."""
    columns = [
        Column("symbol", lambda row: row["symbol"]),
        Column("bid", lambda row: theme.number(row["bid"]), is_number=True),
        Column("ask", lambda row: theme.number(row["ask"]), is_number=True),
        Column("last", lambda row: theme.number(row["last"]), is_number=True),
        Column("day open", lambda row: theme.number(row["day_open"]), is_number=True),
        Column("day high", lambda row: theme.number(row["day_high"]), is_number=True),
        Column("day low", lambda row: theme.number(row["day_low"]), is_number=True),
        Column("day volume", lambda row: theme.number(row["day_volume"], digits=0), is_number=True),
        Column("bars of 1 min", lambda row: str(row["n_bars"]), is_number=True),
        Column("gateway's time", lambda row: f"{row['server_at']:%Y-%m-%d %H:%M:%S}"),
    ]
    return make_table(
        "The gateway now (New York time)",
        looks,
        columns,
        when_empty="No gateway was named (port 0), so there is nothing to look at.",
    )


# --- facts of a run -----------------------------------------------------------------------

Facts = list[tuple[str, str]]


def _facts(caption: str, facts: Facts) -> Table:
    return Table(caption=caption, titles=("what", "value"), cells=tuple(facts))


def _about(run: Row) -> Facts:
    return [
        ("run", str(run["run_id"])),
        ("mode and account", f"{run['mode']}, {theme.text_of(run['account']) or 'not known'}"),
        ("strategy", str(run["strategy"])),
        ("market time", f"{_moment(run['market_start_at'])} to {_moment(run['market_end_at'])}"),
        ("took", _took(run)),
        ("ended because", theme.text_of(run["end_reason"]) or "it has not ended"),
        ("parameters, revision", f"{run['params_hash']}, {run['revision']}"),
    ]


def _took(run: Row) -> str:
    if pd.isna(run["ended_wall_ns"]):
        return theme.DASH
    return theme.duration((run["ended_wall_ns"] - run["started_wall_ns"]) / NS_PER_S)


def _what_was_done(record: RunRecord) -> Facts:
    closed = record.trades[record.trades["state"] == "CLOSED"]
    numbers = trade_metrics(closed["net_usd"].tolist(), closed["costs_usd"].tolist())
    entered = int(record.headlines["outcome"].eq("enter").sum())
    heard = len(record.headlines)
    facts = [
        ("headlines", f"{heard} heard, {entered} traded, {heard - entered} passed"),
        ("trades", f"{numbers['trades']:.0f} closed, {numbers['wins']:.0f} with a gain"),
        ("before costs", _signed(numbers["gross_usd"])),
        ("costs", theme.money(numbers["costs_usd"])),
        ("net", _signed(numbers["net_usd"])),
    ]
    equity = record.equity["equity_usd"].to_numpy("float64")
    if len(equity):
        facts.append(("equity", f"{theme.money(equity[0])} to {theme.money(equity[-1])}"))
        facts.append(("deepest fall from a peak", f"{max_drawdown_ratio(equity):.3%}"))
    return facts


def _what_went_wrong(record: RunRecord) -> Facts:
    still_open = record.trades[record.trades["state"] != "CLOSED"]
    words = ", ".join(f"{row['symbol']} {row['shares']:g}" for _, row in still_open.iterrows())
    kinds = record.incidents["kind"].value_counts(sort=False)
    incidents = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
    return [("still open", words or "nothing"), ("incidents", incidents or "none")]


def _clock(at: Any) -> str:
    return theme.DASH if pd.isna(at) else f"{at:{theme.SECONDS}}"


def _moment(at: Any) -> str:
    return theme.DASH if pd.isna(at) else f"{at:%Y-%m-%d %H:%M:%S}"


def _signed(usd: Any) -> str:
    return theme.money(usd, signed=True)


def _net_colour(row: Row) -> str:
    return "" if pd.isna(row["net_usd"]) else theme.colour_of(row["net_usd"])


def _outcome(outcome: Any) -> str:
    words = {"enter": "traded", "pass": "passed", "shadow": "would trade"}
    return words.get(theme.text_of(outcome), "none")


def _outcome_colour(row: Row) -> str:
    return theme.BLUE if theme.text_of(row["outcome"]) == "enter" else ""
