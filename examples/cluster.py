"""Three nodes of one system on a cluster of servers: each takes commands, and one of them is killed.

``python examples/cluster.py [URL]``; without a URL it uses the servers that ``make cluster`` starts. The nodes are
processes on this machine here, and might as well be on three.
"""

from __future__ import annotations

import subprocess
import sys

import perdure

URL = "nats://127.0.0.1:4221,127.0.0.1:4222,127.0.0.1:4223/stock?monitor=127.0.0.1:8221,127.0.0.1:8222,127.0.0.1:8223"
NAMES = ("north", "east", "west")
COUNT = 60


class Stock:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, item: str) -> int:
        self.counts[item] = self.counts.get(item, 0) + 1
        return self.counts[item]


def node(url: str, name: str) -> None:
    """Adds to the stock, and says so each time once it has been acknowledged."""
    with perdure.open(Stock, url) as stock:
        for _ in range(COUNT):
            print(stock.add(name), flush=True)


def main(url: str) -> None:
    with perdure.open(Stock, url, create=True) as stock:
        before = dict(stock.counts)
        nodes = {
            name: subprocess.Popen([sys.executable, __file__, url, name], stdout=subprocess.PIPE, text=True)
            for name in NAMES
        }
        acknowledged = dict.fromkeys(NAMES, 0)
        for name, process in nodes.items():
            assert process.stdout is not None
            for _ in process.stdout:
                acknowledged[name] += 1
                if name == "north" and acknowledged[name] == COUNT // 3:
                    process.kill()
            process.wait()
            process.stdout.close()
        added = perdure.control(stock).read(
            lambda root: {name: root.counts[name] - before.get(name, 0) for name in NAMES}, consistency="linearizable"
        )
        print(f"east added {added['east']}, west added {added['west']}")
        # A command whose answer the killed node did not live to see may be there as well.
        missing = [name for name in NAMES if added[name] < acknowledged[name]]
        print("north was killed, and", f"lost: {missing}" if missing else "nothing that was acknowledged is missing")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        node(sys.argv[1], sys.argv[2])
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else URL)
