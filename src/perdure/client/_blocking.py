"""Calls that block until they are answered."""

from __future__ import annotations

import ssl
import time
from typing import Any

from perdure.client._lines import BrokenError, Lines, NotSentError
from perdure.client._requests import (
    Request,
    Response,
    Target,
    delays,
    error_of,
    gave_up,
    is_final,
    request_for,
    result_of,
    with_key,
)
from perdure.wire import Method


class BlockingClient:
    """Any thread may call anything."""

    def __init__(self, target: Target, timeout_s: float, context: ssl.SSLContext | None) -> None:
        self.target = target
        self.lines: Lines = Lines(target, context)
        self._timeout_s = timeout_s

    def call(self, proxy: Any, method: Method, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the method returns there. Sent again, with the same key, until an answer comes or the time is over."""
        request = request_for(self.target, method, args, kwargs)
        return result_of(self.target, request, self._answer(request), proxy)

    def _answer(self, request: Request) -> Response:
        deadline = time.monotonic() + self._timeout_s
        method = request.method
        was_sent = False
        last: object = None
        try:
            with self.lines.line(deadline) as line:
                headers = with_key(request, None if method.is_query else line.next_key())
                for delay_s in delays():
                    remaining_s = deadline - time.monotonic()
                    if remaining_s <= 0:
                        break
                    wait_s = delay_s
                    try:
                        response = line.exchange("POST", request.path, headers, request.body, remaining_s)
                    except NotSentError as error:
                        last = error
                    except BrokenError as error:
                        last, was_sent = error, True
                    else:
                        if is_final(response):
                            return response
                        # These say for sure that nothing has begun.
                        was_sent = was_sent or response.status not in (408, 429)
                        last = f"HTTP {response.status}"
                        wait_s = max(delay_s, min(response.retry_after_s or 0.0, 1.0))
                    time.sleep(max(0.0, min(wait_s, deadline - time.monotonic())))
        except NotSentError as error:
            last = error
        raise gave_up(self.target, method, was_sent=was_sent, timeout_s=self._timeout_s, last=last)

    def get(self, path: str, accept: str) -> Response:
        """Something that only asks. Raises what a call raises."""
        deadline = time.monotonic() + self._timeout_s
        headers = {**self.target.headers(), "Accept": accept}
        last: object = None
        with self.lines.line(deadline) as line:
            for delay_s in delays():
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0:
                    break
                try:
                    response = line.exchange("GET", self.target.prefix + path, headers, None, remaining_s)
                    if response.status == 200:
                        return response
                    if is_final(response):
                        raise error_of(self.target, response)
                    last = f"HTTP {response.status}"
                except (NotSentError, BrokenError) as error:
                    last = error
                time.sleep(max(0.0, min(delay_s, deadline - time.monotonic())))
        raise gave_up(self.target, None, was_sent=False, timeout_s=self._timeout_s, last=last)

    def close(self) -> None:
        self.lines.close()
