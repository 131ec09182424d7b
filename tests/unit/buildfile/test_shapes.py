"""Shapes of Buildfiles that people write, a few hundred of them: stages × instructions × ways to write them.

Each parses, is checked and planned; the plan's digest is the same each time and for the formatted file.
"""

from __future__ import annotations

import hashlib
import itertools

import pytest

from buildtool.buildfile import parse
from buildtool.buildfile.analysis import check, first_error
from buildtool.buildfile.evaluation import Given
from buildtool.buildfile.fixes import fix_text
from buildtool.buildfile.formatter import format_text
from buildtool.buildfile.instructions import Buildfile
from buildtool.buildfile.outline import outline, targets
from buildtool.graph import BaseImage, Plan, PlanOptions, image_key, missing_bases, plan
from buildtool.oci import ContainerConfig, ImageConfig, Platform, RootFS

AMD = Platform(architecture="amd64", os="linux")
OPTIONS = PlanOptions(platform=AMD, build_platform=AMD, build_args={"GIVEN": "given"}, epoch=0)

STAGES = {
    "one": "FROM debian:bookworm-slim\n{body}",
    "scratch": "FROM scratch\n{body}",
    "named": "# app is the thing\nFROM debian AS app\n{body}",
    "global ARG": "ARG V=1\nARG IMAGE=debian:${{V}}\nFROM $IMAGE\nARG V\n{body}",
    "two stages": "FROM golang AS build\nRUN go build -o /x\nFROM scratch\nCOPY --from=build /x /x\n{body}",
    "stage on stage": 'FROM debian AS base\nENV BASE=1\n{body}FROM base AS dev\nRUN dev\nFROM base\nCMD ["x"]\n',
    "by number": "FROM debian\n{body}FROM scratch\nCOPY --from=0 /etc /etc\n",
    "by image": "FROM scratch\nCOPY --from=busybox:1 /bin/busybox /bin/\n{body}",
    "platform": "FROM --platform=$BUILDPLATFORM golang AS b\nARG TARGETOS TARGETARCH\nRUN make\nFROM scratch\n{body}",
    "directives": "# syntax=docker/dockerfile:1\n# check=skip=JSONArgsRecommended\n\n# comment\nFROM debian\n{body}",
    "strict": "# cache=strict\nFROM debian\nARG X=1 UNUSED=2\n{body}",
    "lowercase": "from debian as x\nrun true\n{body}",
    "windows ends": "FROM debian\r\nRUN a && \\\r\n  b\r\n{body}",
    "onbuild": "FROM debian AS base\nONBUILD COPY . /src\nONBUILD RUN make\nFROM base\n{body}",
}
BODIES = {
    "apt": "RUN apt-get update \\\n && apt-get install -y --no-install-recommends \\\n      curl \\\n # why\n"
    "      git \\\n"
    " && rm -rf /var/lib/apt/lists/*\n",
    "heredoc": "RUN <<EOF\nset -e\napk add x\n\n# kept\nEOF\n",
    "script": "RUN <<'PY' sh -x\necho $HOME\nPY\nRUN <<-X\n\t#!/usr/bin/env python3\n\tprint(1)\n\tX\n",
    "files": "COPY <<a.conf <<'b.conf' /etc/app/\nhome=$HOME\na.conf\nraw=$HOME\nb.conf\n",
    "cache mounts": "RUN --mount=type=cache,target=/root/.cache,sharing=locked \\\n"
    "    --mount=type=bind,target=/src \\\n"
    "    --mount=type=tmpfs,target=/tmp,size=64m pip install -r /src/requirements.txt\n",
    "secrets": "RUN --mount=type=secret,id=token,env=TOKEN,required --mount=type=ssh make\n",
    "network": "RUN --network=none true\nRUN --network=default --security=sandbox true\n",
    "exec form": 'RUN ["/bin/sh","-c" , "echo \\"x\\" é \\u00e9"]\nSHELL ["/bin/bash", "-o", "pipefail", "-c"]\n'
    "RUN a | b\n",
    "env": "ENV A=1 B=\"two words\" C=d\\ e \\\n    D='$A' E=${A:-x}${B:+y}\nENV F ${A} and more\nENV G=$A$C\n",
    "operators": "ARG file=/src/app.tar.gz\n"
    "ENV n=${file##*/} b=${file%%.*} d=${file%/*} r=${file//\\//-} o=${file/src/x}\n",
    "args": "ARG GIVEN\nARG NODEFAULT\nARG X=1 Y=${X}2\nRUN echo $GIVEN $NODEFAULT $X $Y\n",
    "labels": 'LABEL a.b="c" "d e"=f\nLABEL multi="x\\\n y"\nLABEL legacy some value\n',
    "copy flags": "COPY --chown=1000:1000 --chmod=0644 a b /dst/\nCOPY --chmod=u=rwX,go=rX --link . /app/\n"
    "COPY --parents --exclude=*.pyc --exclude=.git ./src/./**/*.py /py/\n",
    "copy json": 'COPY ["with blank", "b*", "/dst/"]\nADD [ "x.tar.gz" ,"/opt/" ]\n',
    "add": "ADD --unpack=false x.tar.gz /opt/\nADD --link=false --chown=1:1 a.tgz /b/\n",
    "workdir": 'WORKDIR /srv\nWORKDIR app\nRUN pwd\nWORKDIR "/with blanks"\nUSER 1000:1000\nWORKDIR /home/x\n',
    "config": 'EXPOSE 80 443/tcp 53/udp 8000-8002\nVOLUME /data /log\nVOLUME ["/a b"]\nSTOPSIGNAL SIGTERM\n'
    "USER app\n",
    "health": "HEALTHCHECK --interval=30s --timeout=3s --start-period=1m30s --retries=3 \\\n"
    "  CMD curl -f http://x/ || exit 1\n"
    'HEALTHCHECK NONE\nHEALTHCHECK CMD [ "true" ]\n',
    "command": 'ENTRYPOINT ["/entry"]\nCMD ["a", \\\n  "b"]\n',
    "shell command": "ENTRYPOINT exec top -b\n",
    "old": "MAINTAINER Jo <jo@example.com>\nCMD node server.js\n",
    "triggers": "ONBUILD ENV  a=1   b=2\nONBUILD RUN   x && \\\n    y\nONBUILD COPY <<E /e\nbody\nE\n",
    "comments": "# one\n\n# two\nRUN a\n   # three\n\n\n#four\nRUN b # no comment\n",
    "quotes": "RUN echo 'it''s' \"a # b\" `date` $(date) \\$x\nRUN [ -f /x ] && echo [\"no json\"]\n",
    "own": "COPY --if-exists a* b.conf /own/\nRUN --retry=2 --timeout=1m30s --cache-ttl=12h make\n"
    "RUN --no-cache --network=none date $X\n",
    "nothing": "",
}
SHAPES = {
    f"{stage}, {body}": STAGES[stage].format(body=BODIES[body]) for stage, body in itertools.product(STAGES, BODIES)
}


