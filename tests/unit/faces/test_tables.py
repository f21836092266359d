from __future__ import annotations

from pathlib import Path

import pytest

from momentum_lab.faces import tables, theme
from momentum_lab.parameters import load_parameters
from momentum_lab.records.run_record import RunRecord, read_run
from tests.record_kit import ROOT, RUN_ID, a_day, empty_day, troubled_day


def record_of(database: Path) -> RunRecord:
    return read_run(database, RUN_ID)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return record_of(a_day(tmp_path_factory.mktemp("day")))


@pytest.fixture(scope="module")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return record_of(empty_day(tmp_path_factory.mktemp("nothing")))


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return record_of(troubled_day(tmp_path_factory.mktemp("troubled")))


def facts(table: tables.Table) -> dict[str, str]:
    return {row[0]: row[1] for row in table.cells}


def test_a_trade_is_one_row_with_times_prices_reason_and_net(day: RunRecord) -> None:
    table = tables.trades_table(day)

    assert dict(zip(table.titles, table.cells[0], strict=True)) == {
        "symbol": "SPY",
        "side": "short",
        "shares": "602",
        "entry": "14:00:31",
        "at USD": "165.72",
        "stop USD": "165.97",
        "target USD": "162.40",
        "exit": "14:03:28",
        "out at USD": "165.98",
        "reason": "STOP_LOSS",
        "before costs": "\N{MINUS SIGN}$156.52",
        "costs": "$6.02",
        "net": "\N{MINUS SIGN}$162.54",
    }
    assert table.colours[0, "net"] == theme.VERMILION


def test_an_open_trade_has_no_exit(tmp_path: Path) -> None:
    table = tables.trades_table(record_of(a_day(tmp_path, closes=False)))

    row = dict(zip(table.titles, table.cells[0], strict=True))
    assert (row["exit"], row["reason"], row["net"]) == (theme.DASH, "still open", theme.DASH)


def test_a_decision_stands_in_words_and_with_both_sides(day: RunRecord) -> None:
    table = tables.decisions_table(day)

    reasons = [row[table.titles.index("reason")] for row in table.cells]
    assert reasons == ["NO_TICKER", "NO_SHOCK_PRICE", "SHOCK", "NO_SHOCK_VOLUME"]
    assert table.cells[0][-4:] == (
        theme.DASH,
        theme.DASH,
        "",
        "no ticker in the text, none from the subscription",
    )
    assert table.cells[2][-4:-1] == ("2.60", "2.50", "x ATR")


def test_the_summary_says_what_came_of_the_run(day: RunRecord) -> None:
    found = facts(tables.session_summary(day))

    assert found["headlines"] == "4 heard, 1 traded, 3 passed"
    assert found["trades"] == "1 closed, 0 with a gain"
    assert found["net"] == "\N{MINUS SIGN}$162.54"
    assert found["equity"] == "$1,000,000.00 to $999,790.00"
    assert found["still open"] == "nothing"
    assert found["incidents"] == "news tape (1)"
    assert found["mode and account"] == "replay, DU*****67"


def test_the_summary_of_an_empty_run_has_no_error(nothing: RunRecord) -> None:
    found = facts(tables.session_summary(nothing))

    assert found["trades"] == "0 closed, 0 with a gain"
    assert "equity" not in found


def test_an_empty_table_says_so(nothing: RunRecord) -> None:
    for table in (
        tables.trades_table(nothing),
        tables.decisions_table(nothing),
        tables.incidents_table(nothing),
        tables.brake_table(nothing),
        tables.differences_table(nothing),
    ):
        assert table.when_empty in table._repr_html_()
        assert table.when_empty in repr(table)


def test_a_step_of_the_brake_stands_with_its_cause(troubled: RunRecord) -> None:
    table = tables.brake_table(troubled)

    assert table.cells == (
        (theme.DASH, "HALTED", "by hand: halt by ada"),
        ("12:00:00", "ACTIVE", "by hand: resume by ada"),
    )


def test_a_difference_of_shares_has_both_sides_and_one_of_an_order_has_none(
    troubled: RunRecord,
) -> None:
    table = tables.differences_table(troubled)

    assert [row[1:5] for row in table.cells] == [
        ("UNEXPLAINED_POSITION", "SPY", "0", "\N{MINUS SIGN}602"),
        ("ORDER_ABSENT", theme.DASH, theme.DASH, theme.DASH),
    ]
    assert table.cells[1][-2:] == ("entry order was SENT", "settled as never sent; not sent again")


def test_a_stranger_cannot_write_markup_into_a_table(day: RunRecord) -> None:
    page = tables.decisions_table(day)._repr_html_()

    assert "&lt;b&gt;head&lt;/b&gt;" in page
    assert "<b>" not in page


def test_a_table_is_readable_on_a_terminal(day: RunRecord) -> None:
    lines = repr(tables.trades_table(day)).splitlines()

    assert lines[0] == "Trades (New York time)"
    assert lines[1].split()[:3] == ["symbol", "side", "shares"]
    assert lines[2].startswith("SPY     short")


def test_the_check_says_that_all_is_sound_or_what_is_not() -> None:
    assert tables.check_table([]).when_empty.startswith("Sound:")
    assert tables.check_table(["trade 1 is open"]).cells == (("trade 1 is open",),)


def test_parameters_are_shown_with_unit_and_meaning() -> None:
    parameters = load_parameters(ROOT / "parameters" / "demo.yaml")

    table = tables.parameters_table(parameters)

    rows = {row[0]: row for row in table.cells}
    assert rows["shock.price_atr_multiple"][1:3] == ("2.5", "x ATR")
    assert rows["shock.direction"][1] == "both"
    assert rows["exits.stop_kind"][1] == "ratio"
    assert all(meaning for *_, meaning in table.cells)
    assert parameters.params_hash in table.caption
