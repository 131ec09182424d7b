"""Each option of each type of RUN --mount, and each error, as a step sees them: table 1.3 of reference/build.md."""

from __future__ import annotations

import pytest

from buildtool.errors import BuildtoolError
from tests.unit.solve.conftest import Workshop

SECRETS = {"key": b"value", "other": b"second"}
BASE = """FROM busybox AS other
RUN mkdir -p /o/sub && echo one > /o/one && echo two > /o/sub/two && chmod 640 /o/one
FROM busybox
WORKDIR /w
"""

# What a mount is told, the command, what it writes.
BIND = [
    ("target=/m", "cat /m/file /m/d/in", "file in"),
    ("type=bind,target=/m,source=d", "ls /m", "in"),
    ("type=bind,dst=/m,src=file", "cat /m", "file"),
    ("type=bind,destination=/m,from=other,source=/o", "cat /m/one /m/sub/two", "one two"),
    ("type=bind,target=/m,from=busybox,source=/etc/passwd", "head -n 1 /m | cut -d: -f1", "root"),
    ("type=bind,target=rel,from=other,source=o", "cat /w/rel/one", "one"),
    ("type=bind,target=/m", "touch /m/x 2>&1 | grep -o Read-only", "Read-only"),
    ("type=bind,target=/m,ro", "touch /m/x 2>&1 | grep -o Read-only", "Read-only"),
    ("type=bind,target=/m,readonly=true", "touch /m/x 2>&1 | grep -o Read-only", "Read-only"),
    ("type=bind,target=/m,rw", "echo 1 > /m/new && ls /m", "d file new"),
    ("type=bind,target=/m,readwrite,from=other,source=/o", "rm /m/one && ls /m", "sub"),
    ("type=bind,target=/m,readonly=false", "echo 1 > /m/new && cat /m/new", "1"),
]
CACHE = [
    ("type=cache,target=/m", "stat -c '%a %u %g' /m; touch /m/x", "755 0 0"),
    ("type=cache,target=/m,id=named,mode=0700,uid=5,gid=6", "stat -c '%a %u %g' /m", "700 5 6"),
    ("type=cache,target=/m,id=seeded,from=other,source=/o", "ls /m; touch /m/x", "one sub"),
    ("type=cache,target=/m,id=read,ro", "touch /m/x 2>&1 | grep -o Read-only", "Read-only"),
    ("type=cache,target=/m,id=l,sharing=locked", "touch /m/x && ls /m", "x"),
    ("type=cache,target=/m,id=p,sharing=private", "touch /m/x && ls /m", "x"),
    ("type=cache,target=/m,id=s,sharing=shared", "touch /m/x && ls /m", "x"),
    ("type=cache,target=rel,id=r", "ls -d /w/rel", "/w/rel"),
]
TMPFS = [
    ("type=tmpfs,target=/m", "touch /m/x && grep ' /m ' /proc/mounts | cut -d' ' -f3", "tmpfs"),
    ("type=tmpfs,target=/m,size=2m", "df -k /m | tail -n 1 | tr -s ' ' | cut -d' ' -f2", "2048"),
    ("type=tmpfs,target=/m,size=65536", "df -k /m | tail -n 1 | tr -s ' ' | cut -d' ' -f2", "64"),
]
SECRET = [
    ("type=secret,id=key", "cat /run/secrets/key; stat -c ' %a %u %g' /run/secrets/key", "*** 400 0 0"),
    ("type=secret,source=key", "wc -c < /run/secrets/key", "5"),
    ("type=secret,target=/x/key", "wc -c < /x/key", "5"),
    ("type=secret,id=key,target=/m,mode=0440,uid=3,gid=4", "stat -c '%a %u %g' /m", "440 3 4"),
    ("type=secret,id=key,env=K", "echo ${#K}; ls /run/secrets 2>&1 | grep -c key", "5 0"),
    ("type=secret,id=key,env=K,target=/m", "echo ${#K}; wc -c < /m", "5 5"),
    ("type=secret,id=key,required", "wc -c < /run/secrets/key", "5"),
    ("type=secret,id=absent", "test -e /run/secrets/absent || echo none", "none"),
    ("type=secret,id=absent,env=K,required=false", "echo ${K-unset}", "unset"),
]
SSH = [
    ("type=ssh", "echo ${SSH_AUTH_SOCK-unset}", "unset"),
    ("type=ssh,id=absent,required=false,target=/a", "test -e /a || echo none", "none"),
]


