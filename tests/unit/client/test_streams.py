"""Docker's frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.client import Demultiplexer
from buildtool.errors import Corrupt


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40))), st.integers(1, 30))
def test_payloads_survive_any_cutting(frames: list[tuple[int, bytes]], piece: int) -> None:
    """For all sequences of frames and all ways to cut them, the payloads of each stream come out whole, in order."""
    data = b"".join(frame(*item) for item in frames)
    demultiplexer = Demultiplexer()
    out = [item for at in range(0, len(data), piece) for item in demultiplexer.feed(data[at : at + piece])]
    for stream in (1, 2):
        sent = b"".join(payload for number, payload in frames if number == stream)
        assert b"".join(payload for number, payload in out if number == stream) == sent


def test_a_single_whole_frame() -> None:
    assert Demultiplexer().feed(frame(2, b"err")) == [(2, b"err")]


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(Corrupt, match="malformed"):
        Demultiplexer().feed(b"plain text output\n")
