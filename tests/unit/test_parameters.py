from __future__ import annotations

import dataclasses
import math
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from momentum_lab.core.tunable import Tunable, tunables_of
from momentum_lab.errors import ParameterError
from momentum_lab.parameters import (
    Parameters,
    check_parameters,
    load_parameters,
    refuse_live,
)

FOLDER = Path(__file__).parents[2] / "parameters"
FILES = sorted(FOLDER.glob("*.yaml"))
LEAST: dict[str, Any] = {"universe": ["SPY"]}


def _checked(**content: Any) -> Parameters:
    return check_parameters(LEAST | content)


def _refusal(content: dict[str, Any]) -> str:
    with pytest.raises(ParameterError) as caught:
        check_parameters(LEAST | content)
    return str(caught.value)


def _file(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _file_refusal(folder: Path, text: str) -> str:
    with pytest.raises(ParameterError) as caught:
        load_parameters(_file(folder, text))
    return str(caught.value)


TUNABLES: list[tuple[str, Tunable]] = [
    (f"{section}.{key}", declared)
    for section, cls in get_type_hints(Parameters).items()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls)
    for key, declared in tunables_of(cls).items()
]


# ------------------------------------------------------------ the files here


def test_there_are_parameter_files() -> None:
    assert {"design.yaml", "demo.yaml"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_in_parameters_loads(path: Path) -> None:
    assert load_parameters(path).universe


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_in_parameters_trades_real_money(path: Path) -> None:
    refuse_live(load_parameters(path))


def test_the_design_has_the_numbers_of_the_design() -> None:
    found = load_parameters(FOLDER / "design.yaml")

    assert found.mode == "paper"
    assert (found.shock.price_atr_multiple, found.shock.volume_multiple) == (3.0, 5.0)
    assert (found.shock.atr_bars, found.shock.volume_bars) == (10, 20)
    assert (found.shock.atr_kind, found.shock.watch_s) == ("sma", 300)
    assert (found.sizing.risk_ratio, found.sizing.max_position_ratio) == (0.01, 0.10)
    assert found.exits.stop_kind == "ratio"
    assert (found.exits.take_profit_ratio, found.exits.stop_loss_ratio) == (0.02, 0.015)
    assert found.exits.time_stop_s == 600
    assert found.news.max_age_s == 60


def test_the_demonstration_differs_from_the_design_as_stated() -> None:
    design, demo = (load_parameters(FOLDER / name) for name in ("design.yaml", "demo.yaml"))

    assert demo.mode == "replay"
    assert demo.shock == dataclasses.replace(design.shock, price_atr_multiple=2.5)
    assert demo.exits == dataclasses.replace(design.exits, stop_loss_ratio=0.0015)
    assert demo.sizing == design.sizing


# ------------------------------------------------------------- declarations


def test_every_rule_declares_tunables() -> None:
    sections = {name.split(".")[0] for name, _ in TUNABLES}

    assert {"shock", "sizing", "exits", "backoff", "guards", "news", "connection"} <= sections


@pytest.mark.parametrize(("name", "declared"), TUNABLES, ids=lambda value: str(value)[:40])
def test_every_tunable_is_declared_in_full(name: str, declared: Tunable) -> None:
    assert declared.low <= declared.default <= declared.high, name
    assert declared.low < declared.high, name
    assert declared.step > 0, name
    assert declared.unit, name
    assert declared.meaning, name


@pytest.mark.parametrize(("name", "declared"), TUNABLES, ids=lambda value: str(value)[:40])
def test_every_tunable_is_refused_beyond_both_ends(name: str, declared: Tunable) -> None:
    section, key = name.split(".")
    for beyond in (declared.low - 1, declared.high + 1):
        message = _refusal({section: {key: beyond}})
        assert message.startswith(f"{name}: ")
        assert f"{declared.low:g} to {declared.high:g} {declared.unit}" in message


# ------------------------------------------------------------------- values


def test_a_key_left_out_has_its_default() -> None:
    found = _checked(shock={"watch_s": 120})

    assert found.shock.watch_s == 120
    assert found.shock.atr_bars == 10
    assert found.mode == "paper"


def test_an_empty_section_has_its_defaults() -> None:
    assert _checked(shock=None) == _checked()


def test_a_set_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        _checked().mode = "live"  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"shok": {}}, "shok: unknown key, did you mean 'shock'?"),
        (
            {"shock": {"price_atr_multipel": 3}},
            "shock.price_atr_multipel: unknown key, did you mean 'price_atr_multiple'?",
        ),
        ({"exits": {"time_stop": 3}}, "exits.time_stop: unknown key, did you mean 'time_stop_s'?"),
        ({"connection": {"prt": 1}}, "connection.prt: unknown key, did you mean 'port'?"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_known_one(
    content: dict[str, Any], expected: str
) -> None:
    assert _refusal(content) == expected


def test_a_key_like_no_other_is_answered_with_all_known_ones() -> None:
    message = _refusal({"records": {"zzz": 1}})

    assert message == "records.zzz: unknown key; known keys are database, runs"


def test_a_value_out_of_range_names_key_unit_range_and_value() -> None:
    message = _refusal({"sizing": {"risk_ratio": 0.5}})

    assert message == "sizing.risk_ratio: expected 0.0001 to 0.05 ratio of equity, found 0.5"


@pytest.mark.parametrize("value", ["3.0", True, None, [3], {}, math.nan, math.inf])
def test_what_is_not_a_number_is_refused_by_key_and_unit(value: object) -> None:
    message = _refusal({"shock": {"price_atr_multiple": value}})

    assert message.startswith("shock.price_atr_multiple: expected a number in x ATR, found ")


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({"mode": "demo"}, "mode"),
        ({"mode": 1}, "mode"),
        ({"mode": None}, "mode"),
        ({"strategy": 7}, "strategy"),
        ({"universe": "SPY"}, "universe"),
        ({"universe": [1]}, "universe"),
        ({"universe": [True]}, "universe"),
        ({"universe": []}, "universe"),
        ({"shock": 3}, "shock"),
        ({"shock": ["atr_bars"]}, "shock"),
        ({"shock": {"direction": "up"}}, "shock.direction"),
        ({"connection": {"port": 4002.0}}, "connection.port"),
        ({"connection": {"host": 127}}, "connection.host"),
        ({"news": {"providers": "BRFG"}}, "news.providers"),
    ],
)
def test_a_wrong_type_is_refused_by_key(content: dict[str, Any], key: str) -> None:
    assert _refusal(content).startswith(f"{key}: expected ")


