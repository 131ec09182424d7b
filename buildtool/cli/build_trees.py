"""`--output type=local` and `type=tar`: the file trees of a build's images, one for each platform.

With several platforms each has its directory (`linux_amd64/`), unless platform-split=false: then all are one tree, in
which no two may have a file of the same name. Beside the files lie the statements about the image.
Source: docker docs, "Local and tar exporters"; moby/buildkit, docs/attestations/attestation-storage.md.
"""

from __future__ import annotations

import os
import sys
import tarfile
from contextlib import ExitStack

from buildtool.cli.archives import write_stream
from buildtool.cli.build_statements import file_names
from buildtool.cli.copying import BodyReader, extract
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Any

    from buildtool.cli.build_outputs import Output
    from buildtool.cli.call import Call
    from buildtool.client import Response

Stated = dict[str, list[dict[str, "Any"]]]


def write_trees(call: Call, images: list[dict[str, Any]], item: Output, stated: Stated) -> None:
    """Write the trees to where the output says, as a directory or an archive."""
    split = item.switch("platform-split", default=len(images) > 1)
    if item.kind == "tar":
        if len(images) == 1 and not split and not stated.get(images[0]["id"]):
            write_stream(_tree(call, images[0]), "" if item.dest == "-" else item.dest, "the tar archive")
        else:
            _write_tar(call, images, item, stated, split=split)
        return
    if len(images) > 1 and not split:
        _refuse_twice(call, images)
    os.makedirs(item.dest, exist_ok=True)
    if item.attributes.get("mode") == "delete":
        _empty(item.dest)
    for image in images:
        folder = os.path.join(item.dest, directory(image)) if split else item.dest
        os.makedirs(folder, exist_ok=True)
        extract(_tree(call, image), folder, rename="", keep_owners=False)
        for name, data in _files(image, images, item, stated, split=split):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(data)


def directory(image: dict[str, Any]) -> str:
    """The directory of one platform's files."""
    return str(image["platform"]).replace("/", "_")


def _tree(call: Call, image: dict[str, Any]) -> Response:
    return call.client.call("GET", f"/buildtool/v1/images/{image['id']}/export", {"form": "tar"})


def _files(
    image: dict[str, Any], images: list[dict[str, Any]], item: Output, stated: Stated, *, split: bool
) -> Iterator[tuple[str, bytes]]:
    """The statements about an image, as files; in a tree of several platforms their names tell which."""
    tell = f".{directory(image)}" if len(images) > 1 and not split else ""
    for name, data in file_names(stated.get(image["id"], [])):
        stem, dot, extension = name.rpartition(".")
        yield f"{item.attributes.get('attestation-prefix', '')}{stem}{tell}{dot}{extension}", data


def _refuse_twice(call: Call, images: list[dict[str, Any]]) -> None:
    seen: dict[str, str] = {}
    for image in images:
        with tarfile.open(fileobj=BodyReader(_tree(call, image)), mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                _note(member, image, seen)


def _note(member: tarfile.TarInfo, image: dict[str, Any], seen: dict[str, str]) -> None:
    platform = str(image["platform"])
    if not member.isdir() and seen.setdefault(member.name, platform) != platform:
        raise InvalidInput(
            f"{member.name} is in the images of {seen[member.name]} and of {platform}",
            hint="leave platform-split=false out, and each platform gets its directory",
        )


def _write_tar(call: Call, images: list[dict[str, Any]], item: Output, stated: Stated, *, split: bool) -> None:
    import io

    seen: dict[str, str] = {}
    latest = 0
    temporary = f"{item.dest}.tmp-{os.getpid()}"
    with ExitStack() as stack:
        out: IO[bytes] = sys.stdout.buffer
        if item.dest != "-":
            out = stack.enter_context(open(temporary, "wb"))
            stack.callback(_forget, temporary)
        archive = stack.enter_context(tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT))
        for image in images:
            prefix = f"{directory(image)}/" if split else ""
            if prefix:
                place = tarfile.TarInfo(prefix.rstrip("/"))
                place.type, place.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(place)
            with tarfile.open(fileobj=BodyReader(_tree(call, image)), mode="r|") as tree:  # type: ignore[call-overload]
                for member in tree:
                    _note(member, image, {} if split else seen)
                    latest = max(latest, int(member.mtime))
                    content = tree.extractfile(member) if member.isreg() else None
                    member.name = prefix + member.name.removeprefix("./")
                    if member.islnk():
                        member.linkname = prefix + member.linkname.removeprefix("./")
                    archive.addfile(member, content)
            for name, data in _files(image, images, item, stated, split=split):
                info = tarfile.TarInfo(prefix + name)
                info.size, info.mtime = len(data), latest
                archive.addfile(info, io.BytesIO(data))
        archive.close()
        out.flush()
        if item.dest != "-":
            os.replace(temporary, item.dest)


def _forget(path: str) -> None:
    if os.path.exists(path):
        os.unlink(path)


def _empty(folder: str) -> None:
    import shutil

    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
