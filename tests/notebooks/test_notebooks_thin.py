"""A notebook is a page: markdown says what is seen, a cell calls one thing, no logic is in it."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import nbformat
import pytest
from papermill import inspect_notebook

from momentum_lab.parameters import Parameters

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_CELLS, MOST_LINES = 15, 8
LOGIC = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.If,
    ast.Try,
    ast.With,
    ast.AsyncWith,
    ast.comprehension,
)

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parsed(cell: nbformat.NotebookNode) -> ast.Module:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    tree = compile(cell.source, "cell", "exec", flags=flags)
    assert isinstance(tree, ast.Module)
    return tree


def is_parameters(cell: nbformat.NotebookNode) -> bool:
    return "parameters" in cell.metadata.get("tags", [])


def test_there_are_notebooks_to_look_at() -> None:
    assert {"live.ipynb", "review.ipynb", "tune.ipynb"} <= {path.name for path in NOTEBOOKS}


@every_notebook
def test_a_notebook_is_valid_and_its_cells_have_lasting_names(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)

    nbformat.validate(notebook)
    names = [cell.id for cell in notebook.cells]
    assert len(set(names)) == len(names)
    assert all(name.replace("-", "").isalpha() for name in names)
    assert notebook.metadata.kernelspec.name == "python3"


@every_notebook
def test_a_notebook_holds_no_outputs(path: Path) -> None:
    for cell in code_cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None
    assert "widgets" not in nbformat.read(path, as_version=4).metadata


@every_notebook
def test_no_cell_holds_logic(path: Path) -> None:
    for cell in code_cells(path):
        found = [type(node).__name__ for node in ast.walk(parsed(cell)) if isinstance(node, LOGIC)]
        assert found == [], f"{cell.id}: {found}"


@every_notebook
def test_a_notebook_is_short(path: Path) -> None:
    cells = code_cells(path)

    assert len(cells) <= MOST_CELLS
    for cell in cells:
        # The names of a parameter file are as many as they are.
        assert is_parameters(cell) or len(cell.source.splitlines()) <= MOST_LINES, cell.id


@every_notebook
def test_the_first_cell_is_tagged_and_holds_literals_only(path: Path) -> None:
    first, *others = code_cells(path)

    assert is_parameters(first)
    assert not any(is_parameters(cell) for cell in others)
    for statement in parsed(first).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)


@every_notebook
def test_every_parameter_is_explained(path: Path) -> None:
    found = inspect_notebook(str(path))

    assert found
    assert all(parameter["help"] for parameter in found.values())


@every_notebook
def test_imports_stand_in_the_second_cell_and_are_the_top_level_package(path: Path) -> None:
    _, imports, *others = code_cells(path)

    names = [
        alias.name
        for node in ast.walk(parsed(imports))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    ]
    assert set(names) <= {"Path", "momentum_lab"}
    for cell in others:
        assert not any(
            isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(parsed(cell))
        )


def test_the_live_notebook_takes_the_keys_of_a_parameter_file() -> None:
    known = set(inspect_notebook(str(ROOT / "notebooks" / "live.ipynb")))

    assert known == {field.name for field in dataclasses.fields(Parameters)} | {"run_id", "root"}


def test_the_report_is_made_also_of_a_session_that_failed() -> None:
    cells = code_cells(ROOT / "notebooks" / "live.ipynb")

    (session,) = [cell for cell in cells if "session.run()" in cell.source]
    assert session.metadata.tags == ["raises-exception"]
