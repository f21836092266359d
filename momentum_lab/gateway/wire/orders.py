"""Orders on the wire: placeOrder, openOrder and completedOrder, and the parts they share.

The three messages carry the same values under the same names, in different order and choice, so
that what placeOrder brought can be sent back in openOrder as it is.
"""

from __future__ import annotations

import math
from typing import Final

from momentum_lab.gateway.wire.contracts import COMBO_LEGS, CONTRACT, CONTRACT_11, is_combo
from momentum_lab.gateway.wire.kinds import (
    BOOL,
    INT,
    INT_OR_0,
    NUMBER,
    NUMBER_OR_0,
    NUMBER_OR_INFINITY,
    NUMBER_OR_MAX,
    TEXT,
    one_of,
)
from momentum_lab.gateway.wire.layout import (
    Condition,
    Const,
    Field,
    Flagged,
    Group,
    Item,
    Values,
    When,
    described,
    fields,
    optional,
)
from momentum_lab.gateway.wire.table import Message


def _has(name: str) -> Condition:
    return described(f"{name} is not empty", lambda values: bool(values[name]))


def _is_order_type(*types: str) -> Condition:
    meaning = f"order_type is {' or '.join(types)}"
    return described(meaning, lambda values: values["order_type"] in types)


def _has_scale(values: Values) -> bool:
    """Return whether scale_price_increment is above 0."""
    increment = values["scale_price_increment"]
    return increment is not None and increment > 0


# The same order type is spelled with and without the blank by different clients.
_is_pegged_to_benchmark = _is_order_type("PEG BENCH", "PEGBENCH")
_is_pegged_to_best = _is_order_type("PEG BEST", "PEGBEST")
_is_pegged_to_middle = _is_order_type("PEG MID", "PEGMID")


def _competes_without_bound(values: Values) -> bool:
    """Return whether compete_against_best_offset is infinite."""
    return bool(values["compete_against_best_offset"] == math.inf)


_SCALE: Final[tuple[Item, ...]] = (
    *optional(INT, "scale_init_level_size scale_subs_level_size"),
    *optional(NUMBER, "scale_price_increment"),
    When(
        _has_scale,
        (
            *optional(NUMBER, "scale_price_adjust_value"),
            *optional(INT, "scale_price_adjust_interval"),
            *optional(NUMBER, "scale_profit_offset"),
            *optional(BOOL, "scale_auto_reset"),
            *optional(INT, "scale_init_position scale_init_fill_qty"),
            *optional(BOOL, "scale_random_percent"),
        ),
    ),
)
_HEDGE: Final[tuple[Item, ...]] = (
    *optional(TEXT, "hedge_type"),
    When(_has("hedge_type"), optional(TEXT, "hedge_param")),
)
_DELTA_NEUTRAL_CONTRACT: Final = Flagged(
    "delta_neutral_contract", (*optional(INT_OR_0, "con_id"), *optional(NUMBER, "delta price"))
)
_ALGO: Final[tuple[Item, ...]] = (
    *optional(TEXT, "algo_strategy"),
    When(_has("algo_strategy"), (Group("algo_params", fields(TEXT, "tag value")),)),
)
_BENCHMARK: Final = When(
    _is_pegged_to_benchmark,
    (
        *optional(INT, "reference_contract_id"),
        *optional(BOOL, "is_pegged_change_amount_decrease"),
        *optional(NUMBER, "pegged_change_amount reference_change_amount"),
        *optional(TEXT, "reference_exchange_id"),
    ),
)
_DELTA_NEUTRAL_ORDER: Final[tuple[Item, ...]] = (
    *optional(INT, "delta_neutral_con_id"),
    *optional(TEXT, "delta_neutral_settling_firm delta_neutral_clearing_account"),
    *optional(TEXT, "delta_neutral_clearing_intent delta_neutral_open_close"),
    *optional(BOOL, "delta_neutral_short_sale"),
    *optional(INT, "delta_neutral_short_sale_slot"),
    *optional(TEXT, "delta_neutral_designated_location"),
)
_VOLATILITY: Final[tuple[Item, ...]] = (
    *optional(NUMBER, "volatility"),
    *optional(INT, "volatility_type"),
    *optional(TEXT, "delta_neutral_order_type"),
    *optional(NUMBER, "delta_neutral_aux_price"),
)

