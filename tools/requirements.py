"""Prints what some extras of pyproject.toml ask for, but for perdure itself: ``requirements.py EXTRA…``."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(extras: list[str]) -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        optional = tomllib.load(file)["project"]["optional-dependencies"]
    for extra in extras:
        for requirement in optional[extra]:
            if not requirement.startswith("perdure"):
                print(requirement)


if __name__ == "__main__":
    main(sys.argv[1:])