def test_without_a_universe_nothing_is_traded() -> None:
    with pytest.raises(ParameterError, match="universe: expected at least one symbol"):
        check_parameters({})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"universe": ["spy"]}, "universe: expected symbols as the broker writes them"),
        ({"universe": ["SPY", ""]}, "universe: expected symbols as the broker writes them"),
        ({"universe": [" SPY"]}, "universe: expected symbols as the broker writes them"),
        ({"universe": ["SPY", "IBM", "SPY"]}, "universe: expected each symbol once, found SPY"),
        ({"strategy": " "}, "strategy: expected a name, found none"),
        ({"connection": {"host": ""}}, "connection.host: expected a name"),
        ({"records": {"database": ""}}, "records.database: expected a name"),
        ({"sizing": {"lot": 100, "max_shares": 50}}, "sizing.max_shares: expected at least"),
        ({"sizing": {"min_shares": 100, "max_shares": 50}}, r"min_shares \(100\), found 50"),
        (
            {"sizing": {"min_notional_usd": 900, "max_notional_usd": 800}},
            r"expected at least sizing.min_notional_usd \(900\), found 800",
        ),
    ],
)
def test_what_could_never_trade_is_refused(content: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        check_parameters({"universe": ["SPY"], **content})


@pytest.mark.parametrize("symbol", ["SPY", "BRK B", "BF.B", "F", "3M"])
def test_symbols_of_every_kind_are_taken(symbol: str) -> None:
    assert check_parameters({"universe": [symbol]}).universe == (symbol,)


def test_what_is_no_mapping_is_refused() -> None:
    with pytest.raises(ParameterError, match="expected a mapping"):
        check_parameters(["mode"])  # type: ignore[arg-type]  # that is the point


# --------------------------------------------------------------------- mode


def _live(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "mode": "live",
        "account": "U1234567",
        "connection": {"port": 4001},
        "real_money": {"accepted_for": "U1234567"},
    }
    return {**values, **changes}


@pytest.mark.parametrize("port", [7496, 4001])
def test_live_is_let_in_where_every_place_says_so(port: int) -> None:
    refuse_live(_checked(**_live(connection={"port": port})))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"account": ""}, "account: mode live expects the account's id written out, found none"),
        ({"account": "DU1234567"}, "expects the id of a live account, found DU..., a paper"),
        ({"account": "DF1234567"}, "expects the id of a live account, found DF..., a paper"),
        ({"connection": {}}, "connection.port: mode live expects 7496 .* found 4002, a paper"),
        ({"connection": {"port": 7497}}, "found 7497, a paper login's port"),
        ({"connection": {"port": 5000}}, "found 5000, neither"),
        ({"real_money": {}}, "real_money.accepted_for: mode live expects the id .*found nothing"),
        ({"real_money": {"accepted_for": "U7654321"}}, "found another id"),
        ({"real_money": {"accepted_for": "yes"}}, "found another id"),
    ],
)
def test_live_is_refused_where_one_place_differs(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence) as caught:
        refuse_live(_checked(**_live(**changes)))

    assert "1234567" not in str(caught.value)


@pytest.mark.parametrize("mode", ["paper", "replay", "shadow"])
def test_other_modes_are_not_refused(mode: str) -> None:
    refuse_live(_checked(mode=mode))


def test_that_money_is_meant_is_no_rule() -> None:
    told = _checked(**_live())
    assert told.params_hash == _checked(**_live(real_money={})).params_hash


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_replay_may_use_this_machine(host: str) -> None:
    assert _checked(mode="replay", connection={"host": host}).connection.host == host


