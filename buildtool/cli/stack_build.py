"""Building the images of services, with the command `build`: what it can, build sections can."""

from __future__ import annotations

import os
import tempfile

from buildtool.cli.parse import UsageError
from buildtool.stacks.building import context_services, service_of, with_contexts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from buildtool.cli.call import Call
    from buildtool.cli.parse import Flag
    from buildtool.stacks.model import Project
    from buildtool.stacks.report import Report


_CACHES = ("inline", "local", "registry", "s3")


class BuildOptions:
    """Flags of `compose build` that hold for every service."""

    def __init__(
        self,
        *,
        arguments: list[str] | None = None,
        no_cache: bool = False,
        pull: bool = False,
        ssh: str = "",
        provenance: str = "",
        sbom: str = "",
        every_platform: bool = False,
    ) -> None:
        self.arguments = list(arguments or [])
        self.no_cache = no_cache
        self.pull = pull
        self.ssh = ssh
        self.provenance = provenance
        self.sbom = sbom
        # `compose build` makes an index of all `platforms`; what is only to run here needs one.
        self.every_platform = every_platform


def build_services(
    call: Call,
    project: Project,
    names: list[str],
    report: Report,
    *,
    quiet: bool = False,
    options: BuildOptions | None = None,
    reasons: Mapping[str, str] | None = None,
) -> None:
    """Build them, each after the builds whose images it takes files from; equal steps are done once by the daemon.

    `reasons` are told: why a service's image is built. What each was built from is remembered.
    Raises BuildFailed with the words of the first build that fails.
    """
    from buildtool.client import quote_path
    from buildtool.stacks.built import Built, begin
    from buildtool.stacks.graph import Walk
    from buildtool.stacks.names import image_name

    options = options or BuildOptions()
    built = Built(project, str(call.client.address))
    walk = Walk()
    names = with_contexts(project, names)
    for name in names:
        service = service_of(project, name)
        for text in ignored(service, options):
            report.warn(f"services.{name}.build.{text}")

        def work(name: str = name, service: dict[str, Any] = service) -> None:
            image = image_name(project, name, service)
            report.state("Image", image, "Building", (reasons or {}).get(name, ""))
            if call.switch("dry-run"):
                return
            record = begin(service)
            made = _build(call, project, name, service, "quiet" if quiet or len(names) > 1 else "", options)
            if options.every_platform and len(service["build"].get("platforms") or ()) > 1:
                made = call.client.get(f"/images/{quote_path(image)}/json")["Id"]  # this machine's
            built.keep(name, record, made)
            report.state("Image", image, "Built")

        walk.add(("build", name), work, [("build", other) for other in context_services(service)])
    walk.run()


def ignored(service: Mapping[str, Any], options: BuildOptions) -> list[str]:
    """What of a build section has no effect here, and why."""
    build = service["build"]
    told = [
        f"{key} is ignored: {flag.help}"
        for key, value in _optional(build, options).items()
        if value and (flag := _without_effect(key)) is not None
    ]
    for key in ("cache_from", "cache_to"):
        told += [
            f"{key} {item} is ignored: there is no such cache" for item in build.get(key) or [] if _is_foreign(item)
        ]
    told += [f"{key} is ignored: it has no effect here" for key in ("isolation", "privileged") if build.get(key)]
    return told


def _optional(build: Mapping[str, Any], options: BuildOptions) -> dict[str, list[str]]:
    """What a build can do without, by the attribute: the values of the flag of that name."""
    found = {
        key: [item for item in build.get(key) or [] if not _is_foreign(item)] for key in ("cache_from", "cache_to")
    }
    for key, given in (("provenance", options.provenance), ("sbom", options.sbom)):
        value = given or build.get(key)
        found[key] = [value] if value and value != "false" else []
    return found


def _is_foreign(cache: str) -> bool:
    """Whether only others have caches of this type (`type=gha`): the specification wants them to be ignored."""
    kinds = [field.partition("=")[2] for field in cache.split(",") if field.startswith("type=")]
    return bool(kinds) and kinds[0] not in _CACHES


def _without_effect(key: str) -> Flag | None:
    """The flag of `build`, when it is one that `build` does nothing for."""
    from buildtool.cli import table

    name = key.replace("_", "-")
    flag = next(flag for flag in table.load("build").flags if flag.name == name)
    return flag if flag.kind == "absent" or flag.hidden else None


