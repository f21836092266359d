"""The examination before a session, against paper gateways that are well, and that are not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import anyio.abc
import pytest
import yaml
from click.testing import CliRunner, Result

from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.windows import WindowParameters
from momentum_lab.faces.cli import main
from momentum_lab.gateway.answers import ANSWERS
from momentum_lab.gateway.refusal import invalid
from momentum_lab.gateway.server import Gateway, GatewaySettings, paper_gateway
from momentum_lab.gateway.session import Session
from momentum_lab.gateway.ticks import DELAYED
from momentum_lab.gateway.wire import Request
from momentum_lab.live.finding import Finding, Verdict
from momentum_lab.live.ibkr.examine import examine, spare_client_id
from momentum_lab.parameters import Parameters
from tests.conftest import StartGateway
from tests.session_kit import ROOT, TAPE, demo_parameters, free_port, until

START_NS = (
    int(datetime(2013, 10, 9, 13, 40, tzinfo=ZoneInfo("America/New_York")).timestamp()) * NS_PER_S
)


@dataclass
class Report:
    """The findings of one examination, by check."""

    findings: tuple[Finding, ...]

    def __getitem__(self, check: str) -> Finding:
        (found,) = (item for item in self.findings if item.check == check)
        return found

    def verdict(self, check: str) -> str:
        return self[check].verdict.value

    def of(self, verdict: Verdict) -> set[str]:
        return {item.check for item in self.findings if item.verdict is verdict}


@asynccontextmanager
async def gateway(**settings: Any) -> AsyncIterator[Gateway]:
    # Slow, so that its clock hardly moves during an examination.
    changed = {"start_ns": START_NS, "fast": 1, "slow": 1, **settings}
    async with paper_gateway(GatewaySettings(tape=TAPE, **changed)) as found:
        yield found


def quick(port: int, **changes: Any) -> Parameters:
    """The demonstration's set with short time limits."""
    found = replace(demo_parameters(port), **changes)
    connection = replace(found.connection, connect_timeout_s=1.5, request_timeout_s=1.0)
    return replace(found, connection=connection)


async def examined(port: int, *, with_quotes: bool = False, **changes: Any) -> Report:
    return Report(await examine(quick(port, **changes), with_quotes=with_quotes))


async def examined_with(fault: str) -> Report:
    """The report of a gateway to which a fault happens as soon as the client is in."""
    async with gateway() as found:

        def note(finding: Finding) -> None:
            if finding.check == "client id":
                found.inject(fault)

        return Report(await examine(quick(found.port), with_quotes=False, on_finding=note))


def set_wall_clock(monkeypatch: pytest.MonkeyPatch, found: Gateway, ahead_s: float = 0.5) -> None:
    """Let this machine's clock show the tape's time, as a paper session's would."""
    now_ns = found.now_ns + round(ahead_s * NS_PER_S)
    for module in ("checks_of_time", "case"):
        monkeypatch.setattr(f"momentum_lab.live.ibkr.{module}.wall_ns", lambda: now_ns)


# ------------------------------------------------------------------- all is well


@pytest.mark.anyio
async def test_a_replay_at_a_healthy_gateway_has_nothing_to_cure() -> None:
    async with gateway() as found:
        report = await examined(found.port, with_quotes=True)

        assert {item.verdict for item in report.findings} == {Verdict.OK}
        assert not any(item.cure for item in report.findings)
        assert report["quote SPY"].found.startswith("live: bid 165.")
        assert {"quote SPY", "quote IBM", "quote BAC"} <= {item.check for item in report.findings}


@pytest.mark.anyio
async def test_a_paper_session_at_a_healthy_gateway_has_nothing_to_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gateway() as found:
        set_wall_clock(monkeypatch, found)
        report = await examined(found.port, with_quotes=True, mode="paper")

    assert {item.verdict for item in report.findings} == {Verdict.OK}
    assert "restart at 23:45 America/New_York" in report["time zone"].found


@pytest.mark.anyio
async def test_an_examination_leaves_nothing_behind() -> None:
    async with gateway() as found:
        await examined(found.port, with_quotes=True)
        await until(lambda: not found.hub.sessions)

        assert found.hub.exchange.live_orders() == []
        assert found.hub.exchange.done_today() == []


@pytest.mark.anyio
async def test_without_quotes_a_held_clock_is_not_started() -> None:
    async with gateway() as found:
        report = await examined(found.port)

        assert not found.hub.has_streamed
        assert found.now_ns == START_NS
        assert not any(item.check.startswith("quote") for item in report.findings)


