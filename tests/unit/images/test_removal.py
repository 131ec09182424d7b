"""Untag, delete, prune: dockerd's order, dockerd's words."""

from __future__ import annotations

import pytest

from buildtool.errors import Conflict, InvalidInput, NotFound
from buildtool.images import Image, Images
from buildtool.oci import chain_ids, parse_reference, sha256
from tests.unit.images.conftest import Maker

A = {"a": b"a"}
B = {"b": b"b"}
CONTAINER = "c0ffee" * 10 + "1234"


def users(image: Image):  # type: ignore[no-untyped-def]
    return lambda image_id: [CONTAINER] if image_id == image.id else []


def test_the_last_name_takes_the_image_with_it(images: Images, make: Maker) -> None:
    image = make(A, B, tags=["app"])
    chains = chain_ids(image.diff_ids)
    assert images.delete("app") == [
        {"Untagged": "app:latest"},
        {"Deleted": image.id},
        {"Deleted": chains[1]},
        {"Deleted": chains[0]},
    ]
    assert images.list() == []


def test_one_of_several_names_is_only_untagged(images: Images, make: Maker) -> None:
    image = make(A, tags=["app:1", "app:2"])
    assert images.delete("app:1") == [{"Untagged": "app:1"}]
    assert images.get("app:2").id == image.id


def test_layers_that_another_image_has_are_not_reported(images: Images, make: Maker) -> None:
    make(A, tags=["base"])
    image = make(A, B, tags=["app"])
    records = images.delete("app")
    assert records == [{"Untagged": "app:latest"}, {"Deleted": image.id}, {"Deleted": chain_ids(image.diff_ids)[1]}]


def test_an_id_removes_all_names_of_one_repository(images: Images, make: Maker) -> None:
    image = make(A, tags=["app"])
    images.record_digest(image.id, parse_reference(f"app@{image.manifest.digest}"))
    records = images.delete(image.id[7:19])
    assert records[:3] == [
        {"Untagged": "app:latest"},
        {"Untagged": f"app@{image.manifest.digest}"},
        {"Deleted": image.id},
    ]


def test_removing_the_last_tag_takes_the_digests_of_its_repository(images: Images, make: Maker) -> None:
    image = make(A, tags=["app"])
    images.record_digest(image.id, parse_reference(f"app@{image.manifest.digest}"))
    assert [next(iter(record)) for record in images.delete("app")][:3] == ["Untagged", "Untagged", "Deleted"]


def test_an_id_of_several_repositories_needs_force(images: Images, make: Maker) -> None:
    image = make(A, tags=["one", "two"])
    with pytest.raises(Conflict) as caught:
        images.delete(image.id)
    assert str(caught.value) == (
        f"conflict: unable to delete {image.id[7:19]} (must be forced) - image is referenced in multiple repositories"
    )
    assert [next(iter(record)) for record in images.delete(image.id, force=True)][:3] == [
        "Untagged",
        "Untagged",
        "Deleted",
    ]


def test_a_stopped_container_must_be_forced(images: Images, make: Maker) -> None:
    image = make(A, tags=["app"])
    with pytest.raises(Conflict) as by_name:
        images.delete("app", in_use=users(image))
    assert str(by_name.value) == (
        'conflict: unable to remove repository reference "app" (must force) - '
        f"container {CONTAINER[:12]} is using its referenced image {image.id[7:19]}"
    )
    with pytest.raises(Conflict) as by_id:
        images.delete(image.id, in_use=users(image))
    assert str(by_id.value) == (
        f"conflict: unable to delete {image.id[7:19]} (must be forced) - "
        f"image is being used by stopped container {CONTAINER[:12]}"
    )
    assert images.get("app").id == image.id

    assert {"Deleted": image.id} in images.delete("app", force=True, in_use=users(image))


def test_a_running_container_cannot_be_forced(images: Images, make: Maker) -> None:
    image = make(A, tags=["app"])
    with pytest.raises(Conflict) as caught:
        images.delete(image.id, force=True, in_use=users(image), running=lambda container: True)
    assert str(caught.value) == (
        f"conflict: unable to delete {image.id[7:19]} (cannot be forced) - "
        f"image is being used by running container {CONTAINER[:12]}"
    )
    assert images.get("app").references


