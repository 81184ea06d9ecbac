"""A crawler that takes up where it was killed.

``python examples/crawler.py DIR`` crawls a small site, which the example itself serves on this machine, and keeps what
it knows in DIR. Kill it at any moment and start it again: no page is fetched twice but those that were being fetched.

``--url`` crawls from another address instead, ``--workers`` says how many threads fetch, ``--pages`` and ``--delay-s``
how large and how slow the example's own site is.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from perdure.mapping import Tracker

LINK = re.compile(r'href="([^"#]+)')


def crawl(tracker: Tracker, start: str, workers: int) -> None:
    """Fetches every page that can be reached from ``start`` on the same host."""
    tracker.add_if_absent(start)
    threads = [threading.Thread(target=work, args=(tracker, start)) for _ in range(workers)]
    with tracker.progress("pages"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def work(tracker: Tracker, start: str) -> None:
    while True:
        keys = tracker.claim()
        if keys:
            fetch(tracker, keys[0])
        elif tracker.counts()["claimed"]:
            time.sleep(0.01)  # What the others are fetching may hold new addresses.
        else:
            return


def fetch(tracker: Tracker, url: str) -> None:
    """One page: its title is kept, and the addresses that it names are added."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            page = answer.read().decode("utf-8", "replace")
    except OSError as error:
        tracker.fail(url, error)
        return
    title = re.search("<title>(.*?)</title>", page)
    found = [urllib.parse.urljoin(url, link) for link in LINK.findall(page)]
    host = urllib.parse.urlsplit(url).netloc
    # All or nothing: a page is not done before everything that it named is known.
    with tracker.transaction():
        tracker.add_many_if_absent(link for link in found if urllib.parse.urlsplit(link).netloc == host)
        tracker[url]["title"] = title[1] if title else ""
        tracker.mark_done(url)


@contextlib.contextmanager
def served_site(pages: int, delay_s: float, port: int = 0) -> Iterator[str]:
    """A site whose page n names pages 2n and 2n + 1, and one address that does not exist."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(delay_s)
            name = self.path.strip("/") or "1"
            number = int(name) if name.isdigit() else 0
            if not 1 <= number <= pages:
                self.send_error(404)
                return
            links = [n for n in (2 * number, 2 * number + 1) if n <= pages] + (["lost"] if number == pages else [])
            body = f"<title>Page {number}</title>" + "".join(f'<a href="/{link}">next</a>' for link in links)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            # Before the page leaves: a page that is known as done has been told of, whenever the program is killed.
            sys.stdout.write(f"served {self.path}\n")  # In one piece: several pages are served at once.
            sys.stdout.flush()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", help="where the crawler keeps what it knows")
    parser.add_argument("--url", help="where to begin; without it, the example's own site")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pages", type=int, default=100)
    parser.add_argument("--delay-s", type=float, default=0.02)
    parser.add_argument("--port", type=int, default=8765, help="of the example's own site: the same in every run")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = options.url or stack.enter_context(served_site(options.pages, options.delay_s, options.port))
        with Tracker(options.directory, max_tries=3) as tracker:
            before = tracker.num_done()
            crawl(tracker, url, options.workers)
            counts = tracker.counts()
            print(f"{counts['done']} pages, {before} of them known before; {counts['failed']} failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
