"""Sockets and flags of the daemon."""

from __future__ import annotations

import grp
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from buildtool.daemon import listen, options
from buildtool.errors import Conflict, Forbidden, InvalidInput

ANYONE = listen.Access()


def test_unix_socket_has_its_mode_and_replaces_a_stale_one(short_dir: Path) -> None:
    path = short_dir / "deep" / "d.sock"
    first = listen.bind(listen.parse_address(f"unix://{path}"), ANYONE)
    first.socket.close()
    assert path.is_socket()

    second = listen.bind(listen.parse_address(str(path)), ANYONE)

    status = path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o660
    if os.geteuid() == 0 and any(group.gr_name == "docker" for group in grp.getgrall()):
        assert status.st_gid == grp.getgrnam("docker").gr_gid
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert os.listdir(path.parent) == ["d.sock"]
    second.close()
    assert not path.exists()


def test_a_living_daemons_socket_and_a_file_are_in_the_way(short_dir: Path) -> None:
    address = listen.parse_address(f"unix://{short_dir}/d.sock")
    living = listen.bind(address, ANYONE)
    with pytest.raises(Conflict, match="another daemon listens there"):
        listen.bind(address, ANYONE)
    living.close()
    (short_dir / "d.sock").write_text("precious")
    with pytest.raises(Conflict, match="a file that is not a socket is in the way"):
        listen.bind(address, ANYONE)
    assert (short_dir / "d.sock").read_text() == "precious"


def test_closing_leaves_a_successors_name_alone(short_dir: Path) -> None:
    address = listen.parse_address(f"unix://{short_dir}/d.sock")
    old = listen.bind(address, ANYONE)
    old.socket.close()
    new = listen.bind(address, ANYONE)
    old.close()
    assert (short_dir / "d.sock").is_socket()
    new.close()


def test_tcp_takes_certificates_or_is_for_this_machine_and_asked_for() -> None:
    local = listen.parse_address("tcp://127.0.0.1:0")
    for access in (listen.Access(plain_tcp=True), listen.Access(tls=True)):
        listener = listen.bind(local, access)
        assert listener.socket.getsockname()[1] > 0
        listener.close()
    with pytest.raises(Forbidden, match="--plain-tcp"):
        listen.bind(local, ANYONE)
    for text in ("tcp://0.0.0.0:2375", "tcp://[::]:2375", "tcp://10.0.0.1:2375"):
        with pytest.raises(Forbidden, match="--tlsverify"):
            listen.bind(listen.parse_address(text), listen.Access(plain_tcp=True))


def test_group_and_mode_of_the_socket_can_be_chosen(short_dir: Path) -> None:
    address = listen.parse_address(f"unix://{short_dir}/d.sock")
    group = grp.getgrgid(os.getgid()).gr_name
    listener = listen.bind(address, listen.Access(group=group, mode=0o600))
    status = os.stat(address.path)
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o600, os.getgid())
    listener.close()
    with pytest.raises(InvalidInput, match="the group 'no-such-group' of the socket does not exist"):
        listen.bind(address, listen.Access(group="no-such-group"))
    with pytest.raises(InvalidInput, match="invalid --socket-mode"):
        options.parse(["--socket-mode", "9"])


@pytest.mark.parametrize(
    "text", ["http://x", "unix://relative", "tcp://host", "tcp://h:99999", "", "unix:///" + "x" * 120]
)
def test_wrong_addresses_are_named(text: str) -> None:
    with pytest.raises(InvalidInput, match="cannot listen on"):
        listen.parse_address(text)


def test_passed_sockets_are_ours_only_when_the_pid_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert listen.passed_sockets(ANYONE) == []
    assert "LISTEN_FDS" not in os.environ


def test_where_things_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BUILDTOOL_HOST", "BUILDTOOL_ROOT", "BUILDTOOL_ROOTLESS_UID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    plain = options.parse([])
    assert (str(plain.root), str(plain.run_dir)) == ("/var/lib/buildtool", "/run/buildtool")
    assert [str(address) for address in plain.addresses] == ["unix:///run/buildtool/buildtool.sock"]

    rooted = options.parse(["--root", str(tmp_path)])
    assert rooted.run_dir == tmp_path / "run"
    assert [address.path for address in rooted.addresses] == [f"{tmp_path}/run/buildtool.sock"]

    monkeypatch.setenv("BUILDTOOL_HOST", "unix:///tmp/a.sock")
    monkeypatch.setenv("BUILDTOOL_ROOT", str(tmp_path))
    named = options.parse(["-H", "unix:///tmp/b.sock", "--host", "tcp://127.0.0.1:1", "--idle-timeout", "5"])
    assert [str(address) for address in named.addresses] == ["unix:///tmp/b.sock", "tcp://127.0.0.1:1"]
    assert (named.run_dir, named.idle_timeout) == (tmp_path / "run", 5.0)


def test_help_and_wrong_flags_are_quick_and_import_nothing_heavy() -> None:
    code = (
        "import sys; from buildtool.daemon.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert 'aiohttp' not in sys.modules and 'asyncio' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--idle-timeout" in done.stdout
    wrong = subprocess.run([sys.executable, "-m", "buildtool.daemon.main", "--nope"], capture_output=True, text=True)
    assert wrong.returncode == 2
    unusable = subprocess.run(
        [sys.executable, "-m", "buildtool.daemon.main", "-H", "x"], capture_output=True, text=True
    )
    assert (unusable.returncode, unusable.stderr.startswith("buildtool daemon: cannot listen on 'x'")) == (1, True)
