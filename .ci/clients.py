"""Make the environments of the client libraries that the paper gateway is tried with.

    python .ci/clients.py FOLDER [NAME...]

They cannot share one: two of them install a package of the same name, and so do two more. Each gets
its own, with exact versions; one that is complete is left as it is.

Standard library only.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

CLIENTS = {
    "ib_async": ["ib_async==2.1.0"],
    "ibapi-9.81": ["ibapi==9.81.1.post1"],
    "ibapi-10.50": ["ibapi-stable==10.50.2"],
}
STAMP = "installed.txt"


def make(folder: Path, packages: list[str]) -> None:
    """Make one environment, unless it holds just these packages already."""
    stamp, wanted = folder / STAMP, "\n".join(packages)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print(f"Installing {' '.join(packages)} into {folder.name} ...", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--no-input"]
    command += ["--disable-pip-version-check", *packages]
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{' '.join(packages)} could not be installed (see above).")
    # Written last, so that a broken installation is tried again.
    stamp.write_text(wanted, encoding="utf-8")


def main() -> None:
    """Make those that are asked for, all of them by default."""
    for name in sys.argv[2:] or list(CLIENTS):
        make(Path(sys.argv[1]) / name, CLIENTS[name])


if __name__ == "__main__":
    main()
