"""Figures for Prometheus: requests, bytes, uploads, storage, garbage collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

if TYPE_CHECKING:
    from buildtool.registry.server.app import Server

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics:
    """One server's figures."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        prefix = "buildtool_registry"
        self._requests = Counter(
            f"{prefix}_requests", "Requests answered", ["method", "kind", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            f"{prefix}_request_seconds",
            "Time to answer",
            ["method", "kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.received = Counter(f"{prefix}_received_bytes", "Bytes of blobs received", registry=self.registry)
        self.sent = Counter(f"{prefix}_sent_bytes", "Bytes of blobs sent", registry=self.registry)
        self.collected = Counter(
            f"{prefix}_gc_freed_bytes", "Bytes that garbage collection set free", registry=self.registry
        )
        self.mirror = Counter(
            f"{prefix}_mirror_requests", "Requests to mirrored repositories", ["outcome"], registry=self.registry
        )

    def watch(self, server: Server) -> None:
        """Values that are read when somebody asks."""
        prefix = "buildtool_registry"
        running = Gauge(f"{prefix}_requests_in_flight", "Requests being answered", registry=self.registry)
        running.set_function(lambda: server.in_flight)
        uploads = Gauge(f"{prefix}_uploads_open", "Uploads that are open", registry=self.registry)
        uploads.set_function(lambda: len(server.uploads))

    def request(self, method: str, kind: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests.labels(method, kind, str(status)).inc()
        self._seconds.labels(method, kind).observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
