"""What stands where a closed handle's dict was: it raises whatever it is asked."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

from perdure.errors import PerdureError


class ClosedOpened:
    """In the place of the ``Opened``. Its path and its report can still be read."""

    def __init__(self, opened: Any) -> None:
        self.path = opened.path
        self.report = opened.report
        self.writeable = opened.writeable
        self._error: PerdureError = opened.refusal()

    def refusal(self) -> PerdureError:
        return self._error

    def __getattr__(self, name: str) -> NoReturn:
        raise copy.copy(self.__dict__["_error"])


class ClosedDict(dict[Any, Any]):
    """In the place of the data."""

    def __init__(self, error: PerdureError) -> None:
        super().__init__()
        self._error = error

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise copy.copy(self._error)

    def __getitem__(self, key: Any) -> NoReturn:
        self._refuse()

    def __contains__(self, key: Any) -> NoReturn:
        self._refuse()

    def __len__(self) -> NoReturn:
        self._refuse()

    def __iter__(self) -> NoReturn:
        self._refuse()

    def __reversed__(self) -> NoReturn:
        self._refuse()

    def __eq__(self, other: object) -> NoReturn:
        self._refuse()

    __hash__ = None
    get = keys = values = items = _refuse
