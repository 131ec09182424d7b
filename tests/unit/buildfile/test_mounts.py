"""`RUN --mount`: table 1.3."""

from __future__ import annotations

import pytest

from buildtool.buildfile import Mount, expand_word, parse_mount
from buildtool.buildfile.instructions import Run
from buildtool.errors import InvalidInput
from tests.unit.buildfile.helpers import one

ENV = {"T": "/target", "ID": "name", "RO": "true"}


def mount(value: str) -> Mount:
    (option,) = one(f"RUN --mount={value} true", Run).mounts
    return parse_mount(option, lambda w: expand_word(w, ENV))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("target=/a", {"type": "bind", "target": "/a", "readonly": True, "from_": "", "source": ""}),
        ("type=bind,src=b,dst=/a,from=x,rw", {"source": "b", "from_": "x", "readonly": False}),
        ("type=bind,source=b,destination=/a,readwrite=false", {"target": "/a", "readonly": True}),
        ("TYPE=Bind,Target=/a,RO=false", {"type": "bind", "target": "/a", "readonly": False}),
        ("target=$T/x", {"target": "/target/x"}),
        ("target=/a,ro=$RO", {"readonly": True}),
        ("type=cache,target=/a/../c/", {"id": "/c", "readonly": False, "sharing": "shared", "mode": None}),
        ("type=cache,target=/a,id=$ID,sharing=locked,mode=0700,uid=1,gid=2",
         {"id": "name", "sharing": "locked", "mode": 0o700, "uid": 1, "gid": 2}),
        ("type=cache,target=/a,from=x,source=/s,ro", {"from_": "x", "source": "/s", "readonly": True}),
        ("type=cache,target=rel", {"target": "rel", "id": "rel"}),
        ("type=tmpfs,target=/a", {"readonly": False, "size": 0}),
        ("type=tmpfs,target=/a,size=64m", {"size": 64 * 2**20}),
        ("type=tmpfs,target=/a,size=1.5GiB", {"size": 3 * 2**29}),
        ("type=tmpfs,target=/a,size=100", {"size": 100}),
        ("type=secret,id=k", {"id": "k", "target": "/run/secrets/k", "required": False, "readonly": True}),
        ("type=secret,source=k", {"id": "k", "target": "/run/secrets/k", "source": ""}),
        ("type=secret,target=/x/k", {"id": "k", "target": "/x/k"}),
        ("type=secret,id=k,env=KEY", {"env": "KEY", "target": ""}),
        ("type=secret,id=k,required", {"required": True}),
        ("type=secret,id=k,required=false,mode=0440,uid=5", {"required": False, "mode": 0o440, "uid": 5}),
        ("type=ssh", {"id": "default", "target": "", "required": False}),
        ("type=ssh,id=x,required,mode=0600", {"id": "x", "required": True, "mode": 0o600}),
        ("type=bind,target=/a,source=", {"source": ""}),
        ("'type=bind,\"source=a,b\",target=/c'", {"source": "a,b", "target": "/c"}),
    ],
)  # fmt: skip
def test_accepted(value: str, expected: dict[str, object]) -> None:
    found = mount(value)
    assert {key: getattr(found, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("value", "message", "column", "hint"),
    [
        ("type=bnid,target=/a", "unsupported mount type 'bnid'", 18, "did you mean bind?"),
        ("type=cache,target=/a,sharing=lokced", "unsupported sharing 'lokced'", 42, "did you mean locked?"),
        ("type=bind", "needs a target", 5, "target="),
        ("type=cache", "needs a target", 5, "target="),
        ("type=tmpfs,target=/", "cannot be /", 31, "below"),
        ("target=/a/..", "cannot be /", 20, "below"),
        ("type=bind,target=/a,mode=0700", "mode is not allowed for a bind mount", 38, ""),
        ("type=tmpfs,target=/a,uid=1", "uid is not allowed", 38, ""),
        ("type=bind,target=/a,size=1", "unexpected key 'size' for mount type 'bind'", 38, "tmpfs"),
        ("type=cache,target=/a,required", "unexpected key 'required'", 5, "secret"),
        ("type=bind,target=/a,sharing=locked", "sharing is not allowed", 41, ""),
        ("type=cache,target=/a,env=X", "unexpected key 'env'", 38, "secret"),
        ("type=secret", "needs an id", 5, "id=NAME"),
        ("type=secret,id=a,from=b", "no from", 35, ""),
        ("type=secret,id=a,source=b", "the same thing", 37, "id"),
        ("type=secret,id=a,sharing=locked", "sharing is not allowed", 38, ""),
        ("type=cache,target=/a,mode=8", "invalid value '8' for mode", 39, "octal"),
        ("type=cache,target=/a,uid=-1", "invalid value '-1' for uid", 38, "number"),
        ("type=cache,target=/a,gid=99999999999", "invalid value", 38, "number"),
        ("type=tmpfs,target=/a,size=x", "invalid value for size: 'x'", 39, "64m"),
        ("target=/a,ro=maybe", "invalid value for readonly: 'maybe'", 26, "true or false"),
        ("target", "'target' needs a value", 5, "target=VALUE"),
    ],
)  # fmt: skip
def test_refused(value: str, message: str, column: int, hint: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        mount(value)
    error = caught.value
    assert message in error.message and hint in error.hint
    assert error.where and (error.where.line, error.where.column) == (2, column)


def test_values_stand_where_they_are_written_even_behind_quotes_and_continuations() -> None:
    run = one('RUN --mount=type=cache,\\\n"target=/a b",id=x true', Run)
    places = [(k, w.text, w.span.line, w.span.column) for k, w in run.mounts[0].options if w]
    assert places == [("type", "cache", 2, 18), ("target", "/a b", 3, 9), ("id", "x", 3, 18)]
