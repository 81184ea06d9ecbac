"""A replica that serves reads: one process takes the news, another one answers the readers.

``python examples/replica.py DIR`` starts the primary as a process of its own, sends it news, and reads them from a
replica. Then it kills the primary: the replica goes on answering, and is promoted to take the news from now on.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import perdure
from perdure.server import Application, BackgroundServer, Tokens, make_token

TOKEN = "known-to-both-sides-and-long-enough"
COUNT = 100


class News:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def publish(self, line: str) -> int:
        self.lines.append(line)
        return len(self.lines)

    @perdure.readonly
    def latest(self) -> str:
        return self.lines[-1]


def primary(directory: str) -> None:
    """Serves the news until it is killed."""
    news = perdure.open(News, directory)
    server = BackgroundServer(Application(news, tokens=Tokens([make_token(TOKEN)])), port=0)
    print(server.url, flush=True)
    threading.Event().wait()


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "primary", str(directory / "primary")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        writer = perdure.connect(News, url, token=TOKEN)
        replica = perdure.follow(News, url, directory / "replica", token=TOKEN)
        for number in range(1, COUNT + 1):
            writer.publish(f"line {number}")
        # It is a moment behind; nothing that it answers will be taken back.
        while perdure.control(replica).seq < COUNT:
            time.sleep(0.01)
        print("the replica says:", replica.latest())
        process.kill()
    print("the primary was killed, and the replica says:", replica.latest())
    perdure.control(replica).promote()
    print(replica.publish("one more"), "lines are there, and the replica says:", replica.latest())
    perdure.control(writer).close()
    perdure.control(replica).close()


if __name__ == "__main__":
    if sys.argv[1] == "primary":
        primary(sys.argv[2])
    else:
        main(Path(sys.argv[1]))
