"""`cp`'s archives: where things end up, and what is not trusted."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from buildtool.cli.copying import extract, local_archive, rebase
from buildtool.cli.handlers.cp import _place, _split
from buildtool.errors import Corrupt, InvalidInput


class Body:
    """A response's body in pieces."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_some(self) -> bytes:
        piece, self.data = self.data[:700], self.data[700:]
        return piece


def archive(*members: tuple[str, dict[str, Any]]) -> Any:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, fields in members:
            info = tarfile.TarInfo(name)
            data = fields.pop("data", b"")
            for key, value in fields.items():
                setattr(info, key, value)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return Body(out.getvalue())


def test_what_is_packed_comes_out_again(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/file").write_bytes(b"x" * 3000)
    (source / "sub/hard").hardlink_to(source / "sub/file")
    (source / "link").symlink_to("sub/file")
    sizes: list[int] = []
    data = b"".join(local_archive(str(source), "new", sizes))
    assert sizes == [3000, 3000]
    out = tmp_path / "out"
    out.mkdir()
    assert extract(Body(data), str(out), rename="", keep_owners=False) == 6000  # type: ignore[arg-type]
    assert (out / "new/link").readlink() == Path("sub/file")
    assert (out / "new/sub/hard").read_bytes() == b"x" * 3000


def test_roots_are_renamed() -> None:
    assert rebase("a", "a", "b") == "b"
    assert rebase("a/x", "a", "b") == "b/x"
    assert rebase("./x", ".", "b") == "b/x"
    assert rebase("a/x", "a", "") == "a/x"


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", {"data": b"x"})],
        [("a/../../evil", {"data": b"x"})],
        [("/evil", {"data": b"x"})],
        [("dir", {"type": tarfile.SYMTYPE, "linkname": "OUTSIDE"}), ("dir/evil", {"data": b"x"})],
        [
            ("s", {"type": tarfile.SYMTYPE, "linkname": "OUTSIDE"}),
            ("h", {"type": tarfile.LNKTYPE, "linkname": "s/secret"}),
        ],
        [("h", {"type": tarfile.LNKTYPE, "linkname": "../secret"})],
    ],
)
def test_archives_that_lead_out_are_refused(tmp_path: Path, members: list[tuple[str, dict[str, Any]]]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    (tmp_path / "secret").write_text("s")
    folder = tmp_path / "in"
    folder.mkdir()
    for _, fields in members:
        if fields.get("linkname") == "OUTSIDE":
            fields["linkname"] = str(outside)
    with pytest.raises(Corrupt, match="outside"):
        extract(archive(*members), str(folder), rename="", keep_owners=False)
    assert not (tmp_path / "evil").exists() and os.listdir(outside) == ["secret"] and not Path("/evil").exists()


def test_files_replace_files_but_not_directories(tmp_path: Path) -> None:
    (tmp_path / "f").symlink_to("/etc/hostname")
    (tmp_path / "d").mkdir()
    extract(archive(("f", {"data": b"new"})), str(tmp_path), rename="", keep_owners=False)
    assert (tmp_path / "f").read_text() == "new" and not (tmp_path / "f").is_symlink()
    with pytest.raises(InvalidInput, match="cannot overwrite directory"):
        extract(archive(("d", {"data": b"new"})), str(tmp_path), rename="", keep_owners=False)


def test_a_damaged_archive_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(Corrupt, match="cannot be unpacked"):
        extract(Body(b"no tar" * 500), str(tmp_path), rename="", keep_owners=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "is_directory", "exists", "source_is_directory", "place"),
    [
        ("/d", True, True, False, ("/d", "")),
        ("/d", True, True, True, ("/d", "")),
        ("/x/f", False, True, False, ("/x", "f")),
        ("/x/new", False, False, True, ("/x", "new")),
        ("/x/new/", False, False, True, ("/x", "new")),
        ("new", False, False, False, (".", "new")),
    ],
)
def test_dockers_rules_for_destinations(
    target: str, is_directory: bool, exists: bool, source_is_directory: bool, place: tuple[str, str]
) -> None:
    assert _place(target, is_directory, exists, source_is_directory) == place


def test_destinations_that_cannot_be() -> None:
    with pytest.raises(InvalidInput, match="it is a file"):
        _place("/x/f", False, True, True)
    with pytest.raises(InvalidInput, match="no such directory"):
        _place("/x/new/", False, False, False)


def test_arguments_name_containers_or_paths() -> None:
    assert _split("c:/p") == ("c", "/p")
    assert _split("/a:b") == ("", "/a:b")
    assert _split("./a:b") == ("", "./a:b")
    assert _split("plain") == ("", "plain")
    assert _split("-") == ("", "-")
