"""Commands about the daemon, volumes and networks."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.shared import FILTER, FORCE_YES, FORMAT, FORMAT_F, NO_TRUNC

_QUIET = Flag("quiet", "q", "bool", "Show only names")

COMMANDS = {
    "version": Command(
        "version:version", "[OPTIONS]", "Show the versions of client and daemon", (FORMAT_F,), maximum=0
    ),
    "info": Command("info:info", "[OPTIONS]", "Show what the daemon says of itself", (FORMAT_F,), maximum=0),
    "events": Command(
        "events:events",
        "[OPTIONS]",
        "Show what happens, as it happens",
        (
            FILTER,
            FORMAT,
            Flag("since", "", "string", "Begin at this time"),
            Flag("until", "", "string", "End at this time"),
        ),
        maximum=0,
    ),
    "system df": Command(
        "df:df",
        "[OPTIONS]",
        "Show what takes how much room on disk",
        (FORMAT, Flag("verbose", "v", "bool", "Show each object")),
        maximum=0,
    ),
    "system prune": Command(
        "prune:system",
        "[OPTIONS]",
        "Remove what nothing uses",
        (
            Flag("all", "a", "bool", "Remove all unused images, not only untagged ones"),
            Flag("filter", "", "filter", "Only what fulfils the condition (until=…, label=…)"),
            FORCE_YES,
            Flag("volumes", "", "bool", "Remove anonymous volumes too"),
        ),
        maximum=0,
    ),
    "system check": Command(
        "check:check",
        "[OPTIONS]",
        "Check the store: every blob, every reference",
        (Flag("repair", "", "bool", "Mend what can be mended"),),
        maximum=0,
    ),
    "system dial-stdio": Command(
        "contexts:dial_stdio",
        "",
        "Lend the standard streams to the daemon's connection (what ssh:// runs on the other machine)",
        maximum=0,
    ),
    "builder prune": Command(
        "prune:build_cache",
        "[OPTIONS]",
        "Remove the build cache",
        (
            Flag("all", "a", "bool", "Remove all of it, not only what nothing uses"),
            Flag("filter", "", "filter", "Only what fulfils the condition"),
            FORCE_YES,
            Flag("keep-storage", "", "bytes", "Keep so much of it"),
        ),
        maximum=0,
    ),
    "daemon": Command("daemon:daemon", "[OPTIONS]", "Run the daemon in the foreground", interspersed=False),
    "volume ls": Command("volumes:list_", "[OPTIONS]", "List volumes", (FILTER, FORMAT, _QUIET), maximum=0),
    "volume create": Command(
        "volumes:create",
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        (
            Flag("driver", "d", "string", "Driver of the volume", default="local"),
            Flag("label", "", "list", "Set a label"),
            Flag("opt", "o", "map", "Option of the driver"),
        ),
        maximum=1,
    ),
    "volume inspect": Command(
        "inspect:inspect_volume",
        "[OPTIONS] VOLUME [VOLUME...]",
        "Show all that is known of one or more volumes",
        (FORMAT_F,),
        minimum=1,
    ),
    "volume rm": Command(
        "volumes:rm",
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes",
        (Flag("force", "f", "bool", "Do not complain of a volume that is not there"),),
        minimum=1,
    ),
    "volume prune": Command(
        "prune:volumes",
        "[OPTIONS]",
        "Remove unused volumes",
        (
            Flag("all", "a", "bool", "Remove named ones too, not only anonymous ones"),
            Flag("filter", "", "filter", "Only what fulfils the condition (label=…)"),
            FORCE_YES,
        ),
        maximum=0,
    ),
    "volume update": Command(
        "volumes:update",
        "[OPTIONS] VOLUME",
        "Update a volume (of a cluster only)",
        (Flag("availability", "", "string", "active, pause or drain", default="active"),),
        minimum=1,
        maximum=1,
    ),
    "volume export": Command(
        "volumes:export",
        "[OPTIONS] VOLUME",
        "Write a volume's content to a tar archive",
        (Flag("output", "o", "string", "File to write: .tar, .tar.gz or .tar.zst (default: STDOUT, plain)"),),
        minimum=1,
        maximum=1,
    ),
    "volume import": Command(
        "volumes:import_",
        "[OPTIONS] VOLUME [FILE|-]",
        "Fill a volume from a tar archive, plain or compressed",
        (Flag("replace", "", "bool", "Replace what is in the volume"),),
        minimum=1,
        maximum=2,
    ),
    "network ls": Command(
        "networks:list_", "[OPTIONS]", "List networks", (FILTER, FORMAT, NO_TRUNC, _QUIET), maximum=0
    ),
    "network create": Command(
        "networks:create",
        "[OPTIONS] NETWORK",
        "Create a network",
        (
            Flag("attachable", "", "bool", "Let containers be connected by hand"),
            Flag("aux-address", "", "map", "Address that no container gets (NAME=IP)"),
            Flag("config-from", "", "string", "Network to copy the configuration from"),
            Flag("config-only", "", "bool", "Create a configuration only"),
            Flag("driver", "d", "string", "Driver of the network", default="bridge"),
            Flag("gateway", "", "list", "Gateway of a subnet"),
            Flag("ingress", "", "bool", "Create a swarm's routing mesh"),
            Flag("internal", "", "bool", "Connect it to nothing outside"),
            Flag("ip-range", "", "list", "Part of a subnet that containers get their addresses from"),
            Flag("ipam-driver", "", "string", "Driver of the address management", default="default"),
            Flag("ipam-opt", "", "map", "Option of the address management"),
            Flag("ipv4", "", "bool", "Give containers IPv4 addresses", default=True),
            Flag("ipv6", "", "bool", "Give containers IPv6 addresses"),
            Flag("label", "", "list", "Set a label"),
            Flag("opt", "o", "map", "Option of the driver"),
            Flag("scope", "", "string", "Scope of the network"),
            Flag("subnet", "", "list", "Subnet in CIDR form"),
        ),
        minimum=1,
        maximum=1,
    ),
    "network rm": Command(
        "networks:rm",
        "NETWORK [NETWORK...]",
        "Remove one or more networks",
        (Flag("force", "f", "bool", "Do not fail for networks that do not exist"),),
        minimum=1,
    ),
    "network connect": Command(
        "networks:connect",
        "[OPTIONS] NETWORK CONTAINER",
        "Connect a container to a network",
        (
            Flag("alias", "", "list", "Further name of the container on the network"),
            Flag("driver-opt", "", "list", "Option of the driver for this connection"),
            Flag("gw-priority", "", "int", "The network of the highest priority gives the default gateway"),
            Flag("ip", "", "string", "IPv4 address"),
            Flag("ip6", "", "string", "IPv6 address"),
            Flag("link", "", "list", "Link to another container"),
            Flag("link-local-ip", "", "list", "Link-local address"),
        ),
        minimum=2,
        maximum=2,
    ),
    "network disconnect": Command(
        "networks:disconnect",
        "[OPTIONS] NETWORK CONTAINER",
        "Disconnect a container from a network",
        (Flag("force", "f", "bool", "Disconnect it whatever its state is"),),
        minimum=2,
        maximum=2,
    ),
    "network prune": Command(
        "prune:networks",
        "[OPTIONS]",
        "Remove networks that nothing is connected to",
        (Flag("filter", "", "filter", "Only what fulfils the condition (until=…, label=…)"), FORCE_YES),
        maximum=0,
    ),
    "network inspect": Command(
        "inspect:inspect_network",
        "[OPTIONS] NETWORK [NETWORK...]",
        "Show all that is known of one or more networks",
        (FORMAT_F, Flag("verbose", "v", "bool", "Show more")),
        minimum=1,
    ),
}
