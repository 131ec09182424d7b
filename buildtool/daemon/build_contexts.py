"""Contexts that are more than a directory: remote ones, uploaded archives, named ones. Blocking unless async."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from buildtool.cache import Lease
from buildtool.daemon.services import Services
from buildtool.encoding import decode_file
from buildtool.errors import BuildtoolError, Conflict, InvalidInput

if TYPE_CHECKING:
    from buildtool.solve.remotes import Access
    from buildtool.solve.request import NamedContext

OWN_NAMES = ("Buildfile", "Dockerfile", "dockerfile")
DOCKERS_NAMES = ("Dockerfile", "dockerfile", "Buildfile")


class ContextNotVisible(Conflict):
    """The daemon does not see the client's directory: the client sends its content instead."""

    code = "context-not-visible"


class ContextPlace(msgspec.Struct, forbid_unknown_fields=True):
    """A directory, as the client sees it."""

    path: str
    dev: int
    ino: int


class NamedPlace(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A named context: a URL (`url`: git, http(s), docker-image://, target:), or a directory of this machine.

    With `layout` the directory is an OCI layout, of which `tag` or `digest` names the image. `sent` tells that the
    directory comes with the request, as a tar.
    """

    url: str = ""
    place: ContextPlace | None = None
    sent: bool = False
    ignore: str | None = None
    layout: bool = False
    tag: str = ""
    digest: str = ""


@dataclass
class Given:
    """The context of a build. `text` is the Buildfile, when the remote context is nothing else than one: then the
    context is that file, called `context`, as in BuildKit. `source` is the key of what was fetched.
    """

    directory: Path | None = None
    key: str = ""
    epoch: int | None = None
    commit_epoch: int | None = None
    source: str = ""
    text: str | None = None
    said: list[str] = field(default_factory=list)
    sent: dict[str, Path] = field(default_factory=dict)
    """The directories of named contexts that came with the request."""


@dataclass(frozen=True)
class BuildText:
    """A Buildfile found in a context, and the ignore file that applies."""

    name: str
    text: str
    ignore: str | None
    ignore_name: str


async def remote_context(
    services: Services,
    url: str,
    access: Access,
    lease: Lease,
) -> Given:
    """Fetch the context that a URL names. Raises InvalidInput for what is no URL, FetchFailed."""
    from buildtool.aio import offload
    from buildtool.buildfile.remotes import is_http, parse_git
    from buildtool.graph import Remote
    from buildtool.graph.downloads import git_step

    given = Given(key=url)
    git = parse_git(url)
    if git is not None:
        keep = (access.variables.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR") or "").lower() in ("1", "true")
        step = git_step(git, keep_git_dir=keep)
    elif is_http(url):
        step = Remote("http", url.partition("#")[0], name="context", unpack=True)
    else:
        raise InvalidInput(
            f"the context {url} is no URL that can be fetched",
            hint="git repositories: https://….git, ssh://…, git@HOST:PATH; archives and Buildfiles: http(s)://…",
        )
    builder = await services.builder()
    fetched = await builder.remotes.fetch(step, access, lease, given.said.append)
    files = services.store.snapshots.fs(fetched.snapshot)
    given.epoch, given.source = fetched.epoch, fetched.key
    given.commit_epoch = fetched.epoch if step.kind == "git" else None
    given.directory = files
    if step.kind == "http" and not fetched.archive:
        given.text = decode_file(await offload((files / "context").read_bytes), url)
    return given


def read_text(directory: Path, wanted: str, names: Sequence[str], variables: Mapping[str, object]) -> BuildText:
    """The Buildfile of a context: the wanted one, else the first of `names`; templates and includes made plain.

    Nothing is read from outside the context. Raises InvalidInput.
    """
    root = os.path.realpath(directory)
    for name in [wanted] if wanted else names:
        path = _inside(root, name)
        if Path(path).is_file():
            text = _plain(root, name, decode_file(Path(path).read_bytes(), name), variables)
            ignore_name = f"{name}.dockerignore" if _is_file(root, f"{name}.dockerignore") else ".dockerignore"
            return BuildText(name, text, read_ignore(directory, ignore_name), ignore_name)
    raise InvalidInput(
        f"the context has no {wanted or ' or '.join(names[:2])}", hint="-f takes the path of a file in the context"
    )


def read_ignore(directory: Path, name: str = ".dockerignore") -> str | None:
    """The ignore file of a context, None when there is none."""
    root = os.path.realpath(directory)
    return decode_file(Path(_inside(root, name)).read_bytes(), name) if _is_file(root, name) else None


def _inside(root: str, name: str) -> str:
    path = os.path.realpath(f"{root}/{name}")
    if not path.startswith(f"{root}/"):
        raise InvalidInput(f"forbidden path outside the build context: {name}")
    return path


def _is_file(root: str, name: str) -> bool:
    return Path(_inside(root, name)).is_file()


def _plain(root: str, name: str, text: str, variables: Mapping[str, object]) -> str:
    from urllib.parse import urljoin

    from buildtool.buildfile.include import Included
    from buildtool.buildfile.preprocess import included, preprocess
    from buildtool.documents import is_document_url, read_document

    def load(path: str, includer: str) -> Included:
        if is_document_url(path) or is_document_url(includer):
            url = urljoin(includer, path) if is_document_url(includer) else path
            data = read_document(url)
            return included(url, url, data, decode_file(data, url), variables)
        joined = os.path.normpath(Path(includer).parent / path)
        inside = _inside(root, joined)
        try:
            data = Path(inside).read_bytes()
        except OSError as error:
            raise BuildtoolError(f"{joined}: {error.strerror}") from None
        return included(joined, joined, data, decode_file(data, joined), variables)

    return preprocess(text, name, os.path.normpath(name), variables, load)


def visible(place: ContextPlace) -> Path:
    """The directory, when it is the one the client sees and can be read. Raises ContextNotVisible."""
    path = Path(place.path)
    if not path.is_absolute():
        raise InvalidInput(f"the context's path must be absolute: {place.path}")
    try:
        found = path.stat()
    except OSError as error:
        raise ContextNotVisible(f"the daemon cannot see {path}: {error.strerror}") from None
    if (found.st_dev, found.st_ino) != (place.dev, place.ino):
        raise ContextNotVisible(f"the daemon sees another directory at {path} than the client")
    if not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
        raise ContextNotVisible(f"the daemon cannot read the directory {path}")
    return path


def named_contexts(
    services: Services, places: Mapping[str, NamedPlace], sent: Mapping[str, Path], platform: str
) -> dict[str, NamedContext]:
    """The named contexts of a request; `sent` are the directories that came with it.

    Raises InvalidInput, naming the context, and ContextNotVisible: then the client sends its directories.
    """
    found: dict[str, Any] = {}
    for name, place in places.items():
        try:
            found[name] = _named(services, name, place, sent.get(name), platform)
        except BuildtoolError as error:
            error.message = f"the context {name}: {error.message}"
            raise
    return found


def _named(services: Services, name: str, place: NamedPlace, sent: Path | None, platform: str) -> NamedContext:
    from buildtool.buildfile.remotes import file_name, is_http, parse_git
    from buildtool.graph import Remote
    from buildtool.graph.contexts import ImageContext, RemoteContext, StageContext
    from buildtool.graph.downloads import git_step
    from buildtool.oci import host_platform, parse_platforms, parse_reference
    from buildtool.solve.request import LocalContext

    directory = visible(place.place) if place.place is not None else sent
    if directory is not None:
        if not place.layout:
            return LocalContext(name, directory, place.ignore, key=f"{name} sent" if place.place is None else "")
        from buildtool.daemon.layout_context import load_layout

        wanted = {*parse_platforms(platform or "local"), host_platform()}
        ids = load_layout(services.images, directory, place.tag, place.digest, wanted)
        offered = [(services.images.get(each).config.platform, each) for each in ids]
        return ImageContext(ids[0], tuple(offered))
    url = place.url
    if url.startswith("docker-image://"):
        reference = url.removeprefix("docker-image://")
        parse_reference(reference)
        return ImageContext(reference)
    if url.startswith("target:"):
        return StageContext(url.removeprefix("target:"))
    git = parse_git(url)
    if git is not None:
        return RemoteContext(git_step(git))
    if is_http(url):
        return RemoteContext(Remote("http", url.partition("#")[0], name=file_name(url), unpack=True))
    raise InvalidInput(
        f"{url!r} cannot be a context",
        hint="there are PATH, git and http(s) URLs, docker-image://IMAGE, oci-layout://PATH and target:STAGE",
    )
