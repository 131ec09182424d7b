"""The limits of the build cache in daemon.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildtool.daemon.tidying import GcLimits, load_limits
from buildtool.errors import InvalidInput

GIB = 1 << 30


def test_without_a_file_a_share_of_the_disk(tmp_path: Path) -> None:
    policy = load_limits(tmp_path).policy(100 * GIB)
    assert (policy.reserved, policy.max_used, policy.min_free) == (10 * GIB, 60 * GIB, 20 * GIB)
    assert policy.unused_for == 60 * 86400.0
    assert policy.mounts


def test_dockers_keys_and_ours(tmp_path: Path) -> None:
    gc = {"defaultReservedSpace": "2GB", "defaultMaxUsedSpace": "50%", "defaultMinFreeSpace": "1g", "unusedFor": "7d"}
    (tmp_path / "daemon.json").write_text(json.dumps({"builder": {"gc": gc}, "registry-mirrors": []}))
    policy = load_limits(tmp_path).policy(10 * GIB)
    assert (policy.reserved, policy.max_used, policy.min_free) == (2 * GIB, 5 * GIB, GIB)
    (tmp_path / "daemon.json").write_text('{"builder": {"gc": {"enabled": false}}}')
    assert load_limits(tmp_path) == GcLimits(enabled=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a JSON document"),
        ('{"builder": []}', "builder.gc is not an object"),
        ('{"builder": {"gc": {"defaultSpace": "1g"}}}', "builder.gc.defaultSpace is unknown"),
        ('{"builder": {"gc": {"defaultMaxUsedSpace": "much"}}}', "defaultMaxUsedSpace"),
        ('{"builder": {"gc": {"unusedFor": "long"}}}', "unusedFor"),
    ],
)
def test_errors_name_the_file_and_the_key(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "daemon.json").write_text(text)
    with pytest.raises(InvalidInput) as refused:
        load_limits(tmp_path)
    assert words in str(refused.value)
    assert "daemon.json" in str(refused.value)
