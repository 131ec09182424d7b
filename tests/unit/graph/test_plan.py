"""Planning: values in, a graph out. No kernel, no files."""

from __future__ import annotations

import time
from typing import Any

import networkx as nx
import pytest

from buildtool.buildfile import parse
from buildtool.errors import Forbidden, InvalidInput, NotFound
from buildtool.graph import (
    EARLIEST,
    BaseImage,
    Copy,
    Exec,
    Merge,
    Mkdir,
    Plan,
    PlanOptions,
    Source,
    definition,
    digest_of,
    image_key,
    missing_bases,
    plan,
)
from buildtool.oci import ContainerConfig, ImageConfig, Platform, RootFS, chain_id, sha256

AMD64 = Platform(architecture="amd64", os="linux")
LAYER = sha256(b"layer")


def image(created: str | None = None, **config: Any) -> ImageConfig:
    return ImageConfig(
        architecture="amd64",
        os="linux",
        rootfs=RootFS("layers", [LAYER]),
        config=ContainerConfig(**config),
        created=created,
    )


BASES = {"busybox": image(), "debian:12": image(env=["PATH=/bin", "LANG=C"], cmd=["bash"], user="u")}


def planned(text: str, bases: dict[str, ImageConfig] | None = None, **options: Any) -> Plan:
    known = {
        image_key(name, AMD64): BaseImage(name, config)
        for name, config in (BASES if bases is None else bases).items()
    }
    return plan(parse(text), PlanOptions(platform=AMD64, build_platform=AMD64, **options), known)


def steps(result: Plan) -> list[object]:
    return [result.node(step).step for step in result.graph]


def test_touching_instructions_are_steps_and_the_rest_is_config() -> None:
    result = planned("FROM debian:12\nENV A=1\nWORKDIR /w\nCOPY a b/ ./\nRUN make\nCMD x\n")
    assert steps(result) == [
        Source(chain_id([LAYER]), "debian:12"),
        Mkdir("/w", "u"),
        Copy(("a", "b"), "/w/", from_context=True),
        Exec(("/bin/sh", "-c", "make"), "/w", "u", ("PATH=/bin", "LANG=C", "A=1"), platform="linux/amd64"),
    ]
    assert nx.is_directed_acyclic_graph(result.graph)
    assert list(result.visible) == list(nx.topological_sort(result.graph))
    assert result.image.config.cmd == ["/bin/sh", "-c", "x"]


def test_the_bases_are_asked_for_first() -> None:
    buildfile = parse("ARG T=12\nFROM debian:$T AS a\nFROM scratch\nCOPY --from=a /x /\nCOPY --from=tools /y /\n")
    options = PlanOptions(platform=AMD64)
    assert [need.reference for need in missing_bases(buildfile, options, {})] == ["tools", "debian:12"]
    with pytest.raises(ValueError, match="unknown base images"):
        plan(buildfile, options, {})


def test_onbuild_triggers_may_need_more_bases() -> None:
    buildfile = parse("FROM parent\n")
    known = {image_key("parent", AMD64): BaseImage("parent", image(on_build=["COPY --from=tools /t /t"]))}
    assert [need.reference for need in missing_bases(buildfile, PlanOptions(platform=AMD64), known)] == ["tools"]


def test_a_stage_on_a_stage_continues_it() -> None:
    result = planned("FROM busybox AS a\nARG X=1\nENV E=2\nRUN one\nONBUILD RUN on\nFROM a\nRUN two $X\n")
    runs = [step for step in steps(result) if isinstance(step, Exec)]
    assert [run.args[2] for run in runs] == ["one", "on", "two $X"]
    assert runs[-1].build_args == (("X", "1"),)
    assert len(result.image.chain) == 3
    assert result.image.config.on_build is None


def test_equal_steps_of_two_stages_are_one_node() -> None:
    result = planned(
        "FROM busybox AS a\nRUN same\nFROM busybox AS b\nRUN same\nRUN other\nFROM scratch\n"
        "COPY --from=a /x /\nCOPY --from=b /y /\n"
    )
    assert [step.args[2] for step in steps(result) if isinstance(step, Exec)] == ["same", "other"]


