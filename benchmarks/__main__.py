"""All measurements, or those named: ``python -m benchmarks [system] [memo] [stash]``."""

from __future__ import annotations

import importlib
import sys

MODULES = ("system", "memo", "stash", "mapping")


def main() -> None:
    wanted = sys.argv[1:] or MODULES
    for name in wanted:
        try:
            module = importlib.import_module(f"benchmarks.bench_{name}")
        except ModuleNotFoundError as error:
            if error.name != f"benchmarks.bench_{name}":
                raise
            print(f"there are no measurements of {name!r}")
            continue
        print(f"\n## {name}\n")
        module.main()


if __name__ == "__main__":
    main()
