"""Checks of what a session hears: contracts, candles, news, quotes, and the farms behind them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio
import ib_insync

from momentum_lab.core.market import Quote
from momentum_lab.errors import BrokerError, ConnectionLostError, DataError
from momentum_lab.live.finding import Finding, failure, fine, skipped, warning
from momentum_lab.live.ibkr import translate
from momentum_lab.live.ibkr.asking import ask
from momentum_lab.live.ibkr.case import Case
from momentum_lab.live.ibkr.codes import Reaction, Severity, code_of
from momentum_lab.live.ibkr.generic_ticks import (
    LINE_TICKS,
    TICKS_WITHOUT_HEADLINES,
    refuses_ticks,
)
from momentum_lab.live.ibkr.handshake import Heard

_N_QUOTED, _N_NAMED = 3, 8
_QUOTE_WAIT_S, _LOOK_EVERY_S = 5.0, 0.05
_FROZEN, _DELAYED, _DELAYED_FROZEN = 2, 3, 4
_SHOWN_DELAYED, _OTHER_LOGIN = 10167, 10197
_NOT_BOUGHT = frozenset({354, 10089, 10090, 10091, 10168, 10186})
_SUBSCRIBE = (
    "Subscribe to live US stock quotes for this user, and share them with the paper account."
)
_WAIT = "Wait until the gateway has its broker again, or restart it."
_UPSTREAM = (Reaction.LEAVE_OPERATIONAL, Reaction.SYNCHRONISE)
# What a farm says: broken, then there or asleep until it is asked.
_FARMS = {
    "quotes": ({2103}, {2104, 2108}),
    "history": ({2105}, {2106, 2107}),
    "contracts": ({2157}, {2158}),
}


async def check_contracts(case: Case) -> Sequence[Finding]:
    """Each symbol of the universe is one US stock."""
    universe, unknown = case.parameters.universe, []
    for symbol in universe:
        contract = translate.stock(symbol)
        found = await _details(case, contract, f"contract of {symbol}")
        if len(found) != 1:
            unknown.append(f"{symbol} ({len(found)} found)")
            continue
        contract.conId = translate.instrument_of(found[0]).con_id
        case.contracts.append(contract)
    if unknown:
        return [
            failure(
                "contracts",
                f"expected one US stock for each symbol, not so: {', '.join(unknown)}",
                "Correct universe; a class of shares is written with a space, as in BRK B.",
            )
        ]
    shown = ", ".join(universe[:_N_NAMED]) + (", ..." if len(universe) > _N_NAMED else "")
    return [fine("contracts", f"{len(universe)} of {len(universe)} symbols known: {shown}")]


async def _details(
    case: Case, contract: ib_insync.Contract, what: str
) -> Sequence[ib_insync.ContractDetails]:
    """Return what the broker knows under a contract, nothing where it refuses to know it."""
    try:
        return await ask(
            what, partial(case.ib.reqContractDetailsAsync, contract), timeout_s=case.timeout_s
        )
    except ConnectionLostError:
        raise
    except BrokerError:
        return []


async def check_candles(case: Case) -> Sequence[Finding]:
    """Historical candles are given; one small request, as they are rationed."""
    if not case.contracts:
        return [skipped("candles", "needs one known symbol of the universe")]
    contract = case.contracts[0]
    request = partial(
        case.ib.reqHistoricalDataAsync,
        contract, "", "1800 S", "1 min", "TRADES", useRTH=True, formatDate=2, timeout=0,
    )  # fmt: skip
    words = "no candles"
    try:
        bars = translate.bars_of(
            await ask(f"candles of {contract.symbol}", request, timeout_s=case.timeout_s),
            seconds=60,
        )
    except ConnectionLostError:
        raise
    except DataError as error:
        return [failure("candles", str(error), "Choose English at the gateway's login window.")]
    except BrokerError as error:
        cause = error.__cause__
        if not (isinstance(cause, ib_insync.RequestError) and translate.says_no_data(cause)):
            return [failure("candles", str(error), _SUBSCRIBE)]
        bars, words = (), "the broker says that there are no candles"
    if bars:
        return [fine("candles", f"{len(bars)} one-minute candles of {contract.symbol}")]
    return [
        warning(
            "candles",
            f"{contract.symbol}: {words} of the last half hour of trading",
            "Examine again while the exchange is open.",
        )
    ]


async def check_news(case: Case) -> Sequence[Finding]:
    """Each configured provider may be read by this user, and publishes on a broad tape."""
    rows = await ask("news providers", case.ib.reqNewsProvidersAsync, timeout_s=case.timeout_s)
    names = {row.code: row.name for row in rows}
    wanted = case.parameters.news.providers
    if not wanted:
        return [fine("news", "no tape is configured; the watch list's own headlines come")]
    has_any = any(code in names for code in wanted)
    return [await _provider(case, code, names, has_any=has_any) for code in wanted]


async def _provider(case: Case, code: str, names: dict[str, str], *, has_any: bool) -> Finding:
    check = f"news {code}"
    if code not in names:
        say = warning if has_any else failure
        entitled = ", ".join(sorted(names)) or "none"
        return say(
            check,
            f"not among the providers of this user: {entitled}",
            "Subscribe to it for the API, or take it out of news.providers.",
        )
    found = await _details(case, translate.news_provider(code), f"news tapes of {code}")
    tapes = [details.contract.symbol for details in found if details.contract is not None]
    if tapes:
        # The tape of everything holds what the others hold.
        whole = [name for name in tapes if name.endswith("_ALL")] or tapes
        return fine(check, f"{names[code]}: {', '.join(whole)}")
    return warning(
        check,
        f"{names[code]}: entitled, but it has no tape",
        "Expect its headlines for the symbols of the universe only.",
    )


async def check_farms(case: Case) -> Sequence[Finding]:
    """The gateway has its broker, and the farms behind it are there, as far as it has said."""
    upstream = [item for item in case.visit.heard if code_of(item.code).reaction in _UPSTREAM]
    if upstream and code_of(upstream[-1].code).reaction is Reaction.LEAVE_OPERATIONAL:
        return [failure("farms", f"the gateway has lost its broker: {_words(upstream)}", _WAIT)]
    said, broken = [], []
    for name, (bad, good) in _FARMS.items():
        about = [item for item in case.visit.heard if item.code in bad | good]
        if about and about[-1].code in bad:
            broken.append(f"{name} ({_words(about)})")
        elif about:
            said.append(name)
    if broken:
        return [warning("farms", f"broken: {', '.join(broken)}", _WAIT)]
    text = f"{', '.join(said)}: there" if said else "the gateway has said nothing about them"
    return [fine("farms", text)]


async def check_quotes(case: Case) -> Sequence[Finding]:
    """Live quotes flow for the first symbols; this subscribes to them for some seconds."""
    if not case.contracts:
        return [skipped("quotes", "needs one known symbol of the universe")]
    lines = [_Quoted(case, contract) for contract in case.contracts[:_N_QUOTED]]
    with anyio.move_on_after(_QUOTE_WAIT_S):
        while True:
            are_told = [line.look() for line in lines]
            if all(are_told):
                break
            await anyio.sleep(_LOOK_EVERY_S)
    findings = [line.finding() for line in lines]
    for line in lines:
        line.close()
    refusals = [line.headlines_refusal for line in lines if line.headlines_refusal is not None]
    return [*findings, *(_headlines_refused(case, refusal) for refusal in refusals[:1])]


def _headlines_refused(case: Case, refusal: Heard) -> Finding:
    """Return what it means that the lines bring no headlines of their stocks."""
    has_tape = bool(case.parameters.news.providers)
    say = warning if has_tape else failure
    rest = "the tapes alone bring them" if has_tape else "and no tape is configured"
    return say(
        "headlines",
        f"of single stocks refused, {rest}: {refusal.code} {refusal.text}",
        "Subscribe this user to news for the API, and name the provider in news.providers.",
    )


class _Quoted:
    """One symbol's line while it is looked at.

    Attributes:
        headlines_refusal: what the broker said when it refused the headlines of the stock.
    """

    def __init__(self, case: Case, contract: ib_insync.Contract) -> None:
        """Subscribe, as a session does."""
        self._case, self._contract = case, contract
        self.headlines_refusal: Heard | None = None
        self._ask(LINE_TICKS)

    def _ask(self, ticks: str) -> None:
        ib = self._case.ib
        self._ticker = ib.reqMktData(self._contract, ticks, False, False)
        self._request: int = ib.wrapper.ticker2ReqId["mktData"][self._ticker]

    def look(self) -> bool:
        """Return whether there is something to report: a quote, or a refusal.

        Where the headlines of the stock are refused, quotes alone are asked for, as a session does.
        """
        refusal = self._refusal()
        if refusal is None:
            return self._quote().mid is not None
        if self.headlines_refusal is not None or not refuses_ticks(refusal.code, refusal.text):
            return True
        self.headlines_refusal = refusal
        self.close()
        self._ask(TICKS_WITHOUT_HEADLINES)
        return False

    def close(self) -> None:
        """Cancel the line."""
        self._case.ib.cancelMktData(self._contract)

    def finding(self) -> Finding:
        """Return what the line has brought so far."""
        check, quote = f"quote {self._contract.symbol}", self._quote()
        refusal, kind = self._refusal(), self._ticker.marketDataType
        if kind in (_DELAYED, _DELAYED_FROZEN) or self._was_told(_SHOWN_DELAYED):
            text = f"delayed: {_prices(quote)}; every entry would be refused"
            return failure(check, text, _SUBSCRIBE)
        if refusal is not None:
            return failure(check, f"refused: {refusal.code} {refusal.text}", _cure_of(refusal))
        if quote.mid is None:
            return self._silent(check, quote)
        if kind == _FROZEN:
            text = f"frozen: {_prices(quote)}"
            if self._case.is_in_session():
                return warning(check, text, "Examine again; an open market has live quotes.")
            return fine(check, f"{text}, as the exchange is closed")
        return fine(check, f"live: {_prices(quote)}")

    def _silent(self, check: str, quote: Quote) -> Finding:
        said = self._case.visit.errors_of(self._request)
        words = f"; the broker says {_words(said)}" if said else ""
        text = f"no bid and ask within {_QUOTE_WAIT_S:g} s ({_prices(quote)}{words})"
        if self._case.is_in_session():
            return failure(check, f"{text} although the exchange is open", _SUBSCRIBE)
        return warning(check, text, "Examine again while the exchange is open.")

    def _quote(self) -> Quote:
        return translate.quote_of(self._contract.symbol, self._ticker, self._case.now_ns())

    def _refusal(self) -> Heard | None:
        said = self._case.visit.errors_of(self._request)
        return next((item for item in said if code_of(item.code).severity is Severity.ERROR), None)

    def _was_told(self, code: int) -> bool:
        return any(item.code == code for item in self._case.visit.errors_of(self._request))


def _cure_of(refusal: Heard) -> str:
    if refusal.code == _OTHER_LOGIN:
        return "Log this user out elsewhere: TWS, phone or browser have taken its quotes."
    if refusal.code in _NOT_BOUGHT:
        return _SUBSCRIBE
    return "Look the code up in the broker's list of message codes."


def _prices(quote: Quote) -> str:
    def shown(price: float | None) -> str:
        return "-" if price is None else f"{price:.2f}"

    return f"bid {shown(quote.bid)}, ask {shown(quote.ask)}"


def _words(heard: Sequence[Heard]) -> str:
    return f"{heard[-1].code} {heard[-1].text}"