def test_env_beats_arg_and_arg_needs_a_declaration() -> None:
    result = planned(
        "FROM busybox\nARG A=arg\nENV A=env\nARG B\nARG C\nRUN x\n", build_args={"A": "given", "B": None, "D": "d"}
    )
    run = steps(result)[-1]
    assert isinstance(run, Exec)
    assert run.build_args == ()
    assert "A=env" in run.env


def test_of_an_env_and_an_arg_of_one_name_the_later_one_counts() -> None:
    result = planned(
        "FROM debian:12\nARG LANG=arg\nENV X=$LANG\nRUN one\nENV LANG=env\nRUN two\nARG LANG\nRUN three\n"
    )
    one, two, three = (step for step in steps(result) if isinstance(step, Exec))
    assert (one.build_args, one.env) == ((("LANG", "arg"),), ("PATH=/bin", "X=arg"))
    assert (two.build_args, two.env) == ((), ("PATH=/bin", "LANG=env", "X=arg"))
    assert three.build_args == ()
    assert result.image.config.env == ["PATH=/bin", "LANG=env", "X=arg"]


def test_an_arg_sees_those_before_it_and_needs_no_default_when_it_is_given() -> None:
    text = "FROM busybox\nARG A=1 B=$A$B C=${NO:?not given}\nRUN x\n"
    run = steps(planned(text, build_args={"C": "given"}))[-1]
    assert isinstance(run, Exec) and run.build_args == (("A", "1"), ("B", "1"), ("C", "given"))
    with pytest.raises(InvalidInput, match="not given"):
        planned(text)


def test_args_of_the_scanner_are_no_variables_of_commands() -> None:
    run = steps(planned("FROM busybox\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN x\n"))[-1]
    assert isinstance(run, Exec) and run.build_args == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ARG A\nARG B=1\nARG http_proxy=p\nENV B=2\nRUN x", "RUN |3 A= B=2 http_proxy=p /bin/sh -c x # buildkit"),
        ("ARG http_proxy=p", "ARG http_proxy=p"),
        ("WORKDIR /w", "WORKDIR /w"),
        ("WORKDIR $UNSET", "WORKDIR /"),
        ("COPY --link --chown=1 --chmod=u+x ./a /b", "COPY --chown=1 --chmod=u+x ./a /b # buildkit"),
        ("COPY --if-exists --exclude=x a <<E /d/\nE", "COPY --if-exists a <<E /d/ # buildkit"),
        ("ADD --parents=false a /b", None),
        ("EXPOSE 9-11/TCP 53/udp", "EXPOSE [53/udp 9/tcp 10/tcp 11/tcp]"),
        (
            "HEALTHCHECK NONE",
            "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        ),
        (
            'HEALTHCHECK --interval=1m30s --start-interval=20ms --retries=3 CMD ["a", "b c"]',
            "HEALTHCHECK {Test:[CMD a b c] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:20ms Retries:3}",
        ),
        ("CMD []", "CMD []"),
        ('SHELL ["a", "b"]', "SHELL [a b]"),
        ('VOLUME ["/a b", "/c"]', "VOLUME [/a b /c]"),
        ("LABEL a=1 b='c d'", "LABEL a=1 b=c d"),
    ],
)
def test_history_is_worded_as_buildkit_does(text: str, line: str | None) -> None:
    if line is None:
        with pytest.raises(InvalidInput):
            planned(f"FROM busybox\n{text}\n")
        return
    assert planned(f"FROM busybox\n{text}\n").image.history[-1].created_by == line


def test_scratch_has_a_path_and_a_workdir() -> None:
    config = planned("FROM scratch\nSTOPSIGNAL 99\n").image.config
    assert (config.working_dir, config.stop_signal) == ("/", "99")
    assert config.env == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    assert planned("FROM busybox\n").image.config.working_dir == ""
    with pytest.raises(InvalidInput, match="STOPSIGNAL"):
        planned("FROM scratch\nSTOPSIGNAL 0\n")


