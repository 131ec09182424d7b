"""The specification's tables, every cell of them: each instruction with each flag, each rule fired and skipped."""

from __future__ import annotations

import pytest

from buildtool.buildfile import parse
from buildtool.buildfile.analysis import check
from buildtool.buildfile.evaluation import BaseFacts, Given
from buildtool.buildfile.ignore import IgnoreRules
from buildtool.buildfile.rules import RULES
from buildtool.oci import Platform
from tests.unit.buildfile.helpers import refused

# table 1.2: instruction -> its flags, and those that only buildtool has
FLAGS = {
    "FROM": "platform",
    "RUN": "mount network security device cache-ttl no-cache retry timeout",
    "COPY": "from chown chmod link parents exclude if-exists",
    "ADD": "chown chmod link exclude keep-git-dir checksum unpack",
    "HEALTHCHECK": "interval timeout start-period start-interval retries",
    "ARG": "", "CMD": "", "ENTRYPOINT": "", "ENV": "", "EXPOSE": "", "LABEL": "", "MAINTAINER": "", "ONBUILD": "",
    "SHELL": "", "STOPSIGNAL": "", "USER": "", "VOLUME": "", "WORKDIR": "",
}  # fmt: skip
ARGUMENTS = {
    "FROM": "a", "RUN": "x", "COPY": "a /b", "ADD": "a /b", "HEALTHCHECK": "CMD x", "ARG": "a=1", "CMD": '["x"]',
    "ENTRYPOINT": '["x"]', "ENV": "a=1", "EXPOSE": "80", "LABEL": "a=1", "MAINTAINER": "x", "ONBUILD": "RUN x",
    "SHELL": '["x"]', "STOPSIGNAL": "SIGTERM", "USER": "u", "VOLUME": "/v", "WORKDIR": "/w",
}  # fmt: skip
VALUES = {
    "platform": ["linux/amd64", "$P"],
    "mount": ["type=cache,target=/x", "target=/x", "type=tmpfs,dst=/x,size=1m", "type=secret,id=s", "type=ssh"],
    "network": ["default", "none", "host"],
    "security": ["sandbox", "insecure"],
    "device": ["vendor.com/class=name", "x,required"],
    "cache-ttl": ["1s", "12h", "1h30m"], "no-cache": None, "retry": ["0", "3"], "timeout": ["1ms", "5m"],
    "from": ["a", "0", "image:tag", "scratch"],
    "chown": ["1", "1:2", "user:group", "$U"], "chmod": ["755", "0644", "u=rwX,go=rX", "$M"],
    "link": None, "parents": None, "if-exists": None, "keep-git-dir": None, "unpack": None,
    "exclude": ["*.pyc", "**/x"],
    "checksum": ["sha256:" + "0" * 64, "$C"],
    "interval": ["1s", "0"], "start-period": ["1m30s"], "start-interval": ["1.5s"], "retries": ["3", "0"],
}  # fmt: skip
REPEATED = {"mount", "device", "exclude"}
CELLS = [
    (keyword, flag, flag in FLAGS[keyword].split())
    for keyword in FLAGS
    for flag in VALUES
    if keyword != "HEALTHCHECK" or flag != "timeout"
]


def written(keyword: str, *flags: str) -> str:
    text = f"{keyword} {' '.join(flags)} {ARGUMENTS[keyword]}\n"
    return text if keyword == "FROM" else f"FROM a\n{text}"


@pytest.mark.parametrize("keyword", FLAGS)
def test_without_flags_every_instruction_is_accepted(keyword: str) -> None:
    assert parse(written(keyword)).stages


@pytest.mark.parametrize(("keyword", "flag", "taken"), CELLS)
def test_each_instruction_with_each_flag(keyword: str, flag: str, taken: bool) -> None:
    values = VALUES[flag]
    forms = [f"--{flag}={value}" for value in values or ("true", "false", "TRUE")] + (
        [f"--{flag}"] if not values else []
    )
    if keyword in ("ARG", "STOPSIGNAL"):  # BuildKit takes them off without looking at them
        assert all(parse(written(keyword, form)) for form in forms)
        return
    if not taken:
        for form in forms if keyword not in ("ONBUILD",) else forms[:1]:
            error = refused(written(keyword, form))
            assert f"unknown flag --{flag}" in error.message or keyword == "ONBUILD"
        return
    for form in forms:
        assert parse(written(keyword, form)).stages
        for quote in "'\"":
            assert parse(written(keyword, form.replace("=", f"={quote}", 1) + quote if "=" in form else form)).stages
    if values:
        assert "needs a value" in refused(written(keyword, f"--{flag}")).message
    else:
        assert "true or false" in refused(written(keyword, f"--{flag}=maybe")).message
    twice = written(keyword, forms[0], forms[0])
    if flag in REPEATED:
        assert parse(twice).stages
    else:
        assert "given twice" in refused(twice).message
    close = refused(written(keyword, f"--{flag[:-1]}{flag[-1].upper()}x=1"))
    assert "unknown flag" in close.message