@pytest.mark.anyio
async def test_findings_are_told_as_they_are_made() -> None:
    told: list[Finding] = []
    async with gateway() as found:
        findings = await examine(quick(found.port), with_quotes=False, on_finding=told.append)

    assert tuple(told) == findings


@pytest.mark.parametrize(("session", "spare"), [(17, 917), (99, 999), (500, 999), (999, 998)])
def test_the_examination_has_a_client_id_of_its_own(session: int, spare: int) -> None:
    assert spare_client_id(session) == spare


# --------------------------------------------------------------- the connection


@pytest.mark.anyio
async def test_where_nothing_listens_the_rest_is_skipped() -> None:
    report = await examined(free_port())

    assert report.verdict("port") == "failure"
    assert "onnect" in report["port"].found
    assert report.of(Verdict.FAILURE) == {"port"}
    assert "handshake" not in {item.check for item in report.findings}
    assert report["account"].found == "needs the connection"


@pytest.mark.anyio
async def test_a_half_open_gateway_is_told_from_a_closed_port() -> None:
    async with gateway() as found:
        found.inject("half_open")
        report = await examined(found.port)

    assert report.verdict("port") == "ok"
    assert report.of(Verdict.FAILURE) == {"handshake"}
    assert "login window" in report["handshake"].found


@asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[int]:
    """Something else on a port: it answers, or closes at once."""

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            if answer is not None:
                await stream.send(answer)
                await anyio.sleep(3)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield int(listener.extra(anyio.abc.SocketAttribute.local_port))  # noqa: S610 - not Django's
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_another_program_on_the_port_is_recognised() -> None:
    async with server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        report = await examined(port)

    assert report.of(Verdict.FAILURE) == {"handshake"}
    assert "something else" in report["handshake"].found


@pytest.mark.anyio
async def test_a_gateway_that_trusts_no_stranger_is_recognised() -> None:
    async with server(None) as port:
        report = await examined(port)

    assert "closed before a word is said" in report["handshake"].found
    assert "trusted IPs" in report["handshake"].cure


@pytest.mark.anyio
async def test_a_taken_client_id_is_named() -> None:
    async with gateway() as found:
        found.inject("client_id_busy")
        with anyio.fail_after(1):
            report = await examined(found.port)

    assert report.verdict("handshake") == "ok"
    assert report.of(Verdict.FAILURE) == {"client id"}
    assert "917 is in use" in report["client id"].found


@pytest.mark.anyio
async def test_a_request_without_an_answer_does_not_keep_the_others() -> None:
    async with gateway() as found:
        found.inject("lost_answer", {"request": "reqNewsProviders"})
        report = await examined(found.port)

    assert report.of(Verdict.FAILURE) == {"news"}
    assert "no answer within 1 s" in report["news"].found
    assert report.verdict("orders") == "ok"


@pytest.mark.anyio
async def test_a_connection_that_ends_meanwhile_skips_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ANSWERS, "reqContractDetails", lambda session, _: session._scope.cancel())
    async with gateway() as found:
        report = await examined(found.port)

    assert report.of(Verdict.FAILURE) == {"contracts"}
    assert report["news"].found == "the connection ended during the examination"


@pytest.mark.anyio
async def test_a_gateway_without_its_broker_is_a_failure() -> None:
    report = await examined_with("1100")

    assert "1100" in report["farms"].found
    assert report.verdict("farms") == "failure"


# ------------------------------------------------------------------ the account


@pytest.mark.anyio
async def test_an_account_of_another_login_is_refused_without_its_full_number() -> None:
    async with gateway() as found:
        report = await examined(found.port, account="DU7654321")

    assert report.of(Verdict.FAILURE) == {"account"}
    assert report.of(Verdict.SKIPPED) == {"equity", "orders"}
    text = " ".join(item.found for item in report.findings)
    assert "DU*****21" in text
    assert "7654321" not in text
    assert "1234567" not in text


@pytest.mark.anyio
async def test_a_paper_account_does_for_no_live_session() -> None:
    async with gateway() as found:
        report = await examined(found.port, mode="live")

    assert "'DU', a paper account" in report["account"].found
    assert report.verdict("orders") == "skipped"


@pytest.mark.anyio
async def test_an_account_that_is_no_paper_account_does_for_no_paper_session() -> None:
    async with gateway(account="DF1234567") as found:
        report = await examined(found.port)

    assert report.verdict("account") == "failure"
    assert report.verdict("orders") == "skipped"