PRICE, TIME, MARGIN, EXECUTION, VOLUME, PERCENT_CHANGE = 1, 3, 4, 5, 6, 7
_CONDITION_TYPES: Final = frozenset({PRICE, TIME, MARGIN, EXECUTION, VOLUME, PERCENT_CHANGE})


def _is_condition(*types: int) -> Condition:
    meaning = f"type is {' or '.join(map(str, types))}"
    return described(meaning, lambda values: values["type"] in types)


_is_about_a_measure = described(
    f"type is not {EXECUTION}", lambda values: values["type"] != EXECUTION
)


_CONDITION: Final[tuple[Item, ...]] = (
    Field("type", one_of(INT, _CONDITION_TYPES)),
    Field("conjunction", TEXT, "a"),
    When(_is_condition(EXECUTION), optional(TEXT, "sec_type exchange symbol")),
    When(_is_about_a_measure, optional(BOOL, "is_more")),
    # A client cannot read an empty threshold.
    When(_is_condition(PRICE), optional(NUMBER_OR_0, "price")),
    When(_is_condition(TIME), optional(TEXT, "time")),
    When(_is_condition(MARGIN), optional(INT_OR_0, "percent")),
    When(_is_condition(VOLUME), optional(INT_OR_0, "volume")),
    When(_is_condition(PERCENT_CHANGE), optional(NUMBER_OR_0, "change_percent")),
    When(
        _is_condition(PRICE, VOLUME, PERCENT_CHANGE),
        (*optional(INT_OR_0, "con_id"), *optional(TEXT, "exchange")),
    ),
    When(_is_condition(PRICE), optional(INT_OR_0, "trigger_method")),
)
_CONDITIONS: Final[tuple[Item, ...]] = (
    Group("conditions", _CONDITION),
    When(_has("conditions"), optional(BOOL, "conditions_ignore_rth conditions_cancel_order")),
)

# Openings and middles that the three messages have in common.
_TERMS: Final[tuple[Item, ...]] = (
    *fields(TEXT, "action"),
    *fields(NUMBER, "total_quantity"),
    *fields(TEXT, "order_type"),
    *optional(NUMBER, "lmt_price aux_price"),
    Field("tif", TEXT, "DAY"),
    *optional(TEXT, "oca_group account open_close"),
    *optional(INT_OR_0, "origin"),
    *optional(TEXT, "order_ref"),
)
_ADVISOR: Final[tuple[Item, ...]] = (
    *optional(TEXT, "fa_group fa_method fa_percentage"),
    Field("fa_profile", TEXT, "", until=177),
    *optional(TEXT, "model_code"),
)
_SHORT_SALE: Final[tuple[Item, ...]] = (
    *optional(INT_OR_0, "short_sale_slot"),
    *optional(TEXT, "designated_location"),
    Field("exempt_code", INT, -1),
)
_STOCK_REFERENCE: Final = optional(
    NUMBER, "starting_price stock_ref_price delta stock_range_lower stock_range_upper"
)
_AUCTION: Final[tuple[Item, ...]] = (*optional(INT_OR_0, "auction_strategy"), *_STOCK_REFERENCE)
_TRAILING: Final[tuple[Item, ...]] = (
    *optional(BOOL, "continuous_update"),
    *optional(INT, "reference_price_type"),
    *optional(NUMBER, "trail_stop_price trailing_percent"),
)
_CLEARING: Final[tuple[Item, ...]] = (
    Field("clearing_account", TEXT, ""),
    Field("clearing_intent", TEXT, "IB"),
    *optional(BOOL, "not_held"),
    _DELTA_NEUTRAL_CONTRACT,
    *_ALGO,
)
_RANDOMIZE: Final = optional(BOOL, "randomize_size randomize_price")
_ADJUSTED: Final[tuple[Item, ...]] = (
    *optional(NUMBER, "lmt_price_offset adjusted_stop_price adjusted_stop_limit_price"),
    *optional(NUMBER, "adjusted_trailing_amount"),
    *optional(INT_OR_0, "adjustable_trailing_unit"),
)
_HANDLING: Final[tuple[Item, ...]] = (
    *optional(BOOL, "dont_use_auto_price_for_hedge is_oms_container"),
    *optional(BOOL, "discretionary_up_to_limit_price"),
    *optional(INT, "use_price_mgmt_algo"),
    Field("duration", INT, None, since=158),
    Field("post_to_ats", INT, None, since=160),
    Field("auto_cancel_parent", BOOL, False, since=162),
)
_COMPETING: Final[tuple[Item, ...]] = (
    Field("min_trade_qty", INT, None),
    Field("min_compete_size", INT, None),
    Field("compete_against_best_offset", NUMBER_OR_INFINITY, None),
)
_MID_OFFSETS: Final = optional(NUMBER, "mid_offset_at_whole mid_offset_at_half")


