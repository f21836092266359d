"""Renew poetry.lock, so that it holds versions and hashes but no address.

Poetry asks an index for its pages per release unless it is told of a plain "simple" index. So the
project's two files are copied to a scratch folder, the index that pip itself uses is named there,
Poetry resolves there, and what it found is carried back without the index.

Run it by ``make lock``, with any Python from 3.10 on. Poetry goes into the scratch folder as well.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POETRY = "poetry>=2.1,<3"
SOURCE_BLOCK = re.compile(r"\n\[package\.source\]\n(?:[a-z_]+ = .*\n)+")
HASH_LINE = re.compile(r'^content-hash = "[0-9a-f]+"$', re.MULTILINE)
ASK_PIP = """
from pip._internal.commands import create_command
print(create_command("install").parse_args([])[0].index_url)
"""
ASK_POETRY = """
import pathlib, sys
from poetry.factory import Factory
print(Factory().create_poetry(pathlib.Path(sys.argv[1])).locker._get_content_hash())
"""


def run(*command: str | Path, folder: Path) -> str:
    """Run a command to its end and return what it printed; stop here if it fails."""
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:4]))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def make_poetry(folder: Path) -> Path:
    """Install Poetry into a new environment and return the environment's bin folder."""
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", POETRY, folder=folder)
    return folder / "bin"


def resolve(scratch: Path, tools: Path) -> str:
    """Return the text of the lock that Poetry makes in the scratch folder."""
    address = run(tools / "python", "-c", ASK_PIP, folder=scratch)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    source = f'\n[[tool.poetry.source]]\nname = "index"\nurl = "{address}"\npriority = "primary"\n'
    (scratch / "pyproject.toml").write_text(project + source, encoding="utf-8")
    run(tools / "poetry", "lock", "--no-interaction", folder=scratch)
    return (scratch / "poetry.lock").read_text(encoding="utf-8")


def without_address(lock: str, *, content_hash: str) -> str:
    """Return the lock without its sources, with the hash of the real pyproject.toml."""
    return HASH_LINE.sub(f'content-hash = "{content_hash}"', SOURCE_BLOCK.sub("", lock))


def main() -> None:
    """Resolve, carry the result back, and let Poetry check it."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "project"
        scratch.mkdir()
        print("Installing Poetry into a scratch folder ...", flush=True)
        tools = make_poetry(Path(folder) / "venv")
        print("Resolving (about a minute) ...", flush=True)
        lock = resolve(scratch, tools)
        content_hash = run(tools / "python", "-c", ASK_POETRY, ROOT, folder=ROOT)
        lock = without_address(lock, content_hash=content_hash)
        if "://" in lock:
            sys.exit("The lock still holds an address; poetry.lock was left as it was.")
        (ROOT / "poetry.lock").write_text(lock, encoding="utf-8")
        print(run(tools / "poetry", "check", "--lock", folder=ROOT))
    print(f"poetry.lock holds {lock.count('[[package]]')} packages.")


if __name__ == "__main__":
    main()
