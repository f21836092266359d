"""The shop window is a promise: what it names can be had, is explained, and is loaded late."""

from __future__ import annotations

import importlib.metadata
import inspect
import subprocess
import sys

import pytest

import momentum_lab

HEAVY = ("ib_insync", "papermill", "plotly", "ipywidgets", "pandas", "nest_asyncio", "sqlite_utils")


def loaded_after(statement: str) -> set[str]:
    """Modules that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    found = subprocess.run(  # noqa: S603 - this interpreter, our own words
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return set(found.stdout.split())


@pytest.mark.parametrize("name", momentum_lab.__all__)
def test_every_name_can_be_had_and_is_explained(name: str) -> None:
    found = getattr(momentum_lab, name)

    if name != "__version__":
        assert inspect.getdoc(found)
        assert name in str(momentum_lab.__doc__)


def test_the_window_lists_what_it_can_give() -> None:
    homes = set(momentum_lab._HOMES) | set(momentum_lab._MODULES) | {"__version__"}

    assert homes == set(momentum_lab.__all__)
    assert homes <= set(dir(momentum_lab))


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'LifeSession'"):
        momentum_lab.LifeSession  # type: ignore[attr-defined]  # noqa: B018 - it is not there


def test_the_version_is_that_of_the_installed_package() -> None:
    assert momentum_lab.__version__ == importlib.metadata.version("momentum-lab")


@pytest.mark.parametrize("rule", ["shock", "position", "sizing", "fills", "connection"])
def test_a_rule_loads_none_of_the_faces(rule: str) -> None:
    assert loaded_after(f"import momentum_lab.core.{rule}").isdisjoint(HEAVY)


def test_parameters_load_neither_the_brokers_library_nor_papermill() -> None:
    loaded = loaded_after("from momentum_lab import load_parameters")

    assert loaded.isdisjoint({"ib_insync", "papermill", "plotly", "ipywidgets"})