@pytest.mark.parametrize(
    ("port", "exposed"),
    [
        ("80", ["80/tcp"]), ("80/", ["80/tcp"]), ("80/UDP", ["80/udp"]), ("0", ["0/tcp"]),
        ("65535/sctp", ["65535/sctp"]),
        ("7-9", ["7/tcp", "8/tcp", "9/tcp"]), ("8080:80", ["80/tcp"]), ("1-2:80", ["80/tcp"]),
        ("1-2:3-4", ["3/tcp", "4/tcp"]),
        ("127.0.0.1:80:81", ["81/tcp"]), ("[::1]:80:81/udp", ["81/udp"]), ("::80", ["80/tcp"]), (":80", ["80/tcp"]),
        ("$P", ["80/tcp", "90/udp"]), ("65536", None), ("9-8", None), ("-1", None), ("1-2-3", None),
        ("80/http", None),
        ("/tcp", None), ("x", None), ("x:80", None), ("host:1:80", None), ("1-3:4-5", None), ("1.2.3:1:80", None),
    ],
)  # fmt: skip
def test_expose(port: str, exposed: list[str] | None) -> None:
    text = f"FROM busybox\nARG P='80 90/udp'\nEXPOSE {port}\n"
    if exposed is None:
        with pytest.raises(InvalidInput, match="EXPOSE"):
            planned(text)
    else:
        assert planned(text).image.config.exposed_ports == {each: {} for each in exposed}


@pytest.mark.parametrize(
    ("text", "options", "epoch"),
    [
        ("FROM busybox", {"build_args": {"SOURCE_DATE_EPOCH": "5"}}, 5),
        ("ARG SOURCE_DATE_EPOCH=6\nFROM busybox", {}, 6),
        ("ARG SOURCE_DATE_EPOCH=6\nFROM busybox\nARG SOURCE_DATE_EPOCH=7", {}, 7),
        ("FROM busybox\nARG SOURCE_DATE_EPOCH=7", {"build_args": {"SOURCE_DATE_EPOCH": "5"}}, 5),
        ("FROM busybox AS a\nARG SOURCE_DATE_EPOCH=7\nFROM busybox", {}, EARLIEST),
        ("ARG SOURCE_DATE_EPOCH=6\nFROM busybox", {"epoch": 4}, 4),
        ("FROM busybox", {"build_args": {"SOURCE_DATE_EPOCH": "-1"}}, -1),
        ("ARG SOURCE_DATE_EPOCH\nFROM busybox", {"commit_epoch": 9}, 9),
        ("FROM busybox\nARG SOURCE_DATE_EPOCH", {"commit_epoch": 9}, 9),
        ("FROM busybox", {"commit_epoch": 9}, EARLIEST),
        ("FROM busybox", {"build_args": {"SOURCE_DATE_EPOCH": "context"}, "context_epoch": 8}, 8),
        ("FROM busybox", {"build_args": {"SOURCE_DATE_EPOCH": "context"}}, EARLIEST),
        ("ARG SOURCE_DATE_EPOCH=context\nFROM busybox", {"context_epoch": 9}, 9),
        ("FROM busybox\nARG SOURCE_DATE_EPOCH=context", {"context_epoch": 9}, 9),
        ("FROM busybox", {"build_args": {"SOURCE_DATE_EPOCH": "tomorrow"}}, None),
        ("ARG SOURCE_DATE_EPOCH=1.5\nFROM busybox", {}, None),
    ],
)
def test_source_date_epoch(text: str, options: dict[str, Any], epoch: int | None) -> None:
    if epoch is None:
        with pytest.raises(InvalidInput, match="SOURCE_DATE_EPOCH"):
            planned(text, **options)
    else:
        assert planned(text, **options).image.epoch == epoch