@pytest.mark.parametrize("host", ["10.0.0.7", "tws.example.org", ""])
def test_a_replay_trades_at_no_other_machine(host: str) -> None:
    message = _refusal({"mode": "replay", "connection": {"host": host}})

    assert "127.0.0.1" in message
    assert repr(host) in message


# --------------------------------------------------------------------- hash


def test_the_effective_set_can_be_loaded_again() -> None:
    found = load_parameters(FOLDER / "demo.yaml")

    assert check_parameters(found.as_dict()) == found


def test_the_effective_set_survives_yaml(tmp_path: Path) -> None:
    found = load_parameters(FOLDER / "demo.yaml")

    again = load_parameters(_file(tmp_path, yaml.safe_dump(found.as_dict())))

    assert (again, again.params_hash) == (found, found.params_hash)


@pytest.mark.parametrize(
    "content", [{"records": {"database": "other.db"}}, {"connection": {"port": 7497}}]
)
def test_the_hash_does_not_depend_on_where(content: dict[str, Any]) -> None:
    assert _checked(**content).params_hash == _checked().params_hash


@pytest.mark.parametrize(
    "content",
    [{"shock": {"watch_s": 299}}, {"exits": {"stop_kind": "ratio"}}, {"universe": ["SPY", "IBM"]}],
)
def test_the_hash_depends_on_every_rule(content: dict[str, Any]) -> None:
    assert _checked(**content).params_hash != _checked().params_hash


def test_equal_sets_have_equal_hashes_however_their_numbers_are_written() -> None:
    whole, broken = _checked(shock={"watch_s": 300}), _checked(shock={"watch_s": 300.0})

    assert whole == broken
    assert whole.params_hash == broken.params_hash


def test_naming_a_default_does_not_change_the_hash() -> None:
    assert _checked(news={"max_age_s": 60.0}).params_hash == _checked().params_hash


# -------------------------------------------------------------------- files


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    message = _file_refusal(tmp_path, "universe: [SPY]\nshok: {}\n")

    assert message == f"{tmp_path / 'mine.yaml'}: shok: unknown key, did you mean 'shock'?"


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("mode: paper\nuniverse: [SPY]\nmode: live\n", 3, "mode"),
        ("universe: [SPY]\nshock:\n  watch_s: 1\n  atr_bars: 9\n  watch_s: 2\n", 5, "watch_s"),
        ("shock: {}\nuniverse: [SPY]\nshock: {}\n", 3, "shock"),
    ],
)
def test_a_key_given_twice_is_refused_with_its_line(
    tmp_path: Path, text: str, line: int, key: str
) -> None:
    message = _file_refusal(tmp_path, text)

    assert f"line {line}: the key {key!r} is given twice" in message


def test_a_key_given_twice_names_the_file(tmp_path: Path) -> None:
    assert "mine.yaml" in _file_refusal(tmp_path, "mode: paper\nmode: live\n")


def test_the_same_key_in_two_sections_is_no_repeat(tmp_path: Path) -> None:
    message = _file_refusal(tmp_path, "connection: {port: 1}\nnews: {port: 1}\n")

    assert "news.port: unknown key" in message
    assert "twice" not in message


@pytest.mark.parametrize(
    "text", ["", "- a\n- b\n", "just words", "42", "null", "a: [1\n", "a: b: c", "\tmode: paper"]
)
def test_what_is_no_mapping_in_yaml_is_refused_and_names_the_file(
    tmp_path: Path, text: str
) -> None:
    assert "mine.yaml" in _file_refusal(tmp_path, text)


@pytest.mark.parametrize("text", ["? [mode]\n: paper\n", "? {a: b}\n: paper\n"])
def test_a_key_that_is_no_word_is_refused(tmp_path: Path, text: str) -> None:
    assert "mine.yaml" in _file_refusal(tmp_path, text)


def test_a_tag_that_would_run_code_is_refused(tmp_path: Path) -> None:
    message = _file_refusal(tmp_path, "mode: !!python/object/apply:os.getcwd []\n")

    assert "mine.yaml" in message


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"cannot read the parameter file .*none\.yaml"):
        load_parameters(tmp_path / "none.yaml")


def test_a_folder_is_no_parameter_file(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="cannot read the parameter file"):
        load_parameters(tmp_path)


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"mode: \xff\xfe")

    with pytest.raises(ParameterError, match=r"mine\.yaml: not a text file"):
        load_parameters(path)


@pytest.mark.parametrize("text", ["23:45", "'23:45'", '"23:45"'])
def test_a_time_of_day_needs_no_quotes(tmp_path: Path, text: str) -> None:
    # YAML 1.1 reads the first of them as the number 1425.
    found = load_parameters(
        _file(tmp_path, f"universe: [SPY]\nwindows:\n  gateway_restart: {text}\n")
    )

    assert found.windows.gateway_restart == "23:45"


def test_a_window_that_cannot_be_used_names_file_and_key(tmp_path: Path) -> None:
    message = _file_refusal(tmp_path, "universe: [SPY]\nwindows: {region: asia}\n")

    assert "mine.yaml: windows.region: expected one of north-america, europe" in message
