"""`config --resolve-image-digests` and `--lock-image-digests`: images by the digests that their registries name."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call
    from buildtool.stacks.model import Project


def pin(call: Call, project: Project) -> None:
    """Put the digest behind every image's name, in the project. Raises EngineError when a registry cannot tell."""
    for service in project.services.values():
        image = service.get("image")
        if image and "@" not in image:
            service["image"] = f"{image}@{_digest(call, image)}"


def lock_text(call: Call, project: Project) -> str:
    """An override file that has only the images with their digests."""
    from buildtool.stacks.emit import to_yaml

    pin(call, project)
    services = {
        name: {"image": service["image"]}
        for name, service in sorted(project.services.items())
        if service.get("image")
    }
    return to_yaml({"services": services})


def _digest(call: Call, image: str) -> str:
    from buildtool.cli import credentials
    from buildtool.client import quote_path

    answer = call.client.call(
        "GET", f"/distribution/{quote_path(image)}/json", headers=credentials.auth_headers(image)
    )
    digest: str = answer.json()["Descriptor"]["digest"]
    return digest
