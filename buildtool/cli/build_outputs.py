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

_FORM = ("compression", "compression-level", "force-compression", "oci-mediatypes")
_IMAGE = ("name", "name-canonical", "store", "unpack", *_FORM)
_KNOWN = {
    "image": ("push", *_IMAGE),
    "registry": ("push", *_IMAGE),
    "docker": ("dest", "name", "tar", *_FORM),
    "oci": ("dest", "name", "tar", *_FORM),
    "local": ("dest", "mode", "platform-split"),
    "tar": ("dest", "platform-split"),
    "cacheonly": (),
}
_TRUTH = {"true": True, "1": True, "": True, "false": False, "0": False}
_SWITCHES = ("force-compression", "name-canonical", "oci-mediatypes", "platform-split", "push", "store", "tar")
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
        return self.kind in ("image", "registry") or (self.kind == "docker" and not self.dest)

    @property
    def pushes(self) -> bool:
        """Whether the image goes to its registry."""
        return self.is_image and self.switch("push", default=self.kind == "registry")

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
        kept = [item for item in items if item.is_image]
        self.tags = list(dict.fromkeys([*names, *(name for item in kept for name in item.names)])) if kept else []

    @property
    def pushes(self) -> list[dict[str, str]]:
        """Every push, as the request of a build has them: its layers may go before it."""
        return [
            {"name": name} | {key.replace("-", "_"): value for key, value in item.form().items()}
            for item in self.items
            if item.pushes
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
            hint = f"It takes {', '.join(known)}." if known else "It takes nothing else."
            raise InvalidInput(f"--output type={kind}: unknown attribute {name!r}", hint=hint)
        elif name in _SWITCHES and value.lower() not in _TRUTH:
            raise InvalidInput(f"--output {name} is true or false, not {value!r}")
    output = Output(kind, attributes)
    if kind in ("local", "tar", "oci") and not output.dest:
        if kind == "local" or sys.stdout.isatty():
            raise InvalidInput(f"--output type={kind}: dest is missing", hint="write dest=PATH")
        output.dest = "-"
    return output


def _check(outputs: Outputs) -> None:
    """What can be known to go wrong before anything is built."""
    if sum(item.dest == "-" for item in outputs.items) > 1:
        raise InvalidInput("only one output can go to STDOUT")
    for item in outputs.items:
        compression = item.attributes.get("compression", "")
        if compression not in ("", "gzip", "zstd", "uncompressed"):
            hint = "There are gzip, zstd and uncompressed."
            raise InvalidInput(f"unsupported compression {compression!r}", hint=hint)
        if item.pushes and compression == "uncompressed":
            raise InvalidInput("layers are pushed compressed", hint="choose gzip or zstd")
        if item.pushes and not (outputs.names or item.names):
            raise InvalidInput("a push needs a name", hint="give one with -t, or name= of the output")
        mode = item.attributes.get("mode", "copy")
        if mode not in ("copy", "delete"):
            raise InvalidInput(f"--output: unknown mode {mode!r}", hint="There are copy and delete.")
        if item.dest == "-" and (item.kind == "local" or not item.switch("tar", default=True)):
            raise InvalidInput(f"--output type={item.kind}: a directory cannot go to STDOUT")
        if item.dest == "-" and sys.stdout.isatty():
            raise InvalidInput(f"--output type={item.kind}: refusing to write to a terminal", hint="write dest=FILE")
        if item.dest not in ("", "-") and item.kind != "local" and item.switch("tar", default=True):
            _check_file(item.dest)


def _check_file(path: str) -> None:
    if os.path.isdir(path):
        raise InvalidInput(f"--output: {path} is a directory", hint="dest= names a file here")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise InvalidInput(f"--output: there is no directory {os.path.dirname(path)}")
