"""SBOMs of real images against what the package managers in them say.

`python -m tests.bench.compare_sbom` builds an image for each ecosystem with our own builder, from Debian's, PyPI's
and npm's packages (ten minutes), and compares `image sbom` with dpkg-query, pip, npm, `go version -m`, cargo and rpm,
run inside. Both documents are held against their schemas. Prints a table; exit code 1 for any difference.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from jsonschema import Draft7Validator
from packageurl import PackageURL

from tests.bench.sides import Ours

SCHEMA = Path(__file__).parents[1] / "unit" / "images" / "sbom" / "spdx-2.3.schema.json"
BASE = "debian:bookworm"
RUST_BASE = "debian:trixie"
"""Bookworm has no cargo-auditable."""
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
BUILDFILE = f"""\
ARG BASE
FROM $BASE AS base
ENV PIP_CERT={CERTIFICATES} NODE_EXTRA_CA_CERTS={CERTIFICATES}
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates

FROM base AS python
RUN apt-get install -y --no-install-recommends python3-pip python3-venv python3-setuptools python3-requests
RUN python3 -m venv /venv && /venv/bin/pip install flask docutils zope.interface setuptools wheel
RUN pip install --break-system-packages --root-user-action ignore rich
COPY egg /src/egg
RUN cd /src/egg && python3 setup.py -q install --single-version-externally-managed --record /tmp/record --root /
COPY editable /src/editable
RUN /venv/bin/pip install --no-build-isolation -e /src/editable

FROM base AS node
RUN apt-get install -y --no-install-recommends nodejs npm
WORKDIR /app
RUN npm init -y && npm install express@4 @types/node lodash alias@npm:semver

FROM base AS go
RUN apt-get install -y --no-install-recommends golang-go
COPY go /src
RUN cd /src && go build -mod=vendor -o /usr/local/bin/hello .

