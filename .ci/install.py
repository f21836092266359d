"""Make a virtual environment with the locked versions of everything this project needs.

    python .ci/install.py FOLDER EXTRA[,EXTRA...]

The interpreter that runs this file is the one that the environment gets. A folder that was made by
another Python version is made anew. pip's full output is kept in FOLDER/install.log.

Standard library only. This file must parse on Python 3.6 too, so that one which is too old is told
so in words.
"""

import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
OLDEST, NEWEST = (3, 10), (3, 13)
LINES_BETWEEN_SIGNS_OF_LIFE = 25


def check_interpreter() -> None:
    """Stop with one sentence if this Python cannot run the project or cannot make environments."""
    version = sys.version_info[:2]
    if not OLDEST <= version <= NEWEST:
        sys.exit(
            "momentum_lab needs Python 3.10 to 3.13, and this is {}.{}: name another one, "
            "for example 'make PY=python3.11 demo'.".format(*version)
        )
    try:
        import ensurepip  # noqa: F401, PLC0415  # Debian packs it apart
        import venv  # noqa: F401, PLC0415
    except ImportError:
        sys.exit(
            "This Python cannot make virtual environments: install its venv module "
            "(on Debian and Ubuntu: apt-get install python{}.{}-venv).".format(*version)
        )


def make_environment(folder: pathlib.Path) -> pathlib.Path:
    """Make the environment unless this Python version has made it before; return its Python."""
    python = folder / "bin" / "python"
    wanted = "{}.{}".format(*sys.version_info[:2])
    if not is_python(python, wanted):
        print(f"Making {folder.name} with Python {wanted} ...", flush=True)
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=False)
        if made.returncode:
            sys.exit(f"The virtual environment {folder.name} could not be made (see above).")
    return python


def is_python(python: pathlib.Path, wanted: str) -> bool:
    """Return whether there is a working interpreter of the wanted version at this path."""
    if not python.exists():
        return False
    ask = "import sys; print('{}.{}'.format(*sys.version_info[:2]))"
    answer = subprocess.run(
        [str(python), "-c", ask], stdout=subprocess.PIPE, text=True, check=False
    )
    return answer.stdout.strip() == wanted


def install(python: pathlib.Path, folder: pathlib.Path, extras: str) -> None:
    """Install the project, editable, under the constraints of the lock."""
    constraints = folder / "constraints.txt"
    subprocess.run([str(python), str(ROOT / ".ci/constraints.py"), str(constraints)], check=True)
    command = [str(python), "-m", "pip", "install", "--no-input", "--progress-bar", "off"]
    command += ["--disable-pip-version-check", "-c", str(constraints), "-e", f"{ROOT}[{extras}]"]
    print(f"Installing momentum_lab[{extras}] (a minute or two, about 500 MB) ...", flush=True)
    log = folder / "install.log"
    if follow(command, log):
        print(*log.read_text(encoding="utf-8").splitlines()[-20:], sep="\n", file=sys.stderr)
        sys.exit(
            f"pip could not install the packages; its whole output is in {folder.name}/{log.name}."
        )


def follow(command: list, log: pathlib.Path) -> int:
    """Run pip with its output in a log, print a line now and then, and return its exit code."""
    began = time.monotonic()
    n_collected = 0
    with log.open("w", encoding="utf-8") as file:
        pip = subprocess.Popen(
            command,
            cwd=str(ROOT),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        for line in pip.stdout or ():
            file.write(line)
            n_collected += line.startswith("Collecting ")
            if line.startswith("Collecting ") and n_collected % LINES_BETWEEN_SIGNS_OF_LIFE == 0:
                say(began, f"{n_collected} packages found")
            if line.startswith("Installing collected packages"):
                say(began, f"installing {line.count(',') + 1}")
        exit_code = pip.wait()
    say(began, "failed" if exit_code else "done")
    return exit_code


def say(began: float, what: str) -> None:
    """Print one line of progress with the seconds since the beginning."""
    print(f"  {time.monotonic() - began:3.0f} s  {what}", flush=True)


def main() -> None:
    """Check, make, install."""
    check_interpreter()
    folder = pathlib.Path(sys.argv[1]).resolve()
    install(make_environment(folder), folder, sys.argv[2])


if __name__ == "__main__":
    main()
