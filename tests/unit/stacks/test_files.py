"""Several files: extends, include, override files, profiles, env files, names."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildtool.errors import InvalidInput, NotFound
from buildtool.stacks.discover import find_request
from buildtool.stacks.envfile import parse_env_file
from buildtool.stacks.load import load, normalise_name
from buildtool.stacks.normalise import MissingEnvFile
from buildtool.stacks.profiles import check_active, enable_services
from buildtool.stacks.reading import FileSystem
from buildtool.stacks.tree import StackError
from tests.unit.stacks.conftest import load_texts, model, service


def test_extends_merges_the_base_under_the_service() -> None:
    found = service(
        """
        services:
          base: {image: b, environment: {A: 1}, ports: ["80:80"], command: [a]}
          s: {extends: base, environment: {B: 2}, ports: ["81:81"], command: [b]}
        """
    )
    assert found["environment"] == {"A": "1", "B": "2"}
    assert [port["target"] for port in found["ports"]] == [80, 81]
    assert found["command"] == ["b"] and "extends" not in found


def test_extends_of_another_file_moves_its_paths() -> None:
    found = service(
        "services: {s: {extends: {file: sub/common.yaml, service: app}}}",
        files={
            "sub/common.yaml": "services: {app: {extends: {file: ../more/m.yaml, service: m}, "
            "build: ., volumes: ['./d:/d']}}",
            "more/m.yaml": "services: {m: {image: m, env_file: [m.env]}}",
            "more/m.env": "K=v",
        },
    )
    assert found["build"]["context"] == "/p/sub"
    assert found["volumes"][0]["source"] == "/p/sub/d"
    assert found["environment"] == {"K": "v"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: {s: {image: x, extends: bse}, base: {image: x}}", "cannot extend service 'bse'"),
        ("services: {s: {extends: t}, t: {extends: s}}", "circular reference: s -> t -> s"),
        ("services: {s: {extends: {file: nowhere.yaml, service: a}}}", "cannot read 'nowhere.yaml': no such file"),
    ],
)
def test_extends_of_what_is_not_there(text: str, message: str) -> None:
    with pytest.raises(StackError, match=message):
        load_texts(text)


def test_reset_reaches_into_what_is_extended() -> None:
    text = "services: {base: {image: b, ports: ['80:80'], labels: {a: b}}, s: {extends: base, ports: !reset null}}"
    found = service(text)
    assert "ports" not in found and found["labels"] == {"a": "b"}


def test_included_stacks_have_their_own_directory_and_env() -> None:
    found = model(
        "include: [a/compose.yaml, {path: [b/one.yaml, b/two.yaml], env_file: b/x.env, project_directory: b}]\n"
        "services: {s: {image: 'w:${V:-unset}', depends_on: [a, b]}}",
        files={
            "a/compose.yaml": "services: {a: {image: 'a:$V', volumes: ['./x:/x'], networks: [n]}}\nnetworks: {n: {}}",
            "a/.env": "V=fromenv",
            "b/one.yaml": "services: {b: {image: 'b:$W', build: .}}",
            "b/two.yaml": "services: {b: {hostname: h}}",
            "b/x.env": "W=wx",
        },
    )["services"]
    assert found["a"]["image"] == "a:fromenv" and found["a"]["volumes"][0]["source"] == "/p/a/x"
    assert found["b"]["image"] == "b:wx" and found["b"]["hostname"] == "h"
    assert found["b"]["build"]["context"] == "/p/b"
    assert found["s"]["image"] == "w:unset"


def test_the_including_environment_beats_the_included_env_file() -> None:
    text = "include: [a/compose.yaml]\nservices: {s: {image: x}}"
    files = {"a/compose.yaml": "services: {a: {image: 'a:$V'}}", "a/.env": "V=inner"}
    assert model(text, files=files, env={"V": "outer"})["services"]["a"]["image"] == "a:outer"


def test_includes_that_conflict_are_refused() -> None:
    with pytest.raises(StackError, match=r"services.a: conflicts with imported resource"):
        load_texts("include: [i.yaml]\nservices: {a: {image: x}}", files={"i.yaml": "services: {a: {image: y}}"})
    load_texts("include: [i.yaml]\nservices: {a: {image: x}}", files={"i.yaml": "services: {a: {image: x}}"})


def test_includes_in_a_circle_are_refused() -> None:
    files = {"i.yaml": "include: [compose.yaml]\nservices: {a: {image: x}}"}
    with pytest.raises(StackError, match="include cycle detected"):
        load_texts("include: [i.yaml]\nservices: {s: {image: x}}", files=files)


PROFILES = "services: {a: {image: a}, b: {image: b, profiles: [p, q]}, c: {image: c, profiles: [r], depends_on: [b]}}"


@pytest.mark.parametrize(
    ("active", "services"),
    [([], ["a"]), (["q"], ["a", "b"]), (["*"], ["a", "b", "c"]), (["p", "r"], ["a", "b", "c"])],
)
def test_profiles_choose_services(active: list[str], services: list[str]) -> None:
    assert sorted(load_texts(PROFILES, profiles=active).services) == services


def test_a_dependency_outside_the_active_profiles_is_refused() -> None:
    project = load_texts(PROFILES, profiles=["r"])
    with pytest.raises(StackError, match=r"services.c.depends_on.b: service 'c' depends on 'b', which is not active"):
        check_active(project)


def test_naming_a_service_activates_it() -> None:
    project = load_texts(PROFILES)
    enable_services(project, ["b"])
    assert sorted(project.services) == ["a", "b"]
    with pytest.raises(NotFound, match="no such service: bb"):
        enable_services(project, ["bb"])


ENV = """
# comment
export EXP=1
A=plain value # comment
B="dq \\"x\\" $A ${NOPE:-def} \\t|"
C='sq $A \\n'
D=
E: colon
F=a#b
G="multi
line"
HOME
UNSET
H=${A}-x
I = spaced
J=$$esc
K="\\$A"
"""


def test_env_file_forms() -> None:
    assert parse_env_file(ENV, "x.env", {"HOME": "/root"}, lambda _name: None) == {
        "EXP": "1",
        "A": "plain value",
        "B": 'dq "x" plain value def \t|',
        "C": "sq $A \\n",
        "D": "",
        "E": "colon",
        "F": "a#b",
        "G": "multi\nline",
        "HOME": "/root",
        "H": "plain value-x",
        "I": "spaced",
        "J": "$esc",
        "K": "$A",
    }


def test_raw_env_files_are_not_interpreted() -> None:
    assert parse_env_file('R="raw $A" # c', "x.env", {}, lambda _name: None, raw=True) == {"R": '"raw $A" # c'}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\nB?=2", "x.env:2:2: unexpected character '?' in variable name 'B'"),
        ('A="open', "x.env:1:3: unterminated quoted value"),
        ("A=${x!}", "x.env:1:3: invalid interpolation format"),
        ("=1", "x.env:1:1: unexpected character '='"),
    ],
)
def test_faults_of_env_files_have_a_place(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_env_file(text, "x.env", {}, lambda _name: None)
    assert str(caught.value).startswith(message)


def test_environment_beats_env_files_and_later_files_beat_earlier_ones() -> None:
    found = service(
        "services: {s: {image: x, env_file: [a.env, b.env], environment: {K: own}}}",
        files={"a.env": "K=a\nL=a\nM=a", "b.env": "L=b"},
    )
    assert found["environment"] == {"K": "own", "L": "b", "M": "a"} and "env_file" not in found


def test_a_missing_env_file_is_told_unless_it_need_not_be_there() -> None:
    with pytest.raises(MissingEnvFile) as caught:
        load_texts("services: {s: {image: x, env_file: gone.env}}")
    assert caught.value.exit_code == 14 and "services.s.env_file[0]: env file /p/gone.env not found" in str(
        caught.value
    )
    service("services: {s: {image: x, env_file: [{path: gone.env, required: false}]}}")


def test_keys_without_a_value_come_from_outside() -> None:
    found = service("services: {s: {image: x, environment: [A, B], build: {args: [A, B]}}}", env={"A": "1"})
    assert found["environment"] == {"A": "1", "B": None}
    assert found["build"]["args"] == {"A": "1"}


@pytest.mark.parametrize(("folder", "name"), [("My App", "myapp"), ("_x-Y_z", "x-y_z"), ("1.2", "12"), ("...", "")])
def test_project_names_of_folders(folder: str, name: str) -> None:
    assert normalise_name(folder) == name


def test_the_project_name_of_most_weight() -> None:
    text = "name: file-${X:-one}\nservices: {s: {image: x}}"
    assert load_texts(text).name == "file-one"
    assert load_texts(text, "name: two").name == "two"
    assert load_texts(text, env={"COMPOSE_PROJECT_NAME": "env"}).name == "env"
    assert load_texts(text, env={"COMPOSE_PROJECT_NAME": "env"}, name="flag").name == "flag"
    with pytest.raises(InvalidInput, match="invalid project name 'Bad'"):
        load_texts(text, name="Bad")


def test_files_are_found_here_and_above_with_their_override(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker-compose.yml").write_text("services: {s: {image: old}}")
    (tmp_path / "compose.yaml").write_text("services: {s: {image: 'x:${TAG}', hostname: $WHO}}")
    (tmp_path / "compose.override.yml").write_text("services: {s: {user: over}}")
    (tmp_path / ".env").write_text("TAG=fromdotenv\nWHO=dotenv\n")
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    request = find_request(files=[], environment={"WHO": "process"})
    assert request.origins["TAG"] == [(str(tmp_path / ".env"), "fromdotenv")]
    project = load(request, FileSystem())
    found = project.services["s"]
    assert (found["image"], found["hostname"], found["user"]) == ("x:fromdotenv", "process", "over")
    assert project.directory == str(tmp_path)
    monkeypatch.chdir("/")
    with pytest.raises(NotFound, match="no configuration file provided"):
        find_request(files=[], environment={})


def test_compose_file_profiles_and_env_files_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("services: {a: {image: '$I'}, b: {image: b, profiles: [p]}}")
    (tmp_path / "b.yaml").write_text("services: {a: {hostname: h}}")
    (tmp_path / "x.env").write_text("I=fromenvfile")
    environment = {
        "COMPOSE_FILE": f"{tmp_path}/a.yaml;{tmp_path}/b.yaml",
        "COMPOSE_PATH_SEPARATOR": ";",
        "COMPOSE_PROFILES": "p",
        "COMPOSE_ENV_FILES": f"{tmp_path}/x.env",
    }
    project = load(find_request(files=[], environment=environment), FileSystem())
    assert sorted(project.services) == ["a", "b"]
    assert project.services["a"]["image"] == "fromenvfile" and project.services["a"]["hostname"] == "h"


def test_paths_that_are_not_resolved_stay_relative_to_the_project() -> None:
    """`config --no-path-resolution`: what comes from another folder still means a file of that folder."""
    printed = model(
        """
        include: [inc/compose.yaml]
        services:
          s: {extends: {file: sub/base.yaml, service: b}, build: {dockerfile_inline: FROM x}, volumes: ["./own:/own"]}
        """,
        files={
            "sub/base.yaml": "services: {b: {volumes: ['./data:/data']}}",
            "inc/compose.yaml": "services: {t: {image: x, volumes: ['./d:/d']}}",
        },
        resolve_paths=False,
    )
    services = printed["services"]
    assert [item["source"] for item in services["s"]["volumes"]] == ["sub/data", "./own"]
    assert services["s"]["build"]["context"] == "."
    assert services["t"]["volumes"][0]["source"] == "inc/d"


def test_the_environment_is_resolved_without_normalisation_too() -> None:
    found = service(
        "services: {s: {image: x, environment: [OUTSIDE], env_file: [a.env]}}",
        env={"OUTSIDE": "there"},
        files={"a.env": "A=1"},
        normalise=False,
    )
    assert found["environment"] == {"A": "1", "OUTSIDE": "there"} and "networks" not in found


def test_a_port_that_an_override_publishes_once_more_is_told() -> None:
    base = "services: {s: {image: x, ports: ['8080:80', '8081:80', '53:53/udp']}}"
    (told,) = load_texts(base, "services: {s: {ports: ['9090:80', '53:53/udp', '54:53/tcp']}}").warnings
    assert told.startswith("services.s.ports: 80/tcp is published as 8080 (/p/compose.yaml:1:")
    assert "as 9090 (/p/1.yaml:1:" in told and "!override" in told
    assert load_texts(base, "services: {s: {ports: !override ['9090:80']}}").warnings == []
