from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.containers.detach import DetachScanner, parse_detach_keys
from buildtool.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", bytes([0, 27, 28, 29, 30, 31])),
    ],
)
def test_keys_are_parsed(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-1", "ab", "ctrl-", ",", "ctrl-p,,x"])
def test_unknown_keys_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid detach keys"):
        parse_detach_keys(text)


def test_the_sequence_detaches_across_chunks_and_is_not_passed_on() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"ls\x10") == (b"ls", False)
    assert scanner.feed(b"\x11rest") == (b"", True)


def test_a_broken_start_is_passed_on() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"\x10") == (b"", False)
    assert scanner.feed(b"a") == (b"\x10a", False)


def test_a_repeated_first_key_can_still_start_the_sequence() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"\x10\x10\x11") == (b"\x10", True)


def test_overlapping_starts_are_found() -> None:
    assert DetachScanner(b"aab").feed(b"aaab") == (b"a", True)


def test_the_end_of_input_gives_back_what_was_held() -> None:
    scanner = DetachScanner(b"\x10\x11")
    scanner.feed(b"x\x10")
    assert scanner.flush() == b"\x10"
    assert scanner.flush() == b""


@given(st.lists(st.binary(max_size=6)), st.sampled_from([b"\x10\x11", b"a", b"aab", b"abab"]))
def test_everything_before_the_sequence_is_passed_on_in_any_chunks(chunks: list[bytes], keys: bytes) -> None:
    """passed bytes = the input up to the first occurrence of the sequence (all of it when there is none)"""
    scanner, passed, detached = DetachScanner(keys), b"", False
    for chunk in chunks:
        out, detached = scanner.feed(chunk)
        passed += out
        if detached:
            break
    whole = b"".join(chunks)
    at = whole.find(keys)
    assert detached == (at >= 0)
    assert passed + (b"" if detached else scanner.flush()) == (whole[:at] if at >= 0 else whole)
