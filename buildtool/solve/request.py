"""What a build is asked for, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from buildtool.errors import Span
from buildtool.graph.contexts import (
    Context,
    DirectoryContext,
    ImageContext,
    RemoteContext,
    StageContext,
    familiar,
)
from buildtool.images import Image, LayerSource
from buildtool.images.attestations import Wanted
from buildtool.images.forms import Compression
from buildtool.images.groups import Group
from buildtool.oci import Platform, parse_platform
from buildtool.solve.caches.options import Caches
from buildtool.solve.debugger import DebugOptions
from buildtool.solve.explain import Difference
from buildtool.solve.run_agent import Dial


@dataclass(frozen=True, slots=True)
class LocalContext:
    """A named context that is a directory of this machine, with the ignore file that applies to it.

    `key` names it over time, as a request's `context_key` does (empty: its name and path).
    """

    name: str
    directory: Path
    ignore: str | None = None
    ignore_name: str = ".dockerignore"
    key: str = ""


NamedContext: TypeAlias = LocalContext | ImageContext | StageContext | RemoteContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """One annotation. `on`: manifest, manifest-descriptor, index or index-descriptor; `platform` for the former two:
    of that platform's image, empty: of all."""

    on: Literal["manifest", "manifest-descriptor", "index", "index-descriptor"]
    key: str
    value: str
    platform: str = ""


def marks(annotate: Sequence[Annotation], on: str, platform: Platform | None = None) -> dict[str, str]:
    """The annotations on one thing; those that name the platform win."""
    fitting = [
        each
        for each in annotate
        if each.on == on
        and (not each.platform or (platform is not None and parse_platform(each.platform) == platform))
    ]
    return {each.key: each.value for each in sorted(fitting, key=lambda each: bool(each.platform))}


class Destination(Protocol):
    """A repository that the image is going to be pushed to; layers go there while other steps still run.

    Nothing fails here: the push that follows meets what went wrong, and tells. `compression` is that push's.
    """

    compression: Compression

    def begin(self, layer: LayerSource) -> None:
        """Bring a layer of the image there, in the background, also after the build has ended."""

    def begin_image(self, image: Image) -> None:
        """The same for those layers of its base that are here."""

    def cancel(self) -> None:
        """The build has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build. Only `dockerfile` is needed.

    `context` is a directory this process may read (None: nothing can be copied from it); `context_key` names it
    over time, for the index of file digests (empty: its path). `contexts` are the named ones.
    `ignore` is the text of the ignore file that
    applies. `no_cache_filter` names stages whose RUN steps are executed anew.
    `build_args`: None as a value means "declared, without a value". `platform` is `os/arch[/variant]`, several of
    them with commas between (then the tags name an index of all their images), or empty. `network_mode`: default,
    host, none or a network's name. `memory` and its kin limit each RUN step and are no part of any cache key; nor is
    `jobs`, how many steps may run at a time (0: as many as there are places).
    `isolation` "chroot": RUN steps by chroot alone (see run_chroot).
    `context_mode` "git": files of the context have mode 0644 or 0755, directories 0755, whatever the umask was.
    `cutoff_ignore`: patterns as in an ignore file; what they match does not count when two trees are compared for
    early cutoff.
    `epoch` is SOURCE_DATE_EPOCH in seconds, `context_epoch` what it is when it is
    "context", `commit_epoch` the time of the context's commit (see PlanOptions); `context_source` is the key of what
    was fetched, for a context that is a URL. `attest`: what is to be stated about the image. `caches`: those that
    travel. `annotations` are those of the images' manifests; `annotate` are those of one platform's image, of its
    descriptor, and of the index. `destinations`: where it will be pushed to. `registry_auth` is handed to the
    BaseRegistry as it is. `secrets` are values by id and `agents` open connections to ssh agents by id, both for
    RUN --mount; neither is
    written anywhere. `entitlements`: what RUN steps may have beyond the sandbox (see PlanOptions).
    """

    dockerfile: str
    dockerfile_name: str = "Buildfile"
    context: Path | None = None
    context_key: str = ""
    context_mode: str = ""
    contexts: dict[str, NamedContext] = field(default_factory=dict)
    ignore: str | None = None
    ignore_name: str = ".dockerignore"
    tags: tuple[str, ...] = ()
    build_args: dict[str, str | None] = field(default_factory=dict)
    target: str = ""
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    pull: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    platform: str = ""
    network_mode: str = "default"
    extra_hosts: tuple[str, ...] = ()
    shm_size: int = 0
    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    ulimits: tuple[dict[str, Any], ...] = ()
    cgroup_parent: str = ""
    secrets: dict[str, bytes] = field(default_factory=dict, repr=False)
    agents: dict[str, Dial] = field(default_factory=dict, repr=False)
    entitlements: frozenset[str] = frozenset()
    debug: DebugOptions | None = field(default=None, repr=False)
    epoch: int | None = None
    context_epoch: int | None = None
    context_source: str = ""
    commit_epoch: int | None = None
    attest: Wanted | None = None
    explain: bool = False
    jobs: int = 0
    isolation: str = ""
    cutoff_ignore: tuple[str, ...] = ()
    registry_auth: dict[str, Any] = field(default_factory=dict, repr=False)
    caches: Caches = field(default_factory=Caches)
    annotations: dict[str, str] = field(default_factory=dict)
    annotate: tuple[Annotation, ...] = ()
    destinations: tuple[Destination, ...] = field(default=(), repr=False)

    def annotations_for(self, platform: Platform) -> dict[str, str]:
        """Those of the manifest of one platform's image."""
        return self.annotations | marks(self.annotate, "manifest", platform)

    def named_contexts(self) -> dict[str, Context]:
        """The named contexts as planning sees them."""
        return {
            familiar(name): DirectoryContext(each.name) if isinstance(each, LocalContext) else each
            for name, each in self.contexts.items()
        }


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What became of one step. `miss_reason` is empty for a hit, else why the cache did not have it, in one line;
    `differences` are all of the reasons.

    `hit` names the key that found it: `definition`, `content`, `tree` (early cutoff), `base` for a base image,
    `unneeded` when nothing asked for it, `shared` when another build executed it at the same time; empty when it was
    executed here. `status` is `cached`, `done`, `failed` or, of a build that ended before, `canceled` or `pending`.
    `index` counts as in events, 0 for what is not shown; `inputs` are indexes. `started` and `waited` (for a free
    place) are seconds, the former since the steps began. `cpu` is the number of processors it kept busy.
    """

    name: str
    key: str
    cached: bool
    seconds: float
    miss_reason: str
    status: str = "done"
    hit: str = ""
    index: int = 0
    stage: str = ""
    place: str = ""
    inputs: tuple[int, ...] = ()
    started: float = 0.0
    waited: float = 0.0
    cpu: float = 0.0
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildWarning:
    """A build check that fired, or something the daemon noticed."""

    message: str
    where: Span | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


@dataclass(frozen=True, slots=True)
class BuildResult:
    """A finished build: the registered image, its steps in the order of the Buildfile, the warnings, its id in the
    history. `is_new`: the image was not here before. `images` are those of all platforms, `image` the first of them;
    `index` is what names them when there are several.
    """

    image: Image
    steps: list[StepRecord]
    warnings: list[BuildWarning]
    id: str = ""
    is_new: bool = False
    images: tuple[Image, ...] = ()
    index: Group | None = None
