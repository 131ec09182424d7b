"""References: Docker's short names, the distribution grammar, round trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.errors import InvalidInput
from buildtool.oci import Digest, Reference, parse_reference

_component = st.from_regex(r"\A[a-z0-9]{1,6}(?:(?:\.|_|__|-{1,2})[a-z0-9]{1,4}){0,2}\Z")
_path = st.lists(_component, min_size=1, max_size=4).map("/".join)
_domain = st.one_of(
    st.just("docker.io"),
    st.just("localhost"),
    st.from_regex(r"\A[a-z0-9]{1,5}\.[a-z]{2,3}(?::[0-9]{1,5})?\Z"),
    st.just("[2001:db8::1]:5000"),
)
_tag = st.one_of(st.just(""), st.from_regex(r"\A[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}\Z"))
_digest = st.one_of(st.none(), st.from_regex(r"\Asha256:[a-f0-9]{64}\Z").map(Digest))


@st.composite
def references(draw: st.DrawFn) -> Reference:
    domain, path = draw(_domain), draw(_path)
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    return Reference(domain, path, draw(_tag), draw(_digest))


@given(references())
def test_the_full_form_parses_back(reference: Reference) -> None:
    """Law: parse(str(r)) = r."""
    assert parse_reference(str(reference)) == reference


@given(references())
def test_the_familiar_form_means_the_same(reference: Reference) -> None:
    """Law: parse(r.familiar) = r, and it is never longer than the full form."""
    assert parse_reference(reference.familiar) == reference
    assert len(reference.familiar) <= len(str(reference))


@given(references())
def test_the_default_tag_is_added_once(reference: Reference) -> None:
    """Law: with_default_tag is idempotent and changes only what has neither tag nor digest."""
    tagged = reference.with_default_tag()
    assert tagged.with_default_tag() == tagged
    assert (tagged == reference) == bool(reference.tag or reference.digest)


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_a_clear_refusal(text: str) -> None:
    """Law: parse either raises InvalidInput with Docker's wording or gives something that parses back."""
    try:
        reference = parse_reference(text)
    except InvalidInput as error:
        assert "invalid reference format" in str(error) or "invalid repository name" in str(error)
    else:
        assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.37", "docker.io/library/busybox:1.37", "busybox:1.37"),
        ("index.docker.io/a/b", "docker.io/a/b", "a/b"),
        ("docker.io/library/a", "docker.io/library/a", "a"),
        ("docker.io/localhost/a", "docker.io/localhost/a", "docker.io/localhost/a"),
        ("localhost/a", "localhost/a", "localhost/a"),
        ("host:5000/a:t", "host:5000/a:t", "host:5000/a:t"),
        ("a/b/c", "docker.io/a/b/c", "a/b/c"),
        ("UPPER/x", "UPPER/x", "UPPER/x"),
    ],
)
def test_short_names_are_dockers(text: str, full: str, familiar: str) -> None:
    reference = parse_reference(text)
    assert str(reference) == full
    assert reference.familiar == familiar


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("Busybox", "repository name (Busybox) must be lowercase"),
        ("a/Busybox", "must be lowercase"),
        ("busybox:", "the tag is malformed"),
        ("busybox:.x", "the tag is malformed"),
        ("busybox:" + "t" * 129, "the tag is malformed"),
        ("busybox@sha256:1", "the digest is malformed"),
        ("busybox@", "the digest is malformed"),
        ("a//b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("busybox\n", "invalid reference format"),
        ("a/" * 140 + "b", "must not be longer than 255"),
        ("f" * 64, "cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_malformed_references_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_reference(text)
    assert message in str(caught.value)
