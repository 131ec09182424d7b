"""Parsing, checking and planning of a 1 000-line Buildfile, without a daemon: `python -m tests.bench.bench_language`.

Medians in milliseconds of a warm process, each step alone; the sum of parsing and planning has to stay below 100 ms.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from buildtool.buildfile import parse
from buildtool.buildfile.analysis import check
from buildtool.buildfile.formatter import format_text
from buildtool.graph import BaseImage, PlanOptions, image_key, plan
from buildtool.oci import ContainerConfig, ImageConfig, Platform, RootFS, sha256

LIMIT = 100.0
_STAGES = 40
_MACHINE = Platform(architecture="amd64", os="linux")
_STAGE = """\
# part-{n} is one of many
FROM debian:bookworm AS part-{n}
ARG VERSION_{n}=1.{n} TARGETARCH
ENV HOME_{n}=/srv/part{n} PATH=/srv/part{n}/bin:$PATH
WORKDIR $HOME_{n}
RUN apt-get update \\
 && apt-get install -y --no-install-recommends \\
      curl \\
      git \\
 && rm -rf /var/lib/apt/lists/*
COPY --chown=1000:1000 package{n}.json package-lock{n}.json ./
RUN --mount=type=cache,target=/root/.cache,sharing=locked \\
    make VERSION="${{VERSION_{n}}}" part{n}
COPY src{n}/ ./src/
LABEL org.example.part="{n}" org.example.title="part {n} of many"
RUN <<EOF
set -e
echo part {n} of $VERSION_{n}
EOF
EXPOSE 80{n:02d}/tcp
HEALTHCHECK --interval=30s --timeout=3s CMD curl -fsS http://localhost:80{n:02d}/ || exit 1
ENTRYPOINT ["/srv/part{n}/bin/serve", "--port", "80{n:02d}"]
CMD ["--verbose"]
USER 1000
"""


def thousand_lines() -> str:
    """A Buildfile of 40 stages that look like those people write, and one that takes from all."""
    stages = "".join(_STAGE.format(n=n) for n in range(_STAGES))
    return stages + "FROM scratch\n" + "".join(f"COPY --from=part-{n} /srv /srv{n}\n" for n in range(_STAGES))


def median(work: Callable[[], object], times: int = 15) -> float:
    """The median of some runs, in milliseconds, after two that warm up."""
    found = []
    for number in range(times + 2):
        began = time.perf_counter()
        work()
        if number >= 2:
            found.append(1000 * (time.perf_counter() - began))
    return statistics.median(found)


def main() -> None:
    text = thousand_lines()
    config = ImageConfig(
        architecture="amd64", os="linux", rootfs=RootFS("layers", [sha256(b"layer")]), config=ContainerConfig()
    )
    bases = {image_key("debian:bookworm", _MACHINE): BaseImage("debian:bookworm", config)}
    options = PlanOptions(platform=_MACHINE, build_platform=_MACHINE)
    buildfile = parse(text)
    parsing = median(lambda: parse(text))
    planning = median(lambda: plan(buildfile, options, bases))
    steps = len(plan(buildfile, options, bases).graph)
    print(f"{text.count(chr(10))} lines, {steps} steps")
    print(f"{'parse, with the checks of the text':<52} {parsing:>9.1f} ms")
    print(f"{'plan':<52} {planning:>9.1f} ms")
    print(f"{'all checks':<52} {median(lambda: check(buildfile)):>9.1f} ms")
    print(f"{'format':<52} {median(lambda: format_text(text), 3):>9.1f} ms")
    verdict = "ok" if parsing + planning < LIMIT else "MISSED"
    print(f"{'parse and plan':<52} {parsing + planning:>9.1f} ms  ≤ {LIMIT:g} ms  {verdict}")


if __name__ == "__main__":
    main()
