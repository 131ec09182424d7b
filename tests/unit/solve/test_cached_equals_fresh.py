"""The law of the cache: whatever was built before, a build gives what it gives with an empty cache, to the digest."""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildtool.errors import BuildtoolError
from tests.unit.solve.conftest import Workshop

NAMES = ("a", "b", "sub/c", "sub/d", "sub/deep/e", "g.txt")
STEPS = (
    "COPY . /src",
    "COPY sub /src/",
    "COPY --chmod=700 a b /bin2/",
    "COPY *.txt /texts/",
    "COPY --exclude=deep sub /partly",
    "COPY --link a /linked/",
    "COPY --chown=app:7 b /owned",
    "ADD g.txt /added/",
    "WORKDIR /work",
    "ENV V=1",
    "ENV V=2",
    "USER app",
    "USER root",
    "RUN cat /src/* > /tmp/all 2>/dev/null; echo $V >> /tmp/all",
    "RUN mkdir -p /tmp/gone && echo 1 > /tmp/gone/f",
    "RUN rm -rf /tmp/gone",
    "RUN n=$(ls -1 /tmp | wc -l); echo $n > /tmp/count",
    "RUN --mount=target=/ctx find /ctx -type f | sort > /tmp/found",
    "RUN true",
    "RUN ln -sfn /src /lnk",
    "COPY a /lnk/through",
    "COPY --link sub /lnk2/",
    "COPY --parents ./sub/./deep /par/",
    "COPY --parents **/*.txt /par2/",
    "COPY <<E /here\none\nE",
    "RUN rm -rf /src/a /src/sub",
    "RUN mkdir -p /work && chmod 700 /work",
    "RUN touch /tmp/all; true # the same files whatever stands here: 1",
    "RUN touch /tmp/all; true # the same files whatever stands here: 2",
    "RUN --mount=type=bind,from=busybox,target=/mnt cat /mnt/etc/passwd > /tmp/pw 2>/dev/null; true",
    "RUN --mount=type=cache,target=/cache echo x >> /cache/x",
    "ADD archive /",
    "ADD archive g.txt /unpacked/",
    "ADD --link archive /linked",
)


def archive(kind: int) -> bytes:
    """Files in directories that it does not mention, one of them perhaps through a link; a link to a file below."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("tmp/from/archive", "lnk/archived", "work/w")[: kind + 1]:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(name), 1_500_000_000
            tar.addfile(info, io.BytesIO(name.encode()))
        if kind == 1:
            info = tarfile.TarInfo("etc2/passwd")
            info.type, info.linkname = tarfile.LNKTYPE, "etc/passwd"
            tar.addfile(info)
    return stream.getvalue()


def buildfile(chance: random.Random) -> list[list[str]]:
    """Two or three stages; the last one copies from the others."""
    return [chance.sample(STEPS, chance.randint(2, 5)) for _ in range(chance.randint(2, 3))]


def text_of(stages: list[list[str]]) -> str:
    lines: list[str] = []
    for number, steps in enumerate(stages):
        lines.append(f"FROM busybox AS s{number}")
        lines += steps
        if number:
            lines.append(f"COPY --from=s{number - 1} /tmp /from{number}")
    return "\n".join(lines) + "\n"


def edit(chance: random.Random, stages: list[list[str]], context: Path) -> None:
    """Change one thing: a file, its mode, its existence, its time, or an instruction."""
    path = context / chance.choice(NAMES)
    kinds = (
        "archive",
        "content",
        "mode",
        "remove",
        "touch",
        "step",
        "insert",
        "order",
        "link",
        "ignore",
        "swap",
        "nothing",
    )
    kind = chance.choice(kinds)
    if kind == "archive":
        (context / "archive").write_bytes(archive(chance.randrange(3)))
    elif kind == "content" or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(chance.randint(0, 2)))
    elif kind == "mode":
        path.chmod(chance.choice((0o644, 0o755)))
    elif kind == "remove" and path.name in ("c", "d", "e"):
        path.unlink()
    elif kind == "touch":
        path.touch()
    elif kind == "step":
        steps = chance.choice(stages)
        steps[chance.randrange(len(steps))] = chance.choice(STEPS)
    elif kind == "insert":
        steps = chance.choice(stages)
        steps.insert(chance.randrange(len(steps) + 1), chance.choice(STEPS))
    elif kind == "link":
        link = context / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(chance.choice(NAMES))
    elif kind == "ignore":
        (context / ".dockerignore").write_text(chance.choice(("", "b\n", "sub/deep\n", "*\n!a\n!b\n!sub\n!g.txt\n")))
    elif kind == "swap":
        other = context / chance.choice(NAMES)
        if path.exists() and other.exists() and path != other:
            path.rename(context / "swapped")
            other.rename(path)
            (context / "swapped").rename(other)
    elif kind == "order":
        chance.shuffle(chance.choice(stages))


EXAMPLES = int(os.environ.get("BUILDTOOL_EXAMPLES", "5"))


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(seed=st.integers(0, 1 << 32))
def test_a_cached_build_is_the_same_image_as_one_from_an_empty_cache(
    workshops: Callable[[], Workshop], seed: int
) -> None:
    chance = random.Random(seed)
    warm = workshops()
    for name in NAMES:
        warm.put(name, "0")
    (warm.context / "archive").write_bytes(archive(0))
    stages = buildfile(chance)
    for _ in range(5):
        text = text_of(stages)
        rules = warm.context / ".dockerignore"
        ignore = rules.read_text() if rules.exists() else None
        try:
            cached = warm.build(text, ignore=ignore)
        except BuildtoolError as refused:
            with pytest.raises(type(refused)):
                other = workshops()
                shutil.copytree(warm.context, other.context, dirs_exist_ok=True, symlinks=True)
                other.build(text, ignore=ignore)
            edit(chance, stages, warm.context)
            continue
        fresh_shop = workshops()
        shutil.copytree(warm.context, fresh_shop.context, dirs_exist_ok=True, symlinks=True)
        fresh = fresh_shop.build(text, ignore=ignore)
        assert warm.tree(cached.image) == fresh_shop.tree(fresh.image), text
        assert cached.image.id == fresh.image.id, text
        edit(chance, stages, warm.context)
