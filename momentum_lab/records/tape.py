"""Tapes: market days and headlines on disk, read by the paper gateway and by research.

A tape is a folder:

    tape.yaml           what it is: name, span, licence, instruments, spread of each, providers
    bars.parquet        symbol, at_ns, seconds, open, high, low, close, volume
    headlines.parquet   at_ns, provider, article_id, headline, extra, symbols, body, note
    quotes.parquet, trades.parquet, halts.parquet    single ticks, see `tape_ticks`
    bulletins.parquet   what the broker announces, may be absent; see `tape_news`

The tables of ticks may be absent, and bars may where there are trades or quotes. `at_ns` of a bar
is its start; of a headline, its publication (UTC epoch nanoseconds). Prices are US dollars, volumes
are shares. Rows are in time order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from momentum_lab.calendars import NEW_YORK, find_zone
from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Instrument
from momentum_lab.errors import DataError, RecordError
from momentum_lab.records.tape_news import (
    BULLETIN_COLUMNS,
    TEXT,
    TapeBulletin,
    bulletin_table,
    bulletins_of,
    check_body,
)
from momentum_lab.records.tape_ticks import (
    HALT_COLUMNS,
    QUOTE_COLUMNS,
    TRADE_COLUMNS,
    check_no_overlap,
    checked_ticks,
    empty_table,
)

FORMAT = 1
_NS_PER_US = 1_000
BAR_COLUMNS = ("symbol", "at_ns", "seconds", "open", "high", "low", "close", "volume")
HEADLINE_COLUMNS = (
    "at_ns",
    "provider",
    "article_id",
    "headline",
    "extra",
    "symbols",
    "body",
    "note",
)
TICK_TABLES: Mapping[str, tuple[str, ...]] = {
    "quotes": QUOTE_COLUMNS,
    "trades": TRADE_COLUMNS,
    "halts": HALT_COLUMNS,
}
_FILES = ("tape.yaml", "bars.parquet", "headlines.parquet", "bulletins.parquet")
_INSTRUMENT_KEYS = {"con_id", "tick_usd", "primary_exchange", "long_name", "stock_type"}
_SPREAD_KEYS = {"spread_usd", "spread_bps", "size_shares"}


@dataclass(frozen=True, slots=True)
class TapeHeadline:
    """One headline as the wire carried it.

    Attributes:
        at_ns: publication, UTC epoch nanoseconds.
        provider: the broker's provider code, e.g. "BRFG".
        article_id: unique per provider.
        headline: raw text.
        extra: the provider's metadata string, may be empty.
        symbols: what the feed itself says the story is about; empty on a broad tape.
        body: article text, may be empty.
        note: where the row comes from, for readers of the tape.
        body_kind: what `body` is, one of `tape_news.BODY_KINDS`.
    """

    at_ns: int
    provider: str
    article_id: str
    headline: str
    extra: str = ""
    symbols: tuple[str, ...] = ()
    body: str = ""
    note: str = ""
    body_kind: str = TEXT


@dataclass(frozen=True, slots=True)
class Tape:
    """One recorded stretch of market.

    Attributes:
        name: short name, used in records.
        start_ns: where a replay begins; earlier bars are history.
        end_ns: where a replay ends.
        timezone: IANA name of the exchange's zone.
        instruments: symbol -> instrument.
        spreads: symbol -> how its quote is derived from trades.
        providers: news provider code -> name.
        bars: columns `BAR_COLUMNS`, time order within a symbol.
        headlines: time order.
        about: licence, source and other facts for people.
        quotes: columns `QUOTE_COLUMNS`, time order; symbols without any are quoted by `spreads`.
        trades: columns `TRADE_COLUMNS`, time order.
        halts: columns `HALT_COLUMNS`, time order.
        bulletins: time order.
    """

    name: str
    start_ns: int
    end_ns: int
    timezone: str
    instruments: Mapping[str, Instrument]
    spreads: Mapping[str, SpreadModel]
    providers: Mapping[str, str]
    bars: pd.DataFrame
    headlines: tuple[TapeHeadline, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    quotes: pd.DataFrame = field(default_factory=lambda: empty_table(QUOTE_COLUMNS))
    trades: pd.DataFrame = field(default_factory=lambda: empty_table(TRADE_COLUMNS))
    halts: pd.DataFrame = field(default_factory=lambda: empty_table(HALT_COLUMNS))
    bulletins: tuple[TapeBulletin, ...] = ()

    @property
    def first_ns(self) -> int:
        """Return the instant of the first bar, trade or quote."""
        tables = (self.bars, self.trades, self.quotes)
        return min(int(table["at_ns"].min()) for table in tables if len(table))

    def bars_of(self, symbol: str) -> pd.DataFrame:
        """Return the bars of one symbol in time order, with a fresh index.

        Raises:
            RecordError: the tape does not hold the symbol; says which it holds.
        """
        if symbol not in self.instruments:
            held = ", ".join(sorted(self.instruments))
            raise RecordError(f"tape {self.name}: no symbol {symbol!r}; it holds {held}")
        rows = self.bars[self.bars["symbol"] == symbol]
        return rows.sort_values("at_ns", kind="stable").reset_index(drop=True)


def load_tape(folder: Path) -> Tape:
    """Read a tape folder and check it as a whole.

    Raises:
        RecordError: the folder or a file is missing or malformed; says which, what was
            expected and what was found.
    """
    about = _read_yaml(folder)
    instruments, spreads = _instruments(folder, about.get("instruments"))
    ticks = {name: _read_ticks(folder, name, instruments) for name in TICK_TABLES}
    bars = _read_bars(folder, instruments, is_optional=any(map(len, ticks.values())))
    check_no_overlap(folder / "bars.parquet", bars, ticks["trades"])
    headlines = _read_headlines(folder / "headlines.parquet")
    start_ns, end_ns = (_instant(folder, about, key) for key in ("start", "end"))
    if end_ns <= start_ns:
        raise RecordError(f"{folder / 'tape.yaml'}: expected end after start")
    return Tape(
        name=str(about.get("name") or folder.name),
        start_ns=start_ns,
        end_ns=end_ns,
        timezone=_zone(folder, about.get("timezone", NEW_YORK)),
        instruments=instruments,
        spreads=spreads,
        providers=_words(folder, about, "providers"),
        bars=bars,
        headlines=headlines,
        about=_words(folder, about, "about"),
        bulletins=_read_bulletins(folder / "bulletins.parquet"),
        **ticks,
    )


def write_tape(tape: Tape, folder: Path) -> None:
    """Write a tape folder that `load_tape` reads back equal."""
    folder.mkdir(parents=True, exist_ok=True)
    tape.bars.loc[:, list(BAR_COLUMNS)].to_parquet(
        folder / "bars.parquet", index=False, compression="zstd"
    )
    for name, columns in TICK_TABLES.items():
        table: pd.DataFrame = getattr(tape, name)
        path = folder / f"{name}.parquet"
        # One of an older tape in this folder is none of this one's.
        path.unlink(missing_ok=True)
        if len(table):
            table.loc[:, list(columns)].to_parquet(path, index=False, compression="zstd")
    rows = [[getattr(item, name) for name in HEADLINE_COLUMNS] for item in tape.headlines]
    frame = pd.DataFrame(rows, columns=list(HEADLINE_COLUMNS))
    frame["at_ns"] = frame["at_ns"].astype("int64")
    frame["symbols"] = [list(item.symbols) for item in tape.headlines]
    if any(item.body_kind != TEXT for item in tape.headlines):
        frame["body_kind"] = [item.body_kind for item in tape.headlines]
    frame.to_parquet(folder / "headlines.parquet", index=False)
    _write_bulletins(tape, folder / "bulletins.parquet")
    (folder / "tape.yaml").write_text(_as_yaml(tape), encoding="utf-8")


def tape_id(folder: Path) -> str:
    """Return the first 16 hex digits of a digest over the tape's files: same bytes, same id."""
    digest = hashlib.sha256()
    for path in (folder / name for name in (*_FILES, *(f"{t}.parquet" for t in TICK_TABLES))):
        if path.exists():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _write_bulletins(tape: Tape, path: Path) -> None:
    # Those of an older tape in this folder are none of this one's.
    path.unlink(missing_ok=True)
    if tape.bulletins:
        bulletin_table(tape.bulletins).to_parquet(path, index=False)


