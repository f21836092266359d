"""Each client library at the edges: every value is worked out from the tape, library by library."""

from __future__ import annotations

import functools
import json
import logging
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import anyio
import pytest

from momentum_lab.core.market import NS_PER_S
from tests.conformance.driver import Complaints
from tests.conformance.edges import EDGES
from tests.conformance.falling_tape import NOON_S, falling_tape
from tests.conformance.suite import CLIENTS, LIMIT_S, ROOT, Client
from tests.gateway_client import standing_gateway
from tests.gateway_factories import CLOSE, DAY_NS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SETTINGS: dict[str, dict[str, Any]] = {
    "closed_market": {"start_ns": CLOSE - DAY_NS + 60 * NS_PER_S},
}


def seen(name: str, edge: str) -> dict[str, Any]:
    """Return what a library sees of an edge; one run serves all tests of it."""
    if not CLIENTS[name].is_here:
        pytest.skip(f"{name} is not installed: make test-clients")
    return dict(_report(name, edge)["seen"])


@functools.cache
def _report(name: str, edge: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return anyio.run(_run, CLIENTS[name], edge, Path(folder))


async def _run(client: Client, edge: str, folder: Path) -> dict[str, Any]:
    """Run the gateway in this process and the library in its own; keep what both complain of."""
    gateways = Complaints()
    log = logging.getLogger("momentum_lab.gateway")
    log.addHandler(gateways)
    try:
        async with standing_gateway(falling_tape(), folder, **SETTINGS.get(edge, {})) as gateway:
            words = ["-m", "tests.conformance.driver", client.module, "0", edge, gateway.port]
            with anyio.fail_after(LIMIT_S):
                done = await anyio.run_process(
                    [str(word) for word in (client.python, *words)],
                    cwd=ROOT,
                    check=False,
                    stderr=subprocess.PIPE,
                )
    finally:
        log.removeHandler(gateways)
    assert done.returncode == 0, f"{client.name} {edge}: {done.stderr.decode()[-3000:]}"
    told: dict[str, Any] = json.loads(done.stdout)
    return {**told, "complaints": [*told["complaints"], *gateways.found]}


@pytest.fixture(
    params=[
        pytest.param(name, marks=() if name == "ib_insync" else pytest.mark.clients)
        for name in CLIENTS
    ]
)
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _is_official(library: str) -> bool:
    """Whether the library shows the gateway's orders; the others keep the client's own."""
    return CLIENTS[library].module == "ibapi"


def _fill(order: dict[str, Any]) -> dict[str, Any]:
    (fill,) = order["fills"]
    return dict(fill)


# ------------------------------------------------------------------------ market


def test_frozen_data_is_the_last_quote_of_a_closed_market(library: str) -> None:
    found = seen(library, "closed_market")
    wanted = {"type": 2.0, "bid": 99.49, "ask": 99.51, "last": 99.5, "high": 99.9, "low": 98.9}
    assert {name: found["quote"].get(name) for name in wanted} == wanted
    assert found["errors"] == []


def test_bars_of_both_sides_span_the_quotes(library: str) -> None:
    bars = seen(library, "refusals")["both_sides"]
    # Highest ask and lowest bid of prices 100.01..100.10..100.00, then of 99.99.
    assert [bar[2:4] for bar in bars] == [[100.11, 99.99], [100.0, 99.98]]
    assert [bar[5:] for bar in bars] == [[-1.0, -1.0, -1]] * 2


# --------------------------------------------------------------------- the account


def test_profits_follow_the_price_and_are_realized_by_a_sale(library: str) -> None:
    found = seen(library, "round_trip")
    # Bought at 100.02 for a dollar of commission; the price is 100.05 five seconds later.
    held = {"daily": 2.0, "unrealized": 2.0, "realized": 0.0}
    assert found["held"] == [
        pytest.approx(held),
        pytest.approx({**held, "position": 100.0, "value": 10_005.0}),
    ]
    # Sold at 100.03 for another dollar.
    sold = {"daily": -1.0, "unrealized": 0.0, "realized": -1.0}
    assert found["sold"] == [
        pytest.approx(sold),
        pytest.approx({**sold, "position": 0.0, "value": 0.0}),
    ]
    assert (found["positions"], found["errors"]) == ([], [])
    assert found["values"] == {
        "NetLiquidation": "999999.00",
        "TotalCashValue": "999999.00",
        "GrossPositionValue": "0.00",
    }


def test_both_executions_are_told_with_their_costs(library: str) -> None:
    found = seen(library, "round_trip")
    bought, sold = found["executions"]
    assert (bought["order_ref"], bought["side"], bought["price"]) == ("in", "BOT", 100.02)
    assert (bought["at"], bought["commission"], bought["realized"]) == (NOON_S, 1.0, 0.0)
    assert (sold["order_ref"], sold["side"], sold["price"]) == ("out", "SLD", 100.03)
    assert (sold["at"], sold["commission"]) == (NOON_S + 5, 1.0)
    assert sold["realized"] == pytest.approx(-1.0)
    # The asynchronous libraries leave out why an order is complete.
    why = "Filled Size: 100" if _is_official(library) else None
    assert found["completed"] == [
        ["SPY", "BUY", "MKT", "Filled", 100.0, why],
        ["SPY", "SELL", "MKT", "Filled", 100.0, why],
    ]


# ---------------------------------------------------------------------- the orders


def test_a_modified_limit_fills_at_its_new_limit(library: str) -> None:
    order = seen(library, "falling")["modified"]
    fill = _fill(order)
    # The bid reaches 100.02 with the third second; a resting order adds liquidity.
    assert (order["status"], fill["shares"], fill["price"]) == ("Filled", 40.0, 100.02)
    assert (fill["at"], fill["liquidity"]) == (NOON_S + 3, 1)
    assert fill["realized"] == pytest.approx(-1.4)


def test_stops_wait_for_a_falling_price_and_fill(library: str) -> None:
    found = seen(library, "falling")
    for waiting in found["waiting"].values():
        assert (waiting["statuses"], waiting["why_held"]) == (["PreSubmitted"], "trigger")
    told = {
        name: (_fill(order)["at"] - NOON_S, _fill(order)["price"])
        for name, order in found["filled"].items()
    }
    # The price falls a cent a second from the 21st on; a sale at the market pays two cents. The
    # trailing stop began at 100.03 and has followed 100.10 up to 100.05 before.
    assert told == {"stop": (30, 99.98), "stop_limit": (31, 99.97), "trail": (25, 100.03)}
    statuses = [order["statuses"] for order in found["filled"].values()]
    assert statuses == [["PreSubmitted", "Submitted", "Filled"]] * 3
    if _is_official(library):
        trail = found["waiting"]["trail"]["terms"]
        assert (trail["auxPrice"], trail["trailStopPrice"]) == (0.05, 100.03)


def test_children_sleep_and_end_with_their_parent(library: str) -> None:
    found = seen(library, "relatives")
    sleeping, (parent, child) = found["sleeping"], found["ended"]
    assert (sleeping["status"], sleeping["why_held"]) == ("PreSubmitted", "child")
    assert (parent["status"], child["status"]) == ("Cancelled", "Cancelled")
    assert [code for order in (parent, child) for code, _ in order["errors"]] == [202, 202]
    if _is_official(library):
        terms = sleeping["terms"]
        # Children of one parent reduce each other.
        assert (terms["parentId"], terms["ocaType"]) == (found["parent_id"], 3)


def test_a_group_of_type_3_takes_from_the_rival_in_proportion(library: str) -> None:
    found = seen(library, "relatives")
    part, rival = found["reduced"]
    # Two parts of 500 out of 2000 have filled: half of the rival's 1000 is left.
    assert [(f["shares"], f["commission"]) for f in part["fills"]] == [(500.0, 2.5)] * 2
    assert (part["status"], part["filled"], part["remaining"]) == ("Submitted", 1_000.0, 1_000.0)
    assert (rival["status"], rival["filled"], rival["remaining"]) == ("Submitted", 0.0, 500.0)
    assert [order["status"] for order in found["cancelled"]] == ["Cancelled", "Cancelled"]


def test_a_client_that_comes_back_goes_on_where_it_was(library: str) -> None:
    found = seen(library, "comeback")
    assert found["ids"][0] == found["ids"][1]
    assert found["open"] == [[7, "SPY", "BUY", 50.0, "LMT", 98.0, "Submitted"]]
    (execution,) = found["executions"]
    assert (execution["order_ref"], execution["commission"]) == ("kept", 1.0)
    # Bought at 100.02, sold at 99.98, a dollar of commission each.
    fill = _fill(found["sold"])
    assert (fill["price"], fill["realized"]) == (99.98, pytest.approx(-6.0))
    assert found["open_in_the_end"] == []


# ---------------------------------------------------------------------- the errors


def test_what_cannot_be_had_is_an_error_of_its_own_request(library: str) -> None:
    found = seen(library, "refusals")
    no_definition = [200, "No security definition has been found for the request"]
    assert found["bars_of_nobody"] == found["options_of_nobody"] == no_definition
    invalid = ("bars_of_no_kind", "ticks_of_no_time", "components_of_nothing", "news_of_nobody")
    assert [found[name][0] for name in invalid] == [321] * 4
    assert (found["nothing_matching"], found["errors"]) == ([], [])


def test_streams_and_orders_that_make_no_sense_are_refused(library: str) -> None:
    found = seen(library, "refusals")
    assert found["streams"] == [[321, "BRFG:BRFG_ALL"], [200, "XYZ"], [200, "XYZ"], [420, "SPY"]]
    ((code, text),) = found["order"]
    assert (code, text.partition(":")[0]) == (
        387,
        "Unsupported order type for this exchange and security type",
    )


@pytest.mark.parametrize("edge", EDGES)
def test_neither_library_nor_gateway_complains(library: str, edge: str) -> None:
    seen(library, edge)
    assert _report(library, edge)["complaints"] == []
