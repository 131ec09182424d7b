"""Stacks from texts, without a file system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import dedent
from typing import Any

import pytest

from buildtool.stacks.load import load
from buildtool.stacks.model import Project, Request
from buildtool.stacks.render import arranged

Load = Callable[..., Project]


class Texts:
    """Files in a dictionary."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.files = dict(files)

    def read(self, path: str) -> str:
        """The text, or FileNotFoundError."""
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self.files[path]

    def exists(self, path: str) -> bool:
        """Whether it is there."""
        return path in self.files


def load_texts(
    *texts: str,
    env: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
    profiles: list[str] | None = None,
    **switches: Any,
) -> Project:
    """The project of these files in `/p`, named compose.yaml, 1.yaml, 2.yaml …"""
    names = [f"/p/{'compose' if index == 0 else index}.yaml" for index in range(len(texts))]
    everything = {name: dedent(text) for name, text in zip(names, texts, strict=True)}
    everything |= {f"/p/{name}" if name[0] != "/" else name: dedent(text) for name, text in (files or {}).items()}
    request = Request(names, "/p", environment=env or {}, profiles=profiles, **switches)
    return load(request, Texts(everything))


def model(*texts: str, **options: Any) -> dict[str, Any]:
    """The model as it is printed."""
    return arranged(load_texts(*texts, **options))


def service(*texts: str, **options: Any) -> dict[str, Any]:
    """The service `s` as it is printed, without the network that every service gets."""
    found: dict[str, Any] = model(*texts, **options)["services"]["s"]
    if found.get("networks") == {"default": None}:
        del found["networks"]
    return found


@pytest.fixture
def load_stack() -> Load:
    """`load_stack(text, …, env=…, files=…)`."""
    return load_texts
