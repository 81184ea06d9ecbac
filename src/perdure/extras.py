"""Optional libraries: importing them only where they are used, and URLs without their passwords."""

from __future__ import annotations

import importlib
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from perdure.errors import UsageError


def needed_module(name: str, extra: str) -> Any:
    """The optional library, imported now. Raises ``UsageError`` with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{name.partition('.')[0]} is not installed", hint=f"pip install 'perdure[{extra}]'"
        ) from error


def without_password(url: str) -> str:
    """The URL as it may stand in a message."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}"))
