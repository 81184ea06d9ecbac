"""Errors that strike a method from outside, when the test says so."""

from __future__ import annotations

_waiting: dict[str, BaseException] = {}


def strike_once(name: str, error: BaseException) -> None:
    """The next ``strike(name)`` raises this; all later ones do nothing."""
    _waiting[name] = error


def strike(name: str) -> None:
    if name in _waiting:
        raise _waiting.pop(name)
