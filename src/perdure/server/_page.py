"""The page for people: written here, with a little JavaScript that asks for parts of it again."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2

from perdure.clock import from_ns
from perdure.errors import PerdureError
from perdure.server._figures import Figures
from perdure.server._http import HttpError
from perdure.server._past import Past
from perdure.server._state import moment
from perdure.server._tokens import READ, Token
from perdure.server._tree import Node, short, tree
from perdure.system import Command, System

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
STATIC_TYPES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_COMMANDS_SHOWN = 10
_ARGUMENTS_LENGTH_MAX = 90


class Page:
    """Writes the page and its parts. Everything blocks: it belongs into a thread."""

    def __init__(self, system: System, figures: Figures, past: Past) -> None:
        self._system = system
        self._figures = figures
        self._past = past
        # What is written into the page is escaped unless a template says otherwise, and none does.
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("perdure.server", "_templates"), autoescape=True, trim_blocks=True
        )
        self._templates.globals.update(size=_size, moment=_moment, arguments=_arguments)
        self._static = {name: files("perdure.server").joinpath("_static", name).read_bytes() for name in STATIC_TYPES}

    def static(self, name: str) -> bytes | None:
        """A file of the page."""
        return self._static.get(name)

    def whole(self, token: Token, query: Mapping[str, str], *, has_session: bool) -> str:
        """The page, for whoever holds the token."""
        context = self._context(token)
        if READ in token.scopes:
            context |= self._state(query)
        return self._render("page.html", title=self._title, path=self._system.path, has_session=has_session, **context)

    def figures(self, token: Token) -> str:
        return self._render("figures.html", **self._context(token))

    def state(self, query: Mapping[str, str]) -> str:
        return self._render("state.html", **self._state(query))

    def login(self, *, wrong: bool) -> str:
        return self._render("login.html", title=self._title, wrong=wrong)

    @property
    def _title(self) -> str:
        return self._system.state.cls.__name__

    def _render(self, template: str, **context: Any) -> str:
        return self._templates.get_template(template).render(context)

    def _context(self, token: Token) -> dict[str, Any]:
        return {
            "now": self._figures.now(),
            "commands": self._figures.last_commands(_COMMANDS_SHOWN),
            "may_read": READ in token.scopes,
        }

    def _state(self, query: Mapping[str, str]) -> dict[str, Any]:
        seq_now = self._system.engine.seq
        problem, root, seq = None, Node("", "", ""), seq_now
        try:
            when = moment(query, seq_now)
            if when == seq_now:
                # The object itself, bounded: this takes the lock for some milliseconds and copies nothing.
                with self._system.engine.lock:
                    root, seq = tree(self._system.state.root), self._system.engine.seq
            else:
                seq, value = self._past.at(when)
                root = tree(value)
        except HttpError as error:
            problem = error.failure.message
        except PerdureError as error:
            problem = f"{error.message}{f': {error.hint}' if error.hint else ''}"
        return {"problem": problem, "root": root, "state_seq": seq, "now_seq": seq_now}


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return f"{size:,.2f} GiB"


def _moment(at_ns: int) -> str:
    return from_ns(at_ns).strftime("%Y-%m-%d %H:%M:%S") if at_ns else "the beginning"


def _arguments(command: Command) -> str:
    parts = [short(value) for value in command.args]
    parts += [f"{name}={short(value)}" for name, value in command.kwargs.items()]
    text = ", ".join(parts)
    return text if len(text) <= _ARGUMENTS_LENGTH_MAX else text[: _ARGUMENTS_LENGTH_MAX - 1] + "…"
