"""Values that do not tell of their changes: which of them were handed out, and what they were then."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, ValuesView
from typing import Any

from perdure.codecs import Codec
from perdure.mapping._values import SCALARS

_FIXED = SCALARS | {float, bytes, complex}


class HandingDict(dict[Any, Any]):
    """The dict of a codec whose values are arbitrary objects. Whoever reads a value may go on to change it.

    ``out``: by key, each object that was handed out, and its bytes as they were last stored.
    """

    def __init__(self, codec: Codec, sync_at: int) -> None:
        super().__init__()
        self._codec = codec
        self._sync_at = max(1, sync_at)
        self._count = 0
        self.out: dict[Any, tuple[Any, bytes]] = {}
        self.find_changed: Callable[[], object] = lambda: None
        """Called after every ``sync_at`` values that were handed out for the first time."""

    def _hand_out(self, key: Any, value: Any) -> Any:
        if type(value) not in _FIXED:
            known = self.out.get(key)
            if known is None or known[0] is not value:
                self.out[key] = value, self._codec.encode(value)
                self._count += 1
                if self._count >= self._sync_at:
                    self._count = 0
                    self.find_changed()
        return value

    def __getitem__(self, key: Any) -> Any:
        return self._hand_out(key, super().__getitem__(key))

    def get(self, key: Any, default: Any = None, /) -> Any:
        return self[key] if key in self else default  # noqa: SIM401 (it would call itself)

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self._hand_out_all()
        return super().values()

    def items(self) -> ItemsView[Any, Any]:  # type: ignore[override]
        self._hand_out_all()
        return super().items()

    def _hand_out_all(self) -> None:
        for key, value in list(super().items()):
            self._hand_out(key, value)
