"""What `up` would do, from what is wanted and what there is; and the bodies of create requests."""

from __future__ import annotations

from typing import Any

from buildtool.stacks import labels
from buildtool.stacks.body import References, create_body
from buildtool.stacks.drawing import to_json, to_mermaid, to_svg
from buildtool.stacks.engine import Container
from buildtool.stacks.graph import Walk, build_graph, dependency_order, with_dependencies
from buildtool.stacks.hashing import network_hash, service_hash
from buildtool.stacks.plan import Options, Plan, State, make_plan
from tests.unit.stacks.conftest import load_texts

TEXT = """
name: p
services:
  web: {image: w, depends_on: {db: {condition: service_started, restart: true}}, environment: {V: "${V:-1}"}}
  db: {image: d, environment: {W: "${W:-1}"}}
"""


def container(service: str, number: int = 1, *, of: Any, state: str = "running", **more: Any) -> Container:
    """A container as `up` with the project `of` has made it."""
    return Container(
        {
            "Id": f"{service}{number}".ljust(64, "0"),
            "Names": [f"/p-{service}-{number}"],
            "State": state,
            "ImageID": "sha256:1",
            "Labels": {
                labels.SERVICE: service,
                labels.NUMBER: str(number),
                labels.HASH: service_hash(of.services[service]),
            },
            "NetworkSettings": {"Networks": {"p_default": {}}},
            **more,
        }
    )


def planned(project: Any, containers: list[Container], options: Options | None = None, **state: Any) -> Plan:
    networks = {"p_default": {"Labels": {labels.HASH: network_hash(project.part("networks")["default"])}}}
    order = dependency_order(project, project.services)
    return make_plan(project, State(containers, networks, **state), options or Options(), order)


def words(plan: Plan) -> list[tuple[str, str, int]]:
    return [(action.what, action.key, action.number) for action in plan.changes]


def test_nothing_is_there() -> None:
    project = load_texts(TEXT)
    plan = make_plan(project, State(), Options(), ["db", "web"])
    assert words(plan) == [("create", "default", 0), ("create", "db", 1), ("create", "web", 1)]


def test_everything_is_as_it_should_be() -> None:
    project = load_texts(TEXT)
    assert words(planned(project, [container("web", of=project), container("db", of=project)])) == []


def test_a_changed_service_is_recreated_alone() -> None:
    old, new = load_texts(TEXT), load_texts(TEXT, env={"V": "2"})
    plan = planned(new, [container("web", of=old), container("db", of=old)])
    assert words(plan) == [("recreate", "web", 1)]
    assert plan.changes[0].why == "its configuration has changed"


def test_dependents_are_restarted_when_they_ask_for_it() -> None:
    old, new = load_texts(TEXT), load_texts(TEXT, env={"W": "2"})
    plan = planned(new, [container("web", of=old), container("db", of=old)])
    assert words(plan) == [("recreate", "db", 1), ("restart", "web", 1)]


def test_another_image_recreates() -> None:
    project = load_texts(TEXT)
    both = [container("web", of=project), container("db", of=project)]
    plan = planned(project, both, images={"w": "sha256:1", "d": "sha256:2"})
    assert [(a.key, a.why) for a in plan.changes] == [("db", "image d has changed"), ("web", "db is recreated")]


def test_stopped_containers_are_started_and_orphans_found() -> None:
    project = load_texts(TEXT)
    other = container("web", 1, of=project)
    other.service = "gone"
    plan = planned(project, [container("web", of=project), container("db", of=project, state="exited"), other])
    assert words(plan) == [("start", "db", 1)]
    assert plan.orphans == [other]


def test_scaling_fills_gaps_and_removes_the_highest_and_outdated_first() -> None:
    old, project = load_texts(TEXT, env={"V": "0"}), load_texts(TEXT)
    some = [container("db", of=project), container("web", 1, of=old), container("web", 3, of=project)]
    assert words(planned(project, some, Options(scale={"web": 3}))) == [
        ("recreate", "web", 1),
        ("create", "web", 2),
    ]
    assert words(planned(project, some)) == [("remove", "web", 1)]
    assert words(planned(project, some, Options(scale={"web": 0}))) == [("remove", "web", 3), ("remove", "web", 1)]


def test_what_an_interrupted_up_left_is_cleared_away() -> None:
    project = load_texts(TEXT)
    some = [container("db", of=project), container("web", of=project), container("web", of=project)]
    some[2].id, some[2].name = "f" * 64, f"{'0' * 12}_p-web-1"
    plan = planned(project, some)
    assert words(plan) == [("remove", "web", 1)] and plan.changes[0].container is some[2]


JOB = """
name: p
services:
  web: {image: w, depends_on: {job: {condition: service_completed_successfully}}}
  job: {image: j, depends_on: [db], environment: {V: "${V:-1}"}}
  db: {image: d}
"""


def ended(code: int, of: Any) -> Container:
    return container("job", of=of, state="exited", Status=f"Exited ({code}) 2 minutes ago")


def test_a_job_that_has_ended_well_is_not_run_again() -> None:
    """Until it, or something it depends on, is made anew, its files change, it failed, or somebody asks for it."""
    project, changed = load_texts(JOB), load_texts(JOB, env={"V": "2"})
    web, db = container("web", of=project), container("db", of=project)
    done = ended(0, project)
    assert words(planned(project, [web, db, done])) == []
    again = [("start", "job", 1)]
    assert words(planned(project, [web, db, ended(1, project)])) == again
    assert words(planned(project, [web, db, done], touched=[done.id])) == again
    assert words(planned(project, [web, db, done], Options(rerun=True))) == again
    assert words(planned(project, [web, db, done], Options(services=["job"]))) == again
    assert words(planned(project, [web, done])) == [("create", "db", 1), *again]
    assert words(planned(changed, [web, db, done])) == [("recreate", "job", 1)]
    nobody_waits = load_texts(JOB.replace("service_completed_successfully", "service_started"))
    assert words(planned(nobody_waits, [web, db, done])) == again


