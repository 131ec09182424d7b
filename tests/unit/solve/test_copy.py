"""COPY, ADD and WORKDIR to the letter."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import time

import pytest

from buildtool.errors import InvalidInput, NotFound
from tests.unit.solve.conftest import Workshop


def built(shop: Workshop, *lines: str, **options: object) -> dict[str, str]:
    """What the layers above busybox hold together."""
    outcome = shop.build("FROM busybox\n" + "\n".join(lines) + "\n", **options)
    found: dict[str, str] = {}
    for index in range(1, len(outcome.image.layers)):
        found |= shop.layer(outcome.image, index)
    return found


def test_a_file_to_a_name_to_a_directory_and_into_an_existing_directory(shop: Workshop) -> None:
    shop.write(a="1")
    found = built(shop, "COPY a /x", "COPY a /d/", "COPY a /usr", "COPY a relative", "WORKDIR /w", "COPY a .")
    assert found == {
        "x": "1", "d": "", "d/a": "1", "usr": "", "usr/a": "1", "relative": "1", "w": "", "w/a": "1",
    }  # fmt: skip


def test_a_directory_gives_its_contents(shop: Workshop) -> None:
    shop.write(d__a="1", d__e__b="2")
    assert built(shop, "COPY d /x", "COPY d/ /y/") == {
        "x": "", "x/a": "1", "x/e": "", "x/e/b": "2", "y": "", "y/a": "1", "y/e": "", "y/e/b": "2",
    }  # fmt: skip


def test_a_new_directory_is_a_plain_one_whatever_the_source(shop: Workshop) -> None:
    shop.write(d__a="1")
    (shop.context / "d").chmod(0o700)
    tree = shop.tree(shop.build("FROM busybox\nCOPY d /x\nCOPY --chown=5:6 d /y/\nCOPY d /usr\n").image)
    assert [tree[path].permissions for path in ("/x", "/y", "/usr")] == [0o755] * 3
    assert (tree["/y"].owner, tree["/y/a"].owner) == ((5, 6), (5, 6))


def test_several_sources_need_a_directory(shop: Workshop) -> None:
    shop.write(a="1", b="2", c_txt="3", d_txt="4")
    assert built(shop, "COPY a b /x/") == {"x": "", "x/a": "1", "x/b": "2"}
    assert built(shop, "COPY *.txt /x/") == {"x": "", "x/c.txt": "3", "x/d.txt": "4"}
    with pytest.raises(InvalidInput, match="more than one source file") as failure:
        shop.build("FROM busybox\nCOPY a b /x\n")
    assert failure.value.where is not None
    assert built(shop, "COPY *.txt /x") == {"x": "4"}  # as in Docker: each over the one before
    shop.write(e0__f="5", e1="6", cd__e="7")
    assert built(shop, "COPY e* /x") == {"x": "", "x/f": "5", "x/e1": "6"}
    with pytest.raises(InvalidInput, match="match 2 files"):
        shop.build("FROM busybox\nCOPY c* /x\n")


def test_wildcards_are_gos_and_an_unmatched_one_warns(shop: Workshop) -> None:
    shop.write(a1="1", a2="2", b1="3", sub__a3="4")
    assert built(shop, "COPY a[0-9] /x/", "COPY ?1 s*/a3 /y/") == {
        "x": "", "x/a1": "1", "x/a2": "2", "y": "", "y/a1": "1", "y/b1": "3", "y/a3": "4",
    }  # fmt: skip
    outcome = shop.build("FROM busybox\nCOPY nothing* a1 /x/\n")
    assert outcome.warnings == ["no file matches 'nothing*'"]
    assert built(shop, "COPY nothing* /x/") == {}


def test_sources_cannot_leave_the_context(shop: Workshop) -> None:
    shop.write(a="1")
    (shop.context / "out").symlink_to("/etc")
    (shop.context / "abs").symlink_to("/a")
    assert built(shop, "COPY ../../a /x", "COPY /a /y", "COPY abs /z") == {"x": "1", "y": "1", "z": "1"}
    with pytest.raises(NotFound):
        shop.build("FROM busybox\nCOPY out/passwd /x\n")


def test_symlinks_inside_directories_stay_symlinks(shop: Workshop) -> None:
    shop.write(d__a="1")
    (shop.context / "d/l").symlink_to("../../somewhere")
    tree = shop.tree(shop.build("FROM busybox\nCOPY d /x\n").image)
    assert tree["/x/l"].content == "-> ../../somewhere"


def test_the_destination_follows_the_images_symlinks(shop: Workshop) -> None:
    shop.write(a="1")
    tree = shop.tree(shop.build("FROM busybox\nRUN mkdir /real && ln -s /real /link\nCOPY a /link/x/\n").image)
    assert tree["/real/x/a"].content == "1"
    assert tree["/link"].content == "-> /real"


def test_directories_on_the_way_keep_their_attributes(shop: Workshop) -> None:
    shop.write(a="1")
    tree = shop.tree(shop.build("FROM busybox\nCOPY a /tmp/x\nCOPY a /root/new/x\n").image)
    assert (tree["/tmp"].permissions, tree["/root"].permissions, tree["/root/new"].permissions) == (
        0o1777, 0o700, 0o755,
    )  # fmt: skip


def test_files_and_directories_do_not_replace_each_other(shop: Workshop) -> None:
    shop.write(d__bin__x="1", e__passwd__x="1", f="1")
    with pytest.raises(InvalidInput, match="cannot copy to non-directory: /etc/passwd"):
        shop.build("FROM busybox\nCOPY e /etc\n")
    with pytest.raises(InvalidInput, match="cannot copy to non-directory: /etc/passwd"):
        shop.build("FROM busybox\nCOPY d /etc/passwd\n")
    shop.write(g__etc="1")
    with pytest.raises(InvalidInput, match="cannot replace the directory /etc with a file"):
        shop.build("FROM busybox\nCOPY g /\n")
    with pytest.raises(InvalidInput, match="symlink to usr"):
        shop.build("FROM busybox\nRUN mkdir -p /usr/bin2 && ln -s usr/bin2 /bin2\nCOPY h /\n", context=_bin2(shop))


def _bin2(shop: Workshop) -> object:
    shop.write(h__bin2__x="1")
    return shop.context


def test_chown_and_chmod(shop: Workshop) -> None:
    shop.put("d/run", "1", 0o755)
    shop.put("d/data", "1", 0o640)
    text = """FROM busybox
