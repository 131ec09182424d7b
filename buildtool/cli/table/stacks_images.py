"""The images of stacks, and their files in registries."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.stacks_project import SERVICES, YES, with_project

COMMANDS = {
    "compose build": Command(
        "stack_images:build",
        SERVICES,
        "Build the services' images",
        (
            Flag("build-arg", "", "list", "Set a build argument"),
            Flag("builder", "", "string", "Accepted for Docker's sake", hidden=True),
            Flag("compress", "", "bool", "Accepted for Docker's sake", hidden=True),
            Flag("force-rm", "", "bool", "Accepted for Docker's sake", hidden=True),
            Flag("no-rm", "", "bool", "Accepted for Docker's sake", hidden=True),
            Flag("parallel", "", "bool", "Accepted for Docker's sake", hidden=True),
            Flag("check", "", "bool", "Check the Buildfiles and build nothing"),
            Flag("memory", "m", "string", "Accepted for Docker's sake", hidden=True),
            Flag("no-cache", "", "bool", "Build without the cache"),
            Flag("print", "", "bool", "Print the builds as docker-bake JSON and build nothing"),
            Flag("provenance", "", "string", "Add a provenance attestation"),
            Flag("pull", "", "bool", "Look for newer base images"),
            Flag("push", "", "bool", "Push the images afterwards"),
            Flag("quiet", "q", "bool", "Show nothing"),
            Flag("sbom", "", "string", "Add an SBOM attestation"),
            Flag("ssh", "", "string", "SSH agent or keys"),
            Flag("with-dependencies", "", "bool", "Build also what the services depend on"),
        ),
    ),
    "compose pull": Command(
        "stack_images:pull",
        SERVICES,
        "Pull the services' images",
        (
            Flag("ignore-buildable", "", "bool", "Leave out what can be built"),
            Flag("ignore-pull-failures", "", "bool", "Go on when an image cannot be pulled"),
            Flag("include-deps", "", "bool", "Pull also what the services depend on"),
            Flag("no-parallel", "", "bool", "Accepted for Docker's sake", hidden=True),
            Flag("parallel", "", "bool", "Accepted for Docker's sake", hidden=True),
            Flag("policy", "", "string", '"missing" or "always"'),
            Flag("quiet", "q", "bool", "Show no progress"),
        ),
    ),
    "compose push": Command(
        "stack_images:push",
        SERVICES,
        "Push the services' images",
        (
            Flag("ignore-push-failures", "", "bool", "Go on when an image cannot be pushed"),
            Flag("include-deps", "", "bool", "Push also what the services depend on"),
            Flag("quiet", "q", "bool", "Show no progress"),
        ),
    ),
    "compose publish": Command(
        "stack_publish:publish",
        "[OPTIONS] REPOSITORY[:TAG]",
        "Put the stack's files into a registry, for -f oci://REPOSITORY[:TAG]",
        (
            Flag("app", "", "absent", "images are where their names say; they are not copied", hidden=True),
            Flag("oci-version", "", "string", "1.1, or 1.0 for registries that know no artifact types"),
            Flag("resolve-image-digests", "", "bool", "Pin images to their digests"),
            Flag("with-env", "", "bool", "Publish environment variables and env files too"),
            YES,
        ),
        minimum=1,
        maximum=1,
    ),
}
for _command in COMMANDS.values():
    _command.flags = with_project(_command.flags)
