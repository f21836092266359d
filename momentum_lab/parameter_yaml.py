"""How the YAML of a parameter file is read: no key twice, numbers and times as people mean them."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from momentum_lab.errors import ParameterError


class UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, where YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping; a `ParameterError` names the line of a key that is given twice."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise ParameterError(f"line {line}: expected a word as key, found {key!r}")
            if key in seen:
                raise ParameterError(f"line {line}: the key {key!r} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    """Read a whole number; 23:45 stays text, which YAML 1.1 takes for 1425 in base 60."""
    return str(node.value) if ":" in node.value else loader.construct_yaml_int(node)


UniqueKeys.add_constructor("tag:yaml.org,2002:int", _whole_number)

# YAML 1.1 reads 1e-3 as text, because it has no point; people mean the number.
UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+"),
    list("-+.0123456789"),
)