COPY d /a
COPY --chown=app d /b/
COPY --chown=app:staff d /c
COPY --chown=7 d /d
COPY --chown=8:9 --chmod=600 d/run /e/run
COPY --chmod=u=rwX,go=rX d /f
"""
    tree = shop.tree(shop.build(text).image)
    assert tree["/a/run"].owner == (0, 0)
    assert tree["/b/run"].owner == tree["/b"].owner == (1000, 1001)
    assert tree["/c/run"].owner == (1000, 50)
    assert tree["/d/run"].owner == (7, 7)
    assert (tree["/e/run"].owner, tree["/e/run"].permissions, tree["/e"].permissions) == ((8, 9), 0o600, 0o755)
    assert (tree["/f/run"].permissions, tree["/f/data"].permissions, tree["/a/data"].permissions) == (
        0o755, 0o644, 0o640,
    )  # fmt: skip
    with pytest.raises(InvalidInput, match="unable to find user nobody") as failure:
        shop.build("FROM busybox\nCOPY --chown=nobody d /x\n")
    assert failure.value.where is not None and failure.value.where.line == 2
    with pytest.raises(InvalidInput, match="invalid chmod parameter"):
        shop.build("FROM busybox\nCOPY --chmod=rwx d /x\n")


def test_a_set_group_bit_of_the_destination_gives_away_nothing(shop: Workshop) -> None:
    """The kernel would give what is made below such a directory its group."""
    shop.write(d__s__f="1", d__g="2")
    text = "FROM busybox\nRUN mkdir /x && chown 0:50 /x && chmod 2775 /x\n"
    tree = shop.tree(shop.build(f"{text}COPY d /x/\nCOPY d/g /x/new/\nCOPY --chown=7 d /x/y\nWORKDIR /x/w\n").image)
    owners = {path: entry.owner for path, entry in tree.items() if path.startswith("/x/")}
    assert owners == {
        path: (7, 7) if path.startswith("/x/y") else (0, 0)
        for path in ("/x/s", "/x/s/f", "/x/g", "/x/new", "/x/new/g", "/x/y", "/x/y/s", "/x/y/s/f", "/x/y/g", "/x/w")
    }
    assert (tree["/x"].owner, tree["/x"].permissions) == ((0, 50), 0o2775)
    assert tree["/x/s"].permissions == tree["/x/w"].permissions == 0o755


def test_what_an_archive_holds_becomes_the_owners(shop: Workshop) -> None:
    """As BuildKit 0.23 has it."""
    _archive(shop, "./", "a/f", "g")
    tree = shop.tree(shop.build("FROM busybox\nADD --chown=7:8 a.tar /x/\nADD a.tar /y/\n").image)
    assert {entry.owner for path, entry in tree.items() if path.startswith("/x")} == {(7, 8)}
    assert {entry.owner for path, entry in tree.items() if path.startswith("/y")} == {(0, 0)}


def test_a_link_that_leads_nowhere_is_told(shop: Workshop) -> None:
    (shop.context / "gone").symlink_to("/no/where")
    with pytest.raises(NotFound) as failure:
        shop.build("FROM busybox\nCOPY gone /x\n")
    assert failure.value.hint == "it is a symbolic link that leads nowhere"


def test_exclude(shop: Workshop) -> None:
    shop.write(d__a_txt="1", d__b_md="2", d__s__c_txt="3", x_txt="4", y="5")
    lines = ["COPY --exclude=*.txt d /x", "COPY --exclude=**/*.txt d /y", "COPY --exclude=*.txt *[tx] y /z/"]
    assert built(shop, *lines) == {
        "x": "", "x/b.md": "2", "x/s": "", "x/s/c.txt": "3", "y": "", "y/b.md": "2", "y/s": "", "z": "", "z/y": "5",
    }  # fmt: skip


def test_parents(shop: Workshop) -> None:
    shop.write(a__b__c="1", a__d__e="2", f="3")
    assert built(shop, "COPY --parents a/b/c f /x/") == {"x": "", "x/a": "", "x/a/b": "", "x/a/b/c": "1", "x/f": "3"}
    assert built(shop, "COPY --parents a/./b/c /x/") == {"x": "", "x/b": "", "x/b/c": "1"}
    assert built(shop, "COPY --parents a/**/e /x/") == {"x": "", "x/a": "", "x/a/d": "", "x/a/d/e": "2"}


def test_if_exists_takes_what_is_there(shop: Workshop) -> None:
    shop.write(a="1", sub__x_py="2")
    assert built(shop, "COPY --if-exists a gone sub/*.py none*.txt gone/deep /x/") == {
        "x": "",
        "x/a": "1",
        "x/x.py": "2",
    }
    assert built(shop, "COPY --if-exists --parents a gone sub/*.py /x/") == {
        "x": "", "x/a": "1", "x/sub": "", "x/sub/x.py": "2",
    }  # fmt: skip
    assert built(shop, "COPY --if-exists a /y") == {"y": "1"}


@pytest.mark.parametrize(
    "flags", ["", "--link ", "--chown=nobody-knows ", "--from=busybox ", "--from=busybox --link ", "--parents "]
)
def test_if_exists_makes_no_layer_when_nothing_is_there(shop: Workshop, flags: str) -> None:
    text = (
        f"FROM busybox\nRUN echo 1 > /one\nCOPY --if-exists {flags}gone* missing /x/\nRUN ls -d /x || echo 2 > /two\n"
    )
    outcome = shop.build(text)
    assert [sorted(shop.layer(outcome.image, index)) for index in (1, 2)] == [["one"], ["two"]]
    history = outcome.image.config.history
    assert history is not None and len(outcome.image.layers) == 3
    assert [bool(line.empty_layer) for line in history[-3:]] == [False, True, False]
    assert "--if-exists" in (history[-2].created_by or "")
    assert outcome.warnings == []
    again = shop.build(text)
    assert all(again.cached) and again.image.id == outcome.image.id


def test_a_file_that_appears_is_copied_and_explain_says_so(shop: Workshop) -> None:
    text = "FROM busybox\nCOPY --if-exists conf /etc/conf\nRUN cat /etc/conf || true\n"
    without = shop.build(text)
    shop.write(conf="now")
    outcome = shop.build(text)
    assert outcome.output == "now"
    assert "conf (new)" in outcome.reason(1)
    (shop.context / "conf").unlink()
    again = shop.build(text)
    assert all(again.cached) and again.image.id == without.image.id


def test_what_if_exists_left_out_is_still_missing_for_a_plain_copy(shop: Workshop) -> None:
    text = "FROM busybox AS a\nFROM busybox\nCOPY {}--from=a /gone /x\nCOPY {}gone /x\n"
    shop.build(text.format("--if-exists ", "--if-exists "))
    for first, second in (("", "--if-exists "), ("--if-exists ", "")):
        with pytest.raises(NotFound, match="no such file"):
            shop.build(text.format(first, second))
    with pytest.raises(NotFound):
        shop.build("FROM busybox\nCOPY --if-exists=false gone /x\n")


def test_if_exists_takes_an_ignored_file_for_a_missing_one(shop: Workshop) -> None:
    shop.write(a="1", secret="2")
    outcome = shop.build("FROM busybox\nCOPY --if-exists a secret /x/\n", ignore="secret")
    assert shop.layer(outcome.image) == {"x": "", "x/a": "1"}


def test_link_keeps_the_directories_below(shop: Workshop) -> None:
    shop.write(a="1")
    first = shop.build("FROM busybox\nRUN echo 1\nCOPY --link a /tmp/a\nCOPY --link a /new/a\n")
    tree = shop.tree(first.image)
    assert (tree["/tmp"].permissions, tree["/tmp/a"].content, tree["/new/a"].content) == (0o1777, "1", "1")
    second = shop.build("FROM busybox\nRUN echo 2\nCOPY --link a /tmp/a\nCOPY --link a /new/a\n")
    assert second.cached == [True, False, True, True]


def test_link_onto_an_image_looks_at_its_own_layers_only(shop: Workshop) -> None:
    """As BuildKit; directories that every image has are as everywhere, and those of earlier such layers stay."""
    shop.write(a="1")
    shop.build("FROM busybox\nRUN chmod 700 /usr && chmod 750 /etc\n", tags=("odd",))
    text = "FROM odd\nCOPY --link a /tmp/a\nCOPY --link --chown=5:6 --chmod=600 a /new/a\nCOPY --link a /new/b\n"
    image = shop.build(text + "COPY --link a /etc/a\n").image
    tree = shop.tree(image)
    assert (tree["/tmp"].permissions, tree["/tmp"].owner, tree["/etc"].permissions) == (0o1777, (0, 0), 0o755)
    assert (tree["/new"].owner, tree["/new/a"].owner, tree["/new/b"].owner) == ((5, 6), (5, 6), (0, 0))
    kept = shop.build("FROM odd\nRUN true\nCOPY --link a /etc/a\n").image
    assert shop.tree(kept)["/etc"].permissions == 0o750


def test_heredocs_are_files(shop: Workshop) -> None:
    found = built(shop, "ARG V=1", "COPY <<a <<'b' /x/", "v=$V", "a", "v=$V", "b", "COPY <<EOF /y", "z", "EOF")
    assert found == {"x": "", "x/a": "v=1\n", "x/b": "v=$V\n", "y": "z\n"}


def test_ignored_files_are_not_there(shop: Workshop) -> None:
    shop.write(a="1", b="2", d__c="3", d__e="4", f__g="5")
    ignore = "b\nd\n!d/e\nf\n"
    assert built(shop, "COPY . /x", ignore=ignore) == {"x": "", "x/a": "1", "x/d": "", "x/d/e": "4"}
    with pytest.raises(NotFound) as failure:
        shop.build("FROM busybox\nCOPY b /b\n", ignore=ignore)
    assert str(failure.value) == (
        'Buildfile:2:6: COPY: "b" is excluded from the build context by the ignore file\n'
        "  2 | COPY b /b\n    |      ^\n"
        "add !b to the ignore file, or copy something else"
    )


def test_a_missing_source_has_its_place_and_a_suggestion(shop: Workshop) -> None:
    shop.write(src__app_py="1")
    with pytest.raises(NotFound) as failure:
        shop.build("FROM busybox\nCOPY srv/app.py /app/\n", dockerfile_name="web/Buildfile")
    assert str(failure.value) == (
        'web/Buildfile:2:6: COPY: no such file in the build context: "srv/app.py"\n'
        "  2 | COPY srv/app.py /app/\n    |      ^^^^^^^^^^\n"
        'did you mean "src/app.py"?'
    )
    with pytest.raises(NotFound, match="no such file in the stage or image copied from"):
        shop.build("FROM busybox\nCOPY --from=busybox /nope /x\n")
    with pytest.raises(InvalidInput, match="there is no build context"):
        shop.build("FROM busybox\nCOPY a /x\n", context=None)


def test_copy_from_a_stage_keeps_times_owners_and_hard_links(shop: Workshop) -> None:
    text = """FROM busybox AS a
