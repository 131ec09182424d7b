"""Docker's rules for `user[:group]`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.errors import InvalidInput
from buildtool.runtime.users import ResolvedUser, resolve_user

_PASSWD = """# comment
root:x:0:0:root:/root:/bin/sh
app:x:1000:1001:App:/home/app:/bin/sh
short:x:5
42:x:77:78::/odd:/bin/sh
"""
_GROUP = """root:x:0:
app:x:1001:
staff:x:50:app,other
wheel:x:10:root, app
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ResolvedUser(0, 0, (0, 10), "/root", "root")),
        ("root", ResolvedUser(0, 0, (0, 10), "/root", "root")),
        ("app", ResolvedUser(1000, 1001, (1001, 50, 10), "/home/app", "app")),
        ("1000", ResolvedUser(1000, 1001, (1001, 50, 10), "/home/app", "app")),
        ("app:staff", ResolvedUser(1000, 50, (50,), "/home/app", "app")),
        ("app:7", ResolvedUser(1000, 7, (7,), "/home/app", "app")),
        ("4242", ResolvedUser(4242, 0, (0,), "/", "")),
        ("4242:4343", ResolvedUser(4242, 4343, (4343,), "/", "")),
        ("42", ResolvedUser(77, 78, (78,), "/odd", "42")),
        (":staff", ResolvedUser(0, 50, (50,), "/root", "root")),
    ],
)
def test_resolves_as_docker_does(text: str, expected: ResolvedUser) -> None:
    assert resolve_user(text, _PASSWD, _GROUP) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("app:nogroup", "unable to find group nogroup: no matching entries in group file"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("0:99999999999", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_refuses_with_dockers_texts(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        resolve_user(text, _PASSWD, _GROUP)
    assert str(raised.value) == message


def test_extra_groups_by_name_and_number() -> None:
    assert resolve_user("app", _PASSWD, _GROUP, ["staff", "999"]).additional_gids == (1001, 50, 10, 999)
    with pytest.raises(InvalidInput, match="Unable to find group nope"):
        resolve_user("app", _PASSWD, _GROUP, ["nope"])


def test_an_image_without_files_has_a_root() -> None:
    assert resolve_user("", "", "") == ResolvedUser(0, 0, (0,), "/", "")


@given(st.text(), st.text(), st.text())
def test_any_input_resolves_or_is_refused(text: str, passwd: str, group: str) -> None:
    """resolve_user never fails but with InvalidInput, and its ids are in range."""
    try:
        user = resolve_user(text, passwd, group)
    except InvalidInput:
        return
    assert isinstance(user.uid, int)
