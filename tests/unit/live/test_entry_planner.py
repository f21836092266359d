"""What an entry is planned as, and which limit of the account refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean, pstdev

import anyio
import pytest

from momentum_lab.core.account_risk import RiskParameters
from momentum_lab.core.kelly import kelly_of_multiples
from momentum_lab.core.market import NS_PER_S
from momentum_lab.core.order import OrderEvent
from momentum_lab.core.risk_state import RiskEvent, RiskState
from momentum_lab.core.signal import Decision, Reason, TradeSignal
from momentum_lab.core.size import BudgetSource, Cap, size_as_dict
from momentum_lab.core.sizing_parameters import SizingParameters
from momentum_lab.errors import RecordError
from momentum_lab.live.entry_planner import EntryPlan
from momentum_lab.live.ibkr.candles import CandleOutcome, Candles
from momentum_lab.records.ledger import Row
from tests.factories import NOON, bar
from tests.planner_kit import Bench, ToldClock, ToldReplayClock, bench, signal

DAY_S = 86_400


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as found:
        yield found


def planned(made: Bench, asked: TradeSignal | None = None) -> EntryPlan:
    found = made.planner.plan(asked or signal())
    assert isinstance(found, EntryPlan), found
    return found


def refused(made: Bench, asked: TradeSignal | None = None) -> Decision:
    found = made.planner.plan(asked or signal())
    assert isinstance(found, Decision), found
    return found


# --- the plan ------------------------------------------------------------------------------


def test_a_calm_account_gets_a_plan_with_its_size_and_every_cap(made: Bench) -> None:
    plan = planned(made)

    # 10 % of 100 000 at 100.01
    assert (plan.shares, plan.size.binding) == (99, Cap.MAX_POSITION_PCT)
    assert plan.con_id == 756733
    written = size_as_dict(plan.size_json)
    assert written["shares"] == 99
    assert dict(written["caps"])["MAX_RECENT_VOLUME"] == 2500
    assert plan.size.not_known == (Cap.MAX_ADV, Cap.MAX_IMPACT)


def test_what_is_usual_over_days_caps_a_size_once_it_is_known(made: Bench) -> None:
    bars = tuple(
        bar(100.0 + ago % 2, volume=10_000, start_ns=NOON - ago * DAY_S * NS_PER_S, seconds=3600)
        for ago in range(25, 0, -1)
    )
    made.connector.candles = Candles(CandleOutcome.BARS, bars)

    anyio.run(made.planner.learn, "SPY")
    plan = planned(made)

    assert (plan.shares, plan.size.binding) == (50, Cap.MAX_ADV)
    assert plan.size.not_known == ()


def test_what_is_held_leaves_less_room_for_the_next(made: Bench) -> None:
    made.enter("IBM", shares=200, price=100.0, stop=99.0)
    made.quote("IBM")

    plan = planned(made)

    # positions of unknown sectors share one bucket: 25 000 less 200 shares at 99.99
    assert dict(plan.size.caps)[Cap.MAX_SECTOR] == pytest.approx((25_000 - 19_998) / 100.01)
    assert plan.shares == 50


def test_a_size_of_nothing_is_decided_and_written_with_both_sides_and_every_cap(
    made: Bench,
) -> None:
    made.connector.buying_power_usd = 400.0
    decision = refused(made)
    key = made.headline()
    made.store.add_decision(key, decision, at_ns=NOON, symbol="SPY")

    # three shares of 100.01
    assert [decision.observed, decision.limit] == pytest.approx([300.03, 500.0])
    (row,) = made.store.table("decisions", made.run_id)
    assert (row["reason"], row["observed"], row["unit"]) == ("SIZE_ZERO", decision.observed, "USD")
    written = size_as_dict(row["size_json"])
    assert (written["reason"], written["binding"]) == ("BELOW_MIN_NOTIONAL", "BUYING_POWER")
    assert dict(written["caps"])["BUYING_POWER"] == pytest.approx(380 / 100.01)


def test_a_session_that_sends_nothing_writes_the_size_that_it_would_have_sent(
    made: Bench,
) -> None:
    plan = planned(made)

    assert plan.shadow_of(signal()).size_json == plan.size_json


def test_an_edge_that_a_hundred_trades_show_caps_the_next_days_sizes(tmp_path: Path) -> None:
    sizing = SizingParameters(kelly="multiples", max_position_ratio=1.0)
    multiples = []
    with bench(tmp_path, sizing=sizing, strategy="s") as made:
        for number in range(100):
            if number == 99:
                made.wait(DAY_S)
                assert (BudgetSource.KELLY, None) in planned(made).size.budgets
            price = 101.05 if number % 2 else 99.0
            made.enter("IBM")
            made.leave(number + 1, price=price)
            # of 100 shares whose stop lies a dollar away; two dollars are costs
            multiples.append((price - 100.0) - 0.02)
        assert (BudgetSource.KELLY, None) in planned(made).size.budgets
        made.wait(DAY_S)
        plan = planned(made)
        # A strategy of another name, and a replayed day, have an edge of their own to show.
        for strategy, clock in (("another", ToldClock()), ("s", ToldReplayClock())):
            parameters = replace(made.parameters, strategy=strategy)
            other = Bench(made.store, parameters, run_id=f"run of {strategy}", clock=clock)
            other.wait(203 * DAY_S)
            assert (BudgetSource.KELLY, None) in planned(other).size.budgets
            other.close()

    expected = kelly_of_multiples(mean_r=mean(multiples), sd_r=pstdev(multiples), n_trades=100)
    assert plan.size.budget_source is BudgetSource.KELLY
    assert plan.size.budget_usd == pytest.approx(0.25 * expected * 100_000)


def test_an_account_that_says_nothing_enters_nothing(made: Bench) -> None:
    made.connector.equity_usd = None

    assert refused(made).reason is Reason.NO_EQUITY


def test_a_price_that_ran_on_is_not_chased(made: Bench) -> None:
    made.quote(bid=100.30, ask=100.32)

    assert refused(made).reason is Reason.CHASING


# --- limits of the account -----------------------------------------------------------------


def test_a_loss_by_our_own_ledger_ends_the_day(made: Bench) -> None:
    made.enter("IBM", shares=100, price=100.0)
    made.leave(1, price=89.0)

    decision = refused(made)

    assert (decision.reason, decision.observed) == (Reason.DAILY_LOSS_LIMIT, 1102.0)
    assert made.planner.risk_state is RiskState.REDUCING


def test_a_loss_by_the_account_counts_too(made: Bench) -> None:
    made.store.add_equity(made.run_id, at_ns=made.clock.at_ns, equity_usd=101_500.0)

    decision = refused(made)

    assert (decision.reason, decision.observed) == (Reason.DAILY_LOSS_LIMIT, 1500.0)


def test_a_loss_brakes_although_nobody_wants_to_enter(made: Bench) -> None:
    made.store.add_equity(made.run_id, at_ns=made.clock.at_ns, equity_usd=101_500.0)
    made.planner.look_at_losses()

    assert made.planner.risk_state is RiskState.REDUCING
    assert "lost today" in made.planner.risk_cause


def test_no_loss_brakes_while_nothing_says_what_a_position_is_worth(made: Bench) -> None:
    made.enter("IBM", shares=100, price=100.0, stop=80.0)
    states = []
    for has_lines, bid in ((False, None), (True, 99.9), (True, 80.9)):
        made.connector.has_lines = has_lines
        if bid is not None:
            made.quote("IBM", bid=bid, ask=bid + 0.2)
        made.planner.look_at_losses()
        states.append(made.planner.risk_state)

    assert states == [RiskState.ACTIVE, RiskState.ACTIVE, RiskState.REDUCING]


def test_what_was_read_ahead_is_not_read_again_for_an_entry(
    made: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(made)
    made.store.add_incident(made.run_id, at_ns=None, kind="seen", text="something else")
    made.planner.read_ahead()

    def refuse(*_: object) -> list[Row]:
        raise AssertionError("read again")

    monkeypatch.setattr(made.store, "_read", refuse)
    planned(made)


def test_an_open_loss_is_marked_at_what_closing_would_get(made: Bench) -> None:
    made.enter("IBM", shares=100, price=100.0, stop=80.0)
    made.quote("IBM", bid=89.5, ask=89.7)

    # the commission of the entry as well
    assert refused(made).observed == pytest.approx(1051.0)


def test_an_open_trade_without_a_quote_is_marked_at_its_stop(made: Bench) -> None:
    made.enter("IBM", shares=100, price=100.0, stop=80.0)

    assert refused(made).observed == pytest.approx(2001.0)


def test_yesterdays_loss_is_over(made: Bench) -> None:
    made.enter("IBM", shares=100, price=100.0)
    made.leave(1, price=89.0)
    assert refused(made).reason is Reason.DAILY_LOSS_LIMIT

    made.wait(DAY_S)

    assert made.planner.risk_state is RiskState.ACTIVE
    assert planned(made).shares > 0


def test_a_symbol_cools_down_after_its_trade(made: Bench) -> None:
    made.enter(shares=10)
    made.leave(1, price=100.5)
    made.wait(60)

    assert refused(made).reason is Reason.COOLING_DOWN

    made.wait(1740)
    assert planned(made).shares > 0


def test_entries_have_a_pace(made: Bench) -> None:
    for _ in range(3):
        made.enter("IBM", event=OrderEvent.CANCEL)

    decision = refused(made)
    assert (decision.reason, decision.observed) == (Reason.TOO_MANY_ENTRIES, 3)

    made.wait(60)
    assert planned(made).shares > 0


def test_a_symbol_is_entered_so_many_times_a_day(made: Bench) -> None:
    for _ in range(3):
        made.enter(event=OrderEvent.CANCEL)
    made.wait(3600)

    assert "entries of SPY today" in refused(made).text

    made.wait(DAY_S)
    assert planned(made).shares > 0


def test_refusals_in_a_row_brake_until_a_hand_forgives_them(made: Bench) -> None:
    for _ in range(3):
        made.enter("IBM", event=OrderEvent.REJECT)
        made.wait(61)

    assert refused(made).reason is Reason.TOO_MANY_REJECTS
    assert refused(made).reason is Reason.RISK_BRAKE

    made.planner.set_state(RiskState.ACTIVE, cause="the cause was mended")
    assert planned(made).shares > 0


def test_an_accepted_order_ends_a_row_of_refusals(made: Bench) -> None:
    for event in (OrderEvent.REJECT, OrderEvent.REJECT, OrderEvent.CANCEL, OrderEvent.REJECT):
        made.enter("IBM", event=event)
        made.wait(61)

    assert planned(made).shares > 0


def test_an_entry_that_still_works_counts_as_open(tmp_path: Path) -> None:
    with bench(tmp_path, risk=RiskParameters(max_open_positions=1)) as made:
        made.enter("IBM", fills=False)

        assert refused(made).reason is Reason.TOO_MANY_POSITIONS


def test_open_risk_is_what_all_stops_would_lose(made: Bench) -> None:
    made.enter("IBM", shares=500, price=100.0, stop=98.0)
    made.quote("IBM")

    decision = refused(made)

    # 2.00, half the spread and a tick
    assert decision.reason is Reason.OPEN_RISK_LIMIT
    assert decision.observed == pytest.approx(1010.0)


# --- the brake -----------------------------------------------------------------------------


@pytest.mark.parametrize("state", [RiskState.REDUCING, RiskState.HALTED])
def test_a_hand_brakes_and_resumes_and_each_step_is_written(made: Bench, state: RiskState) -> None:
    made.planner.set_state(state, cause="by hand")

    assert refused(made).reason is Reason.RISK_BRAKE

    made.planner.set_state(RiskState.ACTIVE, cause="go on")
    assert planned(made).shares > 0
    steps = [(r["state"], r["cause"]) for r in made.store.table("risk_states", made.run_id)]
    assert steps == [(state.value, "by hand"), ("ACTIVE", "go on")]


@pytest.mark.parametrize(
    ("state", "same_day", "next_day"),
    [
        (RiskState.REDUCING, RiskState.REDUCING, RiskState.ACTIVE),
        (RiskState.HALTED, RiskState.HALTED, RiskState.HALTED),
    ],
)
def test_a_brake_outlives_a_restart_and_only_a_halt_the_day(
    made: Bench, state: RiskState, same_day: RiskState, next_day: RiskState
) -> None:
    made.planner.set_state(state, cause="by hand")

    again = Bench(made.store, made.parameters, run_id="another-run")
    assert (again.planner.risk_state, again.planner.risk_cause) == (same_day, "by hand")

    again.clock.at_ns += DAY_S * NS_PER_S
    assert again.planner.risk_state is next_day
    again.close()


def test_a_replayed_day_is_a_history_of_its_own(made: Bench) -> None:
    made.store.add_equity(made.run_id, at_ns=made.clock.at_ns, equity_usd=200_000.0)
    made.planner.set_state(RiskState.HALTED, cause="by hand")

    replay = Bench(made.store, made.parameters, run_id="a-replay", clock=ToldReplayClock())
    replay.quote()

    assert planned(replay).shares > 0
    replay.close()


def test_a_brake_that_is_set_before_the_time_is_known_is_of_the_day_that_comes(
    made: Bench,
) -> None:
    clock = ToldReplayClock()
    clock.is_anchored = False
    replay = Bench(made.store, made.parameters, run_id="a-replay", clock=clock)
    replay.planner.set_state(RiskState.REDUCING, cause="by hand")

    clock.is_anchored = True
    assert replay.planner.risk_state.value == "REDUCING"
    clock.at_ns += DAY_S * NS_PER_S
    assert replay.planner.risk_state.value == "ACTIVE"
    replay.close()


def test_a_weaker_brake_loosens_no_halt(made: Bench) -> None:
    made.planner.set_state(RiskState.HALTED, cause="by hand")

    assert made.planner.set_state(RiskState.REDUCING, cause="less") is RiskState.HALTED
    assert made.planner.risk_cause == "by hand"


def test_a_brake_that_cannot_be_written_holds_all_the_same(made: Bench) -> None:
    assert isinstance(made.planner.plan(signal()), EntryPlan)
    made.store.db.execute(
        "CREATE TRIGGER full BEFORE INSERT ON risk_states BEGIN SELECT RAISE(ABORT, 'full'); END"
    )

    with pytest.raises(RecordError):
        made.planner.set_state(RiskState.HALTED, cause="by hand")

    assert refused(made).reason is Reason.RISK_BRAKE
    with pytest.raises(RecordError):
        made.planner.set_state(RiskState.ACTIVE, cause="go on")
    assert refused(made).reason is Reason.RISK_BRAKE

    # Given again, it is written, once.
    made.store.db.execute("DROP TRIGGER full")
    for _ in range(2):
        made.planner.set_state(RiskState.HALTED, cause="by hand, again")
    steps = [row["cause"] for row in made.store.table("risk_states", made.run_id)]
    assert steps == ["by hand, again"]


def test_a_failed_record_halts(made: Bench) -> None:
    made.planner.brake(RiskEvent.RECORD_FAILED, "the disk is full")

    assert made.planner.risk_state is RiskState.HALTED
    assert "the disk is full" in refused(made).text