@pytest.mark.anyio
async def test_a_read_only_api_is_recognised_by_the_list_of_orders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(session: Any, _request: object) -> None:
        cause = "The API interface is currently in Read-Only mode."
        session.error(-1, 321, f"Error validating request.-'cM' : cause - {cause}")

    monkeypatch.setitem(ANSWERS, "reqOpenOrders", refuse)
    async with gateway() as found:
        report = await examined(found.port)

    assert report.of(Verdict.FAILURE) == {"orders"}
    assert "Read-Only API off" in report["orders"].cure


@pytest.mark.anyio
async def test_an_order_that_is_not_valued_is_a_warning() -> None:
    async with gateway() as found:
        found.inject("lost_answer", {"request": "placeOrder"})
        report = await examined(found.port)

    assert report.verdict("orders") == "warning"
    assert "was not valued" in report["orders"].found


# --------------------------------------------------------------------- the time


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("skew_s", "verdict"),
    [(0, "ok"), (2, "warning"), (-3, "warning"), (5, "failure"), (-5, "failure")],
)
async def test_clocks_that_differ_are_told(
    monkeypatch: pytest.MonkeyPatch, skew_s: int, verdict: str
) -> None:
    async with gateway() as found:
        set_wall_clock(monkeypatch, found)
        found.inject("clock_skew", {"skew_s": skew_s})
        report = await examined(found.port, mode="paper")

    assert report.verdict("clock") == verdict


@pytest.mark.anyio
async def test_a_tape_does_for_no_paper_session() -> None:
    async with gateway() as found:
        report = await examined(found.port, mode="paper")

    assert report.verdict("clock") == "failure"
    assert "days ahead" in report["clock"].found


@pytest.mark.anyio
async def test_a_replay_at_a_gateway_of_today_is_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway() as found:
        set_wall_clock(monkeypatch, found)
        report = await examined(found.port)

    assert report.verdict("clock") == "warning"


