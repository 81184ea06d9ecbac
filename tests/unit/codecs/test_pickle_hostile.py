"""What the restricted pickle refuses, and that nothing of it runs."""

from __future__ import annotations

import copyreg
import datetime
import io
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from perdure.codecs import Pickle
from perdure.errors import CodecError
from tests.ids import id_of
from tests.unit.codecs import wiki

HEAD = b"\x80\x05"
WIKI = wiki.__name__


def text(value: str) -> bytes:
    data = value.encode()
    return b"\x8c" + bytes([len(data)]) + data


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


def called(module: str, name: str, *arguments: str) -> bytes:
    return HEAD + named(module, name) + b"(" + b"".join(map(text, arguments)) + b"tR."


def framed(body: bytes) -> bytes:
    return HEAD + b"\x95" + struct.pack("<Q", len(body)) + body


class Runs:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


def attacks(canary: str) -> dict[str, bytes]:
    touch = f"open({canary!r}, 'w').close()"
    return {
        "os.system": pickle.dumps(Runs(os.system, f"touch {canary}"), 5),
        "os.system by the name it has in posix": called("os", "system", f"touch {canary}"),
        "os.mkdir": pickle.dumps(Runs(os.mkdir, canary), 5),
        "eval": called("builtins", "eval", touch),
        "exec": called("builtins", "exec", touch),
        "open": called("builtins", "open", canary, "w"),
        "io.open": called("io", "open", canary, "w"),
        "io.FileIO, a class": called("io", "FileIO", canary, "w"),
        "subprocess.Popen, a class": called("subprocess", "Popen", "touch", canary),
        "__import__": called("builtins", "__import__", "os"),
        "getattr of an allowed class": HEAD
        + named("builtins", "getattr") + named("datetime", "datetime") + text("__init__") + b"\x86R.",
        "getattr of a module's dict": HEAD
        + named("builtins", "getattr") + named("collections", "OrderedDict") + text("__globals__") + b"\x86R.",
        "getattr of a metaclass": HEAD
        + named("builtins", "getattr") + named(WIKI, "Color") + text("__class__") + b"\x86R.",
        "getattr of a method of an own class": HEAD
        + named("builtins", "getattr") + named(WIKI, "Page") + text("__init__") + b"\x86R.",
        "setattr": called("builtins", "setattr", "a", "b", "c"),
        "type, which makes classes": called("builtins", "type", "a"),
        "globals": called("builtins", "globals"),
        "map over a function": HEAD + named("builtins", "map") + named("os", "mkdir") + text(canary) + b"\x85\x86R.",
        "dotted name": called("codecs", "builtins.open", canary, "w"),
        "dotted name below an allowed class": HEAD + named("datetime", "datetime.__class__") + b".",
        "dotted name through an allowed module": HEAD + named("datetime", "sys.modules") + b".",
        "dotted name of a nested class": HEAD + named(WIKI, "Page.Nested") + b".",
        "dotted module": HEAD + named("os.path", "os") + b".",
        "collections.__builtins__": HEAD + named("collections", "__builtins__") + b".",
        "collections.abc": HEAD + named("collections", "abc") + b".",
        "operator.attrgetter": called("operator", "attrgetter", "__class__"),
        "operator.methodcaller": called("operator", "methodcaller", "system", "x"),
        "functools.partial": HEAD + named("functools", "partial") + named("os", "mkdir") + text(canary) + b"\x86R.",
        "functools.reduce": HEAD + named("functools", "reduce") + b".",
        "types.FunctionType": HEAD + named("types", "FunctionType") + b".",
        "types.CodeType": HEAD + named("types", "CodeType") + b".",
        "weakref.finalize": HEAD + named("weakref", "finalize") + b".",
        "importlib.import_module": called("importlib", "import_module", "antigravity"),
        "runpy.run_path": called("runpy", "run_path", canary),
        "ctypes.CDLL": called("ctypes", "CDLL", canary),
        "copyreg._reconstructor": pickle.dumps(Runs(copyreg._reconstructor, Runs, object, None), 5),
        "copyreg.add_extension": called("copyreg", "add_extension", "os", "system"),
        "pickle.loads": HEAD + named("pickle", "loads") + b"C\x01.\x85R.",
        "logging.FileHandler": called("logging", "FileHandler", canary),
        "tempfile.NamedTemporaryFile": called("tempfile", "NamedTemporaryFile"),
        "a zone outside its folder": called("zoneinfo", "ZoneInfo", "../../../etc/passwd"),
        "an own function": called(WIKI, "delete_everything"),
        "an own constant": HEAD + named(WIKI, "constant") + b".",
        "a function imported into the own module": called(WIKI, "system", f"touch {canary}"),
        "a class imported into the own module": called(WIKI, "Popen", "touch", canary),
        "a module imported into the own module": HEAD + named(WIKI, "enum") + b".",
        "a name only the own module's __getattr__ knows": HEAD + named(WIKI, "ghost") + b".",
        "a name that is no text": HEAD + b"K\x01" + text("a") + b"\x93.",
        "a module that is no text": HEAD + text("a") + b"N\x93.",
        "an own module that is not imported": HEAD + named("tests.unit.codecs.not_imported_yet", "Page") + b".",
        "text opcode GLOBAL": b"\x80\x02cos\nsystem\n(X\x01\x00\x00\x00xtR.",
        "text opcode GLOBAL in protocol 5": HEAD + b"cos\nsystem\n.",
        "protocol 0": b"cos\nsystem\n(S'true'\ntR.",
        "no protocol": b"N.",
        "protocol 6": b"\x80\x06N.",
        "protocol inside": HEAD + b"\x80\x05N.",
        "INST": HEAD + b"(ios\nsystem\n.",
        "OBJ": HEAD + b"(" + named("os", "system") + b"o.",
        "extension 1": HEAD + b"\x82\x01.",
        "extension 2": HEAD + b"\x83\x01\x00.",
        "extension 4": HEAD + b"\x84\x01\x00\x00\x00.",
        "persistent id": HEAD + text("x") + b"Q.",
        "persistent id in text": HEAD + b"Px\n.",
        "buffer out of band": HEAD + b"\x97.",
        "read-only buffer": HEAD + b"N\x98.",
        "DUP": HEAD + b"N2.",
        "PUT": HEAD + b"Np0\n.",
        "BINPUT": HEAD + b"Nq\x00.",
        "memo bomb": HEAD + b"Nr\xff\xff\xff\x7f.",
        "memo index that is not there": HEAD + b"j\xff\xff\xff\x7f.",
        "STRING": HEAD + b"S'a'\n.",
        "LONG of many digits": HEAD + b"L" + b"9" * 100_000 + b"L\n.",
        "INT of many digits": HEAD + b"I" + b"9" * 100_000 + b"\n.",
        "negative LONG4": HEAD + b"\x8b\xff\xff\xff\xff.",
        "huge LONG4": HEAD + b"\x8b\xff\xff\xff\x7f.",
        "huge BINUNICODE": HEAD + b"X\xff\xff\xff\x7f.",
        "huge BINUNICODE8": HEAD + b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "huge BINBYTES": HEAD + b"B\xff\xff\xff\xff.",
        "huge BINBYTES8": HEAD + b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "huge BYTEARRAY8": HEAD + b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        "BYTEARRAY8 of 64 GiB": HEAD + b"\x96\x00\x00\x00\x00\x10\x00\x00\x00.",
        "huge FRAME": HEAD + b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        "invalid UTF-8": HEAD + b"\x8c\x01\xff.",
        "nothing": b"",
        "only a head": HEAD,
        "no STOP": HEAD + b"N",
        "empty stack": HEAD + b".",
        "bare MARK": HEAD + b"(.",
        "a list as a key": HEAD + b"}]Ns.",
        "append to nothing": HEAD + b"Na.",
        "call of text": HEAD + text("a") + b")R.",
        "instance of no class": HEAD + text("a") + b")\x81.",
        "200,000 nested lists": HEAD + b"]" * 200_000 + b"a" * 199_999 + b".",
        "200,000 nested tuples": HEAD + b")" + b"\x85" * 200_000 + b".",
        "200,000 nested tuples as a key": HEAD + b"})" + b"\x85" * 200_000 + b"Ns.",
        "200,000 nested tuples as a key, by marks": HEAD + b"}" + b"(" * 200_000 + b"t" * 200_000 + b"Ns.",
        "200,000 nested tuples by way of the memo": HEAD
        + b"})\x940" + b"".join(b"j" + struct.pack("<I", number) + b"\x85\x940" for number in range(200_000))
        + b"j" + struct.pack("<I", 200_000) + b"Ns.",
        "nested named tuples as a key": HEAD
        + named(WIKI, "Point") + b"\x940})" + b"h\x00N\x85" * 1 + (b"\x85") * 100_000 + b"Ns.",
        "nested slices": HEAD + named("builtins", "slice") + b"\x940N" + b"h\x00" * 0 + b"\x85" * 100_000 + b".",
        "a class attribute, by slots": HEAD
        + named(WIKI, "Page") + b"N}" + text("kind") + text("defaced") + b"s\x86b.",
        "a class attribute, by slots from the memo": HEAD
        + b"N}" + text("kind") + text("defaced") + b"s\x86\x940" + named(WIKI, "Page") + b"h\x00b.",
        "a class attribute, after SETITEMS of nothing": HEAD
        + named(WIKI, "Page") + b"N}" + text("kind") + text("defaced") + b"s\x86(ub.",
        "a class attribute, after SETITEMS of nothing behind a frame": HEAD
        + named(WIKI, "Page") + b"N}" + text("kind") + text("defaced") + b"s\x86(\x95" + struct.pack("<Q", 3) + b"ub.",
        "a class attribute, after SETITEMS of what was popped": HEAD
        + named(WIKI, "Page") + b"N}" + text("kind") + text("defaced") + b"s\x86(N0ub.",
        "a class attribute, by its dict": HEAD + named(WIKI, "Page") + b"}" + text("kind") + text("defaced") + b"sb.",
        "a class attribute of the standard library": HEAD
        + named("fractions", "Fraction") + b"N}" + text("kind") + text("defaced") + b"s\x86b.",
        "an attribute of a vetted function": HEAD
        + named("re", "_compile") + b"N}" + text("kind") + text("defaced") + b"s\x86b.",
    }  # fmt: skip