def test_what_an_arg_of_the_epoch_is_in_a_command() -> None:
    text = "FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN x\n"
    given = {"build_args": {"SOURCE_DATE_EPOCH": "context"}}
    run = steps(planned(text, **given, context_epoch=8))[-1]
    assert isinstance(run, Exec) and run.build_args == (("SOURCE_DATE_EPOCH", "8"),)
    run = steps(planned(text, **given))[-1]
    assert isinstance(run, Exec) and run.build_args == ()
    run = steps(planned(text, epoch=7))[-1]
    assert isinstance(run, Exec) and run.build_args == (("SOURCE_DATE_EPOCH", "7"),)


def test_one_instruction_sees_one_environment() -> None:
    result = planned("FROM busybox\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n")
    assert result.image.config.env is not None
    assert result.image.config.env[1:] == ["abc=bye", "def=hello", "ghi=bye"]


def test_platform_args_need_a_declaration_in_the_stage() -> None:
    result = planned("FROM --platform=$BUILDPLATFORM busybox\nARG TARGETARCH\nRUN echo $TARGETARCH $TARGETOS\n")
    run = steps(result)[-1]
    assert isinstance(run, Exec)
    assert run.build_args == (("TARGETARCH", "amd64"),)


@pytest.mark.parametrize(("target", "value"), [("", "default"), ("second", "second"), ("0", "first")])
def test_the_target_stage_is_the_stage_that_is_built_wherever_it_is_asked_for(target: str, value: str) -> None:
    text = "FROM busybox AS first\nARG TARGETSTAGE\nRUN a\nFROM first AS second\nRUN b\nFROM second\nRUN c\n"
    first = next(step for step in steps(planned(text, target=target)) if isinstance(step, Exec))
    assert first.build_args == (("TARGETSTAGE", value),)


STRICT = "# cache=strict\nFROM busybox\nARG A=1 AB=2 C=3\n"


@pytest.mark.parametrize(
    ("run", "seen"),
    [
        ("RUN true", []),
        ("RUN echo $A", ["A"]),
        ("RUN echo ${AB:-x}", ["AB"]),
        ("RUN echo $AB$C", ["AB", "C"]),
        ("RUN printenv C", ["C"]),
        ("RUN echo A.C", ["A", "C"]),
        ("RUN echo XA A_ ABC", []),
        ('RUN ["make", "C=1"]', ["C"]),
        ("RUN <<EOF\necho $A\nEOF", ["A"]),
        ("RUN <<EOF\n#!/usr/bin/python3\nos.environ['C']\nEOF", ["C"]),
        ("RUN cat <<'EOF'\n$A\nEOF", ["A"]),
        ("RUN echo x # C", ["C"]),
        ('SHELL ["sh", "-c", "C=$C; $0"]\nRUN x', ["C"]),
        ("ENV A=e\nRUN echo $A", []),
        ("ENV E=$A\nRUN echo $E", []),
        ("ARG B=$A\nRUN echo $B", ["B"]),
        ("RUN --mount=type=cache,target=/$A true", []),
        ("ARG SOURCE_DATE_EPOCH=1\nRUN true", ["SOURCE_DATE_EPOCH"]),
        ("ARG my-arg=1 your-arg=2\nRUN env my-arg=x", ["my-arg"]),
    ],
)
def test_in_strict_mode_a_run_sees_the_args_it_names(run: str, seen: list[str]) -> None:
    step = steps(planned(f"{STRICT}{run}\n"))[-1]
    assert isinstance(step, Exec)
    assert [name for name, _ in step.build_args] == seen
    plain = steps(planned(f"{STRICT}{run}\n".removeprefix("# cache=strict\n")))[-1]
    assert isinstance(plain, Exec)
    assert {"A", "AB", "C"} - {"A"} <= {name for name, _ in plain.build_args}


def test_in_strict_mode_an_arg_changes_only_what_names_it() -> None:
    text = STRICT + "RUN one $A\nRUN two\nFROM busybox\nARG A\nENV E=$A\nRUN three\nCOPY --from=0 / /\n"
    before, now = (planned(text, build_args={"C": value}) for value in ("3", "4"))
    assert before.target == now.target
    now = planned(text, build_args={"A": "2"})
    changed = [step for step in steps(now) if step not in steps(before)]
    assert [step.args[2] for step in changed if isinstance(step, Exec)] == ["one $A", "three"]