def plan_of(buildfile: Buildfile) -> Plan:
    """The plan of a file whose base images all look alike."""
    bases: dict[str, BaseImage] = {}
    while needs := missing_bases(buildfile, OPTIONS, bases):
        for need in needs:
            config = ImageConfig(
                architecture="amd64", os="linux", rootfs=RootFS("layers", ["sha256:" + "0" * 64]),
                config=ContainerConfig(env=["PATH=/bin", f"BASE={need.reference}"]),
            )  # fmt: skip
            bases[image_key(need.reference, need.platform)] = BaseImage(need.reference, config)
    return plan(buildfile, OPTIONS, bases)


def digest(text: str) -> str:
    """What a build of the file would do, steps and image, as one digest."""
    planned = plan_of(parse(text))
    parts = [*sorted(planned.graph.nodes), planned.target, repr(planned.image.config), repr(planned.image.history)]
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


@pytest.mark.parametrize("stage", STAGES)
def test_shapes(stage: str) -> None:
    for body in BODIES:
        text = SHAPES[f"{stage}, {body}"]
        buildfile = parse(text)
        assert first_error(buildfile) is None, body
        assert set(buildfile.warnings) <= set(check(buildfile)), body
        assert len(targets(buildfile, text)["targets"]) == len(buildfile.stages)
        assert outline(buildfile, text, Given(build_args=OPTIONS.build_args))["sources"]
        formatted = format_text(text)
        assert digest(text) == digest(formatted), body
        assert first_error(parse(fix_text(text).text)) is None, body


def test_there_are_a_few_hundred_and_they_differ() -> None:
    assert len(set(SHAPES.values())) == len(SHAPES) > 300
    assert [digest(text) for text in list(SHAPES.values())[::40]] == [
        digest(text) for text in list(SHAPES.values())[::40]
    ]
    assert len({digest(text) for text in list(SHAPES.values())[::7]}) > 30