# The frame ends inside a text. Reading from a file, the unpickler drops the two bytes that are left of the frame and
# takes the text from behind: from there on it is two bytes ahead of who did not, and runs what should be bytes.
_MEMO_BOMB = b"Nr\xff\xff\xff\x7f."
_CROSSING = b"\x95" + struct.pack("<Q", 4) + b"\x8c\x14xx" + b"A" * 18 + b"C\x07" + _MEMO_BOMB + b"."


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "canary"
    before = dict(vars(wiki.Page))
    yield path
    assert not path.exists()
    assert dict(vars(wiki.Page)) == before
    assert not hasattr(sys.modules["fractions"].Fraction, "kind")
    assert "antigravity" not in sys.modules
    assert "tests.unit.codecs.not_imported_yet" not in sys.modules


BY_THEIR_HEAD = {"protocol 6"}  # Without it, an ordinary pickle.


@pytest.mark.parametrize("name", attacks("canary"))
def test_attack_is_refused_and_nothing_runs(name: str, canary: Path) -> None:
    data = attacks(str(canary))[name]
    for codec in (Pickle(), Pickle(package="tests")):
        with pytest.raises(CodecError):
            codec.decode(data)
        with pytest.raises(CodecError):
            codec.decode(memoryview(data))


@pytest.mark.parametrize("name", sorted(set(attacks("canary")) - BY_THEIR_HEAD))
def test_attack_inside_a_long_frame_is_refused_and_nothing_runs(name: str, canary: Path) -> None:
    data = attacks(str(canary))[name]
    padding = b"".join(text(f"padding {number}") + b"\x940" for number in range(200))
    with pytest.raises(CodecError):
        Pickle(package="tests").decode(framed(padding + data[2:]))


