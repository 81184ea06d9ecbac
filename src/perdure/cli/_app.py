"""``module:Class`` on a command line, and opening a directory with it."""

from __future__ import annotations

import collections
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

import perdure
from perdure.codecs import get_codec
from perdure.errors import UsageError
from perdure.system import ObjectState

_BUILTINS: dict[str, type] = {
    "dict": dict,
    "list": list,
    "set": set,
    "deque": collections.deque,
    "Counter": collections.Counter,
}
_MAIN = "__main__"

app_argument = click.argument("app", metavar="[app:Wiki]", required=False)


@dataclass
class App:
    """A class, and how it is opened."""

    cls: type
    codec: str
    renames: Mapping[str, str] = field(default_factory=dict)
    allow: Sequence[str] = ()
    secrets: Sequence[bytes] = ()

    def blank(self) -> ObjectState:
        """A state of the class with nothing in it."""
        codec = get_codec(
            self.codec,
            package=self.cls.__module__.partition(".")[0],
            allow=(*self.allow, perdure.clock.SystemClock, *(() if self.is_builtin else (self.cls,))),
            renames=self.renames,
        )
        return ObjectState(self.cls, codec, renames=self.renames)

    @property
    def is_builtin(self) -> bool:
        return self.cls in _BUILTINS.values()

    def open(self, directory: str, **options: Any) -> Any:
        """``perdure.open``, by default without a look at the methods: that is for whoever runs the system."""
        return perdure.open(
            self.cls,
            directory,
            codec=self.codec,
            allow=self.allow,
            renames=self.renames,
            secret=tuple(self.secrets) or None,
            **{"validate": "off", **options},
        )


def load_app(
    spec: str | None,
    description: Mapping[str, object],
    *,
    allow: Sequence[str] = (),
    renames: Mapping[str, str],
    secrets: Sequence[bytes] = (),
) -> App:
    """The class that ``spec`` names; without it that of a built-in type, as the data's own description tells.

    Imports the user's module, with the current directory on the path as ``python -m`` has it.

    Raises:
        UsageError: there is no such module or class, or the data holds something else than an object.
    """
    stored = str(description.get("class", ""))
    if description.get("kind", "system") != "system":
        raise UsageError(f"this holds a {description.get('kind')}, not an object with methods")
    if spec is None:
        name = stored.rpartition(".")[2]
        if name not in _BUILTINS or stored not in (f"builtins.{name}", f"collections.{name}"):
            raise UsageError(
                f"this holds a {stored or 'class of yours'}: say where it is",
                hint=f"module:Class, for example {_guess(stored)}",
            )
        spec = name
    cls = _BUILTINS[spec] if spec in _BUILTINS else _import_class(spec)
    if stored not in renames:
        _pose_as_script(cls, stored)
    return App(cls, str(description.get("codec", "pickle")), renames, tuple(allow), tuple(secrets))


def _guess(stored: str) -> str:
    module, _, name = stored.rpartition(".")
    return f"{'app' if module in ('', _MAIN) else module}:{name or 'Wiki'}"


def _import_class(spec: str) -> type:
    module_name, colon, name = spec.partition(":")
    if not colon or not name or not all(part.isidentifier() for part in module_name.split(".")):
        raise UsageError(f"{spec!r} does not name a class", hint="module:Class, for example app:Wiki")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(
            f"{module_name} cannot be imported: {error}", hint="run this in the directory that the module lies in"
        ) from error
    except Exception as error:
        # Importing runs the user's module, which may raise anything.
        raise UsageError(f"importing {module_name} raised {type(error).__name__}: {error}") from error
    cls = getattr(module, name, None)
    if not isinstance(cls, type):
        raise UsageError(f"{module_name} has no class {name}", hint="module:Class, for example app:Wiki")
    return cls


def _pose_as_script(cls: type, stored: str) -> None:
    """Data that a script wrote says ``__main__`` where an import says the script's name; digests hold the name, too.

    So the classes of the module take the name here that they have when the script runs. What is written goes on saying
    ``__main__``, or the script could not open it any more.
    """
    if stored != f"{_MAIN}.{cls.__qualname__}" or cls.__module__ in (_MAIN, "builtins", "collections"):
        return
    module = cls.__module__
    main = sys.modules[_MAIN]
    for name, item in list(vars(sys.modules[module]).items()):
        if isinstance(item, type) and item.__module__ == module:
            setattr(main, name, item)
            item.__module__ = _MAIN