def _platform(service: Mapping[str, Any]) -> str:
    """The platform to build for: the service's, the environment's, this machine's if it is listed, the first one."""
    listed = service["build"].get("platforms") or []
    if not listed:
        return service.get("platform") or ""
    machine = os.uname().machine
    here = f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"
    wanted = (service.get("platform"), os.environ.get("DOCKER_DEFAULT_PLATFORM"), here)
    return next((item for item in wanted if item and item in listed), str(listed[0]))


def _build(
    call: Call, project: Project, name: str, service: dict[str, Any], progress: str, options: BuildOptions
) -> str:
    from buildtool.cli.handlers.build import build_image
    from buildtool.cli.stack_run import sub_call

    build = service["build"]
    inline = build.get("dockerfile_inline")
    with tempfile.TemporaryDirectory(prefix="buildtool-inline-") as folder:
        file = ""
        if inline:
            file = os.path.join(folder, "Dockerfile")
            with open(file, "w", encoding="utf-8") as out:
                out.write(inline)
        words = build_words(project, name, service, options, file)
        try:
            other = sub_call(call, "build", words, f"{call.name} ({name})")
        except UsageError as error:
            raise project.error(("services", name, "build"), f"cannot be built: {error.message}") from None
        shown = f"services.{name}.build.dockerfile_inline" if inline else ""
        return build_image(other, progress or other.text("progress"), shown)


def build_words(
    project: Project, name: str, service: dict[str, Any], options: BuildOptions, file: str = ""
) -> list[str]:
    """The command line of `build` that a build section stands for; flags that `build` lacks are refused by it."""
    from buildtool.stacks.names import image_name

    build = service["build"]
    words = ["--tag", image_name(project, name, service)]
    words += [word for tag in build.get("tags") or [] for word in ("--tag", tag)]
    words += _file_words(build, file)
    for key, value in (build.get("args") or {}).items():
        words += ["--build-arg", f"{key}={value}"]
    words += [word for item in options.arguments for word in ("--build-arg", item)]
    for key, value in (build.get("labels") or {}).items():
        words += ["--label", f"{key}={value}"]
    for flag, value in (("--target", build.get("target")), ("--network", build.get("network"))):
        words += [flag, value] if value else []
    if build.get("no_cache") or options.no_cache:
        words.append("--no-cache")
    if build.get("pull") or options.pull:
        words.append("--pull")
    words += [word for item in build.get("extra_hosts") or [] for word in ("--add-host", item.replace("=", ":", 1))]
    words += ["--shm-size", build["shm_size"]] if build.get("shm_size") else []
    for key, limit in (build.get("ulimits") or {}).items():
        text = f"{limit['soft']}:{limit['hard']}" if isinstance(limit, dict) else str(limit)
        words += ["--ulimit", f"{key}={text}"]
    listed = build.get("platforms") or []
    platform = ",".join(listed) if options.every_platform and listed else _platform(service)
    words += ["--platform", platform] if platform else []
    words += [word for item in build.get("no_cache_filter") or [] for word in ("--no-cache-filter", item)]
    for key, where in (build.get("additional_contexts") or {}).items():
        if where.startswith("service:"):
            other = where.removeprefix("service:")
            where = f"docker-image://{image_name(project, other, service_of(project, other))}"
        words += ["--build-context", f"{key}={where}"]
    words += _secret_words(project, build)
    for item in [*(build.get("ssh") or []), *([options.ssh] if options.ssh else [])]:
        words += ["--ssh", item]
    for key, values in _optional(build, options).items():
        if _without_effect(key) is None:
            words += [word for item in values for word in (f"--{key.replace('_', '-')}", item)]
    for item in build.get("entitlements") or []:
        words += ["--allow", item]
    return [*words, build["context"]]


def _file_words(build: dict[str, Any], file: str) -> list[str]:
    """`--file`: a Dockerfile that nobody named may also be a Buildfile."""
    if file:
        return ["--file", file]
    name = build.get("dockerfile") or "Dockerfile"
    path = os.path.join(build["context"], name)
    if name == "Dockerfile" and not os.path.exists(path):
        return []
    return ["--file", path]


def _secret_words(project: Project, build: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for use in build.get("secrets") or []:
        item = project.part("secrets")[use["source"]]
        name = use.get("target") or use["source"]
        variable = item.get("environment") or ""
        if variable in project.environment:
            os.environ.setdefault(variable, project.environment[variable])  # it may come from .env
        where = f"src={item['file']}" if item.get("file") else f"env={variable}"
        words += ["--secret", f"id={name},{where}"]
    return words
