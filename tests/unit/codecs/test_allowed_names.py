"""Which classes may be named in stored data, and what the message says when one may not."""

from __future__ import annotations

import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.codecs import Codec, Json, MsgPack, Pickle, get_codec
from perdure.errors import CodecError, UsageError
from tests.unit.codecs import wiki

HOME = wiki.Page("Home")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bytes]:
    """A stored ``shop.models.Item`` whose package can be imported and is not."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "models.py").write_text("class Item: pass\n")
    (tmp_path / "shop" / "surprise.py").write_text("raise SystemExit('imported because bytes said so')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield b"\x80\x05\x8c\x0bshop.models\x8c\x04Item\x93)\x81."
    for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
        del sys.modules[name]


@pytest.mark.parametrize("allow", [["tests"], [wiki.__name__], [f"{wiki.__name__}.Page"], [wiki.Page]], ids=str)
def test_allow_takes_a_package_a_module_a_class_by_name_and_a_class(allow: Any) -> None:
    codec = Pickle(allow=allow)
    assert codec.decode(codec.encode(HOME)) == HOME


def test_allowing_one_class_allows_no_other() -> None:
    codec = Pickle(allow=[wiki.Page])
    with pytest.raises(CodecError, match="Frozen is not allowed"):
        codec.encode(wiki.Frozen("x"))


def test_a_package_is_no_prefix_of_other_names() -> None:
    for codec in (Pickle(package="test"), Pickle(package="tests.unit.codecs.wik"), Pickle(allow=["test"])):
        with pytest.raises(CodecError, match="not allowed") as caught:
            codec.encode(HOME)
        assert "allow=" in str(caught.value.hint)


def test_a_class_of_main_is_allowed_for_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("__main__")
    exec("class Job: pass", vars(module))
    monkeypatch.setitem(sys.modules, "__main__", module)
    codec = Pickle(package="__main__")
    assert type(codec.decode(codec.encode(module.Job()))) is module.Job


def test_bytes_import_nothing(shop: bytes) -> None:
    for codec in (Pickle(package="shop"), Pickle(allow=["shop"])):
        with pytest.raises(CodecError, match="not imported") as caught:
            codec.decode(shop)
        assert "import shop.models before opening" in str(caught.value.hint)
    assert "shop.models" not in sys.modules


@pytest.mark.parametrize("name", ["shop.models", "shop.models.Item"])
def test_a_module_that_allow_names_is_imported(shop: bytes, name: str) -> None:
    assert type(Pickle(allow=[name]).decode(shop)).__name__ == "Item"
    assert "shop.surprise" not in sys.modules


def test_a_module_that_is_gone_says_how_to_rename(shop: bytes) -> None:
    data = shop.replace(b"shop.models", b"shop.oldies")
    with pytest.raises(CodecError, match="cannot be imported") as caught:
        Pickle(allow=["shop.oldies"]).decode(data)
    assert 'renames={"shop.oldies.Item": "new.module.Class"}' in str(caught.value.hint)


def test_a_class_that_is_gone_says_how_to_rename() -> None:
    data = Pickle(package="tests").encode(HOME).replace(b"\x04Page", b"\x04Leaf")
    with pytest.raises(CodecError, match="Leaf does not exist any more") as caught:
        Pickle(package="tests").decode(data)
    assert f'renames={{"{wiki.__name__}.Leaf": "new.module.Class"}}' in str(caught.value.hint)
    renames = {f"{wiki.__name__}.Leaf": f"{wiki.__name__}.Page"}
    assert Pickle(package="tests", renames=renames).decode(data) == HOME


def test_a_rename_leads_only_to_what_is_allowed() -> None:
    data = Pickle(package="tests").encode(HOME)
    codec = Pickle(renames={f"{wiki.__name__}.Page": "subprocess.Popen"})
    with pytest.raises(CodecError, match=r"subprocess\.Popen is not allowed"):
        codec.decode(data)


def test_a_renamed_module_is_imported(shop: bytes) -> None:
    data = shop.replace(b"shop.models", b"shop.oldies")
    codec = Pickle(package="shop", renames={"shop.oldies.Item": "shop.models.Item"})
    assert type(codec.decode(data)).__module__ == "shop.models"


def test_paths_of_other_python_versions_are_read() -> None:
    for module in ("pathlib", "pathlib._local"):
        data = b"\x80\x05\x8c" + bytes([len(module)]) + module.encode() + b"\x8c\x0dPurePosixPath\x93\x8c\x01a\x85R."
        assert str(Pickle().decode(data)) == "a"


def test_enum_members_by_name_are_read() -> None:
    data = b"\x80\x05\x8c\x08builtins\x8c\x07getattr\x93" + b"\x8c" + bytes([len(wiki.__name__)])
    data += wiki.__name__.encode() + b"\x8c\x05Color\x93\x8c\x03RED\x86R."
    assert Pickle(package="tests").decode(data) is wiki.Color.RED


@pytest.mark.parametrize(
    "wrong",
    [
        {"allow": "wiki"}, {"allow": ["not a name"]}, {"allow": ["builtins"]}, {"allow": [wiki.Page.Nested]},
        {"allow": [3]}, {"renames": {"Page": "wiki.Page"}}, {"renames": {"wiki.Page": ""}},
        {"unrestricted": True, "allow": ["wiki"]},
    ],
    ids=str,
)  # fmt: skip
def test_arguments_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Pickle(**wrong)


def test_a_codec_has_a_name_or_is_given() -> None:
    assert isinstance(get_codec("pickle"), Pickle)
    assert isinstance(get_codec("json", package="wiki", allow=["shop"]), Json)
    assert isinstance(get_codec("msgpack"), MsgPack)
    own = Json()
    assert get_codec(own) is own
    assert get_codec("pickle", package="tests").decode(Pickle(package="tests").encode(HOME)) == HOME
    assert get_codec("pickle", allow=[wiki.Page]).encode(HOME)
    renamed = get_codec("pickle", package="tests", renames={"old.Page": f"{wiki.__name__}.Page"})
    assert type(renamed.decode(b"\x80\x05\x8c\x03old\x8c\x04Page\x93)\x81.")) is wiki.Page


@pytest.mark.parametrize("wrong", ["yaml", "", None, 3, Json, pickle], ids=str)
def test_what_is_no_codec_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="no codec"):
        get_codec(wrong)


def test_all_codecs_answer_to_the_protocol() -> None:
    for codec in (Pickle(), Json(), MsgPack()):
        assert isinstance(codec, Codec)
