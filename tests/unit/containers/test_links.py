"""What a link says: its forms, the variables it gives."""

from __future__ import annotations

import pytest

from buildtool.containers import links
from buildtool.containers.model import Config, HostConfig, Record
from buildtool.errors import InvalidInput


def record(name: str, **config: object) -> Record:
    settings = Config(hostname="h", **config)  # type: ignore[arg-type]
    return Record(
        id=name * 8, name=name, created=1, image_id="sha256:1", snapshots=[], path="sh", args=[], platform="linux",
        config=settings, host=HostConfig(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("db", ("db", "db")),
        ("db:store", ("db", "store")),
        ("/db:/web/store", ("db", "store")),
    ],
)
def test_forms_of_a_link(text: str, found: tuple[str, str]) -> None:
    assert links.parse(text) == found


@pytest.mark.parametrize("text", ["", "a:b:c", ":b", "a:", "a:b c", "a:b\nc"])
def test_malformed_links_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="links"):
        links.parse(text)


def test_variables_name_ports_address_and_the_others_environment() -> None:
    child = record(
        "redis", exposed_ports={"6379/tcp": {}, "53/udp": {}}, env=["A=b=c", "PATH=/bin", "HOME=/root", "UNSET"]
    )
    assert links.variables("web", "my-db", "172.17.0.2", child) == [
        "MY_DB_PORT=tcp://172.17.0.2:6379",
        "MY_DB_PORT_53_UDP=udp://172.17.0.2:53",
        "MY_DB_PORT_53_UDP_ADDR=172.17.0.2",
        "MY_DB_PORT_53_UDP_PORT=53",
        "MY_DB_PORT_53_UDP_PROTO=udp",
        "MY_DB_PORT_6379_TCP=tcp://172.17.0.2:6379",
        "MY_DB_PORT_6379_TCP_ADDR=172.17.0.2",
        "MY_DB_PORT_6379_TCP_PORT=6379",
        "MY_DB_PORT_6379_TCP_PROTO=tcp",
        "MY_DB_NAME=/web/my-db",
        "MY_DB_ENV_A=b=c",
    ]


def test_hosts_line_has_alias_host_name_and_name_once() -> None:
    assert links.hosts_line("db", "10.0.0.2", record("db")) == "10.0.0.2\tdb h\n"
