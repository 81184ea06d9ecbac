"""Recording a program from outside, by its system calls: the proof that the seam sees everything.

Needs ``strace``. Any program can be recorded, in any language; promises cannot, so this is for comparing with what
``RecordingFs`` noted, and for looking at foreign programs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

from perdure.testing.crashsim._events import Event

_CALLS = (
    "openat,open,creat,close,dup,dup2,dup3,fcntl,write,pwrite64,writev,pwritev,pwritev2,read,readv,lseek,fsync,fdatasync,"
    "sync_file_range,sync,syncfs,ftruncate,truncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,"
    "rmdir,link,linkat,symlink,symlinkat,mmap,copy_file_range,sendfile,splice,io_uring_setup"
)
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_LINE = re.compile(r"(\d+)\s+(.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>(.*)")
_CALL = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+|0x[0-9a-f]+|\?)", re.DOTALL)
_UNMODELLED = {
    "fallocate", "copy_file_range", "sendfile", "splice", "io_uring_setup", "sync_file_range", "sync", "syncfs",
    "symlink", "symlinkat",
}  # fmt: skip


def strace_is_there() -> bool:
    """Whether ``record_program`` can work here."""
    return shutil.which("strace") is not None


def record_program(command: Sequence[str], root: str, *, environment: dict[str, str] | None = None) -> list[Event]:
    """Runs a program and its children to the end, and returns what they did below ``root``.

    Raises:
        FileNotFoundError: there is no strace.
        RuntimeError: the program failed.
        NotImplementedError: it did something to a file that is not modelled.
    """
    with tempfile.TemporaryDirectory() as place:
        trace = os.path.join(place, "trace")
        options = ["-f", "-qq", "-xx", "-s", "100000000", "-o", trace, "-e", f"trace={_CALLS}", "-e", "signal=none"]
        finished = subprocess.run(
            ["strace", *options, *command], check=False, capture_output=True, text=True, env=environment
        )
        if finished.returncode != 0:
            raise RuntimeError(f"{command[0]} ended with {finished.returncode}:\n{finished.stderr}")
        with open(trace, encoding="ascii") as file:
            return _Parser(os.path.realpath(root)).parse(file.read().splitlines())


class _OpenFile:
    def __init__(self, path: str | None, *, appends: bool) -> None:
        self.path = path
        self.appends = appends
        self.offset = 0


class _Parser:
    """Follows descriptors, working directory and names through a trace. Threads share them; so must child processes."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._files: dict[int, _OpenFile] = {}
        self._known = {os.path.join(place, name) for place, _, names in os.walk(root) for name in names}
        self.events: list[Event] = []

    def parse(self, lines: Sequence[str]) -> list[Event]:
        unfinished: dict[str, str] = {}
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            process, text = match.groups()
            if text.endswith("<unfinished ...>"):
                unfinished[process] = text.removesuffix("<unfinished ...>")
                continue
            resumed = _RESUMED.match(text)
            if resumed is not None:
                text = unfinished.pop(process, "") + resumed[1]
            call = _CALL.match(text)
            if call is not None and call[3] != "?" and not call[3].startswith("-"):
                self._call(call[1], call[2], int(call[3], 0))
        return self.events

    # ---- paths ------------------------------------------------------------------------------------------------------

    def _path(self, raw: str, directory: str = "AT_FDCWD") -> str | None:
        """Relative to the root, or ``None`` where it is outside."""
        base = os.getcwd()
        if directory.strip().isdigit():
            file = self._files.get(int(directory))
            if file is None or file.path is None:
                return None
            base = os.path.join(self._root, file.path)
        whole = os.path.normpath(os.path.join(base, raw))
        if whole == self._root:
            return ""
        return whole[len(self._root) + 1 :] if whole.startswith(self._root + os.sep) else None

    def _whole(self, path: str) -> str:
        return os.path.join(self._root, path)

    # ---- calls ------------------------------------------------------------------------------------------------------

    def _call(self, name: str, text: str, result: int) -> None:
        strings = [bytes.fromhex(part.replace("\\x", "")) for part in _STRING.findall(text)]
        numbers = re.split(r",\s*", _STRING.sub("S", text))
        paths = [os.fsdecode(part) for part in strings]
        if name in ("openat", "open", "creat"):
            self._open(name, paths[0], numbers[0], text, result)
        elif name == "close":
            self._files.pop(int(numbers[0]), None)
        elif name.startswith("dup") or (name == "fcntl" and "F_DUPFD" in text):
            if (file := self._files.get(int(numbers[0]))) is not None:
                self._files[result] = file
        elif name in ("rename", "renameat", "renameat2", "link", "linkat"):
            at = name not in ("rename", "link")
            old = self._path(paths[0], numbers[0] if at else "AT_FDCWD")
            new = self._path(paths[1], numbers[2] if at else "AT_FDCWD")
            self._two_names(name, old, new)
        elif name in ("unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"):
            path = self._path(paths[0], numbers[0] if name.endswith("at") else "AT_FDCWD")
            if path is not None:
                self._one_name(name, path, text)
        elif name == "truncate":
            if (path := self._path(paths[0])) is not None:
                self.events.append(Event("truncate", path, size_bytes=int(numbers[1])))
        else:
            self._on_descriptor(name, text, numbers, b"".join(strings), result)

    def _open(self, name: str, raw: str, directory: str, text: str, fd: int) -> None:
        path = self._path(raw, directory if name == "openat" else "AT_FDCWD")
        self._files[fd] = _OpenFile(path, appends="O_APPEND" in text)
        if path is None:
            return
        if "O_TMPFILE" in text:
            raise NotImplementedError(f"not modelled: {text}")
        creates = name == "creat" or "O_CREAT" in text
        if creates and self._whole(path) not in self._known:
            self._known.add(self._whole(path))
            self.events.append(Event("create", path))
        elif name == "creat" or "O_TRUNC" in text:
            self.events.append(Event("truncate", path, size_bytes=0))

    def _two_names(self, name: str, old: str | None, new: str | None) -> None:
        if (old is None) != (new is None):
            raise NotImplementedError(f"{name} across the border of {self._root}")
        if old is None or new is None:
            return
        if name.startswith("link"):
            self._known.add(self._whole(new))
            self.events.append(Event("link", old, new))
            return
        before, after = self._whole(old), self._whole(new)
        self._forget(new)
        for file in self._files.values():
            if file.path == old:
                file.path = new
            elif file.path is not None and file.path.startswith(old + os.sep):
                file.path = new + file.path[len(old) :]
        moved = {path for path in self._known if path == before or path.startswith(before + os.sep)}
        self._known = (self._known - moved) | {after + path[len(before) :] for path in moved}
        self.events.append(Event("rename", old, new))

    def _one_name(self, name: str, path: str, text: str) -> None:
        if name.startswith("mkdir"):
            self.events.append(Event("mkdir", path))
        elif name == "rmdir" or "AT_REMOVEDIR" in text:
            self.events.append(Event("rmdir", path))
        else:
            self._known.discard(self._whole(path))
            self._forget(path)
            self.events.append(Event("unlink", path))

    def _forget(self, path: str) -> None:
        for file in self._files.values():
            if file.path == path:
                file.path = None

    def _on_descriptor(self, name: str, text: str, numbers: list[str], data: bytes, result: int) -> None:
        if name in _UNMODELLED:
            if self._touches(numbers):
                raise NotImplementedError(f"not modelled: {name}({text[:200]})")
            return
        if name == "mmap":
            file = self._files.get(int(numbers[4])) if numbers[4].isdigit() else None
            if "MAP_SHARED" in text and "PROT_WRITE" in text and file is not None and file.path is not None:
                raise NotImplementedError(f"not modelled: writing through a mapping of {file.path}")
            return
        file = self._files.get(int(numbers[0]))
        if file is None or file.path is None:
            return
        if name in ("write", "writev"):
            offset = None if file.appends else file.offset
            self.events.append(Event("write", file.path, offset=offset, data=data[:result]))
            file.offset += result
        elif name in ("pwrite64", "pwritev", "pwritev2"):
            # Linux appends whatever the offset says.
            offset = None if file.appends else int(numbers[-1 if name == "pwrite64" else 3])
            self.events.append(Event("write", file.path, offset=offset, data=data[:result]))
        elif name in ("read", "readv"):
            file.offset += result
        elif name == "lseek":
            file.offset = result
        elif name in ("fsync", "fdatasync"):
            is_directory = os.path.normpath(self._whole(file.path)) not in self._known
            self.events.append(Event("sync_names" if is_directory else "sync", file.path))
        elif name == "ftruncate":
            self.events.append(Event("truncate", file.path, size_bytes=int(numbers[1])))

    def _touches(self, numbers: list[str]) -> bool:
        """Whether one of a call's arguments is a descriptor of a file below the root."""
        found = [self._files.get(int(number)) for number in numbers if number.strip().isdigit()]
        return not numbers[0].strip() or any(file is not None and file.path is not None for file in found)