# In a stream lists and dicts may be nested as deeply as they like; nothing in C recurses through them.
SAFE_IN_STREAMS = {"200,000 nested lists"}


@pytest.mark.parametrize("name", sorted(set(attacks("canary")) - SAFE_IN_STREAMS))
@pytest.mark.parametrize("can_seek", [True, False])
def test_attack_in_a_stream_is_refused_and_nothing_runs(name: str, can_seek: bool, canary: Path) -> None:
    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return can_seek

    data = attacks(str(canary))[name]
    with pytest.raises(CodecError):
        Pickle(package="tests").load(Stream(data))
    if name in BY_THEIR_HEAD:
        return
    with pytest.raises(CodecError):
        Pickle(package="tests").load(Stream(framed(data[2:])))


def test_deeply_nested_lists_in_a_stream_do_no_harm() -> None:
    try:
        value = Pickle().load(io.BytesIO(attacks("canary")["200,000 nested lists"]))
    except CodecError:
        return
    assert isinstance(value, list)


def test_a_frame_that_ends_inside_an_item_is_refused() -> None:
    padding = b"".join(text(f"padding {number}") + b"\x940" for number in range(200))
    for before in (named("datetime", "date"), padding + named("datetime", "date")):
        for read in (Pickle().decode, lambda data: Pickle().load(io.BytesIO(data))):
            with pytest.raises(CodecError) as caught:
                read(HEAD + before + _CROSSING)
            assert caught.value.__cause__ is None, "the unpickler saw it"
    with pytest.raises(CodecError) as caught:
        Pickle().decode(HEAD + _CROSSING[:-1] + b"0" + named("datetime", "date") + b".")
    assert caught.value.__cause__ is None


