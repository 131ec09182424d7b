"""`compose publish`: the stack's files as an artifact of a registry."""

from __future__ import annotations

import sys

from buildtool.cli.parse import UsageError
from buildtool.cli.stack_project import load_project
from buildtool.cli.stack_run import call_other
from buildtool.errors import BuildtoolError, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call
    from buildtool.stacks.artifact import Part
    from buildtool.stacks.model import Project

_LOOKS_SECRET = ("password", "passwd", "secret", "token", "api_key", "apikey", "private_key", "credential")


def publish(call: Call) -> int:
    """Push the images that are built here, then the files; the digest of the artifact is printed."""
    if call.text("oci-version") not in ("", "1.0", "1.1"):
        raise UsageError(f'unsupported --oci-version "{call.text("oci-version")}": choose 1.0 or 1.1')
    from buildtool.stacks.artifact import FILE, Part, parts_of
    from buildtool.stacks.reading import FileSystem

    project = load_project(call)
    for name in list(project.disabled):
        project.services[name] = project.disabled.pop(name)
    _check(project)
    parts = parts_of(project, FileSystem(), with_env=call.switch("with-env"))
    _ask(call, _doubts(call, project))
    if call.switch("resolve-image-digests"):
        from buildtool.cli.stack_digests import lock_text

        parts.append(Part(FILE, "image-digests.yaml", lock_text(call, project).encode()))
    if call.switch("dry-run"):
        return _tell(parts)
    for service in project.services.values():
        if service.get("build") is not None:
            try:
                call_other(call, "push", ["--quiet", service["image"]])
            except BuildtoolError as error:
                print(f"WARNING: image {service['image']} cannot be pushed: {error.message}", file=sys.stderr)
    from buildtool.cli.stack_remote import push_stack

    print(push_stack(call.arguments[0], parts, old=call.text("oci-version") == "1.0"))
    return 0


def _check(project: Project) -> None:
    unnamed = [name for name, service in project.services.items() if not service.get("image")]
    for name in unnamed:
        if not project.services[name].get("provider"):
            raise project.error(
                ("services", name),
                "a stack cannot be published whose image has no name: it only has a build section",
                "Add image: with the name that the image is to have in a registry.",
            )


def _doubts(call: Call, project: Project) -> list[str]:
    """What the user should know before it is public. Raises InvalidInput for variables without --with-env."""
    found: list[str] = []
    declared = [name for name, service in project.services.items() if service.get("environment")]
    declared += [f"config {key}" for key, item in project.part("configs").items() if item.get("environment")]
    if declared and not call.switch("with-env"):
        raise InvalidInput(
            f"environment variables are declared: {', '.join(sorted(declared))}",
            hint="They would be published: allow it with --with-env, or take them out of the files.",
        )
    for name, service in sorted(project.services.items()):
        binds = [item["source"] for item in service.get("volumes") or [] if item.get("type") == "bind"]
        found += [f"{name} mounts {source} of this machine (only the declaration is published)" for source in binds]
        for key, value in sorted((service.get("environment") or {}).items()):
            if value and any(word in key.lower() for word in _LOOKS_SECRET):
                found.append(f"{name} has the variable {key}, which looks like a secret")
    if declared:
        found.append(f"the variables of {', '.join(sorted(declared))} are published")
    return found


def _ask(call: Call, doubts: list[str]) -> None:
    if not doubts or call.switch("yes") or call.switch("dry-run"):
        return
    for doubt in doubts:
        print(f"WARNING: {doubt}", file=sys.stderr)
    if not sys.stdin.isatty():
        raise InvalidInput("not published: somebody has to agree", hint="Agree with --yes.")
    print("Publish all the same? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidInput("not published")


def _tell(parts: list[Part]) -> int:
    for part in parts:
        print(f"DRY-RUN MODE - {part.name}  {part.media_type}  {len(part.content)} bytes")
    return 0
