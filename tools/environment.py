"""Bring a virtual environment up to date with some extras of pyproject.toml: ``environment.py FOLDER EXTRA[,EXTRA…]``.

Writes ``FOLDER/.with-EXTRA,EXTRA…``, which the Makefile compares with pyproject.toml. The stamp holds a digest of the
parts that pip reads, so that a change of a tool's configuration installs nothing again. Two makes at once take turns.
"""

import fcntl
import hashlib
import json
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(folder: Path, extras: str) -> int:
    """Install what is missing and return pip's exit code."""
    folder.mkdir(exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = folder / f".with-{extras}"
        wanted = digest(folder)
        if not stamp.exists() or stamp.read_text() != wanted:
            made = folder / ".made"
            if not made.exists():
                print(f"making {folder} with Python {sys.version.split()[0]}", flush=True)
                venv.create(folder, with_pip=True)
                made.touch()
            print(f"installing perdure[{extras}] in {folder}", flush=True)
            pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            code = subprocess.call([*pip, "--editable", f"{ROOT}[{extras}]"])
            if code:
                return code
            stamp.write_text(wanted)
        stamp.touch()
    return 0


def digest(folder: Path) -> str:
    """A digest of what decides the installation: the project's own metadata and where it is."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        config = tomllib.load(file)
    parts = [config["build-system"], config["project"], config["tool"]["hatch"], str(ROOT), str(folder.resolve())]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