_always: Final = described("", lambda _values: True)

_FIVE_PEG_FIELDS: Final = When(_always, (*_COMPETING, *_MID_OFFSETS), since=170)


def _is_on_ibkrats(values: Values) -> bool:
    """Return whether the contract's exchange is IBKRATS."""
    return bool(values["contract"].get("exchange") == "IBKRATS")


_PEG_FIELDS_AS_NEEDED: Final = When(
    _always,
    (
        When(_is_on_ibkrats, (_COMPETING[0],)),
        When(
            _is_pegged_to_best,
            (*_COMPETING[1:], When(_competes_without_bound, _MID_OFFSETS)),
        ),
        When(_is_pegged_to_middle, _MID_OFFSETS),
    ),
    since=170,
)

PLACE_ORDER: Final = Message(
    3,
    "placeOrder",
    (
        *fields(INT_OR_0, "order_id"),
        CONTRACT,
        *optional(TEXT, "sec_id_type sec_id"),
        *_TERMS,
        Field("transmit", BOOL, True),
        *optional(INT_OR_0, "parent_id"),
        *optional(BOOL, "block_order sweep_to_fill"),
        *optional(INT_OR_0, "display_size trigger_method"),
        *optional(BOOL, "outside_rth hidden"),
        When(is_combo, COMBO_LEGS),
        Const(""),  # shares allocation, out of use
        *optional(NUMBER, "discretionary_amt"),
        *optional(TEXT, "good_after_time good_till_date"),
        *_ADVISOR,
        *_SHORT_SALE,
        *optional(INT_OR_0, "oca_type"),
        *optional(TEXT, "rule_80a settling_firm"),
        *optional(BOOL, "all_or_none"),
        *optional(INT, "min_qty"),
        *optional(NUMBER, "percent_offset"),
        *optional(BOOL, "e_trade_only firm_quote_only"),
        *optional(NUMBER, "nbbo_price_cap"),
        *_AUCTION,
        *optional(BOOL, "override_percentage_constraints"),
        *_VOLATILITY,
        When(_has("delta_neutral_order_type"), _DELTA_NEUTRAL_ORDER),
        *_TRAILING,
        *_SCALE,
        *optional(TEXT, "scale_table active_start_time active_stop_time"),
        *_HEDGE,
        *optional(BOOL, "opt_out_smart_routing"),
        *_CLEARING,
        *optional(TEXT, "algo_id"),
        *optional(BOOL, "what_if"),
        *optional(TEXT, "order_misc_options"),
        *optional(BOOL, "solicited"),
        *_RANDOMIZE,
        _BENCHMARK,
        *_CONDITIONS,
        *optional(TEXT, "adjusted_order_type"),
        *optional(NUMBER, "trigger_price"),
        *_ADJUSTED,
        *optional(TEXT, "ext_operator soft_dollar_tier_name soft_dollar_tier_value"),
        *optional(NUMBER, "cash_qty"),
        *optional(TEXT, "mifid2_decision_maker mifid2_decision_algo"),
        *optional(TEXT, "mifid2_execution_trader mifid2_execution_algo"),
        *_HANDLING,
        Field("advanced_error_override", TEXT, "", since=166),
        Field("manual_order_time", TEXT, "", since=169),
        _PEG_FIELDS_AS_NEEDED,
    ),
)

_ORDER_STATE: Final[tuple[Item, ...]] = (
    *fields(TEXT, "status"),
    # A client that asked "what if" waits until one of these is not the largest double.
    *optional(NUMBER_OR_MAX, "init_margin_before maint_margin_before equity_with_loan_before"),
    *optional(NUMBER_OR_MAX, "init_margin_change maint_margin_change equity_with_loan_change"),
    *optional(NUMBER_OR_MAX, "init_margin_after maint_margin_after equity_with_loan_after"),
    *optional(NUMBER, "commission min_commission max_commission"),
    *optional(TEXT, "commission_currency warning_text"),
)