def test_a_declared_proxy_that_strict_mode_hides_is_still_passed() -> None:
    text = "# cache=strict\nFROM busybox\nARG http_proxy=http://a\nRUN {}\n"
    quiet, named = (steps(planned(text.format(command)))[-1] for command in ("curl x", "echo $http_proxy"))
    assert isinstance(quiet, Exec) and isinstance(named, Exec)
    assert (quiet.build_args, quiet.hidden_args) == ((), (("HTTP_PROXY", "http://a"), ("http_proxy", "http://a")))
    assert (named.build_args, named.hidden_args) == (
        (("http_proxy", "http://a"),),
        (("HTTP_PROXY", "http://a"),),
    )


def test_what_dockerfiles_do_not_have_changes_no_key_of_theirs() -> None:
    """The definitions of a plain file are as they were before there was COPY --if-exists and its like."""
    result = planned("FROM busybox\nARG A=1\nCOPY a b /x/\nCOPY --from=busybox /bin /b\nRUN make\n")
    fields = [definition(step).keys() for step in steps(result)[1:]]
    assert all(keys.isdisjoint({"if_exists", "execution", "no_cache"}) for keys in fields)
    definitions = [definition(step) for step in steps(result)]
    assert digest_of({"steps": definitions})[7:23] == "6433572d488ebf39"


def test_proxies_are_seen_and_no_part_of_the_definition() -> None:
    one, two = (
        steps(planned("FROM busybox\nRUN x\n", build_args={"http_proxy": value}))[-1]
        for value in ("http://a", "http://b")
    )
    assert isinstance(one, Exec) and isinstance(two, Exec)
    assert one.hidden_args == (("HTTP_PROXY", "http://a"), ("http_proxy", "http://a"))
    assert definition(one) == definition(two)
    declared = steps(planned("FROM busybox\nARG http_proxy\nRUN x\n", build_args={"http_proxy": "http://a"}))[-1]
    assert definition(declared) != definition(one)  # type: ignore[arg-type]


def test_entrypoint_drops_an_inherited_cmd_only() -> None:
    assert planned('FROM debian:12\nENTRYPOINT ["a"]\n').image.config.cmd is None
    assert planned('FROM debian:12\nCMD ["b"]\nENTRYPOINT ["a"]\n').image.config.cmd == ["b"]
    assert planned('FROM debian:12\nENTRYPOINT ["a"]\nCMD ["b"]\n').image.config.cmd == ["b"]
    assert planned('FROM debian:12\nCMD ["b"]\nENTRYPOINT []\n').image.config.entrypoint == []


def test_paths_are_joined_and_cleaned() -> None:
    result = planned("FROM busybox\nWORKDIR a\nWORKDIR ../b\nWORKDIR /\nWORKDIR c/./d\nCOPY ../x/ y\nCOPY . .\n")
    assert [step.path for step in steps(result) if isinstance(step, Mkdir)] == ["/a", "/b", "/c/d"]
    copies = [step for step in steps(result) if isinstance(step, Copy)]
    assert [(copy.sources, copy.destination) for copy in copies] == [(("x",), "/c/d/y"), ((".",), "/c/d/")]


def test_link_is_made_from_nothing_and_merged() -> None:
    result = planned("FROM busybox\nRUN slow\nCOPY --link a /a\n")
    copy, merge = (result.node(step) for step in list(result.graph)[-2:])
    assert copy.inputs == ()
    assert isinstance(merge.step, Merge)
    assert merge.inputs[1] == copy.id
    named = planned("FROM busybox\nCOPY --link --chown=app a /a\n")
    assert not any(isinstance(step, Merge) for step in steps(named))


