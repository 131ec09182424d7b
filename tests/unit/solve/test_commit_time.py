"""An image of a git context has the commit's time, its layers the base's."""

from __future__ import annotations

from tests.unit.solve.conftest import Workshop

TEXT = "FROM busybox\nCOPY file /\nRUN touch /made\nENV A=1\n"


def test_another_commit_gives_the_same_layers(shop: Workshop) -> None:
    shop.write(file="x")
    base = shop.images.get("busybox").config.created
    plain = shop.build(TEXT).image
    first = shop.build(TEXT, commit_epoch=1_750_000_000)
    second = shop.build(TEXT, commit_epoch=1_750_000_060)

    assert plain.config.created == base
    assert first.image.config.created == "2025-06-15T15:06:40Z"
    assert second.image.config.created == "2025-06-15T15:07:40Z"
    assert first.image.diff_ids == second.image.diff_ids == plain.diff_ids
    assert all(second.cached)
    made = (first.image.config.history or [])[-3:]
    assert {line.created for line in made} == {"2025-06-15T15:06:40Z"}
    assert shop.build(TEXT, commit_epoch=1_750_000_000).image.id == first.image.id


def test_who_declares_the_arg_gets_it_in_layers_too(shop: Workshop) -> None:
    shop.write(file="x")
    declared = "ARG SOURCE_DATE_EPOCH\n" + TEXT + "ARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > /epoch\n"
    built = shop.build(declared, commit_epoch=1_750_000_000)
    assert shop.tree(built.image)["/epoch"].content == "1750000000\n"
    assert built.image.layers[-1].epoch == 1_750_000_000
    assert shop.build(declared, commit_epoch=1_750_000_000, epoch=5).image.config.created == "1970-01-01T00:00:05Z"