@pytest.mark.parametrize("rows", [BIND, CACHE, TMPFS, SECRET, SSH], ids=["bind", "cache", "tmpfs", "secret", "ssh"])
def test_each_option_does_what_the_table_says(shop: Workshop, rows: list[tuple[str, str, str]]) -> None:
    """One build a type, one step a row. What a mount shows is never in a layer."""
    shop.write(file="file\n", d__in="in\n")
    commands = [f"--mount={mount} echo [{n}]; {command}; true" for n, (mount, command, _) in enumerate(rows)]
    steps = "".join(f"RUN {command}\n" for command in commands)

    built = shop.build(BASE + steps, secrets=SECRETS)

    found = {}
    for part in built.output.split("[")[1:]:
        number, _, text = part.partition("]")
        found[rows[int(number)][:2]] = " ".join(text.split())
    assert found == {(mount, command): wanted for mount, command, wanted in rows}
    made = [path for path in shop.tree(built.image) if path.startswith(("/m/", "/x/", "/run/", "/w/rel/"))]
    assert made == []


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("type=bind,target=/", "the target cannot be /"),
        ("type=cache,target=/", "the target cannot be /"),
        ("type=tmpfs,target=/", "the target cannot be /"),
        ("type=bind", "needs a target"),
        ("type=bind,target=/m,mode=0755", "mode is not allowed for a bind mount"),
        ("type=bind,target=/m,uid=1", "uid is not allowed for a bind mount"),
        ("type=tmpfs,target=/m,gid=1", "gid is not allowed for a tmpfs mount"),
        ("type=bind,target=/m,size=1m", "unexpected key 'size'"),
        ("type=cache,target=/m,size=1m", "unexpected key 'size'"),
        ("type=secret,id=key,size=1m", "unexpected key 'size'"),
        ("type=ssh,size=1m", "unexpected key 'size'"),
        ("type=bind,target=/m,required", "unexpected key 'required'"),
        ("type=cache,target=/m,required", "unexpected key 'required'"),
        ("type=tmpfs,target=/m,required", "unexpected key 'required'"),
        ("type=ssh,env=K", "unexpected key 'env'"),
        ("type=secret,id=key,from=other", "a secret mount has no from"),
        ("type=secret,id=key,sharing=locked", "sharing is not allowed"),
        ("type=secret", "needs an id"),
        ("type=bind,target=/m,from=$X", "from does not expand variables"),
        ("type=cache,target=/m,sharing=some", "unsupported sharing 'some'"),
        ("type=cache,target=/m,source=x", "from is missing"),
        ("type=volume,target=/m", "unsupported mount type 'volume'"),
        ("type=bind,target=/m,source=gone", 'no such file in the build context: "gone"'),
        ("type=bind,target=/m,from=other,source=/gone", "no such file or directory: /gone"),
        ("type=secret,id=absent,required", "secret absent: not found"),
        ("type=ssh,required", "ssh agent default: not found"),
        ("type=ssh,id=deploy,required", "ssh agent deploy: not found"),
    ],
)
def test_each_error_is_told_at_its_line(shop: Workshop, mount: str, message: str) -> None:
    with pytest.raises(BuildtoolError) as failure:
        shop.build(f"{BASE}RUN --mount={mount} true\n", secrets=SECRETS)
    assert message in failure.value.message
    assert failure.value.where is not None and failure.value.where.line == 5