RUN mkdir /d && echo 1 > /d/a && ln /d/a /d/b && touch -d 2001-02-03 /d/a && chown 3:4 /d/a && chmod 4755 /d/a
FROM busybox
COPY --from=a /d /d
"""
    outcome = shop.build(text)
    snapshot = outcome.image.layers[-1].snapshot
    assert snapshot is not None
    a, b = (os.stat(shop.store.snapshots.fs(snapshot) / "d" / name) for name in "ab")
    assert a.st_ino == b.st_ino
    assert (a.st_uid, a.st_gid, stat.S_IMODE(a.st_mode)) == (3, 4, 0o4755)
    assert time.gmtime(a.st_mtime)[:3] == (2001, 2, 3)


def test_hard_links_of_the_context_are_kept_within_one_copy(shop: Workshop) -> None:
    """As BuildKit: whatever the directory, not across two COPY instructions, and not to what another replaced."""
    shop.put("d/a", "1")
    (shop.context / "d/e").mkdir()
    for name in ("d/b", "d/e/c", "alone"):
        os.link(shop.context / "d/a", shop.context / name)
    for more in range(40):  # from so many on, files are linked to those of the last copy
        shop.put(f"d/f{more}", f"{more}")
    text = "FROM busybox\nCOPY --chown=3:4 d /d/\nCOPY alone /\n"

    def linked() -> set[int]:
        outcome = shop.build(text)
        layers = [shop.store.snapshots.fs(layer.snapshot) for layer in outcome.image.layers[-2:] if layer.snapshot]
        inodes = [(layers[0] / name).stat() for name in ("d/a", "d/b", "d/e/c")]
        assert {(found.st_uid, found.st_gid) for found in inodes} == {(3, 4)}
        alone = (layers[1] / "alone").stat()
        assert alone.st_ino not in {found.st_ino for found in inodes}
        return {found.st_ino for found in inodes}

    assert len(linked()) == 1
    shop.put("d/f7", "changed")
    assert len(linked()) == 1


def test_a_link_to_a_file_that_was_replaced_is_a_file(shop: Workshop) -> None:
    shop.put("x/f", "first")
    shop.put("y/f", "second")
    (shop.context / "z").mkdir()
    os.link(shop.context / "x/f", shop.context / "z/g")
    outcome = shop.build("FROM busybox\nCOPY x/f y/f z/g /d/\n")
    assert shop.layer(outcome.image) == {"d": "", "d/f": "second", "d/g": "first"}


def test_files_of_the_context_have_one_time(shop: Workshop) -> None:
    for number in range(5):
        os.utime(shop.put(f"f{number}", "x"), (number, number))
    outcome = shop.build("FROM busybox\nCOPY . /x/\n")
    snapshot = outcome.image.layers[-1].snapshot
    assert snapshot is not None
    directory = shop.store.snapshots.fs(snapshot) / "x"
    assert len({path.stat().st_mtime_ns for path in directory.iterdir()}) == 1


def test_unchanged_files_are_linked_to_the_last_copy(shop: Workshop) -> None:
    for number in range(40):
        shop.put(f"d/f{number}", f"{number}")
    first = shop.build("FROM busybox\nCOPY . /x/\n")
    shop.put("d/f7", "changed")
    second = shop.build("FROM busybox\nCOPY . /x/\n")
    roots = []
    for outcome in (first, second):
        snapshot = outcome.image.layers[-1].snapshot
        assert snapshot is not None
        roots.append(shop.store.snapshots.fs(snapshot) / "x/d")
    same = [(roots[0] / f"f{n}").stat().st_ino == (roots[1] / f"f{n}").stat().st_ino for n in range(40)]
    assert same == [n != 7 for n in range(40)]
    assert [(root / "f7").read_text() for root in roots] == ["7", "changed"]


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz", "zst"])
def test_add_unpacks_archives_whatever_their_name(shop: Workshop, compression: str) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        info = tarfile.TarInfo("in/file")
        info.size, info.uid, info.mtime = 2, 5, 1_500_000_000
        tar.addfile(info, io.BytesIO(b"hi"))
    data = stream.getvalue()
    if compression == "zst":
        from buildtool.cache import compress

        data = b"".join(compress([data], "zstd"))
    elif compression:
        data = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[compression](data)
    (shop.context / "archive").write_bytes(data)
    tree = shop.tree(shop.build("FROM busybox\nADD archive /x/\nADD --unpack=false archive /y\n").image)
    assert tree["/x/in/file"].content == "hi"
    assert tree["/x/in/file"].owner == (5, 0)
    assert stat.S_ISREG(tree["/y"].mode)


def test_add_copies_what_is_no_archive(shop: Workshop) -> None:
    shop.write(a="1")
    (shop.context / "b.gz").write_bytes(gzip.compress(b"just text"))
    tree = shop.tree(shop.build("FROM busybox\nADD a b.gz /x/\n").image)
    assert tree["/x/a"].content == "1"
    assert stat.S_ISREG(tree["/x/b.gz"].mode)


def test_workdir_makes_directories_for_the_user(shop: Workshop) -> None:
    outcome = shop.build("FROM busybox\nUSER app\nWORKDIR /a/b\nWORKDIR c\nWORKDIR /tmp\nRUN pwd; touch /a/b/c/x\n")
    tree = shop.tree(outcome.image)
    assert tree["/a"].owner == tree["/a/b/c"].owner == (1000, 1001)
    assert outcome.output == "/tmp\n"
    assert shop.layer(outcome.image, 3) == {}
    numbers = shop.tree(shop.build("FROM busybox\nUSER 7\nWORKDIR /a\nUSER 7:8\nWORKDIR /b\n").image)
    assert (numbers["/a"].owner, numbers["/b"].owner) == ((7, 7), (7, 8))
    with pytest.raises(InvalidInput, match="WORKDIR /w: unable to find user nobody-knows") as failure:
        shop.build("FROM busybox\nUSER nobody-knows\nWORKDIR /w\n")
    assert failure.value.where is not None and failure.value.where.line == 3
    with pytest.raises(InvalidInput, match=r"(?i)not a directory"):
        shop.build("FROM busybox\nWORKDIR /etc/passwd/x\n")
    with pytest.raises(InvalidInput, match=r"(?i)not a directory"):
        shop.build("FROM busybox\nWORKDIR /etc/passwd\n")


def test_a_layer_over_a_deleted_directory_does_not_bring_it_back(shop: Workshop) -> None:
    shop.write(d__new="1")
    text = "FROM busybox\nRUN mkdir /d && echo > /d/old\nRUN rm -r /d\nCOPY d /d\n"
    tree = shop.tree(shop.build(text).image)
    assert [path for path in tree if path.startswith("/d/")] == ["/d/new"]


def test_special_files(shop: Workshop) -> None:
    os.mkfifo(shop.context / "fifo")
    tree = shop.tree(shop.build("FROM busybox\nCOPY . /x/\n").image)
    assert stat.S_ISFIFO(tree["/x/fifo"].mode)


def test_big_and_sparse_files(shop: Workshop) -> None:
    with open(shop.context / "big", "wb") as file:
        file.write(os.urandom(1 << 20))
        file.seek(64 << 20)
        file.write(b"end")
    outcome = shop.build("FROM busybox\nCOPY big /big\nRUN sha256sum /big\n")
    import hashlib

    assert outcome.output.split()[0] == hashlib.sha256((shop.context / "big").read_bytes()).hexdigest()
    snapshot = outcome.image.layers[1].snapshot
    assert snapshot is not None
    assert (shop.store.snapshots.fs(snapshot) / "big").stat().st_blocks * 512 < 8 << 20


def _archive(shop: Workshop, *names: str, links: tuple[tuple[str, str], ...] = (), name: str = "a.tar") -> None:
    with tarfile.open(shop.context / name, "w") as tar:
        for member in names:
            info = tarfile.TarInfo(member.rstrip("/"))
            if member.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            else:
                info.size = len(member)
            tar.addfile(info, io.BytesIO(member.encode()))
        for member, target in links:
            info = tarfile.TarInfo(member)
            info.type, info.linkname = tarfile.LNKTYPE, target
            tar.addfile(info)


def test_an_archive_is_made_anew_where_it_takes_something_else_from_below(shop: Workshop) -> None:
    _archive(shop, "tmp/implicit/file")
    text = "FROM busybox\nRUN {}\nADD a.tar /\n"
    assert shop.tree(shop.build(text.format("true")).image)["/tmp"].permissions == 0o1777
    second = shop.build(text.format("chmod 700 /tmp"))
    assert second.cached == [True, False, False]
    assert shop.tree(second.image)["/tmp"].permissions == 0o700


def test_an_archive_is_rebased_where_it_takes_the_same_from_below(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    _archive(shop, "tmp/implicit/file", "own/", "own/x", links=(("own/group", "etc/group"),))
    text = "FROM busybox\nRUN {}\nADD a.tar /\nADD a.tar /opt/deep/\n"
    with pytest.raises(InvalidInput, match="hard link to 'etc/group'"):
        shop.build(text.format("true"))
    text = "FROM busybox\nRUN {}\nADD a.tar /\nRUN mkdir -p /opt; cp -a /etc /opt\nADD a.tar /opt/\n"
    first = shop.build(text.format("true"))
    for change in ("echo 1 > /elsewhere", "echo 2 > /tmp/other", "mkdir /opt; chmod 750 /opt"):
        again = shop.build(text.format(change))
        assert again.cached == [True, False, True, False, change != "mkdir /opt; chmod 750 /opt"], change
        assert again.image.layers[-3].snapshot == first.image.layers[-3].snapshot
    other = shop.build(text.format("echo more >> /etc/group"))
    assert other.cached == [True, False, False, False, False]
    assert shop.tree(other.image)["/own/group"].content.endswith("more\n")
    monkeypatch.setattr("buildtool.solve.solver.execute_copy", None)
    assert all(shop.build(text.format("echo more >> /etc/group")).cached)


def test_an_archive_goes_through_symlinks_of_the_tree(shop: Workshop) -> None:
    """What it does not mention itself stays as it is: /lib may be a link to usr/lib."""
    _archive(shop, "lib/own", "lib/new/deep", "up/x", links=(("lib/linked", "lib/own"),))
    links = "mkdir -p /usr/lib /elsewhere; touch /usr/lib/old; ln -s usr/lib /lib; ln -s /../elsewhere /up"
    tree = shop.tree(shop.build(f"FROM busybox\nRUN {links}\nADD a.tar /\n").image)
    assert tree["/lib"].content == "-> usr/lib"
    assert {"/usr/lib/old", "/usr/lib/own", "/usr/lib/new/deep", "/usr/lib/linked", "/elsewhere/x"} <= set(tree)
    _archive(shop, "lib/", "lib/own")
    tree = shop.tree(shop.build(f"FROM busybox\nRUN {links}\nADD a.tar /\n").image)
    assert stat.S_ISDIR(tree["/lib"].mode) and "/lib/own" in tree, "a directory of the archive's own replaces a link"


def test_a_symlink_of_the_tree_leads_an_archive_nowhere_else(shop: Workshop) -> None:
    _archive(shop, "out/x", "loop/x")
    tree = shop.tree(shop.build("FROM busybox\nRUN mkdir /w; ln -s /../../etc /w/out\nADD a.tar /w/\n").image)
    assert "/w/etc/x" in tree and "/etc/x" not in tree
    with pytest.raises(InvalidInput, match="loop/x"):
        shop.build("FROM busybox\nRUN mkdir /w; ln -s loop /w/loop\nADD a.tar /w/\n")
