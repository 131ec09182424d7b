"""Digests: what is one, and that nothing else gets into a path."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.errors import InvalidInput
from buildtool.oci import hex_of, is_digest, parse_digest, sha256


@given(st.binary())
def test_a_digest_names_the_algorithm_and_parses_back(data: bytes) -> None:
    """Law: parse(sha256(x)) = sha256(x), and its hex is hashlib's."""
    digest = sha256(data)
    assert parse_digest(digest) == digest
    assert hex_of(digest) == hashlib.sha256(data).hexdigest()


@given(st.text())
def test_what_is_no_digest_is_refused(text: str) -> None:
    """Law: parse_digest raises exactly where is_digest is false."""
    if not is_digest(text):
        with pytest.raises(InvalidInput, match="invalid digest"):
            parse_digest(text)


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256:" + "a" * 64 + "\n", "sha512:" + "a" * 128],
)
def test_near_misses_are_no_digests(text: str) -> None:
    assert not is_digest(text)
