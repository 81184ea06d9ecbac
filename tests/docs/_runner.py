"""Runs the steps of one page in the current directory, in one process whose ``__main__`` is the page's script.

Called as ``python _runner.py steps.json results.json``. A step is ``["file", name, text]``, ``["python", line, text]``
(``line``: how many lines of ``page.py`` stand before it) or ``["console", command]``. A result is what was printed and,
where a block raised, the last lines of its traceback.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
import types
from pathlib import Path
from typing import Any


def main(steps_path: str, results_path: str) -> None:
    steps = json.loads(Path(steps_path).read_text("utf-8"))
    page = types.ModuleType("__main__")
    page.__file__ = os.path.abspath("page.py")
    sys.modules["__main__"] = page
    sys.path.insert(0, os.getcwd())
    sys.argv = ["page.py"]
    results: list[dict[str, Any]] = []
    for step in steps:
        results.append(run(step, page))
        Path(results_path).write_text(json.dumps(results), "utf-8")


def run(step: list[Any], page: types.ModuleType) -> dict[str, Any]:
    if step[0] == "file":
        Path(step[1]).write_text(step[2], "utf-8")
        return {"out": "", "error": None}
    capture = os.open("out.txt", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    kept = [(fd, os.dup(fd)) for fd in (1, 2)]
    error = None
    try:
        for fd, _ in kept:
            os.dup2(capture, fd)
        if step[0] == "console":
            subprocess.run(["bash", "-c", step[1]], check=False)
        else:
            # The lines before it are left empty, so that each function's source is found where page.py has it.
            exec(compile("\n" * step[1] + step[2], page.__file__ or "", "exec"), page.__dict__)
    except Exception as raised:
        error = {"text": f"{type(raised).__name__}: {raised}", "trace": traceback.format_exc()}
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for fd, copy in kept:
            os.dup2(copy, fd)
            os.close(copy)
    size = os.fstat(capture).st_size
    out = os.pread(capture, size, 0).decode("utf-8", "replace")
    os.close(capture)
    os.unlink("out.txt")
    return {"out": out, "error": error}


if __name__ == "__main__":
    main(*sys.argv[1:])
