"""Our commands have every verb and every flag of the stock docker CLI, as its --help tells them."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from buildtool.cli import table
from buildtool.cli.main import _find
from buildtool.errors import BuildtoolError

# What needs a swarm, plugins, or Docker's own service for signatures; `help` is help.
ABSENT = {"swarm", "plugin", "trust", "manifest", "checkpoint", "buildx"}
ABSENT |= {"help", "config", "secret", "service", "node", "stack"}
# What the CLI shows only as long as no engine answers, or one that has it: Windows, a swarm, experiments.
_WINDOWS = {"cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"}
_CLUSTER = {"availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing", "type"}
_CLUSTER |= {"topology-preferred", "topology-required"}
ELSEWHERE = {"run": _WINDOWS, "create": _WINDOWS, "start": {"checkpoint", "checkpoint-dir"}}
ELSEWHERE |= {f"container {verb}": flags for verb, flags in ELSEWHERE.items()}
ELSEWHERE |= {"volume create": _CLUSTER, "volume ls": {"cluster"}}
GROUPS = ("builder", "container", "context", "image", "network", "system", "volume")


def told(*words: str) -> str:
    done = subprocess.run(["docker", *words, "--help"], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout


def verbs(text: str) -> list[str]:
    return re.findall(r"^  ([a-z][\w-]*)\*?\s{2,}\S", text, re.MULTILINE)


def flags(text: str) -> dict[str, str]:
    """Long names with their letters."""
    return {long: short for short, long in re.findall(r"^\s+(?:-(\w), )?--([a-z][\w-]*)", text, re.MULTILINE)}


def test_every_verb_and_flag_of_docker_28_is_there() -> None:
    version = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=False).stdout
    if shutil.which("docker") is None or "version 28." not in version:
        pytest.skip("no docker CLI 28 here")
    top = [[verb] for verb in verbs(told()) if verb not in ABSENT and verb not in GROUPS]
    with ThreadPoolExecutor(8) as threads:
        groups = list(threads.map(lambda group: verbs(told(group)), GROUPS))
        commands = top + [[group, verb] for group, found in zip(GROUPS, groups, strict=True) for verb in found]
        texts = list(threads.map(lambda words: told(*words), commands))
    assert len(commands) > 80
    missing = []
    for words, text in zip(commands, texts, strict=True):
        try:
            name = table.TOP_LEVEL[words[0]] if len(words) == 1 else _find(words)[0]
        except (BuildtoolError, KeyError):
            missing.append(" ".join(words))
            continue
        ours = {flag.name: flag.short for flag in table.load(name).flags}
        for long, short in flags(text).items():
            if long in ELSEWHERE.get(" ".join(words), ()):
                continue
            if long != "help" and (long not in ours or (short and ours[long] != short)):
                missing.append(f"{' '.join(words)} --{long}" + (f" (-{short})" if short else ""))
    assert missing == []
