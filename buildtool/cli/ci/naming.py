"""What an image is called, labelled with and cached under in a CI job.

Source: docker/metadata-action, defaults and `type=semver`; OCI image-spec v1.1, annotations.md.
"""

from __future__ import annotations

import re

from buildtool.cli.ci.environment import BRANCH, REQUEST, TAG, Job

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


def tags(job: Job) -> list[str]:
    """Of the image: the branch, the request or the version with its shorter forms, and the commit.

    `latest` is the default branch, and every version that is no pre-release.
    """
    commit = [f"sha-{job.commit[:7]}"] if job.commit else []
    if job.kind == REQUEST:
        return [f"{'mr' if job.system == 'gitlab' else 'pr'}-{slug(job.ref)}", *commit]
    if job.kind == BRANCH:
        return [slug(job.ref), *(["latest"] if job.ref == job.default_branch else []), *commit]
    version = _VERSION.fullmatch(job.ref)
    if version is None:
        return [slug(job.ref), "latest", *commit]
    major, minor, patch, pre = version[1], version[2], version[3], version[4] or ""
    if pre:
        return [f"{major}.{minor}.{patch}{slug(pre)}", *commit]
    shorter = [f"{major}.{minor}", *([major] if major != "0" else [])]
    return [f"{major}.{minor}.{patch}", *shorter, "latest", *commit]


def labels(job: Job) -> dict[str, str]:
    """Where the image comes from. No times: the same commit gives the same image."""
    found = {
        "org.opencontainers.image.source": job.repository,
        "org.opencontainers.image.revision": job.commit,
        "org.opencontainers.image.title": job.repository.rpartition("/")[2],
        "org.opencontainers.image.version": tags(job)[0],
    }
    return {key: value for key, value in found.items() if value}


def cache_scopes(job: Job) -> list[str]:
    """Whose caches are looked at: the job's own (branch or request), that of where it is to go, the default branch's.

    Only the first is written: a request can never write what a branch reads.
    """
    own = f"request-{slug(job.ref)}" if job.kind == REQUEST else "tags" if job.kind == TAG else slug(job.ref)
    others = [slug(name) for name in (job.base, job.default_branch) if name]
    return list(dict.fromkeys([own, *others]))


def slug(text: str) -> str:
    """As much of the text as a tag may have (OCI distribution-spec: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`)."""
    leading = text[:1] if text[:1] == "-" else ""
    return leading + (re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:120] or "ref")