def test_what_shares_with_a_container_is_recreated_when_that_is_another() -> None:
    project = load_texts(
        "name: p\nservices: {s: {image: x, network_mode: 'service:o', volumes_from: [o]}, o: {image: x}}"
    )
    other = container("o", of=project)
    sharing = container("s", of=project)
    sharing.labels[labels.HASH] = project.digest("services", "s", {"o": other.id})
    assert words(planned(project, [other, sharing])) == []
    assert words(planned(project, [sharing])) == [("create", "o", 1), ("recreate", "s", 1)]
    other.id = "f" * 64
    assert words(planned(project, [other, sharing])) == [("recreate", "s", 1)]


def test_force_and_no_recreate() -> None:
    old, project = load_texts(TEXT, env={"V": "0"}), load_texts(TEXT)
    both = [container("web", of=old), container("db", of=project)]
    assert words(planned(project, both, Options(no_recreate=True))) == []
    assert words(planned(project, both, Options(force_recreate=True, services=["db"]))) == [
        ("recreate", "db", 1),
        ("recreate", "web", 1),
    ]


def test_order_and_dependencies() -> None:
    text = "services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [c]}, c: {image: x}, d: {image: x}}"
    project = load_texts(text)
    assert with_dependencies(project, ["a"]) == ["c", "b", "a"]
    assert dependency_order(project, ["a", "c", "d"]) == ["a", "c", "d"]


def test_a_walk_keeps_the_order_and_stops_at_a_failure() -> None:
    done: list[str] = []

    def fail() -> None:
        raise ValueError("no")

    walk = Walk(parallel=2)
    walk.add(("x", "c"), lambda: done.append("c"), [("x", "b")])
    walk.add(("x", "b"), lambda: done.append("b"), [("x", "a"), ("x", "not there")])
    walk.add(("x", "a"), lambda: done.append("a"))
    walk.run()
    assert done == ["a", "b", "c"]
    walk = Walk()
    walk.add(("x", "b"), lambda: done.append("never"), [("x", "a")])
    walk.add(("x", "a"), fail)
    try:
        walk.run()
    except ValueError as error:
        assert str(error) == "no"
    assert "never" not in done


def test_the_body_of_a_create_request() -> None:
    project = load_texts(
        """
        name: p
        services:
          s:
            image: x
            command: [a, b]
            entrypoint: ""
            environment: {A: 1, B: null}
            ports: ["127.0.0.1:8080:80"]
            expose: ["90-91/udp"]
            volumes: ["./d:/d:ro", "v:/v", /anon, {type: tmpfs, target: /t, tmpfs: {size: 1k}}]
            healthcheck: {test: exit 0, interval: 10s, retries: 2}
            stop_grace_period: 1500ms
            cpus: 0.5
            mem_limit: 1k
            ulimits: {nofile: 5}
            restart: on-failure:3
            networks: {back: {priority: 5, aliases: [q], ipv4_address: 10.0.0.9}, front: }
            extra_hosts: [h=1.1.1.1]
            devices: [/dev/null]
            deploy: {resources: {limits: {pids: 9}}}
        networks: {back: , front: }
        volumes: {v: }
        """
    )
    body = create_body(project, "s", project.services["s"], {"l": "1"}, References())
    host = body["HostConfig"]
    assert (body["Cmd"], body["Entrypoint"], body["Env"]) == (["a", "b"], [""], ["A=1", "B"])
    assert sorted(body["ExposedPorts"]) == ["80/tcp", "90/udp", "91/udp"]
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
    assert body["Volumes"] == {"/anon": {}} and host["Binds"] == ["/p/d:/d:ro"]
    assert [(m["Type"], m["Source"], m["Target"]) for m in host["Mounts"]] == [
        ("volume", "p_v", "/v"),
        ("tmpfs", "", "/t"),
    ]
    assert body["Healthcheck"] == {"Test": ["CMD-SHELL", "exit 0"], "Interval": 10**10, "Retries": 2}
    assert body["StopTimeout"] == 2
    assert (host["NanoCpus"], host["Memory"], host["PidsLimit"]) == (500_000_000, 1024, 9)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert body["NetworkingConfig"]["EndpointsConfig"] == {
        "p_back": {"Aliases": ["p-s-1", "s", "q"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}}
    }
    assert host["ExtraHosts"] == ["h:1.1.1.1"]


def test_shared_namespaces_name_the_other_container() -> None:
    project = load_texts("services: {s: {image: x, network_mode: 'service:o', pid: 'service:o'}, o: {image: x}}")
    references = References({"o": [("abc", "p-o-1")]})
    host = create_body(project, "s", project.services["s"], {}, references)["HostConfig"]
    assert (host["NetworkMode"], host["PidMode"]) == ("container:abc", "container:abc")


def test_drawings_have_every_part() -> None:
    project = load_texts(TEXT + "volumes: {}\n")
    graph = build_graph(project)
    for text in (to_mermaid(graph), to_svg(graph), to_json(graph)):
        for part in ("web", "db", "default", "service_started"):
            assert part in text