def test_frames_within_frames_are_refused() -> None:
    for inner in (2, 3, 4):
        data = framed(named("datetime", "date") + b"0\x95" + struct.pack("<Q", inner) + b"NNN00.")
        with pytest.raises(CodecError):
            Pickle().decode(data)
        with pytest.raises(CodecError):
            Pickle().load(io.BytesIO(data))


def test_an_extension_code_registered_in_this_process_is_refused_in_both_directions() -> None:
    copyreg.add_extension("datetime", "date", 240)  # type: ignore[arg-type]
    try:
        with pytest.raises(CodecError, match="0x82"):
            Pickle().encode([datetime.date(2024, 1, 1)])
        with pytest.raises(CodecError, match="0x82"):
            Pickle().decode(HEAD + b"\x82\xf0.")
    finally:
        copyreg.remove_extension("datetime", "date", 240)  # type: ignore[arg-type]


def test_bytes_of_a_persistent_id_are_no_matter_inside_text() -> None:
    assert Pickle().decode(Pickle().encode("Q.Pr\x82")) == "Q.Pr\x82"


@given(st.binary(max_size=300))
@example(b"")
def test_arbitrary_opcodes_raise_nothing_but_codec_errors(body: bytes) -> None:
    for data in (body, HEAD + body, HEAD + body + b".", framed(body + b".")):
        _harmless(data)


_OPCODES = sorted({ord(opcode.code) for opcode in pickletools.opcodes})


@given(st.lists(st.sampled_from(_OPCODES) | st.integers(0, 40), max_size=80))
def test_arbitrary_sequences_of_real_opcodes_raise_nothing_but_codec_errors(opcodes: list[int]) -> None:
    _harmless(HEAD + bytes(opcodes) + b".")


_PIECES = st.sampled_from(
    [
        b"N", b")", b"]", b"}", b"\x8f", b"(", b"t", b"\x85", b"\x86", b"\x87", b"a", b"e", b"s", b"u",
        b"\x90", b"\x91",
        b"\x94", b"h\x00", b"h\x01", b"h\x05", b"K\x07", text("kind"), text("a"), b"b", b"R", b"\x81",
        b"\x92", b"0", b"1",
        named(WIKI, "Page"), named(WIKI, "Point"), named("datetime", "date"), named("collections", "OrderedDict"),
        named("collections", "deque"), named("types", "SimpleNamespace"), b"N}" + text("kind") + b"Ns\x86",
        b"X\x01\x00\x00\x00a", b"\x95\x02\x00\x00\x00\x00\x00\x00\x00",
    ]
)  # fmt: skip


