from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields

from buildtool.containers import body, mountspec
from buildtool.containers.model import Config, HostConfig
from buildtool.errors import BuildtoolError, InvalidInput, Unavailable
from buildtool.oci import ContainerConfig, HealthConfig


def _decode(host: dict[str, Any] | None = None, **config: Any) -> body.CreateBody:
    return body.decode_body({"Image": "busybox", "Cmd": ["true"], **config, "HostConfig": host})


def test_nulls_mean_not_given() -> None:
    parsed = body.decode_body(
        {
            "Image": "busybox",
            "Hostname": None,
            "Tty": None,
            "Env": None,
            "HostConfig": {"Memory": None, "Binds": None},
        }
    )
    assert (parsed.config.hostname, parsed.config.tty, parsed.host.memory) == ("", False, 0)


def test_commands_may_be_one_string() -> None:
    parsed = _decode(Cmd="true", Entrypoint="/bin/sh")
    assert (parsed.config.cmd, parsed.config.entrypoint) == (["true"], ["/bin/sh"])


@pytest.mark.parametrize("raw", [None, [], {}, {"HostConfig": {}}])
def test_an_empty_config_is_refused(raw: Any) -> None:
    with pytest.raises(InvalidInput, match="config cannot be empty in order to create a container"):
        body.decode_body(raw)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"Tty": "yes"}, r"\$\.Tty"),
        ({"Env": ["=x"]}, "invalid environment variable: =x"),
        ({"WorkingDir": "srv"}, "the working directory 'srv' is invalid, it needs to be an absolute path"),
        ({"ExposedPorts": {"http": {}}}, 'invalid port specification: "http"'),
        ({"ExposedPorts": {"80/xyz": {}}}, "invalid proto: xyz"),
        ({"Volumes": {"data": {}}}, "mount path must be absolute"),
        ({"Healthcheck": {"Interval": 5}}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Healthcheck": {"Retries": -1}}, "Retries in Healthcheck cannot be negative"),
    ],
)
def test_malformed_configs_are_refused(config: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        _decode(**config)


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"Memory": 1}, "Minimum memory limit allowed is 6MB"),
        ({"Memory": "1g"}, r"\$\.Memory"),
        ({"MemorySwap": 100 << 20}, "You should always set the Memory limit when using Memoryswap limit"),
        ({"NanoCpus": 10**15}, "range of CPUs is from 0.01 to"),
        ({"NanoCpus": 10**9, "CpuPeriod": 1000}, "Nano CPUs and CPU Period cannot both be set"),
        ({"CpusetCpus": "0-x"}, "Invalid value 0-x for cpuset cpus"),
        ({"RestartPolicy": {"Name": "x"}}, "unknown policy 'x'"),
        (
            {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
            "can't create 'AutoRemove' container",
        ),
        ({"PortBindings": {"80/tcp": [{"HostPort": "99999"}]}}, "invalid port specification"),
        ({"PortBindings": {"80/tcp": [{"HostIp": "nowhere"}]}}, "invalid IP address: nowhere"),
        ({"ExtraHosts": ["db"]}, 'bad format for add-host: "db"'),
        ({"LogConfig": {"Type": "carrier-pigeon"}}, "no log driver named 'carrier-pigeon' is registered"),
        ({"LogConfig": {"Type": "json-file", "Config": {"max-size": "x"}}}, "invalid size"),
        ({"SecurityOpt": ["nonsense"]}, 'invalid --security-opt: "nonsense"'),
        ({"SecurityOpt": ["seccomp={"]}, "decoding seccomp profile failed"),
        ({"Ulimits": [{"Name": "nofile", "Soft": 9, "Hard": 1}]}, "ulimit soft limit must be less than or equal"),
        ({"StorageOpt": {"size": "1G"}}, "--storage-opt is supported only for"),
        ({"Links": ["a:b:c"]}, "bad format for links: a:b:c"),
        ({"OomScoreAdj": 5000}, "range for oom score adj is"),
        ({"IpcMode": "telepathy"}, "invalid IPC mode: telepathy"),
        ({"Runtime": "nope"}, "unknown or invalid runtime name: nope"),
        ({"DeviceCgroupRules": ["all"]}, "invalid device cgroup rule format: 'all'"),
    ],
)
def test_malformed_host_configs_are_refused(host: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        _decode(host)


def test_what_is_not_there_says_so() -> None:
    with pytest.raises(Unavailable, match="could not select device driver"):
        _decode({"DeviceRequests": [{"Capabilities": [["gpu"]]}]})


IMAGE = ContainerConfig(
    user="app",
    env=["PATH=/bin", "A=1"],
    entrypoint=["/entry"],
    cmd=["serve"],
    working_dir="/srv",
    labels={"a": "image", "b": "image"},
    exposed_ports={"80/tcp": {}},
    volumes={"/data": {}},
    stop_signal="SIGINT",
    healthcheck=HealthConfig(test=["CMD", "check"], interval=5_000_000_000, retries=7),
)


def _merged(**config: Any) -> Config:
    parsed = body.decode_body({"Image": "busybox", **config})
    body.merge(parsed.config, IMAGE)
    return parsed.config


def test_what_is_left_open_comes_from_the_image() -> None:
    config = _merged()
    assert body.command(config) == ["/entry", "serve"]
    assert (config.user, config.working_dir, config.stop_signal) == ("app", "/srv", "SIGINT")
    assert config.env == ["PATH=/bin", "A=1"]
    assert config.volumes == {"/data": {}}


def test_the_requests_values_win_and_lists_are_joined() -> None:
    config = _merged(Env=["A=2", "B"], Labels={"a": "mine"}, ExposedPorts={"90": {}}, Volumes={"/more/": {}})
    assert config.env == ["A=2", "B", "PATH=/bin"]
    assert config.labels == {"a": "mine", "b": "image"}
    assert set(config.exposed_ports or ()) == {"80/tcp", "90/tcp"}
    assert set(config.volumes or ()) == {"/data", "/more"}


def test_a_command_keeps_the_images_entrypoint() -> None:
    assert body.command(_merged(Cmd=["x"])) == ["/entry", "x"]


def test_an_entrypoint_drops_the_images_command() -> None:
    assert body.command(_merged(Entrypoint=["/mine"])) == ["/mine"]


def test_an_empty_entrypoint_resets_the_images() -> None:
    assert body.command(_merged(Entrypoint=[""], Cmd=["x"])) == ["x"]


def test_without_any_command_it_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no command specified"):
        _merged(Entrypoint=[""])


def test_healthchecks_are_merged_member_by_member() -> None:
    health = _merged(Healthcheck={"Interval": 1_000_000_000}).healthcheck
    assert health == HealthConfig(test=["CMD", "check"], interval=1_000_000_000, retries=7)


def test_security_options() -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW"}
    parsed = body.security(["no-new-privileges", f"seccomp={json.dumps(profile)}", "label=disable"])
    assert (parsed.no_new_privileges, parsed.seccomp) == (True, profile)
    assert body.security(["seccomp:unconfined"]).seccomp == "unconfined"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = [field.encode_name for field in fields(Config)]
_HOST_KEYS = [field.encode_name for field in fields(HostConfig)]


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=4),
    st.dictionaries(st.sampled_from(_HOST_KEYS), _JSON | st.dictionaries(st.text(max_size=4), _JSON), max_size=4),
)
def test_any_json_is_taken_or_refused_with_an_error_of_ours(config: dict[str, Any], host: dict[str, Any]) -> None:
    """decode, merge and mount parsing never raise anything but BuildtoolError"""
    try:
        parsed = body.decode_body({**config, "HostConfig": host})
        body.merge(parsed.config, IMAGE)
        mountspec.mount_points(parsed.config, parsed.host, lambda name: [])
    except BuildtoolError as error:
        assert error.http_status in (400, 501)
