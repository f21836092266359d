"""`momentum-lab trades`: what was traded and what it brought, on the screen or as a file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import cast

import click

from momentum_lab.errors import ParameterError
from momentum_lab.faces.control_commands import database_of, database_options
from momentum_lab.faces.one_sentence import one_sentence

_EXPORTS = ("trades", "daily", "slippage", "orders", "fills", "decisions")
_FORMATS = ("table", "csv", "parquet", "json")


@click.command()
@database_options
@click.option("--run", "run_id", default="", help="Only this run.")
@click.option(
    "--since", type=click.DateTime(["%Y-%m-%d"]), help="Only this New York day and later."
)
@click.option(
    "--what",
    type=click.Choice(_EXPORTS),
    default="trades",
    show_default=True,
    help="What is exported; a table is made of trades and days.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(_FORMATS),
    default="table",
    show_default=True,
    help="A table for the screen, or data.",
)
@click.option("--out", type=click.Path(path_type=Path), help="File; left out: the screen.")
@one_sentence
def trades(
    database: Path | None,
    parameters_file: Path | None,
    run_id: str,
    since: datetime | None,
    what: str,
    file_format: str,
    out: Path | None,
) -> None:
    """Print the trades of a store with their totals, or export its tables."""
    from momentum_lab.faces.trades_table import days_text, trades_text  # noqa: PLC0415 - as below
    from momentum_lab.records.export import (  # noqa: PLC0415 - pandas takes its time
        Export,
        Format,
        read_export,
        text_of,
        write_export,
        write_whole,
    )

    if file_format == "parquet" and out is None:
        raise ParameterError("--format parquet: expected --out FILE")
    if file_format == "table" and what not in ("trades", "daily"):
        raise ParameterError(f"--what {what}: expected --format csv, parquet or json")
    frame = read_export(
        database_of(database, parameters_file),
        cast("Export", what),
        run_id=run_id,
        since=since.date() if since else None,
    )
    if file_format == "table":
        table = f"{trades_text(frame) if what == 'trades' else days_text(frame)}\n"
        if out is None:
            click.echo(table, nl=False)
        else:
            write_whole(table, out)
    elif out is not None:
        write_export(frame, out, cast("Format", file_format))
        click.echo(f"{len(frame)} rows: {out}")
    else:
        click.echo(text_of(frame, "json" if file_format == "json" else "csv"), nl=False)
