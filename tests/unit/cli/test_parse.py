"""Command lines as Docker's own parser reads them."""

from __future__ import annotations

import pytest

from buildtool.cli import table
from buildtool.cli.parse import (
    ArgumentCountError,
    Command,
    Flag,
    HelpAsked,
    UsageError,
    check_count,
    parse_flags,
)

FLAGS = (
    Flag("all", "a", "bool", ""),
    Flag("it", "i", "bool", ""),
    Flag("name", "n", "string", ""),
    Flag("env", "e", "list", ""),
    Flag("memory", "m", "bytes", ""),
    Flag("cpus", "", "decimal", ""),
    Flag("wait", "", "duration", ""),
    Flag("number", "", "int", ""),
    Flag("filter", "f", "filter", ""),
    Flag("proxy", "", "bool", "", default=True),
)


@pytest.mark.parametrize(
    ("words", "values", "arguments"),
    [
        ("-ai x", {"all": True, "it": True}, ["x"]),
        ("-an x y", {"all": True, "name": "x"}, ["y"]),
        ("-nx -n=y", {"name": "y"}, []),
        ("--name x --name=y", {"name": "y"}, []),
        ("--name= z", {"name": ""}, ["z"]),
        ("-e A=1 -eB=2 --env C", {"env": ["A=1", "B=2", "C"]}, []),
        ("--all=false --proxy=0", {"all": False, "proxy": False}, []),
        ("x -a y", {"all": True}, ["x", "y"]),
        ("x -- -a", {}, ["x", "-a"]),
        ("-", {}, ["-"]),
        ("-m 64m --cpus 1.5 --wait 1m30s --number 0x10", {"memory": 64 << 20, "cpus": 1_500_000_000}, []),
        ("-f a=b -f c=d", {"filter": ["a=b", "c=d"]}, []),
    ],
)
def test_well_formed_lines(words: str, values: dict[str, object], arguments: list[str]) -> None:
    parsed = parse_flags(FLAGS, words.split(), interspersed=True)
    assert {key: parsed.values[key] for key in values} == values
    assert parsed.arguments == arguments


def test_flags_of_the_command_in_the_container_are_left_alone() -> None:
    parsed = parse_flags(FLAGS, ["-a", "image", "ls", "-a", "--name"], interspersed=False)
    assert (parsed.values, parsed.arguments) == ({"all": True}, ["image", "ls", "-a", "--name"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--bogus", "unknown flag: --bogus"),
        ("-az", "unknown shorthand flag: 'z' in -az"),
        ("--name", "flag needs an argument: --name"),
        ("-an", "flag needs an argument: 'n' in -an"),
        ("-m zz", 'invalid argument "zz" for "-m, --memory" flag: invalid size: \'zz\''),
        ("--cpus x", 'invalid argument "x" for "--cpus" flag: failed to parse x as a rational number'),
        ("--wait foo", 'invalid argument "foo" for "--wait" flag: time: invalid duration "foo"'),
        ("--number x", 'invalid argument "x" for "--number" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        ("--all=maybe", 'invalid argument "maybe" for "-a, --all" flag: strconv.ParseBool: parsing "maybe": invalid'),
        ("-f foo", 'invalid argument "foo" for "-f, --filter" flag: bad format of filter (expected name=value)'),
    ],
)
def test_wrong_flags_in_dockers_words(words: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_flags(FLAGS, words.split(), interspersed=True)
    assert str(refused.value).startswith(message)
    assert refused.value.exit_code == 125


def test_a_mistyped_flag_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean --memory"):
        parse_flags(FLAGS, ["--memry", "1"], interspersed=True)


def test_help_is_asked_for() -> None:
    for word in ("--help", "-h"):
        with pytest.raises(HelpAsked):
            parse_flags(FLAGS, [word], interspersed=True)


@pytest.mark.parametrize(
    ("minimum", "maximum", "count", "message"),
    [
        (1, None, 0, "'x' requires at least 1 argument"),
        (2, None, 1, "'x' requires at least 2 arguments"),
        (2, 2, 1, "'x' requires 2 arguments"),
        (0, 0, 1, "'x' accepts no arguments"),
        (0, 1, 2, "'x' requires at most 1 argument"),
        (1, 2, 3, "'x' requires at least 1 and at most 2 arguments"),
    ],
)
def test_counts_of_arguments(minimum: int, maximum: int | None, count: int, message: str) -> None:
    command = Command("m:f", "", "", minimum=minimum, maximum=maximum)
    with pytest.raises(ArgumentCountError) as refused:
        check_count(command, "x", count)
    assert (str(refused.value), refused.value.exit_code) == (message, 1)


ALL_NAMES = sorted({*table.TOP_LEVEL.values(), *(name for group in table.GROUPS.values() for name in group.values())})


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_command_of_the_table_has_its_handler(name: str) -> None:
    from importlib import import_module

    command = table.load(name)
    module, _, function = command.handler.partition(":")
    assert callable(getattr(import_module(f"buildtool.cli.handlers.{module}"), function))
    names = [flag.name for flag in command.flags]
    shorts = [flag.short for flag in command.flags if flag.short]
    assert len(names) == len(set(names)) and len(shorts) == len(set(shorts))
    assert command.help


def test_dockers_flags_of_run_are_all_there() -> None:
    text = (
        "add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile "
        "cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems detach "
        "detach-keys device device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops "
        "disable-content-trust dns dns-option dns-search domainname entrypoint env env-file expose gpus group-add "
        "health-cmd health-interval health-retries health-start-interval health-start-period health-timeout hostname "
        "init interactive ip ip6 ipc isolation kernel-memory label label-file link link-local-ip log-driver log-opt "
        "mac-address memory memory-reservation memory-swap memory-swappiness mount name network network-alias "
        "no-healthcheck oom-kill-disable oom-score-adj pid pids-limit platform privileged publish publish-all pull "
        "quiet read-only restart rm runtime security-opt shm-size sig-proxy stop-signal stop-timeout storage-opt "
        "sysctl tmpfs tty ulimit user userns uts volume volume-driver volumes-from workdir"
    )
    assert set(text.split()) <= {flag.name for flag in table.load("run").flags}
