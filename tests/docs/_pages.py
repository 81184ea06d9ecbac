"""The code on a page, and running it.

- A ``python`` block is part of the page's script: all of them run in order, in one process.
- A ``python`` block with ``title="name.py"`` is a file of that name, for others to import or to run.
- One with ``title="examples/name.py"`` is a part of that file, word for word; the examples are there to be run.
- A ``console`` block holds commands, each behind ``$ ``, and what they print.
- A ``text`` block with ``title="output"`` is what the block before it prints; with ``title="error"``, what it raises.
  In both, ``…`` stands for anything within a line, and a line that is only ``…`` for any lines.
- ``<!-- not run: reason -->`` before a block says why it is not run. A ``py`` block always needs one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RUNNER = Path(__file__).with_name("_runner.py")

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>\w.*?)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]*)"')
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """``reason``: why it is not run, or empty. ``line``: of the page, for messages."""

    language: str
    title: str
    text: str
    reason: str
    line: int


def blocks_of(text: str) -> list[Block]:
    found = []
    for match in _FENCE.finditer(text):
        info = match["info"]
        title = _TITLE.search(info)
        reason = _NOT_RUN.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        found.append(
            Block(info.split()[0], title[1] if title else "", match["text"], reason[1] if reason else "", line)
        )
    return found


def run_page(text: str, folder: Path) -> list[str]:
    """What is wrong with a page's code, a message each. ``folder``: empty."""
    steps, expectations, script = steps_of(blocks_of(text))
    wrong = [problem for block in blocks_of(text) if is_excerpt(block) and (problem := judge_excerpt(block))]
    if not steps:
        return wrong
    work = folder / "work"
    work.mkdir()
    shutil.copytree(ROOT / "examples", work / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    (work / "page.py").write_text(script, "utf-8")
    tools = folder / "bin"
    tools.mkdir()
    for name, module in (("python", ""), ("perdure", " -m perdure")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n')
        (tools / name).chmod(0o755)
    steps_path, results_path = folder / "steps.json", folder / "results.json"
    steps_path.write_text(json.dumps(steps), "utf-8")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "COLUMNS": "110",
        "TZ": "UTC",
    }
    done = subprocess.run(
        [sys.executable, RUNNER, steps_path, results_path],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    results = json.loads(results_path.read_text("utf-8")) if results_path.exists() else []
    if done.returncode != 0 or len(results) != len(steps):
        return [f"the page's process ended with {done.returncode} in step {len(results) + 1}: {done.stderr}"]
    return wrong + [
        problem for expected, result in zip(expectations, results, strict=True) if (problem := judge(expected, result))
    ]


def is_excerpt(block: Block) -> bool:
    return block.language == "python" and block.title.startswith("examples/")


def judge_excerpt(block: Block) -> str | None:
    """What is wrong with a part of an example, or ``None``. A line that is only ``…`` leaves something out."""
    whole = (ROOT / block.title).read_text("utf-8")
    for part in re.split(r"^ *…\n", block.text, flags=re.MULTILINE):
        if part.strip("\n") not in whole:
            return f"line {block.line}: this is not in {block.title}\n{part}"
    return None


def steps_of(blocks: list[Block]) -> tuple[list[list[Any]], list[dict[str, Any]], str]:
    """The steps, what each must do, and the page's script."""
    steps: list[list[Any]] = []
    expectations: list[dict[str, Any]] = []
    script = ""
    for block in blocks:
        if block.reason or is_excerpt(block):
            continue
        if block.language == "python" and block.title:
            steps.append(["file", block.title, block.text])
            expectations.append({"line": block.line})
        elif block.language == "python":
            steps.append(["python", script.count("\n"), block.text])
            expectations.append({"line": block.line})
            script += block.text
        elif block.language == "console":
            for command, output in commands_of(block.text):
                steps.append(["console", command])
                expectations.append({"line": block.line, "out": output})
        elif block.language == "text" and block.title in ("output", "error") and expectations:
            expectations[-1]["out" if block.title == "output" else "error"] = block.text
    return steps, expectations, script


def commands_of(text: str) -> list[tuple[str, str]]:
    found = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\"):
            more, _, output = output.partition("\n")
            command = command[:-1] + more.lstrip("> ")
        found.append((command, output))
    return found


def judge(expected: dict[str, Any], result: dict[str, Any]) -> str | None:
    """What is wrong with a result, or ``None``."""
    error = result["error"]
    where = f"line {expected['line']}"
    if "error" in expected:
        if error is None:
            return f"{where}: nothing was raised"
        if not matches(expected["error"], error["text"]):
            return f"{where}: raised\n{error['text']}\ninstead of\n{expected['error']}"
    elif error is not None:
        return f"{where}: {error['trace']}"
    if "out" in expected and not matches(expected["out"], result["out"]):
        return f"{where}: printed\n{result['out']}\ninstead of\n{expected['out']}"
    return None


def matches(pattern: str, text: str) -> bool:
    lines = []
    for line in pattern.strip("\n").split("\n"):
        lines.append(
            "(?:.*\n)*?" if line.strip() == "…" else ".*?".join(map(re.escape, line.rstrip().split("…"))) + "[ ]*\n"
        )
    return re.fullmatch("".join(lines), text.strip("\n") + "\n") is not None
