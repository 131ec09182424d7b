"""`compose build`, `pull`, `push`: the images of a stack."""

from __future__ import annotations

import json
import sys

from buildtool.cli.stack_project import load_project
from buildtool.cli.stack_run import Tools, call_other, close_report, make_report, open_engine
from buildtool.errors import BuildtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call
    from buildtool.stacks.model import Project


def build(call: Call) -> int:
    """Build the images of services that have a build section."""
    from buildtool.cli.stack_build import BuildOptions, build_services, build_words
    from buildtool.stacks.building import service_of, with_contexts
    from buildtool.stacks.graph import with_dependencies
    from buildtool.stacks.names import image_name

    project = load_project(call, call.arguments)
    chosen = call.arguments or list(project.services)
    if call.switch("with-dependencies"):
        chosen = with_dependencies(project, chosen)
    names = with_contexts(project, chosen)
    if not names:
        print("No services to build", file=sys.stderr)
        return 0
    options = BuildOptions(
        arguments=call.texts("build-arg"),
        no_cache=call.switch("no-cache"),
        pull=call.switch("pull"),
        ssh=call.text("ssh"),
        provenance=call.text("provenance"),
        sbom=call.text("sbom"),
        every_platform=True,
    )
    if call.switch("print"):
        print(json.dumps(_bake(project, names), indent=2))
        return 0
    if call.switch("check"):
        codes = [
            call_other(call, "build", ["--check", *build_words(project, name, service_of(project, name), options)])
            for name in names
        ]
        return max(codes)
    report = make_report(call)
    try:
        build_services(call, project, names, report, quiet=call.switch("quiet"), options=options)
    except BuildtoolError as error:
        from buildtool.cli.handlers.build import BuildFailed

        if not isinstance(error, BuildFailed):
            raise
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    finally:
        close_report(report)
    if call.switch("push"):
        for name in names:
            code = call_other(call, "push", [image_name(project, name, service_of(project, name))])
            if code:
                return code
    return 0


def _bake(project: Project, names: list[str]) -> dict[str, object]:
    """The builds in the form of docker-bake.json."""
    from buildtool.stacks.building import service_of
    from buildtool.stacks.names import image_name

    targets = {}
    for name in names:
        service = service_of(project, name)
        build = service["build"]
        target = {
            "context": build["context"],
            "dockerfile": build.get("dockerfile"),
            "dockerfile-inline": build.get("dockerfile_inline"),
            "args": build.get("args"),
            "labels": build.get("labels"),
            "tags": [image_name(project, name, service), *(build.get("tags") or [])],
            "target": build.get("target"),
            "platforms": build.get("platforms"),
            "cache-from": build.get("cache_from"),
            "cache-to": build.get("cache_to"),
            "no-cache": build.get("no_cache"),
            "pull": build.get("pull"),
        }
        targets[name] = {key: value for key, value in target.items() if value}
    return {"group": {"default": {"targets": names}}, "target": targets}


def pull(call: Call) -> int:
    """Pull the images of services."""
    from buildtool.stacks.graph import Walk, with_dependencies
    from buildtool.stacks.names import image_name

    project = load_project(call, call.arguments)
    engine = open_engine(call)
    chosen = call.arguments or list(project.services)
    if call.switch("include-deps"):
        chosen = with_dependencies(project, chosen)
    report = make_report(call)
    tools = Tools(call, report)
    failed: list[str] = []
    walk = Walk()
    for name in chosen:
        service = project.services[name]
        image = image_name(project, name, service)
        buildable = service.get("build") is not None
        if service.get("provider") or (buildable and (call.switch("ignore-buildable") or not service.get("image"))):
            continue
        missing_only = "missing" in (call.text("policy"), service.get("pull_policy")) and not call.given("policy")
        if (call.text("policy") == "missing" or missing_only) and engine.image(image) is not None:
            report.state("Image", image, "Skipped - Image is already present locally")
            continue

        def work(image: str = image, platform: str = service.get("platform") or "", soft: bool = buildable) -> None:
            try:
                tools.pull(image, platform)
            except BuildtoolError as error:
                if not call.switch("ignore-pull-failures") and not soft:
                    raise
                failed.append(image)
                report.warn(f"image {image} cannot be pulled: {error.message}")

        walk.add(("image", image), work)
    try:
        walk.run()
    finally:
        close_report(report)
    return 0


def push(call: Call) -> int:
    """Push the images of services that have a build section and a name for them."""
    from buildtool.stacks.graph import with_dependencies

    project = load_project(call, call.arguments)
    chosen = call.arguments or list(project.services)
    if call.switch("include-deps"):
        chosen = with_dependencies(project, chosen)
    for name in chosen:
        service = project.services[name]
        if service.get("build") is None or not service.get("image"):
            continue
        for image in [service["image"], *(service["build"].get("tags") or [])]:
            try:
                call_other(call, "push", [*(["--quiet"] if call.switch("quiet") else []), image])
            except BuildtoolError as error:
                if not call.switch("ignore-push-failures"):
                    raise
                print(f"WARNING: image {image} cannot be pushed: {error.message}", file=sys.stderr)
    return 0