@pytest.mark.anyio
async def test_a_gateway_in_another_zone_than_its_restart_is_doubtful(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with gateway() as found:
        set_wall_clock(monkeypatch, found)
        windows = WindowParameters(gateway_restart_zone="UTC")
        report = await examined(found.port, mode="paper", windows=windows)

    assert report.verdict("time zone") == "warning"
    assert "America/New_York, UTC-04:00" in report["time zone"].found


@pytest.mark.anyio
async def test_the_window_that_applies_is_named() -> None:
    async with gateway() as found:
        windows = WindowParameters(gateway_restart="13:40")
        report = await examined(found.port, windows=windows)

    assert report.verdict("hours") == "warning"
    assert "the gateway's daily restart is due until Wed 13:45" in report["hours"].found


# --------------------------------------------------------------------- the data


@pytest.mark.anyio
async def test_a_provider_that_is_missing_is_a_warning_beside_another() -> None:
    async with gateway() as found:
        news = replace(quick(found.port).news, providers=("BRFG", "BZ"))
        report = await examined(found.port, news=news)

    assert report.verdict("news BRFG") == "ok"
    assert report.verdict("news BZ") == "warning"


@pytest.mark.anyio
async def test_without_any_provider_there_is_no_news_to_trade() -> None:
    async with gateway() as found:
        news = replace(quick(found.port).news, providers=("BZ",))
        report = await examined(found.port, news=news)

    assert report.of(Verdict.FAILURE) == {"news BZ"}
    assert "BRFG" in report["news BZ"].found


@pytest.mark.anyio
async def test_an_unknown_symbol_is_named_and_the_known_ones_are_examined() -> None:
    async with gateway() as found:
        report = await examined(found.port, universe=("NOPE", "SPY"), with_quotes=True)

    assert report.of(Verdict.FAILURE) == {"contracts"}
    assert "NOPE (0 found)" in report["contracts"].found
    assert report.verdict("candles") == "ok"
    assert report.verdict("quote SPY") == "ok"


@pytest.mark.anyio
async def test_with_no_known_symbol_what_needs_one_is_skipped() -> None:
    async with gateway() as found:
        report = await examined(found.port, universe=("NOPE",), with_quotes=True)

    assert report.of(Verdict.SKIPPED) == {"candles", "orders", "quotes"}


@pytest.mark.anyio
async def test_delayed_quotes_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("momentum_lab.gateway.answers.quotes.data_type_of", lambda *_: DELAYED)
    async with gateway() as found:
        report = await examined(found.port, with_quotes=True)

    assert report.of(Verdict.FAILURE) == {"quote SPY", "quote IBM", "quote BAC"}
    assert report["quote SPY"].found.startswith("delayed: ")


@pytest.mark.anyio
async def test_quotes_that_were_not_bought_are_a_failure() -> None:
    async with gateway(unsubscribed=frozenset({"IBM"})) as found:
        report = await examined(found.port, with_quotes=True)

    assert report.of(Verdict.FAILURE) == {"quote IBM"}
    assert "354" in report["quote IBM"].found


@pytest.mark.anyio
@pytest.mark.parametrize(("providers", "verdict"), [(("BRFG",), "warning"), ((), "failure")])
async def test_a_user_without_headlines_of_stocks_is_told_so(
    monkeypatch: pytest.MonkeyPatch, providers: tuple[str, ...], verdict: str
) -> None:
    answer = ANSWERS["reqMktData"]

    def refuse(session: Session, request: Request) -> None:
        if "292" in request["generic_ticks"]:
            raise invalid("Incorrect generic tick list of 233,292.  Legal ones for (STK) are: 233")
        answer(session, request)

    monkeypatch.setitem(ANSWERS, "reqMktData", refuse)
    async with gateway() as found:
        news = replace(demo_parameters(found.port).news, providers=providers)
        report = await examined(found.port, with_quotes=True, news=news)

    assert report.verdict("headlines") == verdict
    assert "321" in report["headlines"].found
    assert {report.verdict(f"quote {symbol}") for symbol in ("SPY", "IBM", "BAC")} == {"ok"}


@pytest.mark.anyio
async def test_the_ticks_of_a_session_s_lines_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer, asked = ANSWERS["reqMktData"], list[str]()

    def note(session: Session, request: Request) -> None:
        asked.append(request["generic_ticks"])
        answer(session, request)

    monkeypatch.setitem(ANSWERS, "reqMktData", note)
    async with gateway() as found:
        report = await examined(found.port, with_quotes=True)

    assert asked == 3 * ["233,292"]
    assert report.of(Verdict.FAILURE) == set()
    assert "headlines" not in {item.check for item in report.findings}


@pytest.mark.anyio
@pytest.mark.parametrize(("is_open", "verdict"), [(True, "failure"), (False, "warning")])
async def test_silence_counts_while_the_exchange_is_open(
    monkeypatch: pytest.MonkeyPatch, is_open: bool, verdict: str
) -> None:
    monkeypatch.setattr("momentum_lab.live.ibkr.checks_of_data._QUOTE_WAIT_S", 0.2)
    monkeypatch.setattr("momentum_lab.live.ibkr.case.Case.is_in_session", lambda _: is_open)
    monkeypatch.setitem(ANSWERS, "reqMktData", lambda *_: None)
    async with gateway() as found:
        report = await examined(found.port, with_quotes=True)

    assert report.verdict("quote SPY") == verdict


@pytest.mark.anyio
async def test_candles_that_never_come_are_a_failure() -> None:
    report = await examined_with("2105")

    assert report.verdict("candles") == "failure"
    assert report.verdict("farms") == "warning"


# ------------------------------------------------------------- the command line


def parameter_file(folder: Path, port: int, **changes: Any) -> Path:
    content = quick(port).as_dict() | changes
    content["records"] = {"database": str(folder / "record" / "trades.db"), "runs": str(folder)}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["doctor", *map(str, words)])


def test_a_healthy_gateway_ends_the_command_with_zero(
    start_gateway: StartGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    path = parameter_file(tmp_path, start_gateway().port)

    result = call("--parameters", path)

    assert result.exit_code == 0, result.output
    assert "0 warnings, 0 failures, 0 skipped." in result.output
    assert "starts its clock with it" in result.output.replace("\n", " ")
    assert all(len(line) <= 80 for line in result.output.splitlines() if str(tmp_path) not in line)
    assert "\x1b" not in result.output
    assert sorted(tmp_path.iterdir()) == [path]


def test_the_findings_can_be_had_as_json(
    start_gateway: StartGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    path = parameter_file(tmp_path, start_gateway().port, account="DU7654321")

    result = call("--parameters", path, "--json", "--no-quotes", "--client-id", 3)

    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["failures"] == 1
    (account,) = (item for item in document["findings"] if item["check"] == "account")
    assert account["verdict"] == "failure"
    assert account["cure"]


def test_a_dead_gateway_ends_the_command_with_one(tmp_path: Path) -> None:
    result = call("--parameters", parameter_file(tmp_path, free_port()))

    assert result.exit_code == 1
    assert "FAILURE  port" in result.output
    assert "-> Start TWS" in result.output


def test_the_client_id_of_the_session_is_no_spare_one(tmp_path: Path) -> None:
    result = call("--parameters", parameter_file(tmp_path, free_port()), "--client-id", 17)

    assert result.exit_code == 2
    assert "another id than the session's" in result.stderr
