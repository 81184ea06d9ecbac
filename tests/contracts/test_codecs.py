"""The codec contract, run on every codec that perdure ships."""

from __future__ import annotations

import pytest

from perdure.codecs import Codec, Json, MsgPack, Pickle
from perdure.testing._codec_contract import CodecContract


class TestPickle(CodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return Pickle()


class TestPickleOfAPackage(CodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return Pickle(package="wiki", allow=["shop.models"], renames={"old.Page": "wiki.Page"})


class TestJson(CodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return Json()


class TestMsgPack(CodecContract):
    @pytest.fixture
    def codec(self) -> Codec:
        return MsgPack()
