"""The client's JSON is the standard module's."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.client.quickjson import dumps, loads, raw_decode

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_values_are_written_as_the_standard_module_writes_them(value: object) -> None:
    text = dumps(value)
    assert text == json.dumps(value)
    assert loads(text) == value
    assert loads(text.encode()) == value


@given(values, st.text(alphabet=" \t\r\n"), st.text(max_size=5))
def test_a_value_is_found_with_its_end(value: object, space: str, rest: str) -> None:
    text = json.dumps([value])
    assert loads(f"{space}{text}{space}") == [value]
    assert raw_decode(text + rest) == ([value], len(text))


@given(st.text())
def test_what_the_standard_module_refuses_is_refused(text: str) -> None:
    try:
        wanted = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            loads(text)
    else:
        assert loads(text) == wanted or wanted != wanted


def test_what_json_cannot_say_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="set"):
        dumps({1})


def test_neither_the_standard_module_nor_what_it_imports_is_loaded() -> None:
    code = "import sys; before = set(sys.modules); import buildtool.client.http; print(set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'buildtool.client.quickjson'" in done.stdout
    assert [name for name in ("json", "re", "enum", "socket") if f"'{name}'" in done.stdout] == []
