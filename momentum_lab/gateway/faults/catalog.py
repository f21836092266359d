"""All faults by name, and how one is made of plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from momentum_lab.errors import ParameterError
from momentum_lab.gateway.faults import data, notices, orders, transport, upstream
from momentum_lab.gateway.faults.base import Fault, nearest

CATALOG: Final[Mapping[str, type[Fault]]] = {
    kind.name: kind
    for family in (
        transport.FAULTS,
        upstream.FAULTS,
        orders.FAULTS,
        data.FAULTS,
        notices.FAULTS,
    )
    for kind in family
}


def make_fault(name: str, parameters: Mapping[str, Any]) -> Fault:
    """Return a fresh fault.

    Raises:
        ParameterError: no such fault or parameter, with the nearest one; a value out of range.
    """
    kind = CATALOG.get(name)
    if kind is None:
        raise ParameterError(f"no fault {name!r}{nearest(name, CATALOG)}")
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    for key in parameters:
        if key not in known:
            raise ParameterError(f"fault {name}: no parameter {key!r}{nearest(key, known)}")
    return kind(**parameters)
