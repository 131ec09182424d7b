"""The two sides of a comparison: our daemon and a dockerd, each on a root and socket of its own."""

from __future__ import annotations

import compileall
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BUILDTOOL = str(Path(sys.executable).with_name("buildtool"))


def compile_ours() -> None:
    """What pip does for a wheel: where PYTHONDONTWRITEBYTECODE is set nobody else would, and each start compiles."""
    package = Path(__file__).parents[2] / "buildtool"
    compileall.compile_dir(package, quiet=2)


class Side:
    """A daemon under test. `cli` is the command that talks to it; `environment` names its socket."""

    name: str
    cli: list[str]

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = dict(os.environ)
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str, cli: list[str] | None = None, **options: Any) -> float:
        """Run one command of this side, its output thrown away; the seconds it took."""
        started = time.perf_counter()
        done = subprocess.run(
            [*(cli or self.cli), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"{self.name}: {' '.join(arguments)}: exit {done.returncode}\n{done.stdout.decode()}")
        return seconds

    def cpu(self, *arguments: str) -> float:
        """The CPU seconds (user + system) of one command."""
        before = os.times()
        self.run(*arguments)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    def wait_for(self, socket: Path) -> None:
        deadline = time.monotonic() + 30
        while not socket.exists():
            if time.monotonic() > deadline or (self.process and self.process.poll() is not None):
                raise SystemExit(f"{self.name}: the daemon does not come up; see {self.root}/log")
            time.sleep(0.02)

    def close(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)


class Ours(Side):
    """buildtool's daemon and CLI."""

    name = "buildtool"
    cli = [BUILDTOOL]  # noqa: RUF012

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        socket = root / "buildtool.sock"
        self.environment |= {
            "BUILDTOOL_ROOT": str(root / "data"),
            "BUILDTOOL_HOST": f"unix://{socket}",
            "DOCKER_HOST": f"unix://{socket}",
        }
        with (root / "log").open("wb") as log:
            self.process = subprocess.Popen([BUILDTOOL, "daemon"], env=self.environment, stdout=log, stderr=log)
        self.wait_for(socket)
        self.run("image", "bootstrap", "busybox")


class Docker(Side):
    """Debian's dockerd; `cli` is docker.io's own client where it is installed (its BuildKit needs no plugin)."""

    name = "docker"

    def __init__(self, root: Path, ours: Ours, *, bridge: bool = False) -> None:
        """With `bridge` it has its default network, in a network namespace of its own that its rules stay in."""
        super().__init__(root)
        stock = shutil.which("docker")
        if not stock or not shutil.which("dockerd"):
            raise SystemExit("no dockerd here: apt-get install docker.io")
        self.cli = ["/usr/bin/docker" if Path("/usr/bin/docker").exists() else stock]
        self.stock = [stock]
        socket = root / "docker.sock"
        self.environment |= {"DOCKER_HOST": f"unix://{socket}"}
        arguments = [] if bridge else ["--bridge=none", "--iptables=false", "--ip-masq=false"]
        program = ["unshare", "-n", "dockerd"] if bridge else ["dockerd"]
        with (root / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*program, "--data-root", str(root / "data"), "--exec-root", str(root / "exec"),
                 "--pidfile", str(root / "pid"), "-H", f"unix://{socket}", *arguments],
                stdout=log, stderr=log,
            )  # fmt: skip
        self.wait_for(socket)
        archive = root / "busybox.tar"
        ours.run("save", "-o", str(archive), "busybox")
        self.run("load", "-i", str(archive))


_IN_TREE = """
mount --make-rprivate / && mount --bind "$0" "$0" && mkdir -p "$0$1" && mount --bind "$1" "$0$1" || exit
if [ "$2" = dockerd ]; then
  for each in proc sys dev; do mount --rbind /$each "$0/$each" || exit; done
  mount -t tmpfs tmpfs "$0/run" || exit
fi
shift; cd "$0" && pivot_root . mnt && exec chroot . "$@"
"""


class DockerTree(Side):
    """A newer Docker with buildx, out of a tree that mmdebstrap made; its images are containerd's, which BuildKit's
    caches in registries need. What is mounted is so in namespaces that end with the programs.
    """

    name = "docker, newer"

    def __init__(self, root: Path, tree: Path) -> None:
        super().__init__(root)
        inside = ["unshare", "--mount", "sh", "-c", _IN_TREE, str(tree), str(root.parent)]
        self.cli = [*inside, "docker"]
        socket = root / "docker.sock"
        self.environment |= {"DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(root / "config")}
        settings = root / "daemon.json"
        settings.write_text('{"features": {"containerd-snapshotter": true}}')
        with (root / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [*inside, "dockerd", "--config-file", str(settings), "--data-root", str(root / "data"),
                 "--exec-root", str(root / "exec"), "--pidfile", str(root / "pid"), "-H", f"unix://{socket}",
                 "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"],
                stdout=log, stderr=log,
            )  # fmt: skip
        self.wait_for(socket)