OPEN_ORDER: Final = Message(
    5,
    "openOrder",
    (
        *fields(INT_OR_0, "order_id"),
        CONTRACT_11,
        *_TERMS,
        *fields(INT_OR_0, "client_id perm_id"),
        *optional(BOOL, "outside_rth hidden"),
        *optional(NUMBER, "discretionary_amt"),
        *optional(TEXT, "good_after_time"),
        Const(""),  # shares allocation, out of use
        *_ADVISOR,
        *optional(TEXT, "good_till_date rule_80a"),
        *optional(NUMBER, "percent_offset"),
        *optional(TEXT, "settling_firm"),
        *_SHORT_SALE,
        *_AUCTION,
        *optional(INT_OR_0, "display_size"),
        *optional(BOOL, "block_order sweep_to_fill all_or_none"),
        *optional(INT, "min_qty"),
        *optional(INT_OR_0, "oca_type"),
        *optional(BOOL, "e_trade_only firm_quote_only"),
        *optional(NUMBER, "nbbo_price_cap"),
        *optional(INT_OR_0, "parent_id trigger_method"),
        *_VOLATILITY,
        When(_has("delta_neutral_order_type"), _DELTA_NEUTRAL_ORDER),
        *_TRAILING,
        *optional(NUMBER, "basis_points"),
        *optional(INT, "basis_points_type"),
        *optional(TEXT, "combo_legs_descrip"),
        *COMBO_LEGS,
        *_SCALE,
        *_HEDGE,
        *optional(BOOL, "opt_out_smart_routing"),
        *_CLEARING,
        *optional(BOOL, "solicited what_if"),
        *_ORDER_STATE,
        *_RANDOMIZE,
        _BENCHMARK,
        *_CONDITIONS,
        *optional(TEXT, "adjusted_order_type"),
        *optional(NUMBER, "trigger_price"),
        # For the second time; clients keep this one.
        *optional(NUMBER, "trail_stop_price"),
        *_ADJUSTED,
        *optional(TEXT, "soft_dollar_tier_name soft_dollar_tier_value"),
        *optional(TEXT, "soft_dollar_tier_display_name"),
        *optional(NUMBER, "cash_qty"),
        *_HANDLING,
        _FIVE_PEG_FIELDS,
    ),
)

COMPLETED_ORDER: Final = Message(
    101,
    "completedOrder",
    (
        CONTRACT_11,
        *_TERMS,
        *fields(INT_OR_0, "perm_id"),
        *optional(BOOL, "outside_rth hidden"),
        *optional(NUMBER, "discretionary_amt"),
        *optional(TEXT, "good_after_time"),
        *_ADVISOR,
        *optional(TEXT, "good_till_date rule_80a"),
        *optional(NUMBER, "percent_offset"),
        *optional(TEXT, "settling_firm"),
        *_SHORT_SALE,
        *_STOCK_REFERENCE,
        *optional(INT_OR_0, "display_size"),
        *optional(BOOL, "sweep_to_fill all_or_none"),
        *optional(INT, "min_qty"),
        *optional(INT_OR_0, "oca_type trigger_method"),
        *_VOLATILITY,
        When(
            _has("delta_neutral_order_type"),
            (
                *optional(INT, "delta_neutral_con_id"),
                *optional(BOOL, "delta_neutral_short_sale"),
                *optional(INT, "delta_neutral_short_sale_slot"),
                *optional(TEXT, "delta_neutral_designated_location"),
            ),
        ),
        *_TRAILING,
        *optional(TEXT, "combo_legs_descrip"),
        *COMBO_LEGS,
        *_SCALE,
        *_HEDGE,
        *_CLEARING,
        *optional(BOOL, "solicited"),
        *fields(TEXT, "status"),
        *_RANDOMIZE,
        _BENCHMARK,
        *_CONDITIONS,
        # For the second time; clients keep this one.
        *optional(NUMBER, "trail_stop_price lmt_price_offset cash_qty"),
        *optional(BOOL, "dont_use_auto_price_for_hedge is_oms_container"),
        *optional(TEXT, "auto_cancel_date"),
        *fields(NUMBER, "filled_quantity"),
        *optional(INT, "ref_futures_con_id"),
        *optional(BOOL, "auto_cancel_parent"),
        *optional(TEXT, "shareholder"),
        *optional(BOOL, "imbalance_only route_marketable_to_bbo"),
        *optional(INT, "parent_perm_id"),
        *optional(TEXT, "completed_time completed_status"),
        _FIVE_PEG_FIELDS,
    ),
)
