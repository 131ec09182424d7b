"""The kinds of steps a build consists of, as plain values.

A step knows what is done, not to what: its inputs are other steps, held by the graph's nodes. `definition` gives
the canonical JSON object that goes into cache keys and that `explain` compares; equal definitions on equal inputs
are one step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NewType, TypeAlias

import msgspec

from buildtool.buildfile.checks import is_secret_name
from buildtool.buildfile.instructions import AS_USUAL, Execution
from buildtool.errors import Span
from buildtool.oci import Digest, sha256

StepId = NewType("StepId", str)

KEY_VERSION = 2
"""Part of every key: raised when the meaning of a step changes, so that no old record is used for a new meaning."""


@dataclass(frozen=True, slots=True)
class Source:
    """The file tree of a base image, named by content; an empty `chain_id` is `scratch`, the empty tree.

    `reference` is how the Buildfile names it; it is no part of the key.
    """

    chain_id: str
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Remote:
    """A tree that has to be fetched before the build's keys are known: it is named by what is in it, then.

    `http`: one file called `name`; with `unpack` a tar archive is the tree itself. `git`: `ref` of the repository
    ("": its default branch), of it the directory `subdir`. `checksum` is a digest, or the beginning of a commit.
    """

    kind: Literal["http", "git"]
    url: str
    name: str = ""
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool = False
    submodules: bool = True
    unpack: bool = False


@dataclass(frozen=True, slots=True)
class InlineFile:
    """A heredoc of COPY or ADD: a file whose content stands in the Buildfile."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY and ADD. Input 0 is the tree copied onto (absent with `link`), the last one the tree copied from.

    `from_context` means that the files come from the build context: then there is no input for them. `sources` and
    `excludes` are expanded patterns. `destination` is absolute and clean; its trailing slash (kept) means "a
    directory". `unpack`: None unpacks what is a local tar archive (ADD), True demands it, False (COPY) never does.
    With `if_exists` sources that are not there are left out. `context` names another context than the build's own.
    """

    sources: tuple[str, ...]
    destination: str
    from_context: bool
    inline: tuple[InlineFile, ...] = ()
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    unpack: bool | None = False
    if_exists: bool = False
    context: str = ""


@dataclass(frozen=True, slots=True)
class Mkdir:
    """WORKDIR: the directory exists afterwards; new ones have mode 0755 and belong to `user`. Input 0: the tree."""

    path: str
    user: str = ""


MountType: TypeAlias = Literal["bind", "cache", "tmpfs", "secret", "ssh"]


@dataclass(frozen=True, slots=True)
class StepMount:
    """One `RUN --mount`. `input` is the index of the node's input whose tree it shows; of a cache mount, as which it
    begins.
    """

    type: MountType
    target: str
    source: str = ""
    input: int | None = None
    readonly: bool = False
    id: str = ""
    sharing: str = "shared"
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    required: bool = False
    env: str = ""


@dataclass(frozen=True, slots=True)
class StepDevice:
    """One `RUN --device`: a path or a CDI name. One that is not `required` may be missing."""

    name: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Exec:
    """RUN. Input 0 is the root file tree, further inputs are those of `mounts`.

    `build_args` are the declared ARGs in force (ENV wins over them); `hidden_args` (predefined proxy variables) are
    seen by the command and are no part of the key. `script` is a file to be executed at /dev/pipes/<name>.
    `hostname` is empty for the usual one. `execution` (no part of the key either) says how often and how long it is
    tried, and whether a result may be used.
    """

    args: tuple[str, ...]
    cwd: str
    user: str
    env: tuple[str, ...]
    build_args: tuple[tuple[str, str], ...] = ()
    hidden_args: tuple[tuple[str, str], ...] = ()
    mounts: tuple[StepMount, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    devices: tuple[StepDevice, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    script: InlineFile | None = None
    platform: str = ""
    execution: Execution = AS_USUAL
    hostname: str = ""


@dataclass(frozen=True, slots=True)
class Merge:
    """COPY --link: the layer of input 1, which was made from nothing, on top of the tree of input 0.

    Directories on the way to its files stay as they are in that tree. `onto_image`: the tree is that of an image and
    of nothing but such layers; then only what these have counts, so that nobody needs to look into the image.
    """

    onto_image: bool = False


@dataclass(frozen=True, slots=True)
class Squash:
    """The last `layers` layers of the last input as one, on the tree of input 0 (with one input: on nothing).

    An ADD that takes from several places is several Copy steps, and yet one layer.
    """

    layers: int


Step: TypeAlias = Source | Remote | Copy | Mkdir | Exec | Merge | Squash


@dataclass(frozen=True, slots=True)
class Node:
    """A step in its place. `inputs` are the steps whose trees it needs; `name` is what progress shows (empty:
    nothing).

    `site` names the instruction across builds (stage and position): explain compares with what was there before.
    `places` tell where the sources of a Copy stand.
    """

    id: StepId
    step: Step
    inputs: tuple[StepId, ...]
    name: str
    stage: str
    site: str
    span: Span | None
    places: tuple[tuple[str, Span], ...] = ()

    @property
    def parent(self) -> StepId | None:
        """The step whose tree this one's layer lies on; None for a Source and for what is made from nothing."""
        if self.is_source or not self.inputs or (isinstance(self.step, Copy) and self.step.link):
            return None
        return None if isinstance(self.step, Squash) and len(self.inputs) == 1 else self.inputs[0]

    @property
    def has_layer(self) -> bool:
        """Whether the step adds a layer to the image (Merge does: the one of its second input)."""
        return not self.is_source

    @property
    def is_source(self) -> bool:
        """Whether the tree is not made by the build: a base image, or something fetched."""
        return isinstance(self.step, Source | Remote)


