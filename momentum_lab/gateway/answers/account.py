"""Answers about the session itself and the account."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from momentum_lab.core.market import NS_PER_S, Instrument
from momentum_lab.gateway import account_messages
from momentum_lab.gateway.refusal import RefusedError, invalid
from momentum_lab.gateway.subscriptions import Subscriptions
from momentum_lab.gateway.ticks import DELAYED, DELAYED_FROZEN, FROZEN, LIVE
from momentum_lab.gateway.wire import Request

if TYPE_CHECKING:
    from momentum_lab.gateway.session import Session

_MARKET_DATA_TYPES = (LIVE, FROZEN, DELAYED, DELAYED_FROZEN)


def _start_api(session: Session, request: Request) -> None:
    if session.client_id is not None:
        raise RefusedError(507, "Bad Message: the API has been started already")
    session.start(request["client_id"])


def _current_time(session: Session, _request: Request) -> None:
    session.send("currentTime", time=session.hub.market.now_ns // NS_PER_S)


def _ids(session: Session, _request: Request) -> None:
    client_id = session.client_id or 0
    session.send("nextValidId", order_id=session.hub.exchange.books.next_order_id(client_id))


def _managed_accounts(session: Session, _request: Request) -> None:
    session.send("managedAccounts", accounts=session.hub.account.code)


def _nothing(_session: Session, _request: Request) -> None:
    """For requests that the protocol answers with silence."""


def _market_data_type(session: Session, request: Request) -> None:
    """Remember it for the lines to come: each says for itself what it got."""
    if request["market_data_type"] not in _MARKET_DATA_TYPES:
        raise invalid(f"Invalid market data type {request['market_data_type']}")
    session.subscriptions.data_type = request["market_data_type"]


def _user_info(session: Session, request: Request) -> None:
    session.send("userInfo", req_id=request["req_id"])


def _family_codes(session: Session, _request: Request) -> None:
    codes = [{"account": session.hub.account.code, "family_code": ""}]
    session.send("familyCodes", family_codes=codes)


def _check_account(session: Session, account: str) -> None:
    if account not in ("", "All", session.hub.account.code):
        raise invalid(f"Invalid account code '{account}'.")


def _account_updates(session: Session, request: Request) -> None:
    if not request["subscribe"]:
        session.subscriptions.has_account = False
        return
    _check_account(session, request["account"])
    session.subscriptions.has_account = True
    session.send_all(account_messages.account_updates(session.hub.account))
    session.send("accountDownloadEnd", account=session.hub.account.code)


def _account_multi(session: Session, request: Request) -> None:
    _check_account(session, request["account"])
    session.subscriptions.multi.add(request["req_id"])
    session.send_all(account_messages.account_multi(session.hub.account, request["req_id"]))
    session.send("accountUpdateMultiEnd", req_id=request["req_id"])


def _account_summary(session: Session, request: Request) -> None:
    _check_account(session, request["group"])
    req_id = request["req_id"]
    tags = tuple(tag.strip() for tag in request["tags"].split(",") if tag.strip())
    session.subscriptions.summaries[req_id] = tags
    session.send_all(account_messages.account_summary(session.hub.account, req_id, tags))
    session.send("accountSummaryEnd", req_id=req_id)


def _positions(session: Session, _request: Request) -> None:
    session.subscriptions.has_positions = True
    for held in session.hub.account.positions_today():
        session.send("position", **account_messages.position(session.hub.account, held))
    session.send("positionEnd")


def _positions_multi(session: Session, request: Request) -> None:
    _check_account(session, request["account"])
    session.subscriptions.positions_multi.add(request["req_id"])
    for held in session.hub.account.positions_today():
        values = account_messages.position(session.hub.account, held)
        session.send("positionMulti", req_id=request["req_id"], **values)
    session.send("positionMultiEnd", req_id=request["req_id"])


def _pnl(session: Session, request: Request) -> None:
    _check_account(session, request["account"])
    session.subscriptions.pnl.add(request["req_id"])
    session.send("pnl", **account_messages.pnl(session.hub.account, request["req_id"]))


def _pnl_single(session: Session, request: Request) -> None:
    _check_account(session, request["account"])
    listed = session.hub.catalog.by_con_id(request["con_id"])
    if not isinstance(listed, Instrument):
        raise invalid(f"Invalid contract id {request['con_id']}")
    req_id = request["req_id"]
    session.subscriptions.pnl_single[req_id] = listed.symbol
    session.send(
        "pnlSingle", **account_messages.pnl_single(session.hub.account, req_id, listed.symbol)
    )


def _cancel_positions(session: Session, _request: Request) -> None:
    session.subscriptions.has_positions = False


def _cancel(forget: Callable[[Subscriptions, int], object]) -> Callable[[Session, Request], None]:
    def answer(session: Session, request: Request) -> None:
        forget(session.subscriptions, request["req_id"])

    return answer


ANSWERS: Mapping[str, Callable[[Session, Request], None]] = {
    "startApi": _start_api,
    "reqCurrentTime": _current_time,
    "reqIds": _ids,
    "reqManagedAccts": _managed_accounts,
    "setServerLogLevel": _nothing,
    "reqMarketDataType": _market_data_type,
    "reqUserInfo": _user_info,
    "reqFamilyCodes": _family_codes,
    "reqAccountUpdates": _account_updates,
    "reqAccountUpdatesMulti": _account_multi,
    "cancelAccountUpdatesMulti": _cancel(lambda s, n: s.multi.discard(n)),
    "reqAccountSummary": _account_summary,
    "cancelAccountSummary": _cancel(lambda s, n: s.summaries.pop(n, None)),
    "reqPositions": _positions,
    "cancelPositions": _cancel_positions,
    "reqPositionsMulti": _positions_multi,
    "cancelPositionsMulti": _cancel(lambda s, n: s.positions_multi.discard(n)),
    "reqPnL": _pnl,
    "cancelPnL": _cancel(lambda s, n: s.pnl.discard(n)),
    "reqPnLSingle": _pnl_single,
    "cancelPnLSingle": _cancel(lambda s, n: s.pnl_single.pop(n, None)),
    # What is ended here was refused when it was asked for: a second refusal would say nothing.
    **dict.fromkeys(
        (
            *("cancelScannerSubscription", "cancelFundamentalData", "unsubscribeFromGroupEvents"),
            *("cancelCalculateImpliedVolatility", "cancelCalculateOptionPrice"),
            *("cancelWshMetaData", "cancelWshEventData"),
        ),
        _nothing,
    ),
}
