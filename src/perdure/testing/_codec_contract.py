"""What every codec must do, as tests that run on any codec."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perdure.codecs import Codec
from perdure.errors import CodecError

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
PLAIN_VALUES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=5)
    ),
    max_leaves=25,
)
"""What every codec takes, and gives back as it was: None, bool, int of 64 bits, finite float, str, list, dict."""

_settings = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors])


class _NobodyKnowsThis:
    pass


class CodecContract:
    """The contract of ``perdure.codecs.Codec``. Subclass it, with a fixture ``codec``::

    class TestMyCodec(CodecContract):
        @pytest.fixture
        def codec(self):
            return MyCodec()
    """

    @pytest.fixture
    def codec(self) -> Codec:
        """The codec to test."""
        raise NotImplementedError("a subclass of CodecContract has a fixture named codec")

    def test_it_has_a_name(self, codec: Codec) -> None:
        assert isinstance(codec.name, str)
        assert codec.name
        assert isinstance(codec, Codec)

    @given(value=PLAIN_VALUES)
    @_settings
    def test_plain_values_come_back_with_their_types(self, codec: Codec, value: object) -> None:
        assert _exact(codec.decode(codec.encode(value))) == _exact(value)

    @given(value=PLAIN_VALUES)
    @_settings
    def test_dump_and_load_agree_with_encode_and_decode(self, codec: Codec, value: object) -> None:
        file = io.BytesIO()
        codec.dump(value, file)
        file.seek(0)
        assert _exact(codec.load(file)) == _exact(value)

    def test_a_memoryview_is_decoded_as_bytes_are(self, codec: Codec) -> None:
        data = codec.encode({"a": [1, 2, 3]})
        assert codec.decode(memoryview(b"-" + data + b"-")[1:-1]) == {"a": [1, 2, 3]}

    def test_the_decoded_value_shares_nothing_with_the_encoded_one(self, codec: Codec) -> None:
        value = {"tags": ["a"]}
        data = codec.encode(value)
        value["tags"].append("b")
        assert codec.decode(data) == {"tags": ["a"]}
        assert codec.decode(data) is not codec.decode(data)

    def test_each_encoding_stands_alone(self, codec: Codec) -> None:
        shared = ["x"]
        first, second = codec.encode([shared]), codec.encode([shared])
        assert first == second
        assert codec.decode(second) == [["x"]]

    @given(data=st.binary(max_size=200))
    @_settings
    def test_arbitrary_bytes_raise_nothing_but_codec_errors(self, codec: Codec, data: bytes) -> None:
        _decode_or_codec_error(codec, data)

    @given(value=PLAIN_VALUES, position=st.integers(0, 10_000), byte=st.integers(0, 255))
    @_settings
    def test_a_changed_byte_raises_nothing_but_codec_errors(
        self, codec: Codec, value: object, position: int, byte: int
    ) -> None:
        data = bytearray(codec.encode(value))
        data[position % len(data)] = byte
        _decode_or_codec_error(codec, bytes(data))

    def test_truncated_bytes_are_refused(self, codec: Codec) -> None:
        data = codec.encode({"name": "Home", "tags": ["a", "b"], "count": 3})
        for length in range(len(data)):
            with pytest.raises(CodecError):
                codec.decode(data[:length])

    def test_bytes_after_the_value_are_refused(self, codec: Codec) -> None:
        data = codec.encode([1, 2])
        for tail in (b"x", b"\0", data):
            with pytest.raises(CodecError):
                codec.decode(data + tail)

    def test_a_function_is_refused_when_writing(self, codec: Codec) -> None:
        for function in (len, lambda: None, _exact):
            with pytest.raises(CodecError):
                codec.encode({"callback": [function]})

    def test_an_unknown_class_is_refused_when_writing_and_named(self, codec: Codec) -> None:
        with pytest.raises(CodecError, match="_NobodyKnowsThis") as caught:
            codec.encode({"pages": [1, _NobodyKnowsThis()]})
        assert caught.value.hint

    def test_deep_nesting_is_refused_when_writing(self, codec: Codec) -> None:
        value: list[Any] = []
        for _ in range(5_000):
            value = [value]
        with pytest.raises(CodecError):
            codec.encode(value)

    def test_nesting_within_the_bound_comes_back(self, codec: Codec) -> None:
        value: list[Any] = []
        for _ in range(300):
            value = [value]
        assert codec.decode(codec.encode(value)) == value

    def test_what_the_file_raises_passes_unchanged(self, codec: Codec) -> None:
        with pytest.raises(BrokenPipeError):
            codec.dump(["x" * 100], _BrokenFile())
        with pytest.raises(BrokenPipeError):
            codec.load(_BrokenFile())


class _BrokenFile:
    def read(self, _size: int, /) -> bytes:
        raise BrokenPipeError("broken")

    def readline(self) -> bytes:
        raise BrokenPipeError("broken")

    def readinto(self, _buffer: object, /) -> int:
        raise BrokenPipeError("broken")

    def write(self, _data: bytes, /) -> int:
        raise BrokenPipeError("broken")


def _decode_or_codec_error(codec: Codec, data: bytes) -> None:
    try:
        codec.decode(data)
    except CodecError:
        return


def _exact(value: Any) -> Any:
    """With types, and the sign of zero, which ``==`` does not see."""
    if isinstance(value, list):
        return list, [_exact(item) for item in value]
    if isinstance(value, dict):
        return dict, [(key, _exact(item)) for key, item in value.items()]
    return type(value), value, math.copysign(1, value) if isinstance(value, float) else None
