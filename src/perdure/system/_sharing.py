"""Opening a system that many processes share: what the package ``shared`` needs to know of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perdure.clock import SystemClock
from perdure.codecs import get_codec
from perdure.errors import UsageError
from perdure.system._state import ObjectState


def blank_state(cls: type, options: Mapping[str, Any]) -> ObjectState:
    """An empty state, as opening a ``cls`` with these options would have it."""
    allow, renames = (*options["allow"], SystemClock, cls), options["renames"]
    return ObjectState(cls, get_codec(options["codec"], allow=allow, renames=renames), renames=renames)


def share(target: Any, cls: type, directory: str | None, chosen: Mapping[str, Any], **more: Any) -> Any:
    """A proxy that hands calls to whichever process has the directory open.

    ``chosen``, ``more``: the options of ``open``. ``allow`` names the package, too: whoever opens the directory later
    does so in the background, where nobody's package can be seen.
    """
    # Here, because sharing opens systems itself.
    from perdure.shared import open_shared

    options = {**chosen, **more}
    if directory is None or options.pop("mode") == "r":
        raise UsageError("shared=True needs a directory to write in", hint='mode="r" reads beside all who share it')
    return open_shared(target, cls, directory, options)
