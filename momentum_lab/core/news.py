"""Headlines: the raw text of a wire -> clean text, tickers, age.

What a wire sends is untrusted: a metadata block in braces, flash marks, HTML entities and
anything else may stand in it. Nothing here fails on a strange text; what is not understood stays
in the text.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from momentum_lab.core.market import NS_PER_S

# "{A:800015:L:en:K:0.97:C:0.9}" and then perhaps "!" and "*", as seen on the broker's wires.
_META = re.compile(r"^\s*(?:\{[^{}]*\})?\s*[!*\s]*")
# "(SPY)", "(BRK.B)", "(NASDAQ: AAPL)", "(AAPL, MSFT)".
_PARENTHESES = re.compile(r"\(([^()]{1,60})\)")
_EXCHANGES = "NYSE|NASDAQ|NASDAQGS|NASDAQGM|NASDAQCM|AMEX|NYSEAMERICAN|NYSEARCA|ARCA|BATS|CBOE"
_TICKER = re.compile(rf"^(?:(?i:{_EXCHANGES})\s*:\s*)?([A-Z]{{1,5}}(?:[ ./-][A-Z]{{1,2}})?)$")
# Parenthesised capitals that are not symbols. A universe check follows; this is the first net.
NOT_TICKERS = frozenset(
    {
        "AI",
        "API",
        "CEO",
        "CFO",
        "COO",
        "CPI",
        "CTO",
        "DOJ",
        "EBITDA",
        "EPA",
        "EPS",
        "ETF",
        "EU",
        "EV",
        "FBI",
        "FCC",
        "FDA",
        "FOMC",
        "FTC",
        "FX",
        "GAAP",
        "GDP",
        "IMF",
        "IPO",
        "IRS",
        "IT",
        "LLC",
        "LNG",
        "NATO",
        "NYSE",
        "OPEC",
        "PMI",
        "PR",
        "QE",
        "SEC",
        "TV",
        "UK",
        "UN",
        "US",
        "USA",
        "USD",
        "WHO",
    }
)

_LARGEST_SECONDS = 1e11


@dataclass(frozen=True, slots=True)
class Headline:
    """One headline as it reached us.

    Attributes:
        provider: the broker's provider code.
        article_id: unique per provider; with it the identity of the headline.
        published_ns: publication as the source says, UTC epoch nanoseconds.
        received_ns: arrival in market time.
        text: raw text.
        symbols: tickers, the primary one first; empty when none was found.
        extra: the provider's metadata string.
    """

    provider: str
    article_id: str
    published_ns: int
    received_ns: int
    text: str
    symbols: tuple[str, ...] = ()
    extra: str = ""

    @property
    def key(self) -> str:
        """Identity over subscriptions, reconnects and runs."""
        return f"{self.provider}:{self.article_id}"

    @property
    def age_s(self) -> float:
        """Seconds from publication to arrival; negative when stamped in the future."""
        return (self.received_ns - self.published_ns) / NS_PER_S


def clean_text(raw: str) -> str:
    """Return the headline without metadata block and flash marks, entities resolved."""
    text = html.unescape(raw)
    return " ".join(text[_META.match(text).end() :].split())  # type: ignore[union-attr]  # matches ""


def tickers_in(text: str) -> tuple[str, ...]:
    """Return the tickers written in parentheses, in order of appearance, without repeats.

    Class shares are returned in the broker's spelling ("BRK.B" -> "BRK B"). Words known not to be
    symbols are left out; whether the rest exists is for the caller's universe to say.
    """
    found: dict[str, None] = {}
    for inside in _PARENTHESES.findall(text):
        for part in re.split(r"[,;]", inside):
            match = _TICKER.match(part.strip())
            if match and match[1] not in NOT_TICKERS:
                found[re.sub(r"[./-]", " ", match[1])] = None
    return tuple(found)


def epoch_ns(stamp: float) -> int:
    """Return a publication stamp as nanoseconds; the broker sends seconds or milliseconds.

    Below 1e11 a number can only be seconds: as milliseconds it would lie before March 1973.
    """
    scale = NS_PER_S if stamp < _LARGEST_SECONDS else NS_PER_S // 1000
    return int(stamp * scale)