def test_a_healthcheck_none_reads_no_flags() -> None:
    assert parse("FROM a\nHEALTHCHECK --foo --interval=1h NONE\n").stages[0].instructions[0].keyword == "HEALTHCHECK"
    assert "unknown flag --foo" in refused("FROM a\nHEALTHCHECK --foo CMD x\n").message


ELSEWHERE = Platform(architecture="s390x", os="linux")
HERE = Platform(architecture="amd64", os="linux")
GIVEN = Given(platform=HERE, bases=lambda reference, platform: BaseFacts({"HOME": "/"}, ELSEWHERE))

# table 1.4: rule -> lines in front, the instruction that it is about
RULE_LINES = {
    "StageNameCasing": ("", "FROM a AS Build"),
    "FromAsCasing": ("", "FROM a as build"),
    "NoEmptyContinuation": ("FROM a", "RUN x \\\n\n  y"),
    "ConsistentInstructionCasing": ("FROM a\nRUN x", "run y"),
    "DuplicateStageName": ("FROM a AS x", "FROM b AS x"),
    "ReservedStageName": ("", "FROM a AS scratch"),
    "JSONArgsRecommended": ("FROM a", "CMD x"),
    "MaintainerDeprecated": ("FROM a", "MAINTAINER x"),
    "UndefinedArgInFrom": ("ARG A=1", "FROM a:$B"),
    "WorkdirRelativePath": ("FROM a", "WORKDIR x"),
    "UndefinedVar": ("FROM a", "ENV x=$undefined"),
    "MultipleInstructionsDisallowed": ("FROM a", 'CMD ["a"]'),
    "LegacyKeyValueFormat": ("FROM a", "ENV a b"),
    "InvalidBaseImagePlatform": ("", "FROM a"),
    "RedundantTargetPlatform": ("", "FROM --platform=$TARGETPLATFORM a"),
    "SecretsUsedInArgOrEnv": ("FROM a", "ENV PASSWORD=x"),
    "InvalidDefaultArgInFrom": ("ARG A", "FROM $A"),
    "FromPlatformFlagConstDisallowed": ("", "FROM --platform=linux/amd64 a"),
    "CopyIgnoredFile": ("FROM a", "COPY secret /"),
    "InvalidDefinitionDescription": ("FROM a", "# text\nARG b"),
    "ExposeProtoCasing": ("FROM a", "EXPOSE 80/TCP"),
    "ExposeInvalidFormat": ("FROM a", "EXPOSE 80:80"),
}
BEHIND = {"MultipleInstructionsDisallowed": '\nCMD ["b"]'}


def rules_of(head: str, text: str) -> set[str]:
    found = check(parse(f"{head}{text}\n"), GIVEN, IgnoreRules.parse("secret"))
    return {warning.rule for warning in found}


def test_there_are_22_rules_and_each_has_a_line() -> None:
    assert len(RULES) == 22 and RULES.keys() == RULE_LINES.keys()


@pytest.mark.parametrize("rule", RULE_LINES)
def test_each_rule_fires_and_is_skipped_for_the_file_and_above_the_instruction(rule: str) -> None:
    before, line = RULE_LINES[rule]
    text = "\n".join(filter(None, (before, line))) + BEHIND.get(rule, "")
    asked = "# check=experimental=all\n" if RULES[rule].experimental else ""
    assert rule in rules_of(asked, text)
    if asked:
        assert rule not in rules_of("", text)
        assert rule in rules_of(f"# check=experimental={rule}\n", text)
    more = f";{asked[8:-1]}" if asked else ""
    for skip in (
        f"skip={rule}",
        f"skip=Other, {rule}",
        "skip=all",
        f"SKIP={rule}".lower().replace(rule.lower(), rule),
    ):
        assert rule not in rules_of(f"# check={skip}{more}\n", text)
    for skip in (rule, "all"):
        above = f"\n# check=skip={skip}\n{line}"
        assert rule not in rules_of(asked, f"{before}{above}{BEHIND.get(rule, '')}".lstrip("\n") if before else above)
    other = f"{before}\n# check=skip=Other\n{line}{BEHIND.get(rule, '')}"
    assert rule in rules_of(asked or "# check=skip=Other\n", other)


@pytest.mark.parametrize("rule", [name for name in RULES if not RULES[name].experimental])
def test_error_true_makes_each_rule_an_error(rule: str) -> None:
    before, line = RULE_LINES[rule]
    text = "\n".join(filter(None, (before, line))) + BEHIND.get(rule, "")
    assert parse(f"# check=error=true\n{text}\n").checks.error
    assert not parse(f"# check=skip={rule}\n{text}\n").checks.error