def definition(step: Step) -> dict[str, Any]:
    """The step as a canonical JSON object: what it does, all that its result can depend on besides its inputs.

    Preimages are written down and travel: of a variable that is called like a secret only a digest is in it.
    """
    fields: dict[str, Any] = msgspec.to_builtins(step)
    if isinstance(step, Source):
        del fields["reference"]
    elif isinstance(step, Exec):
        del fields["hidden_args"], fields["execution"]
        fields["build_args"] = [(name, _kept(name, value)) for name, value in step.build_args]
        variables = [variable.partition("=")[::2] for variable in step.env]
        fields["env"] = [f"{name}={_kept(name, value)}" for name, value in variables]
        if step.security == "sandbox":
            del fields["security"]  # nor has a plain RUN what was not there before
        if not step.devices:
            del fields["devices"]
        fields["mounts"] = [_mount_definition(mount) for mount in step.mounts]
        fields["extra_hosts"] = [host.partition(":")[0] for host in step.extra_hosts]
        if not step.hostname:
            del fields["hostname"]
    elif isinstance(step, Merge):
        if not step.onto_image:
            del fields["onto_image"]
    elif isinstance(step, Copy):
        for name in ("if_exists", "context"):  # the keys of a plain COPY are those from before there were these
            if not fields[name]:
                del fields[name]
    return {"op": type(step).__name__.lower(), **fields}


def content_definition(step: Step) -> dict[str, Any]:
    """The definition without what a digest of the selected files replaces: the names they are selected by."""
    fields = definition(step)
    if isinstance(step, Copy):
        for name in ("sources", "excludes", "from_context", "parents", "context"):
            fields.pop(name, None)
    return fields


def _kept(name: str, value: str) -> str:
    return sha256(f"{name}={value}".encode(errors="surrogateescape")) if value and is_secret_name(name) else value


def _mount_definition(mount: StepMount) -> dict[str, Any]:
    """Cache mounts never key by their identity or contents, secrets and agents never by their values."""
    fields: dict[str, Any] = msgspec.to_builtins(mount)
    if mount.type == "cache":
        for name in ("id", "sharing"):
            del fields[name]
    return fields


def digest_of(preimage: dict[str, Any]) -> Digest:
    """The key that a preimage gives: SHA-256 of its canonical JSON (sorted keys, no spaces)."""
    return sha256(msgspec.json.encode(preimage, order="sorted"))


def step_id(step: Step, inputs: tuple[StepId, ...]) -> StepId:
    """The identity of a step in a graph: equal steps on equal inputs are the same one."""
    preimage = {"v": KEY_VERSION, "step": definition(step), "inputs": list(inputs)}
    if isinstance(step, Exec) and step.execution != AS_USUAL:
        preimage["execution"] = msgspec.to_builtins(step.execution)
    return StepId(digest_of(preimage))
