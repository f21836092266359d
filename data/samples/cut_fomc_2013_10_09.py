"""Cut the sample tape `fomc-2013-10-09` out of one-second trade bars.

Run:  python data/samples/cut_fomc_2013_10_09.py FOLDER_WITH_SPY_IBM_BAC_PARQUET

The input files hold the columns ts (start, zone-aware), open, high, low, close, volume, as
converted from the equity samples of QuantConnect/Lean (Apache-2.0). The tape keeps the last
90 minutes of 2013-10-08 as history and the regular session of 2013-10-09.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd

from momentum_lab.core.fills import SpreadModel
from momentum_lab.core.market import NS_PER_S, Instrument
from momentum_lab.records.tape import BAR_COLUMNS, Tape, TapeHeadline, write_tape

NEW_YORK = ZoneInfo("America/New_York")
HISTORY_FROM = datetime(2013, 10, 8, 14, 30, tzinfo=NEW_YORK)
HISTORY_TO = datetime(2013, 10, 8, 16, 0, tzinfo=NEW_YORK)
START = datetime(2013, 10, 9, 9, 30, tzinfo=NEW_YORK)
END = datetime(2013, 10, 9, 16, 0, tzinfo=NEW_YORK)
MADE = "made for the sample: a quiet minute, nothing happened"

INSTRUMENTS = {
    "SPY": Instrument("SPY", 756733, 0.01, "ARCA", "SPDR S&P 500 ETF TRUST", "ETF"),
    "IBM": Instrument("IBM", 8314, 0.01, "NYSE", "INTL BUSINESS MACHINES CORP", "COMMON"),
    "BAC": Instrument("BAC", 10098, 0.01, "NYSE", "BANK OF AMERICA CORP", "COMMON"),
}
# Medians over the day's minutes in the minute quotes of the same source: closing bid-ask spread,
# and shares shown on a side (both sides together, cut to round lots).
SPREADS = {
    "SPY": SpreadModel(0.01, size_shares=3_700),
    "IBM": SpreadModel(0.06, size_shares=200),
    "BAC": SpreadModel(0.01, size_shares=62_400),
}

HEADLINES = (
    (9, 52, 0, "International Business Machines (IBM) to speak at a software conference this week"),
    (11, 14, 0, "Looking Ahead - what the bond market expects from the afternoon"),
    (11, 40, 0, "Bank of America (BAC) says it will open two branches in Denver"),
    (14, 0, 0, "Market View: Federal Open Market Committee releases the minutes of its"
     " September 17-18 meeting; broad market (SPY) in focus"),
    (15, 10, 0, "International Business Machines (IBM) names a regional marketing head"),
)  # fmt: skip


def _bars(folder: Path, symbol: str) -> pd.DataFrame:
    rows = pd.read_parquet(folder / f"{symbol}.parquet")
    at = rows["ts"].dt.tz_convert(NEW_YORK)
    history = (at >= HISTORY_FROM) & (at < HISTORY_TO)
    rows = rows[history | ((at >= START) & (at < END))]
    epoch = pd.Timestamp(0, tz="UTC")
    at_ns = (rows["ts"].dt.tz_convert("UTC") - epoch) // pd.Timedelta(1, "ns")
    rows = rows.assign(symbol=symbol, at_ns=at_ns.astype("int64"), seconds=1)
    return rows.loc[:, list(BAR_COLUMNS)]


def _headlines() -> tuple[TapeHeadline, ...]:
    found = []
    for number, (hour, minute, second, text) in enumerate(HEADLINES, start=1):
        at = datetime(2013, 10, 9, hour, minute, second, tzinfo=NEW_YORK)
        is_fact = "Federal Open Market" in text
        found.append(
            TapeHeadline(
                at_ns=int(at.timestamp()) * NS_PER_S,
                provider="BRFG",
                article_id=f"BRFG${number:08x}",
                headline=text,
                extra="A:800015:L:en:K:n/a:C:0.0",
                note="public fact: the minutes were released at 14:00:00 New York; wording made"
                " for the sample"
                if is_fact
                else MADE,
            )
        )
    return tuple(found)


def main(folder: Path) -> None:
    """Write the tape beside this script."""
    tape = Tape(
        name="fomc-2013-10-09",
        start_ns=int(START.timestamp()) * NS_PER_S,
        end_ns=int(END.timestamp()) * NS_PER_S,
        timezone="America/New_York",
        instruments=INSTRUMENTS,
        spreads=SPREADS,
        providers={"BRFG": "Briefing.com General Market Columns"},
        bars=pd.concat([_bars(folder, symbol) for symbol in INSTRUMENTS], ignore_index=True),
        headlines=_headlines(),
        about={
            "licence": "Apache-2.0 (bars)",
            "source": "QuantConnect/Lean, commit 24863901, Data/equity/usa/second",
            "spread_usd": "median closing spread of the day's minute quotes of the same source",
            "size_shares": "median of the sizes of the same quotes",
            "prices": "raw, not adjusted; seconds without a trade are absent",
        },
    )
    write_tape(tape, Path(__file__).parent / tape.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