def _as_yaml(tape: Tape) -> str:
    instruments: dict[str, dict[str, object]] = {}
    for symbol, item in tape.instruments.items():
        row: dict[str, object] = {key: getattr(item, key) for key in sorted(_INSTRUMENT_KEYS)}
        spread = tape.spreads[symbol]
        row |= {key: getattr(spread, key) for key in sorted(_SPREAD_KEYS)}
        instruments[symbol] = {key: value for key, value in row.items() if value is not None}
    content = {
        "format": FORMAT,
        "name": tape.name,
        "timezone": tape.timezone,
        "start": _text(tape.start_ns),
        "end": _text(tape.end_ns),
        "providers": dict(tape.providers),
        "instruments": instruments,
        "about": dict(tape.about),
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _text(at_ns: int) -> str:
    at = datetime.fromtimestamp(at_ns // NS_PER_S, tz=timezone.utc)
    return at.replace(microsecond=at_ns % NS_PER_S // _NS_PER_US).isoformat()


def _read_yaml(folder: Path) -> dict[str, Any]:
    path = folder / "tape.yaml"
    if not folder.is_dir():
        raise RecordError(f"no tape at {folder}: expected a folder with tape.yaml in it")
    if not path.is_file():
        raise RecordError(f"{folder} is not a tape: tape.yaml is missing")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise RecordError(f"{path}: not readable as YAML: {words}") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: expected a mapping, found {type(content).__name__}")
    if content.get("format") != FORMAT:
        raise RecordError(f"{path}: expected format {FORMAT}, found {content.get('format')!r}")
    return content


def _instruments(
    folder: Path, rows: object
) -> tuple[dict[str, Instrument], dict[str, SpreadModel]]:
    if not isinstance(rows, dict) or not rows:
        raise RecordError(f"{folder / 'tape.yaml'}: expected instruments, found {rows!r}")
    instruments: dict[str, Instrument] = {}
    spreads: dict[str, SpreadModel] = {}
    for symbol, row in rows.items():
        if not isinstance(row, dict) or set(row) - _INSTRUMENT_KEYS - _SPREAD_KEYS:
            known = ", ".join(sorted(_INSTRUMENT_KEYS | _SPREAD_KEYS))
            raise RecordError(
                f"{folder / 'tape.yaml'}: instrument {symbol}: known keys are {known}, found {row}"
            )
        facts = {key: value for key, value in row.items() if key in _INSTRUMENT_KEYS}
        spread = {key: value for key, value in row.items() if key in _SPREAD_KEYS}
        try:
            instruments[str(symbol)] = Instrument(symbol=str(symbol), **facts)
            spreads[str(symbol)] = SpreadModel(**spread)
        except (DataError, TypeError) as error:
            raise RecordError(
                f"{folder / 'tape.yaml'}: instrument {symbol}: expected con_id and numbers > 0,"
                f" found {row}: {error}"
            ) from error
    return instruments, spreads


def _zone(folder: Path, found: object) -> str:
    try:
        return find_zone(str(found)).key
    except ValueError as error:
        raise RecordError(
            f"{folder / 'tape.yaml'}: expected a timezone such as {NEW_YORK}, found {found!r}"
        ) from error


def _words(folder: Path, about: Mapping[str, Any], key: str) -> dict[str, str]:
    found = about.get(key) or {}
    if not isinstance(found, dict):
        raise RecordError(
            f"{folder / 'tape.yaml'}: expected {key} as a mapping of words, found {found!r}"
        )
    return {str(name): str(value) for name, value in found.items()}


def _instant(folder: Path, about: Mapping[str, Any], key: str) -> int:
    found = about.get(key)
    if isinstance(found, str):
        try:
            found = datetime.fromisoformat(found)
        except ValueError:
            found = about.get(key)
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise RecordError(
            f"{folder / 'tape.yaml'}: expected {key} as an ISO date and time with a zone, "
            f"found {found!r}"
        )
    return int(found.timestamp() // 1) * NS_PER_S + found.microsecond * _NS_PER_US


def _read_table(
    path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()
) -> pd.DataFrame:
    if not path.is_file():
        raise RecordError(f"{path} is missing")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: not readable as Parquet: {error}") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise RecordError(f"{path}: columns {missing} are missing, found {list(frame.columns)}")
    return frame.loc[:, [*columns, *(name for name in optional if name in frame.columns)]]


def _read_ticks(folder: Path, name: str, symbols: Mapping[str, Instrument]) -> pd.DataFrame:
    path = folder / f"{name}.parquet"
    if not path.exists():
        return empty_table(TICK_TABLES[name])
    return checked_ticks(path, _read_table(path, TICK_TABLES[name]), symbols)


def _read_bars(
    folder: Path, instruments: Mapping[str, Instrument], *, is_optional: bool
) -> pd.DataFrame:
    path = folder / "bars.parquet"
    if is_optional and not path.exists():
        return empty_table(BAR_COLUMNS)
    bars = _read_table(path, BAR_COLUMNS)
    _check_bars(folder, bars, instruments)
    return bars


def _check_bars(folder: Path, bars: pd.DataFrame, instruments: Mapping[str, Instrument]) -> None:
    path = folder / "bars.parquet"
    strangers = sorted(set(bars["symbol"].unique()) - set(instruments))
    if strangers:
        raise RecordError(f"{path}: symbols {strangers} are not in tape.yaml")
    numbers = bars[[name for name in BAR_COLUMNS if name != "symbol"]]
    if not all(pd.api.types.is_numeric_dtype(dtype) for dtype in numbers.dtypes):
        raise RecordError(f"{path}: expected numbers, found columns of {list(numbers.dtypes)}")
    prices = bars[["open", "high", "low", "close"]]
    # A missing or endless number makes a comparison false, so what is asked for is the good case.
    good = (
        np.isfinite(numbers.astype("float64")).all(axis=1)
        & (bars["low"] <= prices.min(axis=1))
        & (bars["high"] >= prices.max(axis=1))
        & (bars["low"] > 0)
        & (bars["volume"] >= 0)
        & (bars["seconds"] > 0)
    )
    if not good.all():
        first = bars[~good].iloc[0].to_dict()
        raise RecordError(f"{path}: {int((~good).sum())} impossible bars, the first is {first}")
    if bars.duplicated(["symbol", "at_ns"]).any():
        raise RecordError(f"{path}: two bars of one symbol start at the same instant")


def _read_headlines(path: Path) -> tuple[TapeHeadline, ...]:
    frame = _read_table(path, HEADLINE_COLUMNS, optional=("body_kind",))
    if "body_kind" not in frame.columns:
        frame = frame.assign(body_kind=TEXT)
    if frame.duplicated(["provider", "article_id"]).any():
        raise RecordError(f"{path}: two headlines share provider and article_id")
    found = [_headline(path, row) for row in frame.to_dict("records")]
    return tuple(sorted(found, key=lambda item: (item.at_ns, item.provider, item.article_id)))


def _read_bulletins(path: Path) -> tuple[TapeBulletin, ...]:
    return bulletins_of(path, _read_table(path, BULLETIN_COLUMNS)) if path.exists() else ()


def _headline(path: Path, row: Mapping[Hashable, Any]) -> TapeHeadline:
    check_body(path, row)
    texts = {str(n): str(row[n]) for n in row if n not in ("at_ns", "symbols")}
    try:
        symbols = tuple(str(symbol) for symbol in row["symbols"])
        return TapeHeadline(at_ns=int(row["at_ns"]), symbols=symbols, **texts)
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"{path}: expected at_ns as a whole number and symbols as a list, found {dict(row)}"
        ) from error
