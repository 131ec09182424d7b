"""What a CI says of the job: GitHub Actions and GitLab CI, from their environment.

Source: GitHub, "Variables reference" and "Webhook events"; GitLab, "Predefined CI/CD variables reference".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from buildtool.errors import InvalidInput

BRANCH, TAG, REQUEST = "branch", "tag", "request"


class Job:
    """One job. `kind` is what it is about (BRANCH, TAG or REQUEST) and `ref` that thing's name (a request's number).

    `base` is the branch that a request is to go into. `trusted` is false for requests from forks: they must not write
    anything that others build on. `logins` are user and password by registry.
    """

    def __init__(
        self,
        system: str,
        kind: str,
        ref: str,
        *,
        commit: str,
        default_branch: str = "",
        base: str = "",
        repository: str = "",
        image: str = "",
        trusted: bool = True,
        logins: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self.system = system
        self.kind = kind
        self.ref = ref
        self.commit = commit
        self.default_branch = default_branch
        self.base = base
        self.repository = repository
        self.image = image
        self.trusted = trusted
        self.logins = dict(logins or {})


def read_job(environment: Mapping[str, str]) -> Job:
    """The job that this process runs in. Raises InvalidInput outside of a CI that is known."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return _github(environment)
    if environment.get("GITLAB_CI") == "true":
        return _gitlab(environment)
    raise InvalidInput(
        "this is no CI that is known: neither GITHUB_ACTIONS nor GITLAB_CI is true",
        hint="Use `buildtool build` here, or set what the CI would.",
    )


def _github(environment: Mapping[str, str]) -> Job:
    event = _event(environment.get("GITHUB_EVENT_PATH", ""))
    request = event.get("pull_request") or {}
    repository = environment.get("GITHUB_REPOSITORY", "")
    parts = environment.get("GITHUB_REF", "").split("/", 2)
    kinds = {"heads": BRANCH, "tags": TAG, "pull": REQUEST}
    if len(parts) < 3 or parts[1] not in kinds:
        raise InvalidInput(f"GITHUB_REF is {environment.get('GITHUB_REF', '')!r}: no branch, tag or pull request")
    # pull_request_target runs on the branch that the request is to go into, and may have checked out the request
    kind = REQUEST if request else kinds[parts[1]]
    ref = str(request.get("number") or parts[2].partition("/")[0]) if kind == REQUEST else parts[2]
    head = ((request.get("head") or {}).get("repo") or {}).get("full_name")
    logins = {}
    if environment.get("GITHUB_TOKEN"):
        logins["ghcr.io"] = (environment.get("GITHUB_ACTOR") or "token", environment["GITHUB_TOKEN"])
    return Job(
        "github",
        kind,
        ref,
        commit=(request.get("head") or {}).get("sha") or environment.get("GITHUB_SHA", ""),
        default_branch=(event.get("repository") or {}).get("default_branch") or "main",
        base=environment.get("GITHUB_BASE_REF", ""),
        repository=f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}",
        image=f"ghcr.io/{repository.lower()}" if repository else "",
        trusted=kind != REQUEST or head == repository,
        logins=logins,
    )


def _event(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _gitlab(environment: Mapping[str, str]) -> Job:
    request = environment.get("CI_MERGE_REQUEST_IID", "")
    tag, branch = environment.get("CI_COMMIT_TAG", ""), environment.get("CI_COMMIT_BRANCH", "")
    kind = REQUEST if request else TAG if tag else BRANCH
    ref = request or tag or branch or environment.get("CI_COMMIT_REF_NAME", "")
    if not ref:
        raise InvalidInput("CI_COMMIT_REF_NAME is not set: no branch, tag or merge request")
    registry = environment.get("CI_REGISTRY", "")
    user, password = environment.get("CI_REGISTRY_USER", ""), environment.get("CI_REGISTRY_PASSWORD", "")
    if not password and environment.get("CI_JOB_TOKEN"):
        user, password = "gitlab-ci-token", environment["CI_JOB_TOKEN"]
    source = environment.get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "")
    return Job(
        "gitlab",
        kind,
        ref,
        commit=environment.get("CI_COMMIT_SHA", ""),
        default_branch=environment.get("CI_DEFAULT_BRANCH", "main"),
        base=environment.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", ""),
        repository=environment.get("CI_PROJECT_URL", ""),
        image=environment.get("CI_REGISTRY_IMAGE", ""),
        trusted=kind != REQUEST or source == environment.get("CI_PROJECT_ID", ""),
        logins={registry: (user, password)} if registry and password else {},
    )
