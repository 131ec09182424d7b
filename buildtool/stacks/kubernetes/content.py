"""Secrets and configs as Secret and ConfigMap objects.

Their names end in a digest of their content: a change of it makes another object, and Kubernetes rolls the pods that
use it.
"""

from __future__ import annotations

import base64
import posixpath
from typing import Any

from buildtool.errors import InvalidInput
from buildtool.oci import sha256
from buildtool.stacks.kubernetes.names import Notes, labels, object_name
from buildtool.stacks.model import Project

_KEY = "content"


class Contents:
    """The objects that a stack's secrets and configs become; only those that a service uses are read."""

    def __init__(self, project: Project, notes: Notes) -> None:
        self._project = project
        self._notes = notes
        self._names: dict[tuple[str, str], str] = {}
        self.documents: list[dict[str, Any]] = []

    def mounts(self, name: str, service: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The pod's volumes and the container's mounts for what the service uses."""
        volumes, mounts = [], []
        for kind, folder in (("secrets", "/run/secrets"), ("configs", "/")):
            for use in service.get(kind) or []:
                called = object_name(kind[:-1], use["source"])
                target = posixpath.join(folder, use.get("target") or use["source"])
                mode = int(use.get("mode") or "0444", 8)
                source = {"items": [{"key": _KEY, "path": _KEY}], "defaultMode": mode}
                source["secretName" if kind == "secrets" else "name"] = self._object(kind, use["source"])
                volumes.append({"name": called, "secret" if kind == "secrets" else "configMap": source})
                mounts.append({"name": called, "mountPath": target, "subPath": _KEY, "readOnly": True})
                for key in ("uid", "gid"):
                    if use.get(key):
                        self._notes.say(f"services.{name}.{kind}.{use['source']}.{key}", "the owner is root")
        return volumes, mounts

    def _object(self, kind: str, key: str) -> str:
        if (kind, key) not in self._names:
            self._names[kind, key] = self._make(kind, key, self._project.part(kind)[key])
        return self._names[kind, key]

    def _make(self, kind: str, key: str, item: dict[str, Any]) -> str:
        if item.get("external"):
            self._notes.say(f"{kind}.{key}", f"must be there, with the key {_KEY!r}")
            return object_name(item["name"])
        content = self._read(kind, key, item)
        name = object_name(self._project.name, key, sha256(content)[7:15])
        document: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret" if kind == "secrets" else "ConfigMap",
            "metadata": {"name": name, "labels": labels(self._project.name)},
        }
        try:
            text = None if kind == "secrets" else content.decode()
        except UnicodeDecodeError:
            text = None
        if text is None:
            field = "data" if kind == "secrets" else "binaryData"
            document[field] = {_KEY: base64.b64encode(content).decode()}
        else:
            document["data"] = {_KEY: text}
        self.documents.append({**document, "immutable": True})
        return name

    def _read(self, kind: str, key: str, item: dict[str, Any]) -> bytes:
        if item.get("content") is not None:
            return str(item["content"]).encode()
        if item.get("environment"):
            value = self._project.environment.get(item["environment"])
            if value is None:
                raise self._project.error((kind, key), f"the variable {item['environment']!r} is not set")
            return value.encode()
        try:
            with open(item["file"], "rb") as file:  # noqa: PTH123 - the model's paths are text
                return file.read()
        except OSError as error:
            raise InvalidInput(f"cannot read {item['file']}: {(error.strerror or str(error)).lower()}") from error