FROM base AS rpm
RUN apt-get install -y --no-install-recommends rpm
COPY rpm /src
RUN cd /src && for spec in *.spec; do rpmbuild -bb --quiet -D "_rpmdir /rpms" $spec; done
RUN rpm --dbpath /sqlite --initdb && rpm --dbpath /sqlite -i --nodeps --justdb /rpms/*/*.rpm

FROM scratch AS sqlite
COPY --from=rpm /sqlite /var/lib/rpm
"""
RUST = """\
ARG BASE
FROM $BASE
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \\
    cargo cargo-auditable librust-itoa-dev librust-bitflags-dev
COPY rust /src
COPY cargo.toml /root/.cargo/config.toml
RUN cd /src && cargo auditable build --release --offline && cp target/release/app /usr/local/bin/
RUN cd /src && cargo tree --offline --prefix none --no-dedupe > /tree
"""
SPEC = """\
Name: {name}
Version: {version}
Release: 1
Summary: a package
License: {license}
{more}
%description
A package.
%files
"""
FILES = {
    "egg/setup.py": 'from setuptools import setup\nsetup(name="My_Egg.pkg", version="1.0+a", py_modules=["myegg"])\n',
    "egg/myegg.py": "",
    "editable/pyproject.toml": '[project]\nname = "editable-pkg"\nversion = "0.1"\n',
    "editable/editable_pkg.py": "",
    "go/go.mod": "module example.com/hello\n\ngo 1.19\n\nrequire example.org/lib/v2 v2.3.4\n",
    "go/main.go": 'package main\n\nimport lib "example.org/lib/v2"\n\nfunc main() { println(lib.Name) }\n',
    "go/vendor/modules.txt": "# example.org/lib/v2 v2.3.4\n## explicit\nexample.org/lib/v2\n",
    "go/vendor/example.org/lib/v2/lib.go": 'package lib\n\nconst Name = "lib"\n',
    "rust/Cargo.toml": '[package]\nname = "app"\nversion = "0.1.0"\n[dependencies]\nitoa = "*"\nbitflags = "2"\n',
    "rust/src/main.rs": 'fn main() { println!("{}", itoa::Buffer::new().format(1)); }\n',
    "Rustfile": RUST,
    "cargo.toml": (
        '[source.crates-io]\nreplace-with = "debian"\n[source.debian]\ndirectory = "/usr/share/cargo/registry"\n'
    ),
    "rpm/alpha.spec": SPEC.format(name="alpha", version="1.2", license="MIT", more="BuildArch: noarch\nEpoch: 2"),
    "rpm/beta.spec": SPEC.format(name="beta", version="3.0~rc1", license="GPLv2+ and BSD", more="Vendor: Somebody"),
}

Lines = set[tuple[str, ...]]


class Images:
    """The stages as images, and what runs in them."""

    def __init__(self, ours: Ours, context: Path, base: str) -> None:
        self._ours, self._context, self._base = ours, context, base

    def build(self, stage: str) -> None:
        base = ("--build-arg", f"BASE={RUST_BASE if stage == 'rust' else self._base}")
        where = ("-f", str(self._context / "Rustfile")) if stage == "rust" else ("--target", stage)
        self._ours.run("build", "-q", *base, *where, "-t", f"sbom:{stage}", str(self._context))

    def output(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._ours.cli, *arguments], env=self._ours.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout

    def inside(self, stage: str, command: str) -> str:
        return self.output("run", "--rm", "--network=none", f"sbom:{stage}", "sh", "-c", command)

    def urls(self, stage: str) -> list[tuple[PackageURL, str]]:
        """The package URLs, each with the file that told of it; both documents are valid and have the same ones."""
        spdx = json.loads(self.output("image", "sbom", f"sbom:{stage}"))
        cyclonedx = json.loads(self.output("image", "sbom", "--format", "cyclonedx", f"sbom:{stage}"))
        Draft7Validator(json.loads(SCHEMA.read_text())).validate(spdx)
        if (error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(cyclonedx))) is not None:
            raise SystemExit(f"{stage}: {error}")
        if "comment" in spdx:
            raise SystemExit(f"{stage}: {spdx['comment']}")
        found = [
            (reference["referenceLocator"], re.sub(r"^found in (\S+?)(,.*)?$", r"\1", each["sourceInfo"]))
            for each in spdx["packages"]
            for reference in each.get("externalRefs", ())
        ]
        assert sorted(url for url, _ in found) == sorted(
            each["purl"] for each in cyclonedx["components"] if "purl" in each
        )
        return [(PackageURL.from_string(url), path) for url, path in found]

    def kind(self, stage: str, kind: str, below: str = "/", qualifiers: tuple[str, ...] = ()) -> Lines:
        return {
            (name_of(url), url.version, *(qualifiers_of(url).get(name, "") for name in qualifiers))
            for url, path in self.urls(stage)
            if url.type == kind and path.startswith(below)
        }


def name_of(url: PackageURL) -> str:
    return f"{url.namespace}/{url.name}" if url.namespace and url.type in ("npm", "golang") else url.name


def qualifiers_of(url: PackageURL) -> dict[str, Any]:
    return dict(url.qualifiers) if isinstance(url.qualifiers, dict) else {}


def lines(text: str) -> Lines:
    return {tuple(line.split()) for line in text.splitlines() if line.strip()}


def dpkg(images: Images, stage: str) -> tuple[Lines, Lines]:
    told = images.inside(stage, "dpkg-query -W -f '${Package} ${Version} ${Architecture}\\n'")
    return lines(told), images.kind(stage, "deb", qualifiers=("arch",))


def pip(images: Images, program: str, below: str) -> tuple[Lines, Lines]:
    """`below`: where that pip's packages are; all of them, in the spelling of package URLs."""
    told = json.loads(images.inside("python", f"{program} list --format json"))
    wanted = {(re.sub(r"[-_.]+", "-", each["name"]).lower(), each["version"]) for each in told}
    vendored = re.compile(r"/(_vendor|vendor)/")
    return wanted, {
        (url.name, url.version)
        for url, path in images.urls("python")
        if url.type == "pypi" and re.match(below, path) and not vendored.search(path)
    }


def npm(images: Images) -> tuple[Lines, Lines]:
    told = json.loads(images.inside("node", "npm ls --all --json"))
    wanted: Lines = set()
    pending = [told]
    while pending:
        for name, entry in pending.pop().get("dependencies", {}).items():
            resolved = re.search(r"/((?:@[^/]+/)?[^/]+)/-/", entry.get("resolved", ""))
            wanted |= {(resolved[1] if resolved else name, entry["version"])} if "version" in entry else set()
            pending.append(entry)
    return wanted, images.kind("node", "npm", "/app/")


def go(images: Images, program: str) -> tuple[Lines, Lines]:
    told = images.inside("go", f"go version -m {program}")
    fields = [line.split() for line in told.splitlines()]
    wanted = {(each[1], each[2]) for each in fields if each[:1] in (["dep"], ["mod"]) and each[2] != "(devel)"}
    version = fields[0][-1].removeprefix("go")
    return wanted | {("stdlib", version)}, images.kind("go", "golang", program)


def rpm(images: Images, stage: str) -> tuple[Lines, Lines]:
    form = "%{NAME} %{VERSION}-%{RELEASE} %{ARCH} %{EPOCH}\\n"
    told = images.inside("rpm", f"rpm --dbpath /{stage} -qa --qf '{form}'")
    wanted = {tuple("" if word == "(none)" else word for word in line) for line in lines(told)}
    return wanted, images.kind(stage, "rpm", qualifiers=("arch", "epoch"))


def cargo(images: Images, path: str) -> tuple[Lines, Lines]:
    told = images.inside("rust", "cat /tree")
    wanted = {(name, version.removeprefix("v")) for name, version, *_ in map(str.split, told.splitlines())}
    return wanted, images.kind("rust", "cargo", path)


CASES: dict[str, tuple[str, Callable[[Images], tuple[Lines, Lines]]]] = {
    "dpkg-query, Python's image": ("python", lambda images: dpkg(images, "python")),
    "pip list, of the system": ("python", lambda images: pip(images, "python3 -m pip", "/usr/(local/)?lib/python3")),
    "pip list, of a venv": ("python", lambda images: pip(images, "/venv/bin/pip", "/venv/|/src/editable/")),
    "dpkg-query, npm's image": ("node", lambda images: dpkg(images, "node")),
    "npm ls --all": ("node", npm),
    "dpkg-query, Go's image": ("go", lambda images: dpkg(images, "go")),
    "go version -m, own program": ("go", lambda images: go(images, "/usr/local/bin/hello")),
    "go version -m, gofmt": ("go", lambda images: go(images, "/usr/lib/go-1.19/bin/gofmt")),
    "rpm -qa, SQLite": ("sqlite", lambda images: rpm(images, "sqlite")),
    "dpkg-query, Rust's image": ("rust", lambda images: dpkg(images, "rust")),
    "cargo tree, audited program": ("rust", lambda images: cargo(images, "/usr/local/bin/app")),
    "cargo tree, Cargo.lock": ("rust", lambda images: cargo(images, "/src/Cargo.lock")),
}


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="compare-sbom-", dir="/tmp") as folder:
        context = Path(folder, "context")
        for name, content in {"Buildfile": BUILDFILE, **FILES}.items():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            (context / name).write_text(content)
        ours = Ours(Path(folder))
        try:
            for base in (BASE, RUST_BASE):
                ours.run("image", "bootstrap", base, "--host-ca")
            return compare(Images(ours, context, BASE))
        finally:
            ours.close()


def compare(images: Images) -> int:
    """Every case; 1 when one does not agree."""
    built: set[str] = set()
    faults = 0
    for name, (stage, case) in CASES.items():
        for each in dict.fromkeys(["rpm", stage] if stage == "sqlite" else [stage]):
            if each not in built:
                images.build(each)
                built.add(each)
        wanted, found = case(images)
        faults += wanted != found
        print(f"{name:<30} {len(wanted):5} packages  {'the same' if wanted == found else 'NOT THE SAME'}", flush=True)
        for what, those in (("missing", wanted - found), ("other", found - wanted)):
            for line in sorted(those):
                print(f"    {what}: {' '.join(line)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
