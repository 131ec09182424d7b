"""A monitoring stack as people run it: collectors that see the host, a server that scrapes them, a front end, alerts.

The images are stand-ins, as a test pulls none: each serves its page and needs of the stack what its real counterpart
needs (flags, mounted configuration, names of others, secrets, data that stays).
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.e2e.conftest import free_port
from tests.e2e.stacks.helpers import Stack, eventually, only_ours

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")

IMAGES = (
    "prom/prometheus:v3.5.0",
    "prom/node-exporter:v1.9.1",
    "gcr.io/cadvisor/cadvisor:v0.52.1",
    "prom/alertmanager:v0.28.1",
    "grafana/grafana:12.0.0",
)

# What a stand-in does: serve a folder on its port; the server also asks what its configuration names, every 0.2 s.
ENTRYPOINT = """#!/bin/sh
mkdir -p /tmp/www && cd /tmp/www && echo ok > index.html
for flag in "$@"; do
  case $flag in
    --path.procfs=*) grep MemTotal ${flag#*=}/meminfo >> metrics ;;
    --config.file=*) config=${flag#*=} ;;
    --storage.tsdb.path=*) data=${flag#*=} ;;
  esac
done
[ "$GF_SECURITY_ADMIN_PASSWORD__FILE" ] && cp $GF_SECURITY_ADMIN_PASSWORD__FILE login
[ -d /etc/provisioning ] && cat /etc/provisioning/*.yaml > sources
[ -d /rootfs/proc ] && echo host >> metrics
httpd -p $PORT -h /tmp/www
while :; do
  for target in $(sed -n 's/.*- targets: \\["\\(.*\\)"\\]/\\1/p' ${config:-/dev/null}); do
    wget -q -O - http://$target/metrics >> $data/samples 2>/dev/null
  done
  sleep 0.2
done
"""

COMPOSE = """
    name: NAME
    x-common: &common
      restart: unless-stopped
      stop_grace_period: 0s
      logging: {driver: json-file, options: {max-size: "${LOG_SIZE:-10m}", max-file: "3"}}
      security_opt: ["no-new-privileges:true"]
    x-check: &check {interval: 5s, timeout: 2s, retries: 5, start_period: 20s, start_interval: 100ms}
    services:
      prometheus:
        <<: *common
        image: prom/prometheus:${PROMETHEUS_VERSION:?which version}
        user: "65534:65534"
        command:
          - --config.file=/etc/prometheus/prometheus.yml
          - --storage.tsdb.path=/prometheus
          - --web.enable-lifecycle
        configs: [{source: scrape, target: /etc/prometheus/prometheus.yml}]
        volumes: [samples:/prometheus]
        depends_on: {node-exporter: {condition: service_healthy}, cadvisor: {condition: service_started}}
        networks: [back, front]
        expose: ["9090"]
        environment: {PORT: "9090"}
        healthcheck: {<<: *check, test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1:9090/"]}
        deploy: {resources: {limits: {memory: 128m}}}
      node-exporter:
        <<: *common
        image: prom/node-exporter:v1.9.1
        command: ["--path.procfs=/host/proc", "--collector.filesystem.mount-points-exclude=^/(sys|proc)($$|/)"]
        pid: host
        volumes: ["/proc:/host/proc:ro", "/sys:/host/sys:ro", "/:/rootfs:ro,rslave"]
        networks: [back]
        environment: [PORT=9100]
        healthcheck: {<<: *check, test: "wget -q -O /dev/null http://127.0.0.1:9100/"}
      cadvisor:
        <<: *common
        image: gcr.io/cadvisor/cadvisor:v0.52.1
        privileged: true
        devices: [/dev/null:/dev/kmsg]
        volumes: ["/:/rootfs:ro,rslave", "/var/run:/var/run:ro", "/sys:/sys:ro"]
        networks: [back]
        environment: [PORT=8080]
      alertmanager:
        <<: *common
        image: prom/alertmanager:v0.28.1
        volumes: ["./alertmanager:/etc/alertmanager:ro", "alerts:/alertmanager"]
        networks: [back]
        environment: [PORT=9093]
        profiles: [alerting]
      grafana:
        <<: *common
        image: grafana/grafana:12.0.0
        environment:
          PORT: "3000"
          GF_SECURITY_ADMIN_PASSWORD__FILE: /run/secrets/grafana
        secrets: [{source: grafana, mode: 0444}]
        volumes: [dashboards:/var/lib/grafana, "./provisioning:/etc/provisioning:ro"]
        ports: ["127.0.0.1:${GRAFANA_PORT}:3000"]
        depends_on: {prometheus: {condition: service_healthy, restart: true}}
        networks: {front: {aliases: [dashboards]}}
        healthcheck: {<<: *check, test: [CMD-SHELL, "wget -q -O - http://prometheus:9090/ | grep -q ok"]}
    networks:
      back: {internal: true}
      front: {}
    volumes: {samples: {}, dashboards: {}, alerts: {}}
    secrets: {grafana: {environment: GRAFANA_PASSWORD}}
    configs:
      scrape:
        content: |
          scrape_configs:
            - job_name: node
              static_configs:
                - targets: ["node-exporter:9100"]
            - job_name: containers
              static_configs:
                - targets: ["cadvisor:8080"]
"""


@pytest.fixture
def stand_ins(cli: Program, busybox_image: str, tmp_path: Path) -> Iterator[None]:
    """An image for each name, all of the same files."""
    context = tmp_path / "stand-in"
    context.mkdir()
    (context / "start").write_text(ENTRYPOINT)
    (context / "start").chmod(0o755)
    (context / "Dockerfile").write_text(
        'FROM busybox\nCOPY start /start\nRUN mkdir -m 777 /prometheus\nENTRYPOINT ["/start"]\n'
    )
    for image in IMAGES:
        cli("build", "-q", "-t", image, str(context))
    yield
    cli("rmi", "-f", *IMAGES)


@only_ours  # runc wants `/` to be a shared mount for rslave, which it is not on every machine
def test_a_monitoring_stack(stack: Stack, stand_ins: None) -> None:
    port = free_port()
    stack.write(COMPOSE.replace("NAME", stack.name))
    for name, text in (("provisioning/source.yaml", "url: http://prometheus:9090"), ("alertmanager/a.yml", "x: y")):
        (stack.folder / name).parent.mkdir()
        (stack.folder / name).write_text(text)

    def page(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def samples() -> str:
        shown: str = stack("exec", "-T", "prometheus", "cat", "/prometheus/samples", check=False).stdout
        return shown

    missing = stack("up", "-d", check=False)
    assert missing.returncode == 1 and "required variable PROMETHEUS_VERSION is missing" in missing.stderr
    settings = f"PROMETHEUS_VERSION=v3.5.0\nGRAFANA_PORT={port}\nGRAFANA_PASSWORD=s3cret\n"
    (stack.folder / ".env").write_text(settings)

    stack("up", "-d", "--wait")
    assert set(stack.containers()) == {"prometheus-1", "node-exporter-1", "cadvisor-1", "grafana-1"}
    assert (page("login"), page("sources")) == ("s3cret", "url: http://prometheus:9090")
    eventually(lambda: "MemTotal" in samples() and "host" in samples())
    # The front end is not on the collectors' network.
    stranger = ("exec", "-T", "grafana", "wget", "-q", "-T", "1", "-O", "-", "http://node-exporter:9100")
    assert stack(*stranger, check=False).returncode != 0

    before = stack.ids()
    stack("up", "-d")
    assert stack.ids() == before
    stack("--profile", "alerting", "up", "-d")
    assert "alertmanager-1" in stack.containers()
    before = stack.ids()
    changed = {"LOG_SIZE": "5m", "GRAFANA_PASSWORD": "other"}
    stack("--profile", "alerting", "up", "-d", "--wait", env=changed)
    assert page("login") == "other"
    assert all(stack.ids()[name] != before[name] for name in before)

    kept = samples()
    assert kept
    stack("--profile", "*", "down")
    assert stack.containers("-a") == {}
    stack("up", "-d", "--wait", "prometheus")
    assert samples().startswith(kept[:100])
    assert set(stack.containers()) == {"prometheus-1", "node-exporter-1", "cadvisor-1"}
