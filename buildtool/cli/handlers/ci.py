"""`ci init` and `ci build`: images in the CI of others."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
from importlib import resources

from buildtool.cli import table
from buildtool.cli.ci.environment import REQUEST, Job, read_job
from buildtool.cli.ci.login import logged_in
from buildtool.cli.ci.naming import cache_scopes, labels, tags
from buildtool.cli.ci.page import CiDisplay, Finding, Page, code_quality, summary
from buildtool.cli.handlers.build import BuildFailed, build_result, finish
from buildtool.cli.parse import UsageError
from buildtool.errors import BuildtoolError, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from buildtool.cli.call import Call

_BRANCH = re.compile(r"[^\s\"'\\\x00-\x20\x7f]+")
_FILES = {"github": ".github/workflows/image.yml", "gitlab": ".gitlab-ci.yml"}


def init(call: Call) -> int:
    """Write a pipeline for a CI, or print it."""
    system = call.arguments[0]
    if system not in _FILES:
        raise UsageError(f'unknown CI "{system}": choose {" or ".join(_FILES)}')
    branch, image, platforms = call.text("branch"), call.text("image"), ",".join(call.texts("platform"))
    if not _BRANCH.fullmatch(branch):
        raise InvalidInput(
            f"invalid --branch {branch!r}", hint="it is the name of a branch, like main or release/1.2"
        )
    if platforms:
        from buildtool.oci import parse_platforms

        platforms = ",".join(map(str, parse_platforms(platforms)))
    words = [*(["--image", image] if image else []), *(["--platform", platforms] if platforms else [])]
    values: dict[str, object] = {
        "branch": branch,
        "image": image,
        "package": "buildtool",
        "platforms": platforms,
        "words": shlex.join([*words, call.text("context")]),
    }
    text = _rendered(system, values)
    path = call.text("output") or _FILES[system]
    if path == "-":
        sys.stdout.write(text)
        return 0
    if os.path.exists(path) and not call.switch("force"):
        raise InvalidInput(f"{path} exists", hint="Replace it with --force, or print with --output -.")
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(path)
    return 0


def _rendered(system: str, values: dict[str, object]) -> str:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    source = resources.files("buildtool.cli.ci").joinpath(f"templates/{system}.yml.j2").read_text("utf-8")
    environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(source).render(values)


def build(call: Call) -> int:
    """Build under the names that the CI's branch, tag or request asks for, push, and tell the job's page."""
    job = read_job(os.environ)
    images = call.texts("image") or ([job.image] if job.image else [])
    if not images:
        raise InvalidInput("this CI does not say what the image is called", hint="Name it with --image REPOSITORY.")
    push = call.switch("push") if call.given("push") else job.kind != REQUEST
    names = [*(f"{image}:{tag}" for image in images for tag in tags(job)), *call.texts("tag")]
    page = Page(job.system, os.environ.get("GITHUB_WORKSPACE" if job.system == "github" else "CI_PROJECT_DIR", ""))
    for _, password in job.logins.values():
        page.mask(password)
    with logged_in(job.logins), tempfile.TemporaryDirectory(prefix="buildtool-ci-") as folder:
        metadata = call.text("metadata-file") or f"{folder}/metadata.json"
        changes: dict[str, object] = {
            "tag": names,
            "label": [*(f"{key}={value}" for key, value in labels(job).items()), *call.texts("label")],
            "metadata-file": metadata,
            "push": push,
            **_caches(call, job, images[0], push),
        }
        other = call.as_command(table.load("build"), changes)
        try:
            result, told = _made(other, page, metadata)
        except BuildFailed as error:
            return _failed(call, page, names, error)
    size = int(call.client.get(f"/images/{result['image_id']}/json").get("Size") or 0)
    digest = str(told.get("containerimage.digest", "")) if push else ""
    layers = call.client.get(f"/images/{result['image_id']}/history")
    title, steps = f"Image {images[0]}", result.get("steps") or ()
    _write_summary(call, summary(title, names, digest, size, steps, layers=layers))
    _write_outputs(call, job, result, told, names, digest)
    _write_quality(call, page)
    for name in names:
        print(f"{name}@{digest}" if digest else name)
    return 0


def _made(call: Call, page: Page, metadata: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The build's result and its metadata."""
    from buildtool.cli.build_outputs import read_outputs

    outputs = read_outputs(call)
    with page.group("Build"):
        result = build_result(call, CiDisplay(page), "")
    with page.group("Push" if call.switch("push") else "Outputs"):
        finish(call, outputs, result, "plain")
    with open(metadata, encoding="utf-8") as file:
        told: dict[str, Any] = json.load(file)
    return result, told


def _caches(call: Call, job: Job, image: str, push: bool) -> dict[str, object]:
    """`--cache-from` and `--cache-to` in the image's own repository, unless the call says otherwise."""
    where = call.text("cache")
    if where not in ("registry", "none"):
        raise UsageError(f'unknown --cache "{where}": choose registry or none')
    if where == "none" or call.given("cache-from") or call.given("cache-to"):
        return {}
    references = [f"type=registry,ref={image}:buildcache-{scope}" for scope in cache_scopes(job)]
    found: dict[str, object] = {"cache-from": references}
    if job.trusted and (push or job.logins):
        found["cache-to"] = [f"{references[0]},mode=max"]
    return found


def _failed(call: Call, page: Page, names: Sequence[str], error: BuildFailed) -> int:
    sys.stdout.flush()
    print(f"ERROR: {error}", file=sys.stderr)
    page.annotate(Finding.of_failure(error.message))
    _write_summary(call, summary(f"Image {names[0]}", [], "", 0, error.steps, failure=error.message))
    _write_quality(call, page)
    return 1


def _write_summary(call: Call, text: str) -> None:
    path = call.text("summary") or os.environ.get("GITHUB_STEP_SUMMARY", "")
    if path:
        _append(path, text)


def _write_outputs(
    call: Call, job: Job, result: Mapping[str, Any], told: Mapping[str, Any], names: Sequence[str], digest: str
) -> None:
    """What later steps and jobs take up: GitHub's outputs, GitLab's dotenv."""
    if job.system == "github" and os.environ.get("GITHUB_OUTPUT"):
        marker = f"end_{os.urandom(8).hex()}"
        several = {"tags": "\n".join(names), "metadata": json.dumps(told)}
        lines = [f"imageid={result['image_id']}", f"digest={digest}", f"image={names[0]}"]
        lines += [f"{key}<<{marker}\n{value}\n{marker}" for key, value in several.items()]
        _append(os.environ["GITHUB_OUTPUT"], "\n".join(lines) + "\n")
    if call.text("dotenv"):
        values = {"IMAGE": names[0], "IMAGE_ID": result["image_id"], "IMAGE_DIGEST": digest}
        with open(call.text("dotenv"), "w", encoding="utf-8") as file:
            file.write("".join(f"{key}={value}\n" for key, value in values.items()))


def _write_quality(call: Call, page: Page) -> None:
    if call.text("code-quality"):
        with open(call.text("code-quality"), "w", encoding="utf-8") as file:
            file.write(code_quality(page.findings) + "\n")


def _append(path: str, text: str) -> None:
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise BuildtoolError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
