"""Instances that take their results along when they are pickled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from perdure.memo._dealloc import Deallocatable
from perdure.memo._work import PersistedWork

_WORKS = "__persisted__"


class PersistableContainer(Deallocatable):
    """A base class for owners of persisted results, which makes them safe to pickle and to deallocate.

    A pickled instance carries the results that are in memory, except for the transient ones; where it is unpickled they
    belong to the new instance. It refers to nothing of perdure: the restricted codecs take it with its own package
    allowed. ``deallocate()`` deallocates all results.

    What a subclass may say about its attributes (what several classes of one line say adds up):

    - ``_PERSITABLE_TRANSIENT_ATTRIBUTES``: these are ``None`` in the pickle;
    - ``_PERSITABLE_REMOVE_ATTRIBUTES``: these are not in the pickle;
    - ``_PERSITABLE_PROPERTIES``: these are read before pickling, so that their results are carried;
    - ``_PERSITABLE_METHODS``: these are called, likewise.
    """

    _PERSITABLE_TRANSIENT_ATTRIBUTES: ClassVar[Iterable[str]] = ()
    _PERSITABLE_REMOVE_ATTRIBUTES: ClassVar[Iterable[str]] = ()
    _PERSITABLE_PROPERTIES: ClassVar[Iterable[str]] = ()
    _PERSITABLE_METHODS: ClassVar[Iterable[str]] = ()

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled. A property or method that raises ends it."""
        for name in self._declared("_PERSITABLE_PROPERTIES"):
            getattr(self, name)
        for name in self._declared("_PERSITABLE_METHODS"):
            getattr(self, name)()
        state = _as_dict(super().__getstate__())
        for name in self._declared("_PERSITABLE_REMOVE_ATTRIBUTES"):
            state.pop(name, None)
        for name in self._declared("_PERSITABLE_TRANSIENT_ATTRIBUTES"):
            if name in state:
                state[name] = None
        works = {name: value for name, value in state.items() if type(value) is PersistedWork}
        if works:
            # As plain data. Subclasses of PersistedWork stay what they are, so that their own class is not forgotten.
            state = {name: value for name, value in state.items() if name not in works}
            state[_WORKS] = {name: work.__getstate__() for name, work in works.items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As it was when it was pickled; the results belong to this instance."""
        state = dict(state)
        for name, settings in state.pop(_WORKS, {}).items():
            work = object.__new__(PersistedWork)
            work.__setstate__(settings)
            state[name] = work
        for name, value in state.items():
            object.__setattr__(self, name, value)
            if isinstance(value, PersistedWork):
                value._for(self)
        self._track_allocation()

    def deallocate(self) -> None:
        """Deallocate all results. Files stay; what is asked for again is loaded or computed again."""
        for work in self._works():
            work.deallocate()
        super().deallocate()

    def _clear_persistable_state(self) -> None:
        """Clear all results, on all levels. Raises as ``PersistedWork.clear`` does, at the first that it cannot."""
        for work in self._works():
            work.clear()

    def _works(self) -> list[PersistedWork]:
        return [value for value in _as_dict(object.__getstate__(self)).values() if isinstance(value, PersistedWork)]

    @classmethod
    def _declared(cls, attribute: str) -> list[str]:
        """What the classes of this line say, each name once, in the order in which they say it."""
        names: dict[str, None] = {}
        for base in reversed(cls.__mro__):
            names.update(dict.fromkeys(vars(base).get(attribute, ())))
        return list(names)


def _as_dict(state: object) -> dict[str, Any]:
    """The attributes in what ``object.__getstate__`` returns, which depends on whether the class has slots."""
    parts = state if isinstance(state, tuple) else (state,)
    return {name: value for part in parts if part for name, value in part.items()}
