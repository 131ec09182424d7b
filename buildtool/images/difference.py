"""What differs between two images, down to the bytes: configs by their fields, layers by their files. Blocking."""

from __future__ import annotations

import difflib
import hashlib
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from buildtool.cache import Store
from buildtool.cache.tar_entries import clean
from buildtool.cache.tar_fields import TarEntry
from buildtool.cache.tar_read import read_entries
from buildtool.cache.tar_source import ByteSource, padding
from buildtool.images.byte_ranges import ByteRange, differing_ranges
from buildtool.images.difference_causes import usual_cause
from buildtool.images.forms import plain_layer
from buildtool.images.model import Image, LayerSource, annotations_of

_AT_MOST = 5000
_TEMPORARY = 2 << 30
"""Bytes of files that are compared byte by byte; of more only their digests are."""
_KINDS = {b"0": "file", b"1": "hard link", b"2": "symbolic link", b"3": "character device", b"4": "block device",
          b"5": "directory", b"6": "pipe"}  # fmt: skip


class ImageDifference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is not the same. `before` and `now` are values as text, None for what is not there.

    `kind` is `config` (`name` is the path in the document), `annotation`, `layer` (one that only one image has),
    `file` (of the layer `layer`, counted from 1; `field` says what of it: file, type, mode, owner, time, link,
    device, xattr, content), `compression` (an equal layer in another form), `order` (the same files in another
    order), `archive` (the same files, written otherwise: `ranges` are the layer's tar's) or `more` (`name` so many
    are not listed). `cause` is where such a difference usually comes from, when that is known.
    """

    kind: str
    name: str = ""
    before: str | None = None
    now: str | None = None
    layer: int = 0
    field: str = ""
    ranges: list[ByteRange] = []
    cause: str = ""


@dataclass(frozen=True, slots=True)
class _File:
    entry: TarEntry
    digest: str


def image_differences(store: Store, before: Image, now: Image) -> list[ImageDifference]:
    """All differences, [] for images that are the same. The layers of both must be here."""
    found = [*_documents(store, before, now)]
    found += _compressions(before, now)
    if before.id == now.id:
        return [each for each in found if each.kind != "config"]
    names = [made_by(image) for image in (before, now)]
    for old, new in _pairs(before.layers, now.layers):
        if old is None or new is None:
            side, index = (0, old) if old is not None else (1, new)
            assert index is not None
            layer = (before, now)[side].layers[index]
            words = f"{layer.diff_id} ({names[side][index]})"
            found.append(_only(side, ImageDifference("layer", layer=index + 1), words))
        elif before.layers[old].diff_id != now.layers[new].diff_id:
            found += _layer_differences(store, before.layers[old], now.layers[new], new + 1)
    return _limited(found)


def _compressions(before: Image, now: Image) -> Iterator[ImageDifference]:
    """Equal layers that images brought along in other bytes."""
    for number, (one, other) in enumerate(zip(before.layers, now.layers, strict=False), 1):
        old, new = one.blob, other.blob
        if one.diff_id == other.diff_id and old is not None and new is not None and old.digest != new.digest:
            was, is_now = (f"{blob.media_type} {blob.digest}" for blob in (old, new))
            yield ImageDifference("compression", "", was, is_now, number)


def _only(side: int, difference: ImageDifference, words: str) -> ImageDifference:
    """The difference that only image 0 or image 1 has something."""
    return msgspec.structs.replace(difference, **{"before" if side == 0 else "now": words})


def _limited(found: list[ImageDifference]) -> list[ImageDifference]:
    if len(found) <= _AT_MOST:
        return found
    return [*found[:_AT_MOST], ImageDifference("more", str(len(found) - _AT_MOST))]


def _documents(store: Store, before: Image, now: Image) -> Iterator[ImageDifference]:
    old, new = (msgspec.json.decode(store.blobs.read(image.id)) for image in (before, now))
    for document in (old, new):
        document.get("rootfs", {}).pop("diff_ids", None)  # the layers themselves tell more
    for path, one, other in _json_differences("", old, new):
        yield ImageDifference("config", path, one, other)
    annotations = [annotations_of(store, image) or {} for image in (before, now)]
    for path, one, other in _json_differences("", *annotations):
        yield ImageDifference("annotation", path, one, other)


def _json_differences(path: str, before: Any, now: Any) -> Iterator[tuple[str, str | None, str | None]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            here = f"{path}.{key}" if path else key
            if key not in before or key not in now:
                yield here, _text(before, key), _text(now, key)
            else:
                yield from _json_differences(here, before[key], now[key])
    elif isinstance(before, list) and isinstance(now, list):
        for index in range(max(len(before), len(now))):
            here = f"{path}[{index}]"
            if index >= len(before) or index >= len(now):
                was, is_now = (_plain(each[index]) if index < len(each) else None for each in (before, now))
                yield here, was, is_now
            else:
                yield from _json_differences(here, before[index], now[index])
    elif before != now:
        yield path, _plain(before), _plain(now)


def _text(document: dict[str, Any], key: str) -> str | None:
    return _plain(document[key]) if key in document else None


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def made_by(image: Image) -> list[str]:
    """What made each layer, as the history says it."""
    lines = [line.created_by for line in image.config.history or () if not line.empty_layer]
    return [*lines, *[""] * len(image.layers)][: len(image.layers)]


def _pairs(before: Sequence[LayerSource], now: Sequence[LayerSource]) -> Iterator[tuple[int | None, int | None]]:
    """Which layers are to be compared: equal ones are found again though others came between."""
    matcher = difflib.SequenceMatcher(None, [one.diff_id for one in before], [one.diff_id for one in now], False)
    for _, i, i_end, j, j_end in matcher.get_opcodes():
        for step in range(max(i_end - i, j_end - j)):
            yield (i + step if i + step < i_end else None), (j + step if j + step < j_end else None)


def _layer_differences(store: Store, before: LayerSource, now: LayerSource, number: int) -> list[ImageDifference]:
    old, new = _files(store, before), _files(store, now)
    found: list[ImageDifference] = []
    contents: list[bytes] = []
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if one is None or other is None:
            there = one or other
            assert there is not None
            side = 0 if one is not None else 1
            difference = ImageDifference("file", _shown(name), layer=number, field="file")
            found.append(_only(side, difference, _KINDS.get(there.entry.kind, "?")))
            continue
        for field, was, is_now in _fields(one.entry, other.entry):
            found.append(ImageDifference("file", _shown(name), was, is_now, number, field))
        if one.entry.kind == other.entry.kind and one.digest != other.digest:
            contents.append(name)
    ranges = _content_ranges(store, before, now, contents, {**old})
    for name in contents:
        was, is_now = old[name].digest, new[name].digest
        differing, cause = ranges.get(name, ([], ""))
        found.append(ImageDifference("file", _shown(name), was, is_now, number, "content", differing, cause))
    if not found and list(old) != list(new):
        found.append(ImageDifference("order", layer=number))
    if not found:
        tars = differing_ranges(plain_layer(store, before), plain_layer(store, now))
        found.append(ImageDifference("archive", "", before.diff_id, now.diff_id, number, ranges=tars))
    return found


def _files(store: Store, layer: LayerSource) -> dict[bytes, _File]:
    """The layer's entries by name, in their order."""
    found: dict[bytes, _File] = {}
    for entry, pieces in _entries(store, layer):
        hasher = hashlib.sha256()
        for piece in pieces:
            hasher.update(piece)
        found[clean(entry.name) or b"."] = _File(entry, f"sha256:{hasher.hexdigest()}")
    return found


