"""`--output`, `--push`, `--load`, `--annotation`: what a build is to give out. Source: reference/build.md, 1.8."""

from __future__ import annotations

import os
import re
import sys

from buildtool.cli.build_caches import read_attributes
from buildtool.cli.build_request import platforms_of
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call

_FORM = ("compression", "compression-level", "force-compression", "oci-mediatypes", "oci-artifact",
         "rewrite-timestamp")  # fmt: skip
_IMAGE = ("dangling-name-prefix", "name", "name-canonical", "push", "push-by-digest", "registry.insecure", "store",
          "unpack", *_FORM)  # fmt: skip
_KNOWN = {
    "image": _IMAGE,
    "registry": _IMAGE,
    "docker": ("dest", "name", "tar", *_FORM),
    "oci": ("dest", "name", "tar", *_FORM),
    "local": ("attestation-prefix", "dest", "mode", "platform-split"),
    "tar": ("attestation-prefix", "dest", "platform-split"),
    "cacheonly": (),
}
_GONE = {
    "buildinfo": "provenance tells it now: --provenance=true",
    "buildinfo-attrs": "provenance tells it now: --provenance=mode=max",
    "context": "name the engine with --context or -H",
}
_FIXED = {
    "oci-artifact": "attestations are always OCI artifacts here",
    "rewrite-timestamp": "times in layers are never later than the image's, so that builds are reproducible",
}
_TRUTH = {"true": True, "1": True, "": True, "false": False, "0": False}
_SWITCHES = ("force-compression", "name-canonical", "oci-artifact", "oci-mediatypes", "platform-split", "push",
             "push-by-digest", "registry.insecure", "rewrite-timestamp", "store", "tar", "unpack")  # fmt: skip
_TYPE = re.compile(r"(?P<type>[a-z-]+)(?:\[(?P<platform>[^\]]*)\])?")
_ONE = r"[a-z-]+(?:\[[^\]]*\])?"
_ANNOTATION = re.compile(rf"(?:(?P<types>{_ONE}(?:,{_ONE})*):)?(?P<key>[^=:]+)=(?P<value>.*)", re.DOTALL)
_PLACES = ("manifest", "manifest-descriptor", "index", "index-descriptor")
_ATTRIBUTE = re.compile(r"annotation(?:-(?P<type>[a-z-]+?))?(?:\[(?P<platform>[^\]]*)\])?\.(?P<key>.+)")


class Output:
    """One output. `kind` is its type; `dest` where a file or directory is written ("-": STDOUT), "" nowhere here."""

    __slots__ = ("attributes", "dest", "kind", "names")

    def __init__(self, kind: str, attributes: dict[str, str]) -> None:
        self.kind = kind
        self.attributes = attributes
        self.names = [name for name in attributes.get("name", "").split(",") if name]
        self.dest = attributes.get("dest", "")

    @property
    def is_image(self) -> bool:
        """Whether the image stays in the daemon."""
        here = self.kind in ("image", "registry") or (self.kind == "docker" and not self.dest)
        return here and self.switch("store", default=True)

    @property
    def pushes(self) -> bool:
        """Whether the image goes to its registry."""
        return self.kind in ("image", "registry") and self.switch("push", default=self.kind == "registry")

    @property
    def by_digest(self) -> bool:
        """Whether the push makes no tag, here or there."""
        return self.switch("push-by-digest")

    @property
    def docker_types(self) -> bool:
        """Whether manifests are to have Docker's media types."""
        return not self.switch("oci-mediatypes", default=True)

    def switch(self, name: str, *, default: bool = False) -> bool:
        """A boolean attribute."""
        return _TRUTH[self.attributes[name].lower()] if name in self.attributes else default

    def form(self) -> dict[str, str]:
        """The attributes about compression, as queries have them."""
        return {name: self.attributes[name] for name in _FORM[:3] if name in self.attributes}