def test_forcing_the_name_of_a_running_containers_image_only_untags(images: Images, make: Maker) -> None:
    image = make(A, tags=["app"])
    records = images.delete("app", force=True, in_use=users(image), running=lambda container: True)
    assert records == [{"Untagged": "app:latest"}]
    assert images.get(image.id).references == []


def test_a_parent_cannot_be_forced_and_goes_with_its_last_child(images: Images, make: Maker) -> None:
    parent = make(A)
    child = make(A, B, tags=["app"], parent=parent)
    with pytest.raises(Conflict) as caught:
        images.delete(parent.id, force=True)
    assert str(caught.value) == (
        f"conflict: unable to delete {parent.id[7:19]} (cannot be forced) - image has dependent child images"
    )

    records = images.delete("app")

    deleted = [record["Deleted"] for record in records if "Deleted" in record]
    assert deleted == [child.id, chain_ids(child.diff_ids)[1], parent.id, parent.diff_ids[0]]


def test_noprune_keeps_the_parent(images: Images, make: Maker) -> None:
    parent = make(A)
    make(A, B, tags=["app"], parent=parent)
    images.delete("app", noprune=True)
    assert [image.id for image in images.list()] == [parent.id]


def test_a_parent_with_a_name_stays(images: Images, make: Maker) -> None:
    parent = make(A, tags=["base"])
    make(A, B, tags=["app"], parent=parent)
    images.delete("app")
    assert images.get("base").id == parent.id


def test_an_unknown_name_is_not_found(images: Images, make: Maker) -> None:
    image = make(A, tags=["app"])
    for name in ("other", "app:2", f"app@{sha256(b'')}"):
        with pytest.raises(NotFound, match="No such image"):
            images.delete(name)
    assert images.get("app").id == image.id


def test_a_local_image_named_by_digest_is_untagged_by_no_other_name(images: Images, make: Maker) -> None:
    image = make(A, tags=["app"])
    with pytest.raises(NotFound, match="No such image: app@sha256"):
        images.delete(f"app@{image.manifest.digest}")


def test_prune_takes_dangling_images_only(images: Images, make: Maker) -> None:
    kept = make(A, tags=["app"])
    dangling = make(B)
    report = images.prune()
    assert report == {
        "ImagesDeleted": [{"Deleted": dangling.id}, {"Deleted": dangling.diff_ids[0]}],
        "SpaceReclaimed": dangling.size,
    }
    assert [image.id for image in images.list()] == [kept.id]


def test_prune_all_takes_unused_ones_and_leaves_used_ones(images: Images, make: Maker) -> None:
    used = make(A, tags=["used:1", "used:2"])
    unused = make(B, tags=["unused:1", "unused:2"])
    report = images.prune(False, {}, users(used))
    assert [image.id for image in images.list()] == [used.id]
    assert {"Deleted": unused.id} in report["ImagesDeleted"]
    assert len(images.get("used:1").references) == 2


def test_prune_of_nothing_says_null(images: Images) -> None:
    assert images.prune() == {"ImagesDeleted": None, "SpaceReclaimed": 0}


def test_prune_filters(images: Images, make: Maker) -> None:
    old = make(A, created="2020-01-01T00:00:00Z", labels={"keep": "yes"})
    new = make(B, created="2024-01-01T00:00:00Z")
    assert images.prune(True, {"until": ["2019-01-01"]})["ImagesDeleted"] is None
    assert images.prune(True, {"label": ["keep=no"]})["ImagesDeleted"] is None
    images.prune(True, {"label!": ["keep"]})
    assert [image.id for image in images.list()] == [old.id]
    images.prune(True, {"until": ["24h"], "label": ["keep"]})
    assert images.list() == []
    assert new.id not in [image.id for image in images.list()]


def test_prune_takes_dangling_from_its_filter(images: Images, make: Maker) -> None:
    make(A, tags=["app"])
    images.prune(True, {"dangling": ["false"]})
    assert images.list() == []


def test_an_unknown_prune_filter_is_refused(images: Images) -> None:
    with pytest.raises(InvalidInput, match="invalid filter 'colour'"):
        images.prune(True, {"colour": ["red"]})