@given(st.lists(_PIECES, max_size=60))
def test_arbitrary_programs_change_no_class_and_raise_nothing_but_codec_errors(pieces: list[bytes]) -> None:
    before = dict(vars(wiki.Page)), dict(vars(wiki.Point))
    body = b"".join(pieces) + b"."
    _harmless(HEAD + body)
    _harmless(framed(b"N0" * 300 + body))
    assert (dict(vars(wiki.Page)), dict(vars(wiki.Point))) == before


def _harmless(data: bytes) -> None:
    codec = Pickle(package="tests")
    for read in (codec.decode, lambda data: codec.load(io.BytesIO(data))):
        try:
            read(data)
        except CodecError:
            pass


def test_hostile_sizes_allocate_nothing(tmp_path: Path) -> None:
    # In a child with little address space, where allocating what the bytes claim fails for certain.
    script = textwrap.dedent(
        """
        import io, resource, sys
        from perdure.codecs import Pickle
        from perdure.errors import CodecError
        from tests.unit.codecs.test_pickle_hostile import attacks
        codec = Pickle()
        hostile = attacks("canary")
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        for name, data in hostile.items():
            if "huge" in name or "bomb" in name or "GiB" in name:
                for read in (codec.decode, lambda data: codec.load(io.BytesIO(data))):
                    try:
                        read(data)
                    except CodecError as error:
                        assert "MemoryError" not in str(error), (name, error)
                    else:
                        raise AssertionError(name)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


# --- when writing ---


@pytest.mark.parametrize(
    "value",
    [len, print, getattr, os.system, os, lambda: None, wiki.delete_everything, wiki.Page("x").__init__, [].append, type,
     type(None), wiki.Popen, wiki.Page.Nested, wiki.Page.Nested(), Runs(os.getpid), iter([1]),
     enumerate([]), object().__str__,
     (x for x in "a"), memoryview(b"a"), io.StringIO(), wiki.NeedsTwoError("a", "b"), {}.keys()],
    ids=id_of,
)  # fmt: skip
def test_what_could_not_be_loaded_is_refused_when_writing(value: object) -> None:
    codec = Pickle(package="tests")
    with pytest.raises(CodecError) as caught:
        codec.encode({"pages": [1, value]})
    assert "value['pages'][1]" in str(caught.value)


@pytest.mark.parametrize(
    "value", [len, os.system, lambda: None, wiki.delete_everything, type, wiki.Popen, Runs(os.getpid)], ids=id_of
)
def test_functions_and_foreign_classes_are_refused_while_streaming(value: object) -> None:
    with pytest.raises(CodecError):
        Pickle(package="tests").dump({"pages": [1, value]}, io.BytesIO())


def test_a_local_class_is_refused() -> None:
    class Local:
        pass

    with pytest.raises(CodecError, match="Local"):
        Pickle(package="tests").encode(Local())


def test_an_error_of_a_value_is_a_codec_error_and_an_interrupt_is_not() -> None:
    class Raises:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __reduce__(self) -> str:
            raise self.error

    with pytest.raises(CodecError, match="no luck"):
        Pickle().encode(Raises(OSError("no luck")))
    with pytest.raises(KeyboardInterrupt):
        Pickle().encode(Raises(KeyboardInterrupt()))


# --- unrestricted ---


def test_unrestricted_takes_everything_by_explicit_word() -> None:
    codec = Pickle(unrestricted=True)
    assert codec.decode(codec.encode({"f": len})) == {"f": len}
    file = io.BytesIO()
    codec.dump([len], file)
    file.seek(0)
    assert codec.load(file) == [len]
    for data in (b"", b"garbage", HEAD + b"h\x00."):
        with pytest.raises(CodecError):
            codec.decode(data)
    with pytest.raises(CodecError):
        codec.encode(lambda: None)
