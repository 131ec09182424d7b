"""Commands for the CI of others."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.images import COMMANDS as IMAGES

_OWN = (
    Flag(
        "cache",
        "",
        "string",
        "Where results are kept for the next job: registry (beside the image) or none",
        default="registry",
    ),
    Flag("code-quality", "", "string", "Write warnings and errors to this file, for GitLab"),
    Flag("dotenv", "", "string", "Write IMAGE, IMAGE_ID and IMAGE_DIGEST to this file, for later jobs"),
    Flag("image", "", "list", "Repository of the image, without a tag (default: what the CI says)"),
    Flag("push", "", "bool", "Push (default: all but pull and merge requests; --push=false: never)"),
    Flag("summary", "", "string", "Write the summary to this file (default: $GITHUB_STEP_SUMMARY)"),
)
_NAMES = {flag.name for flag in _OWN}
# The log is the job's page: no other way to show it.
_LEFT_OUT = ("progress", "quiet", "call", "check", "debug", "debug-at", "verify-reproducible")

COMMANDS = {
    "ci build": Command(
        "ci:build",
        "[OPTIONS] PATH | URL",
        "Build in a CI job: names, labels, cache and logins as the job says",
        (*_OWN, *(flag for flag in IMAGES["build"].flags if flag.name not in _NAMES and flag.name not in _LEFT_OUT)),
        minimum=1,
        maximum=1,
    ),
    "ci init": Command(
        "ci:init",
        "[OPTIONS] github|gitlab",
        "Write a pipeline that builds the image",
        (
            Flag("branch", "", "string", "Default branch", default="main"),
            Flag("context", "", "string", "Directory of the build context", default="."),
            Flag("force", "f", "bool", "Replace a pipeline that is there"),
            Flag("image", "", "string", "Repository of the image (default: the CI's own registry)"),
            Flag("platform", "", "list", "Build for these platforms (os/arch, repeatable or with commas)"),
            Flag("output", "o", "string", "Write to this file (-: STDOUT) instead of the CI's place"),
        ),
        minimum=1,
        maximum=1,
    ),
}
