"""What the cells of a notebook need: parameters from their names, and figures seen everywhere.

A figure is shown as one bundle: plotly's own type, which JupyterLab draws; HTML, which a page
exported by nbconvert draws without a network, the library travelling with the first figure of a
kernel; and a PNG for viewers that run no script, where kaleido and a browser are installed.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib
import importlib.util
import json
import logging
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import plotly.io

from momentum_lab.errors import ParameterError
from momentum_lab.parameters import Parameters, check_parameters

_log = logging.getLogger(__name__)
_PLOTLY = "application/vnd.plotly.v1+json"
_CONFIG = {"displaylogo": False, "responsive": True}
_PNG_WIDTH = 1080
_MARKUP = re.compile(r"<[^>]*>")


def parameters_of(namespace: Mapping[str, Any]) -> Parameters:
    """Return the checked set that the names of a tagged cell make.

    Args:
        namespace: `globals()` of the notebook; only the names of a parameter file are read.

    Raises:
        ParameterError: a name is missing, unknown inside its section, or out of range.
    """
    names = [field.name for field in dataclasses.fields(Parameters)]
    missing = [name for name in names if name not in namespace]
    if missing:
        raise ParameterError(f"the parameters cell lacks {', '.join(missing)}: run it first")
    return check_parameters({name: namespace[name] for name in names})


def find_path(path: str | Path) -> Path:
    """Return where a relative path leads: from the current folder, or from one above it.

    A notebook is run from the checkout by papermill and from its own folder by JupyterLab.

    Raises:
        ParameterError: it is in none of them.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / path).exists():
            return folder / path
    raise ParameterError(f"{path}: not found in {Path.cwd()} nor in a folder above it")


class _Shown:
    """Whether this kernel has sent the library already."""

    has_library = False


def show(*figures: go.Figure) -> None:
    """Display figures so that they are seen in JupyterLab, in exported HTML, and without scripts.

    Args:
        figures: drawn one below the other.
    """
    # IPython is there wherever a notebook runs; a chart on its own does not need it.
    from IPython.display import display  # noqa: PLC0415

    for figure in figures:
        bundle = mime_bundle(figure, with_library=not _Shown.has_library)
        display(bundle, raw=True)  # type: ignore[no-untyped-call]  # IPython is not annotated
        _Shown.has_library = True


def mime_bundle(figure: go.Figure, *, with_library: bool) -> dict[str, Any]:
    """Return a figure in all the types it is displayed by.

    Args:
        figure: the chart.
        with_library: put plotly.js (5 MB) into the HTML; the first figure of a page needs it.
    """
    drawn = json.loads(plotly.io.to_json(figure, validate=False))
    page = plotly.io.to_html(
        figure, config=_CONFIG, full_html=False, include_plotlyjs=with_library, validate=False
    )
    bundle = {
        _PLOTLY: {**drawn, "config": _CONFIG},
        "text/html": page,
        "text/plain": _title(figure),
    }
    return bundle | _png(figure)


def _title(figure: go.Figure) -> str:
    return "Chart: " + _MARKUP.sub("", figure.layout.title.text or "without a title")


def _png(figure: go.Figure) -> dict[str, str]:
    """Return the picture where it can be made; a run never fails for a picture."""
    if importlib.util.find_spec("kaleido") is None:
        return {}
    try:
        # One browser for all pictures of a kernel; a second call changes nothing.
        importlib.import_module("kaleido").start_sync_server(silence_warnings=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            picture = figure.to_image(format="png", width=_PNG_WIDTH, scale=1.5)
    except Exception as error:  # noqa: BLE001 - whatever a browser may do, the chart is shown
        _log.info("chart: no picture, %s", error)
        return {}
    return {"image/png": base64.b64encode(picture).decode("ascii")}