class Outputs:
    """All of a build's. `tags` are the image's names in the daemon, `annotations` those of its manifest, `annotate`
    those of anything else: of one platform's manifest, of descriptors, of the index.
    """

    __slots__ = ("annotate", "annotations", "items", "names", "tags")

    def __init__(
        self, items: list[Output], names: list[str], annotations: dict[str, str], annotate: list[dict[str, str]]
    ) -> None:
        self.items = items
        self.annotate = annotate
        self.names = names
        self.annotations = annotations
        kept = [item for item in items if item.is_image and not item.by_digest]
        self.tags = list(dict.fromkeys([*names, *(name for item in kept for name in item.names)])) if kept else []

    @property
    def pushes(self) -> list[dict[str, str]]:
        """Every push, as the request of a build has them: its layers may go before it."""
        return [
            {"name": name} | {key.replace("-", "_"): value for key, value in item.form().items()}
            for item in self.items
            if item.pushes and not item.switch("registry.insecure")
            for name in dict.fromkeys([*self.names, *item.names])
        ]

    @property
    def keeps_image(self) -> bool:
        """Whether the image stays in the daemon."""
        return any(item.is_image for item in self.items)


def read_outputs(call: Call) -> Outputs:
    """What the flags say. Raises InvalidInput."""
    marks = _Annotations(platforms_of(call))
    items = [_read(item, marks) for item in call.texts("output")]
    items += [Output("registry", {})] if call.switch("push") else []
    items += [Output("docker", {})] if call.switch("load") and not any(each.is_image for each in items) else []
    for text in call.texts("annotation"):
        match = _ANNOTATION.fullmatch(text)
        if match is None:
            raise InvalidInput(f"invalid --annotation {text!r}: write KEY=VALUE")
        for place in (match["types"] or "manifest").split(","):
            kind = _TYPE.fullmatch(place)
            assert kind is not None
            marks.add(kind["type"], kind["platform"], match["key"], match["value"], text)
    outputs = Outputs(items or [Output("image", {})], call.texts("tag"), marks.plain, marks.others)
    _check(outputs)
    stated = any(call.given(name) for name in ("attest", "provenance", "sbom"))
    if any(item.docker_types for item in outputs.items) and (stated or outputs.annotations or outputs.annotate):
        raise InvalidInput(
            "oci-mediatypes=false: Docker's media types have neither annotations nor attestations",
            hint="leave them, or oci-mediatypes=false, out",
        )
    return outputs


class _Annotations:
    """What is to be annotated, of a build for these platforms."""

    def __init__(self, platforms: list[str]) -> None:
        self._platforms = platforms
        self.plain: dict[str, str] = {}
        self.others: list[dict[str, str]] = []

    def add(self, place: str, platform: str | None, key: str, value: str, text: str) -> None:
        """One annotation; `text` is how it was given. Raises InvalidInput."""
        if place not in _PLACES:
            hint = f"There are {', '.join(_PLACES)}."
            raise InvalidInput(f"invalid annotation {text!r}: nothing is called {place!r}", hint=hint)
        if place != "manifest" and len(self._platforms) < 2:
            raise InvalidInput(
                f"invalid annotation {text!r}: only manifests can be annotated",
                hint="an image of one platform has no index; write KEY=VALUE or manifest:KEY=VALUE",
            )
        if platform is not None:
            self._check_platform(place, platform, text)
        if place == "manifest" and platform is None:
            self.plain[key] = value
        else:
            self.others.append({"on": place, "platform": platform or "", "key": key, "value": value})

    def _check_platform(self, place: str, platform: str, text: str) -> None:
        from buildtool.oci import host_platform, parse_platform, parse_platforms

        if place.startswith("index"):
            raise InvalidInput(f"invalid annotation {text!r}: an index has no platform")
        wanted = parse_platforms(",".join(self._platforms)) if self._platforms else [host_platform()]
        if parse_platform(platform) not in wanted:
            built = ", ".join(str(each) for each in wanted)
            raise InvalidInput(
                f"invalid annotation {text!r}: nothing is built for {platform}", hint=f"It is built for {built}."
            )