def test_mounts_of_context_and_stages_are_inputs() -> None:
    result = planned(
        "FROM busybox AS a\nFROM busybox\nRUN --mount=target=/src --mount=from=a,source=x,target=/x "
        "--mount=type=cache,target=c,id=one make\n"
    )
    node = result.node(result.target)
    assert isinstance(node.step, Exec)
    assert [(mount.type, mount.target, mount.input) for mount in node.step.mounts] == [
        ("bind", "/src", 1),
        ("bind", "/x", 2),
        ("cache", "/c", None),
    ]
    assert len(node.inputs) == 3
    other = planned("FROM busybox\nRUN --mount=type=cache,target=/c,id=two,sharing=locked make\n")
    same = planned("FROM busybox\nRUN --mount=type=cache,target=/c make\n")
    assert other.target == same.target


def test_labels_of_the_request_come_last() -> None:
    result = planned("FROM busybox\nLABEL a=1 b=2\n", labels={"b": "3"})
    assert result.image.config.labels == {"a": "1", "b": "3"}


@pytest.mark.parametrize(
    ("created", "epoch"),
    [
        (None, EARLIEST),
        ("1970-01-01T00:00:00Z", EARLIEST),
        ("2024-05-06T07:08:09.123456789Z", 1714979289),
        ("not a time", EARLIEST),
    ],
)
def test_the_epoch_is_the_bases(created: str | None, epoch: int) -> None:
    assert planned("FROM x\n", {"x": image(created)}).image.epoch == epoch
    assert planned("FROM x\n", {"x": image(created)}, epoch=5).image.epoch == 5


def test_a_global_arg_may_set_the_epoch() -> None:
    assert planned("ARG SOURCE_DATE_EPOCH=77\nFROM busybox\n").image.epoch == 77


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("ARG X\nFROM $X\n", InvalidInput, "should not be blank"),
        ("FROM busybox\nCOPY --from=3 a b\n", InvalidInput, "no stage 3"),
        ("FROM busybox\nCOPY --from=later a b\nFROM busybox AS later\nFROM busybox\n", None, ""),
        (
            "FROM busybox AS x\nCOPY --from=later a b\nFROM busybox AS later\nCOPY --from=x a b\n",
            InvalidInput,
            "not above",
        ),
        ("FROM busybox\nEXPOSE 70000\n", InvalidInput, "invalid port"),
        ("FROM busybox\nSTOPSIGNAL SIGNOPE\n", InvalidInput, "invalid signal"),
        ("FROM busybox\nCOPY https://x/y /z\n", InvalidInput, "URL"),
        ("FROM busybox\nRUN --mount=type=cache,source=a,target=/c x\n", InvalidInput, "from is missing"),
        ("FROM busybox\nRUN --security=insecure x\n", Forbidden, r"security\.insecure is not allowed"),
        ("FROM busybox\nRUN --device=/dev/fuse x\n", Forbidden, "device=/dev/fuse is not allowed"),
        ("FROM busybox\nRUN --device=fuse x\n", InvalidInput, "neither a path nor a CDI device"),
    ],
)
def test_what_cannot_be_has_its_place(text: str, error: type[Exception] | None, message: str) -> None:
    if error is None:
        planned(text)
        return
    with pytest.raises(error, match=message) as failure:
        planned(text)
    assert failure.value.where is not None  # type: ignore[attr-defined]


def test_an_unknown_target() -> None:
    with pytest.raises(NotFound, match="did you mean 'build'"):
        planned("FROM busybox AS build\nFROM busybox\n", target="biuld")


def test_undefined_variables_are_warned_of() -> None:
    result = planned("FROM busybox\nENV NAME=1\nLABEL a=$NAM\n")
    assert [warning.rule for warning in result.warnings] == ["UndefinedVar"]
    assert "$NAM" in result.warnings[0].message


def test_two_hundred_stages_are_planned_at_once() -> None:
    text = "FROM busybox AS s0\nRUN 0\n" + "".join(
        f"FROM {'busybox' if n % 3 else f's{n - 1}'} AS s{n}\nARG A{n}=1\nCOPY --from=s{n - 1} /x /x\nRUN {n}\n"
        for n in range(1, 200)
    )
    planned("FROM busybox\n")  # imports
    began = time.thread_time()  # this thread's own: the machine may be busy
    result = planned(text)
    assert len(result.visible) > 350
    assert time.thread_time() - began < 1
