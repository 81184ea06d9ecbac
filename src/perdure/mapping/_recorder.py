"""``pod.set[...]…``: an operation spelled out first and made afterwards, at any depth."""

from __future__ import annotations

from typing import Any


class Recorder:
    """Notes the way to a place in a dict, and makes one operation there: ``pod.set["a"]["b"].append(4)``.

    Needed nowhere, because containers tell of their changes by themselves; here because programs written for handles
    from many processes use it.
    """

    __slots__ = ("_path", "_target")

    def __init__(self, target: Any, path: tuple[Any, ...] = ()) -> None:
        self._target = target
        self._path = path

    def __getitem__(self, step: Any) -> Recorder:
        return Recorder(self._target, (*self._path, step))

    def __setitem__(self, step: Any, value: Any) -> None:
        if type(value) is Recorder:
            return  # The end of `recorder[step] += …`, which has done its work by then.
        self._target.apply({"do": "__setitem__", "path": list(self._path), "args": [step, value]})

    def __delitem__(self, step: Any) -> None:
        self._target.apply({"do": "__delitem__", "path": list(self._path), "args": [step]})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def operation(*args: Any, **kwargs: Any) -> Any:
            return self._target.apply({"do": name, "path": list(self._path), "args": list(args), "kwargs": kwargs})

        return operation

    def _in_place(self, name: str, value: Any) -> Recorder:
        self._target.apply({"do": name, "path": list(self._path), "args": [value]})
        return self

    # Of a list, a dict, or a number or text: `recorder["count"] += 1` is one operation, whoever else counts meanwhile.

    def __iadd__(self, value: Any) -> Recorder:
        return self._in_place("__iadd__", value)

    def __isub__(self, value: Any) -> Recorder:
        return self._in_place("__isub__", value)

    def __imul__(self, value: Any) -> Recorder:
        return self._in_place("__imul__", value)

    def __itruediv__(self, value: Any) -> Recorder:
        return self._in_place("__itruediv__", value)

    def __ifloordiv__(self, value: Any) -> Recorder:
        return self._in_place("__ifloordiv__", value)

    def __imod__(self, value: Any) -> Recorder:
        return self._in_place("__imod__", value)

    def __iand__(self, value: Any) -> Recorder:
        return self._in_place("__iand__", value)

    def __ior__(self, value: Any) -> Recorder:
        return self._in_place("__ior__", value)

    def __ixor__(self, value: Any) -> Recorder:
        return self._in_place("__ixor__", value)