def _entries(store: Store, layer: LayerSource) -> Iterator[tuple[TarEntry, Iterable[bytes | memoryview]]]:
    source = ByteSource(plain_layer(store, layer))
    for entry in read_entries(source):
        begin = source.consumed
        yield entry, source.pieces(entry.stored)
        source.skip(entry.stored - (source.consumed - begin) + padding(entry.stored))


def _fields(before: TarEntry, now: TarEntry) -> Iterator[tuple[str, str | None, str | None]]:
    for field, one, other in (
        ("type", _KINDS.get(before.kind, "?"), _KINDS.get(now.kind, "?")),
        ("mode", f"{stat.S_IMODE(before.mode):04o}", f"{stat.S_IMODE(now.mode):04o}"),
        ("owner", f"{before.uid}:{before.gid}", f"{now.uid}:{now.gid}"),
        ("time", _seconds(before), _seconds(now)),
        ("link", _shown(before.link), _shown(now.link)),
        ("device", f"{before.major}:{before.minor}", f"{now.major}:{now.minor}"),
    ):
        if one != other:
            yield field, one, other
    for key in sorted({*before.xattrs, *now.xattrs}):
        if before.xattrs.get(key) != now.xattrs.get(key):
            was, is_now = before.xattrs.get(key), now.xattrs.get(key)
            yield f"xattr {_shown(key)}", was.hex() if was is not None else None, is_now.hex() if is_now else None


def _seconds(entry: TarEntry) -> str:
    whole, rest = divmod(entry.mtime_ns, 1_000_000_000)
    return f"{whole}.{rest:09d}" if rest else str(whole)


def _content_ranges(
    store: Store, before: LayerSource, now: LayerSource, names: Sequence[bytes], old: dict[bytes, _File]
) -> dict[bytes, tuple[list[ByteRange], str]]:
    """Where the contents of these files differ, and the usual cause: one side's are put aside, the other's are read
    along with them.
    """
    kept: dict[bytes, Path] = {}
    room = _TEMPORARY
    for name in names:
        room -= old[name].entry.stored
        if room >= 0:
            kept[name] = Path(str(len(kept)))
    if not kept:
        return {}
    found: dict[bytes, tuple[list[ByteRange], str]] = {}
    with tempfile.TemporaryDirectory(dir=store.root / "ingest") as folder:
        for entry, pieces in _entries(store, before):
            name = clean(entry.name) or b"."
            if name in kept:
                with Path(folder, kept[name]).open("wb") as file:
                    file.writelines(pieces)
        for entry, pieces in _entries(store, now):
            name = clean(entry.name) or b"."
            if name in kept:
                with Path(folder, kept[name]).open("rb") as file:
                    ranges = differing_ranges(iter(lambda file=file: file.read(1 << 20), b""), pieces)  # type: ignore[misc]
                    found[name] = ranges, usual_cause(_shown(name), file, ranges)
    return found


def _shown(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
