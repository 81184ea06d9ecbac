"""Whether every public name has a type that each type checker reads alike: ``pyright --verifytypes``, at 100 %."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    """Prints what is not known, and returns 0 when nothing is."""
    tools = Path(sys.executable).parent
    # pyright asks the first python on the path where packages are.
    environment = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [tools / "pyright", "--verifytypes", "perdure", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    try:
        report: dict[str, Any] = json.loads(done.stdout)["typeCompleteness"]
    except (ValueError, KeyError):
        print(done.stdout, done.stderr, sep="\n")
        return 2
    symbols = report["symbols"]
    for symbol in symbols:
        for told in symbol["diagnostics"]:
            # A class is "partially unknown" when an attribute of it is; the attribute says so itself, in its line.
            if told["severity"] == "error" and "partially unknown" not in told["message"]:
                line = told.get("range", {}).get("start", {}).get("line", -1) + 1
                print(f"{told.get('file', '')}:{line}: {symbol['name']}: {told['message']}")
    score = report["completenessScore"]
    print(f"{score:.2%} of the {len(symbols)} names in the public interface have a known type")
    return 0 if symbols and score == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
