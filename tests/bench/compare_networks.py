"""`docker network`, `docker volume` and `docker run -p` by the stock CLI: on dockerd and on us, side by side.

`python -m tests.bench.compare_networks` prints what differs. Each daemon is in a network
namespace of its own. What differs stands in `DIFFERENT`, with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.bench_networks import Peer, docker, ours

_IDS = re.compile(r"\b[0-9a-f]{64}\b")
_SHORT = re.compile(r"\b[0-9a-f]{12}\b")
_PORTS = re.compile(r"(?<=:)(3[2-9]|[456]\d)\d{3}\b")

NETWORKS = """
network ls --format {{.Name}},{{.Driver}},{{.Scope}},{{.Internal}},{{.IPv6}}
network create one
network create one
network create bridge
network create host
network create -d nosuch x
network create -d overlay x
network create -d host x
network create --subnet 10.1.0.0/16 --gateway 10.1.0.9 --label a=b -o com.docker.network.driver.mtu=1400 two
network create --subnet 10.1.2.0/24 three
network create --subnet nonsense three
network create --subnet 10.2.0.0/16 --gateway 10.3.0.1 three
network create --subnet 10.2.0.0/16 --ip-range 10.3.0.0/24 three
network create --subnet 10.2.0.0/16 --subnet 10.2.0.0/24 three
network create --subnet 10.2.0.0/16 --subnet 10.4.0.0/24 three
network create --internal --subnet 10.5.0.0/24 --aux-address router=10.5.0.7 inner
network create --ipv6 --subnet fd00:5::/64 --subnet 10.6.0.0/24 six
network create --config-only --subnet 10.7.0.0/24 settings
network create --config-from settings real
network create --config-from nothing other
network create --scope swarm x
network inspect two
network inspect inner
network inspect six
network inspect settings real
network inspect host none
network inspect nosuch
network inspect -f {{.Name}},{{.Driver}} one two
network ls -q -f name=one
network ls --format {{.Name}} -f driver=bridge
network ls --format {{.Name}} -f type=custom
network ls --format {{.Name}} -f type=builtin
network ls --format {{.Name}} -f type=wrong
network ls --format {{.Name}} -f label=a
network ls --format {{.Name}} -f label=a=c
network ls --format {{.Name}} -f scope=local
network ls --format {{.Name}} -f dangling=true
network ls --format {{.Name}} -f wrong=x
run -d --name web --network two --ip 10.1.0.50 --network-alias www busybox sleep 600
run -d --name peer --network two busybox sleep 600
run --rm --network two --ip 10.1.0.50 busybox true
run --rm --network two --ip 10.9.0.50 busybox true
run --rm --ip 10.1.0.50 busybox true
run --rm --network-alias x busybox true
run --rm --network nosuch busybox true
run --rm --network container:nosuch busybox true
run --rm --network container:web -p 80:80 busybox true
run --rm --network container:web --hostname x busybox true
run --rm --network host --ip 10.1.0.9 busybox true
exec peer nslookup -type=a www
exec peer nslookup -type=a web.two
exec peer ping -c1 -W2 web
exec peer cat /etc/resolv.conf
network connect two web
network connect nosuch web
network connect one nosuch
network connect --alias w one web
network connect --ip 10.1.0.77 one peer
network connect host web
network connect inner web
exec web ip -4 -o address show eth2
inspect -f {{json.NetworkSettings.Networks.two.Aliases}} web
inspect -f {{range$k,$v:=.NetworkSettings.Networks}}{{$k}},{{end}} web
network create -d macvlan --subnet 10.8.0.0/24 -o parent=nosuch0 mac
network create -d macvlan --subnet 10.8.0.0/24 -o parent=lo mac
network create -o com.docker.network.driver.mtu=abc bad
network create -o com.docker.network.bridge.name=a-name-that-is-too-long bad
network create -o com.docker.network.bridge.enable_icc=maybe bad
network create --gateway 10.66.0.1 bad
network create --ip-range 10.66.0.0/24 bad
network create --subnet 10.66.0.0/24 --aux-address x=1.2.3.4 bad
run --rm --network two --dns 192.0.2.1 --dns-search x.y --dns-option timeout:1 busybox cat /etc/resolv.conf
run --rm --dns 192.0.2.1 --dns-search . busybox cat /etc/resolv.conf
run --rm --network none --add-host a:1.2.3.4 --hostname h busybox cat /etc/hosts
run --rm --network two --add-host up:host-gateway busybox grep -c up /etc/hosts
run --rm --add-host bad busybox true
run --rm --add-host bad:address busybox true
run --rm --dns wrong busybox true
run --rm --network two --mac-address zz busybox true
run --rm --network two --link web:db busybox ping -c1 -W2 db
run --rm --link nosuch busybox true
run --rm --network two --link-local-ip 169.254.7.7 busybox ip -4 -o address show eth0
run --rm --network host busybox true
run --rm --network bridge --network-alias x busybox true
network connect --ip 10.1.0.50 two peer
network disconnect one web
network disconnect one web
network disconnect nosuch web
network disconnect one nosuch
network rm two
network rm bridge
network rm nosuch
network rm settings
network prune -f
network ls --format {{.Name}}
rm -f web peer
network rm two one
network create bad/name
"""

PORTS = """
run -d --name web -p 8080:80 -p 127.0.0.1:8081:81/udp -p 9000-9002:90-92 --expose 99 busybox sleep 600
port web
port web 80
port web 80/udp
port web 77
ps --format {{.Names}},{{.Ports}}
inspect -f {{json.NetworkSettings.Ports}} web
inspect -f {{json.HostConfig.PortBindings}} web
run --rm -p 8080:80 busybox true
run --rm -p 8080:80/udp busybox true
run --rm -p 80:99999 busybox true
run --rm -p x:80 busybox true
run --rm -p 80:80/xyz busybox true
run --rm -p 9.9.9.9:80:80 busybox true
run --rm -p nohost:80:80 busybox true
run --rm -p 90-92:80-81 busybox true
run -d --name six -p [::1]:8090:80 -p 127.0.0.1::81 busybox sleep 600
port six
run --rm -p 0:80 busybox true
run --rm -p 70000:80 busybox true
run --rm -p :80: busybox true
run --rm --expose 1-2-3 busybox true
run --rm --expose 80/xyz busybox true
rm -f six
run --rm -p 8080-8083:80 --name range busybox true
run -d --name all -P --expose 70 --expose 71-72/udp busybox sleep 600
port all
run -d --name free -p 80 busybox sleep 600
port free
run --rm --network host -p 80:80 busybox true
run --rm --network none -p 80:80 busybox true
stop -t 0 web
port web
start web
port web 80
rm -f web all free
"""

VOLUMES = """
volume create one
volume create one
volume create --label a=b --label c two
volume create x
volume create bad/name
volume create -d nosuch three
volume create -o wrong=x three
volume create -o type=tmpfs three
volume create -o type=tmpfs -o device=tmpfs -o o=size=1m quick
volume inspect one
volume inspect two quick
volume inspect nosuch
volume inspect -f {{.Name}},{{.Scope}} one nosuch
volume ls
volume ls -q
volume ls -q -f name=o
volume ls -q -f label=a=b
volume ls -q -f driver=local
volume ls -q -f driver=other
volume ls -q -f dangling=true
volume ls -q -f dangling=maybe
volume ls -q -f wrong=x
run -d --name user -v one:/one -v quick:/quick:ro -v /anonymous busybox sleep 600
run --rm -v one:/one busybox touch /one/file
run --rm -v one:/one:ro busybox touch /one/other
run --rm -v one:/one:wrong busybox true
run --rm -v one:relative busybox true
run --rm -v one:/ busybox true
run --rm -v aa:/x -v bb:/x busybox true
run --rm -v bad!name:/x busybox true
run --rm --mount type=bind,src=/not/there,dst=/x busybox true
run --rm --mount type=wrong,dst=/x busybox true
run --rm --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770 busybox stat -c %a /t
run --rm --mount type=tmpfs,src=x,dst=/t busybox true
run --rm --tmpfs /t:size=64k,wrong=1 busybox true
run --rm --tmpfs /t:rw,size=64k busybox grep /t.tmpfs /proc/mounts
run --rm --volumes-from user busybox ls /one
run --rm --volumes-from user:ro busybox touch /one/x
run --rm --volumes-from user:wrong busybox true
run --rm --volumes-from nosuch busybox true
run --rm --mount type=volume,src=one,dst=/x,volume-nocopy busybox ls /x
run --rm --mount type=volume,dst=/x,volume-driver=nosuch busybox true
run --rm --mount type=volume,src=one,dst=relative busybox true
run --rm --mount type=volume,src=one busybox true
run --rm --mount type=volume,src=/etc,dst=/x busybox true
run --rm --mount type=bind,src=relative,dst=/x busybox true
run --rm --mount type=bind,src=/etc,dst=/x,bind-propagation=wild busybox true
run --rm --mount type=bind,src=/etc,dst=/x,volume-nocopy busybox true
run --rm -v /etc:/x:rshared,rslave busybox true
run --rm -v /etc:/x:ro,rw busybox true
run --rm -v one:/x:nocopy busybox ls /x
run --rm -v /:/x:ro busybox test -d /x/etc
run --rm --tmpfs relative busybox true
run --rm --read-only -v one:/x busybox touch /x/written
volume create -d local -o type=none -o o=bind -o device=/not/there gone
run --rm -v gone:/x busybox true
volume create -o o=bind -o device=/etc incomplete
volume create --label only-key labelled
volume inspect labelled
volume ls --format {{.Name}},{{.Labels}} -f label=only-key
inspect -f {{.HostConfig.Binds}} user
volume rm one
volume rm nosuch
volume rm -f nosuch
volume ls -q -f dangling=false
rm -f -v user
volume rm one two
volume prune -f
volume rm -f labelled gone
volume ls -q
"""

NEWER = "as Docker 28 says it"
CLEARER = "says more"
DIFFERENT = {
    "network create bad/name": "names of networks stand in URLs and in names of containers: only [a-zA-Z0-9_.-]",
    "network create -d nosuch x": NEWER,
    "network create -d overlay x": "we have no `docker swarm init` to recommend",
    "network create --subnet 10.1.2.0/24 three": NEWER,
    "network create --subnet nonsense three": NEWER,
    "network create --subnet 10.2.0.0/16 --subnet 10.4.0.0/24 three": CLEARER,
    "network inspect two": f"EnableIPv4, {NEWER}",
    "network inspect inner": f"EnableIPv4 and the gateway, {NEWER}",
    "network inspect six": f"EnableIPv4 and the gateways, {NEWER}",
    "network inspect settings real": f"EnableIPv4 and the gateway, {NEWER}",
    "network inspect host none": f"EnableIPv4 and no IPAM configuration, {NEWER}",
    "network ls --format {{.Name}} -f wrong=x": NEWER,
    "run --rm --network two --ip 10.1.0.50 busybox true": CLEARER,
    "run --rm --network two --ip 10.9.0.50 busybox true": NEWER,
    "network connect --ip 10.1.0.77 one peer": NEWER,
    "network rm two": NEWER,
    "run --rm -p 9.9.9.9:80:80 busybox true": NEWER,
    "volume ls -q -f dangling=maybe": NEWER,
    "volume ls -q -f wrong=x": NEWER,
    "run --rm --tmpfs /t:size=64k,wrong=1 busybox true": CLEARER,
    "network create -d macvlan --subnet 10.8.0.0/24 -o parent=nosuch0 mac": CLEARER,
    "network create -o com.docker.network.driver.mtu=abc bad": CLEARER,
    "network create -o com.docker.network.bridge.name=a-name-that-is-too-long bad": CLEARER,
    "network create -o com.docker.network.bridge.enable_icc=maybe bad": CLEARER,
    "run --rm --network two --dns 192.0.2.1 --dns-search x.y --dns-option timeout:1 busybox cat /etc/resolv.conf": (
        f"the order of the lines, {NEWER}"
    ),
    "run --rm --network none --add-host a:1.2.3.4 --hostname h busybox cat /etc/hosts": (
        "the own host name can be looked up without a network too, as with podman"
    ),
    "run --rm --expose 80/xyz busybox true": "no such protocol: refused, not ignored",
    "run --rm --mount type=volume,dst=/x,volume-driver=nosuch busybox true": (
        "dockerd's 404 makes the client look for the image in a registry"
    ),
    "run --rm --mount type=volume,src=/etc,dst=/x busybox true": CLEARER,
    "volume prune -f": "before API 1.42 (this dockerd's) named volumes are pruned too; we speak 1.50",
}
"""The commands whose answers differ, and why. A hint of ours below the same message is no difference."""


Answer = tuple[int, Any, str]


class Both:
    """The two daemons."""

    def __init__(self, folder: Path) -> None:
        self.mine = ours(folder / "ours")
        self.theirs = docker(folder / "docker", folder / "ours/busybox.tar")
        self._config = folder / "config"
        self.count = 0

    def close(self) -> None:
        """End both."""
        self.mine.close()
        self.theirs.close()

    def compare(self, text: str) -> dict[str, tuple[Any, Any]]:
        """The lines of a scenario that the two answer differently: ours, theirs."""
        different = {}
        for line in filter(None, text.splitlines()):
            self.count += 1
            answers = [self._run(peer, line) for peer in (self.theirs, self.mine)]
            if not _alike(*answers):
                different[line] = (answers[1], answers[0])
        return different

    def _run(self, peer: Peer, line: str) -> Answer:
        environment = {"DOCKER_HOST": f"unix://{peer.socket}", "DOCKER_CONFIG": str(self._config)}
        done = subprocess.run(
            ["docker", *line.replace("{{json.", "{{json .").split()],
            env={**os.environ, **environment, "DOCKER_CLI_HINTS": "false"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, normal(done.stdout, peer), str(normal(done.stderr, peer))


def _alike(theirs: Answer, mine: Answer) -> bool:
    return theirs[:2] == mine[:2] and set(theirs[2].splitlines()) <= set(mine[2].splitlines())


def normal(text: str, peer: Peer) -> Any:
    """Without what is another one each time: ids, times, free ports, places."""
    text = text.replace(str(peer.root), "ROOT")
    text = _PORTS.sub("PORT", _SHORT.sub("SHORT", _IDS.sub("ID", text)))
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)", "TIME", text)
    text = re.sub(r"[\d./]+ ms\b|^\d+(?=: eth)", "N", text, flags=re.MULTILINE)
    text = re.sub(r"/overlay2/\S+|/containers/\S+", "LAYERS", text)
    text = re.sub(r"endpoint [a-z_]+ \(", "endpoint NAME (", text)
    if text.startswith("Deleted "):
        text = "\n".join(sorted(text.splitlines()))
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    """Compare, print, and fail for what is not listed."""
    folder = Path(tempfile.mkdtemp(prefix="bt-peers-", dir="/tmp"))
    both = Both(folder)
    try:
        found = {line: answers for text in (NETWORKS, PORTS, VOLUMES) for line, answers in both.compare(text).items()}
    finally:
        both.close()
        shutil.rmtree(folder, ignore_errors=True)
    for line, answers in found.items():
        print(f"$ docker {line}")
        for name, answer in zip(("ours", "docker"), answers, strict=True):
            print(f"  {name:7}{answer[0]} {answer[1]!r} {answer[2]!r}")
        print(f"  {DIFFERENT.get(line, 'NOT LISTED')}")
    unlisted = [line for line in found if line not in DIFFERENT]
    stale = [line for line in DIFFERENT if line not in found]
    print(f"{len(found)} of {both.count} commands differ; not listed: {len(unlisted)}; listed, but equal: {stale}")
    raise SystemExit(1 if unlisted or stale else 0)


if __name__ == "__main__":
    main()
