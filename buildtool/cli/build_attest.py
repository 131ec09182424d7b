"""`--attest`, `--provenance` and `--sbom` of a build, as buildx takes them."""

from __future__ import annotations

import os

from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.build_input import BuildInput
    from buildtool.cli.call import Call

_TRUTH = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
_PREDICATES = {
    "provenance": ("https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2"),
    "sbom": ("https://spdx.dev/Document", "https://cyclonedx.org/bom"),
}
_OPTIONS = {
    "provenance": ("mode", "builder-id", "reproducible", "version", "inline-only", "disabled"),
    "sbom": ("format", "generator", "disabled"),
}


def read_attest(call: Call, source: BuildInput) -> dict[str, Any]:
    """The request's `attest`; {} when nothing was asked for. Raises InvalidInput."""
    items = [_read(text, f"--attest {text}") for text in call.texts("attest")]
    for kind in ("provenance", "sbom"):
        if call.given(kind):
            text = call.text(kind)
            truth = _TRUTH.get(text.lower())
            rest = text if truth is None else f"disabled={str(not truth).lower()}"
            items.append(_read(f"type={kind},{rest}", f"--{kind} {text}"))
    found: dict[str, Any] = {}
    for options in items:  # of one kind the last counts
        found |= _provenance(options) if options["type"] == "provenance" else _sbom(options)
    without = [kind for name, kinds in _PREDICATES.items() if found.get(name) in ("", []) for kind in kinds]
    if without:
        found["without"] = without
    if found.get("provenance"):
        found["vcs"] = git_facts(source.directory)
    return found


def inline_only(call: Call) -> bool:
    """Whether provenance is to be in images only, not in files beside those of `local` and `tar` outputs."""
    texts = [f"type=provenance,{call.text('provenance')}"] if call.given("provenance") else []
    for text in reversed([*call.texts("attest"), *texts]):
        options = _options(text)
        if options.get("type") == "provenance":
            return options.get("inline-only", "false").lower() in ("", "1", "true")
    return False


def _options(text: str) -> dict[str, str]:
    parts = (part.partition("=") for part in text.split(","))
    return {name.strip().lower(): value.strip() for name, _, value in parts}


def _read(text: str, shown: str) -> dict[str, str]:
    options = _options(text)
    kind = options.get("type", "")
    if kind not in _OPTIONS:
        raise InvalidInput(f"{shown}: unknown type {kind!r} of attestation", hint="There are provenance and sbom.")
    for name in options:
        if name not in (*_OPTIONS[kind], "type"):
            raise InvalidInput(f"{shown}: unknown option {name!r}", hint=f"{kind} takes {', '.join(_OPTIONS[kind])}.")
    for name in ("disabled", "reproducible", "inline-only"):
        if name in options:
            options[name] = "1" if _truth(options[name], shown, name) else ""
    options["shown"] = shown
    return options


def _truth(text: str, shown: str, name: str) -> bool:
    truth = _TRUTH.get(text.lower() or "true")
    if truth is None:
        raise InvalidInput(f"{shown}: {name} is true or false, not {text!r}")
    return truth


def _provenance(options: dict[str, str]) -> dict[str, Any]:
    if options.get("disabled"):
        return {"provenance": ""}
    shown, mode = options["shown"], options.get("mode", "") or "min"
    if mode not in ("min", "max"):
        raise InvalidInput(f"{shown}: unknown mode {mode!r}", hint="There are min and max.")
    version = options.get("version", "") or "v1"
    if version not in ("v1", "v0.2"):
        raise InvalidInput(f"{shown}: unknown version {version!r} of SLSA provenance", hint="There are v1 and v0.2.")
    return {
        "provenance": mode,
        "version": version,
        "builder_id": options.get("builder-id", ""),
        "reproducible": bool(options.get("reproducible")),
    }


def _sbom(options: dict[str, str]) -> dict[str, Any]:
    if options.get("disabled"):
        return {"sbom": []}
    shown, form, generator = options["shown"], options.get("format", "") or "spdx", options.get("generator", "")
    if generator and "format" in options:
        raise InvalidInput(f"{shown}: a generator decides on the format itself", hint="Leave one of them out.")
    forms = form.split("+")
    if any(each not in ("spdx", "cyclonedx") for each in forms):
        raise InvalidInput(f"{shown}: unknown format {form!r}", hint="There are spdx, cyclonedx and spdx+cyclonedx.")
    return {"sbom": forms, "generator": generator}


def git_facts(directory: str) -> dict[str, str]:
    """Revision and origin of the repository that the context is in, {} when it is in none (or git is missing)."""
    if not directory or os.environ.get("BUILDX_GIT_INFO", "").lower() in ("0", "false"):
        return {}
    from buildtool.cli.git_commit import git_directory, run_git

    if not git_directory(directory):
        return {}
    revision = run_git(directory, "rev-parse", "HEAD")
    if not revision:
        return {}
    if run_git(directory, "diff-index", "--name-only", "HEAD", "--", "."):
        revision += "-dirty"
    origin = run_git(directory, "config", "--get", "remote.origin.url") or ""
    scheme, separator, rest = origin.partition("://")
    if separator:
        host, slash, path = rest.partition("/")
        origin = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    return {"revision": revision} | ({"source": origin} if origin else {})