def _read(text: str, marks: _Annotations) -> Output:
    if "=" not in text:
        attributes = {"type": "tar" if text == "-" else "local", "dest": text}
    else:
        attributes = read_attributes("output", text)
    kind = attributes.pop("type", "")
    known = _KNOWN.get(kind)
    if known is None:
        raise InvalidInput(f"--output: unknown type {kind!r}", hint=f"There are {', '.join(sorted(_KNOWN))}.")
    for name, value in list(attributes.items()):
        match = _ATTRIBUTE.fullmatch(name)
        if match is not None and "name" in known:
            marks.add(match["type"] or "manifest", match["platform"], match["key"], attributes.pop(name), name)
        elif name not in known:
            raise InvalidInput(f"--output type={kind}: unknown attribute {name!r}", hint=_meant(name, known))
        elif name in _SWITCHES and value.lower() not in _TRUTH:
            raise InvalidInput(f"--output {name} is true or false, not {value!r}")
        elif name in _FIXED and not _TRUTH[value.lower()]:
            raise InvalidInput(f"--output type={kind}: {name}=false is not possible", hint=_FIXED[name])
    output = Output(kind, attributes)
    if kind in ("local", "tar", "oci") and not output.dest:
        if kind == "local" or sys.stdout.isatty():
            raise InvalidInput(f"--output type={kind}: dest is missing", hint="write dest=PATH")
        output.dest = "-"
    return output


def _meant(name: str, known: tuple[str, ...]) -> str:
    """What an unknown attribute may have been meant to be."""
    import difflib

    if name in _GONE:
        return _GONE[name]
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"It takes {', '.join(sorted(known))}." if known else "It takes nothing else."


def _check(outputs: Outputs) -> None:
    """What can be known to go wrong before anything is built."""
    if sum(item.dest == "-" for item in outputs.items) > 1:
        raise InvalidInput("only one output can go to STDOUT")
    for item in outputs.items:
        compression = item.attributes.get("compression", "")
        if compression not in ("", "gzip", "zstd", "uncompressed"):
            hint = "There are gzip, zstd and uncompressed."
            raise InvalidInput(f"unsupported compression {compression!r}", hint=hint)
        if item.docker_types and compression == "zstd":
            raise InvalidInput("oci-mediatypes=false: Docker's media types know gzip only", hint="choose gzip")
        _check_names(item, [*outputs.names, *item.names])
        if "/" in item.attributes.get("attestation-prefix", ""):
            raise InvalidInput("--output attestation-prefix: it is the beginning of file names, which have no slash")
        mode = item.attributes.get("mode", "copy")
        if mode not in ("copy", "delete"):
            raise InvalidInput(f"--output: unknown mode {mode!r}", hint="There are copy and delete.")
        if item.dest == "-" and (item.kind == "local" or not item.switch("tar", default=True)):
            raise InvalidInput(f"--output type={item.kind}: a directory cannot go to STDOUT")
        if item.dest == "-" and sys.stdout.isatty():
            raise InvalidInput(f"--output type={item.kind}: refusing to write to a terminal", hint="write dest=FILE")
        if item.dest not in ("", "-") and item.kind != "local" and item.switch("tar", default=True):
            _check_file(item.dest)


def _check_names(item: Output, names: list[str]) -> None:
    if item.pushes and not names:
        raise InvalidInput("a push needs a name", hint="give one with -t, or name= of the output")
    if item.kind in ("image", "registry") and not (item.pushes or item.is_image):
        raise InvalidInput("--output store=false: what is not pushed either is nowhere", hint="add push=true")
    if item.by_digest and not item.pushes:
        raise InvalidInput("--output push-by-digest: nothing is pushed", hint="add push=true")
    tagged = [name for name in names if ":" in name.rpartition("/")[2]]
    if item.by_digest and tagged:
        raise InvalidInput(f"--output push-by-digest: {tagged[0]} has a tag", hint="name the repository alone")


def _check_file(path: str) -> None:
    if os.path.isdir(path):
        raise InvalidInput(f"--output: {path} is a directory", hint="dest= names a file here")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise InvalidInput(f"--output: there is no directory {os.path.dirname(path)}")
