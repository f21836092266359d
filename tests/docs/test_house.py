"""The repository as a stranger finds it: nothing of the machine it was made on is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What is ours to write; environments, caches and what a run leaves behind are not looked at.
FOLDERS = (
    ".ci", ".github", "benchmarks", "data/samples", "docs", "momentum_lab", "notebooks",
    "parameters", "tests",
)  # fmt: skip
SKIPPED = {"__pycache__", ".ipynb_checkpoints", ".pytest_cache", ".hypothesis"}
LARGEST_BYTES = 2_000_000

# A home or a workspace of somebody's machine, not the tail of a web address or of a longer path.
# Put together here, so that this file does not hold what it looks for.
WORK, ROOT_HOME, PYTHON = "wo" + "rk", "ro" + "ot", "pyt" + "hon"
MACHINE_PATH = re.compile(
    r"(?<![\w.~/:-])(?:/w[o]rk/\w|/home/\w|/r[o]ot/|/Users/\w|[A-Z]:\\Users\\)"
)
# Where packages were fetched from on the day: an index, a mirror, a registry.
REGISTRY = re.compile(
    r"p[y]pi\.org/simple|files\.p[y]thonhosted\.org|registry\.n[p]mjs\.org|proxy\.golang\.org"
    r"|artifactory|/api/pypi/|index-url\s*=\s*\S*//|-index-url[= ]\S*//|trusted-host[= ]\s*\w"
    r"|^\[package\.source\]|^\[\[tool\.poetry\.source\]\]",
    re.IGNORECASE | re.MULTILINE,
)


def _files() -> Iterator[Path]:
    yield from (path for path in ROOT.iterdir() if path.is_file() and _is_ours(path))
    for name in FOLDERS:
        for path in (ROOT / name).rglob("*"):
            if path.is_file() and not SKIPPED.intersection(path.parts):
                yield path


def _is_ours(path: Path) -> bool:
    # In a second worktree `.git` is a file that says where the first one is.
    return (
        path.suffix != ".log"
        and path.name != ".git"
        and not path.name.startswith((".coverage", ".env", ".DS_Store"))
    )


def _text(path: Path) -> str:
    """The text of a file, or nothing where it holds none."""
    if path.resolve() == Path(__file__).resolve() or path.stat().st_size > LARGEST_BYTES:
        return ""
    content = path.read_bytes()
    return "" if b"\0" in content else content.decode("utf-8", errors="replace")


def _found(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in sorted(_files())
        for number, line in enumerate(_text(path).splitlines(), start=1)
        if pattern.search(line)
    ]


def _notebooks() -> list[Path]:
    return sorted(path for path in _files() if path.suffix == ".ipynb")


def test_the_files_of_the_project_are_looked_at() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in _files()}

    assert {"pyproject.toml", "momentum_lab/errors.py", "parameters/design.yaml"} <= names


def test_no_file_holds_a_path_of_one_machine() -> None:
    assert _found(MACHINE_PATH) == []


def test_no_file_says_where_packages_were_fetched() -> None:
    assert _found(REGISTRY) == []


@pytest.mark.parametrize(
    "line",
    ["see /home/ada/x", f'"/{WORK}/main"', f"cd /{ROOT_HOME}/x", "(/Users/ada)", r"C:\Users\ada"],
)
def test_a_path_of_a_machine_is_recognised(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "https://www.example.org/home/page",
        f"https://example.org/{WORK}/1",
        "../shared/data",
        f"data/{WORK}/x",
        f"~/{WORK}/x",
        "#!/usr/bin/env bash",
    ],
)
def test_other_paths_are_not_taken_for_one(line: str) -> None:
    assert not MACHINE_PATH.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "pip install --index-url https://mirror.example.org/simple x",
        "PIP_INDEX_URL=https://mirror.example.org".lower().replace("_", "-"),
        f"https://files.{PYTHON}hosted.org/packages/x.whl",
        "[package.source]",
    ],
)
def test_a_registry_is_recognised(line: str) -> None:
    assert REGISTRY.search(line)


def test_no_notebook_holds_outputs() -> None:
    full = []
    for path in _notebooks():
        for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
            if cell.get("outputs") or cell.get("execution_count") is not None:
                full.append(f"{path.relative_to(ROOT)}: cell {number}")

    assert full == []
