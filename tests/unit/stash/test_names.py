"""Names of items as names of files."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.fs import is_own_temporary
from perdure.stash import _names

any_text = st.text(st.characters()) | st.sampled_from(
    [".", "..", "", "%41", "%~", "a.tmp-0123456789abcdef", "A", "a", "é", "e\u0301", "\ud800", "x" * 300, "X" * 300]
)


@given(any_text)
def test_a_form_is_a_harmless_file_name(name: str) -> None:
    form = _names.encode(name, 200)
    assert 0 < len(form) <= 200
    assert form.isascii()
    assert form == form.lower()
    assert form not in (".", "..")
    assert not form.startswith(".")
    assert not form.endswith(".")
    assert not set(form) & set('/\\\0:*?"<>| \n')
    assert not is_own_temporary(form)
    assert not is_own_temporary(form + ".dat")


@given(any_text)
def test_a_name_is_read_from_its_form(name: str) -> None:
    form = _names.encode(name, 200)
    if _names.is_hashed(form):
        assert len(name.encode("utf-8", "surrogatepass")) > 60
    else:
        assert _names.decode(form, 200) == name


@given(any_text, any_text)
def test_no_two_names_share_a_form(one: str, two: str) -> None:
    if one != two:
        forms = [_names.encode(name, 120) for name in (one, two)]
        assert forms[0] != forms[1]
        assert unicodedata.normalize("NFC", forms[0]).casefold() != unicodedata.normalize("NFC", forms[1]).casefold()


@given(st.text(st.characters(max_codepoint=0x17F), max_size=20))
def test_what_is_no_form_has_no_name(text: str) -> None:
    name = _names.decode(text, 200)
    assert name is None or _names.encode(name, 200) == text


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("report-2024_v1.2", "report-2024_v1.2"),
        ("Report", "%52eport"),
        ("a/b", "a%2fb"),
        ("../x", "%2e.%2fx"),
        ("", "%~"),
        ("50%", "50%25"),
        ("é", "%c3%a9"),
        ("end.", "end%2e"),
    ],
)
def test_forms_are_those_of_the_format(name: str, form: str) -> None:
    assert _names.encode(name, 200) == form
    assert _names.decode(form, 200) == name


def test_a_long_name_is_its_beginning_and_a_hash() -> None:
    form = _names.encode("chapter one " * 100, 200)
    assert form.startswith("chapter%20one%20chapter")
    assert _names.is_hashed(form)
    assert form != _names.encode("chapter one " * 101, 200)
