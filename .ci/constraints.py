"""Write the versions of poetry.lock as pip constraints, one line per package and version.

    python .ci/constraints.py FILE

A package that is locked once is held to that version everywhere. One that is locked more than once
(pandas 2 for Python 3.10, pandas 3 above) keeps the markers that tell the versions apart. Which
extra wants a package is dropped: a constraint installs nothing, it only chooses a version.

Standard library only. Python 3.10 has no tomllib; the copy inside pip is taken there.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
EXTRA = re.compile(r"""extra == (["'])[^"']*\1""")
ALWAYS = 'python_version >= "3"'


def marker(package: dict[str, Any]) -> str:
    """Return the marker of a locked package with every extra taken as wanted."""
    found = package.get("markers", "")
    if isinstance(found, dict):  # one marker per dependency group
        found = " or ".join(f"({text})" for text in found.values())
    return EXTRA.sub(ALWAYS, found)


def constraint_lines(packages: list[dict[str, Any]]) -> list[str]:
    """Return ``name==version`` for each package, with its marker if the name is there twice."""
    n_versions = Counter(package["name"] for package in packages)
    return [
        f"{package['name']}=={package['version']}"
        + (f" ; {marker(package)}" if n_versions[package["name"]] > 1 else "")
        for package in packages
    ]


def main() -> None:
    """Read the lock beside this folder and write the file named on the command line."""
    lock = tomllib.loads((ROOT / "poetry.lock").read_text(encoding="utf-8"))
    lines = constraint_lines(lock["package"])
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
